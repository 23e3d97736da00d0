"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..pixels.region import Region
from ..profile import Option, Profile

if TYPE_CHECKING:
    from ..vault.recipients import Recipient

__all__ = ["policy_options", "profile_from", "project_option", "read_regions", "recipients_from"]

DEFAULT_PROJECT: Final = "dicomshield-project"


def read_regions(_: click.Context, parameter: click.Parameter, texts: tuple[str, ...]) -> tuple[Region, ...]:
    """Read ``x,y,w,h`` of a repeatable option."""
    try:
        return tuple(Region.parse(text) for text in texts)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--option``, ``--policy`` and ``--mask``."""
    function = click.option(
        "--mask", "regions", multiple=True, callback=read_regions, metavar="X,Y,W,H",
        help="Black out a rectangle of every image, repeatable: first column and row, width and height.",
    )(function)  # fmt: skip
    function = click.option(
        "--policy", type=click.Path(path_type=Path), metavar="FILE", help="Policy in TOML; see docs/policy.md."
    )(function)
    return click.option(
        "--option", "options", multiple=True, metavar="NAME",
        help=f"Option of PS3.15 Annex E, repeatable: {', '.join(o.name for o in Option if o.name.startswith('R'))}.",
    )(function)  # fmt: skip


def project_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project``."""
    return click.option(
        "--project", type=click.Path(path_type=Path), default=DEFAULT_PROJECT, show_default=True, metavar="DIR",
        help="Folder of the project secret and of the lists that hold PHI; created on first use.",
    )(function)  # fmt: skip


def recipients_from(texts: tuple[str, ...]) -> list[Recipient]:
    """Read whom to seal to, and tell what is to be known of their keys."""
    from ..vault.recipients import recipient_from

    recipients = [recipient_from(text) for text in texts]
    for note in [note for recipient in recipients for note in recipient.notes]:
        click.echo(f"note: {note}", err=True)
    return recipients


def profile_from(options: tuple[str, ...], policy: Path | None, regions: tuple[Region, ...]) -> Profile:
    """Build the profile that a command line asks for."""
    profile = Profile.from_toml(policy) if policy else Profile.basic()
    return replace(profile.with_options(Option.parse(name) for name in options), regions=regions)

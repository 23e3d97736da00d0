"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ..errors import PolicyError
from ..identity.project import Project
from ..pixels.region import Region
from ..profile import WITH_CLEANER, Option, Profile

if TYPE_CHECKING:
    from ..vault.recipients import Identity, Recipient

__all__ = [
    "DEFAULT_PROJECT",
    "auditor_option",
    "identities_from",
    "identity_option",
    "keys_option",
    "made_project",
    "made_project_option",
    "policy_options",
    "profile_from",
    "project_option",
    "read_regions",
    "recipient_option",
    "recipients_from",
]

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
        help=f"Option of PS3.15 Annex E, repeatable: {', '.join(o.name for o in Option if o in WITH_CLEANER)}.",
    )(function)  # fmt: skip


def project_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project``."""
    return click.option(
        "--project", type=click.Path(path_type=Path), default=DEFAULT_PROJECT, show_default=True, metavar="DIR",
        help="Folder of the project secret and of the lists that hold PHI; created on first use.",
    )(function)  # fmt: skip


def made_project_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project`` for what needs one that is there."""
    return click.option(
        "--project", type=click.Path(path_type=Path), default=DEFAULT_PROJECT, show_default=True, metavar="DIR",
        help="Folder of the project secret that the pseudonyms come from.",
    )(function)  # fmt: skip


def made_project(folder: Path) -> Project:
    """Open a project that must be there: with a new secret nothing would be found.

    Raises
    ------
    PolicyError
        If there is none, or it cannot be used.
    """
    if not (folder / "secret.key").exists():
        raise PolicyError("there is no project secret in this folder: name the one that the pseudonyms come from")
    return Project(folder)


def keys_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--keys``."""
    return click.option(
        "--keys", required=True, type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="The vault: key boxes, crosswalk, audit log.",
    )(function)  # fmt: skip


def recipient_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--to``."""
    return click.option(
        "--to", "recipients", multiple=True, required=True, metavar="RECIPIENT",
        help="Certificate, public key or key file, or `passphrase:`; repeatable.",
    )(function)  # fmt: skip


def identity_option(*, required: bool = True) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--with``."""
    return click.option(
        "--with", "identities", multiple=True, required=required, metavar="IDENTITY",
        help="Private key, key file, `passphrase:`, `passphrase-file:PATH` or `passphrase-fd:N`; repeatable.",
    )  # fmt: skip


def auditor_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--auditor``."""
    return click.option(
        "--auditor", "auditors", multiple=True, metavar="RECIPIENT",
        help="Who will verify the audit log: needed once, where the vault has none yet; repeatable.",
    )(function)  # fmt: skip


def recipients_from(texts: tuple[str, ...]) -> list[Recipient]:
    """Read whom to seal to, and tell what is to be known of their keys."""
    from ..vault.recipients import recipient_from

    recipients = [recipient_from(text) for text in texts]
    for note in [note for recipient in recipients for note in recipient.notes]:
        click.echo(f"note: {note}", err=True)
    return recipients


def identities_from(texts: tuple[str, ...]) -> list[Identity]:
    """Read who opens."""
    from ..vault.recipients import identity_from

    return [identity_from(text) for text in texts]


def profile_from(options: tuple[str, ...], policy: Path | None, regions: tuple[Region, ...]) -> Profile:
    """Build the profile that a command line asks for."""
    profile = Profile.from_toml(policy) if policy else Profile.basic()
    return replace(profile.with_options(Option.parse(name) for name in options), regions=regions)

"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ..profile import Option, Profile

__all__ = ["policy_options", "profile_from", "project_option"]

DEFAULT_PROJECT: Final = "dicomshield-project"


def policy_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--option`` and ``--policy``."""
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


def profile_from(options: tuple[str, ...], policy: Path | None) -> Profile:
    """Build the profile that a command line asks for."""
    profile = Profile.from_toml(policy) if policy else Profile.basic()
    return profile.with_options(Option.parse(name) for name in options)

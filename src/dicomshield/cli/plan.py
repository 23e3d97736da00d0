"""``dicomshield plan``: what would be done, before it is done."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from ..deidentifier import Deidentifier
from ..pixels.region import Region
from ..standard import tables
from .options import policy_options, profile_from


@click.command("plan", short_help="Show what would be done with each attribute of FILE.")
@click.argument("file", type=click.Path(path_type=Path))
@policy_options
def command(file: Path, options: tuple[str, ...], policy: Path | None, regions: tuple[Region, ...]) -> None:
    """List the attributes of FILE that would not be left as they are, what would be done, and why.

    Shows tags and keywords, never values. Private attributes go unless an option or the policy keeps them.
    """
    with tempfile.TemporaryDirectory() as project:
        planned = list(Deidentifier(profile_from(options, policy, regions), project=project).plan(file))
    for path, decision in planned:
        names = [(row.keyword if (row := tables.attribute(tag)) else f"{tag:08X}") for tag in path]
        click.echo(f"{'.'.join(names):<56} {decision.action.value:<20} {decision.why}")

"""``dicomshield verify``: check an output, whatever made it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from ..deidentifier import Deidentifier
from ..errors import PolicyError
from ..pixels.region import Region
from .options import policy_options, profile_from


@click.command("verify", short_help="Search OUTPUT for values of the patient of ORIGINAL.")
@click.argument("original", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@policy_options
def command(
    original: Path, output: Path, options: tuple[str, ...], policy: Path | None, regions: tuple[Region, ...]
) -> None:
    """Search every byte of OUTPUT outside pixel data for values that the profile takes out of ORIGINAL.

    Exit status 0 if nothing is found, 3 if something is.
    """
    for path in (original, output):
        if path.is_dir():
            raise PolicyError("verify compares two files, not folders")
    with tempfile.TemporaryDirectory() as project:
        findings = Deidentifier(profile_from(options, policy, regions), project=project).verify(original, output)
    for kind, spellings in findings:
        click.echo(f"found: {kind}, {spellings} spellings")
    if findings:
        sys.exit(3)
    click.echo("nothing of the patient found outside pixel data")

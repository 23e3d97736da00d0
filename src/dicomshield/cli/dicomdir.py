"""``dicomshield dicomdir``: a directory of released objects."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("dicomdir", short_help="Write a DICOMDIR for a folder of released objects.")
@click.argument("folder", metavar="OUT", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Write OUT/DICOMDIR with its file-set (PT000000/...), for media and viewers that ask for one."""
    from ..bulk.dicomdir import write_dicomdir

    written, left_out = write_dicomdir(folder)
    click.echo(f"{folder / 'DICOMDIR'}: {written} objects")
    if left_out:
        click.echo(f"{left_out} objects have no standard directory record and are not listed")

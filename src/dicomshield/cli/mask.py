"""``dicomshield mask``: pixels only."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import click

from ..bulk.inputs import find_files, refuse_nested
from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason
from ..masker import Masker
from ..pixels.region import Region
from ..storage import Storage
from .options import read_regions
from .progress import tracked


@click.command("mask", short_help="Black out regions of pixels, and change nothing else.")
@click.argument("source", metavar="IN", type=click.Path(path_type=Path, exists=True))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--region", "regions", multiple=True, required=True, callback=read_regions, metavar="X,Y,W,H",
    help="Rectangle to black out, repeatable: first column and row, width and height in pixels.",
)  # fmt: skip
def command(source: Path, target: Path, regions: tuple[Region, ...]) -> None:
    """Black out regions in every frame of IN, a file or a folder, and write the result to OUT under the same name.

    The header stays, with all that identifies the patient: OUT is PHI as IN is. Only what repeats or describes the
    masked pixels goes (icons, overlays, large private binary attributes, smallest and largest pixel value), and
    Image Type says DERIVED.
    """
    masker = Masker(regions)
    if source.is_dir():
        refuse_nested(input=source, output=target)
        paths, names = list(find_files(source)), source
        folder = target
    else:
        if target.is_dir():
            raise PolicyError("OUT is a folder: name a file, as IN is one")
        paths, names, folder = [os.fspath(source)], source, target.parent
    held: Counter[str] = Counter()
    with Storage(folder, mode=0o600) as storage:
        for path in tracked(paths, "masking", lambda: len(paths)):
            name = os.path.relpath(path, names) if source.is_dir() else target.name
            try:
                with Source.open(path) as one:
                    masker.prepare(one, name).write(storage)
            except Quarantined as cause:
                held[cause.reason.name] += 1
    click.echo(f"{len(paths) - held.total()} masked, {held.total()} held back")
    click.echo(f"masked, with their headers as they were (PHI): {target}")
    for reason in Reason:
        if held[reason.name]:
            click.echo(f"  {held[reason.name]:>6}  {reason.name}: {reason.value}")
    sys.exit(3 if held else 0)

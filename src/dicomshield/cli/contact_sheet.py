"""``dicomshield contact-sheet``: pictures of what was released, for the person who signs."""

from __future__ import annotations

from pathlib import Path

import click

from ..bulk.inputs import refuse_nested
from ..errors import PolicyError
from ..evidence.contact_sheet import ORDERS, ContactSheet

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("contact-sheet", short_help="Draw an HTML page of what was released.")
@click.argument("released", metavar="RELEASED", type=click.Path(path_type=Path, file_okay=False))
@click.option("--report", required=True, type=_FILE, metavar="FILE", help="The report of the run.")
@click.option("--out", required=True, type=_FILE, metavar="FILE", help="New HTML file; more pages go beside it.")
@click.option("--order", type=click.Choice([*ORDERS]), default="device", show_default=True,
              help="How objects follow each other over all pages.")  # fmt: skip
@click.option("--side", type=click.IntRange(32, 2048), default=256, show_default=True, metavar="PIXELS",
              help="Longer side of a picture.")  # fmt: skip
def command(released: Path, report: Path, out: Path, order: str, side: int) -> None:
    """Draw the pictures of a run, with outlines of what was masked, for whoever signs the release.

    Made from the released objects and the report of their run; originals are not needed. The pages load nothing,
    work without scripts, and can be printed.
    """
    write(released, report, out, order=order, side=side)


def write(released: Path, report: Path, out: Path, *, order: str = "device", side: int = 256) -> None:
    """Write a contact sheet and say where it is.

    Raises
    ------
    PolicyError
        If it would lie among what is released, the report is none, or a page is there already.
    """
    if not released.is_dir():
        raise PolicyError("the folder of released objects does not exist")
    refuse_nested(released=released, contact_sheet=out)
    sheet = ContactSheet(released, report, side=side, order=order)
    pages = sheet.write(out)
    more = f" and {len(pages) - 1} more pages beside it" if len(pages) > 1 else ""
    click.echo(f"contact sheet: {out}{more}")
    if missing := sheet.counts["not shown"]:
        click.echo(f"{missing} released objects could not be drawn; their tiles say why")

"""``dicomshield preview``: see what would be masked."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..encoding.source import Source
from ..errors import PolicyError
from ..pixels.region import Region
from ..preview import preview
from .options import policy_options, profile_from


@click.command("preview", short_help="Draw what would be masked in FILE, as a PNG.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--png", "png", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="OUT",
              help="New file to draw to.")  # fmt: skip
@click.option("--masked", is_flag=True, help="Show the frames as they would be released, instead of outlines.")
@click.option("--frame", "frames", multiple=True, type=click.IntRange(1), metavar="N",
              help="Frame to show, repeatable, 1 is the first; up to nine across the image if not given.")  # fmt: skip
@policy_options
def command(
    file: Path, png: Path, masked: bool, frames: tuple[int, ...], options: tuple[str, ...], policy: Path | None,
    regions: tuple[Region, ...],
) -> None:  # fmt: skip
    """Draw frames of FILE with the borders of what the policy and --mask would black out.

    The picture shows the patient's image, and without --masked all text in it: treat it as PHI. Nobody else may
    read it.
    """
    profile = profile_from(options, policy, regions)
    with Source.open(file) as source:
        shown = preview(source, profile, frames=[number - 1 for number in frames] or None, masked=masked)
    try:
        with os.fdopen(os.open(png, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            shown.image.save(out, "PNG")
    except FileExistsError:
        raise PolicyError(f"{png} is there already: name a new file") from None
    except OSError as error:
        raise PolicyError(f"the picture cannot be written: {error.strerror}") from None
    click.echo(f"{shown.what}, frames {', '.join(str(number + 1) for number in shown.frames)}: {png} (PHI)")

"""``dicomshield zones``: learn where devices draw text."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import click

from ..errors import PolicyError
from ..vault.files import whole_file, write_all
from .progress import tracked


@click.command("zones", short_help="Propose masks for devices from where text recurs in their images.")
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), metavar="POLICY", help="New file; printed if not given.")
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), metavar="OUT",
              help="New file for a map of each device: where text was found, and what would be masked.")  # fmt: skip
@click.option("--sample", type=click.IntRange(3), default=40, show_default=True, metavar="N",
              help="Images of each device that are searched.")  # fmt: skip
@click.option("--preset", default="default", show_default=True, metavar="NAME", help="Of the text detector.")
def command(folder: Path, out: Path | None, png: Path | None, sample: int, preset: str) -> None:
    """Search images of FOLDER for text, device by device, and propose [[mask]] blocks where it recurs.

    Look at the blocks before you put them into a policy: a map says where text was found, `dicomshield preview` what
    would go. Neither the blocks nor the map hold anything of a patient: no text that was read, and no pixel.
    """
    from ..bulk.inputs import find_files
    from ..finders.text.finder import TextFinder
    from ..finders.zones import Survey, blocks, drawn, learned

    for path in (out, png):
        if path is not None and path.exists():
            raise PolicyError(f"{path} is there already: name a new file")
    paths = list(find_files(folder))
    survey = Survey(tracked(paths, "sorting", lambda: len(paths)))
    finder = TextFinder(preset)
    devices = tracked(survey.images.items(), "searching", lambda: len(survey.images))
    zones = [learned(device, images, finder, sample) for device, images in devices]
    proposed = blocks(zones)
    if out is None:
        click.echo(proposed, nl=False)
    else:
        _write(out, proposed.encode())
    if png is not None:
        picture = BytesIO()
        drawn(zones).save(picture, "PNG")
        _write(png, picture.getvalue())
    masks = sum(bool(one.boxes) for one in zones)
    click.echo(f"{masks} masks for {len(zones)} devices, {survey.left_out.total()} files left out", err=True)
    for reason, number in survey.left_out.most_common():
        click.echo(f"  {number:>6}  {reason.name}", err=True)


def _write(path: Path, data: bytes) -> None:
    """Write a new file, as a whole or not at all.

    Raises
    ------
    PolicyError
        If it is there already, or cannot be written.
    """
    try:
        with whole_file(path, replace=False) as fd:
            write_all(fd, data)
    except FileExistsError:
        raise PolicyError(f"{path} is there already: name a new file") from None
    except OSError as error:
        raise PolicyError(f"the proposal cannot be written: {error.strerror}") from None

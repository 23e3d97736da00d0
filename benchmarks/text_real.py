"""List each real file with identifying text: what the detector covers of it, and what the main job makes of the file.

Run ``python benchmarks/text_real.py``. Files and boxes are those of ``burned_in_truth.json`` in DICOMSHIELD_SHARED.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from measure import markdown_table
from numpy.typing import NDArray
from text_gate import burned_in_truth, real
from text_grounds import CORPORA

import dicomshield
from dicomshield import Deidentifier, Option, Profile, Quarantined
from dicomshield.finders.finder import Image
from dicomshield.finders.text.finder import TextFinder

Box = Sequence[int]
"""x, y, width and height."""


def covered(image: Image, preset: str) -> NDArray[np.uint8]:
    """Return 1 where the text detector alone masks, 0 elsewhere, shape (rows, columns)."""
    mask = np.zeros((image.frames.layout.rows, image.frames.layout.columns), np.uint8)
    dicomshield.mask(mask, TextFinder(preset).find(image).shapes, 1)
    return mask


def outcome(shield: Deidentifier, path: Path) -> str:
    """Return what the main job says of a file."""
    try:
        shield.bytes(path)
    except Quarantined as held:
        return f"held back, {held.reason.name}"
    return "released"


def rows(shield: Deidentifier, preset: str) -> Iterator[tuple[str, ...]]:
    """Yield a row for each file."""
    boxes = {name: one["boxes"] for one in burned_in_truth().values() for name in one["files"]}
    for name, image in real():
        named: list[Box] = [box["box"] for box in boxes.get(name, ()) if box["cls"] == "identifying"]
        if named:
            mask = covered(image, preset)
            shares = [mask[y : y + high, x : x + wide].mean() for x, y, wide, high in named]
            least, whole = f"{min(shares):.3f}", sum(share > 0.9 for share in shares)
            yield name, str(len(named)), str(whole), least, f"{mask.mean():.1%}", outcome(shield, CORPORA / name)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="default")
    wanted = parser.parse_args()
    head = ("file", "identifying boxes", "covered", "least share", "masked", "main job, `--option CLEAN_PIXEL_DATA`")
    with tempfile.TemporaryDirectory() as project:
        shield = Deidentifier(Profile.basic(Option.CLEAN_PIXEL_DATA), project=Path(project))
        print(markdown_table(head, list(rows(shield, wanted.preset))))


if __name__ == "__main__":
    main()

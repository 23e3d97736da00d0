"""Measure the gate: what it leaves out of the search for text, and how often there is text in that.

Run ``python benchmarks/text_gate.py [--number N] [--seed S] [--part P]``. Three rows:

* the real files of DICOMSHIELD_SHARED, as they are: text is in those that ``burned_in_truth.json`` lists;
* made-up text in greyscale images of 16 bits, under the header of a plain slice: what a forger or a lost header can
  hide from the gate. Legible is a contrast of two standard deviations of the surroundings or more;
* of these, text that is drawn as most devices do: bright, and with hard edges.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Iterable, Iterator
from functools import cache
from math import sqrt
from typing import Any, Final

import numpy as np
from text_fonts import Part
from text_grounds import CORPORA
from text_images import Labelled, images

from dicomshield.encoding.elements import Element
from dicomshield.encoding.scan import Scanner, Verdict
from dicomshield.encoding.source import Source
from dicomshield.errors import Quarantined
from dicomshield.finders import burned_in, gate
from dicomshield.finders.finder import Image
from dicomshield.opened import opened, pixel_element
from dicomshield.pixels.decode import Frames
from dicomshield.pixels.layout import Layout
from dicomshield.profile import FACTS, vr_of

_TAGS: Final = FACTS | burned_in.TAGS | gate.TAGS
_PLAIN: Final = {
    0x00080008: b"ORIGINAL\\PRIMARY\\AXIAL", 0x00080060: b"CT", 0x00200032: b"0\\0\\0", 0x00200037: b"1\\0\\0\\0\\1\\0",
    0x00280030: b"0.5\\0.5",
}  # fmt: skip
_CT: Final = "1.2.840.10008.5.1.4.1.1.2"
_LEGIBLE: Final = 2.0


def burned_in_truth() -> dict[str, dict[str, Any]]:
    """Return where text is in the real files, by device."""
    truth: dict[str, dict[str, Any]] = json.loads((CORPORA / "burned_in_truth.json").read_text("utf-8"))
    return truth


@cache
def _scanner(*, explicit: bool) -> Scanner:
    return Scanner(lambda tag, _: Verdict.NOTE if tag in _TAGS else Verdict.DROP, vr_of, explicit=explicit)


def real() -> Iterator[tuple[str, Image]]:
    """Yield the images among the real files that can be decoded, with the names of the files."""
    with (CORPORA / "MANIFEST.csv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    for name in names:
        try:
            with Source.open(CORPORA / name) as source:
                container, scan, header = opened(source, _scanner, _TAGS)
                element = pixel_element(scan)
                if element is None:
                    continue
                frames = Frames(container.source, element, Layout.of(header), container.transfer_syntax)
                if not len(frames) or not frames[0].size:
                    continue
                sop_class = header.get(0x00080016, b"").decode("latin-1").strip(" \0")
                yield name, Image(header, sop_class, frames)
        except Quarantined:
            continue


def plain(labelled: Labelled) -> Image | None:
    """Return a labelled image as a plain slice, ``None`` if it cannot be one."""
    pixels = labelled.pixels
    if pixels.ndim != 2 or pixels.dtype.itemsize != 2 or not labelled.photometric.startswith("MONOCHROME"):
        return None
    rows, columns = pixels.shape
    layout = Layout(
        rows, columns, 1, 1, 16, labelled.bits, signed=pixels.dtype.kind == "i", planar=False,
        photometric=labelled.photometric, black=(0,),
    )  # fmt: skip
    data = np.ascontiguousarray(pixels).tobytes()
    element = Element(0x7FE00010, b"OW", 0, 0, len(data), explicit=True)
    return Image(_PLAIN, _CT, Frames(Source.of(data), element, layout, "1.2.840.10008.1.2.1"))


def row(name: str, labelled: Iterable[tuple[Image, bool]]) -> str:
    """Measure the gate on images, and return a row of a table."""
    began = time.process_time()
    result = gate.measured(labelled)
    spent = time.process_time() - began
    low, high = _interval(result.missed, result.carrying)
    share = f"{result.missed} of {result.carrying}, {low:.1%} to {high:.1%}"
    return f"| {name} | {result.images} | {result.skipped} | {share} | {spent / max(result.images, 1) * 1e3:.1f} |"


def _interval(hits: int, number: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, JASA 22:209)."""
    if not number:
        return 0.0, 1.0
    z = 1.96
    middle, spread = hits + z * z / 2, z * sqrt(hits * (number - hits) / number + z * z / 4)
    return (middle - spread) / (number + z * z), (middle + spread) / (number + z * z)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", choices=("development", "held-out"), default="development")
    wanted = parser.parse_args()
    part: Part = wanted.part
    made = [
        (image, labelled)
        for labelled in images(part, wanted.number, wanted.seed)
        if (image := plain(labelled)) is not None
    ]
    legible = [(image, any(item.cnr >= _LEGIBLE for item in labelled.items)) for image, labelled in made]
    hard = [
        (image, True)
        for image, labelled in made
        if any(item.face == "bitmap" and item.style == "max" and item.cnr >= _LEGIBLE for item in labelled.items)
    ]
    print("| images | number | not searched | text missed | CPU ms an image, with making it |\n|---|--:|--:|---|--:|")
    if CORPORA.is_dir():
        carrying = {name for entry in burned_in_truth().values() for name in entry["files"]}
        print(row("real files", ((image, name in carrying) for name, image in real())))
    print(row(f"made-up text under a plain header, {part}", legible))
    print(row("of these, letters of bitmap fonts at the brightest value", hard))


if __name__ == "__main__":
    main()

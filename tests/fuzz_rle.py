"""Masks of broken RLE frames: each is held back, or right in every pixel. ``python tests/fuzz_rle.py COUNT SEED``."""

from __future__ import annotations

import random
import struct
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicomshield.errors import Quarantined, Reason
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Boxes, Region, compiled
from dicomshield.pixels.rle import decode, encode, mask_frame


def main(count: int, seed: int) -> Counter[str]:
    """Mask ``count`` mutated frames and return how many were masked and how many held back.

    Raises
    ------
    AssertionError
        If a pixel inside is not black, one outside is not what it was, or only one of masking and decoding fails.
    """
    chance = random.Random(seed)  # noqa: S311
    seen: Counter[str] = Counter()
    for _ in range(count):
        layout = _layout(chance)
        # as one long row, packets go across those of the layout
        rows = chance.choice([1, layout.rows])
        form = layout._replace(rows=rows, columns=layout.rows * layout.columns // rows)
        frame = encode(_image(chance, form), form)
        for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
            # most of them where the packets are, so that some are still whole
            head = chance.choice([0, 64, 64, 64])
            frame = frame[:head] + chance.choice(_MUTATIONS)(chance, frame[head:])
        if chance.random() < 0.1:
            layout = layout._replace(rows=chance.randint(1, 20), columns=chance.choice([1, 9, 65535]))
        seen[_outcome(frame, _boxes(chance, layout), layout)] += 1
    return seen


def _outcome(frame: bytes, boxes: Boxes, layout: Layout) -> str:
    expected, output = _unless_broken(decode, frame, layout), _unless_broken(mask_frame, frame, boxes, layout)
    assert (expected is None) == (output is None), "one of masking and decoding fails, the other does not"
    if output is None:
        return "held back"
    for top, bottom, left, right in boxes:
        expected[top:bottom, left:right] = layout.black if layout.samples > 1 else layout.black[0]
    assert np.array_equal(decode(output, layout), expected), "a pixel is wrong"
    return "masked"


def _unless_broken(function: Callable[..., Any], *arguments: object) -> Any:
    try:
        return function(*arguments)
    except Quarantined as cause:
        if cause.reason is not Reason.PIXELS:
            raise
        return None


def _layout(chance: random.Random) -> Layout:
    allocated, samples = chance.choice([(1, 1), (8, 1), (8, 3), (16, 1), (16, 3), (32, 1), (64, 1)])
    black = tuple(chance.randrange(2 if allocated == 1 else 100) for _ in range(samples))
    return Layout(
        rows=chance.randint(1, 9), columns=chance.choice([1, 2, 7, 8, 40, 150]), frames=1, samples=samples,
        allocated=allocated, stored=allocated, signed=False, planar=False,
        photometric="RGB" if samples > 1 else "MONOCHROME2", black=black,
    )  # fmt: skip


def _image(chance: random.Random, layout: Layout) -> NDArray[np.uint64]:
    """Return noise and runs of equal pixels."""
    shape = (layout.rows, layout.columns, layout.samples)[: 3 if layout.samples > 1 else 2]
    levels = chance.choice([1, 2, 3, 2**layout.allocated - 1]) if layout.allocated > 1 else 1
    pixels = [chance.randint(0, levels) for _ in range(layout.rows * layout.columns * layout.samples)]
    return np.array(pixels, np.uint64).reshape(shape)


def _boxes(chance: random.Random, layout: Layout) -> Boxes:
    regions = []
    for _ in range(chance.randint(0, 3)):
        top, left = chance.randrange(layout.rows), chance.randrange(layout.columns)
        regions.append(Region(top, left, top + chance.randint(1, 6), left + chance.choice([1, 3, 30, 200])))
    return compiled(regions, layout.rows, layout.columns, 1)[0].boxes


def _flip(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randrange(len(frame) or 1)
    return frame[:at] + bytes([byte ^ 1 << chance.randrange(8) for byte in frame[at : at + 1]]) + frame[at + 1 :]


def _overwrite(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randrange(len(frame) or 1)
    return frame[:at] + bytes([chance.choice([0, 1, 127, 128, 129, 255])]) + frame[at + 1 :]


def _cut(chance: random.Random, frame: bytes) -> bytes:
    return frame[: chance.randrange(len(frame) + 1)]


def _remove(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randrange(len(frame) or 1)
    return frame[:at] + frame[at + chance.randint(1, 8) :]


def _insert(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randint(0, len(frame))
    return frame[:at] + chance.choice([b"\x80", b"\x80" * 9, b"\0", b"\xff\0", chance.randbytes(5)]) + frame[at:]


def _repeat(chance: random.Random, frame: bytes) -> bytes:
    at = chance.randint(0, len(frame))
    return frame[:at] + frame[max(0, at - chance.randint(1, 40)) :]


def _number(chance: random.Random, frame: bytes) -> bytes:
    at = 4 * chance.randrange(4)
    number = chance.choice([0, 1, 2, 15, 16, 63, 64, 65, len(frame), len(frame) + 1, 2**31, 2**32 - 1])
    return frame[:at] + struct.pack("<I", number) + frame[at + 4 :]


_MUTATIONS = (_flip, _overwrite, _cut, _remove, _insert, _repeat, _number)


if __name__ == "__main__":
    sys.stdout.write(f"{dict(main(int(sys.argv[1]), int(sys.argv[2])))}\n")

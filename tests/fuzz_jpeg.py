"""Feed broken JPEG frames to the mask: each is refused, or what leaves is a sound frame, black where it must be.

Run ``python tests/fuzz_jpeg.py COUNT SEED`` for more than the tests do.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from io import BytesIO

import imagecodecs
import numpy as np
import slow_jpeg
from PIL import Image
from slow_jpeg import Component, Picture

from dicomshield.errors import Quarantined
from dicomshield.pixels.jpeg import aligned, mask_frame
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Box, Boxes

BOXES: Boxes = (Box(0, 3, 5, 20), Box(17, 18, 0, 9))


def layout(rows: int, columns: int, samples: int, *, bits: int = 8, photometric: str = "") -> Layout:
    """Return the layout of an unsigned image."""
    photometric = photometric or ("MONOCHROME2" if samples == 1 else "YBR_FULL_422")
    black = ((1 << bits) - 1,) if photometric == "MONOCHROME1" else (0,) * samples
    return Layout(rows, columns, 1, samples, 8 if bits == 8 else 16, bits, False, False, photometric, black)


def picture(
    seed: int,
    rows: int,
    columns: int,
    factors: tuple[tuple[int, int], ...],
    precision: int = 8,
    steps: tuple[int, ...] = (3, 255),
) -> Picture:
    """Make up a picture of random coefficients; ``steps`` bound the quantization."""
    rng = random.Random(seed)  # noqa: S311
    components = {
        key: Component(across, down, tuple([rng.randint(*steps) for _ in range(64)]))
        for key, (across, down) in enumerate(factors, start=1)
    }
    made = Picture(precision, rows, columns, components, {})
    for scan in ([*components], *[[key] for key in components]):
        for place in [place for mcu in made.mcus(scan) for place in mcu]:
            most = ((1 << precision + 2) - 1) // made.components[place[0]].quantization[0]
            rest = [rng.choice((0, 0, 0, 1, -1, 7, -300)) if rng.random() < 0.2 else 0 for _ in range(63)]
            made.blocks[place] = (rng.randint(-most, most), *rest)
    return made


def frames(rng: random.Random) -> list[tuple[bytes, Layout]]:
    """Return small sound frames of many kinds."""
    noise = np.random.default_rng(rng.getrandbits(32)).integers(0, 256, (26, 35, 3), np.uint8)
    made = []
    for options in (
        {"quality": 60}, {"quality": 90, "subsampling": 0}, {"subsampling": 1, "restart_marker_blocks": 2},
        {"optimize": True, "quality": 30}, {"optimize": True, "quality": 98, "restart_marker_rows": 1},
        {"subsampling": 0, "keep_rgb": True},
    ):  # fmt: skip
        for image in (Image.fromarray(noise), Image.fromarray(noise[..., 0])):
            out = BytesIO()
            image.save(out, "JPEG", **options)
            made.append((out.getvalue(), layout(26, 35, len(image.getbands()))))
    wide = picture(rng.getrandbits(32), 26, 35, ((2, 1), (1, 1), (1, 1)))
    deep = picture(rng.getrandbits(32), 26, 35, ((1, 1),), 12, (1, 9000))
    made.append((slow_jpeg.write(wide, [[1], [2, 3]], 3), layout(26, 35, 3)))
    made.append((slow_jpeg.write(wide, [[3], [2], [1]]), layout(26, 35, 3)))
    made.append((slow_jpeg.write(deep, [[1]], 4), layout(26, 35, 1, bits=12)))
    return made


def mutated(rng: random.Random, frame: bytes, other: bytes) -> bytes:
    """Break a frame in one way or several."""
    data = bytearray(frame)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, kind = rng.randrange(2, len(data)), rng.randrange(8)
        tables = data.find(b"\xff\xc4") + rng.randrange(5, 60)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del data[at : at + rng.choice((1, 1, 2, 64, len(data)))]
        elif kind == 3:
            data[at:at] = rng.choice((b"\xff", b"\0", b"\xff\xd0", b"\xff\xd9", rng.randbytes(3)))
        elif kind == 4 and tables < len(data):
            data[tables] = max(0, min(255, data[tables] + rng.choice((-1, 1, 16))))
        elif kind == 5:
            found = [place for place in range(len(data) - 1) if data[place] == 0xFF and data[place + 1]]
            data[rng.choice(found) + 1] = rng.randrange(256)
        elif kind == 6:
            data[at:] = other[min(at, len(other)) :]
        else:
            data[at : at + 8] = data[at // 2 : at // 2 + 8]
        if len(data) < 3:
            break
    return bytes(data)


def check(before: bytes, after: bytes, boxes: Boxes, colours: tuple[tuple[int, ...], ...]) -> None:
    """Compare a frame with its masked form, block by block.

    Parameters
    ----------
    before, after : bytes
    boxes : Boxes
    colours : tuple of tuple of int
        What may be black, component by component.
    """
    old, new = slow_jpeg.read(before), slow_jpeg.read(after)
    assert new[:4] == old[:4]
    assert new.blocks.keys() == old.blocks.keys()
    filled = {
        place: slow_jpeg.flat(block, new.components[place[0]], new.precision)
        for place, block in new.blocks.items()
        if new.masked(place, boxes)
    }
    keys = list(new.components)
    assert any(all(sample == one[keys.index(place[0])] for place, sample in filled.items()) for one in colours)
    assert all(block == old.blocks[place] for place, block in new.blocks.items() if place not in filled)
    assert {marker for marker, _, _ in slow_jpeg.segments(after)} <= {0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE}


def look(before: bytes, after: bytes, boxes: Boxes) -> bool:
    """Compare the pixels that libjpeg-turbo makes of both, but those next to the mask; False if it reads neither."""
    try:
        old = imagecodecs.jpeg8_decode(before)
    except imagecodecs.Jpeg8Error:
        return False
    new = imagecodecs.jpeg8_decode(after)
    for top, bottom, left, right in aligned(before, boxes):
        near = slice(max(top - 1, 0), bottom + 1), slice(max(left - 1, 0), right + 1)
        old[near] = new[near]
    assert np.array_equal(old, new)
    return True


def main(count: int, seed: int) -> Counter[str]:
    """Break ``count`` frames and mask them; return how many came to which end."""
    rng = random.Random(seed)  # noqa: S311
    ends: Counter[str] = Counter()
    sources = frames(rng)
    for number in range(count):
        if number % 1000 == 999:
            sources = frames(rng)
        (frame, form), (other, _) = rng.choice(sources), rng.choice(sources)
        broken = mutated(rng, frame, other)
        middle = 1 << form.stored - 1
        try:
            masked = mask_frame(broken, BOXES, form)
        except Quarantined as refused:
            ends[refused.detail] += 1
            continue
        check(broken, masked, BOXES, ((0, middle, middle), (0, 0, 0)))
        ends["masked" if look(broken, masked, BOXES) else "masked, and libjpeg-turbo reads neither"] += 1
    return ends


if __name__ == "__main__":
    for end, times in main(int(sys.argv[1]), int(sys.argv[2])).most_common():
        print(f"{times:9d} {end}")  # noqa: T201

"""Masking in memory: arrays against ``memset`` of the bytes touched, compressed frames against their decoders.

Each contender of a case runs in every round, in an order that chance decides; ratios are those of CPU times within a
round. ``python benchmarks/kernels.py`` prints tables.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from data import jpeg_frames, rle_frames, ultrasound
from measure import markdown_table, median_and_range
from numpy.typing import NDArray
from PIL import Image
from rle import rle

from dicomshield import Polygon, Region, mask
from dicomshield.pixels import jpeg as shield_jpeg
from dicomshield.pixels import rle as shield_rle
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Boxes, Shape, compiled

Frames = NDArray[Any]
Work = Callable[[], object]
SAMPLE = 0.02
"""Seconds that one measurement takes at least."""
CACHES = 64 << 20
"""Bytes that fill the caches of the processor."""
SHAPES = (
    ((1, 512, 512), "u2"),
    ((30, 512, 512), "u2"),
    ((300, 512, 512), "i2"),
    ((1, 5632, 4640), "u2"),
    ((100, 768, 1024), "u1"),
    ((100, 600, 800, 3), "u1"),
    ((16, 256, 256), "f4"),
)
QUICK = (((1, 64, 64), "u2"), ((4, 64, 64, 3), "u1"))


def race(contenders: Mapping[str, Work], rounds: int, *, cold: bool = False) -> dict[str, list[float]]:
    """CPU seconds of one call of each contender, round by round.

    A contender is repeated until it can be measured; with `cold` it runs once, after the caches were filled with
    something else.
    """
    repeats = {name: 1 if cold else _repeats(work) for name, work in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order, other = list(contenders), np.ones(CACHES if cold else 0, np.uint8)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            work, count = contenders[name], repeats[name]
            np.add(other, 1, out=other)
            start = time.process_time()
            for _ in range(count):
                work()
            seconds[name].append((time.process_time() - start) / count)
    return seconds


def _repeats(work: Work) -> int:
    # what is compiled or allocated on the first call is not measured
    work()
    count, taken = 1, 0.0
    while taken < SAMPLE / 4:
        count *= 4
        start = time.process_time()
        for _ in range(count):
            work()
        taken = time.process_time() - start
    return max(1, math.ceil(count * SAMPLE / taken))


def ratios(seconds: dict[str, list[float]], name: str, unit: str) -> list[float]:
    return [own / base for own, base in zip(seconds[name], seconds[unit], strict=True)]


def rectangles(rows: int, columns: int) -> tuple[Region, Region]:
    """Return a banner over the whole width, and a box in the lower right corner."""
    return Region(0, 0, rows // 10, columns), Region(rows * 5 // 6, columns * 3 // 4, rows, columns)


def around_sector(rows: int, columns: int) -> Polygon:
    """Return all that is outside of an ultrasound sector: the border of the frame, and inside it the sector's."""
    depth, middle = rows * 0.98, columns / 2
    angles = [number / 50 for number in range(35, -36, -1)]
    arc = [(depth * math.cos(angle), middle + depth * math.sin(angle)) for angle in angles]
    border = [(0.0, 0.0), (float(rows), 0.0), (float(rows), float(columns)), (0.0, float(columns))]
    return Polygon((*border, (0.0, middle), *arc, (0.0, middle)))


def mask_cases(shapes: tuple[tuple[tuple[int, ...], str], ...], rounds: int) -> Iterator[dict[str, Any]]:
    """Measure `mask` on arrays that were written to before, as fresh memory is slower than any work on it."""
    for shape, kind in shapes:
        frames = np.ones(shape, kind)
        rows, columns = shape[1:3]
        yield mask_case(frames, "rectangles", rectangles(rows, columns), 0, rounds)
        if len(shape) == 4:
            yield mask_case(frames, "rectangles of YBR", rectangles(rows, columns), (0, 128, 128), rounds)
        yield mask_case(frames, "around a sector", (around_sector(rows, columns),), 0, rounds)


def mask_case(frames: Frames, name: str, shapes: tuple[Shape, ...], fill: Any, rounds: int) -> dict[str, Any]:
    rows, columns = frames.shape[1:3]
    boxes = compiled(shapes, rows, columns, len(frames))[0].boxes
    pixels = sum((bottom - top) * (right - left) for top, bottom, left, right in boxes)
    size = pixels * len(frames) * frames[0, 0, 0].nbytes
    memset = ctypes.CDLL(None).memset
    memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    contenders: dict[str, Work] = {
        "mask": lambda: mask(frames, shapes, fill),
        "memset": lambda: memset(frames.ctypes.data, 0, size),
    }
    warm, cold = race(contenders, rounds), race(contenders, rounds, cold=True)
    return {
        "array": f"{' x '.join(map(str, frames.shape))} {frames.dtype.name}, {name}",
        "touched": size / frames.nbytes,
        "boxes": len(boxes),
        "ms": [value * 1000 for value in warm["mask"]],
        "warm": ratios(warm, "mask", "memset"),
        "cold": ratios(cold, "mask", "memset"),
    }


def jpeg_images(quick: bool) -> Iterator[tuple[str, list[bytes], Layout]]:
    """Yield JPEG frames of one kind."""
    if quick:
        yield "64 x 64 grey", [_jpeg(ultrasound(0, 64, 64)[..., 0], quality=85)], _layout(64, 64, 1, 8)
        return
    yield "768 x 1024 4:2:2, quality 85", jpeg_frames(), _layout(768, 1024, 3, 8)
    colour: dict[str, dict[str, Any]] = {
        "4:2:0, quality 75": {"quality": 75, "subsampling": "4:2:0"},
        "4:4:4, quality 95": {"quality": 95, "subsampling": "4:4:4"},
        "4:2:2, quality 85, restart markers": {"quality": 85, "subsampling": "4:2:2", "restart_marker_rows": 1},
    }
    for name, options in colour.items():
        yield f"480 x 640 {name}", [_jpeg(one, **options) for one in _pictures(480, 640)], _layout(480, 640, 3, 8)
    grey = [one[..., 0] for one in _pictures(512, 512)]
    yield "512 x 512 grey, quality 90", [_jpeg(one, quality=90) for one in grey], _layout(512, 512, 1, 8)
    encode = partial(imagecodecs.jpeg8_encode, level=90, bitspersample=12)
    deep = [bytes(encode(one.astype(np.uint16) * 16)) for one in grey]
    yield "512 x 512 grey, 12 bit, quality 90", deep, _layout(512, 512, 1, 12)


def rle_images(quick: bool) -> Iterator[tuple[str, list[bytes], Layout]]:
    """Yield RLE frames of one kind."""
    side, depth = (64, 8) if quick else (512, 16)
    if not quick:
        yield "768 x 1024 RGB", rle_frames(), _layout(768, 1024, 3, 8)._replace(photometric="RGB", black=(0, 0, 0))
    layout = _layout(side, side, 1, depth)
    grey = [one[..., 0].astype(f"<u{depth // 8}") << depth - 8 for one in _pictures(side, side)]
    yield f"{side} x {side}, {depth} bit", [rle_encoded(one[None], layout) for one in grey], layout


def _layout(rows: int, columns: int, samples: int, stored: int) -> Layout:
    photometric, black = ("YBR_FULL_422", (0, 128, 128)) if samples == 3 else ("MONOCHROME2", (0,))
    return Layout(rows, columns, 1, samples, -(-stored // 8) * 8, stored, False, False, photometric, black)


def _pictures(rows: int, columns: int) -> list[Frames]:
    return [ultrasound(number, rows, columns) for number in range(4)]


def _jpeg(picture: Frames, **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "JPEG", **options)
    return out.getvalue()


def rle_encoded(planes: Frames, layout: Layout) -> bytes:
    """Encode planes (samples, rows, columns) with pylibjpeg-rle."""
    pixels = planes.transpose(1, 2, 0).tobytes()
    return bytes(rle.encode_frame(pixels, layout.rows, layout.columns, layout.samples, layout.allocated, "<"))


def rle_decoded(frame: bytes, layout: Layout) -> Frames:
    data = rle.decode_frame(frame, layout.rows * layout.columns, layout.allocated, "<")
    return np.frombuffer(data, f"<u{layout.allocated // 8}").reshape(-1, layout.rows, layout.columns)


def jpeg_case(name: str, frames: list[bytes], layout: Layout, rounds: int) -> dict[str, Any]:
    """Compare masking JPEG frames with decoding them by libjpeg-turbo into a buffer that is used again."""
    boxes = _boxes(layout)
    buffer = imagecodecs.jpeg8_decode(frames[0])
    contenders: dict[str, Work] = {
        "mask": lambda: [shield_jpeg.mask_frame(frame, boxes, layout) for frame in frames],
        "decode": lambda: [imagecodecs.jpeg8_decode(frame, out=buffer) for frame in frames],
    }
    seconds = race(contenders, rounds)
    return {
        "frame": name,
        "kB": sum(map(len, frames)) / len(frames) / 1000,
        "ms": [value * 1000 / len(frames) for value in seconds["mask"]],
        "to_decode": ratios(seconds, "mask", "decode"),
    }


def rle_case(name: str, frames: list[bytes], layout: Layout, rounds: int) -> dict[str, Any]:
    """Compare masking RLE frames with decoding, masking and encoding them by pylibjpeg-rle."""
    boxes, regions = _boxes(layout), rectangles(layout.rows, layout.columns)

    def again() -> None:
        for frame in frames:
            planes = rle_decoded(frame, layout)
            mask(planes, regions)
            rle_encoded(planes, layout)

    contenders = {"mask": lambda: [shield_rle.mask_frame(frame, boxes, layout) for frame in frames], "again": again}
    seconds = race(contenders, rounds)
    return {
        "frame": name,
        "kB": sum(map(len, frames)) / len(frames) / 1000,
        "ms": [value * 1000 / len(frames) for value in seconds["mask"]],
        "times_faster": ratios(seconds, "again", "mask"),
    }


def _boxes(layout: Layout) -> Boxes:
    return compiled(rectangles(layout.rows, layout.columns), layout.rows, layout.columns, 1)[0].boxes


def measured(quick: bool, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Measure everything."""
    return {
        "mask": list(mask_cases(QUICK if quick else SHAPES, rounds)),
        "jpeg": [jpeg_case(*image, rounds) for image in jpeg_images(quick)],
        "rle": [rle_case(*image, rounds) for image in rle_images(quick)],
    }


def tables(result: dict[str, list[dict[str, Any]]]) -> str:
    """Show everything as Markdown."""
    masks = [
        [
            one["array"], f"{one['touched']:.0%}", str(one["boxes"]), f"{statistics.median(one['ms']):.3f}",
            median_and_range(one["warm"]), median_and_range(one["cold"]),
        ]
        for one in result["mask"]
    ]  # fmt: skip
    jpegs, rles = (
        [
            [one["frame"], f"{one['kB']:.0f}", median_and_range(one["ms"]), median_and_range(one[ratio])]
            for one in result[kind]
        ]
        for kind, ratio in (("jpeg", "to_decode"), ("rle", "times_faster"))
    )
    return "\n\n".join(
        (
            markdown_table(["`mask`", "touched", "boxes", "ms", "CPU / memset, cached", "not cached"], masks),
            markdown_table(["JPEG frame", "kB", "ms", "CPU / libjpeg-turbo decode"], jpegs),
            markdown_table(["RLE frame", "kB", "ms", "times faster than decode + encode"], rles),
        )
    )


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description="Masking in memory.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="small arrays and frames")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    # the first large array or JPEG frame loads it, and from then on small arrays gain by it too
    with contextlib.suppress(ImportError):
        import_module("numba")
    result = measured(args.quick, args.rounds)
    print(tables(result))
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

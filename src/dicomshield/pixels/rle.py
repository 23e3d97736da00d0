"""RLE Lossless (PS3.5 Annex G): black out boxes in the packed rows; rows without a box stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from struct import Struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import Quarantined, Reason
from .fast import fast
from .layout import Layout
from .mask import fill_boxes
from .region import Box, Boxes

__all__ = ["decode", "encode", "mask_frame"]

_Bytes = NDArray[np.uint8]
_HEADER: Final = Struct("<16I")
_MOST: Final = 64
"""Bytes that one packed byte can become: two of them repeat a byte 128 times."""
_LARGEST: Final = 1 << 30
"""Bytes of a frame that may be held in memory."""


def mask_frame(frame: bytes, boxes: Boxes, layout: Layout) -> bytes:
    """Black out boxes in one frame.

    Parameters
    ----------
    frame : bytes
        RLE header and segments.
    boxes : Boxes
    layout : Layout

    Returns
    -------
    bytes
        The frame with the boxes black and all other pixels the same; bytes that are no pixels are gone.

    Raises
    ------
    Quarantined
        PIXELS if the frame is broken, or not of this layout; TOO_LARGE if it is over 1 GiB unpacked.
    """
    if layout.allocated == 1:
        image = decode(frame, layout)
        fill_boxes(image[None], boxes, np.array(layout.black))
        return encode(image, layout)
    width = layout.allocated // 8
    black = b"".join((value % (1 << layout.allocated)).to_bytes(width, "big") for value in layout.black)
    segments = _segments(frame, layout)
    return _joined(_masked(segment, boxes, layout, fill) for segment, fill in zip(segments, black, strict=True))


def decode(frame: bytes, layout: Layout) -> NDArray[Any]:
    """Unpack one frame.

    Parameters
    ----------
    frame : bytes
        RLE header and segments.
    layout : Layout

    Returns
    -------
    ndarray, shape (rows, columns[, samples])
        Whole numbers as wide as they are stored, signed if they are; 8 bits wide if they are stored in one bit.

    Raises
    ------
    Quarantined
        PIXELS if the frame is broken, or not of this layout; TOO_LARGE if it is over 1 GiB unpacked.
    """
    segments = _segments(frame, layout)
    plane = np.empty(_plane(layout)[0], np.uint8)
    shape = (layout.rows, layout.columns)
    if layout.allocated == 1:
        _fill(plane, segments[0], 0)
        return np.unpackbits(plane, count=shape[0] * shape[1], bitorder="little").reshape(shape)
    image = np.empty((*shape, layout.samples), _number(layout))
    pixels = image.view(np.uint8).reshape(plane.size, -1)
    for place, segment in zip(_places(layout), segments, strict=True):
        _fill(plane, segment, 0)
        pixels[:, place] = plane
    return image if layout.samples > 1 else image[..., 0]


def encode(image: NDArray[Any], layout: Layout) -> bytes:
    """Pack one frame.

    Parameters
    ----------
    image : ndarray, shape (rows, columns[, samples])
        As `decode` returns it.
    layout : Layout

    Returns
    -------
    bytes
        RLE header and segments.
    """
    _, row = _plane(layout)
    if layout.allocated == 1:
        return _joined([[_packed(np.packbits(image, bitorder="little"), row)]])
    pixels = np.ascontiguousarray(image, _number(layout)).view(np.uint8).reshape(layout.rows * layout.columns, -1)
    return _joined([_packed(np.ascontiguousarray(pixels[:, place]), row)] for place in _places(layout))


def _broken() -> Quarantined:
    return Quarantined(Reason.PIXELS, "an RLE frame is broken, or not of the form that the header says")


def _number(layout: Layout) -> np.dtype[Any]:
    return np.dtype(f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}")


def _places(layout: Layout) -> list[int]:
    """Return which byte of a pixel each segment holds: the most significant of each sample come first (G.2)."""
    width = max(layout.allocated // 8, 1)
    return [sample * width + place for sample in range(layout.samples) for place in reversed(range(width))]


def _plane(layout: Layout) -> tuple[int, int]:
    """Return the bytes of an unpacked segment and those of its rows, which are packed one by one (G.3).

    Rows of single bits that do not fill whole bytes follow each other without a gap, and are packed as one.
    """
    pixels = layout.rows * layout.columns
    if layout.allocated > 1:
        return pixels, layout.columns
    length = (pixels + 7) // 8
    return length, length if layout.columns % 8 else layout.columns // 8


def _segments(frame: bytes, layout: Layout) -> list[memoryview]:
    """Return the packed segments, after a look at the header (G.5)."""
    if len(frame) < _HEADER.size:
        raise _broken()
    count, *offsets = _HEADER.unpack_from(frame)
    if count != len(_places(layout)) or count > len(offsets) or (layout.allocated == 1 and count > 1):
        raise _broken()
    if offsets[0] < _HEADER.size:
        raise _broken()
    view, (length, _) = memoryview(frame), _plane(layout)
    if length * count > _LARGEST:
        raise Quarantined(Reason.TOO_LARGE, "a frame of the size that the header says")
    segments = [view[start:end] for start, end in pairwise([*offsets[:count], len(frame)])]
    # before memory is taken for what could never come out; what is out of order, or outside of the frame, is empty
    if any(len(segment) * _MOST < length for segment in segments):
        raise _broken()
    return segments


def _joined(segments: Iterable[Iterable[bytes | memoryview]]) -> bytes:
    """Put a header before segments, each of an even length (G.5), which come in parts."""
    parts: list[bytes | memoryview] = []
    offsets, at = [], _HEADER.size
    for segment in segments:
        pieces = list(segment)
        length = sum(len(piece) for piece in pieces)
        offsets.append(at)
        parts += [*pieces, b"\0" * (length % 2)]
        at += length + length % 2
    header = _HEADER.pack(len(offsets), *offsets, *[0] * (15 - len(offsets)))
    return b"".join([header, *parts])


def _masked(segment: memoryview, boxes: Boxes, layout: Layout, fill: int) -> list[bytes | memoryview]:
    """Black out boxes in a segment; only the rows between a box's top and bottom are unpacked."""
    rows, columns = layout.rows, layout.columns
    starts = np.zeros(rows + 1, np.int64)
    aligned = _row_starts(np.frombuffer(segment, np.uint8), rows, columns, starts)
    parts: list[bytes | memoryview] = []
    done = 0
    # where packets go across rows, no row can be taken out alone
    for top, bottom in _bands(boxes) if aligned else [(0, rows)]:
        first = int(starts[top])
        plane = np.empty((bottom - top, columns), np.uint8)
        _fill(plane.reshape(-1), segment, first)
        inside = tuple(Box(box.top - top, box.bottom - top, *box[2:]) for box in boxes if top <= box.top < bottom)
        fill_boxes(plane[None], inside, np.array([fill]))
        parts += [segment[done:first], _packed(plane.reshape(-1), columns)]
        done = int(starts[bottom])
    return [*parts, segment[done : int(starts[rows])]]


def _bands(boxes: Boxes) -> list[tuple[int, int]]:
    """Return the runs of rows that boxes touch, from the top down."""
    bands: list[tuple[int, int]] = []
    for top, bottom, *_ in boxes:
        if bands and top <= bands[-1][1]:
            bands[-1] = (bands[-1][0], max(bands[-1][1], bottom))
        else:
            bands.append((top, bottom))
    return bands


def _fill(plane: _Bytes, segment: memoryview, at: int) -> None:
    """Unpack as many bytes as ``plane`` holds."""
    _sound(_unpack(np.frombuffer(segment, np.uint8), at, plane))


def _packed(plane: _Bytes, row: int) -> memoryview:
    """Pack bytes, row by row."""
    packed = np.empty(plane.size + plane.size // row * -(-row // 128), np.uint8)
    return packed.data[: _sound(_pack(plane, row, packed))]


def _sound(length: int) -> int:
    if length < 0:
        raise _broken()
    return length


# the kernels say of every place that it is not negative: that proves it to the reader, and lets them run twice as fast


@fast
def _row_starts(packed: _Bytes, rows: int, columns: int, starts: NDArray[np.int64]) -> int:
    """Find where each row begins, and where the last one ends; return 0 and not the last if a packet crosses a row."""
    at, size = 0, len(packed)
    for row in range(rows):
        starts[row] = at
        left = columns
        while left > 0 and 0 <= at < size:
            head = packed[at]
            literal = head < 128
            at += head + 2 if literal else 2 if head > 128 else 1
            left -= head + 1 if literal else 257 - head if head > 128 else 0
        if left or at > size:
            return 0
    starts[rows] = at
    return 1


@fast
def _unpack(packed: _Bytes, at: int, plane: _Bytes) -> int:
    """Unpack from ``at`` until ``plane`` is full (G.3.2); return where that ends, or -1 if it does not work out."""
    size, filled, end = len(packed), 0, len(plane)
    while filled < end:
        if not 0 <= at < size:
            return -1
        head = packed[at]
        if head < 128:
            run = head + 1
            if not (0 <= at < size - run and 0 <= filled <= end - run):
                return -1
            for step in range(run):
                plane[filled + step] = packed[at + 1 + step]
            at += run + 1
            filled += run
        elif head > 128:
            run = 257 - head
            if not (0 <= at < size - 1 and 0 <= filled <= end - run):
                return -1
            value = packed[at + 1]
            for step in range(run):
                plane[filled + step] = value
            at += 2
            filled += run
        else:
            at += 1
    return at


@fast
def _pack(plane: _Bytes, row: int, packed: _Bytes) -> int:
    """Pack rows of ``row`` bytes (G.3.1) and return the length, or -1 if ``packed`` is too short.

    Three equal bytes or more are repeated, which never takes more than them; all others are literal. So a row takes
    at most row + ceil(row / 128) bytes.
    """
    used, size, room = 0, len(plane), len(packed)
    for begin in range(0, size, row):
        end = begin + row
        at = literal = begin
        while 0 <= at < end <= size:
            while at < end - 2 and (plane[at] != plane[at + 1] or plane[at] != plane[at + 2]):
                at += 1
            if at >= end - 2:
                at = end
            while literal < at:
                run = min(at - literal, 128)
                if not (0 <= used < room - run and 0 <= literal <= size - run):
                    return -1
                packed[used] = run - 1
                for step in range(run):
                    packed[used + 1 + step] = plane[literal + step]
                used += run + 1
                literal += run
            if at == end:
                break
            value = plane[at]
            while at < end and plane[at] == value:
                at += 1
            while literal < at:
                run = min(at - literal, 128)
                if not 0 <= used < room - 1:
                    return -1
                # what is left of a long run may be one byte, which is literal
                packed[used] = (257 - run) % 256
                packed[used + 1] = value
                used += 2
                literal += run
    return used

"""Mask native pixel data while they are copied: constant memory, and the kernel copies what no mask touches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..encoding.elements import Element
from ..encoding.pieces import Chunk, Range, Stream
from ..encoding.source import Source
from ..errors import Quarantined, Reason
from .layout import Layout
from .region import Box, Boxes, Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    _Bytes = NDArray[np.uint8]

__all__ = ["NativePixels", "clear_unused", "mask_bytes"]

_BUFFER: Final = 1 << 18
_GAP: Final = 1 << 16
"""Untouched bytes between touched rows that are worth a copy by the kernel."""


class NativePixels(Stream):
    """A native pixel data element with its frames masked (PS3.5 8.1, A.1, A.2).

    Parameters
    ----------
    source : Source
    element : Element
        Pixel Data, Float Pixel Data or Double Float Pixel Data, of defined length.
    layout : Layout
    plans : sequence of Plan
    clear : bool
        Clear the bits that hold no pixel value, where overlays used to be stored (PS3.3 C.9.2, retired).

    Raises
    ------
    Quarantined
        PIXELS if the form of the frames is not understood, TRUNCATED if some are missing.
    """

    def __init__(
        self, source: Source, element: Element, layout: Layout, plans: Sequence[Plan], *, clear: bool = False
    ) -> None:
        stored = element.end - element.value
        self._length = layout.native_length(stored)
        if stored < self._length:
            raise Quarantined(Reason.TRUNCATED, "Pixel Data are shorter than the header says")
        self._source, self._element, self._plans, self._clear = source, element, plans, clear
        self._layout = layout
        # rows and frames of single bits fill no whole bytes, so they have no form in bytes
        self._form = _Form.of(layout, subsampled=layout.subsampled(stored)) if layout.allocated > 1 else None
        if clear and layout.allocated not in (8, 16, 32):
            raise Quarantined(Reason.PIXELS, "an overlay lies in pixels of this size")

    def chunks(self) -> Iterator[Chunk]:
        """Yield the element, from its tag to its padding."""
        head = self._source.slice(self._element.start, self._element.value - 4)
        pad = self._length & 1
        yield head + (self._length + pad).to_bytes(4, "little")
        yield from _joined(self._frames())
        if pad:
            yield b"\0"

    def _frames(self) -> Iterator[Chunk]:
        import numpy as np

        form = self._form
        if form is None:
            yield from self._bits()
            return
        # one buffer for all: memory that was touched before is several times faster
        buffer = np.empty(max(_BUFFER, form.frame if self._clear else form.row), np.uint8)
        for first, last, boxes in self._plans:
            touched = sum(bottom - top for top, bottom in _touched(boxes, 0))
            if not boxes and not self._clear:
                yield self._range(first * form.frame, last * form.frame)
            elif self._clear or (form.frame <= _BUFFER and (form.rows - touched) * form.row < _GAP):
                yield from self._whole_frames(form, first, last, boxes, buffer)
            else:
                for frame in range(first, last):
                    yield from self._rows(form, frame * form.frame, boxes, buffer)

    def _range(self, start: int, end: int) -> Range:
        return Range(self._element.value + start, self._element.value + end)

    def _whole_frames(self, form: _Form, first: int, last: int, boxes: Boxes, buffer: _Bytes) -> Iterator[Chunk]:
        """Read as many frames as fit into the buffer, mask and yield them."""
        at_once = len(buffer) // form.frame
        for frame in range(first, last, at_once):
            part = buffer[: min(at_once, last - frame) * form.frame]
            self._source.read_into(part.data, self._element.value + frame * form.frame)
            if self._clear:
                clear_unused(part.view(f"<u{self._layout.allocated // 8}"), self._layout)
            form.paint(part.reshape(-1, form.planes, form.rows, form.row), boxes)
            yield part.data

    def _rows(self, form: _Form, start: int, boxes: Boxes, buffer: _Bytes) -> Iterator[Chunk]:
        """Read, mask and yield the rows that a box touches; the kernel copies those between."""
        at_once = len(buffer) // form.row
        for plane in range(form.planes):
            begin, at = start + plane * form.rows * form.row, 0
            for top, bottom in _touched(boxes, _GAP // form.row):
                yield self._range(begin + at * form.row, begin + top * form.row)
                for row in range(top, bottom, at_once):
                    end = min(row + at_once, bottom)
                    band = buffer[: (end - row) * form.row]
                    inside = _within(boxes, row, end)
                    if inside != (Box(0, end - row, 0, self._layout.columns),):
                        self._source.read_into(band.data, self._element.value + begin + row * form.row)
                    form.paint(band.reshape(1, 1, end - row, form.row), inside, plane)
                    yield band.data
                at = bottom
            yield self._range(begin + at * form.row, begin + form.rows * form.row)

    def _bits(self) -> Iterator[Chunk]:
        """Set single bits, since neither rows nor frames of 1-bit pixels fill whole bytes (PS3.5 8.1.1)."""
        import numpy as np

        buffer = np.empty(_BUFFER, np.uint8)
        for at in range(0, self._length, _BUFFER):
            part = buffer[: min(_BUFFER, self._length - at)]
            self._source.read_into(part.data, self._element.value + at)
            _paint_bits(part, at * 8, self._layout, self._plans)
            yield part.data


def mask_bytes(frame: bytes, boxes: Boxes, layout: Layout) -> bytes:
    """Mask one frame of native form, as encapsulated and deflated frames are (PS3.5 A.4.11, A.4.12).

    Raises
    ------
    Quarantined
        PIXELS if its length is not that of a frame.
    """
    import numpy as np

    one = layout._replace(frames=1)
    length = one.native_length(len(frame))
    if len(frame) not in (length, length + (length & 1)):
        raise Quarantined(Reason.PIXELS, "a frame is not as long as the header says")
    data = np.frombuffer(frame, np.uint8).copy()
    if layout.allocated == 1:
        _paint_bits(data, 0, one, [Plan(0, 1, boxes)])
    else:
        form = _Form.of(one, subsampled=one.subsampled(length))
        form.paint(data[:length].reshape(1, form.planes, form.rows, form.row), boxes)
    return data.tobytes()


class _Form(NamedTuple):
    """A frame as bytes: ``planes`` pictures of ``rows`` rows, ``row`` bytes each.

    ``unit`` bytes stand for ``step`` pixels side by side; ``black`` are such units, one for each plane.
    """

    planes: int
    rows: int
    row: int
    unit: int
    step: int
    black: tuple[bytes, ...]

    @classmethod
    def of(cls, layout: Layout, *, subsampled: bool) -> _Form:
        size = layout.allocated // 8
        samples = [value.to_bytes(size, "little", signed=value < 0) for value in layout.black]
        if subsampled:
            if layout.columns & 1 or layout.planar or layout.samples != 3:
                raise Quarantined(Reason.PIXELS, "YBR_FULL_422 with an odd number of columns, or in planes")
            luma, blue, red = samples
            return cls(1, layout.rows, layout.columns * 2 * size, 4 * size, 2, (luma + luma + blue + red,))
        if layout.planar:
            return cls(layout.samples, layout.rows, layout.columns * size, size, 1, tuple(samples))
        unit = size * layout.samples
        return cls(1, layout.rows, layout.columns * unit, unit, 1, (b"".join(samples),))

    @property
    def frame(self) -> int:
        """Bytes of a frame."""
        return self.planes * self.rows * self.row

    def paint(self, frames: NDArray[np.uint8], boxes: Boxes, plane: int | None = None) -> None:
        """Blacken boxes in an array (frames, planes, rows, bytes of a row), or one that holds a single plane."""
        import numpy as np

        for number, black in enumerate(self.black) if plane is None else [(0, self.black[plane])]:
            row: NDArray[np.uint8] = np.frombuffer(black * (self.row // self.unit), np.uint8)
            same = len(set(black)) == 1
            for top, bottom, left, right in boxes:
                # a pair of pixels shares its chrominance, so it goes as a whole
                begin, end = left // self.step * self.unit, -(-right // self.step) * self.unit
                frames[:, number, top:bottom, begin:end] = black[0] if same else row[begin:end]


def _touched(boxes: Boxes, gap: int) -> list[tuple[int, int]]:
    """Return the runs of rows that boxes touch, joined over gaps of up to ``gap`` rows."""
    runs: list[tuple[int, int]] = []
    for top, bottom, _, _ in boxes:
        if runs and top <= runs[-1][1] + gap:
            runs[-1] = runs[-1][0], max(runs[-1][1], bottom)
        else:
            runs.append((top, bottom))
    return runs


def _within(boxes: Boxes, top: int, bottom: int) -> Boxes:
    """Return boxes as they lie in the rows ``top`` to ``bottom``."""
    return tuple(
        Box(max(box.top, top) - top, min(box.bottom, bottom) - top, box.left, box.right)
        for box in boxes
        if box.top < bottom and box.bottom > top
    )


def _joined(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Join neighbouring ranges, so that the kernel copies them at once."""
    pending: Range | None = None
    for chunk in chunks:
        if isinstance(chunk, Range):
            pending = Range(pending.start, chunk.end) if pending else chunk
            continue
        if pending and pending.end > pending.start:
            yield pending
        pending = None
        yield chunk
    if pending and pending.end > pending.start:
        yield pending


def clear_unused(pixels: NDArray[Any], layout: Layout) -> None:
    """Shift the bits above Bits Stored out, and the sign back in, in place."""
    numbers = pixels.view(f"{'i' if layout.signed else 'u'}{layout.allocated // 8}")
    numbers <<= layout.allocated - layout.stored
    numbers >>= layout.allocated - layout.stored


def _paint_bits(data: NDArray[np.uint8], first: int, layout: Layout, plans: Sequence[Plan]) -> None:
    """Blacken boxes in bytes that begin at bit ``first`` of the pixel data."""
    size, columns = layout.rows * layout.columns, layout.columns
    last = first + 8 * len(data)
    for begin, end, boxes in plans:
        for frame in range(max(begin, first // size), min(end, -(-last // size)) if boxes else 0):
            for top, bottom, left, right in boxes:
                origin = frame * size
                # only rows that reach into these bytes
                low = max(top, (first - origin) // columns)
                high = min(bottom, (last - origin) // columns + 1)
                for row in range(low, high):
                    start = origin + row * columns - first
                    _set_bits(data, max(start + left, 0), min(start + right, last - first), layout.black[0])


def _set_bits(data: NDArray[np.uint8], start: int, end: int, value: int) -> None:
    """Set bits ``start`` to ``end``; the first pixel is the lowest bit of a byte."""
    if start >= end:
        return
    first, last = start // 8, (end - 1) // 8
    head, tail = 0xFF << start % 8 & 0xFF, 0xFF >> 7 - (end - 1) % 8
    if first == last:
        head = tail = head & tail
    for at, bits in {first: head, last: tail}.items():
        data[at] = data[at] | bits if value else data[at] & (bits ^ 0xFF)
    data[first + 1 : last] = 0xFF if value else 0

"""Decode single frames, masked or not, for those who look at them; nothing that is released takes this way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..encoding.elements import Element
from ..encoding.source import Source
from ..errors import Quarantined, Reason
from .encapsulated import DEFLATED_FRAMES, ENCAPSULATED_NATIVE, RLE, Editor, editor, frames_of, inflated, whole
from .layout import Layout, palette
from .region import Boxes, Shape, compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Frames", "MaskedFrames", "colours"]


class Frames:
    """The frames of an image, decoded when they are asked for.

    Parameters
    ----------
    source : Source
    element : Element
        The pixel data.
    layout : Layout
    syntax : str
        Transfer syntax UID.

    Attributes
    ----------
    syntax : str
        The transfer syntax whose encapsulated frames are stored like these: native ones have one too.

    Raises
    ------
    Quarantined
        PIXELS or CODEC if the frames cannot be found or decoded.
    """

    def __init__(self, source: Source, element: Element, layout: Layout, syntax: str) -> None:
        self._source, self._element, self.layout = source, element, layout
        self.syntax = ENCAPSULATED_NATIVE if element.defined else syntax
        self._fragments = None if element.defined else frames_of(source, element, layout.frames, syntax)

    def __len__(self) -> int:
        return self.layout.frames

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return a frame of stored values, shape (rows, columns[, samples])."""
        return self.decode(self.data(number))

    def data(self, number: int) -> bytes:
        """Return a frame as it is stored."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        if self._fragments is not None:
            return whole(self._source, self._fragments[number])
        element, layout = self._element, self.layout
        length = layout.native_length(element.end - element.value)
        if element.value + length > element.end:
            raise Quarantined(Reason.TRUNCATED, "Pixel Data are shorter than the header says")
        if layout.allocated > 1:
            size = length // layout.frames
            return self._source.slice(element.value + number * size, element.value + (number + 1) * size)
        return self._bits(number * layout.frame_bits, (number + 1) * layout.frame_bits)

    def _bits(self, start: int, end: int) -> bytes:
        """Return bits of 1-bit pixels, whose frames need not begin with a byte (PS3.5 8.1.1)."""
        import numpy as np

        first = self._element.value
        data = self._source.slice(first + start // 8, first + (end + 7) // 8)
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return np.packbits(bits[start % 8 :][: end - start], bitorder="little").tobytes()

    def decode(self, data: bytes) -> NDArray[Any]:
        """Decode a frame that is stored as these are."""
        if self.syntax == RLE:
            from . import rle

            return rle.decode(data, self.layout)
        if self.syntax in (ENCAPSULATED_NATIVE, DEFLATED_FRAMES):
            return _array(data if self.syntax == ENCAPSULATED_NATIVE else inflated(data, self.layout), self.layout)
        from . import codecs

        return codecs.decode(data, self.syntax, self.layout)


class MaskedFrames:
    """Frames as they would be released: edited, and decoded again.

    Parameters
    ----------
    frames : Frames
    shapes : iterable of Region, Polygon, Bitmap or Outside
        What is blacked out.

    Attributes
    ----------
    layout : Layout

    Raises
    ------
    Quarantined
        PIXELS or CODEC if the frames cannot be edited.
    ValueError
        If a bitmap is not as large as the frame.
    """

    def __init__(self, frames: Frames, shapes: Iterable[Shape]) -> None:
        self.layout = layout = frames.layout
        self._frames = frames
        self._plans = compiled(shapes, layout.rows, layout.columns, layout.frames)

    @cached_property
    def _edit(self) -> Editor:
        return editor(self._frames.syntax, self._frames.layout)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return a frame of stored values, shape (rows, columns[, samples])."""
        data, boxes = self._frames.data(number), self.boxes(number)
        return self._frames.decode(self._edit(data, boxes) if boxes else data)

    def boxes(self, number: int) -> Boxes:
        """Return what is blacked out in a frame."""
        return next(plan.boxes for plan in self._plans if plan.first <= number < plan.last)


def colours(layout: Layout, header: Mapping[int, bytes]) -> tuple[int, NDArray[np.uint8]] | None:
    """Return the stored value of the first colour of the palette, and all of them in 8 bits, shape (entries, 3).

    ``None`` if the image is not PALETTE COLOR.

    Raises
    ------
    Quarantined
        PIXELS if the palette is broken.
    """
    if layout.photometric != "PALETTE COLOR":
        return None
    import numpy as np

    first, entries = palette(layout, header)
    found = np.array(entries)
    return first, (found >> (8 if found.max() > 255 else 0)).astype(np.uint8)


def _array(data: bytes, layout: Layout) -> NDArray[Any]:
    """Return a frame of native form as an array."""
    import numpy as np

    rows, columns, samples = layout.rows, layout.columns, layout.samples
    if layout.allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
        return bits[: rows * columns].reshape(rows, columns)
    kind = "i" if layout.signed else "u"
    values = np.frombuffer(data, f"<{'f' if layout.floating else kind}{layout.allocated // 8}")
    if layout._replace(frames=1).subsampled(len(data)):
        pairs = values[: rows * columns * 2].reshape(rows, columns // 2, 4)
        luma = pairs[..., :2].reshape(rows, columns)
        return np.stack([luma, *(pairs[..., at].repeat(2, axis=1) for at in (2, 3))], axis=-1)
    values = values[: rows * columns * samples]
    if layout.planar:
        return np.moveaxis(values.reshape(samples, rows, columns), 0, -1)
    return values.reshape(rows, columns, samples) if samples > 1 else values.reshape(rows, columns)

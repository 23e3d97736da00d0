"""What is done with the pixels of one object: which regions, in which frames, and by what means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from ..encoding.elements import Element
from ..encoding.pieces import Stream
from ..encoding.source import Source
from ..errors import Quarantined, Reason
from .layout import Layout
from .region import Plan, Shape, compiled

__all__ = ["Masking", "masked"]

_EXTENDED_OFFSETS: Final = 0x7FE00001
_JPEG_RECOMPRESSION: Final = "1.2.840.10008.1.2.4.111"
"""JPEG XL whose JPEG metadata are compressed too, so that frames must be unpacked to lose them."""


class Masking(NamedTuple):
    """The pixel data as they will be released.

    Attributes
    ----------
    stream : Stream or None
        The element that takes their place; ``None`` if they stay as they are.
    frames, touched : int
        How many there are, and how many of them are masked.
    """

    stream: Stream | None
    frames: int = 0
    touched: int = 0

    @property
    def complete(self) -> bool:
        """Whether every frame is masked."""
        return self.touched == self.frames > 0


def masked(
    source: Source,
    element: Element,
    header: Mapping[int, bytes],
    syntax: str,
    shapes: Sequence[Shape] = (),
    *,
    overlay: bool = False,
) -> Masking:
    """Find out how the pixels are to be masked, and what must go from inside compressed frames in any case.

    Parameters
    ----------
    source : Source
    element : Element
        The pixel data.
    header : mapping
        tag -> value as encoded.
    syntax : str
        Transfer syntax UID.
    shapes : sequence of Region, Polygon or Bitmap
    overlay : bool
        Whether an overlay lies in bits of the pixel data that hold no pixel value; it is cleared.

    Raises
    ------
    Quarantined
        PIXELS, CODEC, INCOMPLETE, TRUNCATED or TOO_LARGE if that cannot be done.
    """
    if not shapes and not overlay:
        if element.defined:
            return Masking(None)
        if syntax != _JPEG_RECOMPRESSION:
            return _encapsulated(source, element, header, syntax, Layout.read(header), [], overlay=False)
    layout = Layout.of(header)
    try:
        plans = compiled(shapes, layout.rows, layout.columns, layout.frames)
    except ValueError:
        raise Quarantined(Reason.PIXELS, "a bitmap does not fit the frames") from None
    if shapes and not any([plan.boxes for plan in plans]):
        raise Quarantined(Reason.PIXELS, "every region of the mask lies outside the frames")
    if not element.defined:
        return _encapsulated(source, element, header, syntax, layout, plans, overlay=overlay)
    from .native import NativePixels

    return Masking(NativePixels(source, element, layout, plans, clear=overlay), layout.frames, _touched(plans))


def _encapsulated(
    source: Source,
    element: Element,
    header: Mapping[int, bytes],
    syntax: str,
    layout: Layout,
    plans: Sequence[Plan],
    *,
    overlay: bool,
) -> Masking:
    from .encapsulated import EncapsulatedPixels, editor, frames_of

    stream = EncapsulatedPixels(
        source, element, frames_of(source, element, layout.frames, syntax), syntax, plans,
        editor(syntax, layout, clear=overlay) if plans else None,
        every=overlay or syntax == _JPEG_RECOMPRESSION, extended=_EXTENDED_OFFSETS in header,
    )  # fmt: skip
    return Masking(None if stream.untouched else stream, layout.frames, _touched(plans))


def _touched(plans: Sequence[Plan]) -> int:
    return sum(last - first for first, last, boxes in plans if boxes)

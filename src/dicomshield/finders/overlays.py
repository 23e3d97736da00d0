"""Overlays: pictures of single bits that lie over the image, with text drawn in them (PS3.3 C.9.2).

The Basic Profile removes them, and a mask does too. What is left to look at: overlays that the policy of a site keeps,
and bits of the pixel data that no overlay is declared for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import Quarantined, Reason
from ..pixels.decode import Frames, MaskedFrames
from ..pixels.layout import Layout
from ..pixels.native import clear_unused
from ..pixels.region import Shape
from .finder import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TAGS", "bitmaps", "refuse_text", "stray_bits"]

_DATA: Final = 0x60003000
_ROWS, _COLUMNS, _FRAMES = 0x60000010, 0x60000011, 0x60000015
_GROUPS: Final = tuple(range(0, 0x00200000, 0x00020000))
"""From 6000 to 601E, the even ones."""
TAGS: Final = frozenset(tag + group for group in _GROUPS for tag in (_ROWS, _COLUMNS, _FRAMES))
"""Attributes that must be in the header of an image."""
_LARGEST: Final = 1 << 28
"""Pixels of an overlay that are looked at."""
_BORDER: Final = 8

Detect = Callable[[Sequence["NDArray[Any]"], str], tuple[Shape, ...]]
"""Finds text in frames of a Photometric Interpretation, as `TextDetector.find` does."""


def refuse_text(image: Image, kept: Iterable[int], detect: Detect) -> None:
    """Hold an object back if an overlay that is kept carries text, or cannot be looked at.

    Parameters
    ----------
    image : Image
    kept : iterable of int
        Tags that the policy keeps; those that are no Overlay Data do not matter.
    detect : callable
        As `TextDetector.find`.

    Raises
    ------
    Quarantined
        BURNED_IN.
    """
    for tag in kept:
        if tag & 0xFF00FFFF == _DATA and image.element(tag) is not None and detect(bitmaps(image, tag), "MONOCHROME2"):
            raise Quarantined(Reason.BURNED_IN, f"text in an overlay that the policy keeps, ({tag >> 16:04X},3000)")


def bitmaps(image: Image, tag: int) -> list[NDArray[np.uint8]]:
    """Return the frames of an overlay, a bit 255 where it is set.

    Parameters
    ----------
    image : Image
    tag : int
        Of its Overlay Data.

    Returns
    -------
    list of ndarray of uint8, shape (rows, columns)
        With a border, so that text at the edge is seen.

    Raises
    ------
    Quarantined
        BURNED_IN if its form is not understood.
    """
    import numpy as np

    group, found = tag - _DATA, image.element(tag)
    rows, columns = (int.from_bytes(image.header.get(at + group, b"")[:2], "little") for at in (_ROWS, _COLUMNS))
    number = image.header.get(_FRAMES + group, b"").strip(b" \0") or b"1"
    size = rows * columns * (int(number) if number.isdigit() else 0)
    if found is None or not 0 < size <= min(_LARGEST, 8 * (found[1].end - found[1].value)):
        raise Quarantined(Reason.BURNED_IN, f"an overlay that cannot be looked at, ({tag >> 16:04X},3000)")
    source, element = found
    data = np.frombuffer(source.slice(element.value, element.value + (size + 7) // 8), np.uint8)
    # the first pixel is the lowest bit of the first byte: PS3.5 8.1.2
    bits = np.unpackbits(data, bitorder="little")[:size].reshape(-1, rows, columns)
    return [np.pad(frame * np.uint8(255), _BORDER) for frame in bits]


def stray_bits(frames: Frames | MaskedFrames) -> bool:
    """Tell whether bits of the pixels that hold no pixel value hold anything but the sign repeated.

    Raises
    ------
    Quarantined
        If the frames cannot be decoded.
    """
    layout = frames.layout
    if layout.floating or layout.allocated == 1 or layout.allocated == layout.stored:
        return False
    return any(_stray(frames[number], layout) for number in range(len(frames)))


def _stray(frame: NDArray[Any], layout: Layout) -> bool:
    for signed in (False, True):
        cleared = frame.copy()
        clear_unused(cleared, layout._replace(signed=signed))
        if (cleared == frame).all():
            return False
    return True

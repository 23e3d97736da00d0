"""Find barcodes and QR codes, which name patients, samples and cassettes where nobody looks for a name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from math import dist
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ..errors import MissingExtra
from ..pixels.decode import colours
from ..pixels.region import Polygon
from .finder import Found, Image, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Barcodes"]

_FRAMES: Final = 8
_PIXELS, _SHORTER, _LONGER = 4, 0.2, 0.12
"""Margin around a code, in pixels and in parts of its sides: quiet zones have up to ten bars (ISO/IEC 15417), and of a
linear code only those rows are told that could be read."""


class _Code(NamedTuple):
    """What a code holds, and row and column of its corners, one after the other."""

    content: bytes
    corners: tuple[tuple[int, int], ...]


class Barcodes:
    """Finds codes in up to eight frames, in three contrasts each; a region counts for all frames.

    What a code holds is compared with what is known of the patient, and forgotten.

    Raises
    ------
    MissingExtra
        If zxing-cpp is not installed.
    """

    name = "barcodes"
    version = "1"
    claim = (
        "Finds barcodes and two-dimensional codes that stand nearly upright or lie on a side, and can be read or are "
        "damaged and still known as codes; it looks at eight frames at most and at nothing else, so it covers no image."
    )

    def __init__(self) -> None:
        try:
            import zxingcpp
        except ImportError:
            raise MissingExtra("ocr") from None
        self._library: Any = zxingcpp

    def find(self, image: Image) -> Found:
        """Return the codes with their quiet zones, and the kinds of known values that they hold; never covers an image.

        Raises
        ------
        Quarantined
            If the frames cannot be decoded.
        """
        from ..evidence.residual import search

        numbers = spread(len(image.frames), _FRAMES)
        codes = [code for number in numbers for view in _views(image, number) for code in self._codes(view)]
        shapes = dict.fromkeys(_around(code.corners) for code in codes)
        held = b"\n".join({code.content for code in codes})
        findings = tuple(search(held, image.known))
        return Found(tuple(shapes), note=f"looked for in {len(numbers)} frames", findings=findings)

    def _codes(self, view: NDArray[np.uint8]) -> Iterator[_Code]:
        """Yield what looks like a code in one picture."""
        import numpy as np

        formats, read = self._library.BarcodeFormat, self._library.read_barcodes
        for code in read(view, return_errors=True):
            # noise often has the corner of a Data Matrix
            if code.valid or code.format != formats.DataMatrix:
                yield _Code(code.bytes, tuple((at.y, at.x) for at in _corners(code.position)))
        # the only kind that is not looked for in all directions
        upright = np.ascontiguousarray(np.rot90(view))
        for code in read(upright, formats=formats.PDF417, return_errors=True):
            yield _Code(code.bytes, tuple((at.x, view.shape[1] - 1 - at.y) for at in _corners(code.position)))


def _views(image: Image, number: int) -> Iterator[NDArray[np.uint8]]:
    """Yield a frame in the contrast of the whole, of its brightest and of its darkest part, where codes are drawn."""
    import numpy as np

    from .text.views import values

    layout = image.frames.layout
    palette = colours(layout, image.header)
    shown = values(image.frames[number], layout.photometric, palette, layout.stored).mean(axis=2)
    levels = np.percentile(shown, [0, 10, 90, 100])
    for low, high in ((levels[0], levels[3]), (levels[2], levels[3]), (levels[0], levels[1])):
        if low < high:
            yield np.ascontiguousarray(np.clip((shown - low) * (255 / (high - low)), 0, 255).astype(np.uint8))


def _corners(position: Any) -> tuple[Any, ...]:
    return position.top_left, position.top_right, position.bottom_right, position.bottom_left


def _around(corners: tuple[tuple[int, int], ...]) -> Polygon:
    """Return a code with its margin."""
    first, second, third, _ = corners
    shorter, longer = sorted((dist(first, second), dist(second, third)))
    # rows are told that cross the whole code, so of one that leans, ends are missing
    lean = max(min(abs(one[0] - two[0]), abs(one[1] - two[1])) for one, two in pairwise(corners))
    margin = _PIXELS + max(_SHORTER * shorter, _LONGER * longer) + lean
    return Polygon(tuple(_away(corners, at, margin) for at in range(4)))


def _away(corners: tuple[tuple[int, int], ...], at: int, margin: float) -> tuple[float, float]:
    """Move a corner out of the code by a margin along both of its sides."""
    row, column = (float(one) for one in corners[at])
    for other in (corners[at - 1], corners[(at + 1) % 4]):
        length = dist(corners[at], other) or 1.0
        row += (corners[at][0] - other[0]) / length * margin
        column += (corners[at][1] - other[1]) / length * margin
    return row + 0.5, column + 0.5

"""Tell at little cost which images need not be searched for text, and measure how often that is wrong.

What is left out must be plain by its header and hold nothing that a device would draw: letters of one value, or
brighter or darker than all else. Text that was blended into a plain slice can pass (``benchmarks/text_gate.py``
measures how much), so nothing may be claimed of an image that was left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .burned_in import COMPUTED, suspicion
from .finder import Image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TAGS", "Measured", "computed", "measured", "skipped"]

_PLAIN: Final = {
    "1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.4": "MR", "1.2.840.10008.5.1.4.1.1.128": "PT",
}  # fmt: skip
_IMAGE_TYPE, _MODALITY = 0x00080008, 0x00080060
_GEOMETRY: Final = (0x00200032, 0x00200037, 0x00280030)
"""Image Position and Orientation (Patient), Pixel Spacing: a slice through a patient has them all."""
TAGS: Final = frozenset({_IMAGE_TYPE, _MODALITY, *_GEOMETRY})
"""Attributes that must be in the header of an image, beside those of `burned_in`."""

_LEVELS: Final = 1 << 17
_VALUES: Final = 8
"""Values of one image that are looked at, the most frequent first."""
_LEAST: Final = 24
"""Pixels of a value that may be letters."""
_ENDS: Final = (0.5, 2, 98, 99.5)
"""Percentiles between which nearly all values lie."""
_SHORTEST, _LONGEST = 5, 150
"""Sides of a letter, in pixels."""
_NEIGHBOURS: Final = 40
_LETTERS: Final = 3
_MOST_PARTS: Final = 4000


def computed(image: Image) -> str | None:
    """Say so if the pixels are no picture but the result of a computation, in which nobody draws text."""
    if image.sop_class in COMPUTED and not suspicion(image.header, image.sop_class):
        return "its pixels are the result of a computation"
    return None


def skipped(image: Image) -> str | None:
    """Say why an image need not be searched for text, ``None`` if it must be.

    Raises
    ------
    Quarantined
        If the frames cannot be decoded.
    """
    if why := computed(image):
        return why
    if suspicion(image.header, image.sop_class):
        return None
    if _plain(image) and not _drawn(image.frames[0]):
        return f"a plain {_PLAIN[image.sop_class]} slice in which nothing is drawn"
    return None


class Measured(NamedTuple):
    """How a gate did on images of which it is known whether they carry text.

    Attributes
    ----------
    images, skipped : int
        How many there were, and how many need not be searched by the gate.
    carrying, missed : int
        How many carry text, and how many of these the gate would have left out.
    """

    images: int
    skipped: int
    carrying: int
    missed: int


def measured(labelled: Iterable[tuple[Image, bool]]) -> Measured:
    """Measure the gate.

    Parameters
    ----------
    labelled : iterable of (Image, bool)
        Images, and whether they carry text.
    """
    results = [(skipped(image) is not None, carries) for image, carries in labelled]
    return Measured(
        len(results), sum(left_out for left_out, _ in results), sum(carries for _, carries in results),
        sum(left_out and carries for left_out, carries in results),
    )  # fmt: skip


def _plain(image: Image) -> bool:
    """Tell whether the header is that of a slice as the scanner made it."""
    header, layout = image.header, image.frames.layout
    kinds = _text(header, _IMAGE_TYPE).split("\\")
    return (
        _PLAIN.get(image.sop_class) == _text(header, _MODALITY)
        and kinds[:2] == ["ORIGINAL", "PRIMARY"]
        and "LOCALIZER" not in kinds
        and all(_text(header, tag) for tag in _GEOMETRY)
        and (layout.frames, layout.samples, layout.allocated, layout.floating) == (1, 1, 16, False)
        and layout.photometric.startswith("MONOCHROME")
    )


def _text(header: Mapping[int, bytes], tag: int) -> str:
    return header.get(tag, b"").decode("latin-1").strip(" \0").upper()


def _drawn(frame: NDArray[Any]) -> bool:
    """Tell whether pixels stand in rows like letters: those of one value, or brighter or darker than nearly all."""
    drawn = chain((frame == value for value in _spikes(frame)), _extremes(frame))
    return any(_in_a_row(pixels) for pixels in drawn)


def _extremes(frame: NDArray[Any]) -> Iterator[NDArray[np.bool_]]:
    """Yield which pixels are half-way or more from where nearly all values end to the last one, up and down."""
    import numpy as np

    lowest, highest = float(frame.min()), float(frame.max())
    ends = np.percentile(frame[::2, ::2], _ENDS)
    for end in ends[:2]:
        if lowest < end:
            yield frame < (lowest + end) / 2
    for end in ends[2:]:
        if end < highest:
            yield frame > (end + highest) / 2


def _spikes(frame: NDArray[Any]) -> NDArray[np.int64]:
    """Return values that are much more frequent than those next to them, as in noise and anatomy none is."""
    import numpy as np

    lowest = int(frame.min())
    counts = np.bincount(np.minimum(frame.ravel().astype(np.int64) - lowest, _LEVELS)).astype(np.float64)
    around = np.convolve(counts, np.array([1, 1, 1, 1, 0, 1, 1, 1, 1]) / 8, "same")[: len(counts)]
    spikes = np.flatnonzero((counts >= _LEAST) & (counts > 4 * around + 8))
    return spikes[np.argsort(-counts[spikes])][:_VALUES] + lowest


def _in_a_row(pixels: NDArray[np.bool_]) -> bool:
    """Tell whether some connected parts are as large as letters and stand side by side."""
    import numpy as np

    parts = _parts(pixels)
    wide, high, area = parts[:, 2], parts[:, 3], parts[:, 4]
    like = (high >= _SHORTEST) & (high <= _LONGEST) & (wide <= _LONGEST) & (area >= _SHORTEST)
    parts = parts[like & (area <= 0.95 * wide * high)]
    if len(parts) > _MOST_PARTS:
        return False
    parts = parts[np.argsort(parts[:, 0], kind="stable")]
    return any(_beside(parts[at], parts[at + 1 : at + _NEIGHBOURS]) >= _LETTERS - 1 for at in range(len(parts)))


def _parts(pixels: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return left, top, width, height and area of the parts that are connected, also at corners, shape (parts, 5)."""
    import numpy as np

    edges = np.diff(np.pad(pixels, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    (row, left), right = np.nonzero(edges == 1), np.nonzero(edges == -1)[1]
    # runs of the next row that touch a run follow each other
    stride = pixels.shape[1] + 2
    first = np.searchsorted(row * stride + right, (row + 1) * stride + left, "left")
    number = np.maximum(np.searchsorted(row * stride + left, (row + 1) * stride + right, "right") - first, 0)
    above = np.repeat(np.arange(len(row)), number)
    below = np.arange(len(above)) - np.repeat(np.cumsum(number) - number, number) + np.repeat(first, number)
    part, before = np.arange(len(row)), None
    while before is None or (part != before).any():
        before = part.copy()
        lower = np.minimum(part[above], part[below])
        np.minimum.at(part, part[above], lower)
        np.minimum.at(part, part[below], lower)
        part = part[part[part]]
    names, part = np.unique(part, return_inverse=True)
    low, high = np.full((2, len(names)), 1 << 31), np.zeros((3, len(names)), np.int64)
    np.minimum.at(low[0], part, left)
    np.minimum.at(low[1], part, row)
    np.maximum.at(high[0], part, right)
    np.maximum.at(high[1], part, row + 1)
    np.add.at(high[2], part, right - left)
    return np.stack([low[0], low[1], high[0] - low[0], high[1] - low[1], high[2]], axis=1)


def _beside(one: NDArray[np.int64], others: NDArray[np.int64]) -> int:
    """Count parts to the right of one that are about as high, as low and not far away."""
    import numpy as np

    left, top, wide, high, _ = one
    lefts, tops, _, highs, _ = others.T
    common = np.minimum(top + high, tops + highs) - np.maximum(top, tops)
    return int(((common >= 0.6 * np.maximum(high, highs)) & (lefts - (left + wide) <= 6 * high)).sum())

"""Black out regions of decoded frames, in place."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .region import Boxes, Shape, compiled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["fill_boxes", "mask"]

_FEW: Final = 16
_LARGE: Final = 1 << 24
"""Bytes of an array with many boxes that are worth loading numba for."""


def mask(frames: NDArray[Any], regions: Iterable[Shape], fill: float | Sequence[float] = 0) -> None:
    """Black out regions in every frame, in place.

    Parameters
    ----------
    frames : ndarray, shape (frames, rows, columns[, samples]) or (rows, columns)
        Any type of numbers; need not be contiguous.
    regions : iterable of Region, Polygon or Bitmap
    fill : number or sequence of numbers
        What a masked pixel becomes, or one number for each sample.

    Raises
    ------
    TypeError
        If ``frames`` is no array.
    ValueError
        If its shape is another, it is read-only, or a number of ``fill`` does not fit.
    """
    import numpy as np

    if not isinstance(frames, np.ndarray):
        raise TypeError("frames must be a numpy array")
    if frames.ndim not in (2, 3, 4):
        raise ValueError("frames must have the shape (frames, rows, columns[, samples]) or (rows, columns)")
    if not frames.flags.writeable:
        raise ValueError("frames are read-only: mask a copy")
    if frames.ndim == 2:
        frames = frames[None]
    values = np.atleast_1d(fill)
    if values.ndim != 1 or len(values) not in (1, frames.shape[3] if frames.ndim == 4 else 1):
        raise ValueError("fill must be one number, or one for each sample")
    number, rows, columns = frames.shape[:3]
    try:
        typed = [frames.dtype.type(value) for value in values.tolist()]
    except OverflowError:
        typed = []
    if typed != values.tolist():
        raise ValueError(f"fill does not fit into {frames.dtype}")
    for first, last, boxes in compiled(regions, rows, columns, number):
        fill_boxes(frames[first:last], boxes, typed)


def fill_boxes(frames: NDArray[Any], boxes: Boxes, values: Sequence[Any] | NDArray[Any]) -> None:
    """Set every pixel of the boxes in frames (frames, rows, columns[, samples]); ``values`` are one or one a sample."""
    import numpy as np

    one = all([value == values[0] for value in values])
    if one and len(boxes) > _FEW and frames.flags.c_contiguous and ("numba" in sys.modules or frames.nbytes >= _LARGE):
        from .fast import machine_code

        if (store := machine_code(_store)) is not None:
            starts, ends = _flat(boxes, frames.shape[2], frames[0, 0, 0].size)
            store(frames.reshape(len(frames), -1), starts, ends, frames.dtype.type(values[0]))
            return
    # whole rows of a colour, since numpy stores one pixel at a time otherwise
    row = None if one else np.broadcast_to(np.array(values, frames.dtype), frames.shape[2:]).copy()
    for top, bottom, left, right in boxes:
        frames[:, top:bottom, left:right] = values[0] if row is None else row[left:right]


@lru_cache(maxsize=16)
def _flat(boxes: Boxes, columns: int, samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the rows of boxes begin and end in a frame, counted in samples."""
    import numpy as np

    top, bottom, left, right = np.array(boxes, np.int64).T
    of = np.repeat(np.arange(len(boxes)), bottom - top)
    first = np.cumsum(bottom - top) - (bottom - top)
    row = np.arange(len(of)) - first[of] + top[of]
    order = np.argsort(row, kind="stable")
    return ((row * columns + left[of]) * samples)[order], ((row * columns + right[of]) * samples)[order]


def _store(frames: Any, starts: Any, ends: Any, value: Any) -> None:
    """Store frame by frame, which memory likes better than box by box."""
    for frame in range(len(frames)):
        for at in range(len(starts)):
            frames[frame, starts[at] : ends[at]] = value

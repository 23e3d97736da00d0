"""Black out regions of decoded frames, in place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from .region import Boxes, Shape, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fill_boxes", "mask"]


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
    values = np.atleast_1d(np.asarray(fill))
    if values.ndim != 1 or values.size not in (1, frames.shape[3] if frames.ndim == 4 else 1):
        raise ValueError("fill must be one number, or one for each sample")
    if not np.array_equal(values.astype(frames.dtype), values):
        raise ValueError(f"fill does not fit into {frames.dtype}")
    number, rows, columns = frames.shape[:3]
    for first, last, boxes in compiled(regions, rows, columns, number):
        fill_boxes(frames[first:last], boxes, values)


def fill_boxes(frames: NDArray[Any], boxes: Boxes, values: NDArray[Any]) -> None:
    """Set every pixel of the boxes in frames (frames, rows, columns[, samples]); ``values`` are one or one a sample."""
    import numpy as np

    if values.size == 1 or (values == values[0]).all():
        one = frames.dtype.type(values[0])
        for top, bottom, left, right in boxes:
            frames[:, top:bottom, left:right] = one
        return
    # whole rows of the colour, since numpy stores one pixel at a time otherwise
    row = np.broadcast_to(values.astype(frames.dtype), frames.shape[2:]).copy()
    for top, bottom, left, right in boxes:
        frames[:, top:bottom, left:right] = row[left:right]

"""Make pictures of frames for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from .region import Boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .layout import Layout

__all__ = ["outlined", "picture", "sheet"]

_OUTLINE: Final = (255, 64, 0)
_GAP: Final = 4


def picture(
    frame: NDArray[Any], layout: Layout, span: tuple[float, float], palette: tuple[int, NDArray[np.uint8]] | None = None
) -> NDArray[np.uint8]:
    """Return a frame as a viewer might show it.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns[, samples])
        Stored values.
    layout : Layout
    span : (number, number)
        Grey values to show as darkest and brightest.
    palette : (int, ndarray of uint8 of shape (entries, 3)), optional
        Stored value of the first colour of a PALETTE COLOR image, and the colours; beyond their ends the last one.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
    """
    if palette is not None:
        first, colours = palette
        return colours[np.clip(frame.astype(np.int64) - first, 0, len(colours) - 1)]
    if frame.ndim == 3:
        samples = (frame >> max(0, layout.stored - 8)).astype(np.uint8)
        ybr = layout.photometric.startswith(("YBR_FULL", "YBR_PARTIAL"))
        return (
            np.asarray(Image.frombytes("YCbCr", samples.shape[1::-1], samples.tobytes()).convert("RGB"))
            if ybr
            else samples
        )
    low, high = span
    values = np.clip(np.nan_to_num(frame.astype(np.float64)), low, high)
    grey = ((values - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    if layout.photometric == "MONOCHROME1":
        grey = 255 - grey
    return np.repeat(grey[..., None], 3, axis=2)


def outlined(shown: NDArray[np.uint8], boxes: Boxes) -> NDArray[np.uint8]:
    """Draw the border of what boxes cover."""
    covered = np.zeros(np.add(shown.shape[:2], 2), bool)
    for top, bottom, left, right in boxes:
        covered[top + 1 : bottom + 1, left + 1 : right + 1] = True
    inside = covered[:-2, 1:-1] & covered[2:, 1:-1] & covered[1:-1, :-2] & covered[1:-1, 2:]
    border = covered[1:-1, 1:-1] & ~inside
    drawn = shown.copy()
    drawn[border] = _OUTLINE
    return drawn


def sheet(pictures: list[NDArray[np.uint8]]) -> Image.Image:
    """Put pictures of one size side by side, as square as they go."""
    rows, columns = pictures[0].shape[:2]
    across = int(np.ceil(np.sqrt(len(pictures))))
    down = -(-len(pictures) // across)
    whole = Image.new("RGB", (across * (columns + _GAP) - _GAP, down * (rows + _GAP) - _GAP), (128, 128, 128))
    for number, one in enumerate(pictures):
        whole.paste(Image.fromarray(one), (number % across * (columns + _GAP), number // across * (rows + _GAP)))
    return whole

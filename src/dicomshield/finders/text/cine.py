"""Pictures that stand for the frames of a cine, made while frame after frame passes by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from .views import evened, values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .views import Palette

__all__ = ["FEW", "Many", "pictures"]

FEW: Final = 8
"""Up to so many frames are looked at one by one: fewer do not tell what is usual in them."""
_BLOCK: Final = 16
_USUAL: Final = 0.75
_FAINT: Final = 0.05
_ODD: Final = 2.0
_ALSO: Final = 1.6
_LARGEST: Final = 1e30


class Many(Protocol):
    """Frames of one size, each of which is made when it is asked for."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return stored values, shape (rows, columns[, samples])."""


def pictures(
    frames: Many, photometric: str, palette: Palette | None, bits: int | None, *, every: bool
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.bool_] | None]]:
    """Return what is to be looked at in place of the frames.

    Speckle and flow hardly leave a trace in the mean of many frames. Text does that is there in a quarter of them, and
    so do digits that change, by the strokes they share. Text that is there for less makes the blocks of pixels it
    lies in much sharper than they usually are.

    Parameters
    ----------
    frames : Many
    photometric, palette, bits
        As for `views.values`.
    every : bool
        Whether to return each frame, and not fewer pictures of many.

    Yields
    ------
    picture : ndarray of float32, shape (rows, columns, planes)
        A frame; or the mean of all, and then each block as it is in the frame where it is sharpest. As `views.evened`
        returns it, and kept nowhere else: it is most of the memory that a large frame takes.
    where : ndarray of bool, shape (rows, columns), or None
        Which of its pixels are to be looked at, None for all.
    """
    if every or len(frames) <= FEW:
        for at in range(len(frames)):
            yield evened(values(frames[at], photometric, palette, bits)), None
        return
    shown = (values(frames[at], photometric, palette, bits) for at in range(len(frames)))
    first = next(shown)
    total, sharpest, sharpness = first.astype(np.float64), first.copy(), [_sharpness(first)]
    most = sharpness[0].copy()
    for frame in shown:
        total += frame
        sharp = _sharpness(frame)
        for row, column in np.argwhere(sharp > most):
            block = np.s_[row * _BLOCK : (row + 1) * _BLOCK, column * _BLOCK : (column + 1) * _BLOCK]
            sharpest[block] = frame[block]
        np.maximum(most, sharp, out=most)
        sharpness.append(sharp)
    yield evened((total / len(frames)).astype(np.float32)), None
    odd = _odd(np.stack(sharpness))
    if odd.any():
        yield evened(sharpest), odd.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[: first.shape[0], : first.shape[1]]


def _sharpness(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much is drawn in each block, in the plane that has most."""
    import cv2

    fine = cv2.absdiff(frame, cv2.blur(frame, (5, 5)).reshape(frame.shape))
    rows, columns = (-(-size // _BLOCK) for size in frame.shape[:2])
    below, right = rows * _BLOCK - frame.shape[0], columns * _BLOCK - frame.shape[1]
    fine = cv2.copyMakeBorder(fine, 0, below, 0, right, cv2.BORDER_REFLECT)
    blocks = np.asarray(cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    most = blocks.reshape(rows, columns, -1).max(axis=2)
    finite: NDArray[np.float32] = np.nan_to_num(np.minimum(most, np.float32(_LARGEST)))
    return finite


def _odd(sharpness: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which blocks are much sharper in one frame than in most, and those beside them.

    Parameters
    ----------
    sharpness : ndarray of float32, shape (frames, rows, columns)
    """
    import cv2

    usual = np.quantile(sharpness, _USUAL, axis=0, method="lower") + _FAINT * sharpness.mean()
    times = sharpness.max(axis=0) / np.maximum(usual, 1e-30)
    parts = cv2.connectedComponents((times > _ALSO).astype(np.uint8), connectivity=8)[1]
    parts[~np.isin(parts, parts[times > _ODD])] = 0
    return cv2.dilate((parts > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0

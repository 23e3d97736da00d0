"""Pictures that stand for the frames of a cine, made while frame after frame passes by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from .views import values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .views import Palette

__all__ = ["FEW", "Many", "pictures"]

FEW: Final = 4
"""Up to so many frames are looked at one by one."""
_KEPT_FRAMES: Final = 9
_KEPT_BYTES: Final = 1 << 26
_BLOCK: Final = 16


class Many(Protocol):
    """Frames of one size, each of which is made when it is asked for."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, number: int) -> NDArray[Any]:
        """Return stored values, shape (rows, columns[, samples])."""


def pictures(
    frames: Many, photometric: str, palette: Palette | None, bits: int | None, *, every: bool
) -> Iterator[NDArray[np.float32]]:
    """Return what is to be looked at in place of the frames.

    Parameters
    ----------
    frames : Many
    photometric, palette, bits
        As for `views.values`.
    every : bool
        Whether to return each frame, and not fewer pictures of many.

    Yields
    ------
    ndarray of float32, shape (rows, columns, planes)
        The brightest and the middle value that each pixel ever has; and what is drawn sharpest, place by place:
        text that is shown only for a while is in it, wherever it is sharper than what is there at other times.
    """
    shown = (values(frames[at], photometric, palette, bits) for at in range(len(frames)))
    if every or len(frames) <= FEW:
        yield from shown
        return
    first = next(shown)
    step = -(-len(frames) // min(_KEPT_FRAMES, max(3, _KEPT_BYTES // first.nbytes)))
    kept = [first]
    brightest, sharpest, sharpness = first.copy(), first.copy(), _sharpness(first)
    for number, frame in enumerate(shown, start=1):
        if number % step == 0:
            kept.append(frame)
        np.maximum(brightest, frame, out=brightest)
        sharp = _sharpness(frame)
        better = sharp > sharpness
        sharpness = np.where(better, sharp, sharpness)
        here = better.repeat(_BLOCK, axis=0).repeat(_BLOCK, axis=1)[: frame.shape[0], : frame.shape[1]]
        np.copyto(sharpest, frame, where=here[..., None])
    yield sharpest
    yield brightest
    yield np.median(kept, axis=0)


def _sharpness(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return how much is drawn in each block of pixels and those around it."""
    import cv2

    flat = frame.max(axis=2)
    fine = np.abs(flat - cv2.blur(flat, (5, 5)))
    rows, columns = (-(-size // _BLOCK) for size in flat.shape)
    below, right = rows * _BLOCK - flat.shape[0], columns * _BLOCK - flat.shape[1]
    fine = cv2.copyMakeBorder(fine, 0, below, 0, right, cv2.BORDER_REFLECT)
    blocks = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA)
    around: NDArray[np.float32] = cv2.blur(blocks, (3, 3))
    return around

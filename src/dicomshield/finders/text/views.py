"""Pictures of stored values in which text stands out, whatever it was drawn on.

The window of the header hides text, and so does any other single window: contrast is judged against the
neighbourhood of each pixel, at the depth the values were stored with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "Palette",
    "brightest",
    "coloured",
    "contrasts",
    "darkest",
    "evened",
    "levels",
    "local",
    "scaled",
    "values",
    "windowed",
]

Palette = tuple[int, "NDArray[Any]"]
"""Stored value of the first colour, and red, green and blue of all colours, shape (entries, 3)."""

_SAMPLE: Final = 1 << 18
_GAP: Final = 0.1
_LEVELS: Final = 16
_COLOURED: Final = 0.06
_STRAY: Final = 8
"""So few pixels with colour are noise."""
_GAIN: Final = 45
_QUIETER: Final = 0.5
_EPSILON: Final = 0.01
_STRIP: Final = 1 << 20
_LARGEST: Final = 1e36
"""So that no sum of a neighbourhood overflows a float32."""
_WINDOW: Final = 31
_WINDOWS: Final = (9, 31, 101)
"""Sides of neighbourhoods in pixels, odd."""


def values(
    frame: NDArray[Any], photometric: str, palette: Palette | None = None, bits: int | None = None
) -> NDArray[np.float32]:
    """Return what a frame shows: grey, or red, green and blue; every number finite.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns[, samples])
        Stored values of any type.
    photometric : str
        Photometric Interpretation; how components are to be understood.
    palette : Palette, optional
        Of a PALETTE COLOR image.
    bits : int, optional
        Bits Stored: bits above them are no part of the picture.

    Returns
    -------
    ndarray of float32, shape (rows, columns, planes)
        In the unit of the stored values, or of the palette.
    """
    stored = frame[..., None] if frame.ndim == 2 else frame
    if bits is not None and stored.dtype.kind in "iu":
        stored = _within(stored, bits)
    if palette is not None:
        first, colours = palette
        stored = colours[np.clip(stored[..., 0].astype(np.int64) - first, 0, len(colours) - 1)]
    if stored.dtype == np.float64:
        largest = np.abs(stored[np.isfinite(stored)]).max(initial=0)
        stored = stored / max(1.0, largest / _LARGEST)
    shown = stored.astype(np.float32)
    if photometric.startswith(("YBR_FULL", "YBR_PARTIAL")) and shown.shape[2] == 3:
        shown = _rgb(shown, bits or 8)
    finite = np.isfinite(shown)
    if not finite.all():
        shown[~finite] = np.median(shown[finite]) if finite.any() else 0
    return shown


def _within(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """Drop the bits above ``bits``, and repeat the sign."""
    above = values.dtype.itemsize * 8 - bits
    return (values << above) >> above if 0 < above < values.dtype.itemsize * 8 else values


def _rgb(ybr: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Convert by PS3.3 C.7.6.3.1.2; the narrower range of YBR_PARTIAL only changes contrast."""
    middle = np.float32(1 << (bits - 1))
    matrix = np.array([[1, 1, 1], [0, -0.344136, 1.772], [1.402, -0.714136, 0]], np.float32)
    rgb: NDArray[np.float32] = (ybr - np.array([0, middle, middle], np.float32)) @ matrix
    return rgb


def evened(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bring values to one scale, without the gaps that no pixel's value lies in.

    Between padding and the field of view, or between a picture and the text upon it, there can be a step of a
    thousand times the rest, which would leave no contrast to what lies beside it.

    Parameters
    ----------
    shown : ndarray of float32, shape (rows, columns, planes)
        As `values` returns it; overwritten.

    Returns
    -------
    ndarray of float32, shape (rows, columns, planes)
        Most of it between 0 and 1; three planes if there is colour in it, else one.
    """
    step = max(1, round((shown.size / _SAMPLE) ** 0.5))
    np.clip(shown, -_LARGEST, _LARGEST, out=shown)
    some = shown[::step, ::step]
    levels = np.unique(np.append(some.ravel(), [shown.min(), shown.max()])).astype(np.float64)
    gaps = np.diff(levels)
    span = _spread(some) or levels[-1] - levels[0] or 1.0
    if len(levels) > _LEVELS and (gaps > span * _GAP).any():
        short = np.minimum(gaps, span * _GAP)
        wide = np.flatnonzero(gaps > short)
        knots = np.unique([0, len(levels) - 1, *wide, *(wide + 1)])
        moved = np.append(0, np.cumsum(short))
        for row in shown:
            row[...] = np.interp(row, levels[knots], moved[knots])
        span = _spread(shown[::step, ::step]) or moved[-1]
    shown -= shown.min()
    shown /= np.float32(span)
    return shown if shown.shape[2] == 1 or coloured(shown).sum() > _STRAY else shown.mean(axis=2, keepdims=True)


def _spread(some: NDArray[np.float32]) -> float:
    low, high = np.percentile(some, [1, 99]).astype(np.float64)
    return float(high - low)


def coloured(even: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where planes that `evened` returns differ by more than noise makes, shape (rows, columns)."""
    return np.asarray(brightest(even) - darkest(even) > _COLOURED, np.bool_)


def scaled(even: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    """Return planes made smaller, ``scale`` being at most 1."""
    import cv2

    if scale == 1:
        return even
    size = max(1, round(even.shape[1] * scale)), max(1, round(even.shape[0] * scale))
    smaller = cv2.resize(even, size, interpolation=cv2.INTER_AREA)
    return np.asarray(smaller, np.float32).reshape(*size[::-1], even.shape[2])


def local(shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return how far each pixel is from the mean of its neighbourhood, in its standard deviations; 127 is the mean.

    Parameters
    ----------
    shown : ndarray of float32, shape (rows, columns, planes)
        As `evened` returns it.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, planes)
    """
    rows, columns = shown.shape[:2]
    seen = np.empty(shown.shape, np.uint8)
    high = max(_WINDOW, _STRIP // (columns * shown.shape[2]))
    for top in range(0, rows, high):
        first = max(0, top - _WINDOW)
        strip = shown[first : top + high + _WINDOW]
        mean, deviation = _quietest(strip)
        away = (strip - mean) * (np.float32(_GAIN) / (deviation + np.float32(_EPSILON))) + np.float32(127)
        seen[top : top + high] = np.clip(away, 0, 255)[top - first : top - first + high]
    return seen


def _quietest(strip: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation around each pixel, or in a much quieter neighbourhood that holds it.

    As in the filter of Kuwahara et al. (1976): near the edge of a plate or of the field of view, text is judged against
    what it lies on, and not against the step beside it.
    """
    best_mean, least = _around(strip, _WINDOW)
    for side, quieter in ((_WINDOW, _QUIETER), (_WINDOW // 3 | 1, _QUIETER**2)):
        mean, deviation = _around(strip, side)
        aside = side // 3
        for down, across in ((aside, 0), (-aside, 0), (0, aside), (0, -aside)):
            here, there = _moved(strip.shape, down, across)
            better = deviation[there] < quieter * least[here]
            np.copyto(least[here], deviation[there], where=better)
            np.copyto(best_mean[here], mean[there], where=better)
    return best_mean, least


def _around(strip: NDArray[np.float32], window: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation around each pixel; planes share a deviation, which keeps their hue."""
    import cv2

    mean = np.asarray(cv2.blur(strip, (window, window)), np.float32).reshape(strip.shape)
    square = cv2.blur(strip * strip, (window, window)).reshape(strip.shape)
    return mean, np.sqrt(np.maximum(brightest(square - mean * mean), np.float32(0)))[..., None]


def _moved(shape: tuple[int, ...], down: int, across: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the part of an array that has a neighbour so far away, and these neighbours."""
    here, there = [], []
    for size, shift in zip(shape, (down, across), strict=False):
        here.append(slice(max(0, -shift), max(0, min(size, size - shift))))
        there.append(slice(max(0, shift), max(0, min(size, size + shift))))
    return (here[0], here[1]), (there[0], there[1])


def brightest(planes: NDArray[Any]) -> NDArray[Any]:
    """Return the highest value of each pixel, shape (rows, columns); much faster than a maximum over a short axis."""
    return _extreme(np.maximum, planes)


def darkest(planes: NDArray[Any]) -> NDArray[Any]:
    """Return the lowest value of each pixel, shape (rows, columns)."""
    return _extreme(np.minimum, planes)


def _extreme(choose: np.ufunc, planes: NDArray[Any]) -> NDArray[Any]:
    first, *others = np.moveaxis(planes, 2, 0)
    found: NDArray[Any] | None = None
    for plane in others:
        found = choose(first if found is None else found, plane, out=found)
    return first if found is None else found


def levels(plane: NDArray[np.float32]) -> tuple[float, float]:
    """Return the middle of the values of an image, and their span, for `contrasts`."""
    step = max(1, round((plane.size / _SAMPLE) ** 0.5))
    low, high = (float(at) for at in np.percentile(plane[::step, ::step], [0.5, 99.5]))
    return (low + high) / 2, max(high - low, 0.1 * float(plane.max() - plane.min()), 1e-6)


def contrasts(tile: NDArray[np.float32], middle: float, span: float) -> NDArray[np.uint8]:
    """Return what tells ink from what it was drawn on, in six ways.

    Contrast to three neighbourhoods; how much of it there is at all; the value itself, because a line of text has one
    throughout, whatever it crosses; and contrast to the quietest neighbourhood, which the edge of a plate is not in.

    Parameters
    ----------
    tile : ndarray of float32, shape (rows, columns)
        Of one of the planes that `evened` returns.
    middle, span : float
        What `levels` returns for the plane.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 6)
    """
    import cv2

    level = (tile - np.float32(middle)) / np.float32(span)
    seen = np.empty((*tile.shape, 6), np.uint8)
    square = level * level
    for at, window in enumerate(_WINDOWS):
        mean = cv2.blur(level, (window, window))
        deviation = np.sqrt(np.maximum(cv2.blur(square, (window, window)) - mean * mean, 0))
        seen[..., at] = _byte((level - mean) / (deviation + np.float32(0.004)) / np.float32(4))
        if at == 1:
            seen[..., 3] = _byte(
                (np.log2(deviation + np.float32(0.001)) / np.float32(4) + np.float32(1)) / np.float32(4)
            )
    seen[..., 4] = _byte(level)
    mean, deviation = (values[..., 0] for values in _quietest(level[..., None]))
    seen[..., 5] = _byte((level - mean) / (deviation + np.float32(_EPSILON)) / np.float32(4))
    return seen


def _byte(share: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return -1 to 1 as 0 to 255."""
    level = share * np.float32(127.5)
    level += np.float32(128)
    np.clip(level, 0, 255, out=level)
    return level.astype(np.uint8)


def windowed(shown: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the picture between its lowest and highest tenth of a percent; shapes as for `local`."""
    step = max(1, round((shown.size / _SAMPLE) ** 0.5))
    low, high = np.percentile(shown[::step, ::step], [0.1, 99.9])
    return np.asarray(np.clip((shown - np.float32(low)) * np.float32(255 / max(high - low, 1e-6)), 0, 255), np.uint8)

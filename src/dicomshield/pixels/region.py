"""What to black out: rectangles, polygons and bitmaps, compiled once into boxes of whole pixels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Bitmap", "Box", "Boxes", "Outside", "Plan", "Polygon", "Region", "Shape", "compiled"]

_ALL: Final = 1 << 31


class Box(NamedTuple):
    """Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, both half-open, inside the frame."""

    top: int
    bottom: int
    left: int
    right: int


Boxes = tuple[Box, ...]
"""Disjoint boxes, from the top down and then from the left."""


@dataclass(frozen=True)
class Region:
    """A rectangle of the stored frame, 0-based and half-open.

    Attributes
    ----------
    top, left, bottom, right : int
        Rows ``top`` to ``bottom`` and columns ``left`` to ``right``, in pixels. A negative number counts from the
        bottom or right border; what lies beyond the frame is cut off.
    frames : (int, int), optional
        First frame and the one after the last, 0-based; all if not given.

    Raises
    ------
    ValueError
        If it can hold no pixel.
    """

    top: int
    left: int
    bottom: int
    right: int
    frames: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        for low, high in ((self.top, self.bottom), (self.left, self.right)):
            if low >= high and (low < 0) == (high < 0):
                raise ValueError("a region needs top < bottom and left < right")

    @classmethod
    def parse(cls, text: str) -> Region:
        """Read ``x,y,width,height`` in pixels, as on the command line.

        Raises
        ------
        ValueError
            If it is not four whole numbers, or width or height is not positive.
        """
        try:
            x, y, width, height = (int(number) for number in text.split(","))
        except ValueError:
            raise ValueError("a region is x,y,width,height in pixels, such as 0,0,640,40") from None
        return cls.at(x, y, width, height)

    @classmethod
    def at(cls, x: int, y: int, width: int, height: int, frames: tuple[int, int] | None = None) -> Region:
        """Return the region of ``width`` columns and ``height`` rows whose first pixel is column ``x`` of row ``y``.

        Negative ``x`` and ``y`` count from the right and bottom border.

        Raises
        ------
        ValueError
            If width or height is not positive.
        """
        if width < 1 or height < 1:
            raise ValueError("width and height of a region must be positive")
        bottom, right = (
            start + length if start >= 0 or start + length < 0 else _ALL for start, length in ((y, height), (x, width))
        )
        return cls(y, x, bottom, right, frames)

    def _box(self, rows: int, columns: int) -> Box:
        top, bottom = (_inside(at, rows) for at in (self.top, self.bottom))
        left, right = (_inside(at, columns) for at in (self.left, self.right))
        return Box(top, max(top, bottom), left, max(left, right))


@dataclass(frozen=True)
class Polygon:
    """A polygon on the stored frame; every pixel it touches is meant.

    Attributes
    ----------
    vertices : tuple of (float, float)
        Row and column of each corner, in pixels; pixel (0, 0) reaches from 0.0 to 1.0.
    frames : (int, int), optional
        As for `Region`.

    Raises
    ------
    ValueError
        If there are fewer than three corners, or one is no finite number.
    """

    vertices: tuple[tuple[float, float], ...]
    frames: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        if len(self.vertices) < 3 or not all(abs(at) < _ALL for vertex in self.vertices for at in vertex):
            raise ValueError("a polygon needs three corners or more, each (row, column)")

    def _draw(self, canvas: NDArray[np.bool_]) -> None:
        """Set every pixel whose square the polygon touches: its edges, and what lies between them by the even-odd rule.

        Between two heights where no corner and no border of a row lies, edges keep their order.
        """
        import numpy as np

        rows, columns = canvas.shape
        ends = np.array([self.vertices, (*self.vertices[1:], self.vertices[0])], np.float64)
        order = np.argsort(ends[:, :, 0], axis=0)[:, :, None]
        (top, left), (bottom, right) = np.take_along_axis(ends, order, axis=0).transpose(0, 2, 1)
        marks = np.zeros((rows, columns + 1), np.int32)

        def mark(row: NDArray[np.int64], begin: NDArray[np.float64], end: NDArray[np.float64]) -> None:
            seen = (end >= 0) & (begin < columns)
            row, begin, end = row[seen], np.clip(begin[seen], 0, None), np.clip(end[seen], None, columns - 1)
            np.add.at(marks, (row, begin.astype(np.int64)), 1)
            np.add.at(marks, (row, end.astype(np.int64) + 1), -1)

        def along(height: NDArray[np.float64], edge: int | slice = slice(None)) -> NDArray[np.float64]:
            """Return the columns of edges at heights that they reach; elsewhere it does not matter."""
            with np.errstate(all="ignore"):
                part = np.clip((height - top[edge]) / (bottom[edge] - top[edge]), 0, 1)
            at_height: NDArray[np.float64] = left[edge] + part * (right[edge] - left[edge])
            return at_height

        for edge in range(len(top)):
            row = np.arange(max(0, math.floor(top[edge])), min(rows, math.floor(bottom[edge]) + 1))
            at = [np.full(len(row), left[edge]), np.full(len(row), right[edge])]
            if top[edge] < bottom[edge]:
                at = [along(np.clip(row + more, top[edge], bottom[edge]), edge) for more in (0, 1)]
            mark(row, np.minimum(*at), np.maximum(*at))
        heights = ends[0, :, 0]
        levels = np.unique([*range(rows + 1), *heights[(heights > 0) & (heights < rows)]])
        middle = ((levels[:-1] + levels[1:]) / 2)[:, None]
        crossings = np.where((top <= middle) & (middle < bottom), along(middle), np.nan)
        crossings.sort(axis=1)
        for pair in range(0, len(top) - 1, 2):
            whole = ~np.isnan(crossings[:, pair + 1])
            mark(middle[whole, 0].astype(np.int64), crossings[whole, pair], crossings[whole, pair + 1])
        canvas |= np.cumsum(marks[:, :-1], axis=1) > 0


@dataclass(frozen=True, eq=False)
class Bitmap:
    """Any set of pixels of the stored frame.

    Attributes
    ----------
    pixels : ndarray of bool, shape (rows, columns)
        ``True`` where the frame is to be blacked out; must be as large as the frame. Copied.
    frames : (int, int), optional
        As for `Region`.
    """

    pixels: NDArray[np.bool_]
    frames: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        if self.pixels.ndim != 2 or self.pixels.dtype != bool:
            raise ValueError("a bitmap is an array of bool of shape (rows, columns)")
        # what was compiled once holds as long as this does
        own = self.pixels.copy()
        own.flags.writeable = False
        object.__setattr__(self, "pixels", own)

    def __repr__(self) -> str:
        # numpy leaves most of an array out, and the digest of a profile is made of this
        digest = hashlib.sha256(self.pixels.tobytes()).hexdigest()[:16]
        return f"Bitmap({self.pixels.shape}, {digest}, {self.frames})"


@dataclass(frozen=True)
class Outside:
    """Everything outside some rectangles.

    Attributes
    ----------
    regions : tuple of Region
        What stays, in every frame; their own ``frames`` mean nothing here.
    frames : (int, int), optional
        As for `Region`.
    """

    regions: tuple[Region, ...]
    frames: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        _check_frames(self.frames)

    def _around(self, rows: int, columns: int) -> Boxes:
        kept = [box for region in self.regions if (box := region._box(rows, columns)).left < box.right]
        levels = sorted({0, rows, *(at for box in kept for at in (box.top, box.bottom))})
        bands = []
        for top, bottom in pairwise(levels):
            at, spans = 0, []
            for left, right in sorted((box.left, box.right) for box in kept if box.top <= top < box.bottom):
                spans += [(at, left)] if at < left else []
                at = max(at, right)
            bands.append((top, bottom, (*spans, *([(at, columns)] if at < columns else []))))
        return _stacked(bands)


Shape = Region | Polygon | Bitmap | Outside


class Plan(NamedTuple):
    """Frames ``first`` to ``last`` (half-open) share these boxes."""

    first: int
    last: int
    boxes: Boxes


def compiled(shapes: Iterable[Shape], rows: int, columns: int, frames: int) -> tuple[Plan, ...]:
    """Turn shapes into disjoint boxes, for each run of frames that share them.

    Parameters
    ----------
    shapes : iterable of Region, Polygon, Bitmap or Outside
    rows, columns, frames : int
        Of the image.

    Returns
    -------
    tuple of Plan
        Covers every frame once, in order; frames without a mask have no boxes.

    Raises
    ------
    ValueError
        If a bitmap is not as large as the frame.
    """
    return _compiled(tuple(shapes), rows, columns, frames)


@lru_cache(maxsize=64)
def _compiled(shapes: tuple[Shape, ...], rows: int, columns: int, frames: int) -> tuple[Plan, ...]:
    cuts = {0, frames}
    for shape in shapes:
        cuts |= {min(at, frames) for at in shape.frames or ()}
    borders = sorted(cuts)
    plans: list[Plan] = []
    for first, last in pairwise(borders):
        active = [shape for shape in shapes if shape.frames is None or shape.frames[0] <= first < shape.frames[1]]
        boxes = _boxes(active, rows, columns)
        if plans and plans[-1].boxes == boxes:
            plans[-1] = plans[-1]._replace(last=last)
        else:
            plans.append(Plan(first, last, boxes))
    return tuple(plans)


def _boxes(shapes: Sequence[Shape], rows: int, columns: int) -> Boxes:
    boxes = [shape._box(rows, columns) for shape in shapes if isinstance(shape, Region)]
    boxes = [box for box in boxes if box.top < box.bottom and box.left < box.right]
    boxes += [box for shape in shapes if isinstance(shape, Outside) for box in shape._around(rows, columns)]
    if all(isinstance(shape, Region | Outside) for shape in shapes):
        return _union(boxes)
    import numpy as np

    canvas = np.zeros((rows, columns), bool)
    for top, bottom, left, right in boxes:
        canvas[top:bottom, left:right] = True
    for shape in shapes:
        if isinstance(shape, Polygon):
            shape._draw(canvas)
        elif isinstance(shape, Bitmap):
            if shape.pixels.shape != canvas.shape:
                raise ValueError(f"a bitmap of {shape.pixels.shape} does not fit frames of {canvas.shape}")
            canvas |= shape.pixels
    edges = np.diff(np.pad(canvas, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lines: dict[int, list[tuple[int, int]]] = {}
    for row, left, right in zip(*np.nonzero(edges == 1), np.nonzero(edges == -1)[1], strict=True):
        lines.setdefault(int(row), []).append((int(left), int(right)))
    return _stacked([(row, row + 1, tuple(spans)) for row, spans in lines.items()])


def _union(boxes: Sequence[Box]) -> Boxes:
    """Divide overlapping boxes into disjoint ones."""
    levels = sorted({at for box in boxes for at in (box.top, box.bottom)})
    bands = []
    for top, bottom in pairwise(levels):
        spans: list[tuple[int, int]] = []
        for left, right in sorted((box.left, box.right) for box in boxes if box.top <= top < box.bottom):
            if spans and left <= spans[-1][1]:
                spans[-1] = (spans[-1][0], max(spans[-1][1], right))
            else:
                spans.append((left, right))
        bands.append((top, bottom, tuple(spans)))
    return _stacked(bands)


def _stacked(bands: Iterable[tuple[int, int, tuple[tuple[int, int], ...]]]) -> Boxes:
    """Join bands of rows with the same spans, and return their boxes."""
    joined: list[tuple[int, int, tuple[tuple[int, int], ...]]] = []
    for top, bottom, spans in bands:
        if joined and joined[-1][1] == top and joined[-1][2] == spans:
            joined[-1] = (joined[-1][0], bottom, spans)
        else:
            joined.append((top, bottom, spans))
    return tuple(Box(top, bottom, left, right) for top, bottom, spans in joined for left, right in spans)


def _inside(at: int, size: int) -> int:
    return min(max(at + size if at < 0 else at, 0), size)


def _check_frames(frames: tuple[int, int] | None) -> None:
    if frames is not None and not 0 <= frames[0] < frames[1]:
        raise ValueError("frames are (first, one after the last), 0-based")

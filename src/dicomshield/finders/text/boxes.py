"""Lines of text: rectangles at any angle, from what a network says of pixels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ...pixels.region import Polygon, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Line", "Span", "areas", "canvas", "lines", "merged", "shape", "share", "undecided", "written"]

Span = tuple[int, int]
"""The first row or column, and the one after the last."""
_BLOCK: Final = 16
_NEAR: Final = 1
_LEAST: Final = 4
_LOW: Final = 0.3
_SCORE: Final = 0.5
_UNCLIP: Final = 1.6
_END: Final = 12.0
_MARGIN: Final = 2.0
_WHOLE: Final = 48
_FULL: Final = 0.75
_ABOUT: Final = 40
_ANY: Final = 31
_SNAP: Final = 4.0


class Line(NamedTuple):
    """A rectangle around text, in pixels of the frame; pixel (0, 0) reaches from 0.0 to 1.0.

    Attributes
    ----------
    x, y : float
        Column and row of its centre.
    length, height : float
        Along the text, and across it.
    angle : float
        Degrees by which the text is turned, clockwise on the screen.
    """

    x: float
    y: float
    length: float
    height: float
    angle: float

    @property
    def upright(self) -> bool:
        """Whether it is parallel to the frame."""
        return self.angle % 90 == 0

    @property
    def reach(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the smallest upright box around it."""
        cosine, sine = (abs(at) for at in _turn(self.angle))
        across, down = (self.length * cosine + self.height * sine) / 2, (self.length * sine + self.height * cosine) / 2
        return self.x - across, self.y - down, self.x + across, self.y + down

    def scaled(self, factor: float) -> Line:
        """Return it on a frame ``factor`` times as large."""
        return Line(self.x * factor, self.y * factor, self.length * factor, self.height * factor, self.angle)

    def beside(self, along: float, across: float, length: float, height: float) -> Line:
        """Return a rectangle in parallel, whose centre lies so far from this one's along the text, and across it."""
        cosine, sine = _turn(self.angle)
        x, y = self.x + along * cosine - across * sine, self.y + along * sine + across * cosine
        return Line(x, y, length, height, self.angle)

    def wider(self, along: float, across: float) -> Line:
        """Return it with as many pixels more at each end, and above and below."""
        return self._replace(length=self.length + 2 * along, height=self.height + 2 * across)


class _Part(NamedTuple):
    """Connected pixels.

    Attributes
    ----------
    inside : ndarray of bool, shape (height, width)
        Of a box, which of its pixels they are.
    x, y : int
        Column and row of the box's first pixel.
    """

    inside: NDArray[np.bool_]
    x: int
    y: int

    @property
    def line(self) -> Line:
        """The smallest rectangle around them."""
        import cv2

        high, wide = self.inside.shape
        outline = cv2.findContours(self.inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        (x, y), (length, height), angle = cv2.minAreaRect(np.vstack(outline))
        if length < height:
            length, height, angle = height, length, angle + 90
        angle = (angle + 90) % 180 - 90
        near = round(angle / 90) * 90
        if abs(angle - near) <= _SNAP or length < 1.5 * (height + 1):
            return Line(
                self.x + wide / 2, self.y + high / 2, max(wide, high), min(wide, high), 90 if high > wide else 0
            )
        return Line(self.x + x + 0.5, self.y + y + 0.5, length + 1, height + 1, angle)


def lines(found: NDArray[np.uint8], ink: NDArray[np.uint8], heights: tuple[float, float]) -> list[Line]:
    """Return the lines of a map of line middles.

    The rectangle around each connected part is widened by its area over its perimeter, because networks of this kind
    are taught the middle of a line (Liao et al., Real-time scene text detection with differentiable binarization,
    2020, section 3.4).

    Parameters
    ----------
    found : ndarray of uint8, shape (rows, columns)
        Probabilities, 255 for 1.
    ink : ndarray of uint8, shape (rows, columns)
        Probabilities of ink, which count half: where letters are, a line may be less certain.
    heights : (float, float)
        Least and greatest short side of a line, in pixels.
    """
    kept = []
    both = np.minimum(found + (ink >> 1).astype(np.uint16), 255).astype(np.uint8)
    for part, probability in _parts(found, _LOW, judged=both):
        line = part.line
        more = line.length * line.height * _UNCLIP / (2 * (line.length + line.height))
        line = line.wider(more, more)
        if probability >= _SCORE and heights[0] <= line.height <= heights[1]:
            # the ends of a line are what is most often cut
            kept.append(line.wider(min(line.height / 2, _END), 0))
    return kept


def written(ink: NDArray[np.uint8], low: float, high: float, least: float) -> list[Line]:
    """Return letters and words of a map of ink: boxes that hide the shape of what they cover.

    Parameters
    ----------
    ink : ndarray of uint8, shape (rows, columns)
        Probabilities, 255 for 1.
    low, high : float
        The probability that each pixel of a part needs, and that one of them needs.
    least : float
        Least long side of a part, in pixels.
    """
    parts = ((part, part.line) for part, _ in _parts(ink, low, high))
    large = ((part, line) for part, line in parts if line.length >= least)
    return [piece.wider(_MARGIN, _MARGIN) for part, line in large for piece in _tight(part, line)]


def areas(where: NDArray[np.bool_]) -> list[tuple[Span, Span]]:
    """Return rows and columns of boxes around what is true, with a wide margin; boxes do not overlap."""
    import cv2

    rows, columns = where.shape
    whole = np.pad(where, ((0, -rows % _BLOCK), (0, -columns % _BLOCK)))
    blocks = whole.reshape(whole.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK).max(axis=(1, 3))
    near, number = cv2.dilate(blocks.astype(np.uint8), np.ones((2 * _NEAR + 1, 2 * _NEAR + 1), np.uint8)), 0
    while True:
        found = cv2.connectedComponentsWithStats(near, connectivity=8)[2][1:]
        if len(found) == number:
            break
        number = len(found)
        for left, top, width, height, _ in found:
            near[top : top + height, left : left + width] = 1
    return [
        (
            (int(top) * _BLOCK, min(rows, int(top + height) * _BLOCK)),
            (int(left) * _BLOCK, min(columns, int(left + width) * _BLOCK)),
        )
        for left, top, width, height, _ in found
    ]


def undecided(ink: NDArray[np.uint8], low: float, high: float) -> NDArray[np.bool_]:
    """Return where parts of a map of ink are that may be letters, and of which no pixel says that they are.

    Parameters
    ----------
    ink : ndarray of uint8, shape (rows, columns)
        Probabilities, 255 for 1.
    low, high : float
        The probability that each pixel of a part has, and that none of them has.
    """
    import cv2

    maybe = ink > low * 255
    for (top, bottom), (left, right) in areas(maybe):
        near, certain = maybe[top:bottom, left:right], ink[top:bottom, left:right] >= high * 255
        number, labels = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
        sure = np.zeros(number, np.bool_)
        sure[labels[certain]] = True
        near[sure[labels]] = False
    return maybe


def _tight(part: _Part, line: Line) -> Iterator[Line]:
    """Divide the rectangle around a part if much of it is empty, as of a curve, or of a word and a line it stands on.

    No box is so small that boxes could draw a letter: all are as high and wide as a letter may be, or as the part is.
    """
    near = line._replace(x=line.x - part.x, y=line.y - part.y)
    drawn = _upright(near, part.inside.astype(np.uint8) * 255) > _ANY
    for box in _pieces(drawn):
        (top, bottom), (left, right) = (_enough(*span, length) for span, length in zip(box, drawn.shape, strict=True))
        across, along = (top + bottom - drawn.shape[0]) / 2, (left + right - drawn.shape[1]) / 2
        piece = line.beside(along, across, right - left, bottom - top)
        long = piece.length >= piece.height
        yield piece if long else Line(piece.x, piece.y, piece.height, piece.length, piece.angle + 90)


def _enough(first: int, last: int, length: int) -> Span:
    """Return a span of a length that has what another has, and as much as a box needs if there is as much."""
    size = max(last - first, min(_WHOLE, length))
    first = min(max(0, first - (size - last + first) // 2), length - size)
    return first, first + size


def _pieces(drawn: NDArray[np.bool_], top: int = 0, left: int = 0) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns of boxes that cover what is drawn and little else, or are small."""
    rows, columns = (np.flatnonzero(drawn.any(axis)) for axis in (1, 0))
    if not rows.size:
        return
    inner = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, left, (high, wide) = top + int(rows[0]), left + int(columns[0]), inner.shape
    if max(high, wide) < _WHOLE or inner.mean() > _FULL:
        yield (top, top + high), (left, left + wide)
        return
    (down, lengthwise), (across, upright) = _cut(inner), _cut(inner.T)
    if (lengthwise, -high) < (upright, -wide):
        yield from _pieces(inner[:down], top, left)
        yield from _pieces(inner[down:], top + down, left)
    else:
        yield from _pieces(inner[:, :across], top, left)
        yield from _pieces(inner[:, across:], top, left + across)


def _cut(drawn: NDArray[np.bool_]) -> tuple[int, int]:
    """Return before which row to cut so that the boxes around both parts are smallest, and their area.

    Of rows that are about as good it is the one next to the middle; a single row is not cut.
    """
    if len(drawn) < 2:
        return 1, drawn.size
    area = _boxed(drawn)[:-1] + _boxed(drawn[::-1])[-2::-1]
    best = np.flatnonzero(area <= area.min() + drawn.size // _ABOUT) + 1
    at = int(best[np.abs(best - len(drawn) / 2).argmin()])
    return at, int(area[at - 1])


def _boxed(drawn: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the area of the box that covers what is drawn in the first row, in the first two, and so on."""
    rows, wide = np.flatnonzero(drawn.any(1)), drawn.shape[1]
    first, last, deep = np.full(len(drawn), wide), np.zeros(len(drawn), np.int64), np.zeros(len(drawn), np.int64)
    first[rows], last[rows], deep[rows] = drawn[rows].argmax(1), wide - drawn[rows, ::-1].argmax(1), rows + 1
    across = np.maximum.accumulate(last) - np.minimum.accumulate(first)
    return np.asarray(across * np.maximum.accumulate(deep))


def share(line: Line, of: NDArray[np.uint8], above: float = 0.5) -> float:
    """Return the share of a line where a map is higher than ``above``, 1 standing for 255."""
    return float((_upright(line, of) > above * 255).mean())


def canvas(found: Iterable[Line], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return 255 where lines are, 0 elsewhere."""
    import cv2

    drawn = np.zeros((rows, columns), np.uint8)
    for line in found:
        cv2.fillPoly(drawn, [np.round(np.array(_corners(line)) - 0.5).astype(np.int32)], (255,))
    return drawn


def _parts(
    found: NDArray[np.uint8], low: float, high: float = 0.0, judged: NDArray[np.uint8] | None = None
) -> Iterator[tuple[_Part, float]]:
    """Yield each connected part of a map, and its mean in this map or the one to be judged by.

    Parameters
    ----------
    found : ndarray of uint8, shape (rows, columns)
    low, high : float
        What each pixel of a part needs, and what one of them needs; 1 for 255.
    """
    import cv2

    drawn = found > low * 255
    for (top, bottom), (left, right) in areas(drawn):
        near = drawn[top:bottom, left:right].astype(np.uint8)
        number, labels, boxes, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
        for part in range(1, number):
            x, y, width, height, area = (int(at) for at in boxes[part])
            inside = labels[y : y + height, x : x + width] == part
            window = slice(top + y, top + y + height), slice(left + x, left + x + width)
            values = found[window][inside]
            if area >= _LEAST and values.max() >= high * 255:
                values = values if judged is None else judged[window][inside]
                yield _Part(inside, left + x, top + y), float(values.mean()) / 255


def _upright(line: Line, view: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the line, turned so that it runs from left to right; 0 beyond the border."""
    import cv2

    wide, high = round(line.length), round(line.height)
    cosine, sine = _turn(line.angle)
    # pixel centres are at halves here, and at whole numbers in OpenCV
    middle_x, middle_y = (wide - 1) / 2, (high - 1) / 2
    matrix = np.array(
        [
            [cosine, -sine, line.x - 0.5 - cosine * middle_x + sine * middle_y],
            [sine, cosine, line.y - 0.5 - sine * middle_x - cosine * middle_y],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch: NDArray[Any] = cv2.warpAffine(view, matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_CONSTANT)
    return patch


def merged(found: Sequence[Line]) -> list[Line]:
    """Join lines that say the same, from the largest down.

    Returns
    -------
    list of Line
        Covers whatever ``found`` covers.
    """
    kept: list[Line] = []
    boxes = np.zeros((len(found), 4))
    for line in sorted(found, key=lambda line: -line.length * line.height):
        left, top, right, bottom = line.reach
        known = boxes[: len(kept)]
        across = np.minimum(known[:, 2], right) - np.maximum(known[:, 0], left)
        down = np.minimum(known[:, 3], bottom) - np.maximum(known[:, 1], top)
        shared = np.clip(across, 0, None) * np.clip(down, 0, None) / ((right - left) * (bottom - top))
        best = int(shared.argmax()) if len(kept) else 0
        if not len(kept) or shared[best] < 0.8 or not (line.upright and kept[best].upright):
            boxes[len(kept)] = line.reach
            kept.append(line)
        elif shared[best] < 1:
            kept[best] = _joined(kept[best], line)
            boxes[best] = kept[best].reach
    return kept


def _joined(first: Line, second: Line) -> Line:
    """Return the upright box around two."""
    ends = zip(first.reach, second.reach, (min, min, max, max), strict=True)
    left, top, right, bottom = (choose(one, other) for one, other, choose in ends)
    size = right - left, bottom - top
    length, height = size if first.angle % 180 == 0 else size[::-1]
    return Line((left + right) / 2, (top + bottom) / 2, length, height, first.angle)


def shape(line: Line, rows: int, columns: int) -> Region | Polygon | None:
    """Return what to black out, ``None`` if it lies outside of the frame."""
    left, top, right, bottom = line.reach
    box = (
        max(0, math.floor(left)),
        max(0, math.floor(top)),
        min(columns, math.ceil(right)),
        min(rows, math.ceil(bottom)),
    )
    if box[0] >= box[2] or box[1] >= box[3]:
        return None
    if line.upright:
        return Region(box[1], box[0], box[3], box[2])
    return Polygon(tuple((y, x) for x, y in _corners(line)))


def _corners(line: Line) -> list[tuple[float, float]]:
    """Return column and row of each corner, in order."""
    cosine, sine = _turn(line.angle)
    ends = ((line.length / 2 * along, line.height / 2 * down) for along, down in ((-1, -1), (1, -1), (1, 1), (-1, 1)))
    return [(line.x + along * cosine - down * sine, line.y + along * sine + down * cosine) for along, down in ends]


def _turn(angle: float) -> tuple[float, float]:
    """Return cosine and sine, exact for quarter turns."""
    if angle % 90 == 0:
        return ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[int(angle // 90) % 4]
    return math.cos(math.radians(angle)), math.sin(math.radians(angle))

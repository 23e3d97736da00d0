"""Lines of text: rectangles at any angle, from what a network says of pixels, grown over letters they cut."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ...pixels.region import Polygon, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Line", "Span", "areas", "canvas", "grown", "lines", "merged", "shape", "share", "undecided", "written"]

Span = tuple[int, int]
"""The first row or column, and the one after the last."""
_BLOCK: Final = 16
_NEAR: Final = 1
_LEAST: Final = 4
_LOW: Final = 0.3
_SCORE: Final = 0.5
_UNCLIP: Final = 1.6
_END: Final = 12.0
_MARGIN: Final = 1.0
_WHOLE: Final = 24
_FULL: Final = 0.65
_SNAP: Final = 4.0
_REACH: Final = 1.0
_ROUNDS: Final = 6


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

    def wider(self, along: float, across: float) -> Line:
        """Return it with as many pixels more at each end, and above and below."""
        return self._replace(length=self.length + 2 * along, height=self.height + 2 * across)


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
    for line, probability in _parts(found, _LOW, judged=both):
        more = line.length * line.height * _UNCLIP / (2 * (line.length + line.height))
        line = line.wider(more, more)
        if probability >= _SCORE and heights[0] <= line.height <= heights[1]:
            # the ends of a line are what is most often cut
            kept.append(line.wider(min(line.height / 2, _END), 0))
    return kept


def written(ink: NDArray[np.uint8], low: float, high: float, least: float) -> list[Line]:
    """Return letters and words of a map of ink.

    Parameters
    ----------
    ink : ndarray of uint8, shape (rows, columns)
        Probabilities, 255 for 1.
    low, high : float
        The probability that each pixel of a part needs, and that one of them needs.
    least : float
        Least long side of a part, in pixels.
    """
    parts = (line for line, _ in _parts(ink, low, high) if line.length >= least)
    return [line.wider(_MARGIN, _MARGIN) for part in parts for line in _tight(part, ink, low)]


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


def _tight(line: Line, ink: NDArray[np.uint8], low: float) -> list[Line]:
    """Divide a rectangle that is mostly empty, such as that around a curve or around crossing lines."""
    patch = _upright(line, ink, 0, 0) > low * 255
    if line.length < _WHOLE or patch.mean() > _FULL:
        return [line] if patch.any() else []
    cosine, sine = _turn(line.angle)
    quarter = line.length / 4
    halves = (
        line._replace(x=line.x + side * quarter * cosine, y=line.y + side * quarter * sine, length=line.length / 2)
        for side in (-1, 1)
    )
    turned = (
        h if h.length >= h.height else h._replace(length=h.height, height=h.length, angle=h.angle + 90) for h in halves
    )
    return [part for half in turned for part in _tight(half, ink, low)]


def share(line: Line, of: NDArray[np.uint8], above: float = 0.5) -> float:
    """Return the share of a line where a map is higher than ``above``, 1 standing for 255."""
    return float((_upright(line, of, 0, 0) > above * 255).mean())


def canvas(found: Iterable[Line], rows: int, columns: int) -> NDArray[np.uint8]:
    """Return 255 where lines are, 0 elsewhere."""
    import cv2

    drawn = np.zeros((rows, columns), np.uint8)
    for line in found:
        cv2.fillPoly(drawn, [np.round(np.array(_corners(line)) - 0.5).astype(np.int32)], (255,))
    return drawn


def _parts(
    found: NDArray[np.uint8], low: float, high: float = 0.0, judged: NDArray[np.uint8] | None = None
) -> Iterator[tuple[Line, float]]:
    """Yield the rectangle around each connected part of a map, and its mean in this map or the one to be judged by.

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
                yield _around(inside, left + x, top + y), float(values.mean()) / 255


def _around(inside: NDArray[np.bool_], x: int, y: int) -> Line:
    """Return the smallest rectangle around the true pixels of a box whose first pixel is column ``x`` of row ``y``."""
    import cv2

    high, wide = inside.shape
    outline = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    (centre_x, centre_y), (length, height), angle = cv2.minAreaRect(np.vstack(outline))
    if length < height:
        length, height, angle = height, length, angle + 90
    angle = (angle + 90) % 180 - 90
    near = round(angle / 90) * 90
    if abs(angle - near) <= _SNAP or length < 1.5 * (height + 1):
        return Line(x + wide / 2, y + high / 2, max(wide, high), min(wide, high), 90 if high > wide else 0)
    return Line(x + centre_x + 0.5, y + centre_y + 0.5, length + 1, height + 1, angle)


def grown(line: Line, view: NDArray[np.uint8]) -> Line:
    """Stretch a line over strokes that it cuts, and over letters that follow it on either end.

    Parameters
    ----------
    line : Line
    view : ndarray of uint8, shape (rows, columns)
        Local contrast.
    """
    margin = round(_ROUNDS * _REACH * line.height / 2) + 2
    above = round(line.height / 2) + 2
    patch = _upright(line, view, margin, above)
    strokes = _strokes(patch, margin, above)
    left, top, right, bottom = _stretched(strokes, patch.shape[1], patch.shape[0], margin, above)
    cosine, sine = _turn(line.angle)
    along, across = (left + right - patch.shape[1]) / 2, (top + bottom - patch.shape[0]) / 2
    return Line(
        line.x + along * cosine - across * sine, line.y + along * sine + across * cosine, right - left, bottom - top,
        line.angle,
    )  # fmt: skip


def _upright(line: Line, view: NDArray[np.uint8], margin: int, above: int) -> NDArray[np.uint8]:
    """Return the line, turned so that it runs from left to right, with a margin."""
    import cv2

    wide, high = round(line.length) + 2 * margin, round(line.height) + 2 * above
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
    patch: NDArray[Any] = cv2.warpAffine(
        view, matrix, (wide, high), flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=(127,)
    )
    return patch


def _strokes(patch: NDArray[np.uint8], margin: int, above: int) -> NDArray[np.int32]:
    """Return left, top, right and bottom of the connected strokes of a patch, one row each.

    Letters cover less than the paper, so that they are farther from the mean than it is.
    """
    import cv2

    inside = patch[above:-above, margin:-margin]
    dark, bright = (float(at) for at in np.percentile(inside, [3, 97]))
    drawn = patch > (127 + bright) / 2 if bright - 127 > 127 - dark else patch < (127 + dark) / 2
    boxes = cv2.connectedComponentsWithStats(drawn.astype(np.uint8), connectivity=8)[2][1:]
    boxes = boxes[boxes[:, 4] >= 3]
    return np.stack([boxes[:, 0], boxes[:, 1], boxes[:, 0] + boxes[:, 2], boxes[:, 1] + boxes[:, 3]], axis=1)


def _stretched(
    strokes: NDArray[np.int32], wide: int, high: int, margin: int, above: int
) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the line in its patch, stretched."""
    left, top, right, bottom = margin, above, wide - margin, high - above
    height = bottom - top
    size = strokes[:, 3] - strokes[:, 1]
    whole = (strokes[:, 0] > 0) & (strokes[:, 2] < wide) & (strokes[:, 1] > 0) & (strokes[:, 3] < high)
    letters = strokes[whole & (size <= 1.2 * height) & (strokes[:, 2] - strokes[:, 0] <= 2.5 * height)]
    middle = (letters[:, 1] + letters[:, 3]) / 2
    letters = letters[(middle > top) & (middle < bottom)]
    tall = letters[letters[:, 3] - letters[:, 1] >= 0.25 * height]
    for _ in range(_ROUNDS):
        near = tall[(tall[:, 2] > left - 0.5 * height) & (tall[:, 0] < right + 0.5 * height)]
        if not len(near):
            break
        ends = min(left, int(near[:, 0].min())), max(right, int(near[:, 2].max()))
        if ends == (left, right):
            break
        left, right = ends
    inside = letters[(letters[:, 2] > left) & (letters[:, 0] < right)]
    if len(inside):
        top, bottom = min(top, int(inside[:, 1].min())), max(bottom, int(inside[:, 3].max()))
    return left, top, right, bottom


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

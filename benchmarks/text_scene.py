"""An image that is being drawn: text in all the ways that devices write it, and what looks like text and is none."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from text_fonts import Face, Floats, Pen, able, inked, stacked, turned

LIGHT: Final = 0.35
"""From this much ink on, a pixel belongs to a glyph."""

# --- one image -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A line of text in an image.

    Attributes
    ----------
    text : str
    kind : str
        identifying or harmless.
    script : str
        One of `SCRIPTS`.
    font : str
        Family.
    face : str
        outline, bitmap or strokes.
    size : int
        Pixels a line, as fonts count them, in the finished image.
    rotation : float
        Degrees, counter-clockwise.
    style : str
        How it was drawn.
    contrast : float
        Between glyphs and what is around them, in parts of the span of the image's values.
    cnr : float
        The same in standard deviations of what is around them, and a fiftieth of the span.
    bbox : (int, int, int, int)
        Top, left, bottom, right; half-open.
    """

    text: str
    kind: Literal["identifying", "harmless"]
    script: str
    font: str
    face: str
    size: int
    rotation: float
    style: str
    contrast: float
    cnr: float
    bbox: tuple[int, int, int, int]


COLOURS: Final = (
    (255, 255, 255), (255, 255, 0), (0, 255, 0), (0, 255, 255), (255, 0, 0), (80, 80, 255), (255, 128, 0),
    (160, 160, 160), (255, 0, 255), (200, 220, 255), (0, 160, 120), (120, 60, 0),
)  # fmt: skip
STYLES: Final = {
    "max": 34, "plain": 26, "faint": 10, "plate": 6, "inverse": 4, "outline": 5, "shadow": 4, "hollow": 2, "blurred": 4,
    "glass": 2,
}  # fmt: skip
SIZES: Final = (
    ((7, 9), 12), ((10, 12), 22), ((13, 16), 26), ((17, 24), 20), ((25, 40), 10), ((41, 80), 7), ((81, 140), 3),
)  # fmt: skip
_TALL: Final = {"arabic": 14, "devanagari": 14, "thai": 14, "han": 12, "kana": 10, "hangul": 11, "hebrew": 10}
"""Pixels a line below which a script cannot be read."""


@dataclass(frozen=True)
class Hand:
    """How the lines of one block are written: pen, style, brightness."""

    size: int
    style: str
    contrast: float
    brighter: bool | None
    colour: tuple[int, int, int] | None
    smooth: bool
    spacing: float = 0
    degrees: float = 0
    stacked: bool = False


@dataclass
class Scene:
    """An image that is being drawn."""

    values: Floats
    low: float
    high: float
    chance: random.Random
    faces: tuple[Face, ...]
    glyphs: NDArray[np.uint16] = field(init=False)
    items: list[Item] = field(default_factory=list)
    _face: dict[str, Face] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.glyphs = np.zeros(self.values.shape[:2], np.uint16)
        sample = self.values[::3, ::3]
        span = float(np.percentile(sample, 99.5) - np.percentile(sample, 0.5))
        self.span = span if span > 0.04 * (self.high - self.low) else 0.3 * (self.high - self.low)
        self.floor, self.ceiling = (float(np.percentile(sample, at)) for at in (0.5, 99.5))

    @property
    def rows(self) -> int:
        """Return the rows of the image."""
        return int(self.values.shape[0])

    @property
    def columns(self) -> int:
        """Return its columns."""
        return int(self.values.shape[1])

    @property
    def coloured(self) -> bool:
        """Return whether it has colours."""
        return self.values.ndim == 3

    def pen(self, text: str, script: str, hand: Hand) -> Pen:
        """Return a pen for a script; one block of an image mostly has one font for each."""
        size = max(hand.size, _TALL.get(script, 0))
        if (
            self.chance.random() < 0.1
            and not set(text) - set("0123456789:.- ")
            and any("digits" in face.scripts for face in self.faces)
        ):
            script = "digits"
        kept = self._face.get(script)
        if kept is None or self.chance.random() < 0.15 or not able(kept, text):
            kept = self._face[script] = self._chosen(text, script, size)
        joined = script in ("arabic", "devanagari", "thai")
        return Pen(kept, size, hand.smooth, 0 if joined or self.chance.random() < 0.3 else hand.spacing)

    def _chosen(self, text: str, script: str, size: int) -> Face:
        """Return a face that has all letters: each family is as likely as any other of its kind."""
        kind = self.chance.choices(("bitmap", "strokes", "outline"), (45 if size <= 20 else 10, 14, 45))[0]
        meant = [face for face in self.faces if script in face.scripts]
        families: dict[str, list[Face]] = defaultdict(list)
        for face in [face for face in meant if face.kind == kind and min(face.sizes or (0,)) <= size + 3] or meant:
            families[face.family].append(face)
        order = sorted(families)
        self.chance.shuffle(order)
        faces = (self.chance.choice(families[family]) for family in order)
        return next((face for face in faces if able(face, text)), meant[0])

    def ink(self, text: str, script: str, hand: Hand) -> tuple[Floats, Pen] | None:
        """Return the ink of a line and the pen that drew it."""
        pen = self.pen(text, script, hand)
        down = hand.stacked and script in ("latin", "accent", "greek", "cyrillic", "han", "kana", "hangul")
        try:
            ink = stacked(text, pen) if down else inked(text, pen)
        except (OSError, UnicodeEncodeError):
            return None
        if ink is None or ink.size < 6:
            return None
        if hand.style == "hollow" and min(ink.shape) >= 18:
            square = np.ones((3, 3), np.uint8)
            ink = np.asarray(np.clip(cv2.dilate(ink, square) - cv2.erode(ink, square), 0, 1), np.float32)
        if hand.style == "blurred":
            blurred = cv2.GaussianBlur(np.pad(ink, 3), (0, 0), min(1.6, 0.35 + pen.size / 40))
            ink = np.asarray(blurred / max(0.5, float(blurred.max())), np.float32)
        return turned(ink, hand.degrees), pen

    def write(
        self,
        text: str,
        script: str,
        identifying: bool,
        hand: Hand,
        top: int,
        left: int,
        anchor: str = "tl",
        drawn: tuple[Floats, Pen] | None = None,
    ) -> tuple[int, int] | None:
        """Draw a line unless it meets other text; return its rows and columns.

        `anchor` says which corner of it is at `top` and `left`: t or b, l or r or c.
        """
        drawn = drawn or self.ink(text, script, hand)
        if drawn is None:
            return None
        ink, pen = drawn
        rows, columns = ink.shape
        top -= rows if anchor[0] == "b" else 0
        left -= columns if anchor[1] == "r" else columns // 2 if anchor[1] == "c" else 0
        y, x = max(0, top), max(0, left)
        part = (
            ink[y - top : self.rows - top, x - left : self.columns - left]
            if top < self.rows and left < self.columns
            else ink[:0]
        )
        if part.size < 0.3 * ink.size or part.shape[0] < 0.4 * rows or part.sum() < 0.3 * ink.sum():
            return None
        bottom, right = y + part.shape[0], x + part.shape[1]
        if self.glyphs[max(0, y - 2) : bottom + 2, max(0, x - 2) : right + 2].any():
            return None
        if self._draw(part, y, x, hand):
            self.glyphs[y:bottom, x:right][part >= LIGHT] = len(self.items) + 1
            self.items.append(Item(
                text, "identifying" if identifying else "harmless", script, pen.face.family, pen.face.kind, pen.height,
                hand.degrees % 360, hand.style, 0, 0, (y, x, bottom, right),
            ))  # fmt: skip
        return rows, columns

    def _draw(self, ink: Floats, top: int, left: int, hand: Hand) -> bool:
        bottom, right = top + ink.shape[0], left + ink.shape[1]
        under = self.values[top:bottom, left:right]
        level = float(np.median(under))
        brighter = hand.brighter if hand.brighter is not None else level < (self.floor + self.ceiling) / 2
        if hand.style in ("plate", "inverse", "glass"):
            brighter = hand.style != "inverse"
            self._plate(top, left, bottom, right, hand)
            under = self.values[top:bottom, left:right]
            level = float(np.median(under))
        value = self._value(level, brighter, hand)
        before = under.copy()
        rim = self._rim(ink, hand)
        if rim is not None:
            under[...] = _blended(under, rim, np.float32(self.floor if brighter else self.ceiling))
        under[...] = _blended(under, ink, value)
        touched = ink >= LIGHT
        change = np.abs(under - before)
        change = change.max(-1) if change.ndim == 3 else change
        if touched.any() and float(change[touched].mean()) >= 0.01 * self.span:
            return True
        under[...] = before
        return False

    def _plate(self, top: int, left: int, bottom: int, right: int, hand: Hand) -> None:
        m = 2 + hand.size // 6
        plate = self.values[max(0, top - m) : bottom + m, max(0, left - m) : right + m]
        if hand.style == "glass":
            plate[...] = 0.5 * plate + 0.5 * self.floor
        else:
            plate[...] = self.ceiling if hand.style == "inverse" else self.floor

    def _value(self, level: float, brighter: bool, hand: Hand) -> Floats:
        if hand.colour is not None and self.coloured:
            return np.asarray(np.array(hand.colour) / 255 * (self.high - self.low) + self.low, np.float32)
        if hand.style in ("max", "outline", "shadow"):
            top = self.high if self.chance.random() < 0.5 else self.ceiling
            return np.full(1, top if brighter else self.floor, np.float32)
        sign = 1 if brighter else -1
        value = level + sign * hand.contrast * self.span
        if not self.low <= value <= self.high:
            value = level - sign * hand.contrast * self.span
        return np.full(1, np.clip(value, self.low, self.high), np.float32)

    def _rim(self, ink: Floats, hand: Hand) -> Floats | None:
        if hand.style == "outline":
            return np.asarray(cv2.dilate(ink, np.ones((3, 3), np.uint8)), np.float32)
        if hand.style == "shadow":
            by = 1 + hand.size // 20
            return np.asarray(np.pad(ink, ((by, 0), (by, 0)))[: ink.shape[0], : ink.shape[1]], np.float32)
        return None


def _blended(under: Floats, ink: Floats, value: Any) -> Floats:
    ink = ink[..., None] if under.ndim == 3 else ink
    return np.asarray(under * (1 - ink) + value * ink, np.float32)


# --- what looks like text and is none -------------------------------------------------------------------------------


def furnish(scene: Scene, number: int) -> None:
    """Draw rulers, bars, traces and marks."""
    for draw in scene.chance.sample(_FURNITURE, number):
        level = scene.floor + (scene.ceiling - scene.floor) * scene.chance.uniform(0.4, 1)
        if scene.ceiling - scene.floor < 0.1 * scene.span:
            level = scene.floor + scene.span * scene.chance.uniform(0.3, 1) * (
                1 if scene.floor < (scene.low + scene.high) / 2 else -1
            )
        colour = scene.chance.choice(COLOURS) if scene.coloured and scene.chance.random() < 0.5 else None
        value = tuple(c / 255 * scene.high for c in colour) if colour else (level,) * (3 if scene.coloured else 1)
        draw(scene, value)


_Ink = tuple[float, ...]


def _ruler(scene: Scene, value: _Ink) -> None:
    c, v = scene.chance, scene.values
    down, length = c.random() < 0.7, c.randint(3, 7)
    end, across = (scene.rows, scene.columns) if down else (scene.columns, scene.rows)
    side = c.randint(4, 30) if c.random() < 0.4 else across - c.randint(4, 40)
    for number, at in enumerate(range(end // 6, 5 * end // 6, c.randint(6, 24))):
        reach = length * (2 if number % 5 == 0 else 1)
        ends = ((side - reach, at), (side, at)) if down else ((at, side - reach), (at, side))
        cv2.line(v, *ends, value, 1)
    if c.random() < 0.6:
        ends = ((side, end // 6), (side, 5 * end // 6)) if down else ((end // 6, side), (5 * end // 6, side))
        cv2.line(v, *ends, value, 1)


def _bar(scene: Scene, _: _Ink) -> None:
    c, v = scene.chance, scene.values
    wide, tall = c.randint(8, 22), max(10, scene.rows // c.randint(3, 5))
    left, top = c.choice((6, scene.columns - wide - c.randint(4, 40))), c.randint(4, max(5, scene.rows - tall - 4))
    ramp = np.linspace(1, 0, tall, dtype=np.float32)[:, None]
    shown = v[top : top + tall, max(0, left) : left + wide]
    if scene.coloured:
        hot = np.dstack([ramp, np.abs(2 * ramp - 1), 1 - ramp]) * scene.high
        shown[...] = hot[: shown.shape[0]]
    else:
        shown[...] = scene.floor + ramp[: shown.shape[0]] * (scene.ceiling - scene.floor)


def _trace(scene: Scene, value: _Ink) -> None:
    c = scene.chance
    x = np.arange(scene.columns // 10, 9 * scene.columns // 10)
    beat = (x % (period := c.randint(50, 140))) / period
    y = (
        scene.rows
        - c.randint(20, 70)
        - 25 * np.exp(-(((beat - 0.3) / 0.02) ** 2))
        + 5 * np.exp(-(((beat - 0.55) / 0.06) ** 2))
    )
    cv2.polylines(scene.values, [np.stack([x, y], 1).astype(np.int32)], False, value, 1)


def _caliper(scene: Scene, value: _Ink) -> None:
    c, v = scene.chance, scene.values
    (x, y), (p, q) = ((c.randint(0, scene.columns), c.randint(0, scene.rows)) for _ in "12")
    for part in np.linspace(0, 1, max(3, int(math.hypot(p - x, q - y) / 9))):
        cv2.circle(v, (int(x + (p - x) * part), int(y + (q - y) * part)), 1, value, -1)
    for at in ((x, y), (p, q)):
        cv2.drawMarker(v, at, value, c.choice((cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS)), c.randint(7, 13), 1)


def _frame(scene: Scene, value: _Ink) -> None:
    c = scene.chance
    x, y = c.randint(0, scene.columns // 2), c.randint(0, scene.rows // 2)
    cv2.rectangle(
        scene.values,
        (x, y),
        (x + c.randint(30, 30 + scene.columns // 2), y + c.randint(30, 30 + scene.rows // 2)),
        value,
        1,
    )


def _crosses(scene: Scene, value: _Ink) -> None:
    c = scene.chance
    kinds = (cv2.MARKER_CROSS, cv2.MARKER_TILTED_CROSS, cv2.MARKER_SQUARE, cv2.MARKER_TRIANGLE_UP, cv2.MARKER_DIAMOND)
    for _ in range(c.randint(1, 6)):
        cv2.drawMarker(
            scene.values,
            (c.randrange(scene.columns), c.randrange(scene.rows)),
            value,
            c.choice(kinds),
            c.randint(6, 16),
            1,
        )


def _wire(scene: Scene, value: _Ink) -> None:
    c = scene.chance
    ends = np.array([[c.randint(0, scene.columns), c.randint(0, scene.rows)] for _ in range(4)], np.float64)
    t = np.linspace(0, 1, 80)[:, None]
    curve = (1 - t) ** 3 * ends[0] + 3 * t * (1 - t) ** 2 * ends[1] + 3 * t * t * (1 - t) * ends[2] + t**3 * ends[3]
    cv2.polylines(scene.values, [curve.astype(np.int32)], False, value, c.randint(1, 3), cv2.LINE_AA)


def _arrow(scene: Scene, value: _Ink) -> None:
    c = scene.chance
    x, y = c.randrange(scene.columns), c.randrange(scene.rows)
    cv2.arrowedLine(
        scene.values, (x, y), (x + c.randint(-60, 60), y + c.randint(-60, 60)), value, c.randint(1, 2), tipLength=0.3
    )


def _grid(scene: Scene, value: _Ink) -> None:
    step = scene.chance.randint(24, 90)
    for at in range(step, scene.rows, step):
        cv2.line(scene.values, (0, at), (scene.columns, at), value, 1)
    for at in range(step, scene.columns, step):
        cv2.line(scene.values, (at, 0), (at, scene.rows), value, 1)


_FURNITURE: Final = (_ruler, _ruler, _bar, _trace, _caliper, _frame, _crosses, _wire, _arrow, _grid)

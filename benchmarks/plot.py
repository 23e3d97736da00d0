"""Draw curves on logarithmic axes as SVG, with nothing but the standard library."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 430, 330
LEFT, RIGHT, TOP, BOTTOM = 58, 22, 30, 44
COLOURS = ("#777777", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00")


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points (x, y), both above zero."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclasses.dataclass(frozen=True)
class Panel:
    """Curves that share their axes."""

    title: str
    across: str
    up: str
    curves: tuple[Curve, ...]


def drawn(panels: Sequence[Panel]) -> str:
    """Return a picture of panels side by side, with one legend below."""
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    colours = dict(zip(names, COLOURS, strict=False))
    width, height = WIDTH * len(panels), HEIGHT + 18 * math.ceil(len(names) / 2) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]  # fmt: skip
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * WIDTH} 0)">', *_panel(panel, colours), "</g>"]
    for number, name in enumerate(names):
        x, y = LEFT + number % 2 * WIDTH, HEIGHT + 18 * (number // 2) + 8
        parts.append(f'<line x1="{x}" y1="{y}" x2="{x + 24}" y2="{y}" stroke="{colours[name]}" stroke-width="2"/>')
        parts.append(_text(x + 30, y + 4, name))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, colours: dict[str, str]) -> list[str]:
    points = [point for curve in panel.curves for point in curve.points]
    across, up = _Axis.over([x for x, _ in points], 2), _Axis.over([y for _, y in points], 10)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(x: float, y: float) -> tuple[float, float]:
        return round(LEFT + across.part(x) * (right - LEFT), 1), round(bottom - up.part(y) * (bottom - TOP), 1)

    parts = [_text((LEFT + right) / 2, 18, panel.title, "middle", bold=True)]
    for tick in up.ticks:
        _, y = at(across.low, tick)
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{right}" y2="{y}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, y + 4, _number(tick), "end"))
    for tick in across.ticks:
        x, _ = at(tick, up.low)
        parts.append(f'<line x1="{x}" y1="{bottom}" x2="{x}" y2="{bottom + 4}" stroke="#555555"/>')
        parts.append(_text(x, bottom + 16, _number(tick), "middle"))
    parts.append(
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" stroke="#555555"/>'
    )
    for curve in panel.curves:
        places = [at(x, y) for x, y in curve.points]
        line = " ".join(f"{x},{y}" for x, y in places)
        colour = colours[curve.name]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
    parts.append(_text((LEFT + right) / 2, HEIGHT - 10, panel.across, "middle"))
    parts.append(f'<g transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)">{_text(0, 0, panel.up, "middle")}</g>')
    return parts


@dataclasses.dataclass(frozen=True)
class _Axis:
    """A logarithmic axis from `low` to `high`."""

    low: float
    high: float
    base: int

    @classmethod
    def over(cls, values: list[float], base: int) -> _Axis:
        low = base ** math.floor(math.log(min(values), base) + 1e-9)
        high = base ** math.ceil(math.log(max(values), base) - 1e-9)
        return cls(low, high if high > low else low * base, base)

    def part(self, value: float) -> float:
        return math.log(value / self.low) / math.log(self.high / self.low)

    @property
    def ticks(self) -> list[float]:
        steps = round(math.log(self.high / self.low, self.base))
        every = max(1, math.ceil(steps / 8))
        return [self.low * self.base**step for step in range(0, steps + 1, every)]


def _number(value: float) -> str:
    return f"{value:g}"


def _text(x: float, y: float, text: str, anchor: str = "start", *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'

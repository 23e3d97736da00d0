"""Made-up backgrounds without text: devices, implants, patterns and traces that look like writing to a small net."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Rng = np.random.Generator
T = TypeVar("T")

CROP: Final = 192
"""Side of a training crop in pixels; a multiple of 16, as the net halves it four times."""


def chance(rng: Rng, p: float) -> bool:
    return bool(rng.random() < p)


def floats(values: Any) -> Array:
    return np.asarray(values, np.float32)


def softened(values: Array, sigma: float) -> Array:
    return floats(cv2.GaussianBlur(values, (0, 0), sigma))


def pick(rng: Rng, among: Sequence[T]) -> T:
    return among[int(rng.integers(len(among)))]


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def spectrum(rng: Rng, steep: float) -> Array:
    """Noise whose amplitude falls with frequency to the power of ``steep``, mean 0, deviation 1."""
    fy, fx = np.fft.fftfreq(CROP)[:, None], np.fft.rfftfreq(CROP)[None]
    fall = np.hypot(fy, fx * rng.uniform(0.6, 1.6)) + 1 / CROP
    wave = np.fft.rfft2(rng.standard_normal((CROP, CROP))) / fall**steep
    noise = np.fft.irfft2(wave, (CROP, CROP))
    return np.asarray((noise - noise.mean()) / max(noise.std(), 1e-9), np.float32)


def curve(rng: Rng, n: int = 60) -> Array:
    """Points of a smooth random curve across the crop, shape (n, 2)."""
    t = np.linspace(0, 1, n)[:, None]
    weights = np.concatenate([(1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3], 1)
    return floats(weights @ rng.uniform(-30, CROP + 30, (4, 2)))


def grid(turn: float = 0.0) -> tuple[Array, Array]:
    """Coordinates of a crop, turned by an angle in radians about its middle: x, y, each of shape (CROP, CROP)."""
    y, x = np.mgrid[:CROP, :CROP].astype(np.float32) - np.float32(CROP / 2)
    return floats(x * np.cos(turn) + y * np.sin(turn)), floats(y * np.cos(turn) - x * np.sin(turn))


def spots(rng: Rng, size: float, stretch: float = 1.0) -> Array:
    """Smooth noise of mean 0, deviation 1, whose spots are about ``size`` pixels high and ``stretch`` times as wide."""
    noise = rng.standard_normal((CROP, CROP)).astype(np.float32)
    out = floats(cv2.GaussianBlur(noise, (0, 0), size * stretch, sigmaY=size))
    return floats((out - out.mean()) / max(float(out.std()), 1e-6))


def grain(rng: Rng, size: float) -> Array:
    """Ultrasound speckle, mostly 0..1."""
    out = np.hypot(spots(rng, size, rng.uniform(1, 2.5)), spots(rng, size, rng.uniform(1, 2.5)))
    return floats(out / 2.5) ** np.float32(rng.uniform(0.6, 1.6))


def noisy(rng: Rng, out: Array, most: float = 0.06) -> Array:
    """Film or detector noise and blur of a random strength."""
    out = softened(out, rng.uniform(0.4, 1.6)) if chance(rng, 0.6) else out
    return floats(np.clip(out + rng.uniform(0, most) * spots(rng, rng.uniform(0.4, 1.2)), 0, 1.2))


def bone(rng: Rng, x: Array, y: Array, width: float) -> Array:
    """Density across a shaft along y, brighter at its cortex, with wavy edges."""
    edge = width * (1 + rng.uniform(0.02, 0.25) * np.cos(y / rng.uniform(15, 60) + rng.uniform(0, 6)))
    across = np.abs(x) / np.maximum(edge, 1)
    cortex = np.exp(-(((across - 0.88) / rng.uniform(0.05, 0.15)) ** 2))
    return floats((across < 1) * (0.35 + 0.5 * cortex))


# ---------------------------------------------------------------- textures


def flat(rng: Rng) -> Array:
    return np.full((CROP, CROP), rng.choice([0.0, 0.0, 0.0, 1.0, rng.random()]), np.float32)


def clouds(rng: Rng) -> Array:
    return np.float32(0.5) + np.float32(rng.uniform(0.05, 0.3)) * spectrum(rng, rng.uniform(0.8, 2.6))


def speckle(rng: Rng) -> Array:
    waves = rng.standard_normal((CROP, CROP, 2)).astype(np.float32)
    grain = cv2.GaussianBlur(waves, (0, 0), rng.uniform(0.5, 3), sigmaY=rng.uniform(0.5, 1.5))
    amplitude = np.hypot(grain[..., 0], grain[..., 1])
    tissue = np.clip(0.5 + 0.3 * spectrum(rng, 2), 0, 1) * amplitude / max(float(amplitude.max()), 1e-6)
    return floats(tissue ** rng.uniform(0.4, 1))


def discs(rng: Rng) -> Array:
    """Bones, vessels in section and organs: filled ellipses with edges of any sharpness, and a texture of their own."""
    out = np.full((CROP, CROP), rng.uniform(0, 0.4), np.float32)
    for _ in range(int(rng.integers(1, 25))):
        mask = np.zeros((CROP, CROP), np.float32)
        axes = (np.exp(rng.uniform(0.7, 4.6, 2)).astype(int) + 1).tolist()
        at, turn = rng.integers(-20, CROP + 20, 2).tolist(), float(rng.uniform(0, 180))
        thick = -1 if chance(rng, 0.6) else int(rng.integers(1, 6))
        cv2.ellipse(mask, at, axes, turn, 0, 360, 1.0, thick, cv2.LINE_AA)
        out += softened(mask, rng.uniform(0.3, 4)) * np.float32(rng.normal(0, 0.4))
    return out + np.float32(rng.uniform(0, 0.06)) * spectrum(rng, rng.uniform(0, 1.5))


def vessels(rng: Rng) -> Array:
    """Vessels, wires, ribs and trabeculae: smooth curves of many widths on clouds."""
    out = clouds(rng)
    for _ in range(int(rng.integers(2, 25))):
        mask = np.zeros((CROP, CROP), np.float32)
        points, thick = np.round(curve(rng) * 8).astype(np.int32), int(np.exp(rng.uniform(0, 3)))
        cv2.polylines(mask, [points], False, 1.0, thick, cv2.LINE_AA, 3)
        out += softened(mask, rng.uniform(0.4, 2.5)) * np.float32(rng.normal(0, 0.3))
    return out + np.float32(rng.uniform(0, 0.08)) * spectrum(rng, rng.uniform(0, 1))


def edges(rng: Rng) -> Array:
    """Bone and collimator edges: thresholded clouds, softened, with noise."""
    level = spectrum(rng, rng.uniform(1.2, 2.6))
    sharp = np.clip((level - rng.normal(0, 0.5)) * rng.uniform(1, 20), -1, 1) * 0.4 + 0.5
    return np.asarray(sharp, np.float32) + np.float32(rng.uniform(0, 0.1)) * spectrum(rng, rng.uniform(0, 2))


# ---------------------------------------------------------------- ultrasound


def tissue(rng: Rng) -> Array:
    """Grey speckle with dark vessels and bright layers, sometimes cut off by the edge of a sector or a blank margin."""
    x, y = grid(rng.normal(0, 0.3))
    layers = np.sin(y / log_uniform(rng, 4, 30) + rng.uniform(0.5, 2) * spots(rng, 20)) * rng.uniform(0, 0.6)
    organs = np.clip(0.5 + 0.5 * spots(rng, log_uniform(rng, 6, 40), 2) + layers, 0, 1)
    out = organs * grain(rng, rng.uniform(0.6, 2.5))
    if chance(rng, 0.4):
        out *= np.abs(np.arctan2(x, y + rng.uniform(60, 160))) < rng.uniform(0.3, 0.7)
    return floats(out)


def doppler(rng: Rng) -> Array:
    """Colour Doppler in its brightest or darkest plane: blocks of saturated colour with hard edges on speckle.

    The darkest plane of a saturated colour is black, its brightest plane as bright as the colour: holes or patches.
    """
    out = tissue(rng) * rng.uniform(0.3, 0.9)
    cell_y, cell_x = (max(1, round(log_uniform(rng, 1, 7))) for _ in "yx")
    wave = spots(rng, log_uniform(rng, 4, 24), rng.uniform(0.6, 2)) + rng.uniform(0, 0.6) * spots(rng, 2)
    fast = 0.6 + 0.4 * spots(rng, log_uniform(rng, 2, 20)) + rng.uniform(0, 0.5) * rng.standard_normal((CROP, CROP))
    small = (CROP // cell_x + 1, CROP // cell_y + 1)
    blocks = [cv2.resize(floats(v), small, interpolation=cv2.INTER_NEAREST) for v in (wave, fast)]
    how = pick(rng, [cv2.INTER_NEAREST, cv2.INTER_NEAREST, cv2.INTER_LINEAR])
    flow, speed = (floats(cv2.resize(v, None, fx=cell_x, fy=cell_y, interpolation=how)[:CROP, :CROP]) for v in blocks)
    seen = flow > rng.uniform(-0.2, 1)
    steps = int(rng.integers(3, 16))
    bright = np.clip(np.floor(np.abs(speed) * steps) / steps, 0.2, 1)
    aliased = np.where(speed < rng.uniform(-0.2, 0.7), rng.uniform(0.3, 1), bright)
    colour = aliased if chance(rng, 0.6) else rng.uniform(0, 0.3) * (bright > rng.uniform(0.6, 0.95))
    return floats(np.where(seen, colour, out))


def power_doppler(rng: Rng) -> Array:
    """Branches of flow on speckle, in cells of some pixels, with soft or hard edges."""
    ridge = 1 - np.abs(spots(rng, log_uniform(rng, 4, 14), rng.uniform(0.6, 2)) - rng.uniform(-0.5, 0.5)) * 3
    flow = np.clip(ridge + rng.uniform(-0.3, 0.3) * spots(rng, 2), 0, 1) * (spots(rng, 30) > rng.uniform(-1, 0.5))
    cell = int(rng.integers(1, 5))
    flow = flow[::cell, ::cell].repeat(cell, 0).repeat(cell, 1)[:CROP, :CROP]
    flow = softened(floats(flow), rng.uniform(0.5, 1.5)) if chance(rng, 0.5) else floats(flow)
    colour = rng.uniform(0.3, 1) * flow ** rng.uniform(0.2, 1)
    return floats(np.where(flow > rng.uniform(0.02, 0.4), colour, tissue(rng) * rng.uniform(0.2, 0.8)))


def colour_box(rng: Rng) -> Array:
    """Doppler with the outline of its region and the colour bar beside it."""
    out = pick(rng, [doppler, power_doppler])(rng)
    left, top = rng.integers(5, 60, 2).tolist()
    right, bottom, lean = left + int(rng.integers(60, 120)), top + int(rng.integers(50, 110)), int(rng.integers(-25, 9))
    corners = np.array([(left, top), (right, top), (right + lean, bottom), (left - lean, bottom)], np.int32)
    cv2.polylines(out, [corners], True, float(rng.uniform(0.6, 1)), int(rng.integers(1, 3)), cv2.LINE_AA)
    if chance(rng, 0.6):
        x, width = int(rng.integers(150, 178)), int(rng.integers(5, 14))
        ramp = np.abs(np.linspace(-1, 1, 120))
        out[10:130, x : x + width] = ramp[:, None] if chance(rng, 0.7) else np.round(ramp[:, None] * 8) / 8
    return out


def m_mode(rng: Rng) -> Array:
    """Wavy layers over time, with columns of their own noise."""
    x, y = grid()
    beat = rng.uniform(20, 90)
    wall = np.abs(np.sin(x / beat * np.pi)) ** rng.uniform(1, 6)
    move = rng.uniform(2, 14) * wall + rng.uniform(0, 3) * spots(rng, 8)
    depth = y + move * np.cos(y / rng.uniform(15, 60))
    lines = sum(
        rng.uniform(0.2, 1) * np.exp(-(((depth - at) / log_uniform(rng, 0.7, 7)) ** 2))
        for at in rng.uniform(-90, 90, int(rng.integers(3, 14)))
    )
    return floats(lines * (0.6 + 0.4 * grain(rng, 1)) + 0.15 * spots(rng, 0.8, 0.4) * (rng.random(CROP) > 0.3))


def spectral(rng: Rng) -> Array:
    """Spectral Doppler: filled beats above and below a baseline, with ticks along the edges."""
    x, y = grid()
    beat = (x / rng.uniform(25, 110) + rng.random()) % 1
    shape = np.exp(-(((beat - 0.25) / rng.uniform(0.06, 0.2)) ** 2)) + rng.uniform(0, 0.6) * (1 - beat)
    height = rng.choice([-1, 1]) * rng.uniform(15, 90) * shape + 3 * spots(rng, 0.7, 0.5)
    base = rng.uniform(-60, 60)
    inside = ((base - y) * np.sign(height) > 0) & ((base - y) * np.sign(height) < np.abs(height))
    level = np.clip((base - y) / np.where(height == 0, 1, height), 0, 1) ** rng.uniform(0, 3)
    out = inside * level * (0.4 + 0.6 * rng.random((CROP, CROP))) + 0.1 * (rng.random((CROP, CROP)) > 0.93)
    out[np.clip(int(base + 96), 0, CROP - 2)] = rng.uniform(0.3, 1)
    step = int(rng.integers(6, 30))
    out[::step, -int(rng.integers(3, 9)) :] = 1
    out[-int(rng.integers(3, 9)) :, ::step] = 1
    return floats(out)


def sector_ticks(rng: Rng) -> Array:
    """Draw the edge of a sector with depth ticks, dots, a focus mark and a probe mark, all without numbers."""
    x, y = grid(rng.uniform(-0.9, 0.9))
    far = np.hypot(x, y + rng.uniform(40, 140))
    inside = (far < rng.uniform(120, 200)) & (np.abs(np.arctan2(x, y + 100)) < rng.uniform(0.3, 0.8))
    out = inside * np.clip(0.5 + 0.4 * spots(rng, 15), 0, 1) * grain(rng, rng.uniform(0.6, 2))
    at, step = int(rng.integers(5, CROP - 12)), log_uniform(rng, 5, 40)
    long, every, bright = int(rng.integers(2, 12)), int(rng.integers(2, 11)), float(rng.uniform(0.5, 1))
    for i in range(int(CROP / step)):
        length = long * 2 if i % every == 0 else long
        out[int(i * step) : int(i * step) + pick(rng, (1, 1, 2)), at : at + length] = bright
    out = floats(out)
    for _ in range(int(rng.integers(0, 4))):
        px, py, size = (int(v) for v in (*rng.integers(10, 180, 2), rng.integers(2, 8)))
        mark = np.array([[px, py - size], [px, py + size], [px + 2 * size, py]], np.int32)
        cv2.fillPoly(out, [mark], bright) if chance(rng, 0.5) else cv2.polylines(out, [mark], True, bright)
    return out


# ---------------------------------------------------------------- test patterns, screens, paper


def line_pairs(rng: Rng) -> Array:
    """Draw groups of bars of falling pitch on a plain ground, as on resolution phantoms and monitor patterns."""
    out = np.full((CROP, CROP), rng.uniform(0, 1), np.float32)
    value, sine = float(rng.uniform(0, 1)), chance(rng, 0.3)
    y = 4
    while y < CROP - 12:
        high, x, pitch = int(log_uniform(rng, 10, 60)), int(rng.integers(0, 20)), log_uniform(rng, 4, 16)
        while x < CROP - 8 and pitch >= 2:
            n = int(rng.integers(2, 7))
            wide = int(n * pitch)
            t = np.arange(wide) / pitch
            bars = 0.5 + 0.5 * np.sin(2 * np.pi * t) if sine else (t % 1 < 0.5).astype(np.float64)
            part = out[y : y + high, x : x + wide]
            part += (value - part) * floats(bars)[None, : part.shape[1]]
            x += wide + int(rng.integers(2, 18))
            pitch *= rng.uniform(0.7, 1)
        y += high + int(rng.integers(2, 14))
    return noisy(rng, out if chance(rng, 0.5) else np.ascontiguousarray(out.T))


def waves(rng: Rng) -> Array:
    """Bars with a pitch that changes, stars and zone plates."""
    x, y = grid(rng.uniform(0, np.pi))
    kind, pitch = int(rng.integers(4)), log_uniform(rng, 2, 30)
    x, y = x - rng.uniform(-90, 90), y - rng.uniform(-90, 90)
    phase = (
        x / pitch * (1 + rng.uniform(0, 0.01) * x),
        np.arctan2(y, x) * rng.integers(6, 60) / 6.28,
        (x * x + y * y) / (pitch * 60),
        x / np.maximum(np.abs(y) * 0.05 + 2, 2),
    )[kind]
    out = 0.5 + 0.5 * np.sin(2 * np.pi * phase)
    return noisy(rng, floats(out > 0.5) if chance(rng, 0.6) else floats(out))


def tiles(rng: Rng) -> Array:
    """Checkerboards, grey steps and squares within squares, straight or turned."""
    x, y = grid(0.0 if chance(rng, 0.7) else rng.uniform(0, 1.6))
    wide, high = log_uniform(rng, 2, 50), log_uniform(rng, 2, 50)
    column, row = np.floor(x / wide).astype(int), np.floor(y / (wide if chance(rng, 0.6) else high)).astype(int)
    kind = rng.random()
    if kind < 0.4:
        out = (column + row) % 2 * rng.uniform(0.2, 1) + rng.uniform(0, 0.3)
    elif kind < 0.6:
        out = (column % int(rng.integers(4, 18))) / 12 + 0 * row
    else:
        out = rng.random((400, 400))[column + 200, row + 200]
        middle = (np.abs(x % wide - wide / 2) < wide / 5) & (np.abs(y % high - high / 2) < high / 5)
        out = np.where(middle, 1 - out, out) if chance(rng, 0.5) else out
    return noisy(rng, floats(out))


def dots(rng: Rng) -> Array:
    """Dot grids, pins of a phantom, halftone and moiré: dots in rows, of one size or of one that follows a picture."""
    x, y = grid(rng.uniform(0, 1.6) if chance(rng, 0.5) else 0.0)
    pitch = log_uniform(rng, 2.5, 30)
    shift = np.where(np.floor(y / pitch) % 2 == 0, pitch / 2 if chance(rng, 0.5) else 0, 0)
    away = np.hypot((x + shift) % pitch - pitch / 2, y % pitch - pitch / 2)
    size = pitch * (rng.uniform(0.1, 0.4) + (rng.uniform(0, 0.2) * spots(rng, 20) if chance(rng, 0.5) else 0))
    out = np.clip((size - away) * rng.uniform(0.5, 3) + 0.5, 0, 1)
    return noisy(rng, floats(out if chance(rng, 0.6) else 1 - out))


def squared_paper(rng: Rng) -> Array:
    """Graph paper with ECG leads, or the grid alone."""
    out = np.full((CROP, CROP), 1.0, np.float32)
    step, start, every = int(log_uniform(rng, 3, 24)), int(rng.integers(0, 20)), pick(rng, (2, 4, 5, 5, 5, 10))
    thin, thick = rng.uniform(0.05, 0.4), rng.uniform(0.2, 0.6)
    for view in (out, out.T):
        for i, at in enumerate(range(start, CROP, step)):
            view[at : at + (2 if i % every == 0 and step > 8 else 1)] -= thick if i % every == 0 else thin
    x = np.arange(-10, CROP + 10, 0.5)
    for _ in range(int(rng.integers(0, 6))):
        beat, big = (x / log_uniform(rng, 15, 120) + rng.random()) % 1, rng.uniform(4, 50) * rng.choice([-1, 1, 1])
        y = rng.uniform(10, 185) + rng.normal(0, rng.uniform(0, 0.8), len(x))
        for peak, wide, share in ((0.3, 0.012, 1), (0.33, 0.012, -0.35), (0.15, 0.03, 0.12), (0.6, 0.05, 0.25)):
            y = y - big * share * rng.uniform(0.3, 1.4) * np.exp(-(((beat - peak) / wide) ** 2))
        points = np.round(np.stack([x, y], 1) * 8).astype(np.int32)
        cv2.polylines(out, [points], False, float(rng.uniform(0, 0.3)), pick(rng, (1, 1, 2)), cv2.LINE_AA, 3)
    return noisy(rng, np.clip(out, 0, 1))


# ---------------------------------------------------------------- bones and implants


def trabeculae(rng: Rng) -> Array:
    """Draw cancellous bone: a net of fine struts along one or two directions, beside a bright cortex."""
    x, _ = grid(rng.uniform(0, np.pi))
    size = log_uniform(rng, 0.8, 4)
    ridges = [1 - np.abs(spots(rng, size, rng.uniform(1, 4))) for _ in range(2)]
    net = np.maximum(ridges[0], np.rot90(ridges[1]) if chance(rng, 0.7) else ridges[0])
    mesh = 0.3 + rng.uniform(0.08, 0.4) * net + 0.1 * spots(rng, 30)
    edge = x + rng.uniform(2, 14) * spots(rng, rng.uniform(10, 40)) + rng.uniform(-40, 80)
    cortex = np.exp(-((edge / rng.uniform(2, 10)) ** 2)) * rng.uniform(0.2, 0.6)
    outside = rng.uniform(0, 0.3) + 0.03 * spots(rng, 1)
    return noisy(rng, floats(np.where(edge > 0, mesh, outside) + cortex), 0.04)


def joint(rng: Rng) -> Array:
    """Draw the ends of bones with the gap between them, or rows of small bones."""
    x, y = grid(rng.uniform(0, np.pi))
    out = np.full((CROP, CROP), rng.uniform(0.05, 0.35), np.float32) + 0.04 * spots(rng, 30)
    for _ in range(int(rng.integers(1, 7))):
        at_x, at_y, wide, high = *rng.uniform(-80, 80, 2), *np.exp(rng.uniform(2.3, 4.4, 2))
        far = np.hypot((x - at_x) / wide, (y - at_y) / high) ** rng.uniform(1, 2) + 0.06 * spots(rng, 12)
        rim = np.exp(-(((far - 0.93) * rng.uniform(8, 25)) ** 2))
        body = np.clip((1 - far) * 20, 0, 1) * (rng.uniform(0.1, 0.3) + 0.05 * (1 - np.abs(spots(rng, 1.5))))
        out += floats(body + rng.uniform(0.05, 0.3) * rim)
    return noisy(rng, floats(out), 0.04)


def ribs(rng: Rng) -> Array:
    """Rib cages: bands of arcs that cross, with darker lungs between them."""
    x, y = grid(rng.normal(0, 0.15))
    out = 0.45 + 0.12 * spots(rng, 40) + 0.03 * (1 - np.abs(spots(rng, 2, 2)))
    for bend in rng.uniform(-0.006, 0.006, int(rng.integers(1, 3))):
        pitch, tilt = rng.uniform(20, 60), rng.normal(0, 0.5)
        at = (y + bend * x * x + tilt * x) / pitch
        band = np.abs(at % 1 - 0.5) / 0.5
        wide = rng.uniform(0.25, 0.5)
        rim = np.exp(-(((band - wide) / rng.uniform(0.04, 0.12)) ** 2))
        out += rng.uniform(0.05, 0.18) * (band < wide) + rng.uniform(0.03, 0.12) * rim
    return noisy(rng, floats(out), 0.05)


def teeth(rng: Rng) -> Array:
    """Rows of teeth with roots, pulp and bright fillings."""
    out = floats(0.3 + 0.1 * spots(rng, 25) + 0.04 * (1 - np.abs(spots(rng, 2))))
    wide = log_uniform(rng, 14, 55)
    for up in (-1, 1) if chance(rng, 0.6) else (1,):
        base, shift = 96 - up * rng.uniform(2, 12), rng.uniform(0, wide)
        for i in range(int(CROP / wide) + 2):
            middle, high = i * wide - shift + rng.normal(0, 1.5), wide * rng.uniform(1.6, 2.4)
            outline = [(-0.45, 0), (0.45, 0), (0.42, 0.45), (0.15, 1), (-0.15, 1), (-0.42, 0.45)]
            tooth = np.array([[middle + a * wide, base + up * -b * high] for a, b in outline])
            mask = np.zeros_like(out)
            cv2.fillPoly(mask, [np.round(tooth * 8).astype(np.int32)], 1.0, cv2.LINE_AA, 3)
            pulp = np.zeros_like(out)
            root = [(int(middle), int(base - up * 0.35 * high)), (int(middle), int(base - up * 0.85 * high))]
            cv2.line(pulp, root[0], root[1], 1.0, max(1, int(wide / 10)), cv2.LINE_AA)
            out += softened(mask, wide / 20) * rng.uniform(0.25, 0.4) - softened(pulp, 1) * 0.15
            if chance(rng, 0.2):
                at = (int(middle), int(base - up * 0.12 * high))
                cv2.ellipse(out, (at, (wide * 0.5, wide * 0.25), float(rng.uniform(-20, 20))), 1.0, -1, cv2.LINE_AA)
    return noisy(rng, out, 0.05)


def screw(rng: Rng, out: Array, at: Sequence[float], long: float, wide: float, turn: float) -> None:
    """Add a threaded screw with its head."""
    y, x = np.mgrid[:CROP, :CROP].astype(np.float32)
    along = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
    across = (y - at[1]) * np.cos(turn) - (x - at[0]) * np.sin(turn)
    pitch = max(2.0, wide * rng.uniform(0.25, 0.6))
    slanted = (along + across * 0.25) / pitch % 1
    radius = wide * (0.32 + 0.18 * np.abs(2 * slanted - 1)) * np.clip((long - along) / wide + 0.2, 0, 1)
    shaft = (along > 0) & (along < long) & (np.abs(across) < radius)
    head = (along < 0) & (along > -wide * 0.5) & (np.abs(across) < wide * 0.75)
    out[shaft | head] = float(rng.uniform(0.75, 1.1))


def metal(rng: Rng) -> Array:
    """Plates with holes and screws on bone."""
    x, y = grid(turn := rng.uniform(0, np.pi))
    out = floats(0.2 + 0.08 * spots(rng, 30) + bone(rng, x, y, rng.uniform(25, 80)) * 0.6)
    if chance(rng, 0.75):
        wide, off, step = log_uniform(rng, 8, 36), rng.uniform(-40, 40), log_uniform(rng, 14, 60)
        scallop = wide * (0.5 + rng.choice([0, 0.06, 0.12]) * np.cos(2 * np.pi * y / step))
        plate = np.abs(x - off) < scallop
        hole = np.hypot(x - off, (y % step - step / 2) * rng.uniform(0.5, 1)) < wide * rng.uniform(0.15, 0.35)
        out[plate & ~hole] = rng.uniform(0.7, 1)
    for _ in range(int(rng.integers(0, 7))):
        at, long, wide = rng.uniform(20, 172, 2).tolist(), log_uniform(rng, 20, 110), log_uniform(rng, 4, 22)
        screw(rng, out, at, long, wide, turn + rng.normal(0, 0.2) + rng.integers(2) * np.pi)
    return noisy(rng, out, 0.05)


def path_line(out: Array, points: Array, value: float, thick: int) -> None:
    cv2.polylines(out, [np.round(points * 8).astype(np.int32)], False, value, thick, cv2.LINE_AA, 3)


def pacemaker(rng: Rng) -> Array:
    """Draw a can with its circuit inside, and leads with coils and tips."""
    out = ribs(rng) if chance(rng, 0.5) else floats(0.4 + 0.1 * spots(rng, 30))
    dark = 1.0 if chance(rng, 0.7) else 0.0
    for _ in range(int(rng.integers(1, 4))):
        points = curve(rng, 120)
        path_line(out, points, dark, pick(rng, (1, 2, 2, 3)))
        coil = points[int(rng.integers(0, 60)) :][: int(rng.integers(10, 50))]
        side = np.stack([np.cos(np.arange(len(coil)) * 2.1), np.sin(np.arange(len(coil)) * 2.1)], 1)
        path_line(out, coil + floats(side) * np.float32(rng.uniform(1, 5)), dark, 1)
        cv2.circle(out, points[-20].astype(int).tolist(), int(rng.integers(2, 5)), dark, -1, cv2.LINE_AA)
    if chance(rng, 0.7):
        middle, size = rng.uniform(30, 160, 2), rng.uniform(30, 110, 2)
        turn = float(rng.uniform(0, 180))
        cv2.ellipse(out, (middle.tolist(), size.tolist(), turn), dark * 0.85, -1, cv2.LINE_AA)
        for _ in range(int(rng.integers(2, 14))):
            inner = (middle + rng.normal(0, 0.15, 2) * size).tolist()
            box = cv2.boxPoints((inner, np.maximum(size * rng.uniform(0.03, 0.35, 2), 2).tolist(), turn))
            value = dark + float(rng.normal(0, 0.25))
            if chance(rng, 0.6):
                cv2.polylines(out, [box.astype(np.int32)], True, value, pick(rng, (1, 1, 2)), cv2.LINE_AA)
            else:
                cv2.fillPoly(out, [box.astype(np.int32)], value, cv2.LINE_AA)
    return noisy(rng, out, 0.04)


def staples(rng: Rng) -> Array:
    """Rows of staples, clips, sutures and embolisation coils along a curve."""
    x, y = grid(rng.uniform(0, np.pi))
    out = floats(0.4 + 0.12 * spots(rng, 30) + rng.uniform(0, 0.5) * bone(rng, x, y, rng.uniform(20, 60)))
    value = 1.0 if chance(rng, 0.75) else 0.05
    for _ in range(int(rng.integers(1, 4))):
        points, step, size = curve(rng, 120), int(rng.integers(2, 9)), log_uniform(rng, 2, 9)
        kind, thick = int(rng.integers(3)), pick(rng, (1, 1, 2, 3))
        for a, b in zip(points[:-step:step], points[step::step], strict=False):
            way = (b - a) / max(float(np.hypot(*(b - a))), 1e-3)
            side = floats([-way[1], way[0]])
            half, tooth = way * np.float32(size), side * np.float32(size * rng.uniform(0.3, 1))
            shapes = (
                [a + tooth, a, a + half, a + half + tooth],
                [a - tooth, a + tooth],
                [a + tooth * np.float32(np.cos(t)) + half * np.float32(np.sin(t)) for t in np.linspace(0, 6, 9)],
            )
            path_line(out, floats(shapes[kind]), value, thick)
    return noisy(rng, out, 0.05)


def stent(rng: Rng) -> Array:
    """Meshes: stents, filters, grids against scatter and wire nets."""
    x, y = grid(rng.uniform(0, np.pi))
    wide, pitch = log_uniform(rng, 10, 90), log_uniform(rng, 4, 26)
    bent = x - rng.uniform(0, 40) * np.sin(y / rng.uniform(40, 120))
    inside = np.abs(bent) < wide
    turn = np.arcsin(np.clip(bent / wide, -1, 1)) * wide * 0.7 if chance(rng, 0.5) else bent
    zig = np.abs(turn / pitch % 2 - 1) * pitch * rng.uniform(0.4, 1.2)
    near = np.minimum(np.abs((y + zig) % pitch - pitch / 2), np.abs((y - zig) % pitch - pitch / 2))
    thick = pitch * rng.uniform(0.05, 0.16) + 0.4
    lines = np.clip((thick - near) * 1.5 + 0.5, 0, 1) * inside
    return noisy(rng, floats(0.35 + 0.12 * spots(rng, 30) + rng.choice([-0.35, 0.3, 0.5]) * lines), 0.05)


# ---------------------------------------------------------------- microscopes and endoscopes


def cells(rng: Rng) -> Array:
    """Stained tissue: nuclei of many shades and sizes on fibres, or bright ones on black."""
    fluorescent = chance(rng, 0.3)
    fibres = 0.7 + 0.12 * spots(rng, rng.uniform(1, 4), rng.uniform(1, 5)) + 0.08 * spots(rng, 1)
    out = floats(0.05 + 0.02 * spots(rng, 2)) if fluorescent else floats(fibres)
    size, n = log_uniform(rng, 2, 14), int(rng.integers(20, 400))
    for _ in range(min(n, int(9000 / size**1.5))):
        at, axes = rng.integers(0, CROP, 2).tolist(), np.maximum(size * rng.uniform(0.6, 2.2, 2), 1.5).tolist()
        value = float(rng.uniform(0.3, 1) if fluorescent else rng.uniform(0.1, 0.55))
        cv2.ellipse(out, (at, axes, float(rng.uniform(0, 180))), value, -1, cv2.LINE_AA)
    return floats(softened(out, rng.uniform(0.4, 1.5)) + rng.uniform(0.01, 0.08) * spots(rng, rng.uniform(0.5, 2)))


def mucosa(rng: Rng) -> Array:
    """Folds with fine vessels and hard white reflections."""
    lit = 0.45 + 0.2 * np.sin(2 * spots(rng, rng.uniform(15, 40))) + 0.03 * spots(rng, 2)
    shine = spots(rng, rng.uniform(1, 4), rng.uniform(1, 3)) > rng.uniform(2, 3)
    out = floats(lit)
    for _ in range(int(rng.integers(0, 12))):
        path_line(out, curve(rng, 120), float(rng.uniform(0.15, 0.4)), pick(rng, (1, 1, 2)))
    out = softened(out, rng.uniform(0.6, 1.4))
    return floats(np.where(softened(floats(shine), 0.7) > 0.4, 1.0, out))


DRAWN: Final[tuple[tuple[Callable[[Rng], Array], ...], ...]] = (
    (flat, flat, clouds, speckle, discs, vessels, edges),
    (tissue, doppler, power_doppler, colour_box, m_mode, spectral, sector_ticks, line_pairs, waves, tiles, dots,
     squared_paper, trabeculae, joint, ribs, teeth, metal, pacemaker, staples, stent, cells, mucosa),
)  # fmt: skip
"""Textures, and things; each of the two is shown as often."""

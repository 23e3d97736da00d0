"""Train glyphs.onnx, the small net that marks the pixels of drawn text.

::

    PYTHONPATH=benchmarks OMP_NUM_THREADS=1 python tools/train_glyph_net.py src/dicomshield/finders/text/glyphs.onnx

Needs torch, onnx, onnxruntime, OpenCV and Pillow, which the library itself does not need for this. Every crop is drawn
when it is asked for, from a seed and its number alone: the same versions, fonts and seed give the same crops.

Data and licences
-----------------
- Text: the letter skeletons in ``SKELETONS`` below (our own work), and outline and bitmap fonts of the *development*
  part of ``benchmarks/text_images.py``. Those come from Debian packages under the SIL Open Font Licence, Apache-2.0,
  MIT, BSD, Bitstream Vera, the IPA and Arphic licences, CC BY-SA, and the GPL with or without font exception. What is
  drawn with them is thrown away after one step; no outline is kept. An empty ``Sources.families`` does without them.
- Backgrounds: those that ``glyph_grounds.py`` makes up; the text-free *development* backgrounds of the same generator,
  files that libraries hand out as test data (MIT, BSD and Apache-2.0, some of it from The Cancer Imaging Archive's
  Pseudo-PHI-DICOM-Data, CC BY 4.0); and what ``--more`` names. ``docs/glyph-net.md`` lists the packages that the
  weights of this repository saw, under permissive licences, CC BY-SA and the GPL. No crop is kept.
- A third of the crops is cut from whole images that the generator draws for its development part.
- Nothing of the generator's held-out part is read here.
"""

from __future__ import annotations

import argparse
import importlib
import os
import string
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import torch
from glyph_grounds import CROP, DRAWN, Array, Rng, chance, curve, floats, pick, softened, spectrum
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from dicomshield.finders.text import views
from dicomshield.finders.text.views import contrasts, levels

LARGEST: Final = 90
"""Letters higher than this are left to the passes at half and quarter scale: neither right nor wrong here."""
VISIBLE: Final = 1.4
"""Text fainter than this many standard deviations of its surroundings is neither right nor wrong."""
FAINT: Final = 0.02
"""What every surroundings' deviation counts at least, in parts of the span of a whole image."""
LEAST_SEEN: Final = 0.01
"""And so is the part of it that differs less than this share of the span from what lies below."""
FIRST_SEED: Final = 10_000
"""Of the generator's whole images, so that none is one that a detector is measured with."""
SMALLEST: Final = 6
"""Whole images have lines of fewer pixels at the lower scales, which are neither right nor wrong, either."""
CAPITAL: Final = 0.72
"""Height of a capital letter, in parts of the size of a font."""
SCALES: Final = (1.0, 1.0, 1.0, 0.71, 0.71, 1.41, 0.5, 0.5, 0.35, 0.25, 0.125)
MARGIN: Final = 56
"""Pixels beyond a crop of a whole image in which its contrasts are made, too."""
WIDTHS: Final = (32, 80, 160, 256)
BLOCKS: Final = ((1, 1), (1, 1, 1), (1, 2, 4, 1), (1, 2, 1, 4))
"""Dilations of the blocks at 1/2, 1/4, 1/8 and 1/16 of the resolution."""
SCRIPTS: Final = {
    "latin": string.ascii_uppercase * 3 + string.ascii_lowercase * 2 + string.digits * 5,
    "accent": "ÀÁÂÄÅÆÇÈÉÊËÍÎÏÑÓÔÖØÙÚÜßàáâäåæçèéêëíîïñóôöøùúüčďěłńřśšťůýžğşığ",
    "greek": "ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩαβγδεζηθικλμνξοπρσςτυφχψω",
    "cyrillic": "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщыьэюя",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "thai": "กขคงจฉชซญดตถทนบปผพฟมยรลวสหอ",
    "devanagari": "अआइईउकखगघचछजझटठडतथदधनपफबभमयरलवशसह",
    "kana": "アイウエオカキクケコサシスセソタチツテトナニヌネノあいうえおかきくけこさしすせそ",
    "han": "山田太郎佐藤花子王小明张伟李娜陳大文医院病人姓名男女年月日東京北上海中国一二三四五六七八九十",
    "hangul": "홍길동김민수이영희박정최강조윤장임서울병원환자남여",
}
GRID: Final = {letter: (i % 3, i // 3) for i, letter in enumerate("abcdefghijklmno")}
"""Nodes of a 3 x 5 grid, by row, on which the skeletons below are drawn."""
SKELETONS: Final = {
    "A": "mgbio gi", "B": "am abfhg hlnm", "C": "cbdjno", "D": "am abflnm", "E": "camo gh", "F": "cam gh",
    "G": "cbdjnoih", "H": "am co gi", "I": "bn ac mo", "J": "clnj", "K": "am cgo", "L": "amo", "M": "mahco",
    "N": "maoc", "O": "bdjnlfb", "P": "am abfhg", "Q": "bdjnlfb ko", "R": "am abfhg ho", "S": "cbdhlnm", "T": "ac bn",
    "U": "ajnlc", "V": "anc", "W": "amhoc", "X": "ao cm", "Y": "ahc hn", "Z": "acmo", "0": "acoma cm", "1": "dbn mo",
    "2": "dbfmo", "3": "acholm", "4": "ngi cn", "5": "caghlnm", "6": "cgjnlhj", "7": "acn", "8": "bdhlnjhfb",
    "9": "fhdbflnm", "a": "ghlok jkl", "c": "ihjno", "d": "co ihjno", "e": "jlihjno", "h": "am jhlo", "n": "gm jhlo",
    "o": "hjnlh", "r": "gm jhi", "t": "bno gi", "u": "gjno io", "-": "gi", "/": "cm", ":": "ee kk", "^": "dbf",
}  # fmt: skip


class Crop(NamedTuple):
    """One training crop.

    Attributes
    ----------
    channels : array of shape (6, CROP, CROP)
    target, weight : array of shape (1, CROP / 2, CROP / 2)
        1 where text is, and how much a pixel counts.
    text_free : bool
    """

    channels: Array
    target: Array
    weight: Array
    text_free: bool


class Font(NamedTuple):
    """A font file: where in it, the names of the ``SCRIPTS`` it has, and the sizes of a bitmap font."""

    path: str
    at: int
    scripts: tuple[str, ...]
    sizes: tuple[int, ...]


class Sources(NamedTuple):
    """What crops are drawn from.

    Attributes
    ----------
    families : tuple of tuple of Font
        Font files, those of one design together.
    images : tuple of tuple of array
        Text-free backgrounds, one plane each; those of one kind together, and each kind is shown as often.
    """

    families: tuple[tuple[Font, ...], ...]
    images: tuple[tuple[Array, ...], ...]


class Scene(NamedTuple):
    """A whole image of the generator, as the detector evens it.

    Attributes
    ----------
    planes : tuple of array of shape (rows, columns)
        What the net looks at: the only plane, or the brightest and the darkest one of a coloured image.
    labels : array of shape (rows, columns)
        0, or the number of the line of text that a pixel is ink of, from 1.
    sizes : tuple of int
        Pixels a line of each, as fonts count them.
    """

    planes: tuple[Array, ...]
    labels: NDArray[np.uint16]
    sizes: tuple[int, ...]


def channels(shown: NDArray[np.uint8]) -> Array:
    """Return what the net sees of what `views.contrasts` returns: shape (6, height, width), -4 to 4."""
    return floats(shown.transpose(2, 0, 1)) * np.float32(8 / 255) - 4


# ---------------------------------------------------------------- letters


def letters(rng: Rng, script: str, n: int) -> str:
    return "".join(pick(rng, SCRIPTS[script]) for _ in range(n))


def number(rng: Rng) -> str:
    """Digits as dates, times, identifiers and measures have them."""
    digits = [str(d) for d in rng.integers(0, 10, 14)]
    forms = "##/##/#### ####-##-## ##:##:## ######## ##### ##.# ### ## #-##### ##.##.##"
    return "".join(digits.pop() if c == "#" else c for c in pick(rng, forms.split()))


def word(rng: Rng, script: str) -> str:
    text = letters(rng, script, int(rng.integers(2, 10)))
    return pick(rng, [text, text.upper(), text.lower(), text.capitalize()]) if script == "latin" else text


def line(rng: Rng, script: str) -> str:
    """One line: a single letter or digit, a number, or words and numbers."""
    kind = rng.random()
    if kind < 0.34:
        return pick(rng, SCRIPTS[script].replace("I", "").replace("l", "").replace("i", ""))
    if kind < 0.41:
        return letters(rng, script, int(rng.integers(2, 4)))
    if kind < 0.56:
        return number(rng)
    parts = [number(rng) if chance(rng, 0.35) else word(rng, script) for _ in range(int(rng.integers(1, 4)))]
    return pick(rng, [" ", " ", " ", "^", ": ", ", ", "-"]).join(parts)


def smoothed(points: Array) -> Array:
    """Corners cut twice (Chaikin), so that a polyline looks drawn by a pen."""
    for _ in range(2):
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut, points[-1:]])
    return points


def pen_strokes(rng: Rng, text: str) -> list[Array]:
    """Return the polylines of a text in a pen font made up on the spot, in units of half a letter's width."""
    jitter = {node: np.asarray(at, np.float32) + rng.normal(0, 0.1, 2).astype(np.float32) for node, at in GRID.items()}
    round_, gap, strange = chance(rng, 0.6), rng.uniform(2.6, 3.6), chance(rng, 0.15)
    strokes = []
    for i, char in enumerate(text):
        paths = SKELETONS.get(char, SKELETONS.get(char.upper(), "")).split()
        if strange and paths:
            paths = ["".join(rng.choice(list(GRID), int(rng.integers(2, 5)))) for _ in range(int(rng.integers(1, 4)))]
        for path in paths:
            points = np.stack([jitter[node] for node in path]) + np.array([i * gap, 0], np.float32)
            strokes.append(smoothed(points) if round_ and len(path) > 2 else points)
    return strokes


def pen_alpha(rng: Rng, text: str, height: float) -> Array | None:
    """Draw a text with the skeletons: coverage 0..1 of each pixel."""
    strokes = pen_strokes(rng, text)
    if not strokes:
        return None
    bitmap = chance(rng, 0.3)
    zoom = int(rng.integers(1, 4)) if bitmap and height > 20 else 1
    scale_y = height / zoom / 4
    scale_x = scale_y * rng.uniform(0.8, 1.5)
    thick = max(1, round(rng.uniform(0.06, 0.2) * height / zoom)) if not bitmap else max(1, round(height / zoom / 9))
    slant = rng.normal(0, 0.12) if chance(rng, 0.3) else 0.0
    placed = [np.stack([s[:, 0] * scale_x + slant * scale_y * (4 - s[:, 1]), s[:, 1] * scale_y], 1) for s in strokes]
    everything = np.concatenate(placed)
    low, high = everything.min(0) - thick - 2, everything.max(0) + thick + 2
    canvas = np.zeros((int(high[1] - low[1]) + 1, min(int(high[0] - low[0]) + 1, 2000)), np.uint8)
    kind = cv2.LINE_8 if bitmap else cv2.LINE_AA
    for points in placed:
        at = np.round((points - low) * (1 if bitmap else 16)).astype(np.int32)
        cv2.polylines(canvas, [at], False, 255, thick, kind, 0 if bitmap else 4)
    return (canvas.repeat(zoom, 0).repeat(zoom, 1) / 255).astype(np.float32)


@lru_cache(maxsize=512)
def opened(path: str, at: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size, at)


@cache
def has(font: Font, letter: str) -> bool:
    """Tell whether a font has a letter, and not just the box that stands for one: many scripts' have no digits."""
    drawn, none = (opened(font.path, font.at, (*font.sizes, 24)[0]).getmask(c) for c in (letter, "\ufffe"))
    return letter == " " or bytes(drawn) != bytes(none)


def size_of(rng: Rng, font: Font, size: int) -> tuple[int, int]:
    """Return the size to ask a font for, and how many times its pixels are to be enlarged."""
    if font.sizes:
        return min(((s, k) for s in font.sizes for k in range(1, 9)), key=lambda sk: abs(sk[0] * sk[1] - size))
    zoom = int(rng.integers(2, 4)) if chance(rng, 0.06) and size >= 20 else 1
    return size // zoom, zoom


def font_alpha(rng: Rng, font: Font, text: str, height: int) -> Array | None:
    """Draw a text with a font file, smooth or in one bit, sometimes as coarse pixels: coverage 0..1."""
    text = "".join(letter for letter in text if has(font, letter))
    size, zoom = size_of(rng, font, height)
    loaded = opened(font.path, font.at, size)
    x0, y0, x1, y1 = (round(v) for v in loaded.getbbox(text))
    if x1 - x0 < 1 or y1 - y0 < 1 or (x1 - x0) * zoom > 4000:
        return None
    image = Image.new("L", (x1 - x0 + 4, y1 - y0 + 4), 0)
    draw = ImageDraw.Draw(image)
    draw.fontmode = "1" if font.sizes or chance(rng, 0.4) else "L"
    draw.text((2 - x0, 2 - y0), text, fill=255, font=loaded)
    return (np.asarray(image).repeat(zoom, 0).repeat(zoom, 1) / 255).astype(np.float32)


def reshaped(rng: Rng, alpha: Array) -> Array:
    """Make strokes thicker or thinner, or bend them, so that letters of no existing font come out."""
    if chance(rng, 0.25):
        blurred = softened(alpha, rng.uniform(0.5, 1.2))
        alpha = np.clip((blurred - rng.uniform(0.25, 0.6)) * rng.uniform(2, 6) + 0.5, 0, 1)
    return bent(rng, alpha) if chance(rng, 0.12) else alpha


def bent(rng: Rng, alpha: Array) -> Array:
    h, w = alpha.shape
    y, x = np.mgrid[:h, :w].astype(np.float32)
    phase, wave, size = rng.uniform(0, 6.3, 2), rng.uniform(0.5, 2, 2) * 6.3 / max(h, 8), rng.uniform(0.02, 0.08) * h
    from_x, from_y = x + size * np.sin(y * wave[0] + phase[0]), y + size * np.sin(x * wave[1] + phase[1])
    return floats(cv2.remap(alpha, floats(from_x), floats(from_y), cv2.INTER_LINEAR))


def turned(rng: Rng, alpha: Array) -> Array:
    """Turn by a quarter, a little or any angle, and shift by parts of a pixel."""
    kind = rng.random()
    if kind < 0.2:
        return np.ascontiguousarray(np.rot90(alpha, int(rng.integers(1, 4))))
    if kind < 0.6:
        return alpha
    angle = 0.0 if kind < 0.7 else rng.normal(0, 12) if kind < 0.86 else rng.uniform(0, 360)
    h, w = alpha.shape
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), angle, rng.uniform(0.8, 1.2))
    cos, sin = abs(matrix[0, 0]), abs(matrix[0, 1])
    width, height = int(h * sin + w * cos) + 4, int(h * cos + w * sin) + 4
    matrix[:, 2] += [(width - w) / 2 + rng.uniform(-0.5, 0.5), (height - h) / 2 + rng.uniform(-0.5, 0.5)]
    return floats(cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR))


def lines(rng: Rng, script: str) -> list[str]:
    """One to four lines; sometimes letters that stand far apart, or one below the other."""
    kind = rng.random()
    if kind < 0.06:
        return list(line(rng, script).replace(" ", "")[:8])
    if kind < 0.14:
        gap, below = " " * int(rng.integers(1, 4)), int(pick(rng, [1, 1, 2, 3]))
        return [gap.join(line(rng, script)) for _ in range(below)]
    return [line(rng, script) for _ in range(1 if kind < 0.72 else int(rng.integers(2, 5)))]


def block(rng: Rng, sources: Sources, height: float) -> Array | None:
    """Lines of one font, as one coverage 0..1 of each pixel."""
    font = None if not sources.families or chance(rng, 0.25) else pick(rng, pick(rng, sources.families))
    script = "latin" if font is None or ("latin" in font.scripts and chance(rng, 0.7)) else pick(rng, font.scripts)
    drawn = []
    for text in lines(rng, script):
        one = font_alpha(rng, font, text, max(6, round(height * 1.35))) if font else pen_alpha(rng, text, height)
        if one is not None and 0 < one.mean() < 0.6:  # a filled box stands for a letter that a font does not have
            drawn.append(np.pad(one, ((0, int(height * rng.uniform(0.1, 0.5))), (0, 0))))
    if not drawn:
        return None
    width = max(one.shape[1] for one in drawn)
    page = np.concatenate([np.pad(one, ((0, 0), (0, width - one.shape[1]))) for one in drawn])
    return turned(rng, reshaped(rng, softened(page, height * rng.uniform(0.03, 0.1)) if chance(rng, 0.08) else page))


# ---------------------------------------------------------------- backgrounds, values mostly 0..1


def real(rng: Rng, images: Sequence[Sequence[Array]]) -> Array:
    """Cut a crop of a real image at a random scale, turned and mirrored, with a random tone curve.

    Sometimes it is shrunk to less than a crop and mirrored at its edges: what the passes at lower scales see.
    """
    image = pick(rng, pick(rng, images))
    side = int(min(CROP / np.exp(rng.normal(-0.4, 0.6)), *image.shape))
    y, x = (int(rng.integers(0, n - side + 1)) for n in image.shape)
    shown = CROP if chance(rng, 0.6) else int(rng.integers(min(side // 4 + 8, CROP), CROP + 1))
    how = cv2.INTER_AREA if side > shown else cv2.INTER_LINEAR
    scaled = cv2.resize(image[y : y + side, x : x + side], (shown, shown), interpolation=how)
    crop = floats(cv2.copyMakeBorder(scaled, 0, CROP - shown, 0, CROP - shown, cv2.BORDER_REFLECT))
    crop = np.rot90(crop, int(rng.integers(4)))[:, :: pick(rng, [1, -1])]
    crop = np.clip(crop, 0, 1) ** np.float32(np.exp(rng.normal(0, 0.3))) if chance(rng, 0.4) else crop
    return floats(np.ascontiguousarray(1 - crop if chance(rng, 0.25) else crop))


# ---------------------------------------------------------------- line furniture, which is no text


def shade(rng: Rng, out: Array) -> float:
    low, high = float(out.min()), float(out.max())
    return float(rng.uniform(low, max(high, low + 0.3) + 0.2))


def ruler(rng: Rng, out: Array) -> None:
    value, at, step = shade(rng, out), int(rng.integers(2, CROP - 2)), float(np.exp(rng.uniform(0.7, 3.4)))
    long, short, thick = int(rng.integers(5, 18)), int(rng.integers(2, 8)), int(rng.integers(1, 3))
    start, stop = sorted(rng.integers(0, CROP, 2))
    view = out if chance(rng, 0.5) else out.T
    for i in range(int((stop - start) / step)):
        y, length = int(start + i * step), long if i % 5 == 0 else short
        view[y : y + thick, at : at + length] = value
    if chance(rng, 0.6):
        view[start:stop, at : at + thick] = value


def lattice(rng: Rng, out: Array) -> None:
    """Draw lines at even distances, one way or both."""
    value, thick, step = shade(rng, out), int(rng.integers(1, 3)), int(np.exp(rng.uniform(2, 4.5)))
    for view in (out, out.T) if chance(rng, 0.7) else (out,):
        for at in range(int(rng.integers(step)), CROP, step):
            view[at : at + thick] = value


def table(rng: Rng, out: Array) -> None:
    value, thick = shade(rng, out), int(rng.integers(1, 3))
    for view in (out, out.T):
        for y in rng.integers(0, CROP, int(rng.integers(0, 5))):
            a, b = sorted(rng.integers(0, CROP, 2)) if chance(rng, 0.5) else (0, CROP)
            view[y : y + thick, a:b] = value


def trace(rng: Rng, out: Array) -> None:
    """Draw an ECG or a Doppler envelope."""
    x = np.arange(CROP)
    beat = (x / np.exp(rng.uniform(2.2, 5)) + rng.random()) % 1
    y = rng.uniform(10, CROP) - np.exp(rng.uniform(0.7, 4)) * np.exp(-(((beat - 0.3) / rng.uniform(0.02, 0.1)) ** 2))
    y += rng.uniform(0, 12) * np.exp(-(((beat - 0.6) / 0.08) ** 2)) + rng.normal(0, rng.uniform(0, 2), CROP)
    points, thick, kind = (
        np.stack([x, y], 1).astype(np.int32),
        int(rng.integers(1, 3)),
        pick(rng, [cv2.LINE_8, cv2.LINE_AA]),
    )
    cv2.polylines(out, [points], False, shade(rng, out), thick, kind)


def cross(rng: Rng, out: Array) -> None:
    """Draw calipers and crosshairs: crosses, and dots along the line between them."""
    value, arm, ends = shade(rng, out), int(rng.integers(3, 14)), rng.integers(5, CROP - 5, (2, 2))
    for x, y in ends:
        if chance(rng, 0.5):
            cv2.line(out, (int(x - arm), int(y)), (int(x + arm), int(y)), value, 1)
            cv2.line(out, (int(x), int(y - arm)), (int(x), int(y + arm)), value, 1)
        else:
            cv2.line(out, (int(x - arm), int(y - arm)), (int(x + arm), int(y + arm)), value, 1)
            cv2.line(out, (int(x - arm), int(y + arm)), (int(x + arm), int(y - arm)), value, 1)
    for f in np.arange(0, 1, rng.uniform(4, 14) / max(float(np.hypot(*(ends[1] - ends[0]))), 8)):
        at = ends[0] + f * (ends[1] - ends[0])
        cv2.circle(out, (int(at[0]), int(at[1])), int(rng.integers(0, 2)), value, -1)


def bar(rng: Rng, out: Array) -> None:
    y, x, h, w = (int(rng.integers(a, b)) for a, b in ((0, 100), (0, CROP - 25), (30, 150), (5, 25)))
    steps = int(rng.integers(3, 64))
    ramp = np.floor(np.linspace(1, 0, CROP) * steps) / steps
    part = out[y : y + h, x : x + w]
    part[:] = ramp[: part.shape[0], None]
    if chance(rng, 0.5):
        cv2.rectangle(out, (x, y), (x + w, y + h), 1.0, 1)


def shapes(rng: Rng, out: Array) -> None:
    """Draw boxes, circles, polygons and sectors, as regions of interest and frames are drawn."""
    value, thick = shade(rng, out), int(rng.integers(1, 4))
    kind, (a, b) = int(rng.integers(4)), rng.integers(0, CROP, (2, 2)).tolist()
    if kind == 0:
        cv2.rectangle(out, a, b, value, thick)
    elif kind == 1:
        cv2.circle(out, a, int(rng.integers(4, 100)), value, thick, cv2.LINE_AA)
    elif kind == 2:
        cv2.polylines(out, [rng.integers(0, CROP, (int(rng.integers(3, 8)), 2)).astype(np.int32)], True, value, thick)
    else:
        cv2.ellipse(out, a, (90, 90), 0, float(rng.integers(0, 180)), float(rng.integers(180, 360)), value, thick)


def wire(rng: Rng, out: Array) -> None:
    """Draw a guide wire, a chain of sutures or a coil."""
    points, value = curve(rng), shade(rng, out)
    if chance(rng, 0.4):
        t = np.linspace(0, rng.uniform(40, 200), len(points) * 4)
        turns = np.stack([np.sin(t), np.cos(t * rng.uniform(0.7, 1))], 1)
        points = floats(np.repeat(points, 4, 0) + rng.uniform(2, 8) * turns)
    if chance(rng, 0.3):
        for x, y in points[:: int(rng.integers(2, 6))]:
            cv2.circle(out, (int(x), int(y)), int(rng.integers(1, 4)), value, -1, cv2.LINE_AA)
    else:
        cv2.polylines(out, [np.round(points).astype(np.int32)], False, value, int(rng.integers(1, 5)), cv2.LINE_AA)


def mesh(rng: Rng, out: Array) -> None:
    """Draw a stent or an anti-scatter grid: crossing zigzags."""
    value, step = shade(rng, out), float(rng.uniform(3, 14))
    start, heading, rows = rng.uniform(0, CROP, 2), rng.uniform(0, 6.3), int(rng.integers(1, 7))
    along, across = np.array([np.cos(heading), np.sin(heading)]), np.array([-np.sin(heading), np.cos(heading)])
    n = np.arange(int(rng.integers(5, 30)))
    for row in range(rows):
        points = start + n[:, None] * step * along + (row + (n[:, None] + row) % 2) * step * across
        cv2.polylines(out, [np.round(points).astype(np.int32)], False, value, int(rng.integers(1, 3)), cv2.LINE_AA)


def clips(rng: Rng, out: Array) -> None:
    """Draw surgical clips, staples and calcifications: short bright dashes and dots in no order."""
    value = shade(rng, out)
    for _ in range(int(rng.integers(1, 20))):
        at, way = rng.uniform(0, CROP, 2), rng.normal(0, 1, 2) * rng.uniform(0.5, 9)
        ends = np.round(np.stack([at, at + way]) * 8).astype(np.int32)
        cv2.polylines(out, [ends], False, value, int(rng.integers(1, 4)), cv2.LINE_AA, 3)


def icon(rng: Rng, out: Array) -> None:
    """Draw small markers: squares, diamonds, triangles and rings, one in another, or an arrow."""
    at, size, value = rng.integers(8, CROP - 8, 2), rng.uniform(2, 13), shade(rng, out)
    if chance(rng, 0.25):
        tip = at + np.round(size * rng.normal(0, 2, 2)).astype(int)
        cv2.arrowedLine(
            out, at.tolist(), tip.tolist(), value, int(rng.integers(1, 3)), pick(rng, [cv2.LINE_8, cv2.LINE_AA])
        )
        return
    corners = int(pick(rng, [3, 4, 4, 4, 12]))
    turns = np.arange(corners) * 2 * np.pi / corners + pick(rng, [0.0, np.pi / 4, np.pi / 2])
    for part in rng.uniform(0.3, 1, int(rng.integers(1, 3))):
        points = np.round(at + size * part * np.stack([np.cos(turns), np.sin(turns)], 1)).astype(np.int32)
        cv2.polylines(out, [points], True, value, int(rng.integers(1, 3)), pick(rng, [cv2.LINE_8, cv2.LINE_AA]))


def icons(rng: Rng, out: Array) -> None:
    for _ in range(int(rng.integers(1, 6))):
        icon(rng, out)


def furnished(rng: Rng, out: Array) -> Array:
    """Draw lines on a crop, or on one some times as large that is shrunk: what the passes at lower scales see."""
    if chance(rng, 0.6):
        for _ in range(int(rng.integers(1, 4))):
            pick(rng, FURNITURE)(rng, out)
        return out
    times = int(pick(rng, [2, 2, 3, 4]))
    large = out.repeat(times, 0).repeat(times, 1)
    for y, x in product(range(0, CROP * times, CROP), repeat=2):
        part = np.ascontiguousarray(large[y : y + CROP, x : x + CROP])
        if chance(rng, 0.6):
            pick(rng, FURNITURE)(rng, part)
        large[y : y + CROP, x : x + CROP] = part
    return floats(cv2.resize(large, (CROP, CROP), interpolation=cv2.INTER_AREA))


FURNITURE: Final[tuple[Callable[[Rng, Array], None], ...]] = (
    ruler,
    lattice,
    table,
    trace,
    cross,
    bar,
    shapes,
    wire,
    mesh,
    clips,
    icons,
)


def background(rng: Rng, sources: Sources) -> Array:
    """Make a crop without text, often with lines that are none."""
    out = real(rng, sources.images) if sources.images and chance(rng, 0.6) else pick(rng, pick(rng, DRAWN))(rng)
    if chance(rng, 0.3):
        gradient = np.linspace(0, float(rng.normal(0, 0.5)), CROP, dtype=np.float32)
        out = out + (gradient[:, None] if chance(rng, 0.5) else gradient)
    if chance(rng, 0.15):  # the frame's edge, beyond which nothing is
        edge = int(rng.integers(0, CROP))
        np.rot90(out, int(rng.integers(4)))[:edge] = pick(rng, [0.0, 0.0, 1.0])
    if chance(rng, 0.1):  # few pixels shown large
        coarse = int(rng.integers(2, 7))
        out = out[::coarse, ::coarse].repeat(coarse, 0).repeat(coarse, 1)[:CROP, :CROP]
    out = np.ascontiguousarray(out, np.float32)
    return furnished(rng, out) if chance(rng, 0.5) else out


# ---------------------------------------------------------------- text on backgrounds


class Canvas(NamedTuple):
    """A crop under work: its values, where text is, what does not count, and how much the rest counts."""

    values: Array
    text: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    weight: Array


def visibility(rng: Rng) -> float:
    """How strong a text is, in parts of the crop's range, mostly weak to middling: those are the hard ones."""
    return float(np.exp(rng.uniform(np.log(0.015), np.log(1.2))))


def under_plate(rng: Rng, values: Array, alpha: Array, value: float) -> None:
    """Draw a plate for a text, which half of the time it leaves on one side."""
    plate = cv2.dilate(alpha, np.ones((1, 1 + 2 * int(rng.integers(2, 9))), np.uint8))
    left, top, wide, high = cv2.boundingRect((plate > 0.1).astype(np.uint8))
    ends = [left, left + wide]
    if chance(rng, 0.5):
        ends[int(rng.integers(2))] = left + int(wide * rng.uniform(0.2, 0.9))
    values[top : top + high, ends[0] : ends[1]] = value


def heft(ink: NDArray[np.bool_]) -> float:
    """Return how much the pixels of a text count: a single letter has few."""
    return float(np.clip((1500 / ink.sum()) ** 0.5, 1, 6))


class Inked(NamedTuple):
    """Values with a text drawn over them, the contrast to the noise around it, and where any of it can be seen."""

    values: Array
    contrast: float
    seen: NDArray[np.bool_]


def inked(rng: Rng, values: Array, alpha: Array, noise: float, span: float) -> Inked:
    """Draw a text in one of several styles."""
    inside = alpha > 0.35
    ground = float(np.median(values[inside]))
    sign = 1 if ground < values.mean() + rng.normal(0, 0.25) else -1
    strength = max(visibility(rng) * span, noise * rng.uniform(0.8, 4))
    style = rng.random()
    if style < 0.15:
        under_plate(rng, values, alpha, ground - sign * rng.uniform(0, 0.6) * span)
    elif style < 0.3:  # with a rim or a shadow
        dark = np.roll(alpha, (1, 1), (0, 1)) if chance(rng, 0.5) else cv2.dilate(alpha, np.ones((3, 3), np.uint8))
        values = values + (ground - sign * rng.uniform(0.1, 0.6) * span - values) * dark
    if chance(rng, 0.15):  # added on top, as overlays are blended
        drawn = values + np.float32(sign * strength) * alpha
    else:
        drawn = values + (np.float32(ground + sign * strength) - values) * alpha
    if style > 0.93:  # hollow letters
        core = cv2.erode(alpha, np.ones((3, 3), np.uint8))
        drawn = drawn + (values - drawn) * core
    differs = (np.abs(drawn - values) > LEAST_SEEN * span).astype(np.uint8)
    return Inked(drawn, strength / max(noise, 1e-6), cv2.dilate(differs, np.ones((5, 5), np.uint8)).astype(bool))


def line_beside(rng: Rng, values: Array, box: tuple[int, int, int, int]) -> None:
    """Draw a line beside a text, as of a frame, ruler or grid; its box is top, left, bottom and right."""
    value, thick, gap = shade(rng, values), int(rng.integers(1, 3)), int(rng.integers(1, 7))
    values, (top, left, bottom, right) = pick(rng, [(values, box), (values.T, (box[1], box[0], box[3], box[2]))])
    at = max(0, pick(rng, [top - gap - thick, bottom + gap]))
    ends = pick(rng, [(0, CROP), (left, right), (left, left + int(rng.integers(3, 12)))])
    values[at : at + thick, ends[0] : ends[1]] = value


def write_text(rng: Rng, canvas: Canvas, sources: Sources, height: float) -> Canvas:
    """Draw one block of text at a random place."""
    alpha = block(rng, sources, height)
    if alpha is None:
        return canvas
    placed = np.zeros((CROP, CROP), np.float32)
    h, w = alpha.shape
    y, x = (int(rng.integers(min(-n // 3, CROP - n), max(CROP - 2 * n // 3, 1) + 1)) for n in (h, w))
    if chance(rng, 0.15):  # touching the border above or below, or cut by it
        y = pick(rng, [-int(h * rng.uniform(0, 0.6)), CROP - int(h * rng.uniform(0.4, 1))])
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + h, CROP), min(x + w, CROP)
    if bottom - top < 3 or right - left < 3:
        return canvas
    placed[top:bottom, left:right] = alpha[top - y : bottom - y, left - x : right - x]
    inside = placed > 0.35
    around = cv2.dilate(inside.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    if inside.sum() < 6 or (around & canvas.text).any():
        return canvas
    ring = canvas.values[around & ~inside]
    noise, span = float(ring.std()) if ring.size else 0.0, float(np.ptp(canvas.values)) or 1.0
    values, contrast, seen = inked(rng, canvas.values, placed, noise, span)
    if chance(rng, 0.2):
        line_beside(rng, values, (top, left, bottom, right))
    if contrast < VISIBLE or height > LARGEST:
        return Canvas(values, canvas.text, canvas.unsure | around, canvas.weight)
    weight = floats(np.where(around, heft(inside), canvas.weight))
    return Canvas(values, canvas.text | (inside & seen), canvas.unsure | (inside & ~seen), weight)


def worn(rng: Rng, values: Array) -> Array:
    """Do what happens to pictures after text was drawn: blur, noise, JPEG, few bits."""
    values = (values - values.min()) / max(float(np.ptp(values)), 1e-6)
    if chance(rng, 0.2):
        values = softened(values, rng.uniform(0.3, 1.0))
    if chance(rng, 0.2):
        values = values + np.float32(np.exp(rng.uniform(-6, -3))) * spectrum(rng, rng.uniform(0, 1))
    if chance(rng, 0.3):
        eight = np.clip(values * 255, 0, 255).astype(np.uint8)
        coded = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])[1]
        return floats(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE))
    levels = float(pick(rng, [255, 255, 255, 1023, 4095, 65535]))
    return np.asarray(np.round(np.clip(values, 0, 1) * levels), np.float32)


def heights(rng: Rng) -> float:
    """Height of letters in pixels: one letter high on average as often in every octave of 5 to 45, fewer above."""
    return float(np.exp(rng.uniform(np.log(5), np.log(45)))) if chance(rng, 0.9) else float(rng.uniform(45, 130))


def half(mask: NDArray[np.bool_]) -> Array:
    """At half resolution: 1 where any of the four pixels is set, shape (1, h / 2, w / 2)."""
    return floats(np.any(mask.reshape(CROP // 2, 2, CROP // 2, 2), (1, 3)))[None]


def crop(channels: Array, near: NDArray[np.bool_], unsure: NDArray[np.bool_], weight: Array, text_free: bool) -> Crop:
    """Make a crop: ``near`` text is right, what else is ``unsure`` does not count."""
    target = half(near)
    return Crop(channels, target, (1 - half(unsure & ~near) * (1 - target)) * weight[::2, ::2], text_free)


def render(rng: Rng, sources: Sources) -> Crop:
    """Draw one training crop."""
    none = np.zeros((CROP, CROP), bool)
    canvas = Canvas(background(rng, sources), none, none, np.ones((CROP, CROP), np.float32))
    height = heights(rng)
    for _ in range(int(rng.integers(1, 6)) if chance(rng, 0.58) else 0):
        canvas = write_text(rng, canvas, sources, height if chance(rng, 0.7) else heights(rng))
    if chance(rng, 0.1):
        pick(rng, FURNITURE)(rng, canvas.values)
    text = canvas.text.astype(np.uint8)
    near, far = (cv2.dilate(text, np.ones((n, n), np.uint8)).astype(bool) for n in (3, 9))
    unsure = (far & ~near) | (canvas.unsure & ~near)
    free = not (canvas.text.any() or canvas.unsure.any())
    plane = worn(rng, canvas.values)
    return crop(channels(contrasts(plane, *levels(plane))), near, unsure, canvas.weight, free)


# ---------------------------------------------------------------- crops of whole images


@lru_cache(maxsize=2)
def scene(seed: int, at: int) -> Scene:
    """Return a whole image of the generator's development part; crops that follow one another share it."""
    drawn = importlib.import_module("text_images").image("development", FIRST_SEED + seed, at, text_free=0.25)
    palette = None if drawn.palette is None else (0, drawn.palette)
    even = views.evened(views.values(drawn.pixels, drawn.photometric, palette))
    planes = (even[..., 0],) if even.shape[2] == 1 else (views.brightest(even), views.darkest(even))
    return Scene(planes, drawn.glyphs, tuple(item.size for item in drawn.items))


def cut(rng: Rng, whole: Scene) -> Crop:
    """Cut a crop of a whole image at one of the detector's scales, as it sees it there; often where text is."""
    scale = pick(rng, [s for s in SCALES if min(whole.labels.shape) * s >= CROP / 2] or [1.0])
    plane, labels = resized(pick(rng, whole.planes), whole.labels, scale)
    middle, ink = rng.integers(0, plane.shape), np.argwhere(labels)
    if len(ink) and chance(rng, 0.6):
        middle = ink[rng.integers(len(ink))] + rng.integers(-60, 61, 2)
    window, around, inner = [], [], []
    for at, length in zip(middle.tolist(), plane.shape, strict=True):
        first = min(max(at - CROP // 2, 0), max(length - CROP, 0))
        before = min(first, MARGIN)
        window.append(slice(first, first + CROP))
        around.append(slice(first - before, first + CROP + MARGIN))
        inner.append(slice(before, before + CROP))
    shown = contrasts(plane[tuple(around)], *levels(plane))[tuple(inner)]
    plane, labels = plane[tuple(window)], labels[tuple(window)]
    return labelled(rng, shown, plane, labels, [size * scale for size in whole.sizes])


def resized(plane: Array, labels: NDArray[np.uint16], scale: float) -> tuple[Array, NDArray[np.uint16]]:
    """Return a plane and the text on it at another scale."""
    if scale == 1:
        return plane, labels
    size = max(1, round(plane.shape[1] * scale)), max(1, round(plane.shape[0] * scale))
    shrinks = scale < 1
    ink = floats(labels > 0)
    covered = cv2.resize(ink, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    whose = cv2.resize(cv2.dilate(labels, np.ones((3, 3), np.uint8)), size, interpolation=cv2.INTER_NEAREST)
    other = cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    return floats(other), np.where(covered > 0.35, whose, 0).astype(np.uint16)


def labelled(
    rng: Rng, shown: NDArray[np.uint8], plane: Array, labels: NDArray[np.uint16], sizes: Sequence[float]
) -> Crop:
    """Make a crop of what the net is shown of a part of an image: turned or mirrored, maybe inverted."""
    ink = labels > 0
    text, weight = ink.copy(), np.ones(ink.shape, np.float32)
    for number in np.unique(labels[ink]).tolist():
        own = labels == number
        around = cv2.dilate(own.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
        ring = plane[around & ~ink]
        apart = abs(float(plane[own].mean() - ring.mean())) if ring.size > 9 else 0.0
        if apart < VISIBLE * (float(ring.std()) + FAINT) or not SMALLEST <= sizes[number - 1] <= LARGEST / CAPITAL:
            text &= ~own
        weight[around] = heft(own)
    near = cv2.dilate(text.astype(np.uint8), np.ones((3, 3), np.uint8))
    far = cv2.dilate(ink.astype(np.uint8), np.ones((9, 9), np.uint8))
    parts = np.concatenate([channels(shown), floats(np.stack([near, far, weight]))])
    # an image that is smaller than a crop goes on as its mirror image
    missing = [(0, 0), *((0, CROP - length) for length in ink.shape)]
    whole = np.rot90(np.pad(parts, missing, "symmetric"), int(rng.integers(4)), (1, 2))[..., :: pick(rng, [1, -1])]
    seen = whole[:6] * floats([-1, -1, -1, 1, -1, -1])[:, None, None] if chance(rng, 0.3) else whole[:6]
    return crop(np.ascontiguousarray(seen), whole[6] > 0, whole[7] > 0, whole[8], not ink.any())


# ---------------------------------------------------------------- the net


def conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Sequential:
    padding = dilation * (size // 2)
    weights = nn.Conv2d(inputs, outputs, size, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(weights, nn.BatchNorm2d(outputs))


class Block(nn.Module):  # type: ignore[misc]
    """A depthwise and a pointwise convolution, added to what came in where shapes allow it."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.depthwise, self.pointwise = conv(inputs, inputs, 3, stride, dilation, inputs), conv(inputs, outputs, 1)
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        y = self.pointwise(torch.relu(self.depthwise(x)))
        return torch.relu(x + y if self.adds else y)


class GlyphNet(nn.Module):  # type: ignore[misc]
    """Four levels from 1/2 to 1/16 of the resolution and back: (n, 6, h, w) to logits (n, 1, h / 2, w / 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(6, WIDTHS[0], 5, 2)
        before = (WIDTHS[0], *WIDTHS)
        self.down = nn.ModuleList(
            nn.Sequential(*([Block(before[i], w, 1, 2)] if i else []), *(Block(w, w, d) for d in BLOCKS[i]))
            for i, w in enumerate(WIDTHS)
        )
        self.across = nn.ModuleList(nn.Conv2d(WIDTHS[i + 1], WIDTHS[i], 1) for i in range(3))
        self.up = nn.ModuleList(Block(WIDTHS[i], WIDTHS[i]) for i in range(3))
        self.last = nn.Conv2d(WIDTHS[0], 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = torch.relu(self.stem(x))
        levels = []
        for stage in self.down:
            x = stage(x)
            levels.append(x)
        for i in (2, 1, 0):
            x = self.up[i](levels[i] + nn.functional.interpolate(self.across[i](x), scale_factor=2.0, mode="nearest"))
        return self.last(x)


def loss(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Focal cross-entropy plus dice over the batch; and the false alarms of each crop, to mine hard ones.

    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; Milletari et al., V-Net, 3DV 2016.
    """
    p = torch.sigmoid(logits)
    cross = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = (p - target).abs()
    focal = (weight * missed * cross * (1 + 2 * target)).sum() / (weight * (0.02 + target)).sum()
    dice = 1 - 2 * (weight * p * target).sum() / ((weight * (p * p + target)).sum() + 1)
    return focal + dice, (weight * p * p * (1 - target)).sum((1, 2, 3)).detach()


# ---------------------------------------------------------------- training


class Rendered(torch.utils.data.Dataset):  # type: ignore[misc]
    """Crop ``i`` of a seed."""

    def __init__(self, sources: Sources, seed: int, count: int) -> None:
        self.sources, self.seed, self.count = sources, seed, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> Crop:
        rng = np.random.default_rng([self.seed, i])
        return render(rng, self.sources) if i % 3 else cut(rng, scene(self.seed, i // 9))


class Hard:
    """The text-free crops with the most false alarms so far, shown again now and then."""

    def __init__(self, seed: int, size: int = 192) -> None:
        self.rng, self.size = np.random.default_rng(seed), size
        self.kept: list[tuple[float, Tensor]] = []

    def note(self, crops: Tensor, alarms: Tensor, free: Tensor) -> None:
        """Keep the text-free crops of a batch that made the net fire most."""
        self.kept += [(float(a), c.clone()) for c, a, f in zip(crops, alarms, free, strict=True) if f and a > 3]
        self.kept = sorted(self.kept, key=lambda k: -k[0])[: self.size]

    def draw(self, n: int) -> list[Tensor]:
        """``n`` crops, taken out: they come back by `note` if they are still hard."""
        n = min(n, len(self.kept) // 4)
        taken = set(self.rng.choice(len(self.kept), n, replace=False).tolist()) if n else set()
        crops = [crop for i, (_, crop) in enumerate(self.kept) if i in taken]
        self.kept = [k for i, k in enumerate(self.kept) if i not in taken]
        return crops


def with_hard(batch: list[Tensor], hard: Hard, n: int) -> list[Tensor]:
    crops, target, weight, free = batch
    again = hard.draw(n)
    if not again:
        return batch
    zeros = torch.zeros(len(again), *target.shape[1:])
    return [torch.cat([crops, torch.stack(again)]), torch.cat([target, zeros]), torch.cat([weight, zeros + 1]),
            torch.cat([free, torch.ones(len(again), dtype=torch.bool)])]  # fmt: skip


class Trained(NamedTuple):
    """The running mean of the net over its last few hundred steps, and the last batches, to normalise it by."""

    net: GlyphNet
    recent: Iterable[Tensor]

    def normalised(self) -> GlyphNet:
        """Return the mean net, with batch statistics of its own: those of the nets it is the mean of do not fit it."""
        net = deepcopy(self.net)
        update_bn([batch.to(memory_format=torch.channels_last) for batch in self.recent], net)
        net.eval()
        return net


def train(sources: Sources, steps: int, batch: int, seed: int) -> Iterator[tuple[int, Trained, float]]:
    """Train, and yield after every step: its number, what it came to, and its loss."""
    torch.manual_seed(seed)
    net = GlyphNet()
    net.to(memory_format=torch.channels_last)
    net.train()
    mean = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    recent: deque[Tensor] = deque(maxlen=40)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2.5e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2.5e-3, steps, pct_start=0.05)
    data = torch.utils.data.DataLoader(
        Rendered(sources, seed, steps * batch), batch, num_workers=1, prefetch_factor=8, worker_init_fn=calm
    )
    hard = Hard(seed)
    for step, fresh in enumerate(data):
        crops, target, weight, free = with_hard(fresh, hard, batch // 6)
        value, alarms = loss(net(crops.to(memory_format=torch.channels_last)), target, weight)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        schedule.step()
        mean.update_parameters(net)
        hard.note(crops, alarms, free)
        recent.append(crops)
        yield step, Trained(mean.module, recent), float(value.detach())


def calm(worker: int) -> None:  # noqa: ARG001
    """Let a rendering process give way to others, with one thread for OpenCV and torch."""
    os.nice(5)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class Whole(nn.Module):  # type: ignore[misc]
    """The net as it is used: channels / 4, so -1 to 1, to the probability of text at full resolution."""

    def __init__(self, net: GlyphNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return torch.sigmoid(nn.functional.interpolate(self.net(4 * x), scale_factor=2.0, mode="bilinear"))


def export(net: GlyphNet, path: Path) -> None:
    """Write the net for any height and width that are multiples of 16."""
    whole = Whole(net).eval().to(memory_format=torch.contiguous_format)
    axes = {"contrast": {0: "n", 2: "h", 3: "w"}, "text": {0: "n", 2: "h", 3: "w"}}
    part = path.with_name(path.name + ".part")
    torch.onnx.export(
        whole, (torch.zeros(1, 6, CROP, CROP),), str(part), input_names=["contrast"], output_names=["text"],
        dynamic_axes=axes, opset_version=17, dynamo=False,
    )  # fmt: skip
    part.replace(path)


# ---------------------------------------------------------------- sources


def planes(image: NDArray[Any]) -> list[Array]:
    """Scale an image to 0..1 between its extreme percentiles; colour gives its brightest and its darkest plane."""
    shown = [image] if image.ndim == 2 else [image[..., :3].max(-1), image[..., :3].min(-1)]
    low, high = np.percentile(image[::4, ::4], [0.1, 99.9])
    return [floats((floats(plane) - low) / max(high - low, 1)) for plane in shown]


def development(more: Path | None) -> Sources:
    """Fonts, backgrounds and whole images of the development part of the benchmark's generator, and no others.

    ``more`` is a file of numpy.savez with further text-free planes of uint8; the part of a name before "_" is a kind.
    """
    generator = importlib.import_module("text_images")
    families: dict[str, list[Font]] = {}
    for face in generator.fonts("development"):
        if not face.hershey:
            font = Font(face.file, face.index, tuple(sorted(face.scripts)), face.sizes)
            families.setdefault(face.family, []).append(font)
    images = [plane for image in generator.backgrounds("development") for plane in planes(image.pixels)]
    kinds: dict[str, list[Array]] = {"": [plane for plane in images if min(plane.shape) >= 64]}
    for name, plane in np.load(more).items() if more else ():
        kinds.setdefault(name.partition("_")[0], []).append(floats(plane) / np.float32(255))
    return Sources(tuple(map(tuple, families.values())), tuple(map(tuple, kinds.values())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--more", type=Path, help="further text-free planes, see development()")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    mean = 1.0
    sources = development(arguments.more)
    for step, trained, value in train(sources, arguments.steps, arguments.batch, arguments.seed):
        mean += 0.02 * (value - mean)
        if step % 50 == 0:
            print(step, round(mean, 4), flush=True)
        if step % 500 == 499 or step == arguments.steps - 1:
            export(trained.normalised(), arguments.out)


if __name__ == "__main__":
    main()

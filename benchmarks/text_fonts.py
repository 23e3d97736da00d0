"""Fonts that are installed, divided for good between development and held-out, and the ink of a line of text."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Part = Literal["development", "held-out"]
Pixels = NDArray[Any]
Floats = NDArray[np.float32]
_SALT: Final = "dicomshield text 1"


def part_of(key: str) -> Part:
    """Return the part that a font family or a device belongs to, for good."""
    return "development" if hashlib.sha256(f"{_SALT}|{key}".encode()).digest()[0] < 140 else "held-out"


# --- fonts ---------------------------------------------------------------------------------------------------------

_LANGUAGES: Final = {
    "latin": "en", "accent": "cs", "greek": "el", "cyrillic": "ru", "hebrew": "he", "arabic": "ar",
    "devanagari": "hi", "thai": "th", "hangul": "ko", "kana": "ja", "han": "zh-cn",
}  # fmt: skip
SCRIPTS: Final = tuple(_LANGUAGES)
_SYMBOLS: Final = re.compile(
    r"math|symbol|icon|emoji|dingbat|braille|sign ?writ|music|d050|z003|standard symbols|awesome|unifont upper|csur"
    r"|cursor|deco|nil\b|open ?look|logo|ornament|linux libertine (initials|display)|keyboard|oradano"
    r"|last ?resort|egyptian|cuneiform",
    re.IGNORECASE,
)
_NO_LETTERS: Final = re.compile(
    r"\d+x\d+(ja|ko|rk)|k14|hang|jisk|decc|decs|ol|symb|te|gb|arabic|cu|nil|micro"
)  # fmt: skip
_WEIGHTS: Final = re.compile(
    r"\b(thin|extra ?light|ultra ?light|light|demi ?light|semi ?light|regular|book|retina|medium|semi ?bold|demi ?bold"
    r"|demi|bold|extra ?bold|black|heavy|hairline|oblique|italic|condensed|semi-?condensed|narrow|mini|bold italic"
    r"|obl|ital?|cond|otf|ttf|std|2x|2y|variable|p|ui)\b|-2[xy]$",
    re.IGNORECASE,
)
_SAME_DESIGN: Final = {
    "arimo": "liberation sans", "tinos": "liberation serif", "cousine": "liberation mono", "carlito": "lato",
    "caladea": "cambo", "hack": "dejavu sans mono", "noto mono": "droid sans mono", "noto sans": "open sans",
    "droid sans": "open sans", "droid sans fallback": "open sans", "nimbus sans": "helvetica", "nimbus roman": "times",
    "nimbus mono ps": "courier", "nimbus sans narrow": "helvetica", "freesans": "helvetica", "freeserif": "times",
    "freemono": "courier", "takaogothic": "ipagothic", "takaopgothic": "ipagothic", "ipapgothic": "ipagothic",
    "takaoexgothic": "ipagothic", "takaomincho": "ipamincho", "takaopmincho": "ipamincho", "takaoexmincho": "ipamincho",
    "ipapmincho": "ipamincho", "vl gothic": "m+ 1c", "vl pgothic": "m+ 1c", "xos4 terminus": "terminus",
    "wenquanyi micro hei": "droid cjk", "baekmuk": "undotum", "un dotum": "undotum", "unifont-jp": "unifont",
    "ibm 3270": "3270", "ibm 3270 semi-": "3270", "culmus": "culmus", "nachlieli clm": "helvetica",
    "miriam mono clm": "courier", "go mono": "go", "px vga squarepx": "px ibm vga8", "px ibm vga9": "px ibm vga8",
}  # fmt: skip
"""Families that are drawn alike under other names, or were made from one another."""


_PIXEL_SIZES: Final = {
    "unifont": (16,), "amiga": (16,), "dotgothic16": (16,), "sixtyfour": (16,), "misaki": (8,), "glass tty": (20,),
    "terminus": (12, 14, 16, 18, 20, 22, 24, 28, 32), "creep": (11,), "atari": (8,), "proggy": (16,),
}  # fmt: skip
"""Of outlines that follow pixels, and of bitmaps whose file does not tell."""


@dataclass(frozen=True)
class Face:
    """A font.

    Attributes
    ----------
    family : str
        In lower case and without weight and slant; what decides the part.
    file : str
        Path, or a name of the Hershey fonts.
    index : int
        In a collection.
    scripts : frozenset of str
    sizes : tuple of int
        Pixels a line at which a bitmap font can be drawn; empty for outlines.
    """

    family: str
    file: str
    index: int
    scripts: frozenset[str]
    sizes: tuple[int, ...] = ()

    @property
    def hershey(self) -> bool:
        """Whether it consists of strokes."""
        return not self.file.startswith("/")

    @property
    def kind(self) -> str:
        """Return outline, bitmap or strokes."""
        return "strokes" if self.hershey else "bitmap" if self.sizes else "outline"


def family_of(name: str) -> str:
    """Return the family of a font without weight, slant and maker's aliases."""
    plain = " ".join(_WEIGHTS.sub(" ", name.lower()).split())
    return _SAME_DESIGN.get(plain, plain)


@lru_cache
def fonts(part: Part) -> tuple[Face, ...]:
    """Return the fonts of a part, in an order that does not depend on the machine."""
    found = [*_listed(), *_bitmaps(), *_strokes()]
    own = (face for face in found if part_of(face.family) == part)
    return tuple(sorted(own, key=lambda face: (face.family, face.file, face.index)))


def _listed() -> Iterator[Face]:
    scripts: dict[tuple[str, int], set[str]] = defaultdict(set)
    names: dict[tuple[str, int], str] = {}
    for script, language in _LANGUAGES.items():
        listing = subprocess.run(
            ["fc-list", "--format", "%{file}\t%{index}\t%{family[0]}\t%{pixelsize}\n", f":lang={language}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for line in listing.splitlines():
            path, index, name, _ = line.split("\t")
            if int(index) < 0x10000 and not path.endswith((".pfb", ".t1", ".afm")) and not _SYMBOLS.search(name):
                scripts[path, int(index)].add(script)
                names[path, int(index)] = name
    for (path, at), name in names.items():
        able = {"digits"} if name.startswith("DSEG") else scripts[path, at]
        yield Face(family_of(name), path, at, frozenset(able), _pixel_sizes(path, name))


def _pixel_sizes(path: str, name: str) -> tuple[int, ...]:
    """Return the sizes at which the pixels of a font are pixels of the image."""
    if "/fonts/pc/" in path:
        height = re.search(r"x(\d+)", name)
        return (int(height[1]) if height else 16,)
    if spleen := re.search(r"Spleen \d+x(\d+)", name):
        return (int(spleen[1]),)
    return next((sizes for key, sizes in _PIXEL_SIZES.items() if key in name.lower()), ())


def _bitmaps() -> Iterator[Face]:
    """Yield X11's bitmap fonts, which fontconfig hides on Debian."""
    scripts = {"": "latin", "-ISO8859-1": "latin", "-ISO8859-2": "latin accent", "-ISO10646-1": "latin accent"}
    folders = [str(folder) for folder in Path("/usr/share/fonts/X11").glob("*") if folder.is_dir()]
    command = ["fc-scan", "--format", "%{file}\t%{pixelsize}\n", *folders]
    for line in sorted(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()):
        path, size = line.split("\t")
        name, dash, encoding = Path(path).name.removesuffix(".pcf.gz").partition("-ISO")
        if path.endswith(".pcf.gz") and dash + encoding in scripts and not _NO_LETTERS.match(name):
            family = name.rstrip("BO") if name[0].isdigit() else re.sub(r"[BIORLMS]*\d.*", "", name)
            family = {"ter-": "terminus", "3270": "3270"}.get(name[:4], f"x11 {family}")
            yield Face(family, path, 0, frozenset(scripts[dash + encoding].split()), (round(float(size)),))


def _strokes() -> Iterator[Face]:
    if find_spec("HersheyFonts"):
        for name in "futural futuram rowmand rowmans rowmant scripts timesr timesi timesrb gothgbt".split():
            yield Face(f"hershey {name}", name, 0, frozenset({"latin"}))


# --- ink -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pen:
    """How text is drawn.

    Attributes
    ----------
    face : Face
    size : int
        Pixels a line; a bitmap font takes the nearest size that it has, and whole multiples.
    smooth : bool
        Anti-aliased; bitmap fonts never are.
    spacing : float
        Between letters, in parts of the size, besides the font's own.
    """

    face: Face
    size: int
    smooth: bool = True
    spacing: float = 0

    @property
    def drawn(self) -> tuple[int, int]:
        """Return the size that the font is asked for, and how many times it is enlarged."""
        sizes = self.face.sizes
        if not sizes:
            return self.size, 1
        offered = ((size, times) for size in sizes for times in range(1, 33))
        return min(offered, key=lambda drawn: (abs(drawn[0] * drawn[1] - self.size), drawn[1]))

    @property
    def height(self) -> int:
        """Return the pixels a line that come out."""
        size, times = self.drawn
        return size * times


@lru_cache(64)
def _opened(file: str, size: int, index: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size, index=index)


@lru_cache(None)
def draws(face: Face, letter: str) -> bool:
    """Return whether a font has its own picture of a letter: fontconfig promises a little too much."""
    if face.hershey:
        return letter.isascii()
    return _picture(face, letter) not in _no_letters(face)


@lru_cache(None)
def _no_letters(face: Face) -> frozenset[bytes]:
    """Return the pictures of a font that stand for letters that it does not have: some have a box for Greek, too."""
    phi, psi = (_picture(face, letter) for letter in "ΦΨ")
    return frozenset({b"", _picture(face, "\U0010fffd"), phi if phi == psi else b""})


def _picture(face: Face, letter: str) -> bytes:
    font = _opened(face.file, face.sizes[0] if face.sizes else 24, face.index)
    try:
        return bytes(font.getmask(letter, "1"))
    except (OSError, UnicodeEncodeError):
        return b""


@lru_cache(32)
def _hershey(name: str) -> Any:
    from HersheyFonts import HersheyFonts

    font = HersheyFonts()
    font.load_default_font(name)
    return font


def inked(text: str, pen: Pen) -> Floats | None:
    """Return how much ink each pixel of a line of text has, 0 to 1, without margins; None if there is none."""
    if pen.spacing and len(text) > 1:
        return _row([inked(letter, replace(pen, spacing=0)) for letter in text], round(pen.spacing * pen.size), pen)
    ink = _stroked(text, pen) if pen.face.hershey else _typed(text, pen)
    rows, columns = np.nonzero(ink >= 0.2)
    return None if not rows.size else ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _typed(text: str, pen: Pen) -> Floats:
    size, times = pen.drawn
    font = _opened(pen.face.file, size, pen.face.index)
    left, top, right, bottom = (round(at) for at in font.getbbox(text))
    canvas = Image.new("L", (max(1, right - left + 8), max(1, bottom - top + 8)))
    draw = ImageDraw.Draw(canvas)
    draw.fontmode = "1" if pen.face.sizes or not pen.smooth else "L"
    draw.text((4 - left, 4 - top), text, fill=255, font=font)
    ink = np.asarray(canvas, np.float32) / np.float32(255)
    return ink.repeat(times, 0).repeat(times, 1)


def _stroked(text: str, pen: Pen) -> Floats:
    font = _hershey(pen.face.file)
    font.normalize_rendering(pen.size)
    segments = np.array(list(font.lines_for_text(text)), np.float64).reshape(-1, 2, 2)
    if not segments.size:
        return np.zeros((1, 1), np.float32)
    width = max(1, round(pen.size / 14))
    low, high = segments.min((0, 1)) - width - 1, segments.max((0, 1)) + width + 1
    canvas = np.zeros(np.ceil(high - low).astype(int)[::-1] + 1, np.uint8)
    for start, end in np.round((segments - low) * 16).astype(int):
        cv2.line(canvas, start.tolist(), end.tolist(), 255, width, cv2.LINE_AA if pen.smooth else cv2.LINE_8, 4)
    return np.asarray(canvas[::-1], np.float32) / np.float32(255)


def _row(letters: Sequence[Floats | None], gap: int, pen: Pen) -> Floats | None:
    """Set letters side by side on one base line, or what comes near to it."""
    tall = max((ink.shape[0] for ink in letters if ink is not None), default=0)
    parts = []
    for ink in letters:
        wide = max(2, pen.size // 3) if ink is None else ink.shape[1]
        part = np.zeros((tall, wide + gap + 1), np.float32)
        if ink is not None:
            part[tall - ink.shape[0] :, :wide] = ink
        parts.append(part)
    return np.asarray(np.hstack(parts)[:, : -gap - 1], np.float32) if tall else None


def stacked(text: str, pen: Pen) -> Floats | None:
    """Set letters one below the other."""
    letters = [ink for ink in (inked(letter, replace(pen, spacing=0)) for letter in text) if ink is not None]
    if not letters:
        return None
    wide, gap = max(ink.shape[1] for ink in letters), max(1, pen.size // 5)
    parts = [np.pad(ink, ((0, gap), ((d := wide - ink.shape[1]) // 2, d - d // 2))) for ink in letters]
    return np.asarray(np.vstack(parts)[:-gap], np.float32)


def turned(ink: Floats, degrees: float) -> Floats:
    if degrees % 90 == 0:
        return np.ascontiguousarray(np.rot90(ink, round(degrees / 90)))
    rows, columns = ink.shape
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1)
    across, down = abs(turn[0, 0]), abs(turn[0, 1])
    width, height = int(rows * down + columns * across) + 3, int(rows * across + columns * down) + 3
    turn[:, 2] += np.array([width / 2 - columns / 2, height / 2 - rows / 2])
    return np.asarray(cv2.warpAffine(ink, turn, (width, height), flags=cv2.INTER_LINEAR), np.float32)


def able(face: Face, text: str) -> bool:
    """Return whether a font has every letter of a text."""
    return all(draws(face, letter) for letter in set(text) if letter != " ")

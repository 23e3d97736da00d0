"""Text that tells nothing of anybody: what may stay in a picture if the user asks for it.

Everything that was found is masked. With ``keep harmless`` a box stays if it was read without doubt, all of its text
is an entry of the table below, none of it occurs among the patient's own values, and it does not stand beside text
that goes. The table is all there is: plain ASCII, whole lines, at most four digits in a row, so that no date, time,
age or record number is an entry.

What no table can know: two letters such as ``AP`` beside a marker may be those of a technologist who is not named
in the header. Who cannot accept this masks everything.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, permutations
from string import ascii_lowercase
from typing import TYPE_CHECKING, Final

from ...encoding.text import decodings
from ...identity.known import Harvest, Shared
from .boxes import Line
from .reading import Read, Reader, folded, joints, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["GRAMMAR", "allowed", "kept", "own_values"]

_SURE: Final = 0.9
_AGAIN, _AGREED = 1.3, 0.5
"""How many times as high the second cut is, and the confidence that it needs."""
_VIEW: Final = "AP|PA|LAT|LATERAL|OBL|OBLIQUE|LL|RL|LAO|RAO|LPO|RPO|MLO|CC|ML|LM|XCCL|XCCM|LMO|FRONTAL|AXIAL"
_POSTURE: Final = "SUPINE|PRONE|ERECT|UPRIGHT|SEMI[ -]?ERECT|STANDING|SITTING|DECUBITUS|PORTABLE|MOBILE"
_N: Final = r"\d{1,3}([.,]\d{1,2})?"
_IS: Final = r" ?[:=]? ?"
_APART: Final = r"( ?[:=] ?| )"
"""Between one letter and a number, where nothing between them would make a code such as C61."""

GRAMMAR: Final = (
    # what it says, and how it is written, in any case
    ("side", r"L|R|LEFT|RIGHT|LT|RT"),
    ("direction (PS3.3 C.7.6.1.1.1)", r"A|P|H|F|S|ANT|POST|SUP|INF"),
    ("view (CID 4010, 4014)", rf"((L|R|LEFT|RIGHT|LT|RT)[ -]?)?({_VIEW})"),
    ("posture", rf"(({_VIEW}) )?({_POSTURE})( ({_VIEW}))?"),
    ("tube voltage", rf"\d{{2,3}} ?KVP?|KVP?{_IS}\d{{2,3}}"),
    ("tube current and exposure", rf"{_N} ?MAS?|\d{{4}} ?MA|MAS?{_IS}{_N}"),
    ("voltage and current", r"\d{2,3} ?KVP?[ ,/]+\d{1,4} ?MAS?"),
    ("exposure time", rf"{_N} ?MS|\d{{4}} ?MS"),
    ("window", rf"(WW?{_APART}|WW)-?\d{{1,4}}([ /,]+(([LC]|WL){_APART}|WL)-?\d{{1,4}})?"),
    ("level", rf"([LC]{_APART}|W[LC]{_IS})-?\d{{1,4}}([ /,]+(W{_APART}|WW{_IS})-?\d{{1,4}})?"),
    ("zoom", rf"(ZOOM|MAG){_IS}X?{_N} ?[%X]?"),
    ("mechanical and thermal index", r"(MI|TI[SBC]?)( ?[<:=] ?| )?\d[.,]\d{1,2}"),
    ("frequency", rf"((FREQ|FRQ)\.?{_IS})?\d{{1,3}}([.,]\d{{1,2}})? ?[KM]?HZ"),
    ("frame rate", rf"(FR{_IS})?\d{{1,3}} ?(FPS|HZ)"),
    ("length", r"\d{1,2}([.,]\d{1,2})? ?CM|\d{1,3}([.,]\d{1,2})? ?MM"),
    ("depth and thickness", r"(FOV|DFOV|DEPTH|THK|ST|SL)" + _IS + r"\d{1,3}([.,]\d{1,2})?( ?[CM]M)?"),
    ("time base", rf"{_N} ?(MM|CM)/(S|SEC)"),
    ("gain and power", rf"(GAIN|GN|2D GN|2D GAIN|AO|PWR|POWER){_IS}\d{{1,3}} ?(%|DB)?|\d{{1,3}} ?DB"),
    ("ultrasound mode", r"HGEN|HRES|HPEN|2D|CF|PW|CW|THI|M-MODE|B-MODE"),
    ("MR timing", rf"(TR|TE|FA){_IS}\d{{1,4}}([.,]\d{{1,2}})?( ?MS)?"),
    ("series, image, frame", r"((SE|SER|SERIES|IM|IMG|IMAGE|FRAME|FR)" + _IS + r"\d{1,3}( ?/ ?\d{1,3})?( |$)){1,2}"),
)  # fmt: skip
"""Kinds of harmless text and their regular expressions, which a whole line must match."""

_ENTRY: Final = re.compile("|".join(f"(?:{pattern})" for _, pattern in GRAMMAR), re.ASCII | re.IGNORECASE)
_PARTS: Final = re.compile(r"\d+(?:[.,]\d+)?|[^\W\d_]+")
_WORDS: Final = re.compile(r"[^\W_]+")
_INITIALS: Final = 6
_SHORT: Final = 3
_LETTER_WIDTH, _MARGIN = 1.1, 1.8
"""In heights of a box: the widest capital, and what a detector leaves empty at both ends."""
_BESIDE: Final = 1.5
"""In heights of a box: how far from each other two of them may be one line of text."""
_SMALLEST_LETTER: Final = 12
"""Pixels of a box, below which a single letter may be another one."""
_CROSSING: Final = 0.7
"""Sine of the angle from which on one line runs across another."""


def allowed(text: str) -> bool:
    """Tell whether a whole line is an entry of the table; a single letter must be a capital, for l may be an I."""
    line = " ".join(text.split())
    return line.isascii() and _ENTRY.fullmatch(line) is not None and (len(line) > 1 or line.isupper())


@lru_cache(maxsize=256)
def own_values(harvests: tuple[Shared[Harvest], ...]) -> frozenset[str]:
    """Return the words, numbers and initials of an object's original values, written as `folded` writes them.

    Unlike `Spellings` these hold short ones: a patient may be called L, and be number 120.
    """
    found: set[str] = set()
    for value in dict.fromkeys(chain.from_iterable(harvests)):
        for text in decodings(value.raw, value.charset):
            found |= _OWN.get(value.kind, _other)(text)
    return frozenset(found)


def _form(word: str) -> str:
    """Fold a word; single characters only as far as a reader does not tell them apart at all."""
    return folded(word) if len(word) > 1 else plain(word)


def _name(text: str) -> set[str]:
    words = _WORDS.findall(text)
    initials = [word[0] for word in words][:_INITIALS]
    if any(letter.lower() != letter.upper() and not plain(letter).isascii() for letter in "".join(words)):
        # letters of another alphabet are read as Latin ones that look like them
        initials += ascii_lowercase
    shorts = ("".join(some) for many in range(1, _SHORT + 1) for some in permutations(initials[:_INITIALS], many))
    return set(map(_form, chain(joints(words), initials, shorts)))


def _identifier(text: str) -> set[str]:
    words = _WORDS.findall(text)
    return {_form(form) for word in joints(words, len(words)) for form in (word, word.lstrip("0"))} - {""}


def _date(text: str) -> set[str]:
    year, month, day = text[:4], text[4:6], text[6:8]
    forms = (year, month + day, day + month, year + month + day, day + month + year, month + day + year)
    return {_form(form) for form in forms if len(form) > _SHORT}


def _other(text: str) -> set[str]:
    # an address names its state, such as PA
    return {_form(word) for word in _WORDS.findall(text) if len(word) >= _SHORT}


_OWN: Final = {"name": _name, "identifier": _identifier, "date": _date}


def kept(
    reader: Reader, image: NDArray[np.uint8], lines: Sequence[Line], own: frozenset[str]
) -> tuple[list[Read], list[bool]]:
    """Read boxes, and tell which of them may stay as they are.

    Parameters
    ----------
    reader : Reader
    image : ndarray of uint8, shape (rows, columns) or (rows, columns, 1 or 3)
    lines : sequence of Line
        Where text was found.
    own : frozenset of str
        From `own_values`.

    Returns
    -------
    reads : list of Read
        What the boxes say.
    stay : list of bool
        One for each box. One that touches the line of another that goes, goes with it: ``R`` may begin ``R SMITH``.

    Raises
    ------
    MissingExtra
        If the model is not installed.
    """
    reads = reader.read(image, lines)
    stay = [_harmless(read, line.height, own) for read, line in zip(reads, lines, strict=True)]
    asked = [at for at, stays in enumerate(stay) if stays]
    # what is misread once is not misread the same with more around it
    again = reader.read(image, [lines[at]._replace(height=lines[at].height * _AGAIN) for at in asked])
    for at, read in zip(asked, again, strict=True):
        stay[at] = read.confidence >= _AGREED and _squeezed(read.text) == _squeezed(reads[at].text)
    return reads, _without_neighbours(lines, stay)


def _without_neighbours(lines: Sequence[Line], stay: Sequence[bool]) -> list[bool]:
    """Let what stands beside text that goes, go with it."""
    stay = list(stay)
    goes = [at for at, stays in enumerate(stay) if not stays]
    while goes:
        went, goes = goes, []
        for at, stays in enumerate(stay):
            if stays and any(_beside(lines[at], lines[o]) or _beside(lines[o], lines[at]) for o in went):
                stay[at] = False
                goes.append(at)
    return stay


def _squeezed(text: str) -> str:
    return "".join(text.split()).upper()


def _harmless(read: Read, height: float, own: frozenset[str]) -> bool:
    text = " ".join(read.text.split())
    fills = read.aspect <= _LETTER_WIDTH * len(text) + _MARGIN
    if read.confidence < _SURE or not fills or not allowed(text) or (len(text) == 1 and height < _SMALLEST_LETTER):
        return False
    return own.isdisjoint(map(_form, _occurring(text)))


def _occurring(text: str) -> Iterator[str]:
    """Return what stands in a text: its words and numbers, joined in every way, and the words inside of words."""
    parts = _PARTS.findall(text)
    digits = [re.sub(r"[.,]", "", part) for part in parts]
    for some in (parts, digits, [part.lstrip("0") or part for part in digits]):
        yield from joints(some, len(some))
    for word in filter(str.isalpha, parts):
        # readers miss blanks: LMLO is L and MLO
        yield from (word[at:end] for at in range(len(word)) for end in range(at + 2, len(word) + 1))
        if len(word) > 1 and allowed(word[0]) and allowed(word[1:]):
            yield word[0]


def _beside(one: Line, other: Line) -> bool:
    """Tell whether two boxes may belong to one line of text, in the direction of the first."""
    cosine, sine = math.cos(math.radians(one.angle)), math.sin(math.radians(one.angle))
    x, y = other.x - one.x, other.y - one.y
    along, across = abs(x * cosine + y * sine), abs(y * cosine - x * sine)
    length, height = other.length, other.height
    if abs(math.sin(math.radians(one.angle - other.angle))) > _CROSSING:
        length, height = height, length
    lower = min(one.height, height)
    shared, gap = (one.height + height) / 2 - across, along - (one.length + length) / 2
    return min(shared, lower) > lower / 3 and gap < _BESIDE * lower

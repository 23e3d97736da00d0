"""Read text in boxes that were found, and tell whether it is something known of the patient.

The recognition model (PP-OCR, Apache-2.0) and its characters lie in the wheel of ``rapidocr``, which is not imported:
onnxruntime runs the model, offline. What was read is PHI. It lives in a `Read` and nowhere else: no message, log or
repr holds it.
"""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from ...errors import Finding
from ...identity.known import Spellings
from . import models
from .boxes import Line
from .models import Net

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Read", "Reader", "folded", "identifiers_read", "joints", "plain"]

_HEIGHT: Final = 48
"""Rows of a line as the model takes it, in pixels."""
_WIDEST: Final = 2048
"""Columns of a line: wider ones are squeezed."""
_AT_ONCE: Final = 4096
"""Columns of a batch, which bound the memory it takes."""
_ONE_LETTER: Final = 3.0
"""Up to this length over height, text that seems to run downwards may be one upright letter."""

_NET: Final = Net("rapidocr", "models/PP-OCRv6_rec_small.onnx", channels=3, stride=32)
"""PP-OCRv6 text recognition, small (PaddleOCR, Apache-2.0); its characters stand in its metadata."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a box says.

    Attributes
    ----------
    text : str
        PHI, until the opposite is known. Empty if nothing could be read.
    confidence : float
        The least probability of its characters, 0 to 1: one doubtful character makes another word.
    aspect : float
        Width of the box over its height, to tell text that fills its box from the rest of a longer one.
    """

    text: str = field(repr=False)
    confidence: float
    aspect: float


class Reader:
    """Reads lines of text.

    Parameters
    ----------
    threads : int
        That onnxruntime may use.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def read(self, image: NDArray[np.uint8], lines: Sequence[Line]) -> list[Read]:
        """Read what stands in each of the boxes.

        Parameters
        ----------
        image : ndarray of uint8, shape (rows, columns) or (rows, columns, 1 or 3)
            A view of the frame; colours are red, green, blue.
        lines : sequence of Line

        Returns
        -------
        list of Read
            One for each, in order.

        Raises
        ------
        MissingExtra
            If the model is not installed.
        """
        picture = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        turns = [(number, turn) for number, line in enumerate(lines) for turn in _turns(line)]
        best = [Read("", 0.0, line.length / line.height) for line in lines]
        texts = self._texts([_cut(picture, turn) for _, turn in turns])
        for (number, turn), (text, confidence) in zip(turns, texts, strict=True):
            if confidence > best[number].confidence:
                best[number] = Read(text, confidence, turn.length / turn.height)
        return best

    def _texts(self, lines: list[NDArray[np.float32]]) -> list[tuple[str, float]]:
        """Read lines in batches of those that are about as wide."""
        found = [("", 0.0)] * len(lines)
        session = models.session(_NET, self._threads)
        characters = _characters(session)
        for batch in _batches([line.shape[1] for line in lines]):
            widest = -(-max(lines[at].shape[1] for at in batch) // _NET.stride) * _NET.stride
            stack = np.zeros((len(batch), 3, _HEIGHT, widest), np.float32)
            for row, at in enumerate(batch):
                stack[row, :, :, : lines[at].shape[1]] = lines[at].transpose(2, 0, 1)
            steps = session.run(None, {session.get_inputs()[0].name: stack})[0]
            for row, at in enumerate(batch):
                found[at] = _decoded(steps[row], characters)
        return found


def _batches(widths: list[int]) -> Iterator[list[int]]:
    """Return numbers of lines, in groups of bounded size."""
    batch: list[int] = []
    for at in sorted(range(len(widths)), key=widths.__getitem__):
        if batch and (len(batch) + 1) * widths[at] > _AT_ONCE:
            yield batch
            batch = []
        batch.append(at)
    if batch:
        yield batch


@lru_cache(maxsize=2)
def _characters(session: Any) -> list[str]:
    """Return the character of each class: none, those of the model, a blank."""
    return ["", *session.get_modelmeta().custom_metadata_map["character"].splitlines(), " "]


def _decoded(steps: NDArray[np.float32], characters: list[str]) -> tuple[str, float]:
    """Take the likeliest class of each step, repeats as one (Graves et al. 2006, best path)."""
    classes, chances = steps.argmax(axis=1), steps.max(axis=1)
    new = np.diff(classes, prepend=-1) != 0
    at = np.nonzero(new & (classes > 0))[0]
    text = "".join(characters[number] for number in classes[at])
    # a blank more or less makes no other text
    inked = at[classes[at] != len(characters) - 1]
    return (text, float(chances[inked].min())) if inked.size else ("", 0.0)


def _turns(line: Line) -> list[Line]:
    """Return the line, also upside down if it runs downwards, and upright if it may be one letter."""
    if line.angle != 90:
        return [line]
    letter = [line._replace(length=line.height, height=line.length, angle=0)]
    return [line, line._replace(angle=-90), *(letter if line.length < _ONE_LETTER * line.height else [])]


def _cut(picture: Image.Image, line: Line) -> NDArray[np.float32]:
    """Cut a line out, straighten it and scale it; shape (48, columns, 3) of values from -1 to 1."""
    cosine, sine = math.cos(math.radians(line.angle)), math.sin(math.radians(line.angle))
    size = max(1, round(line.length)), max(1, round(line.height))
    left, top = line.length / 2, line.height / 2
    step_x, step_y = line.length / size[0], line.height / size[1]
    matrix = (
        cosine * step_x, -sine * step_y, line.x - cosine * left + sine * top,
        sine * step_x, cosine * step_y, line.y - sine * left - cosine * top,
    )  # fmt: skip
    cut = picture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    columns = min(max(8, round(_HEIGHT * line.length / line.height)), _WIDEST)
    values = np.asarray(cut.resize((columns, _HEIGHT), Image.Resampling.BILINEAR).convert("RGB"), np.float32)
    # the model was trained on blue, green, red
    return values[..., ::-1] / 127.5 - 1


_ALIKE: Final = str.maketrans("oil|!sbzg", "011115826")
"""Characters that readers take for each other."""
_ALIKE_ABROAD: Final = str.maketrans("авекмнорстухіѕдияαβεζηικμνορτυχλσ", "abekmhopctyxisahrabezhikmnoptyxam")
"""Letters of other alphabets whose capitals look like Latin ones."""


def plain(text: str) -> str:
    """Write text without case and marks, and letters of other alphabets as the Latin ones they look like."""
    bare = (letter for letter in unicodedata.normalize("NFKD", text).casefold() if not unicodedata.combining(letter))
    return "".join(bare).translate(_ALIKE_ABROAD)


def folded(text: str) -> str:
    """Write text so that what readers take for each other is the same, such as O and 0."""
    return plain(text).replace("rn", "m").translate(_ALIKE)


_DOUBTFUL: Final = 5
"""So many characters of a spelling allow for one that was misread."""
_ANYWHERE: Final = 8
"""Characters of a spelling that counts inside a longer word, too."""
_FULL_DATE: Final = 7
"""Characters of a date that is known without the signs between its parts."""
_WORD: Final = re.compile(r"[^\W_]+")


def identifiers_read(texts: Iterable[str], spellings: Spellings) -> tuple[Finding, ...]:
    """Tell which kinds of known values of the patient stand in what was read, also if it was misread a little.

    Parameters
    ----------
    texts : iterable of str
        Lines.
    spellings : Spellings

    Returns
    -------
    tuple of Finding
        One of each kind, with how many spellings were found; never the value.
    """
    lines = [folded(text) for text in texts]
    words = [_WORD.findall(line) for line in lines]
    joined = {joint for some in words for joint in (*joints(some), "".join(some))}
    found = Counter(kind for kind, spelling in _alike(spellings) if _stands(kind, spelling, lines, joined))
    return tuple(Finding(kind, number) for kind, number in sorted(found.items()))


def joints(words: Sequence[str], most: int = 3) -> Iterator[str]:
    """Join each run of up to ``most`` words: readers see blanks where there are none, and miss them."""
    return ("".join(words[at:end]) for at in range(len(words)) for end in range(at + 1, min(at + most, len(words)) + 1))


@lru_cache(maxsize=64)
def _alike(spellings: Spellings) -> frozenset[tuple[str, str]]:
    """Return kind and folded form of each spelling that may be misread."""
    texts = set()
    for needle in chain.from_iterable(group for _, group in chain(*spellings)):
        with contextlib.suppress(UnicodeDecodeError):
            texts.add((needle.kind, folded(needle.text.decode())))
    return frozenset((kind, text) for kind, text in texts if kind != "uid" and _WORD.search(text))


def _stands(kind: str, spelling: str, lines: list[str], joined: set[str]) -> bool:
    word = "".join(_WORD.findall(spelling))
    if kind == "date":
        # a misread digit makes another date
        return (len(word) >= _FULL_DATE and word in joined) or any(spelling in line for line in lines)
    errors = 0 if kind == "identifier" and len(word) < _ANYWHERE - 1 else len(word) // _DOUBTFUL
    if len(word) < _ANYWHERE:
        return word in joined or any(len(text) <= len(word) + errors and _within(word, text, errors) for text in joined)
    return any(_within(word, text, errors) for text in joined)


def _within(word: str, text: str, errors: int) -> bool:
    """Tell whether a part of ``text`` is ``word`` but for some characters (Wu and Manber 1992, CACM 35(10))."""
    if not errors:
        return word in text
    cut = len(word) // (errors + 1)
    # of so many pieces, one is whole
    if not any(word[at * cut : (at + 1) * cut] in text for at in range(errors + 1)):
        return False
    places: dict[str, int] = {}
    for at, letter in enumerate(word):
        places[letter] = places.get(letter, 0) | 1 << at
    # bit n of state e: the text so far ends with the first n + 1 characters but for e
    states = [(1 << number) - 1 for number in range(errors + 1)]
    for letter in text:
        old, new = states, list[int]()
        for number, state in enumerate(old):
            grown = (state << 1 | 1) & places.get(letter, 0)
            if number:
                less, just = old[number - 1], new[number - 1]
                grown |= less | less << 1 | just << 1 | 1
            new.append(grown)
        states = new
        if states[errors] >> len(word) - 1 & 1:
            return True
    return False

"""The text detector as a finder of regions."""

from __future__ import annotations

from itertools import compress
from typing import Final

from ..._version import __version__
from ...pixels.decode import colours
from ...pixels.region import Shape
from ..finder import Found, Image
from .boxes import Line, merged, shape
from .cine import FEW
from .detector import PRESETS, TextDetector
from .harmless import kept
from .reading import Read, Reader, identifiers_read
from .views import windowed

__all__ = ["TextFinder"]

_CERTAIN: Final = 0.5
"""Confidence from which on what was read counts as text."""


class TextFinder:
    """Finds text in any image whose frames can be decoded; needs the extra ``ocr``.

    Parameters
    ----------
    preset : str
        As for `TextDetector`.
    threads : int
        As for `TextDetector`.
    keep_harmless : bool
        Leave lines that say nothing of anybody, as `harmless` has it.
    """

    name: Final = "text detector"
    version: Final = __version__
    claim: Final = (
        "Every pixel was looked at for text by neural networks; text that hardly differs from what it lies on, single "
        "letters and handwriting can be missed, at the rates that benchmarks/text_leak.py measures."
    )

    def __init__(self, preset: str = "default", threads: int = 1, *, keep_harmless: bool = False) -> None:
        self._detector, self._reader, self._keep = TextDetector(preset, threads), Reader(threads), keep_harmless

    def find(self, image: Image) -> Found:
        """Look for text in every frame, or in pictures that stand for them.

        Raises
        ------
        Quarantined
            If the frames cannot be decoded.
        MissingExtra
            If the extra ``ocr`` is not installed.
        """
        lines, texts = self._read(image)
        number, preset = len(image.frames), self._detector.preset
        if number <= FEW or PRESETS[preset].every:
            note = f"{number} of {number} frames were looked at ({preset})"
        else:
            note = f"all {number} frames were looked at by their mean and their sharpest parts ({preset})"
        return Found(_shapes(image, lines), covers=True, note=note, findings=identifiers_read(texts, image.known))

    def left(self, image: Image) -> tuple[Shape, ...]:
        """Look at what was masked for what still reads like text; raises as `find`."""
        lines, _ = self._read(image, doubtful=False)
        return _shapes(image, lines)

    def _read(self, image: Image, *, doubtful: bool = True) -> tuple[list[Line], list[str]]:
        """Return lines that must go, and the text of all lines; without ``doubtful`` only such that read like text."""
        layout = image.frames.layout
        palette = colours(layout, image.header)
        gone: list[Line] = []
        texts: list[str] = []
        for even, lines in self._detector.looked(image.frames, layout.photometric, palette, layout.stored):
            if not lines:
                continue
            view, stay = windowed(even), [False] * len(lines)
            if self._keep:
                reads, stay = kept(self._reader, view, lines, image.own)
            else:
                reads = self._reader.read(view, lines)
            texts += [read.text for read in reads]
            goes = [not stays and (doubtful or _is_text(read)) for stays, read in zip(stay, reads, strict=True)]
            gone = merged([*gone, *compress(lines, goes)])
        return gone, texts


def _is_text(read: Read) -> bool:
    """Tell whether somebody could read it; noise and edges read as one letter, or as many that are in doubt."""
    return read.confidence >= _CERTAIN and sum(letter.isalnum() for letter in read.text) > 1


def _shapes(image: Image, lines: list[Line]) -> tuple[Shape, ...]:
    layout = image.frames.layout
    shapes = (shape(line, layout.rows, layout.columns) for line in lines)
    return tuple(one for one in shapes if one is not None)

"""Find text in images: several views of each, at several scales, each looked at by a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

from ...errors import PolicyError, did_you_mean, shown
from .models import GLYPHS, LINES, Net, probability

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ...pixels.region import Shape
    from .boxes import Line, Span
    from .cine import Many
    from .views import Palette

__all__ = ["PRESETS", "TextDetector"]

Part = tuple[slice, slice]
"""Rows and columns."""
_BORDER: Final = 24
_TILE: Final = 640
_OVERLAP: Final = 80
_LEAST: Final = 48
_ENOUGH: Final = 96
_QUIET: Final = 30
_TRACE: Final = 0.1
"""What the other looks must see of a letter, so that a larger one is made."""
_CLEAR: Final = 0.5
_HIGH: Final = 18.0
_INKED: Final = 0.6
_INKED_SHARE: Final = 0.15
_BETWEEN: Final = 0.25
_LETTER: Final = 4.0
_LARGE_LETTER: Final = 12.0
_SMALL_IMAGE: Final = 256
_STRICTER: Final = 0.2
_STRICTEST: Final = 0.4
"""How much more certain a part must be at each halving of the scale, or of a small image, where all looks drawn; and at
most."""
_SMALL: Final = 8.0
_LARGE: Final = 64.0
_LARGEST: Final = 0.35


class _Look(NamedTuple):
    """One way to let the network for lines look at an image.

    Attributes
    ----------
    scale : float
        Of what it is given, at most 1.
    turned : bool
        By a quarter turn: it knows lines from left to right best.
    """

    scale: float = 1.0
    turned: bool = False


class _Preset(NamedTuple):
    """How to look at each picture.

    Attributes
    ----------
    letters : (float, float)
        Probability of ink that each pixel of a letter needs, and that one of them needs.
    octaves : tuple of tuple of float
        Scales at which letters are looked for, the largest letters last; what is seen at the first scale of an octave
        is averaged with what is seen at the others, because what is no letter seldom looks like one at all of them. One
        above 1 comes last.
    looks : tuple of _Look
    every : bool
        Whether every frame is looked at, and not pictures that stand for them.
    """

    letters: tuple[float, float]
    octaves: tuple[tuple[float, ...], ...]
    looks: tuple[_Look, ...] = ()
    every: bool = False


_OCTAVES: Final = ((1.0, 0.71, 1.41), (0.5, 0.71), (0.25,), (0.125,))
PRESETS: Final = {
    "light": _Preset((0.25, 0.4), ((1.0, 0.71), (0.5, 0.35), (0.25,), (0.125,))),
    "default": _Preset((0.25, 0.35), _OCTAVES),
    "paranoid": _Preset((0.15, 0.2), _OCTAVES, (_Look(), _Look(0.5), _Look(turned=True)), every=True),
}


class TextDetector:
    """Finds text by networks; what it costs and what it leaves is measured for each preset.

    Parameters
    ----------
    preset : str
        ``"light"``, ``"default"`` or ``"paranoid"``.
    threads : int
        How many a network uses at most.

    Raises
    ------
    PolicyError
        If there is no such preset, or no thread.
    """

    def __init__(self, preset: str = "default", threads: int = 1) -> None:
        if preset not in PRESETS:
            raise PolicyError(f"no text preset {shown(preset)}{did_you_mean(preset, PRESETS)}")
        if threads < 1:
            raise PolicyError("text is looked for by one thread or more")
        self.preset, self.threads = preset, threads

    def find(
        self, frames: Many, photometric: str, palette: Palette | None = None, bits: int | None = None
    ) -> tuple[Shape, ...]:
        """Look for text.

        Parameters
        ----------
        frames : Many
            Stored values; taken one after the other, and not kept.
        photometric : str
            Photometric Interpretation.
        palette : (int, ndarray of shape (entries, 3)), optional
            Stored value of the first colour of a PALETTE COLOR image, and the colours.
        bits : int, optional
            Bits Stored, if they are fewer than the type of the values has.

        Returns
        -------
        tuple of Region or Polygon
            For all frames together: text moves from frame to frame.

        Raises
        ------
        MissingExtra
            If the extra ``ocr`` is not installed.
        """
        from .boxes import merged, shape

        found: list[Line] = []
        rows, columns = 0, 0
        for even, lines in self.looked(frames, photometric, palette, bits):
            rows, columns = even.shape[:2]
            found = merged([*found, *lines])
        shapes = (shape(line, rows, columns) for line in found)
        return tuple(one for one in shapes if one is not None)

    def looked(
        self, frames: Many, photometric: str, palette: Palette | None, bits: int | None
    ) -> Iterator[tuple[NDArray[np.float32], list[Line]]]:
        """Yield the pictures that were looked at, and the lines in each; parameters and errors are those of `find`.

        Pictures are the frames, or stand for them, and are as `views.evened` returns them.
        """
        from .cine import pictures
        from .models import require

        require()
        for even, where in pictures(frames, photometric, palette, bits, every=PRESETS[self.preset].every):
            yield even, self._lines(even, where)

    def _lines(self, even: NDArray[np.float32], where: NDArray[np.bool_] | None) -> list[Line]:
        """Return the lines of one picture, or of a part of it, of which none covers a letter in part."""
        import cv2
        import numpy as np

        from .boxes import canvas, merged, written
        from .views import local, scaled

        preset, octaves, found = PRESETS[self.preset], self._ink(even, where), []
        if preset.looks:
            view = cache(lambda scale: local(scaled(even, scale)))
            ink = np.maximum.reduce([cv2.resize(one, even.shape[1::-1]) for scale, one in octaves if scale >= _CLEAR])
            found = [line for look in preset.looks for line in self._seen(view, look, ink)]
        for scale, one in octaves:
            afar = max(0.0, math.log2(_SMALL_IMAGE / min(even.shape[:2]))) - math.log2(scale)
            low, high = (needed + min(_STRICTER * afar, _STRICTEST) for needed in preset.letters)
            if scale < 1:
                # what small letters look like from afar is a block, with what is between their lines
                around = (line.wider(_BETWEEN * line.height, _BETWEEN * line.height) for line in found)
                known = _resized(canvas(around, *even.shape[:2]) > 0, one.shape)
                one = one * ~known
            letters = written(one, low, high, _LETTER if scale == 1 else _LARGE_LETTER)
            found += [line.scaled(1 / scale) for line in letters]
        return merged(found)

    def _ink(self, even: NDArray[np.float32], where: NDArray[np.bool_] | None) -> list[tuple[float, NDArray[np.uint8]]]:
        """Return the scale of each octave, and the probability of ink, 255 for 1, of every pixel at that scale.

        Outside of ``where`` there is none. An octave is left out if the image is too small for it.
        """
        import cv2
        import numpy as np

        seen = cache(lambda scale: self._letters(even, scale, where))
        octaves = []
        for first, *others in PRESETS[self.preset].octaves:
            if first < 1 and min(even.shape[:2]) * first < _ENOUGH:
                continue
            total, number = self._letters(even, first, where).astype(np.uint16), 1 + len(others)
            for scale in others:
                if scale <= 1:
                    one = seen(scale)
                else:
                    one = self._larger(even, scale, where, (total // len(others)).astype(np.uint8), number)
                total += np.asarray(cv2.resize(one, total.shape[::-1]), np.uint8)
            ink = (total // number).astype(np.uint8)
            octaves.append((first, ink if where is None else ink * _resized(where, ink.shape)))
        return octaves

    def _larger(
        self,
        even: NDArray[np.float32],
        scale: float,
        where: NDArray[np.bool_] | None,
        mean: NDArray[np.uint8],
        number: int,
    ) -> NDArray[np.uint8]:
        """Return what `_letters` does for the dearest of so many looks, where the mean of the others leaves it open.

        Elsewhere it is that mean: where they see no trace of a letter, or see one whatever this look would say.
        """
        from .boxes import undecided

        near = undecided(mean, _TRACE, PRESETS[self.preset].letters[1] * number / (number - 1))
        return self._letters(even, scale, near if where is None else near & where, mean)

    def _letters(
        self,
        even: NDArray[np.float32],
        scale: float,
        where: NDArray[np.bool_] | None,
        known: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Return the probability of ink, 255 for 1, of every pixel at a scale, or at 1 if it is larger.

        Far from ``where`` it is ``known``, or 0.
        """
        import numpy as np

        from .views import brightest, coloured, darkest, scaled

        small, zoom = scaled(even, min(scale, 1.0)), max(scale, 1.0)
        near = None if where is None else _resized(where, small.shape[:2])

        def seen(plane: NDArray[np.float32], part: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
            found = np.zeros(plane.shape, np.uint8) if known is None else known.copy()
            self._fill(found, _contrasts(plane, zoom), GLYPHS, round(_TILE / zoom), part)
            return found

        ink = seen(brightest(small), near)
        if small.shape[2] > 1:
            # coloured ink is brighter or darker than its surroundings in the brightest or the darkest plane
            differs = coloured(small) if near is None else coloured(small) & near
            np.maximum(ink, seen(darkest(small), differs), out=ink)
        return ink

    def _seen(self, view: Callable[[float], NDArray[np.uint8]], look: _Look, ink: NDArray[np.uint8]) -> list[Line]:
        """Return the lines that one look finds; high ones need ink, because anatomy often looks like large letters."""
        import cv2
        import numpy as np

        from .boxes import lines, share

        if min(ink.shape) * look.scale < _LEAST:
            return []
        seen, turns = view(look.scale), int(look.turned)
        inked = np.asarray(cv2.resize(ink, seen.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        # text that is cut by the border is not seen as text
        padded = np.pad(np.rot90(seen, turns), ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), constant_values=127)
        whole = padded.repeat(LINES.channels, axis=2) if padded.shape[2] == 1 else padded
        answer = np.zeros(whole.shape[:2], np.uint8)
        self._fill(answer, lambda part: whole[part], LINES, _TILE)
        answer = np.ascontiguousarray(np.rot90(answer[_BORDER:-_BORDER, _BORDER:-_BORDER], -turns))
        found = [line.scaled(1 / look.scale) for line in lines(answer, inked, _heights(seen, look.scale))]
        return [line for line in found if line.height < _HIGH or share(line, ink, _INKED) >= _INKED_SHARE]

    def _fill(
        self,
        answer: NDArray[np.uint8],
        view: Callable[[Part], NDArray[np.uint8]],
        net: Net,
        tile: int,
        where: NDArray[np.bool_] | None = None,
    ) -> None:
        """Write what a network says of each pixel of an image, 255 for 1, looking tile by tile.

        ``view`` returns what is shown of a tile, maybe enlarged. Far from ``where``, ``answer`` stays as it is.
        """
        from .boxes import areas

        whole = [((0, answer.shape[0]), (0, answer.shape[1]))]
        for rows, columns in whole if where is None else areas(where):
            for down, (top, bottom) in _spans(rows, tile):
                for across, (left, right) in _spans(columns, tile):
                    shown, size = view((slice(*down), slice(*across))), (down[1] - down[0], across[1] - across[0])
                    found = self._tile(shown, net, *size)
                    inner = slice(top - down[0], bottom - down[0]), slice(left - across[0], right - across[0])
                    answer[top:bottom, left:right] = found[inner]

    def _tile(self, shown: NDArray[np.uint8], net: Net, rows: int, columns: int) -> NDArray[np.uint8]:
        """Return what a network says of a tile of so many pixels, of which it is shown as many or more."""
        import cv2
        import numpy as np

        found, busy = np.zeros(shown.shape[:2], np.float32), _busy(shown)
        if busy is not None:
            found[busy] = probability(net, shown[busy], self.threads)
        if shown.shape[:2] != (rows, columns):
            found = np.asarray(cv2.resize(found, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
        return (found * 255).astype(np.uint8)


def _contrasts(plane: NDArray[np.float32], zoom: float) -> Callable[[Part], NDArray[np.uint8]]:
    """Return what shows the network for letters a part of a plane, so many times as large."""
    import cv2
    import numpy as np

    from .views import contrasts, levels

    middle, span = levels(plane)

    def view(part: Part) -> NDArray[np.uint8]:
        tile = plane[part]
        larger = tile if zoom == 1 else cv2.resize(tile, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        return contrasts(np.asarray(larger, np.float32), middle, span)

    return view


def _resized(where: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which pixels of the image at another scale are meant."""
    import cv2
    import numpy as np

    return np.asarray(cv2.resize(where.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST), np.bool_)


def _heights(view: NDArray[np.uint8], scale: float) -> tuple[float, float]:
    """Return which short sides lines may have, in pixels of a view.

    Larger than the greatest, a network takes anatomy for letters; smaller than the least, a larger scale sees better.
    """
    return 4.0 if scale == 1 else _SMALL, min(_LARGE, _LARGEST * min(view.shape[:2]))


def _spans(whole: Span, tile: int) -> Iterator[tuple[Span, Span]]:
    """Divide a side into tiles of about one size that overlap, each with the part of it that is no other's."""
    length, overlap = whole[1] - whole[0], min(_OVERLAP, tile // 2)
    number = max(1, -(-(length - overlap) // (tile - overlap)))
    size = -(-(length + (number - 1) * overlap) // number)
    starts = [whole[0] + min(at * (size - overlap), max(0, length - size)) for at in range(number)]
    for at, start in enumerate(starts):
        stop = min(start + size, whole[1])
        first = start if at == 0 else (starts[at - 1] + size + start) // 2
        last = stop if at == number - 1 else (stop + starts[at + 1]) // 2
        yield (start, stop), (first, last)


def _busy(view: NDArray[np.uint8]) -> Part | None:
    """Return the part of a view in which anything is drawn, with a margin, ``None`` if nothing is."""
    import numpy as np

    from .views import brightest, darkest

    contrast = view[..., :3]
    drawn = (brightest(contrast) > 127 + _QUIET) | (darkest(contrast) < 127 - _QUIET)
    ends = []
    for length, along in ((len(drawn), 1), (drawn.shape[1], 0)):
        at = np.flatnonzero(drawn.any(axis=along))
        if not len(at):
            return None
        ends.append(slice(max(0, int(at[0]) - 32), min(length, int(at[-1]) + 33)))
    return ends[0], ends[1]

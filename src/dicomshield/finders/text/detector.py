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
    from .boxes import Line
    from .cine import Many
    from .views import Palette

__all__ = ["PRESETS", "TextDetector"]

Span = tuple[int, int]
"""The first row or column, and the one after the last."""
_BORDER: Final = 24
_BLOCK: Final = 16
_NEAR: Final = 2
_TILE: Final = 768
_OVERLAP: Final = 96
_LEAST: Final = 48
_ENOUGH: Final = 96
_QUIET: Final = 30
_CLEAR: Final = 0.5
_HIGH: Final = 18.0
_INKED: Final = 0.6
_INKED_SHARE: Final = 0.15
_KNOWN: Final = 0.5
_LETTER: Final = 4.0
_LARGE_LETTER: Final = 12.0
_SMALL_IMAGE: Final = 256
_STRICTER: Final = 0.2
"""How much more certain a part must be at each halving of the scale, or of a small image: there, all looks drawn."""
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
    hint : float
        Probability of ink from which on it looks at a place, unless there surely are letters; 0 for everywhere.
    """

    scale: float = 1.0
    turned: bool = False
    hint: float = 0.0


class _Preset(NamedTuple):
    """How to look at each picture.

    Attributes
    ----------
    letters : (float, float)
        Probability of ink that each pixel of a letter needs, and that one of them needs.
    looks : tuple of _Look
    scales : tuple of float
        At which letters are looked for.
    every : bool
        Whether every frame is looked at, and not pictures that stand for them.
    """

    letters: tuple[float, float]
    looks: tuple[_Look, ...]
    scales: tuple[float, ...]
    every: bool = False


PRESETS: Final = {
    "light": _Preset((0.4, 0.6), (), (1.0, 0.5, 0.25)),
    "default": _Preset((0.4, 0.6), (_Look(hint=0.25),), (1.0, 0.5, 0.25)),
    "paranoid": _Preset((0.3, 0.4), (_Look(), _Look(0.5), _Look(turned=True)), (2.0, 1.0, 0.5, 0.25), every=True),
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
        for picture, lines in self.looked(frames, photometric, palette, bits):
            rows, columns = picture.shape[:2]
            found = merged([*found, *lines])
        shapes = (shape(line, rows, columns) for line in found)
        return tuple(one for one in shapes if one is not None)

    def looked(
        self, frames: Many, photometric: str, palette: Palette | None, bits: int | None
    ) -> Iterator[tuple[NDArray[np.float32], list[Line]]]:
        """Yield the pictures that were looked at, and the lines in each; parameters and errors are those of `find`.

        Pictures are the frames, or stand for them, and are as `views.values` returns them.
        """
        from .cine import pictures
        from .models import require

        require()
        for picture, where in pictures(frames, photometric, palette, bits, every=PRESETS[self.preset].every):
            yield picture, self._lines(picture, where)

    def _lines(self, picture: NDArray[np.float32], where: NDArray[np.bool_] | None) -> list[Line]:
        """Return the lines of one picture, or of a part of it, of which none covers a letter in part."""
        import cv2
        import numpy as np

        from .boxes import canvas, grown, merged, share, written
        from .views import evened, grey, local, scaled

        even = evened(picture)
        view = cache(lambda scale: local(scaled(even, scale)))
        preset, maps = PRESETS[self.preset], self._ink(even, where)
        ink = np.maximum.reduce([cv2.resize(one, even.shape[1::-1]) for scale, one in maps if scale >= _CLEAR])
        found = [line for look in preset.looks for line in self._seen(view, look, ink)]
        for scale, one in maps:
            afar = min(0.0, math.log2(min(ink.shape) / _SMALL_IMAGE)) + math.log2(scale)
            low, high = (needed - _STRICTER * afar for needed in preset.letters)
            letters = written(one, low, high, _LETTER if scale == 1 else _LARGE_LETTER)
            parts = [line.scaled(1 / scale) for line in letters]
            # what small letters look like from afar is a block
            known = canvas(found, *ink.shape) if scale < 1 and parts else ink
            found += [line for line in parts if scale == 1 or share(line, known) < _KNOWN]
        if not found:
            return []
        strokes = grey(view(1.0))
        return merged([grown(line, strokes) if line.height < _HIGH else line for line in merged(found)])

    def _ink(self, even: NDArray[np.float32], where: NDArray[np.bool_] | None) -> list[tuple[float, NDArray[np.uint8]]]:
        """Return scales, and for each the probability of ink, 255 for 1, of every pixel of the image at that scale.

        Outside of ``where`` there is none.
        """
        import numpy as np

        from .views import brightest, contrasts, darkest, scaled

        maps = []
        for scale in PRESETS[self.preset].scales:
            small = scaled(even, min(scale, 1.0))
            if scale < 1 and min(small.shape[:2]) < _ENOUGH:
                continue
            # coloured ink is brighter or darker than its surroundings in the brightest or the darkest plane
            planes = [small[..., 0]] if small.shape[2] == 1 else [brightest(small), darkest(small)]
            there = None if where is None else _resized(where, planes[0].shape)
            answers = [self._map(contrasts(plane), GLYPHS, max(scale, 1.0), there) for plane in planes]
            ink = np.maximum.reduce(answers)
            maps.append((min(scale, 1.0), ink if there is None else ink * there))
        return maps

    def _seen(self, view: Callable[[float], NDArray[np.uint8]], look: _Look, ink: NDArray[np.uint8]) -> list[Line]:
        """Return the lines that one look finds; high ones need ink, because anatomy often looks like large letters."""
        import cv2
        import numpy as np

        from .boxes import lines, share, undecided

        if min(ink.shape) * look.scale < _LEAST:
            return []
        seen = view(look.scale)
        inked = np.asarray(cv2.resize(ink, seen.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.uint8)
        sure, turns = PRESETS[self.preset].letters[1], int(look.turned)
        turned = np.ascontiguousarray(np.rot90(seen, turns))
        where = np.rot90(undecided(inked, look.hint, sure), turns) if look.hint else None
        answer = np.ascontiguousarray(np.rot90(self._map(turned, LINES, 1.0, where), -turns))
        found = [line.scaled(1 / look.scale) for line in lines(answer, inked, _heights(seen, look.scale))]
        return [line for line in found if line.height < _HIGH or share(line, ink, _INKED) >= _INKED_SHARE]

    def _map(
        self, view: NDArray[np.uint8], net: Net, zoom: float, where: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """Return what a network says of each pixel of a view, 255 for 1, looking tile by tile.

        For lines a border is added, because text that is cut by the border is not seen as text; the other network was
        taught with such text. Far from ``where``, nothing is looked for.
        """
        import numpy as np

        border = _BORDER if net is LINES else 0
        around = (border, border), (border, border)
        padded = np.pad(view, (*around, (0, 0)), constant_values=127)
        answer = np.zeros(padded.shape[:2], np.uint8)
        whole = [((0, padded.shape[0]), (0, padded.shape[1]))]
        for rows, columns in whole if where is None else _areas(np.pad(where, around)):
            for down in _spans(rows, round(_TILE / zoom)):
                for across in _spans(columns, round(_TILE / zoom)):
                    part = _busy(padded, down, across)
                    if part is not None:
                        np.maximum(answer[part], self._tile(padded[part], net, zoom), out=answer[part])
        rows, columns = view.shape[:2]
        return answer[border : border + rows, border : border + columns]

    def _tile(self, tile: NDArray[np.uint8], net: Net, zoom: float) -> NDArray[np.uint8]:
        import cv2
        import numpy as np

        rows, columns, channels = tile.shape
        if zoom > 1:
            larger = cv2.resize(tile, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            tile = np.asarray(larger, np.uint8).reshape(*larger.shape[:2], channels)
        if channels < net.channels:
            tile = np.repeat(tile, net.channels, axis=2)
        answer = probability(net, tile, self.threads)
        if zoom > 1:
            answer = np.asarray(cv2.resize(answer, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
        return (answer * 255).astype(np.uint8)


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


def _areas(where: NDArray[np.bool_]) -> list[tuple[Span, Span]]:
    """Return rows and columns of boxes around what is true, with a wide margin; boxes do not overlap."""
    import cv2
    import numpy as np

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


def _spans(whole: Span, tile: int) -> Iterator[Span]:
    """Divide a side into tiles of about one size that overlap."""
    length, overlap = whole[1] - whole[0], min(_OVERLAP, tile // 2)
    number = max(1, -(-(length - overlap) // (tile - overlap)))
    size = -(-(length + (number - 1) * overlap) // number)
    for at in range(number):
        start = min(at * (size - overlap), max(0, length - size))
        yield whole[0] + start, whole[0] + min(length, start + size)


def _busy(view: NDArray[np.uint8], down: Span, across: Span) -> tuple[slice, slice] | None:
    """Return the part of a tile in which anything is drawn, with a margin, ``None`` if nothing is."""
    import numpy as np

    from .views import brightest, darkest

    tile = view[slice(*down), slice(*across), :3]
    drawn = (brightest(tile) > 127 + _QUIET) | (darkest(tile) < 127 - _QUIET)
    ends = []
    for start, length, along in ((down[0], len(drawn), 1), (across[0], drawn.shape[1], 0)):
        at = np.flatnonzero(drawn.any(axis=along))
        if not len(at):
            return None
        ends.append(slice(start + max(0, int(at[0]) - 32), start + min(length, int(at[-1]) + 33)))
    return ends[0], ends[1]

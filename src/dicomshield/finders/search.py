"""Clean Pixel Data (PS3.15 E.3.1): every finder in turn, until nothing is left that reads like text."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..errors import Finding, MissingExtra, Quarantined, Reason
from ..pixels.decode import Frames, MaskedFrames
from ..pixels.region import Shape
from ..profile import Action, Profile
from .devices import Devices
from .finder import Found, Image
from .gate import computed, skipped
from .overlays import refuse_text, stray_bits
from .text.detector import TextDetector
from .ultrasound import UltrasoundRegions

__all__ = ["PixelSearch", "Searched"]

_LOOKS: Final = 4


class Searched(NamedTuple):
    """What came of a search.

    Attributes
    ----------
    shapes : tuple of Region, Polygon, Bitmap or Outside
        What to black out.
    finders : tuple of str
        Name and version of those that found something.
    covers : bool
        Whether every pixel of every frame is in ``shapes`` or was looked at by a finder that can claim it.
    note : str
        For the report: what was looked at, or why nothing was.
    overlay : bool
        Whether bits of the pixel data that hold no pixel value are set, which must be cleared.
    findings : tuple of Finding
        Known identifiers that were read, by kind.
    """

    shapes: tuple[Shape, ...]
    finders: tuple[str, ...]
    covers: bool
    note: str
    overlay: bool
    findings: tuple[Finding, ...]


class PixelSearch:
    """Looks for text in the pixels of one object after the other.

    Parameters
    ----------
    profile : Profile
        The first of its masks that matches takes the place of the public rules.
    """

    def __init__(self, profile: Profile) -> None:
        self._text, self._regions = profile.text, profile.regions
        self._kept = frozenset(tag for tag, action in profile.overrides.items() if action is Action.KEEP)
        self._by_header = (Devices(profile.masks), UltrasoundRegions())

    def __call__(self, image: Image) -> Searched:
        """Search an object.

        Raises
        ------
        Quarantined
            DETECTOR if the extra ``ocr`` is not installed, BURNED_IN if text is left after masking, PIXELS or CODEC if
            the frames cannot be decoded or masked.
        """
        found = {f"{finder.name} {finder.version}": finder.find(image) for finder in self._by_header}
        if self._regions:
            found["regions for every image"] = Found(self._regions)
        try:
            skip = skipped(image) if self._text.only_suspect else computed(image)
            if skip is None:
                found |= self._looked(image, _shapes(found))
            if not _shapes(found):
                # a mask would remove overlays
                refuse_text(image, self._kept, TextDetector(self._text.preset).find)
        except MissingExtra:
            raise Quarantined(Reason.DETECTOR) from None
        return Searched(
            _shapes(found),
            tuple(name for name, one in found.items() if one.shapes),
            any(one.covers for one in found.values()),
            f"text was not looked for: {skip}" if skip else _note(found),
            stray_bits(image.frames),
            tuple(dict.fromkeys(finding for one in found.values() for finding in one.findings)),
        )

    def _looked(self, image: Image, shapes: tuple[Shape, ...]) -> dict[str, Found]:
        """Look at the pixels until nothing more is found; from the second time on, for what reads like text."""
        from .barcode import Barcodes
        from .text.finder import TextFinder

        barcodes, text = Barcodes(), TextFinder(self._text.preset, keep_harmless=self._text.keep_harmless)
        seen = _masked(image, shapes)
        found = {f"{barcodes.name} {barcodes.version}": barcodes.find(seen)}
        first = text.find(seen)
        for _ in range(1, _LOOKS):
            if not first.shapes:
                break
            left = text.left(_masked(image, (*shapes, *_shapes(found), *first.shapes)))
            first = first._replace(shapes=(*first.shapes, *left))
            if not left:
                break
        else:
            raise Quarantined(Reason.BURNED_IN, f"text is still read after it was masked {_LOOKS - 1} times")
        return found | {f"{text.name} {text.version}": first}


def _masked(image: Image, shapes: tuple[Shape, ...]) -> Image:
    assert isinstance(image.frames, Frames)  # noqa: S101 - for the type checker
    return image._replace(frames=MaskedFrames(image.frames, shapes)) if shapes else image


def _shapes(found: dict[str, Found]) -> tuple[Shape, ...]:
    return tuple(dict.fromkeys(shape for one in found.values() for shape in one.shapes))


def _note(found: dict[str, Found]) -> str:
    return "; ".join(f"{name}: {one.note}" for name, one in found.items() if one.note)

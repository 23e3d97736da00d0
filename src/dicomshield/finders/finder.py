"""What a region finder is: it looks at an image, says what to black out, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..encoding.elements import Element, Run, Scan
from ..encoding.source import Source
from ..errors import Finding
from ..identity.known import Spellings
from ..pixels.decode import Frames, MaskedFrames
from ..pixels.layout import Layout
from ..pixels.region import Shape

if TYPE_CHECKING:
    from ..opened import Opened

__all__ = ["Found", "Image", "RegionFinder", "spread"]

_SOP_CLASS: Final = 0x00080016
_NOWHERE: Final = Source.of(b"")
_NOTHING: Final = Scan([], [], 0)
_UNKNOWN: Final = Spellings()


class Image(NamedTuple):
    """An image as finders see it; they read, and change nothing.

    Attributes
    ----------
    header : mapping
        tag -> value as encoded, of the top level.
    sop_class : str
        SOP Class UID.
    frames : Frames or MaskedFrames
        Stored values, decoded when they are asked for; ``frames.layout`` tells their form.
    source : Source
        Holds the data set.
    scan : Scan
        The noted elements of the data set.
    known : Spellings
        What is known of the patient, to be recognized and never told; nothing if it was not harvested.
    own : frozenset of str
        The patient's own words and numbers, also short ones, as `text.harmless.own_values` writes them.
    """

    header: Mapping[int, bytes]
    sop_class: str
    frames: Frames | MaskedFrames
    source: Source = _NOWHERE
    scan: Scan = _NOTHING
    known: Spellings = _UNKNOWN
    own: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, opened: Opened, pixels: Element, known: Spellings = _UNKNOWN, own: frozenset[str] = frozenset()
    ) -> Image:
        """Return the image of an object that was opened, and whose pixels are this element.

        Raises
        ------
        Quarantined
            PIXELS or INCOMPLETE if its frames cannot be found.
        """
        container, scan, header = opened
        sop_class = header.get(_SOP_CLASS, b"").decode("latin-1").strip(" \0")
        frames = Frames(container.source, pixels, Layout.of(header), container.transfer_syntax)
        return cls(header, sop_class, frames, container.source, scan, known, own)

    def element(self, tag: int) -> tuple[Source, Element] | None:
        """Return a noted element of the top level and where its offsets count, ``None`` if there is none."""
        for noted in self.scan.elements:
            if isinstance(noted, Run):
                for one in noted.stretch.elements:
                    if isinstance(one, Element) and one.tag == tag:
                        return Source.of(noted.stretch.raw), one
            elif isinstance(noted, Element) and noted.tag == tag:
                return self.source, noted
        return None


class Found(NamedTuple):
    """What a finder found in one image.

    Attributes
    ----------
    shapes : tuple of Region, Polygon, Bitmap or Outside
        What to black out; empty if there is nothing. At least one of several touches the frame.
    covers : bool
        Whether every pixel of every frame is in ``shapes`` or was looked at, so that a claim can rest on it.
    note : str
        For the report: what was looked at, or why nothing was; no PHI.
    findings : tuple of Finding
        Known identifiers that were read, by kind.
    """

    shapes: tuple[Shape, ...] = ()
    covers: bool = False
    note: str = ""
    findings: tuple[Finding, ...] = ()


class RegionFinder(Protocol):
    """Finds regions that may carry text.

    Attributes
    ----------
    name, version : str
        Stand in reports.
    claim : str
        One sentence: what can be said of an image it has looked at, and what cannot.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def version(self) -> str:
        """Which one it was."""

    @property
    def claim(self) -> str:
        """What it can say."""

    def find(self, image: Image) -> Found:
        """Look at an image.

        Raises
        ------
        Quarantined
            If the frames cannot be decoded.
        """


def spread(number: int, most: int) -> list[int]:
    """Return up to ``most`` of ``number`` frames, the first and the last among them, as evenly as they go."""
    if number <= most or most < 2:
        return list(range(min(number, most)))
    return sorted({round(at * (number - 1) / (most - 1)) for at in range(most)})

"""What a walk over a data set finds (PS3.5 section 7): elements, items, and runs that are known already."""

from __future__ import annotations

from typing import Final, NamedTuple

from ..standard import tables

__all__ = [
    "PIXEL_DATA",
    "PIXEL_TAGS",
    "Dropped",
    "Element",
    "Item",
    "Noted",
    "Run",
    "Scan",
    "Stretch",
    "tag_at",
    "tag_name",
]

PIXEL_DATA: Final = 0x7FE00010
PIXEL_TAGS: Final = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})


class Element(NamedTuple):
    """An element that somebody must decide about.

    Offsets are bytes from the start of the object; inside a sequence, from the start of the top-level
    element, so that what was learned of a sequence holds wherever the same bytes stand again.

    Attributes
    ----------
    tag : int
        ``0xggggeeee``.
    vr : bytes
        As encoded; from the data dictionary where the encoding has none.
    start, value, end : int
        Of the element, of its value, and the first byte after it, delimiters included.
    explicit : bool
        Whether the element is encoded with its VR.
    defined : bool
        Whether its length is written out rather than delimited.
    items : tuple of Item, or None
        The items of a sequence that hold something noted; ``None`` if the element is no sequence.
    """

    tag: int
    vr: bytes
    start: int
    value: int
    end: int
    explicit: bool
    defined: bool = True
    items: tuple[Item, ...] | None = None


class Dropped(NamedTuple):
    """A run of ``number`` neighbouring elements that go whatever they hold."""

    start: int
    end: int
    number: int


class Stretch:
    """Neighbouring elements that two objects had alike, byte for byte; others of the series have them too.

    Attributes
    ----------
    raw : bytes
    tag : int
        Of its first element.
    elements : list of Element or Dropped
        What is noted in it, with offsets from its start.
    facts : dict or None
        Room for whoever reads values of it more than once.
    """

    __slots__ = ("elements", "facts", "raw", "tag")

    def __init__(self, raw: bytes, elements: list[Element | Dropped]) -> None:
        self.raw, self.elements, self.tag = raw, elements, tag_at(raw)
        self.facts: dict[int, bytes] | None = None


class Run(NamedTuple):
    """A place where a known stretch stands."""

    start: int
    end: int
    stretch: Stretch


class Item(NamedTuple):
    """One item of a sequence (PS3.5 section 7.5); ``end`` lies before its delimiter, if it has one."""

    start: int
    end: int
    defined: bool
    elements: list[Element | Dropped]


Noted = Element | Dropped | Run


class Scan(NamedTuple):
    """The noted elements of a data set in file order, the starts of all kept ones, and where it ends."""

    elements: list[Noted]
    kept: list[int]
    end: int


def tag_at(data: bytes, at: int = 0) -> int:
    """Read the tag of the little endian element at byte ``at``."""
    return data[at + 1] << 24 | data[at] << 16 | data[at + 3] << 8 | data[at + 2]


def tag_name(tag: int) -> str:
    """Write a tag the way people read it: ``(0010,0020)``.

    In broken data four bytes of a value can stand where a tag should, so only tags that PS3.6 defines are told.
    """
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})" if tables.attribute(tag) else "an unknown tag"

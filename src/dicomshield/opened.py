"""Open an object: find its data set, walk it, and read the values that decisions are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .encoding.container import Container, normalise, unpack
from .encoding.elements import PIXEL_TAGS, Element, Run, Scan
from .encoding.scan import Scanner
from .encoding.source import Source
from .errors import Quarantined, Reason
from .pixels.layout import PALETTE
from .profile import FACTS

__all__ = ["Header", "Opened", "opened", "overlay_in_pixels", "pixel_element"]

Header = dict[int, bytes]
"""tag -> value as encoded, of attributes of the top level; empty if it is a sequence, or too long for a fact."""
_VALUE: Final = 1 << 12
"""Longest value, in bytes, that is read as a fact about the object."""
_PALETTE: Final = 1 << 17
"""The same for a palette: 65,536 entries of 16 bits."""
_OVERLAY_BIT: Final = 0x60000102


class Opened(NamedTuple):
    """An object that was walked, and the values of the attributes that were asked for."""

    container: Container
    scan: Scan
    header: Header


def opened(source: Source, scanner: Callable[..., Scanner], facts: frozenset[int]) -> Opened:
    """Find, walk and read the header of an object; let pydicom mend what the walk does not understand.

    Raises
    ------
    Quarantined
        If it cannot be read.
    """
    try:
        container = unpack(source)
        scan = scanner(explicit=container.explicit).scan(container.source, container.start)
    except Quarantined as broken:
        if broken.reason is not Reason.MALFORMED:
            raise
        container = normalise(source)
        scan = scanner(explicit=container.explicit).scan(container.source, container.start)
    header = _header(container.source, scan, facts)
    # rules may look at who wrote the file
    header.update((tag, value) for tag, value in container.meta.items() if tag in facts)
    return Opened(container, scan, header)


def _header(source: Source, scan: Scan, facts: frozenset[int]) -> Header:
    """Return the values of the attributes the main job reads; a long one is only said to be there."""
    header: Header = {}
    slice_ = source.slice
    for noted in scan.elements:
        if type(noted) is Run:
            stretch = noted.stretch
            if stretch.facts is None:
                inside = Scan([*stretch.elements], [], 0)
                stretch.facts = _header(Source.of(stretch.raw), inside, facts)
            header |= stretch.facts
        elif type(noted) is Element and (noted.tag in facts or noted.tag & 0xFF00FFFF == _OVERLAY_BIT):
            is_sequence = noted.items is not None
            long = is_sequence or noted.end - noted.value > (_PALETTE if noted.tag in PALETTE else _VALUE)
            if long and not is_sequence and noted.tag not in FACTS and noted.tag in facts:
                # a rule would take it for missing
                raise Quarantined(Reason.TOO_LARGE, "an attribute that a mask looks at")
            header[noted.tag] = b"" if long else slice_(noted.value, noted.end)
    return header


def overlay_in_pixels(header: Header) -> bool:
    """Tell whether an overlay lies in bits of Pixel Data (PS3.3 C.9.2: Overlay Bit Position, retired)."""
    return any(tag & 0xFF00FFFF == _OVERLAY_BIT and value[:2] != b"\0\0" for tag, value in header.items())


def pixel_element(scan: Scan) -> Element | None:
    """Return the element that holds the pixels, if there is one."""
    return next((one for one in reversed(scan.elements) if isinstance(one, Element) and one.tag in PIXEL_TAGS), None)

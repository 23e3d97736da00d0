"""Write elements, items and File Meta Information (PS3.5 section 7, PS3.10 section 7.1)."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import Final

from .._version import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from .scan import LONG_VRS

__all__ = ["DEFLATED", "EXPLICIT", "IMPLICIT", "element", "file_meta", "item", "padded", "sequence"]

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DEFLATED: Final = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
"""Data sets in raw deflate; JPIP Referenced Deflate and JPIP HTJ2K Referenced Deflate among them."""

_SHORT_HEAD: Final = Struct("<HH2sH").pack
_LONG_HEAD: Final = Struct("<HH2s2xI").pack
_IMPLICIT_HEAD: Final = Struct("<HHI").pack
_PAD_WITH_NUL: Final = frozenset({b"UI", b"OB", b"UN"})


def padded(vr: bytes, value: bytes) -> bytes:
    """Make the length even (PS3.5 6.2)."""
    if len(value) & 1:
        return value + (b"\0" if vr in _PAD_WITH_NUL else b" ")
    return value


def element(tag: int, vr: bytes, value: bytes, *, explicit: bool, undefined: bool = False) -> bytes:
    """Encode one element; ``undefined`` writes a delimited length, the value must then end itself."""
    value = padded(vr, value)
    length = 0xFFFFFFFF if undefined else len(value)
    if not explicit:
        return _IMPLICIT_HEAD(tag >> 16, tag & 0xFFFF, length) + value
    if vr in LONG_VRS:
        return _LONG_HEAD(tag >> 16, tag & 0xFFFF, vr, length) + value
    return _SHORT_HEAD(tag >> 16, tag & 0xFFFF, vr, length) + value


def item(content: bytes) -> bytes:
    """Encode one item of defined length."""
    return _IMPLICIT_HEAD(0xFFFE, 0xE000, len(content)) + content


def sequence(tag: int, *items: bytes, explicit: bool) -> bytes:
    """Encode a sequence of defined length."""
    return element(tag, b"SQ", b"".join(map(item, items)), explicit=explicit)


def file_meta(sop_class: bytes, sop_instance: bytes, transfer_syntax: str) -> bytes:
    """Build preamble, prefix and File Meta Information anew (PS3.10 7.1, PS3.15 E.1.1).

    Nothing of the original's goes over: its preamble, AE titles, addresses and private information
    can all name somebody.
    """
    before, after = _meta_around(sop_class, transfer_syntax)
    rest = before + element(0x00020003, b"UI", sop_instance, explicit=True) + after
    length = element(0x00020000, b"UL", len(rest).to_bytes(4, "little"), explicit=True)
    return bytes(128) + b"DICM" + length + rest


@lru_cache(maxsize=256)
def _meta_around(sop_class: bytes, transfer_syntax: str) -> tuple[bytes, bytes]:
    """Return the elements before and after the SOP Instance UID, which objects of a kind share."""
    before = (
        element(0x00020001, b"OB", b"\0\1", explicit=True),
        element(0x00020002, b"UI", sop_class, explicit=True),
    )
    after = (
        element(0x00020010, b"UI", transfer_syntax.encode(), explicit=True),
        element(0x00020012, b"UI", IMPLEMENTATION_CLASS_UID.encode(), explicit=True),
        element(0x00020013, b"SH", IMPLEMENTATION_VERSION_NAME.encode(), explicit=True),
    )
    return b"".join(before), b"".join(after)

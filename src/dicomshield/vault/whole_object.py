"""A DICOM object taken apart into its top-level elements, and put together again with others in their places."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from ..encoding.container import Container, deflate
from ..encoding.elements import Element, tag_name
from ..encoding.scan import LONG_VRS, SHORT_VRS, Scanner, Verdict
from ..encoding.source import Source
from ..encoding.write import element, file_meta, sequence
from ..errors import Quarantined, Reason
from ..opened import opened
from ..profile import vr_of

__all__ = ["Data", "WholeObject", "elements_of", "recoded", "relative"]

Data = bytes | str | os.PathLike[str]
"""A file: its content, or its path."""

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _DATES_MODIFIED = 0x00120062, 0x00120063, 0x00120064, 0x00280303
_ENCRYPTED: Final = 0x04000500
_ITEM: Final = b"\xfe\xff\x00\xe0"
_ITEM_HEAD: Final = 8
_MAX_UID: Final = 64


class WholeObject(NamedTuple):
    """A DICOM file that was walked, with the top-level elements of its data set by tag."""

    container: Container
    elements: Mapping[int, Element]

    @classmethod
    def read(cls, data: Data) -> WholeObject:
        """Read a file into memory.

        Raises
        ------
        Quarantined
            If it cannot be read.
        """
        if isinstance(data, bytes):
            source = Source.of(data)
        else:
            with Source.open(data) as file:
                source = Source.of(file.slice(0, file.size))
        container, scan, _ = opened(source, _scanner, frozenset())
        return cls(container, {one.tag: one for one in scan.elements if isinstance(one, Element)})

    @property
    def data_set(self) -> bytes:
        """The encoded data set, inflated."""
        return self.container.source.head

    def value(self, tag: int) -> bytes:
        """Return a value without its padding, empty if there is none."""
        one = self.elements.get(tag)
        return self.data_set[one.value : one.end].strip(b" \0") if one else b""

    def raw(self, tag: int) -> bytes:
        """Return an element as it is encoded."""
        one = self.elements[tag]
        return self.data_set[one.start : one.end]

    def explicit(self, tag: int) -> bytes:
        """Return an element in Explicit VR Little Endian."""
        raw = self.raw(tag)
        return raw if self.container.explicit else recoded(raw, relative(self.elements[tag]), explicit=True)

    def file(self, *, without: Iterable[int], new: dict[int, bytes]) -> bytes:
        """Return the file of a data set with other elements, each encoded as this one is."""
        gone = {*without, *new}
        # group lengths would no longer be true (PS3.5 7.2)
        kept = {tag: self.raw(tag) for tag in self.elements if tag not in gone and tag & 0xFFFF}
        together = kept | new
        data_set = b"".join(together[tag] for tag in sorted(together))
        sop_class, sop_instance = (
            _uid(tag, together.get(tag, b""), explicit=self.container.explicit) for tag in (_SOP_CLASS, _SOP_INSTANCE)
        )
        meta = file_meta(sop_class, sop_instance, self.container.transfer_syntax)
        return meta + (deflate(data_set) if self.container.deflated else data_set)

    def reidentified(self, originals: Mapping[int, bytes]) -> bytes:
        """Return the file with original elements in their places again (PS3.15 E.1.2).

        Patient Identity Removed becomes NO; De-identification Method, its codes and Longitudinal Temporal
        Information Modified go, as does the Encrypted Attributes Sequence, unless the original had them.

        Parameters
        ----------
        originals : mapping
            tag -> element, encoded as this object is.
        """
        removed = element(_IDENTITY_REMOVED, b"CS", b"NO", explicit=self.container.explicit)
        gone = (_ENCRYPTED, _METHOD, _METHOD_CODES, _DATES_MODIFIED)
        return self.file(without=gone, new={_IDENTITY_REMOVED: removed, **originals})


def _note(_tag: int, _vr: bytes) -> Verdict:
    return Verdict.NOTE


def _scanner(*, explicit: bool) -> Scanner:
    return Scanner(_note, vr_of, explicit=explicit)


def elements_of(data_set: bytes, *, explicit: bool) -> list[Element]:
    """Walk a data set that has no file around it."""
    scan = _scanner(explicit=explicit).scan(Source.of(data_set), 0)
    return [one for one in scan.elements if isinstance(one, Element)]


def _uid(tag: int, raw: bytes, *, explicit: bool) -> bytes:
    """Return the value of an encoded element that File Meta Information repeats."""
    value = b"".join(raw[one.value : one.end].strip(b" \0") for one in elements_of(raw, explicit=explicit))
    if not 0 < len(value) <= _MAX_UID:
        raise Quarantined(Reason.INCOMPLETE, f"{tag_name(tag)} is missing, empty or no UID")
    return value


def relative(one: Element) -> Element:
    """Return a top-level element with offsets from its own start, as those inside of it are."""
    return one._replace(start=0, value=one.value - one.start, end=one.end - one.start)


def recoded(raw: bytes, one: Element, *, explicit: bool) -> bytes:
    """Encode an element with, or without, its VR; values stay, sequences get defined lengths.

    Parameters
    ----------
    raw : bytes
        The top-level element that the offsets count from.
    one : Element
        It, or an element inside of it.
    explicit : bool
    """
    if one.items is None or one.vr != b"SQ":
        # PS3.5 6.2.2: what UN holds is encoded without VRs either way
        value, vr = raw[one.value : one.end], one.vr
        fits = vr in LONG_VRS or (vr in SHORT_VRS and len(value) <= 0xFFFE)
        return element(one.tag, vr if fits else b"UN", value, explicit=explicit, undefined=not one.defined)
    items, at = list[bytes](), one.value
    for inside in one.items:
        items += _empty_items(raw[at : inside.start])
        elements = (inner for inner in inside.elements if isinstance(inner, Element))
        items.append(b"".join(recoded(raw, inner, explicit=explicit) for inner in elements))
        at = inside.end
    items += _empty_items(raw[at : one.end])
    return sequence(one.tag, *items, explicit=explicit)


def _empty_items(gap: bytes) -> list[bytes]:
    """Return the items that the walk passes over: those between noted ones can only be empty, or delimiters."""
    return [b""] * sum(gap.startswith(_ITEM, at) for at in range(0, len(gap), _ITEM_HEAD))

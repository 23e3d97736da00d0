"""Build the new data set from the decisions: kept runs as they lie, everything else written anew.

Nothing is edited in place. The result is a list of pieces: bytes, and ranges of the source that are long
enough to be copied by the kernel.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from .encoding.container import Container
from .encoding.scan import PIXEL_TAGS, Dropped, Element, Item, Scan
from .encoding.source import Source
from .encoding.write import element, item, sequence
from .identity.known import Harvest, kind_of
from .identity.pseudonym import Patient, Pseudonymizer
from .profile import METHOD_CODES, Action, ActionTable, vr_of

__all__ = ["Change", "Piece", "Range", "Rebuilt", "rebuild"]


class Range(NamedTuple):
    """Bytes ``start`` to ``end`` of the source, to be copied as they are."""

    start: int
    end: int


Piece = bytes | Range
Edit = tuple[int, int, bytes]
"""Source bytes ``start`` to ``end`` give way to these."""

_LONG_RUN: Final = 1 << 16


class Change(NamedTuple):
    """What was done with one attribute.

    Attributes
    ----------
    path : tuple of int
        Tags of the sequences it lies in, and its own.
    action : Action
    """

    path: tuple[int, ...]
    action: Action


class Rebuilt(NamedTuple):
    """The new data set.

    Attributes
    ----------
    pieces : list of Piece
    pixels : Range or None
        The range of pixel data among the pieces, which no residual check reads.
    changes : list of Change
    dropped : int
        How many elements went unseen: private ones, group lengths, padding.
    harvest : list of Harvest
    written_dates : list of bytes
        Dates this rewrite wrote.
    """

    pieces: list[Piece]
    pixels: Range | None
    changes: list[Change]
    dropped: int
    harvest: list[Harvest]
    written_dates: list[bytes]


def rebuild(
    container: Container,
    scan: Scan,
    table: ActionTable,
    patient: Patient,
    pseudonymizer: Pseudonymizer,
    *,
    charset: bytes = b"",
    insert: Iterable[tuple[int, bytes]] = (),
    codes: bytes = b"",
    pixel_length: int | None = None,
) -> Rebuilt:
    """Carry out the decisions of an action table.

    Parameters
    ----------
    container, scan
        The original and what was noted in it.
    table : ActionTable
    patient : Patient
    pseudonymizer : Pseudonymizer
    charset : bytes
        Specific Character Set of the original.
    insert : iterable of (tag, encoded element)
        New top-level elements; the table must remove any of that tag in the original.
    codes : bytes
        Encoded items to add to the De-identification Method Code Sequence, whose earlier items stay.
    pixel_length : int, optional
        Bytes of native Pixel Data that are frames; what follows them goes.
    """
    work = _Work(container.source, table, patient, pseudonymizer)
    edits = work.level(scan.elements, (), charset)
    pixels = _pixel_range(scan, pixel_length)
    if pixels and pixel_length is not None:
        edits += _shortened(container.source, scan, pixels)
    codes = work.method_codes(scan, codes, explicit=container.explicit)
    edits += _inserted(container.source, scan, sorted([*insert, (METHOD_CODES, codes)]))
    edits.sort(key=lambda edit: edit[:2])
    pieces = list(_apply(container.source, container.start, scan.end, edits, pixels))
    return Rebuilt(pieces, pixels, work.changes, work.dropped, work.harvest, work.dates)


class _Work:
    """One object being rebuilt: what its levels share."""

    def __init__(
        self, source: Source, table: ActionTable, patient: Patient, pseudonymizer: Pseudonymizer
    ) -> None:
        self.source, self.table, self.patient, self.pseudonymizer = source, table, patient, pseudonymizer
        self.changes: list[Change] = []
        self.harvest: list[Harvest] = []
        self.dates: list[bytes] = []
        self.dropped = 0

    def level(self, elements: Iterable[Element | Dropped], path: tuple[int, ...], charset: bytes) -> list[Edit]:
        """Decide about the noted elements of one level and return what takes their place."""
        edits: list[Edit] = []
        parent = path[-1] if path else 0
        decide, change, slice_ = self.table.decide, self.changes.append, self.source.slice
        blocks: dict[tuple[int, int], _Block] = {}
        for noted in elements:
            if isinstance(noted, Dropped):
                self.dropped += noted.count
                edits.append((noted.start, noted.end, b""))
                continue
            tag, vr, start, value, end, explicit, _, items = noted
            if tag >> 16 & 1:
                edits += self._private(noted, path, charset, blocks)
                continue
            action, fallback, _ = decide(tag, vr, parent)
            if action is Action.KEEP:
                if items:
                    new = self._items(noted, path, charset)
                    if new is not None:
                        edits.append((start, end, new))
                elif tag == 0x00080005 and path:
                    charset = slice_(value, end)
                continue
            if items is not None:
                if action is Action.SHIFT or action is Action.UID:
                    action = fallback
                change(Change((*path, tag), action))
                self._harvest_items(items, charset)
                edits.append((start, end, self._new_sequence(noted, action)))
                continue
            if vr == b"UN":
                vr = vr_of(tag)
            raw = slice_(value, end) if end - value < _LONG_RUN else b""
            new_value, action = self._value(tag, vr, raw, action, fallback)
            if raw and action is not Action.KEEP and (kind := kind_of(tag, vr)):
                self.harvest.append(Harvest(kind, raw, charset))
            change(Change((*path, tag), action))
            new = b"" if new_value is None else element(tag, vr, new_value, explicit=explicit)
            edits.append((start, end, new))
        return edits + [block.edit for block in blocks.values() if not block.used]

    def _items(self, noted: Element, path: tuple[int, ...], charset: bytes) -> bytes | None:
        """Rewrite a kept sequence, in the form of lengths it came in; ``None`` if nothing in it changes."""
        body: list[bytes] = []
        source, at, inside = self.source, noted.value, (*path, noted.tag)
        for one in noted.items or ():
            edits = self.level(one.elements, inside, charset)
            if not edits:
                continue
            edits.sort(key=lambda edit: edit[:2])
            content = b"".join(_bytes(source, _apply(source, one.start + 8, one.end, edits, None)))
            body.append(source.slice(at, one.start))
            body.append(item(content) if one.defined else b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content)
            at = one.end
        if not body:
            return None
        body.append(source.slice(at, noted.end))
        vr = noted.vr if noted.explicit else b"SQ"
        return element(noted.tag, vr, b"".join(body), explicit=noted.explicit, undefined=not noted.defined)

    def _new_sequence(self, noted: Element, action: Action) -> bytes:
        if action is Action.REMOVE or action is Action.REWRITE:
            return b""
        items = () if action is Action.EMPTY else (_dummy_item(noted.tag, noted.explicit),)
        return sequence(noted.tag, *items, explicit=noted.explicit)

    def _harvest_items(self, items: Iterable[Item], charset: bytes) -> None:
        """Learn from what goes with its sequence: former names, other identifiers."""
        for one in items:
            for noted in one.elements:
                if not isinstance(noted, Element):
                    continue
                if noted.items is not None:
                    self._harvest_items(noted.items, charset)
                elif self.table.decide(noted.tag, noted.vr).action is Action.KEEP:
                    # what stays at the top level may be found there
                    continue
                elif (kind := kind_of(noted.tag, noted.vr)) and noted.end - noted.value < _LONG_RUN:
                    raw = self.source.slice(noted.value, noted.end)
                    self.harvest.append(Harvest(kind, raw, charset))

    def method_codes(self, scan: Scan, codes: bytes, *, explicit: bool) -> bytes:
        """Encode the De-identification Method Code Sequence: what it held, by the rules, and new items."""
        earlier = b""
        for noted in scan.elements:
            if isinstance(noted, Element) and noted.tag == METHOD_CODES and noted.items is not None:
                whole = self._items(noted, (), b"") or self.source.slice(noted.start, noted.end)
                earlier = whole[noted.value - noted.start : None if noted.defined else -8]
        return element(METHOD_CODES, b"SQ", earlier + codes, explicit=explicit)

    def _value(
        self, tag: int, vr: bytes, raw: bytes, action: Action, fallback: Action
    ) -> tuple[bytes | None, Action]:
        """Return the new value, ``None`` to remove the element, and what was done in the end."""
        if action is Action.SHIFT or action is Action.SHIFT_DEVICE:
            days = self.patient.days if action is Action.SHIFT else self.pseudonymizer.device_days
            if vr in (b"DA", b"DT", b"TM"):
                new = self.pseudonymizer.shifted(vr, raw, days)
                if new is not None:
                    self.dates.append(new)
                    return new, action
            action = fallback
        elif action is Action.CAP_AGE:
            capped = _capped_age(raw)
            if capped is not None:
                return capped, action if capped != raw else Action.KEEP
            action = fallback
        if action is Action.REMOVE or action is Action.REWRITE:
            return None, action
        if action is Action.EMPTY:
            return b"", action
        if action is Action.UID:
            return self.pseudonymizer.uid(raw), action
        if action is Action.PSEUDONYM:
            return self.patient.pseudonym.encode(), action
        return _dummy(tag, vr), action

    def _private(
        self, noted: Element, path: tuple[int, ...], charset: bytes, blocks: dict[tuple[int, int], _Block]
    ) -> list[Edit]:
        """Keep a private element that is known to be safe; its creator stays if it reserves for one."""
        group, number = noted.tag >> 16, noted.tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            name = self.source.slice(noted.value, noted.end).decode("latin-1").strip(" \0")
            blocks[group, number] = _Block(name, (noted.start, noted.end, b""))
            return []
        block = blocks.get((group, number >> 8))
        edit = None if block is None else self._safe_private(noted, path, charset, block)
        if block is None or edit is None:
            self.dropped += 1
            return [(noted.start, noted.end, b"")]
        block.used = True
        return edit

    def _safe_private(
        self, noted: Element, path: tuple[int, ...], charset: bytes, block: _Block
    ) -> list[Edit] | None:
        """Return the edits of a private element that may stay in some form, ``None`` if it may not."""
        tag = noted.tag
        action, vr = self.table.private(tag >> 16, block.creator, tag & 0xFF)
        if noted.items is not None:
            if action is not Action.KEEP:
                return None
            new = self._items(noted, path, charset)
            return [] if new is None else [(noted.start, noted.end, new)]
        # a sequence whose items could not be walked: nobody has looked into it
        if action is Action.REMOVE or vr == b"SQ":
            return None
        edits: list[Edit] = []
        if action is not Action.KEEP:
            vr = noted.vr if noted.vr != b"UN" else vr
            raw = self.source.slice(noted.value, noted.end)
            value, action = self._value(tag, vr, raw, action, Action.REMOVE)
            if value is None:
                return None
            edits = [(noted.start, noted.end, element(tag, vr, value, explicit=noted.explicit))]
        self.changes.append(Change((*path, tag), action))
        return edits


class _Block:
    """A reserved block of private elements (PS3.5 7.8.1) and the edit that removes its creator."""

    __slots__ = ("creator", "edit", "used")

    def __init__(self, creator: str, edit: Edit) -> None:
        self.creator, self.edit, self.used = creator, edit, False


def _apply(
    source: Source, start: int, end: int, edits: Iterable[Edit], pixels: Range | None
) -> Iterator[Piece]:
    """Yield the bytes of the source with edits made, long runs as ranges."""
    at = start
    for begin, stop, new in edits:
        if begin > at:
            yield from _run(source, at, begin, pixels)
        if new:
            yield new
        at = max(at, stop)
    if end > at:
        yield from _run(source, at, end, pixels)


def _run(source: Source, start: int, end: int, pixels: Range | None) -> Iterator[Piece]:
    """Yield a kept run; pixel data are a range of their own, so that a check can leave them out."""
    if pixels and start < pixels.end and pixels.start < end:
        if start < pixels.start:
            yield from _run(source, start, pixels.start, None)
        yield Range(max(start, pixels.start), min(end, pixels.end))
        if pixels.end < end:
            yield from _run(source, pixels.end, end, None)
    elif end - start > _LONG_RUN:
        yield Range(start, end)
    else:
        yield source.slice(start, end)


def _bytes(source: Source, pieces: Iterable[Piece]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece if isinstance(piece, bytes) else source.slice(piece.start, piece.end)


def _pixel_range(scan: Scan, pixel_length: int | None) -> Range | None:
    """Return where the bytes of Pixel Data lie, without what is hidden behind the last frame."""
    for noted in reversed(scan.elements):
        if isinstance(noted, Element) and noted.tag in PIXEL_TAGS:
            end = noted.end
            if noted.defined and pixel_length is not None:
                end = min(end, noted.value + pixel_length)
            return Range(noted.value, end)
    return None


def _shortened(source: Source, scan: Scan, pixels: Range) -> list[Edit]:
    """Cut off what follows the last frame inside native Pixel Data."""
    for noted in scan.elements:
        if isinstance(noted, Element) and noted.value == pixels.start and noted.end > pixels.end:
            length = pixels.end - pixels.start
            pad = length & 1
            if noted.end - pixels.end == pad:
                return [(pixels.end, noted.end, b"\0")]
            head = source.slice(noted.start, noted.value - 4)
            size = (length + pad).to_bytes(4, "little")
            return [(noted.start, noted.value, head + size), (pixels.end, noted.end, bytes(pad))]
    return []


def _inserted(source: Source, scan: Scan, insert: Iterable[tuple[int, bytes]]) -> Iterator[Edit]:
    """Find the place of each new element: before the first one with a higher tag."""
    noted = [one.start for one in scan.elements]

    def tag_at(position: int) -> int:
        head = source.slice(position, position + 4)
        return int.from_bytes(head[:2], "little") << 16 | int.from_bytes(head[2:], "little")

    for tag, encoded in insert:
        place = scan.end
        for starts in (scan.kept, noted):
            index = bisect_left(starts, tag, key=tag_at)
            if index < len(starts):
                place = min(place, starts[index])
        yield place, place, encoded


def _capped_age(raw: bytes) -> bytes | None:
    """Write every age over 89 years as 90 (45 CFR 164.514(b)(2)(i)(C)); ``None`` if it is no age."""
    match = re.fullmatch(rb"(\d{3})([DWMY])", raw.strip(b" \0"))
    if match is None:
        return None
    years = int(match[1]) / {b"D": 365.25, b"W": 52.18, b"M": 12, b"Y": 1}[match[2]]
    return b"090Y" if years >= 90 else raw


_DUMMIES: Final = {
    b"AE": b"REMOVED", b"AS": b"000D", b"AT": bytes(4), b"CS": b"REMOVED", b"DA": b"19000101", b"DS": b"0",
    b"DT": b"19000101000000", b"FD": bytes(8), b"FL": bytes(4), b"IS": b"0", b"OB": bytes(2), b"OD": bytes(8),
    b"OF": bytes(4), b"OL": bytes(4), b"OV": bytes(8), b"OW": bytes(2), b"SL": bytes(4), b"SS": bytes(2),
    b"SV": bytes(8), b"TM": b"000000", b"UI": b"2.25.0", b"UL": bytes(4), b"UN": bytes(2), b"UR": b"urn:removed",
    b"US": bytes(2), b"UV": bytes(8),
}  # fmt: skip
_EMPTY_PDF: Final = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj
xref
0 4
0000000000 65535 f 
0000000009 00000 n 
0000000051 00000 n 
0000000101 00000 n 
trailer<</Size 4/Root 1 0 R>>
startxref
164
%%EOF
"""
ENCAPSULATED_DOCUMENT: Final = 0x00420011


def _dummy(tag: int, vr: bytes) -> bytes:
    """Return a value of the VR that says nothing (action D of Table E.1-1a)."""
    if tag == ENCAPSULATED_DOCUMENT:
        return _EMPTY_PDF
    if tag == 0x00080201:
        return b"+0000"
    return _DUMMIES.get(vr, b"Removed")


def _dummy_item(tag: int, explicit: bool) -> bytes:
    """Build the item of a sequence that must not be empty, with what its Type 1 attributes ask."""

    def text(number: int, value: bytes) -> bytes:
        return element(number, vr_of(number), value, explicit=explicit)

    code = text(0x00080100, b"REMOVED") + text(0x00080102, b"99DICOMSHIELD") + text(0x00080104, b"Removed")
    comment = text(0x00080100, b"121106") + text(0x00080102, b"DCM") + text(0x00080104, b"Comment")
    if tag == 0x0040A730:
        concept = sequence(0x0040A043, comment, explicit=explicit)
        return text(0x0040A010, b"CONTAINS") + text(0x0040A040, b"TEXT") + concept + text(0x0040A160, b"Removed")
    if tag == 0x00700001:
        anchor = element(0x00700014, b"FL", bytes(8), explicit=explicit)
        place = text(0x00700004, b"PIXEL") + text(0x00700006, b"Removed") + anchor + text(0x00700015, b"N")
        return text(0x00700002, b"REMOVED") + sequence(0x00700008, place, explicit=explicit)
    if tag == 0x0040B020:
        return text(0x0040A0B0, b"\1\0\0\0") + text(0x00700006, b"Removed")
    if tag in (0x00081072, 0x3006004E):
        person = sequence(0x00401101, code, explicit=explicit)
        return text(0x00080080, b"Removed") + person
    return code

"""Build the new data set from the decisions: kept runs as they lie, everything else written anew.

Nothing is edited in place. The result is a list of pieces: bytes, and ranges of the source that are long
enough to be copied by the kernel.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Final, NamedTuple

from .encoding.container import Container
from .encoding.elements import PIXEL_TAGS, Dropped, Element, Item, Noted, Run, Scan, Stretch, tag_at
from .encoding.pieces import Envelope, Piece, Range, Stream
from .encoding.source import Source
from .encoding.write import element, item, sequence
from .identity.known import Harvest, Shared, kind_of, shared
from .identity.pseudonym import Patient, Pseudonymizer
from .profile import METHOD_CODES, Action, ActionTable, Decision, vr_of

__all__ = ["ENCAPSULATED_DOCUMENT", "ENCLOSED", "Change", "Enclose", "Outcome", "Rebuilder", "Rebuilt", "as_it_is"]

Edit = tuple[int, int, bytes]
"""Bytes ``start`` to ``end`` give way to these."""

_Top = tuple[int, int, bytes | Stream]
Enclose = Callable[[bytes, bytes], Envelope]
"""Makes the Encrypted Attributes Sequence from the top-level elements that go, and those that come instead."""
ENCLOSED: Final = 0x04000500
"""The Encrypted Attributes Sequence."""
_PIXELS: Final = 0x7FE00000
_OFFSET_TABLES: Final = 0x7FE00001
"""The first of the attributes that describe encapsulated frames; pixel data follow them (PS3.3 C.7.6.3.1.8)."""
_LONG_RUN: Final = 1 << 16
_MEMO: Final = 1 << 12
_OPEN_ITEM: Final = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
_TEMPORAL: Final = frozenset({b"DA", b"DT", b"TM"})
_BINARY: Final = frozenset({b"OB", b"OW", b"UN"})
_PREVIEW: Final = 1 << 10
"""Bytes from which on a private element could hold a picture that shows text."""


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


class Outcome(NamedTuple):
    """What became of one top-level element and of all it holds.

    Attributes
    ----------
    new : bytes or None
        The encoding that takes its place; ``None`` if it stays as it is.
    changes : Shared of Change
    harvest : Shared of Harvest
        Values of the patient that go with it, other than UIDs.
    uids : tuple of bytes
        UIDs that go with it.
    dates : tuple of bytes
        Days that stand in it on purpose: shifted, or kept by an option.
    dropped : int
        Elements removed unseen.
    """

    new: bytes | None
    changes: Shared[Change]
    harvest: Shared[Harvest]
    uids: tuple[bytes, ...]
    dates: tuple[bytes, ...]
    dropped: int


_UNTOUCHED: Final = Outcome(None, shared(()), shared(()), (), (), 0)


class Rebuilt(NamedTuple):
    """The new data set.

    Attributes
    ----------
    pieces : list of Piece
    pixels : Range or None
        The range of pixel data among the pieces, which no residual check reads.
    outcomes : list of Outcome
        Of the top-level elements that were decided about, in file order.
    dropped : int
        How many top-level elements went unseen: private ones, group lengths, padding.
    """

    pieces: list[Piece]
    pixels: Range | None
    outcomes: list[Outcome]
    dropped: int


class Rebuilder:
    """Carries out the decisions of one action table for one patient and character set.

    What becomes of an element depends on nothing but its bytes then, so it is remembered: the objects of a
    series share most of theirs.

    Parameters
    ----------
    table : ActionTable
    patient : Patient
    pseudonymizer : Pseudonymizer
    charset : bytes
        Specific Character Set of the data set.
    """

    def __init__(self, table: ActionTable, patient: Patient, pseudonymizer: Pseudonymizer, charset: bytes) -> None:
        self.table, self.patient, self.pseudonymizer, self.charset = table, patient, pseudonymizer, charset
        self._memo: dict[bytes, Outcome] = {}
        self._stretches: dict[Stretch, Outcome] = {}

    def rebuild(
        self,
        container: Container,
        scan: Scan,
        *,
        insert: Iterable[tuple[int, bytes]] = (),
        codes: bytes = b"",
        pixel_length: int | None = None,
        pixels: Stream | None = None,
        enclose: Enclose | None = None,
    ) -> Rebuilt:
        """Build the new data set.

        Parameters
        ----------
        container, scan
            The original and what was noted in it.
        insert : iterable of (tag, encoded element)
            New top-level elements in tag order; the table must remove any of that tag in the original.
        codes : bytes
            Encoded items to add to the De-identification Method Code Sequence, whose earlier items stay.
        pixel_length : int, optional
            Bytes of native Pixel Data that are frames; what follows them goes.
        pixels : Stream, optional
            The element that takes the place of the pixel data and of their offset tables.
        enclose : callable, optional
            Gets the encoded top-level elements that go, private ones left out, and those that come in their place,
            and returns the Encrypted Attributes Sequence to insert.
        """
        source, memo = container.source, self._memo
        head, known = source.head, len(source.head)
        outcomes: list[Outcome] = []
        edits: list[_Top] = []
        private: list[Element] = []
        dropped, earlier = 0, b""
        for noted in scan.elements:
            start, end = noted.start, noted.end
            if isinstance(noted, Run):
                outcome = self._stretches.get(noted.stretch) or self._stretch(noted.stretch)
            elif isinstance(noted, Dropped):
                edits.append((start, end, b""))
                dropped += noted.number
                continue
            elif noted.tag >> 16 & 1:
                private.append(noted)
                continue
            elif pixels is not None and noted.tag >= _OFFSET_TABLES:
                edits.append((start, end, pixels if noted.tag in PIXEL_TAGS else b""))
                continue
            elif end - start > _LONG_RUN:
                outcome = self._long(source, noted)
            else:
                raw = head[start:end] if end <= known else source.slice(start, end)
                outcome = memo.get(raw) or self._remember(raw, noted)
                if noted.tag == METHOD_CODES and noted.items is not None:
                    earlier = _Work(self, raw).content(noted)
            if outcome.new is not None:
                edits.append((start, end, outcome.new))
            if outcome.changes or outcome.dropped or outcome.dates:
                outcomes.append(outcome)
        enclosed = enclose(*_before_and_after(source, edits)) if enclose else None
        if private:
            self._private(source, private, edits, outcomes)
        stored = _pixel_range(scan, pixel_length)
        if stored and pixel_length is not None and pixels is None:
            edits += _shortened(source, scan, stored)
        method = element(METHOD_CODES, b"SQ", earlier + codes, explicit=container.explicit)
        edits += _inserted(source, scan, sorted([*insert, (METHOD_CODES, method)] if earlier or codes else insert))
        if enclosed is not None:
            _, place = min(_next_noted(scan.elements, ENCLOSED), _next_kept(source, scan.kept, ENCLOSED))
            edits.append((min(place, scan.end), min(place, scan.end), enclosed))
        edits.sort(key=itemgetter(0, 1))
        pieces = list(_apply(source, container.start, scan.end, edits, stored))
        return Rebuilt(pieces, stored, outcomes, dropped)

    def _remember(self, raw: bytes, noted: Element) -> Outcome:
        if len(self._memo) > _MEMO:
            self._memo.clear()
        outcome = self._memo[raw] = self._decided(raw, noted)
        return outcome

    def _decided(self, raw: bytes, noted: Element) -> Outcome:
        """Decide about one top-level element; most that differ from object to object simply stay."""
        work = _Work(self, raw)
        if noted.items is not None or noted.tag >> 16 & 1:
            return work.outcome(noted)
        decision = self.table.decide(noted.tag, noted.vr)
        if decision.action is Action.KEEP and noted.vr not in _TEMPORAL:
            return _UNTOUCHED
        return work.done(work.leaf(_relative(noted), decision, (), self.charset))

    def _stretch(self, stretch: Stretch) -> Outcome:
        """Put together what becomes of the elements of a stretch."""
        raw, dropped = stretch.raw, 0
        edits: list[Edit] = []
        inside: list[Outcome] = []
        for noted in stretch.elements:
            if isinstance(noted, Dropped):
                dropped += noted.number
                edits.append((noted.start, noted.end, b""))
                continue
            own = raw[noted.start : noted.end]
            outcome = self._memo.get(own) or self._remember(own, noted)
            inside.append(outcome)
            if outcome.new is not None:
                edits.append((noted.start, noted.end, outcome.new))
        if len(self._stretches) > _MEMO:
            self._stretches.clear()
        together = self._stretches[stretch] = Outcome(
            _edited(raw, 0, len(raw), edits) if edits else None,
            shared(chain.from_iterable(outcome.changes for outcome in inside)),
            shared(chain.from_iterable(outcome.harvest for outcome in inside)),
            tuple(chain.from_iterable(outcome.uids for outcome in inside)),
            tuple(chain.from_iterable(outcome.dates for outcome in inside)),
            dropped + sum(outcome.dropped for outcome in inside),
        )
        return together

    def _long(self, source: Source, noted: Element) -> Outcome:
        """Decide about an element too long to be remembered; only a sequence is read for that."""
        if noted.items is not None:
            return _Work(self, source.slice(noted.start, noted.end)).outcome(noted)
        head = source.slice(noted.start, noted.value)
        return self._decided(head, noted._replace(end=noted.value))

    def _private(self, source: Source, private: list[Element], edits: list[_Top], outcomes: list[Outcome]) -> None:
        """Decide about private top-level elements, which depend on what reserves their block."""
        blocks: _Blocks = {}
        for noted in private:
            work = _Work(self, source.slice(noted.start, noted.end))
            for begin, end, new in work.private(_relative(noted), (), self.charset, blocks):
                edits.append((noted.start + begin, noted.start + end, new))
            block = blocks.get((noted.tag >> 16, noted.tag & 0xFFFF))
            if block is not None:
                block.edit = noted.start, noted.end, b""
            outcomes.append(work.done(None))
        edits += self.unused(blocks)

    def unused(self, blocks: _Blocks) -> list[Edit]:
        """Return what removes the creators that reserve for nothing any more."""
        return [
            block.edit
            for (group, _), block in blocks.items()
            if not block.used and self.table.private(group, block.creator, -1)[0] is not Action.KEEP
        ]


class _Work:
    """One top-level element being decided about; ``raw`` is its encoding, offsets are in it."""

    __slots__ = ("changes", "dates", "dropped", "harvest", "raw", "rebuilder", "uids")

    def __init__(self, rebuilder: Rebuilder, raw: bytes) -> None:
        self.rebuilder, self.raw = rebuilder, raw
        self.changes: list[Change] = []
        self.harvest: list[Harvest] = []
        self.uids: list[bytes] = []
        self.dates: list[bytes] = []
        self.dropped = 0

    def outcome(self, noted: Element) -> Outcome:
        """Decide about the element."""
        edits = self.level((_relative(noted),), (), self.rebuilder.charset)
        return self.done(edits[0][2] if edits else None)

    def done(self, new: bytes | None) -> Outcome:
        return Outcome(
            new, shared(self.changes), shared(self.harvest), tuple(self.uids), tuple(self.dates), self.dropped
        )

    def level(self, elements: Iterable[Element | Dropped], path: _Path, charset: bytes) -> list[Edit]:
        """Decide about the noted elements of one level and return what takes their place."""
        edits: list[Edit] = []
        blocks: _Blocks = {}
        parent = path[-1] if path else 0
        for noted in elements:
            if isinstance(noted, Dropped):
                self.dropped += noted.number
                edits.append((noted.start, noted.end, b""))
            elif noted.tag >> 16 & 1:
                edits += self.private(noted, path, charset, blocks)
            else:
                decision = self.rebuilder.table.decide(noted.tag, noted.vr, parent)
                if noted.items is not None:
                    new = self.sequence(noted, decision, path, charset)
                else:
                    new = self.leaf(noted, decision, path, charset)
                    if noted.tag == 0x00080005 and path:
                        charset = self.raw[noted.value : noted.end]
                if new is not None:
                    edits.append((noted.start, noted.end, new))
        return edits + self.rebuilder.unused(blocks)

    def leaf(self, noted: Element, decision: Decision, path: _Path, charset: bytes) -> bytes | None:
        """Return the encoding that takes an element's place, ``None`` if it stays."""
        tag, vr = noted.tag, noted.vr
        raw = self.raw[noted.value : noted.end]
        if decision.action is Action.KEEP:
            if vr in _TEMPORAL:
                # kept by an option: a birth date that equals it, as of a newborn, does not give it away
                self.dates += _days(raw)
            return None
        if vr == b"UN":
            vr = vr_of(tag)
        new, action = self.value(tag, vr, raw, decision.action, decision.fallback)
        if action is not Action.KEEP:
            self.learn_value(tag, vr, raw, charset)
        self.changes.append(Change((*path, tag), action))
        return b"" if new is None else element(tag, vr, new, explicit=noted.explicit)

    def sequence(self, noted: Element, decision: Decision, path: _Path, charset: bytes) -> bytes | None:
        """Return the encoding that takes a sequence's place, ``None`` if it stays."""
        if decision.action is Action.KEEP:
            return self.items(noted, path, charset)
        whole = (Action.REMOVE, Action.EMPTY, Action.DUMMY, Action.REWRITE)
        action = decision.action if decision.action in whole else decision.fallback
        self.changes.append(Change((*path, noted.tag), action))
        self.learn(noted.items or (), charset)
        if action is Action.EMPTY:
            return sequence(noted.tag, explicit=noted.explicit)
        if action is Action.DUMMY:
            return sequence(noted.tag, _dummy_item(noted.tag, noted.explicit), explicit=noted.explicit)
        return b""

    def items(self, noted: Element, path: _Path, charset: bytes) -> bytes | None:
        """Rewrite a kept sequence, in the form of lengths it came in; ``None`` if nothing in it changes."""
        body: list[bytes] = []
        raw, at, inside = self.raw, noted.value, (*path, noted.tag)
        for one in noted.items or ():
            edits = self.level(one.elements, inside, charset)
            if edits:
                edits.sort()
                content = _edited(raw, one.start + 8, one.end, edits)
                body.append(raw[at : one.start])
                body.append(item(content) if one.defined else _OPEN_ITEM + content)
                at = one.end
        if not body:
            return None
        body.append(raw[at : noted.end])
        vr = noted.vr if noted.explicit else b"SQ"
        return element(noted.tag, vr, b"".join(body), explicit=noted.explicit, undefined=not noted.defined)

    def content(self, noted: Element) -> bytes:
        """Return the encoded items of a top-level sequence, by the rules, without a delimiter."""
        new = self.items(_relative(noted), (), self.rebuilder.charset) or self.raw
        return new[noted.value - noted.start : None if noted.defined else -8]

    def learn(self, items: Iterable[Item], charset: bytes) -> None:
        """Harvest from what goes with its sequence: former names, other identifiers."""
        for one in items:
            for noted in one.elements:
                if isinstance(noted, Dropped):
                    continue
                if noted.items is not None:
                    self.learn(noted.items, charset)
                # what stays at the top level may be found there
                elif self.rebuilder.table.decide(noted.tag, noted.vr).action is not Action.KEEP:
                    self.learn_value(noted.tag, noted.vr, self.raw[noted.value : noted.end], charset)

    def learn_value(self, tag: int, vr: bytes, raw: bytes, charset: bytes) -> None:
        kind = kind_of(tag, vr) if len(raw) < _LONG_RUN else None
        if kind == "uid":
            self.uids.append(raw)
        elif kind:
            # the time of day of a DT is nobody's, and differs from object to object
            self.harvest.append(Harvest(kind, raw[:8] if vr == b"DT" else raw, charset))

    def value(self, tag: int, vr: bytes, raw: bytes, action: Action, fallback: Action) -> tuple[bytes | None, Action]:
        """Return the new value, ``None`` to remove the element, and what was done in the end."""
        if action is Action.SHIFT or action is Action.SHIFT_DEVICE:
            pseudonymizer = self.rebuilder.pseudonymizer
            days = self.rebuilder.patient.days if action is Action.SHIFT else pseudonymizer.device_days
            new = pseudonymizer.shifted(vr, raw, days) if vr in _TEMPORAL else None
            if new is not None:
                self.dates += _days(new)
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
        if action is Action.DERIVE:
            # Value 1 of Image Type and Frame Type; the others stay
            return b"DERIVED" + raw[len(raw.partition(b"\\")[0]) :].rstrip(b" ") if raw.strip(b" ") else raw, action
        if action is Action.UID:
            return self.rebuilder.pseudonymizer.uid(raw), action
        if action is Action.PSEUDONYM:
            return self.rebuilder.patient.pseudonym.encode(), action
        return _dummy(tag, vr), action

    def private(self, noted: Element, path: _Path, charset: bytes, blocks: _Blocks) -> list[Edit]:
        """Keep a private element that is known to be safe; its creator stays if it reserves for one."""
        group, number = noted.tag >> 16, noted.tag & 0xFFFF
        if 0x10 <= number <= 0xFF:
            name = self.raw[noted.value : noted.end].decode("latin-1").strip(" \0")
            blocks[group, number] = _Block(name, (noted.start, noted.end, b""))
            return []
        block = blocks.get((group, number >> 8))
        edits = self.safe_private(noted, path, charset, block.creator if block else "")
        if edits is None:
            self.dropped += 1
            return [(noted.start, noted.end, b"")]
        if block:
            block.used = True
        return edits

    def safe_private(self, noted: Element, path: _Path, charset: bytes, creator: str) -> list[Edit] | None:
        """Return the edits of a private element that may stay in some form, ``None`` if it may not."""
        tag = noted.tag
        action, vr = self.rebuilder.table.private(tag >> 16, creator, tag & 0xFF)
        if noted.items is not None:
            if action is not Action.KEEP:
                return None
            new = self.items(noted, path, charset)
        # a sequence whose items could not be walked: nobody has looked into it
        elif action is Action.REMOVE or vr == b"SQ":
            return None
        elif self.rebuilder.table.masked and noted.vr in _BINARY and noted.end - noted.value > _PREVIEW:
            # it may be a preview of what was masked
            return None
        elif action is Action.KEEP:
            new = None
        else:
            vr = noted.vr if noted.vr != b"UN" else vr
            value, action = self.value(tag, vr, self.raw[noted.value : noted.end], action, Action.REMOVE)
            if value is None:
                return None
            new = element(tag, vr, value, explicit=noted.explicit)
        self.changes.append(Change((*path, tag), action))
        return [] if new is None else [(noted.start, noted.end, new)]


class _Block:
    """A reserved block of private elements (PS3.5 7.8.1) and the edit that removes its creator."""

    __slots__ = ("creator", "edit", "used")

    def __init__(self, creator: str, edit: Edit) -> None:
        self.creator, self.edit, self.used = creator, edit, False


_Path = tuple[int, ...]
_Blocks = dict[tuple[int, int], _Block]


def _relative(noted: Element) -> Element:
    """Return a top-level element with offsets in its own encoding."""
    tag, vr, start, value, end, explicit, defined, items = noted
    return Element(tag, vr, 0, value - start, end - start, explicit, defined, items)


def _edited(raw: bytes, at: int, end: int, edits: Iterable[Edit]) -> bytes:
    """Return bytes ``at`` to ``end`` with edits made."""
    pieces: list[bytes] = []
    for begin, stop, new in edits:
        pieces += raw[at:begin], new
        at = stop
    pieces.append(raw[at:end])
    return b"".join(pieces)


def as_it_is(container: Container, scan: Scan) -> tuple[list[Piece], Range | None]:
    """Return a data set unchanged, as pieces, and where its pixel data lie."""
    pixels = _pixel_range(scan, None)
    return list(_apply(container.source, container.start, scan.end, (), pixels)), pixels


def _apply(source: Source, start: int, end: int, edits: Iterable[_Top], pixels: Range | None) -> Iterator[Piece]:
    """Yield the bytes of the source with edits made, long runs as ranges."""
    head, at = source.head, start
    # what is in memory and before the pixels is a slice and nothing else
    plain = min(len(head), pixels.start) if pixels else len(head)
    for begin, stop, new in edits:
        if begin > at:
            if begin <= plain and begin - at <= _LONG_RUN:
                yield head[at:begin]
            else:
                yield from _run(source, at, begin, pixels)
        if new:
            yield new
        if stop > at:
            at = stop
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


def _before_and_after(source: Source, edits: list[_Top]) -> tuple[bytes, bytes]:
    """Return what goes and what comes at the top level; of pixels and private elements nobody is told."""
    before, after = [], []
    for start, end, new in edits:
        tag = tag_at(source.slice(start, start + 4))
        if isinstance(new, bytes) and tag < _PIXELS and not tag >> 16 & 1:
            before.append(source.slice(start, end))
            after.append(new)
    return b"".join(before), b"".join(after)


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
    place, above, encodings = 0, -1, b""
    for tag, encoded in insert:
        # neighbours among the new elements mostly share their place
        if tag > above:
            if encodings:
                yield place, place, encodings
            above, place = min(_next_noted(scan.elements, tag), _next_kept(source, scan.kept, tag))
            place, encodings = min(place, scan.end), b""
        encodings += encoded
    yield place, place, encodings


_AFTER_ALL: Final = (1 << 32, 1 << 62)


def _next_noted(elements: Iterable[Noted], tag: int) -> tuple[int, int]:
    """Return tag and start of the first noted element with a higher tag."""
    for noted in elements:
        if not isinstance(noted, Dropped):
            found = noted.stretch.tag if isinstance(noted, Run) else noted.tag
            if found > tag:
                return found, noted.start
    return _AFTER_ALL


def _next_kept(source: Source, kept: list[int], tag: int) -> tuple[int, int]:
    """Return tag and start of the first kept element with a higher tag."""
    head, known = source.head, len(source.head)

    def tag_of(at: int) -> int:
        return tag_at(head, at) if at + 4 <= known else tag_at(source.slice(at, at + 4))

    index = bisect_left(kept, tag, key=tag_of)
    return (tag_of(kept[index]), kept[index]) if index < len(kept) else _AFTER_ALL


def _days(raw: bytes) -> list[bytes]:
    """Return the days of DA and DT values."""
    return [value.strip(b" \0")[:8] for value in raw.split(b"\\")]


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
_EMPTY_PDF: Final = (
    b"%PDF-1.4\n"
    b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]>>endobj\n"
    b"xref\n0 4\n0000000000 65535 f \n0000000009 00000 n \n0000000052 00000 n \n0000000101 00000 n \n"
    b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n164\n%%EOF\n"
)
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

"""Walk the encoded elements of a data set once and note those that somebody must decide about (PS3.5 section 7).

Most elements of an image are kept, so the walk is a table look-up: the first eight bytes of an element tell
its tag, its VR and nearly always its length, hence how far to jump. What a profile has an action for becomes
an `Element`; nothing else is decoded, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from struct import Struct
from typing import Any, Final, TypeVar

from ..errors import Quarantined, Reason
from .elements import PIXEL_TAGS, Dropped, Element, Item, Noted, Run, Scan, tag_name
from .source import Source
from .stretches import KEY, Stretches

__all__ = ["LONG_VRS", "SHORT_VRS", "Scanner", "Verdict"]

_UNDEFINED: Final = 0xFFFFFFFF
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_MAX_DEPTH: Final = 64
"""Items within items. Real objects stay under 12; a deeper nest is an attack on the reader."""
_MAX_PART: Final = 256 << 20
"""Bytes of one sequence, the largest thing that must be in memory at once."""

LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
SHORT_VRS: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"}
    | {b"SS", b"ST", b"TM", b"UI", b"UL", b"US"}
)
_EXPLICIT: Final = Struct("<HH2sH").unpack_from
_IMPLICIT: Final = Struct("<HHI").unpack_from
_LENGTH: Final = Struct("<I").unpack_from
_WINDOW: Final = 1 << 16
_MEMO: Final = 1 << 13


class Verdict(IntEnum):
    """What the walk does with an element: leave it, let it go, or note it for a decision."""

    KEEP = 0
    DROP = 1
    NOTE = 2


_new = tuple.__new__
"""A named tuple made from a tuple, without its slow constructor."""


class _ShortError(Exception):
    """The window ends before the element does; never leaves this file."""


class Scanner:
    """Walks data sets of one encoding under one judgement.

    Parameters
    ----------
    judge : callable
        ``(tag, vr) -> Verdict`` at any place; asked once for each element header, then remembered.
    vr_of : callable
        ``tag -> VR`` by the data dictionary, ``b"UN"`` if unknown.
    explicit : bool
        Whether elements are encoded with their VR.
    breaks : sequence of int
        As for `Stretches`; without any, no stretches are learned.
    """

    def __init__(
        self,
        judge: Callable[[int, bytes], Verdict],
        vr_of: Callable[[int], bytes],
        *,
        explicit: bool,
        breaks: Sequence[int] = (),
    ) -> None:
        self.judge, self.vr_of, self.explicit = judge, vr_of, explicit
        self.stretches = Stretches(breaks) if breaks else None
        self.keep: dict[bytes, int] = {}
        self.note: dict[bytes, tuple[int, bytes, int]] = {}
        self.drop: dict[bytes, int] = {}
        self.long: dict[bytes, tuple[Verdict, int, bytes, int]] = {}
        self.sequences: dict[bytes, tuple[bytes, tuple[Item, ...]]] = {}
        # PS3.5 6.2.2: what a UN holds as a sequence is encoded without VRs
        self.inner = Scanner(judge, vr_of, explicit=False) if explicit else self

    def scan(self, source: Source, start: int) -> Scan:
        """Walk the data set that begins at byte ``start`` of the source.

        Raises
        ------
        Quarantined
            TRUNCATED, MALFORMED or TOO_LARGE, with the tag where the walk had to stop.
        """
        scan = self._scan(source, start)
        if self.stretches is not None:
            self.stretches.consider(source.head, scan)
        return scan

    def _scan(self, source: Source, start: int) -> Scan:
        elements: list[Noted] = []
        kept: list[int] = []
        base, data, position, size = 0, source.head, start, source.size
        while base + position < size:
            walk = _Walk(source, data, base)
            grown = _WINDOW
            try:
                position = walk.elements(self, position, len(data), elements, kept)
            except _ShortError:
                position = walk.top
                grown = max(_WINDOW, 2 * (len(data) - position))
                if base + len(data) >= size:
                    return _ending(source, base + position, elements, kept, Reason.TRUNCATED, walk.tag)
                if grown > _MAX_PART:
                    raise Quarantined(Reason.TOO_LARGE, f"sequence {tag_name(walk.tag)}") from None
            except Quarantined as broken:
                if broken.reason is Reason.TOO_LARGE:
                    raise
                return _ending(source, base + walk.top, elements, kept, broken.reason, walk.tag)
            base += position
            if base > size:
                # the last element reaches beyond the end, so it is none
                last = max(kept[-1:] + [one.start for one in elements[-1:]])
                (kept if kept[-1:] == [last] else elements).pop()
                return _ending(source, last, elements, kept, Reason.TRUNCATED, walk.tag)
            position, data = 0, source.window(base, grown)
            if len(data) < min(grown, size - base):
                raise Quarantined(Reason.CHANGED)
        return Scan(elements, kept, size)

    def remember(self, head: bytes, verdict: Verdict, tag: int, vr: bytes, step: int) -> None:
        """Let the next element with this header be known at a glance."""
        if len(head) == 12:
            _bounded(self.long)[head] = verdict, tag, vr, step
        elif verdict is Verdict.KEEP:
            _bounded(self.keep)[head] = step
        elif verdict is Verdict.NOTE:
            _bounded(self.note)[head] = tag, vr, step
        else:
            _bounded(self.drop)[head] = step


_Memo = TypeVar("_Memo", bound="dict[bytes, Any]")


def _bounded(memo: _Memo) -> _Memo:
    """Keep what is remembered from growing without end; anything can be read again."""
    if len(memo) > _MEMO:
        memo.clear()
    return memo


def _ending(source: Source, position: int, elements: list[Noted], kept: list[int], reason: Reason, tag: int) -> Scan:
    """Decide what bytes that are no element mean: the data set has ended before them, or it is broken.

    Nothing that a reader could use follows the pixels, and padding is not data; both end the data set.
    """
    last = next((e for e in reversed(elements) if isinstance(e, Element)), None)
    if last is not None and last.tag in PIXEL_TAGS and last.end <= position:
        return Scan(elements, kept, position)
    rest = source.window(position, _WINDOW)
    if position + len(rest) == source.size and len(set(rest)) == 1 and rest[0] in (0, 0x20, 0xFF):
        return Scan(elements, kept, position)
    raise Quarantined(reason, f"at {tag_name(tag)}")


class _Walk:
    """The walk through one window of an object: ``data``, which lies at byte ``base`` of the source."""

    __slots__ = ("base", "data", "source", "tag", "top")

    def __init__(self, source: Source, data: bytes, base: int) -> None:
        self.source, self.data, self.base = source, data, base
        self.top = self.tag = 0

    def elements(
        self,
        scanner: Scanner,
        at: int,
        end: int,
        noted: list[Any],
        kept: list[int] | None,
        depth: int = 0,
        *,
        delimited: bool = False,
    ) -> int:
        """Walk elements up to ``end`` or the item's delimiter; return where that is.

        At the top level (``kept`` is a list) a value may reach beyond the window: the walk goes on there.
        """
        data, explicit = self.data, scanner.explicit
        base = self.base if kept is not None else -self.top
        keep, note, drop = scanner.keep.get, scanner.note.get, scanner.drop.get
        familiar = scanner.stretches.known.get if kept is not None and scanner.stretches is not None else None
        note_it = noted.append
        keep_it = (kept if kept is not None else []).append
        while at < end:
            if familiar and (alternatives := familiar(data[at : at + KEY])):
                stretch = next((one for one in alternatives if data.startswith(one.raw, at)), None)
                if stretch is not None:
                    start = base + at
                    at += len(stretch.raw)
                    note_it(_new(Run, (start, base + at, stretch)))
                    continue
            head = data[at : at + 8]
            if (step := keep(head)) is not None:
                keep_it(base + at)
                at += step
            elif (known := note(head)) is not None:
                tag, vr, step = known
                start = base + at
                note_it(_new(Element, (tag, vr, start, start + 8, start + step, explicit, True, None)))
                at += step
            elif (step := drop(head)) is not None:
                count, start = 0, at
                while step is not None:
                    count += 1
                    at += step
                    step = drop(data[at : at + 8]) if at < end else None
                note_it(Dropped(base + start, base + at, count))
            else:
                if delimited and head == b"\xfe\xff\x0d\xe0\0\0\0\0":
                    return at
                if kept is not None:
                    self.top = at
                    if end - at < 12 and base + end < self.source.size:
                        return at
                start = at
                at, element = self.element(scanner, at, end, depth, top=kept is not None)
                if element is not None:
                    note_it(element)
                else:
                    keep_it(base + start)
        if delimited or (at > end and kept is None):
            raise self._beyond(end)
        return at

    def element(
        self, scanner: Scanner, at: int, end: int, depth: int, *, top: bool
    ) -> tuple[int, Element | Dropped | None]:
        """Read the element at ``at``: where the next one begins, and the element if it is noted."""
        data, explicit = self.data, scanner.explicit
        base = self.base if top else -self.top
        if (seen := scanner.long.get(data[at : at + 12])) is not None:
            verdict, tag, vr, step = seen
            self.tag, stop = tag, at + step
            if stop > end and not top:
                raise self._beyond(end)
            if verdict is Verdict.KEEP:
                return stop, None
            if verdict is Verdict.DROP:
                return stop, Dropped(base + at, base + stop, 1)
            return stop, _new(Element, (tag, vr, base + at, base + at + 12, base + stop, True, True, None))
        if end - at < 8:
            raise self._beyond(end)
        value = at + 8
        if explicit:
            group, number, vr, length = _EXPLICIT(data, at)
            self.tag = tag = group << 16 | number
            if vr in LONG_VRS:
                if end - at < 12:
                    raise self._beyond(end)
                (length,) = _LENGTH(data, value)
                value += 4
            elif vr not in SHORT_VRS:
                raise Quarantined(Reason.MALFORMED, f"no VR at {tag_name(tag)}")
        else:
            group, number, length = _IMPLICIT(data, at)
            self.tag = tag = group << 16 | number
            vr = scanner.vr_of(tag)
        if group == 0xFFFE:
            raise Quarantined(Reason.MALFORMED, f"a delimiter without its sequence: {tag_name(tag)}")
        verdict = scanner.judge(tag, vr)
        items: tuple[Item, ...] | None = None
        holds_items = vr == b"SQ" or (vr == b"UN" and (length == _UNDEFINED or scanner.vr_of(tag) == b"SQ"))
        if not holds_items and length != _UNDEFINED:
            stop = value + length
            if not top and stop > end:
                raise self._beyond(end)
            scanner.remember(data[at:value], verdict, tag, vr, stop - at)
        elif not holds_items:
            stop = self._fragments(value, self.source.size - base if top else end)
        elif verdict is Verdict.DROP and length != _UNDEFINED:
            stop = value + length
            scanner.remember(data[at:value], verdict, tag, vr, stop - at)
        else:
            inner = scanner if vr == b"SQ" else scanner.inner
            alike = scanner.sequences.get(data[at:value]) if top else None
            if alike and data.startswith(alike[0], at):
                # an encoded sequence ends itself, so the same bytes are the same sequence
                stop, items = at + len(alike[0]), alike[1]
            else:
                stop, items = self._items(inner, value, length, end, depth)
                if top and stop - at <= _WINDOW:
                    _bounded(scanner.sequences)[data[at:value]] = data[at:stop], items or ()
            if verdict is Verdict.KEEP and items:
                verdict = Verdict.NOTE
        if verdict is Verdict.KEEP:
            return stop, None
        if verdict is Verdict.DROP:
            return stop, Dropped(base + at, base + stop, 1)
        defined = length != _UNDEFINED
        return stop, Element(tag, vr, base + at, base + value, base + stop, explicit, defined, items)

    def _items(self, scanner: Scanner, at: int, length: int, end: int, depth: int) -> tuple[int, tuple[Item, ...]]:
        """Walk the items of a sequence of ``length`` bytes, or up to its delimiter."""
        if depth >= _MAX_DEPTH:
            raise Quarantined(Reason.TOO_LARGE, f"more than {_MAX_DEPTH} sequences within each other")
        data, base, tag = self.data, -self.top, self.tag
        delimited = length == _UNDEFINED
        close = end if delimited else at + length
        if close > end:
            raise self._beyond(end)
        items: list[Item] = []
        while at < close or delimited:
            if close - at < 8:
                raise self._beyond(close)
            group, number, size = _IMPLICIT(data, at)
            mark = group << 16 | number
            if mark == _SEQUENCE_END and delimited and not size:
                return at + 8, tuple(items)
            if mark != _ITEM:
                raise Quarantined(Reason.MALFORMED, f"no item where one must be in {tag_name(tag)}")
            open_ended = size == _UNDEFINED
            content = at + 8
            stop = close if open_ended else content + size
            if stop > close:
                raise self._beyond(close)
            noted: list[Element | Dropped] = []
            stop = self.elements(scanner, content, stop, noted, None, depth + 1, delimited=open_ended)
            if noted:
                items.append(Item(base + at, base + stop, not open_ended, noted))
            at = stop + 8 if open_ended else stop
        return at, tuple(items)

    def _fragments(self, at: int, end: int) -> int:
        """Step over encapsulated pixel data (PS3.5 A.4), which need not lie in the window."""
        fragments = 0
        while True:
            if end - at < 8:
                raise self._beyond(end)
            if at + 8 <= len(self.data):
                group, number, length = _IMPLICIT(self.data, at)
            else:
                group, number, length = _IMPLICIT(self.source.slice(self.base + at, self.base + at + 8))
            at += 8 + int(length)
            # the first item is the offset table
            if (group << 16 | number) == _SEQUENCE_END and not length and fragments > 1:
                return at
            if (group << 16 | number) != _ITEM:
                raise Quarantined(Reason.MALFORMED, f"no fragment where one must be in {tag_name(self.tag)}")
            fragments += 1

    def _beyond(self, end: int) -> Exception:
        """Say what it means that something reaches beyond ``end``: a window too small, or a lie."""
        if end >= len(self.data):
            return _ShortError()
        return Quarantined(Reason.MALFORMED, f"a length beyond its item, near {tag_name(self.tag)}")

"""Learn what the objects of a series have in common, so that it is walked only once.

Neighbouring elements that two objects have alike, byte for byte, become one stretch. A walk that meets the same bytes
again takes the stretch as a whole: an encoded element ends itself, so the same bytes are the same elements.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from .elements import Dropped, Element, Noted, Run, Scan, Stretch, tag_at

__all__ = ["KEY", "Stretches"]

KEY: Final = 24
"""Bytes of a stretch by which it is looked up: the header and value of its first element, mostly."""
_WORTH: Final = 32
"""Elements and runs met in an object that make it worth learning from it."""
_KEYS: Final = 256
_ALTERNATIVES: Final = 4


class Stretches:
    """The stretches known so far.

    Parameters
    ----------
    breaks : sequence of int
        Tags that no stretch may reach across; what follows the last one is never in any.

    Attributes
    ----------
    known : dict
        First bytes -> stretches that begin with them, the latest first.
    """

    def __init__(self, breaks: Sequence[int]) -> None:
        self.known: dict[bytes, tuple[Stretch, ...]] = {}
        self._breaks, self._last = breaks, frozenset[bytes]()
        self._worth, self._in_vain = _WORTH, 0

    def consider(self, head: bytes, scan: Scan) -> None:
        """Learn from an object if that promises anything; ``head`` are its first bytes."""
        met = len(scan.elements) + len(scan.kept)
        if met <= self._worth:
            return
        self._in_vain = 0 if self._learn(head, scan) > met // 6 else self._in_vain + 1
        self._worth = _WORTH
        if self._in_vain == 2:
            # the first object of a series teaches nothing yet; after that, only a less familiar one could
            self._worth, self._in_vain = met, 0

    def _learn(self, head: bytes, scan: Scan) -> int:
        """Join what the object before had too; return how many fewer elements and runs there would have been."""
        spans: list[tuple[int, Noted | None]] = [(start, None) for start in scan.kept]
        spans += [(noted.start, noted) for noted in scan.elements]
        spans.sort(key=itemgetter(0))
        ends = [start for start, _ in spans[1:]] + [scan.end]
        seen: list[bytes] = []
        stable: list[tuple[int, int, Noted | None]] = []
        zone = fewer = 0
        for (start, noted), end in zip(spans, ends, strict=True):
            if end > len(head):
                break
            raw = head[start:end]
            here = bisect_right(self._breaks, tag_at(raw))
            seen.append(raw)
            known = raw in self._last and here < len(self._breaks)
            if here != zone or not known:
                fewer += self._join(head, stable)
                stable, zone = [], here
            if known:
                stable.append((start, end, noted))
        self._last = frozenset(seen)
        return fewer + self._join(head, stable)

    def _join(self, head: bytes, spans: list[tuple[int, int, Noted | None]]) -> int:
        """Remember neighbouring spans as one stretch; return how many fewer that makes."""
        if len(spans) < 2:
            return 0
        away, end = spans[0][0], spans[-1][1]
        inside: list[Element | Dropped] = []
        for start, _, noted in spans:
            if isinstance(noted, Run):
                inside += [_moved(one, away - start) for one in noted.stretch.elements]
            elif noted is not None:
                inside.append(_moved(noted, away))
        raw = head[away:end]
        if len(self.known) > _KEYS:
            self.known.clear()
        others = [other for other in self.known.get(raw[:KEY], ()) if other.raw != raw]
        self.known[raw[:KEY]] = (Stretch(raw, inside), *others[: _ALTERNATIVES - 1])
        return len(spans) - 1


def _moved(noted: Element | Dropped, away: int) -> Element | Dropped:
    """Return it with offsets from another byte, ``away`` behind the one they are from."""
    if isinstance(noted, Dropped):
        return noted._replace(start=noted.start - away, end=noted.end - away)
    return noted._replace(start=noted.start - away, value=noted.value - away, end=noted.end - away)

"""What an output is put together from: bytes, ranges of the source, and streams that are made while it is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .source import Source

__all__ = ["Chunk", "Envelope", "Later", "Piece", "Range", "Stream", "flattened", "joined"]


class Range(NamedTuple):
    """Bytes ``start`` to ``end`` of the source, to be copied as they are."""

    start: int
    end: int


class Later(NamedTuple):
    """``length`` bytes that are known once all that follows them has been written, as an offset table is."""

    length: int
    value: Callable[[], bytes]


class Envelope(bytes):
    """Bytes that are encrypted anew whenever they are made: of two, none can tell whether they hold the same."""


Chunk = bytes | memoryview | Range | Later
"""A memoryview holds until the next chunk is asked for."""


class Stream(ABC):
    """A part of the output too large to be held in memory."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """Make it, from the start each time.

        Raises
        ------
        Quarantined
            If it cannot be made; what was made so far must not be released then.
        """


Piece = bytes | Range | Stream


def flattened(pieces: Iterable[Piece]) -> Iterator[Chunk]:
    """Yield the chunks of all pieces."""
    for piece in pieces:
        if isinstance(piece, Stream):
            yield from piece.chunks()
        else:
            yield piece


def joined(source: Source, pieces: Iterable[Piece]) -> bytes:
    """Return the whole output."""
    parts: list[bytes] = []
    later: list[tuple[int, Later]] = []
    for chunk in flattened(pieces):
        if isinstance(chunk, Range):
            parts.append(source.slice(chunk.start, chunk.end))
        elif isinstance(chunk, Later):
            later.append((len(parts), chunk))
            parts.append(b"")
        else:
            parts.append(bytes(chunk))
    for place, one in later:
        parts[place] = one.value()
    return b"".join(parts)

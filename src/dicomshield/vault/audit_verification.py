"""Read and verify an audit log as an auditor does: from the file, its first key, and checkpoints kept elsewhere."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, BinaryIO, Final, NamedTuple

from ..errors import PolicyError, VaultError
from .audit_lines import (
    COUNT,
    EVENTS,
    LONGEST,
    RECOVER,
    ZERO,
    Tree,
    Value,
    has_form,
    mac_of,
    next_key,
    opened,
    problem_of,
    split,
    unusable,
)
from .audit_notes import Verifier

__all__ = ["Entry", "Problem", "Verdict", "Wrong", "entries", "verify"]

_NUMBER: Final = re.compile(rb'[{,]"n":(0|[1-9][0-9]{0,14})[,}]')
_EVENT: Final = re.compile(rb'[{,]"event":"([a-z]+)"[,}]')
_TIME: Final = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\.[0-9]{6}Z")


class Wrong(Enum):
    """What verification finds."""

    EDITED = "the line is not what was written"
    DELETED = "lines are missing here"
    SWAPPED = "the line stood elsewhere"
    INSERTED = "the line was added afterwards"
    TORN = "the end is half a line, as a killed process leaves it; the next line written reports it"
    TRUNCATED = "the log is shorter than a checkpoint says"
    ROLLED_BACK = "the lines up to here are not those a checkpoint was signed for: set back or rewritten"
    CHECKPOINT = "a checkpoint is not one of this log, or its signature is wrong"


class Problem(NamedTuple):
    """Something wrong with a log.

    Attributes
    ----------
    wrong : Wrong
    line : int
        Line of the file, from 1; 0 for what concerns a checkpoint alone.
    number : int
        How many lines (bytes of a torn end), or the place of a checkpoint in the list given, from 1.
    """

    wrong: Wrong
    line: int
    number: int = 1

    def __str__(self) -> str:
        return f"line {self.line}: {self.wrong.value} ({self.number})"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes
    ----------
    lines : int
        Whole lines in the log.
    events : dict of str to int
        How many of each event.
    proven : int
        Lines whose MAC is right; 0 without the first key.
    covered : int
        Lines under the largest checkpoint that fits.
    root : str
        Root of the Merkle tree over all lines, in base64.
    problems : tuple of Problem
        The first 100, by line. MACs are followed no further than through 10,000 lines that do not fit.
    """

    lines: int
    events: dict[str, int]
    proven: int
    covered: int
    root: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    log_path: str | os.PathLike[str],
    first_key: bytes | None,
    checkpoints: Iterable[str] = (),
    public_key: str | None = None,
) -> Verdict:
    """Verify a log as an auditor does, from the file alone.

    Parameters
    ----------
    log_path : path-like
        The log or a copy of it.
    first_key : bytes or None
        K_0. Without it only the order of the numbers and the checkpoints are verified: an edit after the last
        checkpoint is not seen.
    checkpoints : iterable of str
        Those kept elsewhere. Without any, a log that was set back as a whole is not noticed.
    public_key : str, optional
        `AuditLog.public_key`, kept elsewhere; needed for checkpoints.

    Raises
    ------
    VaultError
        If the log cannot be read or a key is none.
    """
    notes = list(checkpoints)
    if notes and public_key is None:
        raise PolicyError("checkpoints are verified with the public key of the log; give it too")
    if first_key is not None and len(first_key) != 32:
        raise VaultError("the first key of an audit log has 32 bytes")
    claims, problems = _claims(notes, Verifier.parse(public_key) if public_key is not None else None)
    walk, marks, tree, events = _Walk(first_key), _Marks(claims), Tree(), Counter[str]()
    with reading(log_path) as file:
        marks.reached(tree)
        for line in iter(lambda: file.readline(LONGEST), b""):
            if not line.endswith(b"\n"):
                more, ended = _skipped(file)
                if not ended:
                    problems.append(Problem(Wrong.TORN, tree.size + 1, len(line) + more))
                    break
            walk.feed(line)
            tree.push(line[:-1])
            marks.reached(tree)
            match = _EVENT.search(line)
            if match and (name := match[1].decode()) in (*EVENTS, RECOVER):
                events[name] += 1
    problems += walk.problems() + marks.problems(tree.size)
    return Verdict(
        tree.size,
        dict(events),
        walk.proven if first_key is not None else 0,
        marks.covered,
        b64encode(tree.root()).decode(),
        tuple(sorted(problems, key=lambda one: one.line)[:100]),
    )


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        with opened(os.fspath(path), os.O_RDONLY) as fd, open(fd, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise unusable(error) from None


def _skipped(file: BinaryIO) -> tuple[int, bool]:
    """Read on to the end of a line that is longer than any; return the bytes, and whether it ends."""
    read = 0
    while piece := file.readline(LONGEST):
        read += len(piece)
        if piece.endswith(b"\n"):
            return read, True
    return read, False


def _claims(notes: list[str], verifier: Verifier | None) -> tuple[dict[int, list[tuple[int, bytes]]], list[Problem]]:
    """Return ``{size: [(place, root)]}`` of the checkpoints that are genuine, and those that are not."""
    claims: dict[int, list[tuple[int, bytes]]] = {}
    problems = []
    for place, note in enumerate(notes, 1):
        try:
            assert verifier is not None  # noqa: S101 - the caller has seen to it
            size, root = verifier.opened(note)
            claims.setdefault(size, []).append((place, root))
        except VaultError:
            problems.append(Problem(Wrong.CHECKPOINT, 0, place))
    return claims, problems


class _Marks:
    """Compares the tree with checkpoints on the way."""

    def __init__(self, claims: dict[int, list[tuple[int, bytes]]]) -> None:
        self._claims, self.covered = claims, 0
        self._found: list[Problem] = []

    def reached(self, tree: Tree) -> None:
        for place, root in self._claims.get(tree.size, ()):
            if root == tree.root():
                self.covered = tree.size
            else:
                self._found.append(Problem(Wrong.ROLLED_BACK, tree.size, place))

    def problems(self, size: int) -> list[Problem]:
        beyond = [place for claimed, these in self._claims.items() if claimed > size for place, _ in these]
        return self._found + [Problem(Wrong.TRUNCATED, size + 1, place) for place in beyond]


class _Place(NamedTuple):
    """What the line with a number must fit."""

    number: int
    mac: bytes
    key: bytes | None

    def proves(self, number: int | None, body: bytes, mac: bytes | None) -> bool:
        if number != self.number or mac is None:
            return False
        return self.key is None or hmac.compare_digest(mac_of(self.key, self.mac, body), mac)

    def after(self, number: int, mac: bytes) -> _Place:
        """Return the place behind a line that claims ``number``, not before this place."""
        key = self.key
        if key is not None:
            for _ in range(number + 1 - self.number):
                key = next_key(key)
        return _Place(number + 1, mac, key)


class _Loose(NamedTuple):
    """A line that does not fit: where it stands, its number, whether its MAC was put to the test there."""

    line: int
    number: int | None
    tested: bool


class _Walk:
    """Follows the numbers and MACs of a log, and finds its way again behind what was changed.

    ``here`` is behind the last line that is proven. A line that does not fit there may have been changed, or may stand
    behind deleted ones; ``there`` is the place behind it if its number and MAC are believed. What comes next
    fits one or the other.
    """

    _FAR: Final = 1 << 20
    """How many keys are tried in all for numbers that were skipped."""
    _MANY: Final = 10_000

    def __init__(self, first_key: bytes | None) -> None:
        self._here = _Place(0, ZERO, first_key)
        self._there: _Place | None = None
        self._loose: list[_Loose] = []
        self._stretches: list[tuple[range, list[_Loose]]] = []
        self._line = self.proven = self._count = 0
        self._left = self._FAR

    def feed(self, raw: bytes) -> None:
        self._line += 1
        if self._count > self._MANY:
            return
        match = _NUMBER.search(raw)
        number = int(match[1]) if match else None
        body, mac = split(raw)
        if self._here.proves(number, body, mac):
            self._go_on(self._here, mac)
        elif self._there is not None and self._there.proves(number, body, mac):
            self._go_on(self._there, mac)
        else:
            self._set_aside(number, mac)

    def _go_on(self, place: _Place, mac: bytes | None) -> None:
        assert mac is not None  # noqa: S101 - it was just proven
        self.proven += 1
        if self._loose or place is not self._here:
            self._stretches.append((range(self._here.number, place.number), self._loose))
            self._loose = []
        self._here = place.after(place.number, mac)
        if self._there is not None and self._there.number <= self._here.number:
            self._there = None

    def _set_aside(self, number: int | None, mac: bytes | None) -> None:
        expected = {place.number for place in (self._here, self._there) if place is not None}
        self._count += 1
        self._loose.append(_Loose(self._line, number, number in expected))
        if number is None or mac is None or number < self._here.number:
            return
        near = self._there if self._there is not None and self._there.number <= number + 1 else self._here
        steps = number + 1 - near.number
        if steps > self._left:
            self._there = None
            return
        self._left -= steps
        self._there = near.after(number, mac)

    def problems(self) -> list[Problem]:
        """Say what became of each line that does not fit, and of each number that is missing."""
        stop = self._there.number if self._there is not None else self._here.number
        stretches = [*self._stretches, (range(self._here.number, stop), self._loose)]
        claimed = {one.number for _, loose in stretches for one in loose}
        missing = {number for numbers, _ in stretches for number in numbers}
        return [problem for numbers, loose in stretches for problem in _judged(numbers, loose, claimed, missing)]


def _judged(numbers: range, loose: list[_Loose], claimed: set[int | None], missing: set[int]) -> Iterator[Problem]:
    """Judge a stretch between two proven lines: the numbers that should be there, and the lines that are."""
    gone = sum(number not in claimed for number in numbers)
    for one in loose:
        if one.number in numbers:
            if one.tested:
                yield Problem(Wrong.EDITED, one.line)
        elif one.number in missing:
            yield Problem(Wrong.SWAPPED, one.line)
        elif gone:
            gone -= 1
            yield Problem(Wrong.EDITED, one.line)
        else:
            yield Problem(Wrong.INSERTED, one.line)
    if gone:
        line = loose[0].line if loose else 0
        yield Problem(Wrong.DELETED, line, gone)


# Reading


class Entry(NamedTuple):
    """One line of a log.

    Attributes
    ----------
    number : int
        From 0.
    time : str
        UTC, RFC 3339.
    event : str
        As given to `AuditLog.append`, or ``recover``: bytes after the last good line were cut off.
    fields : dict
    """

    number: int
    time: str
    event: str
    fields: dict[str, Value]


def entries(log_path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Read a log without verifying it; half a line at the end is left out.

    Raises
    ------
    VaultError
        If a line holds anything that no log holds.
    """
    with reading(log_path) as file:
        for at, line in enumerate(iter(lambda: file.readline(LONGEST), b"")):
            if not line.endswith(b"\n"):
                if len(line) == LONGEST:
                    raise VaultError(f"audit log, line {at + 1}: it is longer than any")
                return
            yield _entry(line, at + 1)


def _entry(line: bytes, at: int) -> Entry:
    try:
        fields: Any = json.loads(line.rpartition(b"\t")[0])
        number, time, event = (fields.pop(name) for name in ("n", "t", "event"))
        sound = (
            has_form(COUNT, number)
            and isinstance(time, str)
            and _TIME.fullmatch(time)
            and event in (*EVENTS, RECOVER)
            and not problem_of(event, fields)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = None
    if not sound:
        raise VaultError(f"audit log, line {at}: no line of a log looks like this")
    return Entry(number, time, event, fields)

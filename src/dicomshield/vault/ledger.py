"""Write into the audit log what became of objects."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

from ..encoding.pieces import Stream
from ..errors import Quarantined, Reason, VaultError
from ..evidence.report import Report
from .audit import AuditLog
from .audit_lines import FORMS, Value, has_form
from .audit_verification import entries
from .container import read_header

__all__ = ["Beforehand", "Ledger", "Mark", "access", "mark_of"]

_BATCH: Final = 64
_SALT_AND_COMMITMENT: Final = 56


class Mark(NamedTuple):
    """What tells a sealed object from every other one, also from another sealing of the same content.

    Attributes
    ----------
    kid : str
        Name of its data key, in hexadecimal.
    sha256 : str
        Of its first 82 bytes and its label: of all that stands before the encrypted bytes. Salt and commitment
        to the key are among them, so nobody who does not have the data key can put other bytes behind them.
    """

    kid: str
    sha256: str


def mark_of(path: str | os.PathLike[str]) -> Mark:
    """Read the mark of a sealed object.

    Raises
    ------
    VaultError
        If it is none, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            header = read_header(file)
            file.seek(0)
            beginning = file.read(len(header.encoded()) + _SALT_AND_COMMITMENT)
    except OSError as error:
        raise VaultError(f"a sealed object cannot be read: {error.strerror}") from None
    return Mark(header.kid.hex(), sha256(beginning).hexdigest())


class Ledger:
    """The lines of a run that releases or seals objects, in the audit log.

    A line is written once an object has its name. A process killed in between leaves an object without a line; the
    next run over the same input finds the object unchanged, looks for its line in the log, and writes it if there is
    none. So each object that a run has told of has a line. Of sealed objects each has one line; of plain ones, the line
    says that the object was released, not to how many folders.

    A sealed object that an earlier run left cannot be compared with what would be written now. If its line says that
    another profile made it, it is held back: whether it is what this profile would release is not known.

    Parameters
    ----------
    log : AuditLog
    folder : path-like
        Where the objects are.
    event : {"release", "seal"}
    sealed : bool
        Whether they are sealed.
    profile : str
        Digest of the profile, 64 digits.
    """

    def __init__(
        self,
        log: AuditLog,
        folder: str | os.PathLike[str],
        event: Literal["release", "seal"],
        *,
        sealed: bool,
        profile: str = "",
    ) -> None:
        self._log, self._folder, self._event = log, os.fspath(folder), event
        self._sealed, self._profile = sealed, profile
        self._written: dict[int, str] | None = None

    def note(self, done: Iterable[tuple[Report, Sequence[str]]]) -> None:
        """Write the lines of some objects, all together; a report may become that of a quarantine.

        Parameters
        ----------
        done : iterable of (Report, sequence of str)
            With the blind indexes of the rows that the crosswalk has of it.

        Raises
        ------
        VaultError
            If the log cannot be written.
        """
        lines = [line for report, indexes in done if (line := self._line(report, indexes))]
        for at in range(0, len(lines), _BATCH):
            self._log.append_many(lines[at : at + _BATCH])

    def close(self) -> None:
        """Close the log."""
        self._log.close()

    def _line(self, report: Report, indexes: Sequence[str]) -> tuple[str, dict[str, Value]] | None:
        mark = mark_of(f"{self._folder}/{report.name}") if self._sealed and report.name else None
        if report.outcome == "unchanged":
            profile = self._profile_of(report.instance, mark.sha256 if mark else "")
            if mark and profile not in (None, self._profile):
                report.held_back(Quarantined(Reason.COLLISION, "it was sealed before under another policy"))
            elif profile is not None:
                return None
        fields: dict[str, Any] = {"number": report.number, "profile": self._profile, "sop_class": report.sop_class}
        if report.outcome == "quarantined":
            return "quarantine", _fitting(fields | {"reason": report.reason})
        fields |= {"patient": report.patient, "study": report.study, "series": report.series}
        fields |= {"instance": report.instance, "bidx": list(indexes)}
        return self._event, _fitting(fields | (mark._asdict() if mark else {}))

    def _profile_of(self, instance: str, digest: str) -> str | None:
        """Return the profile in the line of an object, ``None`` if it has no line."""
        if self._written is None:
            self._written = {}
            for _, _, event, fields in entries(f"{self._log.folder}/audit.log"):
                if event == self._event:
                    # an integer and a shared string for each line: logs are long
                    object_ = hash((fields.get("instance", ""), fields.get("sha256", "")))
                    self._written[object_] = sys.intern(str(fields.get("profile", "")))
        return self._written.get(hash((instance, digest)))


def access(log: AuditLog, event: Literal["unseal", "reidentify"], identity: Sequence[str], **fields: Value) -> None:
    """Write that somebody opens an object, as far as the log knows people: by the names of the keys they gave."""
    log.append(event, **_fitting({"identity": list(identity), **fields}))


class Beforehand(Stream):
    """Nothing to write, but something to do before a file gets its name."""

    def __init__(self, what: Callable[[], None]) -> None:
        self._what = what

    def chunks(self) -> Iterator[bytes]:
        """Do it."""
        self._what()
        yield from ()


def _fitting(fields: dict[str, Any]) -> dict[str, Value]:
    """Leave out what has not the form that a line wants, as UIDs that an option let stay may not."""
    return {name: value for name, value in fields.items() if value != [] and has_form(FORMS[name], value)}

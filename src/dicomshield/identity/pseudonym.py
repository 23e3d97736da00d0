"""Keyed pseudonyms: the same secret gives the same answer in every process, on every machine, in any order.

Each purpose has its own key, derived by HKDF-Expand (RFC 5869 2.3) from the project secret; each answer is
an HMAC-SHA-256 (FIPS 198-1) under that key. Without the secret none can be recomputed by trying
all record numbers, which is how plain hashes of them are undone (PS3.15 E.1.1).
"""

from __future__ import annotations

import csv
import hmac
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

from ..errors import PolicyError, Quarantined, Reason
from ..standard import tables
from .dates import shifted

__all__ = ["Patient", "PatientList", "Pseudonymizer"]

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter that can be read as a digit."""
_CACHE: Final = 1 << 16


@dataclass(frozen=True)
class PatientList:
    """A curated mapping ``(id_old, issuer) -> id_new``; an empty issuer in the file matches any."""

    new: dict[tuple[str, str], str]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PatientList:
        """Read a CSV file with the header ``id_old,issuer,id_new``.

        Raises
        ------
        PolicyError
            With the line number; the message repeats no value.
        """
        new: dict[tuple[str, str], str] = {}
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                rows = csv.DictReader(file)
                if rows.fieldnames != ["id_old", "issuer", "id_new"]:
                    raise PolicyError("the patient list must begin with the line id_old,issuer,id_new")
                for row in rows:
                    old, issuer, pseudonym = ((row[key] or "").strip() for key in ("id_old", "issuer", "id_new"))
                    problem = _problem(old, pseudonym, (old, issuer) in new)
                    if problem or None in row:
                        raise PolicyError(f"patient list, line {rows.line_num}: {problem or 'too many fields'}")
                    new[old, issuer] = pseudonym
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            what = error.strerror if isinstance(error, OSError) else "it is not CSV in UTF-8"
            raise PolicyError(f"the patient list cannot be read: {what}") from None
        return cls(new)

    def get(self, patient_id: str, issuer: str) -> str | None:
        """Return the pseudonym for a patient, or ``None``."""
        return self.new.get((patient_id, issuer)) or self.new.get((patient_id, ""))


def _problem(old: str, pseudonym: str, again: bool) -> str:
    if not old or not pseudonym:
        return "id_old and id_new must not be empty"
    if again:
        return "this patient has a line already"
    if old == pseudonym:
        return "id_new is the original identifier"
    if len(pseudonym) > 64 or not pseudonym.isascii() or not pseudonym.isprintable() or "\\" in pseudonym:
        return "id_new must be printable ASCII, at most 64 characters, without backslash"
    return ""


@dataclass(frozen=True)
class Patient:
    """One patient as the receiver knows them: a pseudonym, and a shift in days that is theirs alone."""

    pseudonym: str
    days: int


class Pseudonymizer:
    """Answers under one project secret.

    Parameters
    ----------
    secret : bytes
        32 bytes.
    date_range : (int, int)
        Smallest and largest shift, in days.
    patients : PatientList, optional
    only_listed : bool
        Hold back objects of patients the list does not name.
    """

    def __init__(
        self,
        secret: bytes,
        date_range: tuple[int, int],
        patients: PatientList | None = None,
        *,
        only_listed: bool = False,
    ) -> None:
        self._secret, self._date_range = secret, date_range
        self._patients, self._only_listed = patients, only_listed
        self._keys: dict[str, bytes] = {}
        self._known: dict[tuple[str, str, str], Patient] = {}
        self._uids: dict[bytes, bytes] = {}
        self._dates: dict[tuple[bytes, bytes, int], bytes | None] = {}
        self.recording = False
        self._record: tuple[dict[str, str], dict[str, str]] = {}, {}

    def take_record(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the Patient IDs and UIDs replaced since the last call, original -> new, while `recording`."""
        record, self._record = self._record, ({}, {})
        return record

    def patient(self, patient_id: str, issuer: str, study_uid: str) -> Patient:
        """Return pseudonym and shift of a patient.

        An object without a Patient ID belongs to nobody else's: its study stands for the patient.
        The shift follows the pseudonym, so two identifiers that a list maps to one patient share it.

        Raises
        ------
        Quarantined
            PATIENT, if only listed patients are accepted and this one is not.
        """
        patient_id, issuer = patient_id.strip(" \0"), issuer.strip(" \0")
        key = (patient_id, issuer, "" if patient_id else study_uid)
        known = self._known.get(key)
        if known is None:
            pseudonym = self._patients.get(patient_id, issuer) if self._patients else None
            if pseudonym is None and self._only_listed:
                raise Quarantined(Reason.PATIENT)
            if pseudonym is None:
                number = int.from_bytes(self._tag("patient", *key)[:10], "big")
                pseudonym = "P" + "".join(_ALPHABET[number >> shift & 31] for shift in range(75, -5, -5))
            known = Patient(pseudonym, self._days("date", pseudonym))
            if self.recording:
                self._record[0][patient_id] = pseudonym
            _bounded(self._known)[key] = known
        return known

    @property
    def unambiguous(self) -> bool:
        """Whether no list gives one pseudonym to two patients."""
        listed = self._patients.new.values() if self._patients else ()
        return len(set(listed)) == len(listed)

    def issuer_of(self, patient_id: str, issuer: str) -> str:
        """Return the issuer that the pseudonym depends on: none if a list names the patient for any."""
        named = self._patients is not None and (patient_id.strip(" \0"), issuer.strip(" \0")) in self._patients.new
        listed = self._patients is not None and self._patients.get(patient_id.strip(" \0"), "") is not None
        return issuer if named or not listed else ""

    @cached_property
    def device_days(self) -> int:
        """The shift of dates that belong to devices: one for the whole project, no patient's."""
        return self._days("device-date")

    def uid(self, raw: bytes) -> bytes:
        """Return the replacement of one or more UIDs (PS3.5 B.2), without padding.

        UIDs that PS3.6 registers, such as well-known frames of reference, stand for nobody and stay.
        """
        new = self._uids.get(raw)
        if new is None:
            new = b"\\".join(map(self._one_uid, raw.split(b"\\")))
            _bounded(self._uids)[raw] = new
        return new

    def shifted(self, vr: bytes, value: bytes, days: int) -> bytes | None:
        """Shift dates as `dates.shifted` does; a series repeats the same few."""
        key = (vr, value, days)
        if key not in self._dates:
            _bounded(self._dates)[key] = shifted(vr, value, days)
        return self._dates[key]

    def _one_uid(self, raw: bytes) -> bytes:
        text = raw.strip(b" \0").decode("latin-1")
        if not text or text in tables.registered_uids():
            return text.encode("latin-1")
        number = int.from_bytes(self._tag("uid", text)[:16], "big")
        # RFC 9562 version 8: the bits of a UUID that say "made by somebody's own rule"
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(3 << 62) | 2 << 62
        if self.recording:
            self._record[1][text] = f"2.25.{number}"
        return b"2.25.%d" % number

    def _days(self, purpose: str, *parts: str) -> int:
        low, high = self._date_range
        days = low + int.from_bytes(self._tag(purpose, *parts)[:8], "big") % (high - low + 1)
        # a shift of nothing would release the date itself
        return days or (1 if high > 0 else -1)

    def _tag(self, purpose: str, *parts: str) -> bytes:
        key = self._keys.get(purpose)
        if key is None:
            info = b"dicomshield/1/" + purpose.encode()
            key = self._keys[purpose] = hmac.digest(self._secret, info + b"\1", "sha256")
        data = [part.encode("utf-8", "surrogateescape") for part in parts]
        return hmac.digest(key, b"".join(len(part).to_bytes(4, "big") + part for part in data), "sha256")


_Cache = TypeVar("_Cache", bound="dict[Any, Any]")


def _bounded(cache: _Cache) -> _Cache:
    """Keep a cache of answers from growing without end; any answer can be computed again."""
    if len(cache) > _CACHE:
        cache.clear()
    return cache

"""Seal files as they are: what comes out again is byte for byte what went in."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from ..encoding.elements import tag_name
from ..encoding.pieces import Range
from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason
from ..evidence.report import Report
from ..opened import Header, opened
from ..profile import Profile
from ..storage import Outcome, object_name
from .sealed_storage import SealedStorage

if TYPE_CHECKING:
    from ..identity.pseudonym import Pseudonymizer

__all__ = ["FileSealer"]

_SOP_CLASS, _INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_PATIENT_ID, _ISSUER, _REMOVED = 0x00100020, 0x00100021, 0x00120062
_IS_UID: Final = re.compile(r"[0-9][0-9.]{0,63}")
_IS_PSEUDONYM: Final = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,62}[!-\[\]-~])?")


class FileSealer:
    """Seals DICOM files for their patients, under names that show nobody.

    An object that says that Patient Identity Removed is YES goes by its own Patient ID and UIDs. Any other is an
    original: names, label and patient are then the pseudonyms that `deidentify` gives it in the same project, and only
    the inside is PHI.

    Parameters
    ----------
    storage : SealedStorage
    pseudonymizer : Pseudonymizer, optional
        Needed for originals.
    """

    def __init__(self, storage: SealedStorage, pseudonymizer: Pseudonymizer | None = None) -> None:
        self._storage, self._pseudonymizer, self._profile = storage, pseudonymizer, Profile.basic()

    def seal(self, path: str | os.PathLike[str], report: Report) -> Report:
        """Seal one file to ``patient/study/series/instance.dcms``, and tell in ``report`` what became of it.

        Raises
        ------
        PolicyError
            If it is an original, and there is no pseudonymizer.
        """
        try:
            with Source.open(path) as source:
                _, _, header = opened(source, self._profile.scanner, self._profile.facts | {_REMOVED})
                self._name(header, report)
                name = object_name(report.patient, report.study, report.series, report.instance)
                outcome = self._storage.write(name, source, [Range(0, source.size)], report.patient)
        except Quarantined as cause:
            return report.held_back(cause)
        report.name = self._storage.named(name)
        report.outcome = "released" if outcome is Outcome.NEW else "unchanged"
        return report

    def _name(self, header: Header, report: Report) -> None:
        own = [_required(header, tag) for tag in (_STUDY, _SERIES, _INSTANCE)]
        patient_id, issuer = (_text(header, tag) for tag in (_PATIENT_ID, _ISSUER))
        if _text(header, _REMOVED) == "YES":
            report.patient, new = patient_id or own[0], own
        elif self._pseudonymizer is None:
            raise PolicyError("there are originals among the files, whose names must not show: --project DIR")
        else:
            report.patient = self._pseudonymizer.patient(patient_id, issuer, own[0]).pseudonym
            new = [self._pseudonymizer.uid(uid.encode("latin-1")).decode() for uid in own]
        report.study, report.series, report.instance = new
        if not all(map(_IS_UID.fullmatch, new)) or not _IS_PSEUDONYM.fullmatch(report.patient):
            raise Quarantined(Reason.INCOMPLETE, "its identifiers cannot be names of files")


def _required(header: Header, tag: int) -> str:
    text = _text(header, tag)
    if not text:
        raise Quarantined(Reason.INCOMPLETE, f"{tag_name(tag)} is missing or empty")
    return text


def _text(header: Header, tag: int) -> str:
    return header.get(tag, b"").decode("latin-1").strip(" \0")

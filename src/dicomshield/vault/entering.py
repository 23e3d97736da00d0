"""Enter into the crosswalk who is who, while objects are released: before an object gets its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ..encoding.text import decodings
from ..evidence.report import Report
from .crosswalk import Crosswalk, Row
from .keybox import KeySession
from .keys import DataKey
from .recipients import Recipient
from .vault import Vault

if TYPE_CHECKING:
    from ..identity.project import Project

__all__ = ["ATTRIBUTES", "KEYWORDS", "Entering", "Original"]

_CHARACTER_SET: Final = 0x00080005
_PATIENT: Final = {0x00100010: "PatientName", 0x00100030: "PatientBirthDate", 0x00100020: "PatientID"}
_STUDY: Final = {
    0x00100021: "IssuerOfPatientID",
    0x00080050: "AccessionNumber",
    0x00080020: "StudyDate",
    0x00080030: "StudyTime",
    0x00200010: "StudyID",
}
KEYWORDS: Final = {**_PATIENT, **_STUDY}
"""Tag and keyword of the texts that go into the crosswalk."""
_UIDS: Final = (0x0020000D, 0x0020000E, 0x00080018)
ATTRIBUTES: Final = frozenset({_CHARACTER_SET, *KEYWORDS, *_UIDS})
"""What of a header goes into the crosswalk."""
_BOUND: Final = 1 << 16


class Original(NamedTuple):
    """Whom an object was of, as its header says. PHI.

    Attributes
    ----------
    patient_id, issuer : str
        As the pseudonym was made of them.
    values : mapping
        tag -> value as encoded, of those of `ATTRIBUTES` that were there.
    """

    patient_id: str
    issuer: str
    values: Mapping[int, bytes]

    def __repr__(self) -> str:
        return "Original()"

    def text(self, tag: int) -> str:
        """Return a value in the character set of the object."""
        raw = self.values.get(tag, b"").strip(b" \0")
        return decodings(raw, self.values.get(_CHARACTER_SET, b""))[0]


class Entering:
    """The crosswalk as the main job writes it, with data keys of its own, for recipients of its own.

    Of each object it enters patient, study, series and instance, if they are new. Rows wait for `settle`, which enters
    those of several objects at the price of one. What is there already stays as it is: where two objects of a study
    give a patient two names, the first is kept. The row of a patient has name and birth date; that of a study has
    also its dates and numbers, and the patient as this study calls him.

    A process that is killed after `settle` leaves rows of objects that were not released. They harm nobody, and the
    next run finds them entered.

    Parameters
    ----------
    vault : Vault
    project : Project
    recipients : sequence of Recipient
        Who will be able to open the rows; they need not be those who open the images.
    durable : bool
        Rows survive a power cut once they are entered.

    Raises
    ------
    PolicyError, VaultError, Quarantined
        If the crosswalk cannot be opened or made.
    """

    def __init__(
        self, vault: Vault, project: Project, recipients: Sequence[Recipient], *, durable: bool = True
    ) -> None:
        self._vault, self._project, self._recipients, self._durable = vault, project, tuple(recipients), durable
        self._session: KeySession | None = None
        self._crosswalk: Crosswalk | None = None
        self._known: dict[tuple[str, str, str], str] = {}
        self._waiting: list[Row] = []
        # what is wrong with the vault is said before anything is read
        vault.boxes.writer(recipients).close()
        self._opened().close()

    def __getstate__(self) -> dict[str, object]:
        # the keys of a session never leave their process
        return {**self.__dict__, "_session": None, "_crosswalk": None, "_known": {}, "_waiting": []}

    def begin(self) -> None:
        """Forget rows that were not entered."""
        self._waiting.clear()

    def add(self, original: Original, report: Report) -> tuple[str, ...]:
        """Take the rows of an object; returns the blind indexes of all rows it is found by, in hexadecimal."""
        return tuple(self._index(row) for row in _rows(original, report))

    def settle(self) -> None:
        """Enter what waits.

        Raises
        ------
        Quarantined
            DISK if the crosswalk or a key box cannot be written.
        PolicyError
            If a row contradicts one that is there, as after a run with another list of patients.
        VaultError
            If the crosswalk is damaged.
        """
        if not self._waiting:
            return
        if self._session is None:
            self._session = self._vault.boxes.writer(self._recipients)
        # the objects of a study bring the same rows
        waiting = {row[:3]: row for row in reversed(self._waiting)}
        self._opened().enter(reversed(waiting.values()), self._session.key)
        if len(self._known) > _BOUND:
            self._known.clear()
        for row in self._waiting:
            self._known[row[:3]] = row.pseudonym
        self._waiting.clear()

    def close(self) -> None:
        """Forget the keys and close the crosswalk."""
        if self._session is not None:
            self._session.close()
        if self._crosswalk is not None:
            self._crosswalk.close()
        self._session = self._crosswalk = None
        self._known.clear()

    def _index(self, row: Row) -> str:
        if self._known.get(row[:3]) != row.pseudonym:
            self._waiting.append(row)
        return self._opened().index(row.kind, row.original, row.issuer)

    def _opened(self) -> Crosswalk:
        if self._crosswalk is None:
            self._crosswalk = self._vault.crosswalk(self._project, durable=self._durable)
        return self._crosswalk


def _rows(original: Original, report: Report) -> list[Row]:
    """Return the rows of an object; their keys have no secret yet."""
    key = DataKey(b"", b"", report.patient)
    texts = {keyword: original.text(tag) for tag, keyword in KEYWORDS.items()}
    patient = {keyword: texts[keyword] for keyword in _PATIENT.values() if texts[keyword]}
    study = {keyword: text for keyword, text in texts.items() if text}
    study_uid, *others = (_uid(original.values[tag]) for tag in _UIDS)
    if original.patient_id:
        rows = [Row("patient", original.patient_id, original.issuer, report.patient, key, patient)]
    else:
        rows = [Row("study", study_uid, original.issuer, report.patient, key, patient)]
    rows.append(Row("uid", study_uid, "", report.study, key, study))
    rows += [Row("uid", old, "", new, key) for old, new in zip(others, (report.series, report.instance), strict=True)]
    # an option may let UIDs stay
    return [row for row in rows if row.original != row.pseudonym]


def _uid(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0")

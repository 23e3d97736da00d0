"""Everything dicomshield raises, in one tree.

::

    DicomShieldError
    ├── PolicyError      a wrong option, policy, folder or secret: nothing was read        (exit 2)
    ├── MissingExtra     an optional part is not installed; says what to install           (exit 2)
    ├── VaultError       a sealed object, key box, crosswalk or log does not open          (exit 4)
    └── Quarantined      one object is held back, with a Reason and its findings           (exit 3)

No message carries a value or a source path: tags, keywords, counts, reasons and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

__all__ = [
    "DicomShieldError",
    "Finding",
    "MissingExtra",
    "PolicyError",
    "Quarantined",
    "Reason",
    "VaultError",
    "did_you_mean",
    "shown",
]


class DicomShieldError(Exception):
    """Base of all errors that dicomshield raises on purpose."""


class PolicyError(DicomShieldError):
    """A wrong option, policy file, folder or project secret. Nothing was read or written."""


class MissingExtra(DicomShieldError):
    """An optional part is needed and not installed."""

    def __init__(self, extra: str) -> None:
        super().__init__(f"this needs an optional part: pip install 'dicomshield[{extra}]'")


class VaultError(DicomShieldError):
    """What is encrypted or signed does not open: a wrong key or damage, which look alike on purpose."""


class Reason(Enum):
    """Why an object is held back; the value says what to do next."""

    NOT_DICOM = "not a DICOM object; nothing to do unless it should be one"
    NOT_A_FILE = "a pipe, socket, device or broken link; copy its content to a regular file if it is needed"
    UNREADABLE = "the file could not be read; check permissions and the disk, then run again"
    CHANGED = "the file changed while it was read; run again when nothing writes to it"
    TRUNCATED = "the object ends before its data do; fetch it from its source again"
    MALFORMED = "the encoding breaks PS3.5; repair it (dcmconv reads much) or fetch it again"
    TOO_LARGE = "a part that must be held in memory is over its bound; split the object"
    DICOMDIR = "a directory names its patients; rebuild it with `dicomshield dicomdir OUT`"
    TRANSFER_SYNTAX = "the transfer syntax is unknown or private; convert to a standard one first"
    SOP_CLASS = "the SOP class is not accepted; add it to `sop_classes` in the policy if it may be released"
    INCOMPLETE = "an attribute that every object needs is missing; fetch or repair it"
    BURNED_IN = 'the pixels may carry text; look at it, then write a [[mask]] or pixels = "trust" in the policy'
    PIXELS = "the pixel data are broken, or cannot be masked as they are; convert them losslessly or fetch them again"
    DETECTOR = "text in pixels is not looked for without: pip install 'dicomshield[ocr]'; then run again"
    CODEC = "a codec is needed: pip install 'dicomshield[codecs]', then run again"
    DOCUMENT = "the document inside cannot be replaced by an empty one; clean it by hand"
    PATIENT = "the patient is not in the list given with --patients; add a line for it"
    RESIDUAL = "a value of the patient is still in the output; remove that attribute by a policy override"
    INVALID = "the output lacks what its SOP class requires; report it, and override the attribute"
    COLLISION = "another object was already released under this SOP Instance UID; check which one is right"
    DISK = "the output could not be written; check space and permissions, then run again"
    INTERNAL = "an error inside dicomshield; please report the location given, the object was not released"


class Finding(NamedTuple):
    """What a check found, by kind; never the value, nor the place, which could be a value itself.

    Attributes
    ----------
    kind : str
        ``"name"``, ``"identifier"``, ``"date"``, ``"uid"``, ``"contact"`` or ``"institution"``.
    spellings : int
        How many different spellings of known values of this kind.
    """

    kind: str
    spellings: int


class Quarantined(DicomShieldError):
    """One object is held back.

    Attributes
    ----------
    reason : Reason
    detail : str
        A sentence without values: tags, keywords, lengths, counts.
    findings : tuple of Finding
        What the residual check found.
    """

    def __init__(self, reason: Reason, detail: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(f"{reason.name}: {detail or reason.value}")
        self.reason = reason
        self.detail = detail
        self.findings = findings

    def __reduce__(self) -> tuple[type[Quarantined], tuple[Reason, str, tuple[Finding, ...]]]:
        return Quarantined, (self.reason, self.detail, self.findings)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Name those of ``words`` that come close, as the end of a message."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(words), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def shown(text: str) -> str:
    """Quote what a user wrote in a policy, cut short."""
    return repr(text if len(text) <= 64 else text[:61] + "...")

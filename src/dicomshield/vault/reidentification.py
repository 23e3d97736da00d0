"""Give a released object its original header back, for those who hold a key (PS3.15 E.1.2)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ..encoding.source import Source
from ..encoding.write import element
from ..errors import VaultError
from ..profile import vr_of
from ..storage import Durability, Storage
from .cms import Unwrap
from .container import open_sealed
from .crosswalk import Crosswalk
from .encrypted_attributes import mac_key, restored
from .entering import KEYWORDS
from .keybox import AnyIdentity
from .keys import DataKey
from .ledger import Beforehand, access, mark_of
from .sealed_storage import SUFFIX
from .unsealing import Unsealer
from .vault import Vault
from .whole_object import WholeObject

if TYPE_CHECKING:
    from ..identity.project import Project
    from .audit import AuditLog

__all__ = ["CertificateKey", "Reidentified", "Reidentifier"]

_CHARACTER_SET, _REMOVED, _ENCRYPTED = 0x00080005, 0x00120062, 0x04000500
_PATIENT_ID, _PATIENT_NAME, _INSTANCE = 0x00100020, 0x00100010, 0x00080018
_STUDY, _SERIES = 0x0020000D, 0x0020000E


class CertificateKey(NamedTuple):
    """What opens Encrypted Attributes Sequences.

    Attributes
    ----------
    certificate : Certificate
        Tells which of the recipients we are.
    private_key : RSAPrivateKey or callable
        Its key, or what stands in for it; see `cms.Unwrap`.
    name : str
        What the audit log calls it: SHA-256 of the SubjectPublicKeyInfo, base64url, as key boxes name it.
    """

    certificate: x509.Certificate
    private_key: RSAPrivateKey | Unwrap
    name: str


class Reidentified(NamedTuple):
    """An object with its original header.

    Attributes
    ----------
    data : bytes
        PHI.
    source : {"sequence", "crosswalk"}
        Where the originals come from.
    proven : bool
        Whether the originals are those that this project took away. If not, anybody may have written them.
    """

    data: bytes
    source: Literal["sequence", "crosswalk"]
    proven: bool

    def __repr__(self) -> str:
        return f"Reidentified({self.source})"


class Reidentifier:
    """Restores headers: from the Encrypted Attributes Sequence if it opens, else from the crosswalk.

    The sequence gives back all top-level attributes but private ones, byte for byte. The crosswalk gives back what it
    holds: the identifiers of patient, study, series and instance, name and birth date, dates and numbers of the
    study. References in sequences keep their new UIDs then, and dates that were shifted elsewhere stay so. Pixels stay
    as they are, masked ones too.

    Parameters
    ----------
    vault : Vault
    identities : sequence of Identity or RemoteIdentity
        Open sealed objects, and rows of the crosswalk.
    project : Project, optional
        Needed for the crosswalk, and to prove that what a sequence holds was written by it.
    certificate_key : CertificateKey, optional
        Needed for the sequence.
    log : AuditLog, optional
        Gets a line before anything is given away; if it cannot be written, nothing is.
    """

    def __init__(
        self,
        vault: Vault,
        identities: Sequence[AnyIdentity] = (),
        *,
        project: Project | None = None,
        certificate_key: CertificateKey | None = None,
        log: AuditLog | None = None,
    ) -> None:
        self._vault, self._identities, self._log = vault, tuple(identities), log
        self._certificate_key, self._project = certificate_key, project
        self._unsealer, self._open_key = Unsealer(vault.boxes, identities), vault.opener(identities)
        with_rows = project is not None and bool(identities) and vault.has_crosswalk
        self._crosswalk = vault.crosswalk(project) if with_rows and project is not None else None

    def close(self) -> None:
        """Close the crosswalk."""
        if self._crosswalk is not None:
            self._crosswalk.close()

    def __enter__(self) -> Reidentifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def file(self, path: str | os.PathLike[str], out: Path) -> Reidentified:
        """Restore one object, plain or sealed, into a file of mode 0600, whole or not at all.

        It is held in memory. The line in the audit log is written before the file gets its name.

        Raises
        ------
        VaultError
            If it does not open, was not de-identified, or neither the sequence nor the crosswalk opens.
        Quarantined
            If it cannot be read; COLLISION or DISK because of the output.
        """
        kid, data = self._read(path)
        released = WholeObject.read(data)
        result = self._restored(released)

        def note() -> None:
            if self._log is not None:
                uids = {name: _text(released, tag) for name, tag in (("study", _STUDY), ("instance", _INSTANCE))}
                patient = _text(released, _PATIENT_ID)
                access(
                    self._log, "reidentify", self._used(result), patient=patient, source=result.source, kid=kid, **uids
                )

        with Storage(out.parent, Durability.FILE, mode=0o600) as storage:
            storage.write(out.name, Source.of(b""), [result.data, Beforehand(note)])
        return result

    def _used(self, result: Reidentified) -> list[str]:
        """Return the names of the keys that may have opened it."""
        own = [self._certificate_key.name] if self._certificate_key and result.source == "sequence" else []
        return own + [one.kid for one in self._identities]

    def _read(self, path: str | os.PathLike[str]) -> tuple[str, bytes]:
        """Return the name of the data key, if the object is sealed, and its plain bytes."""
        with Source.open(path) as source:
            if not source.head.startswith(b"DCMSHLD"):
                return "", source.slice(0, source.size)
        with open_sealed(path, self._unsealer.key, Path(path).name.removesuffix(SUFFIX)) as file:
            kid = mark_of(path).kid
            return kid, file.read()

    def _restored(self, released: WholeObject) -> Reidentified:
        if released.value(_REMOVED) != b"YES":
            raise VaultError("this object says that it was not de-identified: Patient Identity Removed is not YES")
        problems = []
        try:
            return self._from_sequence(released)
        except VaultError as error:
            problems.append(str(error))
        try:
            return self._from_crosswalk(released)
        except VaultError as error:
            problems.append(str(error))
        raise VaultError("; ".join(problems))

    def _from_sequence(self, released: WholeObject) -> Reidentified:
        if _ENCRYPTED not in released.elements:
            raise VaultError("it holds no encrypted attributes")
        if self._certificate_key is None:
            raise VaultError("its encrypted attributes were not tried: name a certificate and its key")
        key = mac_key(self._project) if self._project is not None else None
        certificate, private_key, _ = self._certificate_key
        data, authentic = restored(released, certificate, private_key, key)
        return Reidentified(data, "sequence", authentic is True)

    def _from_crosswalk(self, released: WholeObject) -> Reidentified:
        if self._crosswalk is None:
            raise VaultError("the crosswalk was not tried: that takes a vault that has one, its project, an identity")
        texts = _originals(self._crosswalk, released, self._open_key)
        try:
            data = released.reidentified(_encoded(released, texts))
        except _UnfitError:
            released = _in_utf8(released)
            data = released.reidentified(_encoded(released, texts))
        return Reidentified(data, "crosswalk", proven=True)


def _originals(
    crosswalk: Crosswalk, released: WholeObject, open_key: Callable[[bytes, str], DataKey]
) -> dict[int, str]:
    """Return what the crosswalk knows of an object, by tag."""
    # what had no Patient ID element before has none now
    pseudonym = _text(released, _PATIENT_ID) or crosswalk.original_of(_text(released, _INSTANCE), open_key).patient
    patient = crosswalk.original_of(pseudonym, open_key)
    found = dict(patient.more)
    if patient.kind == "patient":
        found = {"PatientID": patient.original, "IssuerOfPatientID": patient.issuer, **found}
    uids = {}
    for tag in (_STUDY, _SERIES, _INSTANCE):
        new = _text(released, tag)
        if crosswalk.holds(new):
            entry = crosswalk.original_of(new, open_key)
            uids[tag] = entry.original
            # a study that two patients share tells of one of them only
            found |= entry.more if entry.patient == pseudonym else {}
    texts = {tag: found.get(keyword, "") for tag, keyword in KEYWORDS.items()}
    # a pseudonym stays nowhere, also if there was no name or Patient ID
    pseudonyms = released.elements.keys() & {_PATIENT_ID, _PATIENT_NAME}
    return {tag: text for tag, text in texts.items() if text or tag in pseudonyms} | uids


def _text(released: WholeObject, tag: int) -> str:
    return released.value(tag).decode("latin-1")


def _encoded(released: WholeObject, texts: Mapping[int, str]) -> dict[int, bytes]:
    """Encode values as the object around them is; raises `_UnfitError` if its character set has not all letters."""
    charset, explicit = released.value(_CHARACTER_SET), released.container.explicit
    return {
        tag: element(tag, vr_of(tag), _bytes(text, vr_of(tag), charset), explicit=explicit)
        for tag, text in texts.items()
    }


class _UnfitError(Exception):
    """A text cannot be written in a character set; never leaves this file."""


def _bytes(text: str, vr: bytes, charset: bytes) -> bytes:
    """Encode a text in a character set (PS3.5 6.1, PS3.3 C.12.1.1.2)."""
    if text.isascii():
        return text.encode()
    from pydicom.charset import convert_encodings, encode_string
    from pydicom.valuerep import PersonName

    try:
        with warnings.catch_warnings():
            # pydicom warns and writes question marks
            warnings.simplefilter("error")
            encodings = convert_encodings([term.strip() for term in charset.decode("latin-1").split("\\")])
            return PersonName(text).encode(encodings) if vr == b"PN" else encode_string(text, encodings)
    except (Warning, ValueError, LookupError):
        raise _UnfitError from None


def _in_utf8(released: WholeObject) -> WholeObject:
    """Return an object with all its texts in UTF-8."""
    import pydicom

    buffer = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(BytesIO(released.file(without=(), new={})))
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        pydicom.dcmwrite(buffer, dataset)
    return WholeObject.read(buffer.getvalue())

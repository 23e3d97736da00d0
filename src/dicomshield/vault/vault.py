"""The vault: one folder with what it takes to open what is sealed, and to find a patient again.

::

    <PATIENT>/<kid>.jwe   key boxes; names of patients' folders have no lower-case letters, so nothing below collides
    crosswalk.sqlite      who is who, each row encrypted under a key of its patient
    audit/                the audit log, and K_0 in `first.jwe`, a key box for the auditor

Whoever writes needs public keys, the project secret and this folder; nobody opens anything with the folder alone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, VaultError
from ..storage import Durability, Storage
from .audit import AuditLog
from .files import sync_folder
from .keybox import AnyIdentity, KeyBoxes, open_box, patient_folder, seal_box
from .keys import DataKey
from .recipients import Recipient

if TYPE_CHECKING:
    from ..identity.project import Project
    from .crosswalk import Crosswalk, Lookup

__all__ = ["AUDITOR", "Vault"]

AUDITOR: Final = "audit"
"""Whose key the box of K_0 says it is: no patient's, as their folders have no lower-case letters."""
_LOG, _NEW, _FIRST, _CROSSWALK = "audit", "audit.new", "first.jwe", "crosswalk.sqlite"
_BOX_BYTES: Final = 1 << 20


class Vault:
    """The vault folder, the argument of ``--keys``.

    Parameters
    ----------
    folder : path-like
        Made, with mode 0700, when something is written.

    Attributes
    ----------
    folder : Path
    boxes : KeyBoxes
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.boxes = KeyBoxes(self.folder)

    @property
    def has_log(self) -> bool:
        """Whether the audit log was begun."""
        return os.path.lexists(self.folder / _LOG / "audit.log")

    def audit(self, recipients: Sequence[Recipient] = (), *, origin: str = "") -> AuditLog:
        """Open the audit log, or begin it and seal its first key to those who will verify it.

        Parameters
        ----------
        recipients : sequence of Recipient
            Needed only where the log is begun.
        origin : str
            Name of a new log in its checkpoints; a random one if not given.

        Raises
        ------
        PolicyError
            If there is no log yet and nobody to seal its first key to.
        VaultError
            If the log is damaged or cannot be written.
        """
        if not self.has_log:
            if not recipients:
                raise PolicyError(
                    "this vault has no audit log yet: name who will verify it, as with "
                    "`--auditor RECIPIENT`, so that the log's first key can be sealed to them"
                )
            self._begin(recipients, origin or f"dicomshield/{secrets.token_hex(8)}")
        return AuditLog(self.folder / _LOG)

    @property
    def first_box(self) -> Path:
        """Where the box of K_0 lies."""
        return self.folder / _LOG / _FIRST

    def first_key(self, identities: Sequence[AnyIdentity]) -> bytes:
        """Return K_0 of the audit log.

        Raises
        ------
        VaultError
            If there is none, or none of the identities opens it.
        """
        try:
            with open(self.first_box, "rb") as file:
                data = file.read(_BOX_BYTES + 1)
        except OSError as error:
            raise VaultError(f"the first key of the audit log cannot be read: {error.strerror}") from None
        return open_box(data, identities, patient=AUDITOR).secret

    def crosswalk(
        self,
        project: Project,
        *,
        durable: bool = True,
        on_lookup: Callable[[Lookup], None] | None = None,
    ) -> Crosswalk:
        """Open the crosswalk; it is made if there is none.

        Parameters
        ----------
        project : Project
            Whose originals it holds.
        durable, on_lookup
            As for `Crosswalk`; see `noting`.

        Raises
        ------
        PolicyError, VaultError, Quarantined
            As `Crosswalk`.
        """
        from .crosswalk import Crosswalk, index_key

        return Crosswalk(self.folder / _CROSSWALK, index_key=index_key(project), durable=durable, on_lookup=on_lookup)

    @property
    def has_crosswalk(self) -> bool:
        """Whether a crosswalk was begun."""
        return os.path.lexists(self.folder / _CROSSWALK)

    def noting(self, log: AuditLog, direction: str, identities: Sequence[AnyIdentity] = ()) -> Callable[[Lookup], None]:
        """Return what writes an audit line for each lookup, before its answer is given.

        Parameters
        ----------
        log : AuditLog
        direction : {"original", "pseudonym"}
            What is asked for.
        identities : sequence of Identity or RemoteIdentity
            Who asks, as far as the log knows people: the names of their keys.
        """

        def note(lookup: Lookup) -> None:
            fields: dict[str, Any] = {"direction": direction, "found": lookup.rows}
            if identities:
                fields["identity"] = [one.kid for one in identities]
            if lookup.bidx:
                fields["bidx"] = lookup.bidx
            if lookup.kind:
                fields["kind"] = lookup.kind
            if lookup.kind in ("patient", "study"):
                fields["patient"] = lookup.pseudonym
            log.append("lookup", **fields)

        return note

    def opener(self, identities: Sequence[AnyIdentity]) -> Callable[[bytes, str], DataKey]:
        """Return what opens the keys of crosswalk rows, each box once; see `Crosswalk.original_of`."""
        opened: dict[tuple[bytes, str], DataKey] = {}

        def open_key(kid: bytes, patient: str) -> DataKey:
            if (kid, patient) not in opened:
                if not os.path.lexists(self.folder / patient_folder(patient) / f"{kid.hex()}.jwe"):
                    raise FileNotFoundError
                opened[kid, patient] = self.boxes.open(patient, kid, identities)
            return opened[kid, patient]

        return open_key

    def _begin(self, recipients: Sequence[Recipient], origin: str) -> None:
        """Begin the log under another name, with its first key, so that there is never one without the other."""
        new = self.folder / _NEW
        # makes the folder, and refuses recipients that no box can have
        self.boxes.writer(recipients).close()
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if self.has_log:
                return
            # of a process that was killed: the lock says that no other is here
            shutil.rmtree(new, ignore_errors=True)
            log, first_key = AuditLog.create(new, origin=origin)
            log.close()
            box = seal_box(DataKey(secrets.token_bytes(16), first_key, AUDITOR), recipients)
            with Storage(new, Durability.FILE, mode=0o600) as storage:
                storage.write(_FIRST, Source.of(b""), [box])
            sync_folder(new)
            os.rename(new, self.folder / _LOG)
            sync_folder(self.folder)
        except (OSError, Quarantined) as error:
            what = error.strerror if isinstance(error, OSError) else error.detail
            raise VaultError(f"the audit log cannot be begun: {what}") from None
        finally:
            os.close(fd)

"""Open sealed objects by their key boxes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..encoding.pieces import Chunk, Stream
from ..encoding.source import Source
from ..errors import VaultError
from ..storage import Durability, Storage
from .container import SealedHeader, open_sealed
from .keybox import AnyIdentity, KeyBoxes
from .keys import DataKey
from .ledger import Beforehand, access, mark_of
from .sealed_storage import SUFFIX

if TYPE_CHECKING:
    from .audit import AuditLog

__all__ = ["Unsealer"]

_BUFFER: Final = 1 << 19


class Unsealer:
    """Finds the keys of sealed objects, opening each box once.

    Parameters
    ----------
    boxes : KeyBoxes
    identities : sequence of Identity or RemoteIdentity
    log : AuditLog, optional
        Gets a line before a file that `unseal` writes gets its name; if it cannot be written, there is no file.
    """

    def __init__(self, boxes: KeyBoxes, identities: Sequence[AnyIdentity], log: AuditLog | None = None) -> None:
        self._boxes, self._identities, self._log = boxes, tuple(identities), log
        self._keys: dict[bytes, DataKey] = {}

    def key(self, header: SealedHeader) -> DataKey:
        """Return the key of a sealed object, as `open_sealed` asks for it.

        Raises
        ------
        VaultError
            If its box is not there, as after shredding, or does not open.
        """
        kid = header.kid
        if kid not in self._keys:
            if kid not in self._patients:
                raise VaultError("there is no key box for it in this folder; the patient's keys may have been shredded")
            self._keys[kid] = self._boxes.open(self._patients[kid], kid, self._identities)
        return self._keys[kid]

    def unseal(self, path: str | os.PathLike[str], out: Path) -> None:
        """Decrypt one object into a file, whole or not at all.

        Raises
        ------
        VaultError
            If it does not open, or was renamed.
        Quarantined
            COLLISION or DISK because of the output.
        """
        label = Path(path).name.removesuffix(SUFFIX)
        with open_sealed(path, self.key, label) as file, Storage(out.parent, Durability.FILE, mode=0o600) as storage:
            pieces = [_Content(file), Beforehand(lambda: self._note(path, label))]
            storage.write(out.name, Source.of(b""), pieces)

    def _note(self, path: str | os.PathLike[str], label: str) -> None:
        if self._log is not None:
            mark = mark_of(path)
            patient = self._patients[bytes.fromhex(mark.kid)]
            access(
                self._log, "unseal", [one.kid for one in self._identities],
                instance=label, patient=patient, **mark._asdict(),
            )  # fmt: skip

    @cached_property
    def _patients(self) -> dict[bytes, str]:
        return self._boxes.patients()


class _Content(Stream):
    """What a sealed object holds; each part is proved before it is given."""

    def __init__(self, file: io.BufferedReader) -> None:
        self._file = file

    def chunks(self) -> Iterator[Chunk]:
        """Read it from the beginning."""
        self._file.seek(0)
        buffer = memoryview(bytearray(_BUFFER))
        while count := self._file.readinto(buffer):
            yield buffer[:count]

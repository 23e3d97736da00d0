"""An output folder whose files are sealed while they are written: no plaintext reaches the disk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from typing import Final

from ..encoding.pieces import Envelope, Later, Piece, Range, flattened
from ..encoding.source import Source
from ..errors import VaultError
from ..storage import Content, Durability, Outcome, Storage, There
from .container import Sealer, open_sealed, read_header
from .files import LargeFile
from .keybox import KeyBoxes, KeySession
from .keys import DataKey
from .recipients import Recipient

__all__ = ["SUFFIX", "SealedStorage"]

SUFFIX: Final = ".dcms"
_BUFFER: Final = 1 << 19


class SealedStorage(Storage):
    """A folder of sealed objects; `Storage` tells how files appear in it.

    The file ``a/b.dcm`` becomes ``a/b.dcms`` with the label ``b``. Its key is one of the patient and of this process;
    the key box is on the disk before the first object, and an object before it gets its name. A process that is
    started again cannot read what it wrote, so it takes a sealed object that is there for the one that it would write.
    What one session seals twice under a name is compared.

    Parameters
    ----------
    folder : path-like
    boxes : KeyBoxes
    recipients : sequence of Recipient
    """

    def __init__(self, folder: str | os.PathLike[str], boxes: KeyBoxes, recipients: Sequence[Recipient]) -> None:
        super().__init__(folder, Durability.FILE, mode=0o600)
        self._boxes, self._recipients = boxes, tuple(recipients)
        self._session: KeySession | None = None

    def __getstate__(self) -> dict[str, object]:
        # the keys of a session never leave their process
        return {**super().__getstate__(), "_session": None}

    def write(self, name: str, source: Source, pieces: Iterable[Piece], patient: str = "") -> Outcome:
        """Seal ``pieces`` for a patient, given by pseudonym; raises as `Storage.write`.

        Raises
        ------
        PolicyError
            If the pseudonym cannot be used.
        """
        if self._session is None:
            self._session = self._boxes.writer(self._recipients)
        target = self.named(name)
        label = target.rpartition("/")[2].removesuffix(SUFFIX)
        return self.put(target, _Sealed(source, list(pieces), self._session.key(patient), label))

    def named(self, name: str) -> str:
        """Return the relative path of the sealed object."""
        return name.removesuffix(".dcm") + SUFFIX

    def close(self) -> None:
        """Forget the keys, and remove this process's scratch folder."""
        if self._session is not None:
            self._session.close()
            self._session = None
        super().close()


class _Sealed(Content):
    """A content that is sealed on its way into the file."""

    def __init__(self, source: Source, pieces: list[Piece], key: DataKey, label: str) -> None:
        super().__init__(source, pieces)
        self._key, self._label = key, label

    def fill(self, fd: int) -> None:
        """Encrypt it into an empty file; what is known last is encrypted last."""
        sealer = Sealer(LargeFile(fd, self.source.size).put, self._key, self._label)
        buffer = memoryview(bytearray(_BUFFER))
        later: list[tuple[int, Later]] = []
        for chunk in flattened(self.pieces):
            if isinstance(chunk, Range):
                for at in range(chunk.start, chunk.end, _BUFFER):
                    part = buffer[: chunk.end - at]
                    self.source.read_into(part, at)
                    sealer.write(part)
            elif isinstance(chunk, Later):
                later.append((sealer.hold(chunk.length), chunk))
            else:
                sealer.write(chunk)
        for place, one in later:
            sealer.fill(place, one.value())
        sealer.finish()

    def compare(self, path: str) -> There:
        """Compare it with what this session sealed; of what others sealed nobody here can read but the label."""
        try:
            with open(path, "rb") as file:
                header = read_header(file)
            if header.label != self._label:
                return There.OTHER
            if header.kid != self._key.kid:
                return There.SAME
            with open_sealed(path, self._key) as there:
                return There.SAME if self._equals(there) else There.OTHER
        except (OSError, VaultError):
            return There.OTHER

    def _equals(self, there: io.BufferedReader) -> bool:
        later: list[tuple[int, Later]] = []
        for chunk in flattened(self.pieces):
            if isinstance(chunk, Later):
                later.append((there.tell(), chunk))
                there.seek(chunk.length, os.SEEK_CUR)
                continue
            parts: Iterable[bytes | memoryview] = (
                [chunk]
                if not isinstance(chunk, Range)
                else (
                    self.source.slice(at, min(at + _BUFFER, chunk.end)) for at in range(chunk.start, chunk.end, _BUFFER)
                )
            )
            if not all(there.read(len(part)) == part or isinstance(part, Envelope) for part in parts):
                return False
        whole = there.tell() == there.seek(0, os.SEEK_END)
        return whole and all(there.seek(at) == at and there.read(one.length) == one.value() for at, one in later)

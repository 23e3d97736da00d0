"""Write a file so that it is there as a whole or not at all, and never in place of another one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterable
from enum import Enum
from typing import Final

from .encoding.pieces import Chunk, Envelope, Later, Piece, Range, flattened
from .encoding.source import Source
from .errors import Quarantined, Reason

__all__ = ["Content", "Durability", "Outcome", "Storage", "There", "object_name"]

_BUFFER: Final = 1 << 20
_SAMPLE: Final = 1 << 20
_TEMPORARY: Final = ".dicomshield-"


class Durability(Enum):
    """When written files are forced to the disk: never, once a batch, or each before it gets its name."""

    NONE = "none"
    BATCH = "batch"
    FILE = "file"


class Outcome(Enum):
    """What `Storage.write` found at the place."""

    NEW = "new"
    SAME = "same"


class There(Enum):
    """What a file that has the name already is, compared with what is to be written."""

    SAME = "same"
    CUT_OFF = "cut off"
    OTHER = "other"


class Content:
    """What a file is to hold.

    Parameters
    ----------
    source : Source
        Where ranges come from.
    pieces : list of Piece
    """

    def __init__(self, source: Source, pieces: list[Piece]) -> None:
        self.source, self.pieces = source, pieces

    def fill(self, fd: int) -> None:
        """Write it to an empty file."""
        source = self.source
        batch: list[bytes] = []
        size, later = 0, []
        for chunk in flattened(self.pieces):
            if isinstance(chunk, Range) and source.fd is None:
                chunk = source.slice(chunk.start, chunk.end)
            if isinstance(chunk, bytes):
                batch.append(chunk)
                size += len(chunk)
                if size < _BUFFER:
                    continue
            _write(fd, b"".join(batch))
            batch.clear()
            size = 0
            if isinstance(chunk, Range):
                _copy(source, fd, chunk)
            elif isinstance(chunk, Later):
                later.append((os.lseek(fd, 0, os.SEEK_CUR), chunk))
                _write(fd, bytes(chunk.length))
            elif isinstance(chunk, memoryview):
                _write(fd, chunk)
        _write(fd, b"".join(batch))
        for at, one in later:
            os.pwrite(fd, one.value(), at)

    def compare(self, path: str) -> There:
        """Compare it with a file that is there: all that is not a range, and both ends of each range.

        A file that is a beginning of this one was being written when the power went. An envelope is compared by
        its length only.
        """
        source = self.source
        try:
            there = Source.open(path)
        except Quarantined:
            return There.OTHER
        with there:
            at, later = 0, []
            for chunk in flattened(self.pieces):
                if isinstance(chunk, Later):
                    later.append((at, chunk))
                length = _length(chunk)
                if there.size < at + length:
                    head = _part(chunk, source, 0, min(there.size - at, _SAMPLE))
                    return There.CUT_OFF if there.window(at, len(head)).startswith(head) else There.OTHER
                ends = {(0, min(length, _SAMPLE)), (max(0, length - _SAMPLE), length)}
                for start, stop in ends if isinstance(chunk, Range) else {(0, length)}:
                    if not there.window(at + start, stop - start).startswith(_part(chunk, source, start, stop)):
                        return There.OTHER
                at += length
            same = at == there.size and all([there.window(place, one.length) == one.value() for place, one in later])
            return There.SAME if same else There.OTHER


class Storage:
    """An output folder.

    A file is written without a name (``O_TMPFILE``) and then linked under its own, so a killed process leaves
    nothing behind. Where the file system cannot do that, it is written in a locked folder of this
    process, which the next run removes.

    Parameters
    ----------
    folder : path-like
    durability : Durability
    unnamed : bool
        Try ``O_TMPFILE`` first.
    mode : int
        Mode of the files.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        durability: Durability = Durability.NONE,
        *,
        unnamed: bool = True,
        mode: int = 0o644,
    ) -> None:
        self.folder = os.fspath(folder)
        self._durability, self._mode = durability, mode
        self._unnamed = unnamed and hasattr(os, "O_TMPFILE")
        self._folders: dict[str, bool] = {}
        self._scratch: _Scratch | None = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_folders": {}, "_scratch": None}

    def write(self, name: str, source: Source, pieces: Iterable[Piece], patient: str = "") -> Outcome:  # noqa: ARG002
        """Write ``pieces`` under ``name``.

        Parameters
        ----------
        name : str
            Relative path with ``/``.
        source : Source
            Where ranges come from.
        pieces : iterable of Piece
        patient : str
            Pseudonym; means something only where files are sealed.

        Raises
        ------
        Quarantined
            COLLISION if another content has the name already, DISK if it cannot be written, CHANGED or
            TRUNCATED if the source does not give what it had.
        """
        return self.put(name, Content(source, list(pieces)))

    def put(self, name: str, content: Content) -> Outcome:
        """Write a content under ``name``; raises as `write`."""
        path = f"{self.folder}/{name}"
        parent = path.rpartition("/")[0]
        try:
            if parent not in self._folders:
                # in a folder made just now no name is taken, so nobody needs to look
                self._folders[parent] = not os.path.isdir(parent)
                os.makedirs(parent, 0o777 if self._mode & 0o077 else 0o700, exist_ok=True)
            try:
                self._create(path, parent, content)
            except FileExistsError:
                there = content.compare(path)
                if there is There.OTHER:
                    raise Quarantined(Reason.COLLISION) from None
                if there is There.SAME:
                    return Outcome.SAME
                os.unlink(path)
                self._create(path, parent, content)
        except OSError as error:
            self._folders.pop(parent, None)
            raise Quarantined(Reason.DISK, f"write failed: {error.strerror}") from None
        return Outcome.NEW

    def named(self, name: str) -> str:
        """Return the relative path under which `write` puts a file."""
        return name

    def settle(self) -> None:
        """End a batch: force it to the disk if that was asked for."""
        if self._durability is Durability.BATCH:
            os.sync()

    def close(self) -> None:
        """Remove this process's scratch folder, if it needed one."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def __enter__(self) -> Storage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def remove_leftovers(self) -> None:
        """Remove what killed processes left in their scratch folders."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                if entry.name.startswith(_TEMPORARY) and entry.is_dir(follow_symlinks=False):
                    _Scratch.remove_if_abandoned(entry.path)

    def _create(self, path: str, parent: str, content: Content) -> None:
        if not self._folders[parent] and os.path.lexists(path):
            raise FileExistsError
        if self._unnamed:
            try:
                fd = os.open(parent, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, self._mode)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
                    raise
                self._unnamed = False
            else:
                try:
                    self._fill(fd, content)
                    # src_dir_fd makes Python call linkat, which alone follows the link in /proc
                    os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)
                    return
                except FileNotFoundError:
                    # no /proc here
                    self._unnamed = False
                finally:
                    os.close(fd)
        self._create_named(path, content)

    def _create_named(self, path: str, content: Content) -> None:
        if self._scratch is None:
            self._scratch = _Scratch(self.folder)
        temporary = f"{self._scratch.folder}/{secrets.token_hex(8)}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, self._mode)
        try:
            try:
                self._fill(fd, content)
            finally:
                os.close(fd)
            try:
                os.link(temporary, path)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                    raise
                # no hard links here, as on FAT: the name was free a moment ago
                os.rename(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _fill(self, fd: int, content: Content) -> None:
        content.fill(fd)
        if not content.source.unchanged():
            raise Quarantined(Reason.CHANGED)
        if self._durability is Durability.FILE:
            os.fsync(fd)


class _Scratch:
    """A folder of this process inside the output folder, locked as long as the process lives."""

    def __init__(self, parent: str) -> None:
        while True:
            self.folder = f"{parent}/{_TEMPORARY}{secrets.token_hex(8)}"
            os.mkdir(self.folder, 0o700)
            # until it is locked, another run may take it for a leftover and remove it
            with contextlib.suppress(FileNotFoundError):
                self._fd = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
                if os.path.exists(self.folder):
                    return
                os.close(self._fd)

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._fd)

    @staticmethod
    def remove_if_abandoned(folder: str) -> None:
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)


def object_name(patient: str, study: str, series: str, instance: str) -> str:
    """Return the relative path of an object, by pseudonym and new UIDs."""
    folder = re.sub(r"[^A-Za-z0-9._-]", "_", patient)
    return "/".join((folder if folder.strip(".") else "_", study, series, instance)) + ".dcm"


def _write(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _copy(source: Source, fd: int, piece: Range) -> None:
    """Copy a range by the kernel if it can, else through one buffer."""
    at, left = piece.start, piece.end - piece.start
    assert source.fd is not None  # noqa: S101 - objects in memory have no ranges to copy
    by_kernel = hasattr(os, "copy_file_range")
    while left > 0:
        if by_kernel:
            try:
                done = os.copy_file_range(source.fd, fd, left, at)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
                by_kernel = False
                continue
        else:
            data = source.window(at, min(left, _BUFFER))
            _write(fd, data)
            done = len(data)
        if done == 0:
            raise Quarantined(Reason.CHANGED)
        at += done
        left -= done


def _length(chunk: Chunk) -> int:
    if isinstance(chunk, Range):
        return chunk.end - chunk.start
    return chunk.length if isinstance(chunk, Later) else len(chunk)


def _part(chunk: Chunk, source: Source, start: int, stop: int) -> bytes:
    """Return the bytes of a chunk that are known, and the same each time."""
    if isinstance(chunk, Range):
        return source.slice(chunk.start + start, chunk.start + stop)
    return b"" if isinstance(chunk, Later | Envelope) else bytes(chunk[start:stop])

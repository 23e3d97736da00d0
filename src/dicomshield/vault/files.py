"""Files of the vault: whole or not there, the owner's alone, and on the disk before anybody relies on them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from typing import Final

__all__ = ["LargeFile", "sync_folder", "whole_file", "write_all"]

_PAGE: Final = 4096
_LARGE: Final = 1 << 23


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], *, replace: bool) -> Iterator[int]:
    """Write a file of mode 0600 that gets its name once it is complete and on the disk.

    Parameters
    ----------
    path : path-like
    replace : bool
        Take the place of a file that is there; without it such a file stays, and the new one is none.

    Yields
    ------
    int
        A descriptor to write to. If the caller raises, nothing is left.

    Raises
    ------
    FileExistsError
        If there is a file and it is not to be replaced.
    OSError
        If it cannot be written.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = f"{folder}/.dicomshield-{secrets.token_hex(8)}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield fd
        os.fsync(fd)
        if replace:
            os.rename(temporary, f"{folder}/{name}")
        else:
            # unlike a rename it fails if the name is taken
            os.link(temporary, f"{folder}/{name}")
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    sync_folder(folder)


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of the data, in as many parts as the system takes them."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Force the names in a folder to the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class LargeFile:
    """Writes a file that will be forced to the disk, past the page cache where that is possible.

    Copying to the cache and writing from there costs several times as much processor time. Blocks that are not aligned
    (to 4 KiB: in memory, in the file, in length) go through the cache, as does everything on file systems that know no
    other way.

    Parameters
    ----------
    fd : int
    size : int
        About how many bytes will come; for few it is not worth it.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._direct = fd, False
        if size >= _LARGE:
            with contextlib.suppress(OSError):
                self._set(direct=True)

    def put(self, data: memoryview, at: int) -> None:
        """Write all of the data to a place.

        Raises
        ------
        OSError
        """
        if self._direct and not at % _PAGE:
            whole = len(data) - len(data) % _PAGE
            try:
                self._write(data[:whole], at)
                data, at = data[whole:], at + whole
            except OSError as error:
                # how a file system says that it does not, after all, or not with blocks of this size
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                    raise
        if data:
            if self._direct:
                self._set(direct=False)
            self._write(data, at)

    def _set(self, *, direct: bool) -> None:
        flag = getattr(os, "O_DIRECT", 0)
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL) & ~flag
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags | flag if direct else flags)
        self._direct = direct and flag != 0

    def _write(self, data: memoryview, at: int) -> None:
        while data:
            done = os.pwrite(self._fd, data, at)
            data, at = data[done:], at + done

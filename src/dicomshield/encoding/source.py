"""The bytes of one object: a head in memory and the rest where it lies."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from ..errors import Quarantined, Reason

__all__ = ["Source"]

HEAD: Final = 1 << 15
"""Bytes read at once: holds the header of nearly every image, so that one read is enough."""


class Source:
    """Random access to an object's bytes without ever holding a whole large file.

    Attributes
    ----------
    head : bytes
        The first bytes; all of them when the object is in memory.
    size : int
        Length of the object in bytes, as it was when it was opened.
    fd : int or None
        The file the bytes come from; ``None`` for an object in memory.
    """

    __slots__ = ("_mtime", "fd", "head", "size")

    def __init__(self, head: bytes, size: int, fd: int | None = None, mtime: int = 0) -> None:
        self.head, self.size, self.fd, self._mtime = head, size, fd, mtime

    @classmethod
    def of(cls, data: bytes) -> Source:
        """Take an object that is in memory."""
        return cls(data, len(data))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Source:
        """Open a regular file; the caller closes it.

        Raises
        ------
        Quarantined
            With reason NOT_A_FILE or UNREADABLE; the message does not name the path.
        """
        try:
            # a FIFO would block an ordinary open until somebody writes to it
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (OSError, ValueError) as error:
            what = error.strerror if isinstance(error, OSError) else "no such name is possible"
            # a socket, a loop of links, a link to nowhere
            no_file = getattr(error, "errno", 0) in (errno.ENXIO, errno.ELOOP) or os.path.islink(path)
            raise Quarantined(Reason.NOT_A_FILE if no_file else Reason.UNREADABLE, f"open failed: {what}") from None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Quarantined(Reason.NOT_A_FILE)
            return cls(os.pread(fd, HEAD, 0), status.st_size, fd, status.st_mtime_ns)
        except OSError as error:
            os.close(fd)
            raise Quarantined(Reason.UNREADABLE, f"read failed: {error.strerror}") from None
        except BaseException:
            os.close(fd)
            raise

    def slice(self, start: int, end: int) -> bytes:
        """Return bytes ``start`` to ``end``.

        Raises
        ------
        Quarantined
            TRUNCATED if the object ends before, UNREADABLE if the disk fails.
        """
        if end <= len(self.head):
            return self.head[start:end]
        data = self.window(start, end - start)
        if len(data) != end - start:
            raise Quarantined(Reason.TRUNCATED, f"{end - start - len(data)} bytes are missing")
        return data

    def window(self, start: int, length: int) -> bytes:
        """Return up to ``length`` bytes from ``start``."""
        if self.fd is None or start + length <= len(self.head):
            return self.head[start : start + length]
        pieces = []
        while length > 0:
            try:
                piece = os.pread(self.fd, length, start)
            except OSError as error:
                raise Quarantined(Reason.UNREADABLE, f"read failed: {error.strerror}") from None
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def read_into(self, buffer: memoryview, start: int) -> None:
        """Fill a buffer with the bytes from ``start`` on.

        Raises
        ------
        Quarantined
            TRUNCATED if the object ends before, UNREADABLE if the disk fails.
        """
        if self.fd is None:
            buffer[:] = self.slice(start, start + len(buffer))
        while self.fd is not None and buffer:
            try:
                done = os.preadv(self.fd, [buffer], start)
            except OSError as error:
                raise Quarantined(Reason.UNREADABLE, f"read failed: {error.strerror}") from None
            if not done:
                raise Quarantined(Reason.TRUNCATED, f"{len(buffer)} bytes are missing")
            buffer, start = buffer[done:], start + done

    def unchanged(self) -> bool:
        """Tell whether the file still has the size and modification time it was opened with."""
        if self.fd is None:
            return True
        status = os.fstat(self.fd)
        return status.st_size == self.size and status.st_mtime_ns == self._mtime

    def close(self) -> None:
        """Close the file, if there is one."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

"""The project folder: the secret that every pseudonym comes from, and the lists that hold PHI."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import IO, Final

from ..errors import PolicyError

__all__ = ["Project"]

_PREFIX: Final = "dicomshield-project-secret-1:"
_NAME: Final = "secret.key"
_BYTES: Final = 32


class Project:
    """A folder of mode 0700 that belongs to one study: same secret, same pseudonyms.

    Parameters
    ----------
    folder : path-like
        Created, with a new random secret, if there is none.

    Attributes
    ----------
    folder : Path
    secret : bytes
        32 random bytes. Whoever holds them can recompute every pseudonym from the original identifiers.
    created : bool
        Whether this call made the secret.

    Raises
    ------
    PolicyError
        If the secret is damaged, readable by others, or the folder cannot be used.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        path = self.folder / _NAME
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.created = not path.exists() and _create(path)
            status = path.stat()
            text = path.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "it is no text"
            raise PolicyError(f"the project folder cannot be used: {what}") from None
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise PolicyError(f"others can read {_NAME} in the project folder: run chmod 600 on it")
        try:
            self.secret = base64.urlsafe_b64decode(text.removeprefix(_PREFIX))
        except (ValueError, binascii.Error):
            self.secret = b""
        if not text.startswith(_PREFIX) or len(self.secret) != _BYTES:
            raise PolicyError(f"{_NAME} in the project folder is damaged: restore it from its copy")

    def private_file(self, name: str) -> IO[str]:
        """Create a file of mode 0600 in the project folder; never overwrite one.

        Raises
        ------
        PolicyError
            If it cannot be created.
        """
        return private_file(self.folder / name, exclusive=True)


def private_file(path: str | os.PathLike[str], *, exclusive: bool = False) -> IO[str]:
    """Open a text file of mode 0600 for writing, whatever the mode of an older one was.

    Raises
    ------
    PolicyError
        If it cannot be created.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | (os.O_EXCL if exclusive else os.O_TRUNC)
    try:
        fd = os.open(path, flags, 0o600)
        os.fchmod(fd, 0o600)
    except OSError as error:
        raise PolicyError(f"a private list cannot be written: {error.strerror}") from None
    return os.fdopen(fd, "w", encoding="utf-8", newline="")


def _create(path: Path) -> bool:
    """Write a new secret under its name at once; another process may do the same at the same time."""
    text = _PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_BYTES)).decode() + "\n"
    temporary = path.with_name(f".{_NAME}.{secrets.token_hex(8)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        return True
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()

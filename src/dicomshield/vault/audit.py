r"""An audit log that shows when somebody has changed it.

One line an event, canonical JSON, a tab, a MAC::

    {"event":"release","n":7,"patient":"P4X...","sha256":"9f...","t":"2026-11-21T19:00:00.000000Z"} \t b64(mac_7) \n
    mac_i   = HMAC-SHA-256(K_i, "line" || mac_(i-1) || json)             mac_(-1) = 32 zero bytes
    K_(i+1) = HMAC-SHA-256(K_i, "next")                                  K_i is overwritten
    leaf_i  = SHA-256(00 || line), node = SHA-256(01 || left || right)   RFC 6962 2.1

K_0 is handed out once, for an auditor. Whoever takes the box gets the key of the next line and can forge what
comes; what is written already cannot be altered unseen. A checkpoint (C2SP tlog-checkpoint, a note signed with Ed25519)
that is kept elsewhere shows even that the whole log was set back, which nothing in the folder can.

The state is a file of two slots of 4 KiB, written in turn and in place: ``sha256 || u32be length || JSON``. Lines that
are in the log and not in the state are taken up if their MAC is right; anything else beyond it is cut off and reported.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import json
import os
import secrets
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final
from weakref import WeakSet

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..errors import PolicyError, VaultError
from ..storage import Durability
from .audit_lines import (
    LARGEST,
    LONGEST,
    ORIGIN,
    RECOVER,
    ZERO,
    Tree,
    Value,
    checked,
    mac_of,
    next_key,
    opened,
    problem_of,
    split,
    unusable,
)
from .audit_notes import Signer
from .files import whole_file, write_all

__all__ = ["AuditLog"]

_SLOT: Final = 4096
_MAC_TEXT: Final = 44
_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class AuditLog:
    """The log in a folder; many threads and processes may write at once.

    Parameters
    ----------
    folder : path-like
        Made by `create`.
    durability : Durability
        When lines are forced to the disk: before each call returns (``FILE``), by `settle` (``BATCH``), or when the
        system likes. A killed process loses nothing either way. After a power cut the log may end before its
        state unless it is ``FILE``, and is then refused as cut off.
    """

    def __init__(self, folder: str | os.PathLike[str], durability: Durability = Durability.FILE) -> None:
        self.folder, self._durability = os.fspath(folder), durability
        self._files: _Files | None = None
        self._begin_anew()
        with self._locked():
            pass

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], *, origin: str, durability: Durability = Durability.FILE
    ) -> tuple[AuditLog, bytes]:
        """Begin a log, with its key to sign and a first line ``start``.

        Parameters
        ----------
        folder : path-like
            Made if it is not there.
        origin : str
            Name of the log in checkpoints: printable ASCII without space and ``+``, such as ``example.org/box3``.
        durability : Durability

        Returns
        -------
        log : AuditLog
        first_key : bytes
            K_0, 32 bytes; it is written nowhere. Seal it to the auditor.

        Raises
        ------
        PolicyError
            If there is a log already or the name has no such form.
        VaultError
            If it cannot be written.
        """
        if not ORIGIN.fullmatch(origin):
            raise PolicyError("the origin must be 1 to 128 printable ASCII characters without space and +")
        name, first_key = os.fspath(folder), secrets.token_bytes(32)
        try:
            os.makedirs(name, 0o700, exist_ok=True)
            with opened(name, os.O_RDONLY | os.O_DIRECTORY) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.lexists(f"{name}/audit.log"):
                    raise PolicyError("there is an audit log already; it is not begun anew")
                _begin(name, origin, first_key)
        except OSError as error:
            raise unusable(error) from None
        return cls(name, durability), first_key

    @property
    def public_key(self) -> str:
        """What checkpoints are verified with, in the form of C2SP signed-note: ``origin+id+base64``."""
        return _text(f"{self.folder}/audit.pub").strip()

    def append(self, event: str, **fields: Value) -> int:
        """Write one line; when this returns it is in the file.

        Parameters
        ----------
        event : str
            ``release``, ``quarantine``, ``lookup``, ``reidentify``, ``seal``, ``unseal``, ``key``, ``crosswalk``,
            ``checkpoint`` or ``start``.
        **fields : str, int or list of str
            Pseudonyms, new UIDs, digests, reasons, counts: names and forms are a closed list.

        Returns
        -------
        int
            Number of the line, from 0.

        Raises
        ------
        PolicyError
            For a name or a form that is not on the list; nothing was written.
        VaultError
            If the log is damaged or cannot be written.
        """
        return self.append_many([(event, fields)]).start

    def append_many(self, events: Iterable[tuple[str, Mapping[str, Value]]]) -> range:
        """Write many lines at the price of little more than one; see `append`."""
        lines = [checked(event, fields) for event, fields in events]
        with self._locked() as files:
            return files.append(lines, sync=self._durability is Durability.FILE)

    def checkpoint(self) -> str:
        """Sign what the log is now, and write that down in it.

        Returns
        -------
        str
            A checkpoint (C2SP tlog-checkpoint). Keep it elsewhere: on another host, in a mail, on paper.
        """
        signer = Signer.parse(_text(f"{self.folder}/audit.key", private=True))
        with self._locked() as files:
            # a signature on lines that a power cut may still take would accuse this box later
            files.append([], sync=True)
            chain = files.load()
            note = signer.sign(f"{signer.name}\n{chain.size}\n{b64encode(chain.root()).decode()}\n")
            line: dict[str, Value] = {"event": "checkpoint", "size": chain.size, "root": chain.root().hex()}
            files.append([line], sync=True)
        return note

    def settle(self) -> None:
        """End a batch: force it to the disk if that was asked for."""
        if self._durability is not Durability.NONE:
            with self._locked() as files:
                files.sync()

    def close(self) -> None:
        """Close the files; the log opens them again if it is used."""
        with self._mutex:
            if self._files is not None:
                self._files.close()
            self._files = None

    def __enter__(self) -> AuditLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __getstate__(self) -> tuple[str, Durability]:
        return self.folder, self._durability

    def __setstate__(self, state: tuple[str, Durability]) -> None:
        self.folder, self._durability = state
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._files, self._mutex = None, threading.Lock()
        _alive.add(self)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[_Files]:
        """Keep out other threads by a mutex and other processes by flock, which does not tell threads apart."""
        with self._mutex:
            try:
                if self._files is None:
                    self._files = _Files(self.folder)
                fcntl.flock(self._files.state, fcntl.LOCK_EX)
                try:
                    yield self._files
                finally:
                    fcntl.flock(self._files.state, fcntl.LOCK_UN)
            except OSError as error:
                raise unusable(error) from None


_alive: WeakSet[AuditLog] = WeakSet()
_forking: list[AuditLog] = []
_fork_lock = threading.Lock()


def _before_fork() -> None:
    """Wait until no other thread is at work in a log.

    Its lock would stay locked in the child for ever. So would locks inside of OpenSSL, which computes the MACs: a child
    would hang on them with the log locked, and all other writers behind it.
    """
    _fork_lock.acquire()
    for log in list(_alive):
        log._mutex.acquire()
        _forking.append(log)


def _after_fork() -> None:
    while _forking:
        _forking.pop()._mutex.release()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    """Close the parent's files: flock holds for both as one."""
    _forking.clear()
    for log in _alive:
        if log._files is not None:
            log._files.close()
        log._files, log._mutex = None, threading.Lock()
    _fork_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class _Chain:
    """Where a log ends, and what its next line needs."""

    def __init__(self, key: bytes, mac: bytes = ZERO, tree: Tree | None = None, end: int = 0) -> None:
        self.key, self.mac, self.end = key, mac, end
        self._tree = tree or Tree()
        self.cut: dict[str, Value] | None = None
        self.serial = self.slot = 0

    @property
    def size(self) -> int:
        return self._tree.size

    def root(self) -> bytes:
        return self._tree.root()

    def line(self, event: Mapping[str, Value], time: str) -> bytes:
        """Return the next line."""
        body = _JSON.encode({**event, "n": self.size, "t": time}).encode()
        mac = mac_of(self.key, self.mac, body)
        line = b"%b\t%b\n" % (body, b64encode(mac))
        if len(line) > LONGEST:
            raise PolicyError("an audit line must not be longer than 64 KiB; write several")
        self._advance(line, mac)
        return line

    def adopt(self, line: bytes) -> bool:
        """Take up a line from the file if it is the next one."""
        body, mac = split(line)
        if mac is None or not line.endswith(b"\n") or not hmac.compare_digest(mac_of(self.key, self.mac, body), mac):
            return False
        self._advance(line, mac)
        return True

    def _advance(self, line: bytes, mac: bytes) -> None:
        self._tree.push(line[:-1])
        self.key, self.mac, self.end = next_key(self.key), mac, self.end + len(line)

    def packed(self) -> bytes:
        """Return a slot of the state file."""
        state = {
            "n": self.size,
            "off": self.end,
            "k": b64encode(self.key).decode(),
            "mac": b64encode(self.mac).decode(),
            "frontier": [b64encode(peak).decode() for peak in self._tree.peaks],
            "cut": self.cut,
            "serial": self.serial,
        }
        data = _JSON.encode(state).encode()
        return (sha256(data).digest() + len(data).to_bytes(4, "big") + data).ljust(_SLOT, b"\0")

    @classmethod
    def unpacked(cls, raw: bytes, slot: int) -> _Chain | None:
        """Return what a slot holds, or ``None`` if it was wiped or half-written."""
        data = raw[36 : 36 + int.from_bytes(raw[32:36], "big")]
        if sha256(data).digest() != raw[:32]:
            return None
        try:
            state = json.loads(data)
            numbers = [state[name] for name in ("n", "off", "serial")]
            key, mac, *peaks = (
                b64decode(text, validate=True) for text in (state["k"], state["mac"], *state["frontier"])
            )
            cut = state["cut"]
            sound = (
                all(type(number) is int and 0 <= number <= LARGEST for number in numbers)
                and {len(part) for part in (key, mac, *peaks)} == {32}
                and len(peaks) == numbers[0].bit_count()
                and (cut is None or not problem_of(RECOVER, cut))
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not sound:
            return None
        chain = cls(key, mac, Tree(numbers[0], peaks), numbers[1])
        chain.serial, chain.slot, chain.cut = numbers[2], slot, cut
        return chain


# The files


class _Files:
    """The open files of a log; the caller holds the lock."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/audit.log"
        if not os.path.lexists(self._path):
            raise PolicyError("there is no audit log here; create one first")
        with contextlib.ExitStack() as stack:
            self.state = stack.enter_context(opened(f"{folder}/audit.state", os.O_RDWR, private=True))
            self.log = stack.enter_context(opened(self._path, os.O_RDWR | os.O_APPEND, private=True))
            self._stack = stack.pop_all()
        self._raw = b""
        self._chain: _Chain | None = None

    def close(self) -> None:
        self._stack.close()

    def load(self) -> _Chain:
        """Return the state brought up to the end of the log."""
        raw = os.pread(self.state, 2 * _SLOT, 0)
        chain = self._chain if raw == self._raw else None
        # what fails from here on leaves nothing behind that is half-way
        self._raw, self._chain = b"", None
        if chain is None:
            slots = (_Chain.unpacked(raw[at * _SLOT : (at + 1) * _SLOT], at) for at in (0, 1))
            chain = max(filter(None, slots), key=lambda one: one.serial, default=None)
            if chain is None:
                raise VaultError("the state of the audit log is damaged; keep the folder and begin a new log")
        self._catch_up(chain)
        self._raw, self._chain = raw, chain
        return chain

    def append(self, events: list[dict[str, Value]], *, sync: bool) -> range:
        """Write lines for events, and before them one on what had to be cut off."""
        chain = self.load()
        cut: list[dict[str, Value]] = [{"event": RECOVER, **chain.cut}] if chain.cut else []
        end, first, self._raw = chain.end, chain.size + len(cut), b""
        time = _now()
        lines = b"".join([chain.line(event, time) for event in [*cut, *events]])
        chain.cut = None
        try:
            write_all(self.log, lines)
            if sync:
                os.fdatasync(self.log)
        except BaseException:
            # not acknowledged, and so not there; what is left if this fails too is cut off by the next call
            with contextlib.suppress(OSError):
                os.ftruncate(self.log, end)
            raise
        self._save(chain, sync=sync)
        return range(first, chain.size)

    def sync(self) -> None:
        os.fdatasync(self.log)
        os.fdatasync(self.state)

    def _save(self, chain: _Chain, *, sync: bool) -> None:
        """Write the state into the slot not in use; wipe the other, with the key in it, once this one is safe."""
        other, chain.slot, chain.serial = chain.slot, 1 - chain.slot, chain.serial + 1
        slots = [b"", b""]
        slots[chain.slot] = packed = chain.packed()
        _put(self.state, packed, chain.slot)
        if sync:
            os.fdatasync(self.state)
            slots[other] = bytes(_SLOT)
            _put(self.state, slots[other], other)
        else:
            slots[other] = os.pread(self.state, _SLOT, other * _SLOT)
        self._raw, self._chain = b"".join(slots), chain

    def _catch_up(self, chain: _Chain) -> None:
        """Take up whole lines beyond the state whose MAC is right, and cut off the rest."""
        there, size = os.stat(self._path, follow_symlinks=False), os.fstat(self.log).st_size
        if (there.st_dev, there.st_ino) != os.fstat(self.log)[2:0:-1]:
            raise VaultError("the audit log was replaced while it was open")
        end = os.pread(self.log, _MAC_TEXT + 1, max(0, chain.end - _MAC_TEXT - 1))
        if size < chain.end or (chain.end and end != b64encode(chain.mac) + b"\n"):
            raise VaultError("the audit log does not end as its state says: it was cut, set back or exchanged")
        if size == chain.end:
            return
        with open(self.log, "rb", closefd=False) as file:
            file.seek(chain.end)
            while chain.adopt(line := file.readline(LONGEST + 1)):
                pass
            rest = sha256(line)
            while piece := file.read(LONGEST):
                rest.update(piece)
        if chain.end < size:
            # first written down, so that a kill after the cut does not hide it
            chain.cut = {"sha256": rest.hexdigest(), "size": size - chain.end}
            self._save(chain, sync=True)
            os.ftruncate(self.log, chain.end)


def _put(fd: int, data: bytes, slot: int) -> None:
    if os.pwrite(fd, data, slot * _SLOT) != _SLOT:
        raise OSError(5, "the state was written in part")


def _text(path: str, *, private: bool = False) -> str:
    """Return a small text file."""
    try:
        with opened(path, os.O_RDONLY, private=private) as fd:
            return os.read(fd, LONGEST).decode("ascii")
    except OSError as error:
        raise unusable(error) from None
    except UnicodeDecodeError:
        raise VaultError("a key of the audit log is damaged") from None


def _begin(folder: str, origin: str, first_key: bytes) -> None:
    """Write the files of a new log; the log itself comes last and says that all are there."""
    chain, signer = _Chain(first_key), Signer(origin, Ed25519PrivateKey.generate())
    line = chain.line({"event": "start", "origin": origin}, _now())
    files = {
        "audit.key": f"{signer}\n".encode(),
        "audit.pub": f"{signer.public()}\n".encode(),
        "audit.state": chain.packed() + bytes(_SLOT),
        "audit.log": line,
    }
    for name, data in files.items():
        with whole_file(f"{folder}/{name}", replace=True) as fd:
            write_all(fd, data)

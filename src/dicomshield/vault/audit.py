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
import re
import secrets
import stat
import threading
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from typing import Any, BinaryIO, Final, NamedTuple
from weakref import WeakSet

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import PolicyError, Reason, VaultError, did_you_mean
from ..storage import Durability

__all__ = ["AuditLog", "Entry", "Problem", "Value", "Verdict", "Wrong", "entries", "verify"]

Value = str | int | list[str]
"""What a field holds: a code, a count, or several codes."""

_EVENTS: Final[dict[str, tuple[str, ...]]] = {
    "release": (),
    "quarantine": (),
    "lookup": (),
    "reidentify": (),
    "seal": (),
    "unseal": (),
    "key": ("new", "add", "rotate", "shred"),
    "crosswalk": ("import", "export", "merge"),
    "checkpoint": (),
    "start": (),
}
"""Events, and the actions of those that need one."""
_RECOVER: Final = "recover"
"""The log's own event: bytes after the last good line were cut off."""

_UID: Final = re.compile(r"(?=.{1,64}$)[0-2](?:\.(?:0|[1-9][0-9]*))+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHORT: Final = re.compile(r"[0-9a-f]{32}")
_KEY_NAME: Final = re.compile("passphrase|[A-Za-z0-9_-]{43}")
"""What a key box names a recipient by."""
_ORIGIN: Final = re.compile(r"[!-*,-~]{1,128}")
_COUNT: Final = None
_FORMS: Final[dict[str, re.Pattern[str] | None]] = {
    "action": re.compile("[a-z]+"),
    "bidx": _SHORT,
    "count": _COUNT,
    "direction": re.compile("original|pseudonym"),
    "found": _COUNT,
    "identity": _KEY_NAME,
    "instance": _UID,
    "kid": _SHORT,
    "kind": re.compile("patient|study|uid"),
    "number": _COUNT,
    "origin": _ORIGIN,
    # what a curated list of patients may hold
    "patient": re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,62}[!-\[\]-~])?"),
    "profile": _DIGEST,
    "reason": re.compile("|".join(Reason.__members__)),
    "recipient": _KEY_NAME,
    "root": _DIGEST,
    "series": _UID,
    "sha256": _DIGEST,
    "size": _COUNT,
    "sop_class": _UID,
    "source": re.compile("sequence|crosswalk"),
    "study": _UID,
    "version": re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}(?:(?:a|b|rc|\.dev|\.post)[0-9]{1,4})?"),
}
"""All that a line may hold, and its form: pseudonyms, new UIDs, digests, reasons, counts."""

_LONGEST: Final = 1 << 16
_LARGEST: Final = (1 << 53) - 1
_SLOT: Final = 4096
_MAC_TEXT: Final = 44
_ZERO: Final = bytes(32)
_NUMBER: Final = re.compile(rb'[{,]"n":(0|[1-9][0-9]{0,14})[,}]')
_EVENT: Final = re.compile(rb'[{,]"event":"([a-z]+)"[,}]')
_TIME: Final = re.compile(r"[0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}\.[0-9]{6}Z")
_JSON: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)
_ED25519: Final = b"\x01"
_SIGNER: Final = "PRIVATE+KEY+"


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
        if not _ORIGIN.fullmatch(origin):
            raise PolicyError("the origin must be 1 to 128 printable ASCII characters without space and +")
        name, first_key = os.fspath(folder), secrets.token_bytes(32)
        try:
            os.makedirs(name, 0o700, exist_ok=True)
            with _opened(name, os.O_RDONLY | os.O_DIRECTORY) as fd:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if os.path.lexists(f"{name}/audit.log"):
                    raise PolicyError("there is an audit log already; it is not begun anew")
                _begin(name, fd, origin, first_key)
        except OSError as error:
            raise _unusable(error) from None
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
        checked = [_checked(event, fields) for event, fields in events]
        with self._locked() as files:
            return files.append(checked, sync=self._durability is Durability.FILE)

    def checkpoint(self) -> str:
        """Sign what the log is now, and write that down in it.

        Returns
        -------
        str
            A checkpoint (C2SP tlog-checkpoint). Keep it elsewhere: on another host, in a mail, on paper.
        """
        signer = _Signer.parse(_text(f"{self.folder}/audit.key", private=True))
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
                raise _unusable(error) from None


_alive: WeakSet[AuditLog] = WeakSet()


def _after_fork() -> None:
    """Close the parent's files in a child: flock holds for both as one."""
    for log in _alive:
        if log._files is not None:
            log._files.close()
        log._files, log._mutex = None, threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def _unusable(error: OSError) -> VaultError:
    return VaultError(f"the audit log cannot be used: {error.strerror}")


def _checked(event: str, fields: Mapping[str, Value]) -> dict[str, Value]:
    """Refuse whatever is not on the closed list; the message repeats no value."""
    if event not in _EVENTS:
        raise PolicyError(f"no audit event has this name{did_you_mean(event, _EVENTS)}")
    # free text, which only the line written by create may hold
    problem = "a field for the first line alone" if "origin" in fields else _problem(event, fields)
    if problem:
        raise PolicyError(f"audit event {event}: {problem}")
    return {**fields, "event": event}


def _problem(event: str, fields: Mapping[str, object]) -> str:
    for name, value in fields.items():
        if name not in _FORMS:
            return "a field that is not on the list of fields"
        if not _has_form(_FORMS[name], value):
            return f"{name} does not have its form"
    actions = _EVENTS.get(event, ())
    if actions and fields.get("action") not in actions:
        return f"action must be one of {', '.join(actions)}"
    return "it has no action" if not actions and "action" in fields else ""


def _has_form(form: re.Pattern[str] | None, value: object) -> bool:
    if form is None:
        return type(value) is int and 0 <= value <= _LARGEST
    if type(value) is list:
        return all(isinstance(one, str) and form.fullmatch(one) for one in value)
    return isinstance(value, str) and form.fullmatch(value) is not None


# The chain and the tree


def _mac(key: bytes, before: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"line" + before + body, "sha256")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _next(key: bytes) -> bytes:
    return hmac.digest(key, b"next", "sha256")


class _Tree:
    """The roots of the full subtrees of a Merkle tree, largest first; RFC 6962 2.1."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size, self.peaks = size, list(peaks)

    def push(self, line: bytes) -> None:
        node, rest = sha256(b"\0" + line).digest(), self.size
        while rest & 1:
            node, rest = sha256(b"\1" + self.peaks.pop() + node).digest(), rest >> 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return sha256().digest()
        node = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            node = sha256(b"\1" + peak + node).digest()
        return node


class _Chain:
    """Where a log ends, and what its next line needs."""

    def __init__(self, key: bytes, mac: bytes = _ZERO, tree: _Tree | None = None, end: int = 0) -> None:
        self.key, self.mac, self.end = key, mac, end
        self._tree = tree or _Tree()
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
        mac = _mac(self.key, self.mac, body)
        line = b"%b\t%b\n" % (body, b64encode(mac))
        if len(line) > _LONGEST:
            raise PolicyError("an audit line must not be longer than 64 KiB; write several")
        self._advance(line, mac)
        return line

    def adopt(self, line: bytes) -> bool:
        """Take up a line from the file if it is the next one."""
        body, mac = _split(line)
        if mac is None or not line.endswith(b"\n") or not hmac.compare_digest(_mac(self.key, self.mac, body), mac):
            return False
        self._advance(line, mac)
        return True

    def _advance(self, line: bytes, mac: bytes) -> None:
        self._tree.push(line[:-1])
        self.key, self.mac, self.end = _next(self.key), mac, self.end + len(line)

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
                all(type(number) is int and 0 <= number <= _LARGEST for number in numbers)
                and {len(part) for part in (key, mac, *peaks)} == {32}
                and len(peaks) == numbers[0].bit_count()
                and (cut is None or not _problem(_RECOVER, cut))
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None
        if not sound:
            return None
        chain = cls(key, mac, _Tree(numbers[0], peaks), numbers[1])
        chain.serial, chain.slot, chain.cut = numbers[2], slot, cut
        return chain


def _split(line: bytes) -> tuple[bytes, bytes | None]:
    """Return the JSON and the MAC of a line, the latter ``None`` if it has none."""
    body, tab, text = line.removesuffix(b"\n").rpartition(b"\t")
    try:
        mac = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return body, None
    # the last character of base64 has bits that are not used: only one spelling is right
    return body, mac if tab and len(mac) == 32 and b64encode(mac) == text else None


# The files


class _Files:
    """The open files of a log; the caller holds the lock."""

    def __init__(self, folder: str) -> None:
        self._path = f"{folder}/audit.log"
        if not os.path.lexists(self._path):
            raise PolicyError("there is no audit log here; create one first")
        with contextlib.ExitStack() as stack:
            self.state = stack.enter_context(_opened(f"{folder}/audit.state", os.O_RDWR, private=True))
            self.log = stack.enter_context(_opened(self._path, os.O_RDWR | os.O_APPEND, private=True))
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
        cut: list[dict[str, Value]] = [{"event": _RECOVER, **chain.cut}] if chain.cut else []
        end, first, self._raw = chain.end, chain.size + len(cut), b""
        time = _now()
        lines = b"".join([chain.line(event, time) for event in [*cut, *events]])
        chain.cut = None
        try:
            _write(self.log, lines)
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
            while chain.adopt(line := file.readline(_LONGEST + 1)):
                pass
            rest = sha256(line)
            while piece := file.read(_LONGEST):
                rest.update(piece)
        if chain.end < size:
            # first written down, so that a kill after the cut does not hide it
            chain.cut = {"sha256": rest.hexdigest(), "size": size - chain.end}
            self._save(chain, sync=True)
            os.ftruncate(self.log, chain.end)


@contextlib.contextmanager
def _opened(path: str, flags: int, *, private: bool = False) -> Iterator[int]:
    """Open a file or folder and nothing else: no link, pipe or device; a private one must be."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode) and not flags & os.O_DIRECTORY:
            raise VaultError("the audit log cannot be used: not a regular file")
        if private and mode & 0o077:
            raise PolicyError("files of the audit log are open to others; set their mode to 600")
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _put(fd: int, data: bytes, slot: int) -> None:
    if os.pwrite(fd, data, slot * _SLOT) != _SLOT:
        raise OSError(5, "the state was written in part")


def _text(path: str, *, private: bool = False) -> str:
    """Return a small text file."""
    try:
        with _opened(path, os.O_RDONLY, private=private) as fd:
            return os.read(fd, _LONGEST).decode("ascii")
    except OSError as error:
        raise _unusable(error) from None
    except UnicodeDecodeError:
        raise VaultError("a key of the audit log is damaged") from None


def _begin(folder: str, fd: int, origin: str, first_key: bytes) -> None:
    """Write the files of a new log; the log itself comes last and says that all are there."""
    chain, signer = _Chain(first_key), _Signer(origin, Ed25519PrivateKey.generate())
    line = chain.line({"event": "start", "origin": origin}, _now())
    files = {
        "audit.key": f"{signer}\n".encode(),
        "audit.pub": f"{signer.public()}\n".encode(),
        "audit.state": chain.packed() + bytes(_SLOT),
        "audit.log": line,
    }
    for name, data in files.items():
        temporary = f"{folder}/.{name}-{secrets.token_hex(8)}"
        try:
            new = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(new, data)
                os.fsync(new)
            finally:
                os.close(new)
            os.rename(temporary, f"{folder}/{name}")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        os.fsync(fd)


# Checkpoints


def _key_id(name: str, public: bytes) -> bytes:
    """Return the key ID of C2SP signed-note."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _key_parts(text: str) -> tuple[str, bytes]:
    """Return name and 32 bytes of ``name+id+base64``; the id is the caller's to compare."""
    try:
        name, _, data = text.strip().split("+", 2)
        raw = b64decode(data, validate=True)
    except ValueError:
        raise VaultError("a key of the audit log is damaged") from None
    if len(raw) != 33 or raw[:1] != _ED25519 or not _ORIGIN.fullmatch(name):
        raise VaultError("a key of the audit log is damaged")
    return name, raw[1:]


class _Signer(NamedTuple):
    """The key that signs checkpoints, as a Go ``note.Signer`` writes it."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def parse(cls, text: str) -> _Signer:
        name, raw = _key_parts(text.removeprefix(_SIGNER))
        signer = cls(name, Ed25519PrivateKey.from_private_bytes(raw))
        if str(signer) != text.strip():
            raise VaultError("a key of the audit log is damaged")
        return signer

    def _spelled(self, raw: bytes) -> str:
        key_id = _key_id(self.name, self.key.public_key().public_bytes_raw())
        return f"{self.name}+{key_id.hex()}+{b64encode(_ED25519 + raw).decode()}"

    def __str__(self) -> str:
        return _SIGNER + self._spelled(self.key.private_bytes_raw())

    def __repr__(self) -> str:
        return f"_Signer({self.name!r})"

    def public(self) -> str:
        return self._spelled(self.key.public_key().public_bytes_raw())

    def sign(self, body: str) -> str:
        signature = _key_id(self.name, self.key.public_key().public_bytes_raw()) + self.key.sign(body.encode())
        return f"{body}\n— {self.name} {b64encode(signature).decode()}\n"


class _Verifier(NamedTuple):
    """The public key of a log."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> _Verifier:
        verifier = cls(*_key_parts(text))
        if text.strip().split("+", 2)[1] != _key_id(*verifier).hex():
            raise VaultError("a key of the audit log is damaged")
        return verifier

    def opened(self, note: str) -> tuple[int, bytes]:
        """Return size and root of a checkpoint that this key has signed; others may have signed it too."""
        body, gap, signatures = note.rpartition("\n\n")
        lines = body.split("\n")
        if len(note) > _LONGEST or not gap or len(lines) < 3 or not all(lines) or lines[0] != self.name:
            raise VaultError("not a checkpoint of this log")
        if not any([self._signed(body + "\n", line) for line in signatures.split("\n")[:100]]):
            raise VaultError("the signature of a checkpoint is wrong")
        try:
            size, root = lines[1], b64decode(lines[2], validate=True)
        except ValueError:
            raise VaultError("not a checkpoint of this log") from None
        if not re.fullmatch("0|[1-9][0-9]{0,14}", size, re.ASCII) or len(root) != 32:
            raise VaultError("not a checkpoint of this log")
        return int(size), root

    def _signed(self, body: str, line: str) -> bool:
        if not line.startswith(f"— {self.name} "):
            return False
        try:
            data = b64decode(line.rpartition(" ")[2], validate=True)
            if len(data) != 68 or data[:4] != _key_id(self.name, self.raw):
                return False
            Ed25519PublicKey.from_public_bytes(self.raw).verify(data[4:], body.encode())
        except (ValueError, InvalidSignature):
            return False
        return True


# Verification


class Wrong(Enum):
    """What verification finds."""

    EDITED = "the line is not what was written"
    DELETED = "lines are missing here"
    SWAPPED = "the line stood elsewhere"
    INSERTED = "the line was added afterwards"
    TORN = "the end is half a line, as a killed process leaves it; the next line written reports it"
    TRUNCATED = "the log is shorter than a checkpoint says"
    ROLLED_BACK = "the lines up to here are not those a checkpoint was signed for: set back or rewritten"
    CHECKPOINT = "a checkpoint is not one of this log, or its signature is wrong"


class Problem(NamedTuple):
    """Something wrong with a log.

    Attributes
    ----------
    wrong : Wrong
    line : int
        Line of the file, from 1; 0 for what concerns a checkpoint alone.
    number : int
        How many lines (bytes of a torn end), or the place of a checkpoint in the list given, from 1.
    """

    wrong: Wrong
    line: int
    number: int = 1

    def __str__(self) -> str:
        return f"line {self.line}: {self.wrong.value} ({self.number})"


@dataclass(frozen=True)
class Verdict:
    """What `verify` found.

    Attributes
    ----------
    lines : int
        Whole lines in the log.
    events : dict of str to int
        How many of each event.
    proven : int
        Lines whose MAC is right; 0 without the first key.
    covered : int
        Lines under the largest checkpoint that fits.
    root : str
        Root of the Merkle tree over all lines, in base64.
    problems : tuple of Problem
        The first 100, by line. MACs are followed no further than through 10,000 lines that do not fit.
    """

    lines: int
    events: dict[str, int]
    proven: int
    covered: int
    root: str
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify(
    log_path: str | os.PathLike[str],
    first_key: bytes | None,
    checkpoints: Iterable[str] = (),
    public_key: str | None = None,
) -> Verdict:
    """Verify a log as an auditor does, from the file alone.

    Parameters
    ----------
    log_path : path-like
        The log or a copy of it.
    first_key : bytes or None
        K_0. Without it only the order of the numbers and the checkpoints are verified: an edit after the last
        checkpoint is not seen.
    checkpoints : iterable of str
        Those kept elsewhere. Without any, a log that was set back as a whole is not noticed.
    public_key : str, optional
        `AuditLog.public_key`, kept elsewhere; needed for checkpoints.

    Raises
    ------
    VaultError
        If the log cannot be read or a key is none.
    """
    notes = list(checkpoints)
    if notes and public_key is None:
        raise PolicyError("checkpoints are verified with the public key of the log; give it too")
    if first_key is not None and len(first_key) != 32:
        raise VaultError("the first key of an audit log has 32 bytes")
    claims, problems = _claims(notes, _Verifier.parse(public_key) if public_key is not None else None)
    walk, marks, tree, events = _Walk(first_key), _Marks(claims), _Tree(), Counter[str]()
    with _reading(log_path) as file:
        marks.reached(tree)
        for line in iter(lambda: file.readline(_LONGEST), b""):
            if not line.endswith(b"\n"):
                more, ended = _skipped(file)
                if not ended:
                    problems.append(Problem(Wrong.TORN, tree.size + 1, len(line) + more))
                    break
            walk.feed(line)
            tree.push(line[:-1])
            marks.reached(tree)
            match = _EVENT.search(line)
            if match and (name := match[1].decode()) in (*_EVENTS, _RECOVER):
                events[name] += 1
    problems += walk.problems() + marks.problems(tree.size)
    return Verdict(
        tree.size,
        dict(events),
        walk.proven if first_key is not None else 0,
        marks.covered,
        b64encode(tree.root()).decode(),
        tuple(sorted(problems, key=lambda one: one.line)[:100]),
    )


@contextlib.contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    try:
        with _opened(os.fspath(path), os.O_RDONLY) as fd, open(fd, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise _unusable(error) from None


def _skipped(file: BinaryIO) -> tuple[int, bool]:
    """Read on to the end of a line that is longer than any; return the bytes, and whether it ends."""
    read = 0
    while piece := file.readline(_LONGEST):
        read += len(piece)
        if piece.endswith(b"\n"):
            return read, True
    return read, False


def _claims(notes: list[str], verifier: _Verifier | None) -> tuple[dict[int, list[tuple[int, bytes]]], list[Problem]]:
    """Return ``{size: [(place, root)]}`` of the checkpoints that are genuine, and those that are not."""
    claims: dict[int, list[tuple[int, bytes]]] = {}
    problems = []
    for place, note in enumerate(notes, 1):
        try:
            assert verifier is not None  # noqa: S101 - the caller has seen to it
            size, root = verifier.opened(note)
            claims.setdefault(size, []).append((place, root))
        except VaultError:
            problems.append(Problem(Wrong.CHECKPOINT, 0, place))
    return claims, problems


class _Marks:
    """Compares the tree with checkpoints on the way."""

    def __init__(self, claims: dict[int, list[tuple[int, bytes]]]) -> None:
        self._claims, self.covered = claims, 0
        self._found: list[Problem] = []

    def reached(self, tree: _Tree) -> None:
        for place, root in self._claims.get(tree.size, ()):
            if root == tree.root():
                self.covered = tree.size
            else:
                self._found.append(Problem(Wrong.ROLLED_BACK, tree.size, place))

    def problems(self, size: int) -> list[Problem]:
        beyond = [place for claimed, these in self._claims.items() if claimed > size for place, _ in these]
        return self._found + [Problem(Wrong.TRUNCATED, size + 1, place) for place in beyond]


class _Place(NamedTuple):
    """What the line with a number must fit."""

    number: int
    mac: bytes
    key: bytes | None

    def proves(self, number: int | None, body: bytes, mac: bytes | None) -> bool:
        if number != self.number or mac is None:
            return False
        return self.key is None or hmac.compare_digest(_mac(self.key, self.mac, body), mac)

    def after(self, number: int, mac: bytes) -> _Place:
        """Return the place behind a line that claims ``number``, not before this place."""
        key = self.key
        if key is not None:
            for _ in range(number + 1 - self.number):
                key = _next(key)
        return _Place(number + 1, mac, key)


class _Loose(NamedTuple):
    """A line that does not fit: where it stands, its number, whether its MAC was put to the test there."""

    line: int
    number: int | None
    tested: bool


class _Walk:
    """Follows the numbers and MACs of a log, and finds its way again behind what was changed.

    ``here`` is behind the last line that is proven. A line that does not fit there may have been changed, or may stand
    behind deleted ones; ``there`` is the place behind it if its number and MAC are believed. What comes next
    fits one or the other.
    """

    _FAR: Final = 1 << 20
    """How many keys are tried in all for numbers that were skipped."""
    _MANY: Final = 10_000

    def __init__(self, first_key: bytes | None) -> None:
        self._here = _Place(0, _ZERO, first_key)
        self._there: _Place | None = None
        self._loose: list[_Loose] = []
        self._stretches: list[tuple[range, list[_Loose]]] = []
        self._line = self.proven = self._count = 0
        self._left = self._FAR

    def feed(self, raw: bytes) -> None:
        self._line += 1
        if self._count > self._MANY:
            return
        match = _NUMBER.search(raw)
        number = int(match[1]) if match else None
        body, mac = _split(raw)
        if self._here.proves(number, body, mac):
            self._go_on(self._here, mac)
        elif self._there is not None and self._there.proves(number, body, mac):
            self._go_on(self._there, mac)
        else:
            self._set_aside(number, mac)

    def _go_on(self, place: _Place, mac: bytes | None) -> None:
        assert mac is not None  # noqa: S101 - it was just proven
        self.proven += 1
        if self._loose or place is not self._here:
            self._stretches.append((range(self._here.number, place.number), self._loose))
            self._loose = []
        self._here = place.after(place.number, mac)
        if self._there is not None and self._there.number <= self._here.number:
            self._there = None

    def _set_aside(self, number: int | None, mac: bytes | None) -> None:
        expected = {place.number for place in (self._here, self._there) if place is not None}
        self._count += 1
        self._loose.append(_Loose(self._line, number, number in expected))
        if number is None or mac is None or number < self._here.number:
            return
        near = self._there if self._there is not None and self._there.number <= number + 1 else self._here
        steps = number + 1 - near.number
        if steps > self._left:
            self._there = None
            return
        self._left -= steps
        self._there = near.after(number, mac)

    def problems(self) -> list[Problem]:
        """Say what became of each line that does not fit, and of each number that is missing."""
        stop = self._there.number if self._there is not None else self._here.number
        stretches = [*self._stretches, (range(self._here.number, stop), self._loose)]
        claimed = {one.number for _, loose in stretches for one in loose}
        missing = {number for numbers, _ in stretches for number in numbers}
        return [problem for numbers, loose in stretches for problem in _judged(numbers, loose, claimed, missing)]


def _judged(numbers: range, loose: list[_Loose], claimed: set[int | None], missing: set[int]) -> Iterator[Problem]:
    """Judge a stretch between two proven lines: the numbers that should be there, and the lines that are."""
    gone = sum(number not in claimed for number in numbers)
    for one in loose:
        if one.number in numbers:
            if one.tested:
                yield Problem(Wrong.EDITED, one.line)
        elif one.number in missing:
            yield Problem(Wrong.SWAPPED, one.line)
        elif gone:
            gone -= 1
            yield Problem(Wrong.EDITED, one.line)
        else:
            yield Problem(Wrong.INSERTED, one.line)
    if gone:
        line = loose[0].line if loose else 0
        yield Problem(Wrong.DELETED, line, gone)


# Reading


class Entry(NamedTuple):
    """One line of a log.

    Attributes
    ----------
    number : int
        From 0.
    time : str
        UTC, RFC 3339.
    event : str
        As given to `AuditLog.append`, or ``recover``: bytes after the last good line were cut off.
    fields : dict
    """

    number: int
    time: str
    event: str
    fields: dict[str, Value]


def entries(log_path: str | os.PathLike[str]) -> Iterator[Entry]:
    """Read a log without verifying it; half a line at the end is left out.

    Raises
    ------
    VaultError
        If a line holds anything that no log holds.
    """
    with _reading(log_path) as file:
        for at, line in enumerate(iter(lambda: file.readline(_LONGEST), b"")):
            if not line.endswith(b"\n"):
                if len(line) == _LONGEST:
                    raise VaultError(f"audit log, line {at + 1}: it is longer than any")
                return
            yield _entry(line, at + 1)


def _entry(line: bytes, at: int) -> Entry:
    try:
        fields: Any = json.loads(line.rpartition(b"\t")[0])
        number, time, event = (fields.pop(name) for name in ("n", "t", "event"))
        sound = (
            _has_form(_COUNT, number)
            and isinstance(time, str)
            and _TIME.fullmatch(time)
            and event in (*_EVENTS, _RECOVER)
            and not _problem(event, fields)
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        sound = None
    if not sound:
        raise VaultError(f"audit log, line {at}: no line of a log looks like this")
    return Entry(number, time, event, fields)

"""What a line of the audit log may hold, and how lines hang together.

The list of events, fields and forms is closed: pseudonyms, new UIDs, digests, reasons, counts. `audit` shows the bytes.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import stat
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Final

from ..errors import PolicyError, Reason, VaultError, did_you_mean

__all__ = ["Tree", "Value", "checked", "has_form", "mac_of", "next_key", "opened", "problem_of", "split", "unusable"]


Value = str | int | list[str]
"""What a field holds: a code, a count, or several codes."""

EVENTS: Final[dict[str, tuple[str, ...]]] = {
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
RECOVER: Final = "recover"
"""The log's own event: bytes after the last good line were cut off."""

_UID: Final = re.compile(r"(?=.{1,64}$)[0-2](?:\.(?:0|[1-9][0-9]*))+")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHORT: Final = re.compile(r"[0-9a-f]{32}")
_KEY_NAME: Final = re.compile("passphrase|[A-Za-z0-9_-]{43}")
"""What a key box names a recipient by."""
ORIGIN: Final = re.compile(r"[!-*,-~]{1,128}")
COUNT: Final = None
FORMS: Final[dict[str, re.Pattern[str] | None]] = {
    "action": re.compile("[a-z]+"),
    "bidx": _SHORT,
    "count": COUNT,
    "direction": re.compile("original|pseudonym"),
    "found": COUNT,
    "identity": _KEY_NAME,
    "instance": _UID,
    "kid": _SHORT,
    "kind": re.compile("patient|study|uid"),
    "number": COUNT,
    "origin": ORIGIN,
    # what a curated list of patients may hold
    "patient": re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,62}[!-\[\]-~])?"),
    "profile": _DIGEST,
    "reason": re.compile("|".join(Reason.__members__)),
    "recipient": _KEY_NAME,
    "root": _DIGEST,
    "series": _UID,
    "sha256": _DIGEST,
    "size": COUNT,
    "sop_class": _UID,
    "source": re.compile("sequence|crosswalk"),
    "study": _UID,
    "version": re.compile(r"[0-9]{1,4}(?:\.[0-9]{1,4}){1,2}(?:(?:a|b|rc|\.dev|\.post)[0-9]{1,4})?"),
}
"""All that a line may hold, and its form: pseudonyms, new UIDs, digests, reasons, counts."""

LONGEST: Final = 1 << 16
LARGEST: Final = (1 << 53) - 1
ZERO: Final = bytes(32)


def checked(event: str, fields: Mapping[str, Value]) -> dict[str, Value]:
    """Refuse whatever is not on the closed list; the message repeats no value."""
    if event not in EVENTS:
        raise PolicyError(f"no audit event has this name{did_you_mean(event, EVENTS)}")
    # free text, which only the line written by create may hold
    problem = "a field for the first line alone" if "origin" in fields else problem_of(event, fields)
    if problem:
        raise PolicyError(f"audit event {event}: {problem}")
    return {**fields, "event": event}


def problem_of(event: str, fields: Mapping[str, object]) -> str:
    """Say what is wrong with the fields of an event, if anything."""
    for name, value in fields.items():
        if name not in FORMS:
            return "a field that is not on the list of fields"
        if not has_form(FORMS[name], value):
            return f"{name} does not have its form"
    actions = EVENTS.get(event, ())
    if actions and fields.get("action") not in actions:
        return f"action must be one of {', '.join(actions)}"
    return "it has no action" if not actions and "action" in fields else ""


def has_form(form: re.Pattern[str] | None, value: object) -> bool:
    """Say whether a value, or each of a list of them, has a form of `FORMS`."""
    if form is None:
        return type(value) is int and 0 <= value <= LARGEST
    if type(value) is list:
        return all(isinstance(one, str) and form.fullmatch(one) for one in value)
    return isinstance(value, str) and form.fullmatch(value) is not None


# The chain and the tree


def mac_of(key: bytes, before: bytes, body: bytes) -> bytes:
    """Return the MAC of a line."""
    return hmac.digest(key, b"line" + before + body, "sha256")


def next_key(key: bytes) -> bytes:
    """Return the key of the line after."""
    return hmac.digest(key, b"next", "sha256")


class Tree:
    """The roots of the full subtrees of a Merkle tree, largest first; RFC 6962 2.1."""

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size, self.peaks = size, list(peaks)

    def push(self, line: bytes) -> None:
        """Add a leaf."""
        node, rest = sha256(b"\0" + line).digest(), self.size
        while rest & 1:
            node, rest = sha256(b"\1" + self.peaks.pop() + node).digest(), rest >> 1
        self.peaks.append(node)
        self.size += 1

    def root(self) -> bytes:
        """Return the root over all leaves."""
        if not self.peaks:
            return sha256().digest()
        node = self.peaks[-1]
        for peak in self.peaks[-2::-1]:
            node = sha256(b"\1" + peak + node).digest()
        return node


def split(line: bytes) -> tuple[bytes, bytes | None]:
    """Return the JSON and the MAC of a line, the latter ``None`` if it has none."""
    body, tab, text = line.removesuffix(b"\n").rpartition(b"\t")
    try:
        mac = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return body, None
    # the last character of base64 has bits that are not used: only one spelling is right
    return body, mac if tab and len(mac) == 32 and b64encode(mac) == text else None


# Files


@contextlib.contextmanager
def opened(path: str, flags: int, *, private: bool = False) -> Iterator[int]:
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


def unusable(error: OSError) -> VaultError:
    """Return what is raised when the system does not let a log be used."""
    return VaultError(f"the audit log cannot be used: {error.strerror}")

"""Checkpoints of the audit log: notes signed with Ed25519 (C2SP signed-note and tlog-checkpoint)."""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ..errors import VaultError
from .audit_lines import LONGEST, ORIGIN

__all__ = ["Signer", "Verifier"]

_ED25519: Final = b"\x01"
_SIGNER: Final = "PRIVATE+KEY+"


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
    if len(raw) != 33 or raw[:1] != _ED25519 or not ORIGIN.fullmatch(name):
        raise VaultError("a key of the audit log is damaged")
    return name, raw[1:]


class Signer(NamedTuple):
    """The key that signs checkpoints, as a Go ``note.Signer`` writes it."""

    name: str
    key: Ed25519PrivateKey

    @classmethod
    def parse(cls, text: str) -> Signer:
        """Read what ``str`` of a signer writes."""
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
        return f"Signer({self.name!r})"

    def public(self) -> str:
        """Return the public key, for `Verifier.parse`."""
        return self._spelled(self.key.public_key().public_bytes_raw())

    def sign(self, body: str) -> str:
        """Return a text with its signature."""
        signature = _key_id(self.name, self.key.public_key().public_bytes_raw()) + self.key.sign(body.encode())
        return f"{body}\n— {self.name} {b64encode(signature).decode()}\n"


class Verifier(NamedTuple):
    """The public key of a log."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """Read a public key of C2SP signed-note."""
        verifier = cls(*_key_parts(text))
        if text.strip().split("+", 2)[1] != _key_id(*verifier).hex():
            raise VaultError("a key of the audit log is damaged")
        return verifier

    def opened(self, note: str) -> tuple[int, bytes]:
        """Return size and root of a checkpoint that this key has signed; others may have signed it too."""
        body, gap, signatures = note.rpartition("\n\n")
        lines = body.split("\n")
        if len(note) > LONGEST or not gap or len(lines) < 3 or not all(lines) or lines[0] != self.name:
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

"""Key boxes: a data key, encrypted to everybody who may read what is sealed with it.

A box is a JWE in General JSON Serialization (RFC 7516 section 7.2.1) that holds one JWK (RFC 7517)::

    {"protected": b64u({"cty":"jwk+json","enc":"A256GCM"}),
     "recipients": [{"header": {"alg", "kid", ["x5t#S256"], ["epk"], ["p2s", "p2c"]}, "encrypted_key"}, ...],
     "iv", "ciphertext", "tag"}

    {"k": 32 bytes, "kid": 32 hex digits, "kty": "oct", "sub": pseudonym of the patient, "use": "enc"}

Every JOSE library opens it (RFC 7518: RSA-OAEP-256, ECDH-ES+A256KW, A256KW, PBES2-HS512+A256KW). `KeyBoxes` keeps
them in a folder, ``keys/<patient>/<kid>.jwe``; they alone change when keys change hands, never what is sealed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import unquote

from joserfc.errors import JoseError
from joserfc.jwa import JWE_ALG_MODELS, AESAlgKeyWrapping, GCMEncModel, PBES2HSAlgKeyEncryption
from joserfc.jwe import GeneralJSONEncryption, JWERegistry, decrypt_json, encrypt_json
from joserfc.registry import HeaderParameter

from ..encoding.source import Source
from ..errors import PolicyError, Quarantined, Reason, VaultError
from ..storage import Durability, Storage
from .files import sync_folder
from .keys import DataKey
from .recipients import Identity, Recipient, RemoteIdentity

__all__ = ["Box", "Change", "KeyBoxes", "KeySession", "open_box", "patient_folder", "rewrap", "seal_box"]

AnyIdentity = Identity | RemoteIdentity

_BOX_BYTES: Final = 1 << 20
_RECIPIENTS: Final = 64
_PASSPHRASES: Final = 4
_PATIENT_BYTES: Final = 1024
_ITERATIONS: Final = range(1000, 2_000_001)
_PROTECTED: Final = {"cty": "jwk+json", "enc": "A256GCM"}
_MEMBERS: Final = {"protected", "recipients", "iv", "ciphertext", "tag"}
_CLOSED: Final = "the key box does not open: none of the identities given is its recipient, or it is damaged"

# Crypto


class _Passphrase(PBES2HSAlgKeyEncryption):
    """PBES2-HS512+A256KW with as many iterations as are asked for today; joserfc stops at 300,000."""

    more_header_registry = {  # noqa: RUF012 - as in the base class
        **PBES2HSAlgKeyEncryption.more_header_registry,
        "p2c": HeaderParameter("PBES2 Count", "int", required=True),
    }


_ALGORITHMS: Final = {
    model.name: model
    for model in (*JWE_ALG_MODELS, _Passphrase(512, AESAlgKeyWrapping(256)))
    if model.name in ("RSA-OAEP-256", "ECDH-ES+A256KW", "A256KW", "PBES2-HS512+A256KW")
}


class _Content(GCMEncModel):
    """A256GCM that keeps the content key, so that recipients can be added to a box.

    It takes the protected header as additional data as it was received (RFC 7516 section 5.2 step 15); joserfc would
    write it anew, without the spaces that other libraries may have put there.
    """

    def __init__(self, cek: bytes = b"", received: str = "") -> None:
        super().__init__(256)
        self.cek, self._received = cek, received.encode()

    def generate_cek(self) -> bytes:
        self.cek = self.cek or super().generate_cek()
        return self.cek

    def decrypt(self, ciphertext: bytes, tag: bytes, cek: bytes, iv: bytes, aad: bytes) -> bytes:  # noqa: ARG002
        self.cek = cek
        return super().decrypt(ciphertext, tag, cek, iv, self._received)


class _Registry(JWERegistry):
    """Four algorithms, one content encryption and no compression: what else a header names does not exist."""

    max_encrypted_key_length = 2048

    def __init__(self, content: _Content) -> None:
        super().__init__(algorithms=[*_ALGORITHMS, content.name])
        self.algorithms = {"alg": _ALGORITHMS, "enc": {content.name: content}, "zip": {}}


def _encrypt(plaintext: bytes, recipients: Sequence[Recipient], content: _Content) -> dict[str, Any]:
    jwe = GeneralJSONEncryption(dict(_PROTECTED), plaintext)
    for recipient in recipients:
        jwe.add_recipient(recipient.header(), recipient.key)
    return dict(encrypt_json(jwe, None, registry=_Registry(content)))


def _decrypt(jwe: dict[str, Any], recipient: dict[str, Any], identity: AnyIdentity, content: _Content) -> bytes:
    """Open a box as one of its recipients.

    Raises
    ------
    VaultError, JoseError, ValueError
        If it does not open, for whatever reason.
    """
    if isinstance(identity, RemoteIdentity):
        cek = _unwrapped(identity, _unb64(recipient["encrypted_key"]))
        iv, ciphertext, tag = (_unb64(jwe[name]) for name in ("iv", "ciphertext", "tag"))
        return content.decrypt(ciphertext, tag, cek, iv, b"")
    one: Any = {**jwe, "recipients": [recipient]}
    return decrypt_json(one, identity.key, registry=_Registry(content)).plaintext or b""


def _unwrapped(identity: RemoteIdentity, encrypted_key: bytes) -> bytes:
    try:
        cek = identity.unwrap(identity.kid, encrypted_key)
    except Exception as error:
        # a network, a smart card, somebody's library: it may say no in any way, and its own words may hold secrets
        raise VaultError(f"the key box does not open: the key service said {type(error).__name__}") from error
    if not isinstance(cek, bytes) or len(cek) != 32:
        raise VaultError(_CLOSED)
    return cek


# Reading what may be hostile


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: object) -> bytes:
    """Decode base64url without padding; there is one spelling of every value (RFC 7515 section 2)."""
    _insist(isinstance(text, str) and text.isascii())
    data = base64.b64decode(str(text) + "=" * (-len(str(text)) % 4), altchars=b"-_", validate=True)
    _insist(_b64(data) == text)
    return data


def _insist(true: object) -> None:
    if not true:
        raise ValueError


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    _insist(len(found) == len(pairs))
    return found


def _json(data: bytes) -> dict[str, Any]:
    """Read a JSON object in UTF-8 in which no name comes twice (RFC 7516 section 4)."""
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError from None
    _insist(isinstance(found, dict))
    return dict(found)


def _box(data: bytes) -> dict[str, Any]:
    """Check the form of a box, before any cryptography and before anybody is asked for a key.

    Raises
    ------
    ValueError
        If it has another form than the one above, or asks for too much work.
    """
    _insist(len(data) <= _BOX_BYTES)
    box = _json(data)
    _insist(box.keys() == _MEMBERS and _json(_unb64(box["protected"])) == _PROTECTED)
    _insist(len(_unb64(box["iv"])) == 12 and len(_unb64(box["tag"])) == 16 and _unb64(box["ciphertext"]))
    recipients = box["recipients"]
    _insist(isinstance(recipients, list) and 1 <= len(recipients) <= _RECIPIENTS)
    for recipient in recipients:
        _insist(isinstance(recipient, dict) and recipient.keys() == {"header", "encrypted_key"})
        _check_recipient(recipient["header"], len(_unb64(recipient["encrypted_key"])))
    _insist(sum("p2c" in recipient["header"] for recipient in recipients) <= _PASSPHRASES)
    return box


def _check_recipient(header: dict[str, Any], encrypted_key: int) -> None:
    _insist(isinstance(header, dict) and isinstance(header.get("kid"), str) and len(header["kid"]) <= 256)
    alg = header.get("alg")
    _insist(isinstance(alg, str) and alg in _HEADERS)
    members, lengths, check = _HEADERS[str(alg)]
    _insist(header.keys() - {"x5t#S256"} == {"alg", "kid", *members} and encrypted_key in lengths)
    _insist("x5t#S256" not in header or len(_unb64(header["x5t#S256"])) == 32)
    check(header)


def _check_ephemeral(header: dict[str, Any]) -> None:
    key = header["epk"]
    _insist(isinstance(key, dict) and key.keys() == {"kty", "crv", "x", "y"} and key["kty"] == "EC")
    length = {"P-256": 32, "P-384": 48, "P-521": 66}.get(str(key["crv"]))
    _insist(len(_unb64(key["x"])) == len(_unb64(key["y"])) == length)


def _check_work(header: dict[str, Any]) -> None:
    # True is an int, and 1000.0 == 1000
    _insist(type(header["p2c"]) is int and header["p2c"] in _ITERATIONS)
    _insist(8 <= len(_unb64(header["p2s"])) <= 64)


def _nothing(_: dict[str, Any]) -> None:
    """Nothing more to check."""


_Rule = tuple[tuple[str, ...], range, Callable[[dict[str, Any]], None]]
_HEADERS: Final[dict[str, _Rule]] = {
    "RSA-OAEP-256": ((), range(256, 1025), _nothing),
    "ECDH-ES+A256KW": (("epk",), range(40, 41), _check_ephemeral),
    "A256KW": ((), range(40, 41), _nothing),
    "PBES2-HS512+A256KW": (("p2s", "p2c"), range(40, 41), _check_work),
}
"""Of each algorithm: header members, lengths of the encrypted key, and what else must hold."""


def _data_key(jwk: bytes) -> DataKey:
    key = _json(jwk)
    secret, kid, patient = _unb64(key.get("k")), bytes.fromhex(str(key.get("kid"))), key.get("sub")
    _insist(key.get("kty") == "oct" and len(secret) == 32 and len(kid) == 16 and kid.hex() == key["kid"])
    _insist(isinstance(patient, str) and 0 < len(patient.encode()) <= _PATIENT_BYTES)
    return DataKey(kid, secret, str(patient))


def _open(data: bytes, identities: Sequence[AnyIdentity]) -> tuple[dict[str, Any], DataKey, bytes]:
    """Open a box; returns its form, the data key, and the content key."""
    cause: BaseException | None = None
    try:
        box = _box(data)
    except (ValueError, JoseError):
        raise VaultError(_CLOSED) from None
    for identity in identities:
        for recipient in box["recipients"]:
            if (recipient["header"]["alg"], recipient["header"]["kid"]) == (identity.alg, identity.kid):
                content = _Content(received=box["protected"])
                try:
                    return box, _data_key(_decrypt(box, recipient, identity, content)), content.cek
                except VaultError as error:
                    cause = error
                except (ValueError, JoseError):
                    continue
    raise cause or VaultError(_CLOSED)


# Boxes


def seal_box(key: DataKey, recipients: Sequence[Recipient]) -> bytes:
    """Encrypt a data key to its recipients.

    Raises
    ------
    PolicyError
        If there is no recipient, there are more than 64, or more than 4 passphrases.
    """
    return _bytes(_encrypt(_jwk(key), _allowed(recipients), _Content()))


def open_box(
    data: bytes, identities: Sequence[AnyIdentity], *, kid: bytes | None = None, patient: str | None = None
) -> DataKey:
    """Decrypt a data key.

    Parameters
    ----------
    data : bytes
    identities : sequence of Identity or RemoteIdentity
        Tried in turn; one that fits is enough.
    kid, patient : optional
        Whose key it must be: a box in another one's place does not open.

    Raises
    ------
    VaultError
        If it does not open. A wrong key, damage and a box in the wrong place give the same message.
    """
    key = _open(data, identities)[1]
    if (kid is not None and kid != key.kid) or (patient is not None and patient != key.patient):
        raise VaultError(_CLOSED)
    return key


def rewrap(data: bytes, identities: Sequence[AnyIdentity], recipients: Sequence[Recipient]) -> bytes:
    """Return a box with the same data key for these recipients and nobody else.

    Raises
    ------
    VaultError
        If the old one does not open.
    PolicyError
        As `seal_box`.
    """
    return seal_box(open_box(data, identities), recipients)


def _jwk(key: DataKey) -> bytes:
    _utf8(key.patient)
    return _bytes({"k": _b64(key.secret), "kid": key.kid.hex(), "kty": "oct", "sub": key.patient, "use": "enc"})


def _bytes(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def _utf8(patient: str) -> bytes:
    try:
        data = patient.encode()
    except UnicodeEncodeError:
        raise PolicyError("a pseudonym is no valid text") from None
    if not 0 < len(data) <= _PATIENT_BYTES:
        raise PolicyError(f"a pseudonym needs 1 to {_PATIENT_BYTES} bytes")
    return data


def _allowed(recipients: Sequence[Recipient]) -> Sequence[Recipient]:
    if not 1 <= len(recipients) <= _RECIPIENTS:
        raise PolicyError(f"a key box needs 1 to {_RECIPIENTS} recipients")
    if sum("p2c" in recipient.header() for recipient in recipients) > _PASSPHRASES:
        raise PolicyError(f"a key box takes {_PASSPHRASES} passphrases at most; use certificates or key files")
    return recipients


def _with(
    data: bytes,
    identities: Sequence[AnyIdentity],
    recipients: Sequence[Recipient],
    gone: Collection[tuple[str, str]] = (),
) -> tuple[DataKey, bytes]:
    """Return the key in a box, and the box with more recipients, and without some, given by algorithm and name.

    The content key stays, since nobody here could wrap a new one for the old recipients; the initialization
    vector is new.
    """
    box, key, cek = _open(data, identities)
    more = _encrypt(_jwk(key), _allowed(recipients), _Content(cek))
    # a passphrase has no name by which it could be told from another one
    again = {(one.alg, one.kid) for one in recipients if one.kid != "passphrase"} | set(gone)
    kept = [one for one in box["recipients"] if (one["header"]["alg"], one["header"]["kid"]) not in again]
    more["recipients"] = kept + more["recipients"]
    result = _bytes(more)
    try:
        _box(result)
    except ValueError:
        raise PolicyError(f"a key box takes {_RECIPIENTS} recipients and {_PASSPHRASES} passphrases") from None
    return key, result


# On disk


class Box(NamedTuple):
    """A key box, as anybody can read it who has no key.

    Attributes
    ----------
    patient : str
        Pseudonym.
    kid : bytes
        Which data key is inside.
    recipients : tuple of (alg, kid)
        Who can open it; empty if the box is damaged. Only an identity can prove it.
    """

    patient: str
    kid: bytes
    recipients: tuple[tuple[str, str], ...]


class Change(NamedTuple):
    """What became of one box.

    Attributes
    ----------
    patient : str
        Pseudonym.
    kid : bytes
        Which data key is inside.
    done : bool
        Whether the box now has the recipients asked for. If not, it did not open and is as it was.
    """

    patient: str
    kid: bytes
    done: bool


_Rewrap = Callable[[bytes], tuple[DataKey, bytes]]


class KeyBoxes:
    """A folder of key boxes.

    Parameters
    ----------
    folder : path-like
        ``keys/``: folders of patients (`patient_folder`), mode 0700, with boxes, mode 0600.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(os.path.abspath(folder))

    def writer(self, recipients: Sequence[Recipient]) -> KeySession:
        """Begin a writer session: new data keys for these recipients, which stay in memory.

        Raises
        ------
        PolicyError
            If the folder cannot be made, or as `seal_box`.
        """
        _allowed(recipients)
        try:
            _make_folders(self.folder)
            sync_folder(self.folder.parent)
        except OSError as error:
            raise PolicyError(f"the folder of keys cannot be used: {error.strerror}") from None
        return KeySession(self.folder, recipients)

    def open(self, patient: str, kid: bytes, identities: Sequence[AnyIdentity]) -> DataKey:
        """Open the box of a data key.

        Raises
        ------
        VaultError
            If there is none, as after `shred`, or it does not open.
        """
        data = _read(self.folder / patient_folder(patient) / f"{kid.hex()}.jwe")
        return open_box(data, identities, kid=kid, patient=patient)

    def list(self) -> Iterator[Box]:
        """Yield all boxes by patient, without opening any.

        Raises
        ------
        PolicyError
            If the folder cannot be read.
        """
        for path, patient, kid in self._paths():
            try:
                headers = [recipient["header"] for recipient in _box(_read(path))["recipients"]]
            except (ValueError, VaultError):
                headers = []
            yield Box(patient, kid, tuple((header["alg"], header["kid"]) for header in headers))

    def patients(self) -> dict[bytes, str]:
        """Return whose each data key is, from the names of the boxes alone.

        Raises
        ------
        PolicyError
            If the folder cannot be read.
        """
        return {kid: patient for _, patient, kid in self._paths()}

    def add(self, identities: Sequence[AnyIdentity], recipients: Sequence[Recipient]) -> Iterator[Change]:
        """Let more recipients open every box; those it has stay.

        Yields
        ------
        Change
            For each box, once its new form is on the disk.

        Raises
        ------
        PolicyError
            If another process changes these boxes just now, or as `seal_box`.
        Quarantined
            DISK if the disk is full: the boxes that remain are as they were.
        """
        return self._change(lambda data: _with(data, identities, recipients), recipients)

    def rotate(self, identities: Sequence[AnyIdentity], recipients: Sequence[Recipient]) -> Iterator[Change]:
        """Seal every box anew to these recipients and nobody else; what they protect is not touched.

        A box that is for these recipients already, as after an interrupted run, counts as done.
        Yields and raises as `add`.
        """

        def rewrapped(data: bytes) -> tuple[DataKey, bytes]:
            key = open_box(data, identities)
            return key, seal_box(key, recipients)

        return self._change(rewrapped, recipients)

    def kids(self, patient: str) -> tuple[bytes, ...]:
        """Return the names of a patient's data keys.

        Raises
        ------
        PolicyError
            If the folder cannot be read.
        """
        try:
            names = sorted(path.name for path in (self.folder / patient_folder(patient)).iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            _refuse(error)
        return tuple(bytes.fromhex(match[1]) for match in map(_NAME.fullmatch, names) if match)

    def shred(self, patient: str) -> int:
        """Delete the boxes of a patient; returns how many there were.

        What was sealed for the patient cannot be opened from this folder any more. Copies of the boxes, as in
        backups, still open, and so may what a disk keeps of deleted files: see the documentation.

        Raises
        ------
        PolicyError
            If it cannot be deleted, or another process changes these boxes just now.
        """
        folder = self.folder / patient_folder(patient)
        with self._locked():
            try:
                paths = list(folder.iterdir())
                for path in paths:
                    path.unlink()
                sync_folder(folder)
                _remove_folders(folder, self.folder)
            except FileNotFoundError:
                return 0
            except OSError as error:
                raise PolicyError(f"the boxes of the patient cannot be deleted: {error.strerror}") from None
        return sum(_NAME.fullmatch(path.name) is not None for path in paths)

    def pass_on(
        self, path: Path, identities: Sequence[AnyIdentity], recipients: Sequence[Recipient], *, replace: bool
    ) -> bytes | None:
        """Let recipients open a box of this folder that is no patient's; other recipients that it has stay.

        Parameters
        ----------
        path : Path
        identities : sequence of Identity or RemoteIdentity
        recipients : sequence of Recipient
        replace : bool
            In the place of the identities, which do not open it any more; one passphrase is not told from another.

        Returns
        -------
        bytes or None
            Which key is inside; None if the identities do not open it, which is as it was then.

        Raises
        ------
        PolicyError, Quarantined
            As `add`.
        """
        gone = {(one.alg, one.kid) for one in identities if replace}
        with self._locked(), Storage(self.folder, Durability.FILE, mode=0o600) as storage:
            try:
                key, box = _with(_read(path), identities, recipients, gone)
            except VaultError:
                return None
            _replace(storage, path, box)
        return key.kid

    def _change(self, rewrapped: _Rewrap, recipients: Sequence[Recipient]) -> Iterator[Change]:
        wanted = {(one.alg, one.kid) for one in _allowed(recipients)}
        with self._locked(), Storage(self.folder, Durability.FILE, mode=0o600) as storage:
            for path, patient, kid in self._paths():
                try:
                    data = _read(path)
                    key, box = rewrapped(data)
                    done = (key.patient, key.kid) == (patient, kid)
                except VaultError:
                    yield Change(patient, kid, _is_for(data, wanted))
                    continue
                if done:
                    _replace(storage, path, box)
                yield Change(patient, kid, done)

    def _paths(self) -> Iterator[tuple[Path, str, bytes]]:
        """Yield path, patient and key id of all boxes."""
        for folder, folders, names in os.walk(self.folder, onerror=_refuse):
            folders.sort()
            patient = _patient(os.path.relpath(folder, self.folder))
            for match in filter(None, map(_NAME.fullmatch, sorted(names) if patient else ())):
                yield Path(folder, match[0]), patient, bytes.fromhex(match[1])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from changing boxes; writers of new ones are not in the way."""
        try:
            fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            _refuse(error)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise PolicyError("another process changes these keys just now: wait until it has ended") from None
        finally:
            os.close(fd)


class KeySession:
    """The data keys of one writer, from `KeyBoxes.writer`: one for each patient, held in memory only.

    A writer that is started again begins a new session: it cannot read what it wrote. Threads may share a session,
    processes may not: each has its own.
    """

    def __init__(self, folder: Path, recipients: Sequence[Recipient]) -> None:
        self._folder, self._recipients = folder, tuple(recipients)
        self._keys: dict[str, DataKey] = {}
        self._lock = threading.Lock()
        self._storage = Storage(folder, Durability.FILE, mode=0o600)
        self._storage.remove_leftovers()

    def key(self, patient: str) -> DataKey:
        """Return the data key of a patient, whose box is on the disk by then.

        Raises
        ------
        PolicyError
            If the pseudonym is empty, over 1024 bytes, or no valid text.
        Quarantined
            DISK if the box cannot be written.
        """
        with self._lock:
            if patient not in self._keys:
                key = DataKey(secrets.token_bytes(16), secrets.token_bytes(32), patient)
                self._write(f"{patient_folder(patient)}/{key.kid.hex()}.jwe", seal_box(key, self._recipients))
                self._keys[patient] = key
            return self._keys[patient]

    def close(self) -> None:
        """Forget the keys."""
        with self._lock:
            self._keys.clear()
            self._storage.close()

    def __enter__(self) -> KeySession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, name: str, box: bytes) -> None:
        with _disk():
            folder = (self._folder / name).parent
            _make_folders(folder)
            self._storage.write(name, Source.of(b""), [box])
            # another writer may have made the folders, and may not have come to this yet
            while folder != self._folder.parent:
                sync_folder(folder)
                folder = folder.parent


_NAME: Final = re.compile(r"([0-9a-f]{32})\.jwe")
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_SEGMENT: Final = 240


def patient_folder(patient: str) -> str:
    """Return the folder of a patient: upper case letters, digits, ``-`` and ``_`` of the pseudonym, all else ``%XX``.

    Two pseudonyms never share a folder, also where the file system knows no case, and none leaves the folder it is
    in. `urllib.parse.unquote` reads it back. What is too long for a file name goes on in a folder below, after ``%``.

    Raises
    ------
    PolicyError
        If the pseudonym is empty, over 1024 bytes, or no valid text.
    """
    name = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in _utf8(patient))
    return "%/".join(name[at : at + _SEGMENT] for at in range(0, len(name), _SEGMENT))


def _patient(folder: str) -> str:
    """Return whose folder this is, or nothing if it is nobody's."""
    try:
        patient = unquote(folder.replace("%/", ""), errors="strict")
        return patient if patient_folder(patient) == folder else ""
    except (UnicodeDecodeError, PolicyError):
        return ""


def _is_for(data: bytes, recipients: set[tuple[str, str]]) -> bool:
    """Say whether a box names these recipients. One passphrase is not told from another, so it never does then."""
    try:
        headers = [recipient["header"] for recipient in _box(data)["recipients"]]
    except ValueError:
        return False
    return recipients == {(one["alg"], one["kid"]) for one in headers} and not any("p2c" in one for one in headers)


def _read(path: Path) -> bytes:
    """Return the content of a box file, if it is one and has the size of one.

    Raises
    ------
    VaultError
        If there is none, or it cannot be read.
    """
    try:
        # a pipe would keep us waiting for its writer
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return file.read(_BOX_BYTES + 1) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except FileNotFoundError:
        raise VaultError("there is no key box: the patient was shredded, or this is another folder of keys") from None
    except OSError as error:
        raise VaultError(f"a key box cannot be read: {error.strerror}") from None


def _replace(storage: Storage, path: Path, box: bytes) -> None:
    """Put a box in the place of an older one, so that one of the two is there whole at any moment."""
    new = path.with_suffix(".new")
    with _disk():
        # of a process that was killed: the lock says that no other is here
        new.unlink(missing_ok=True)
        storage.write(str(new.relative_to(storage.folder)), Source.of(b""), [box])
        new.replace(path)
        sync_folder(path.parent)


def _make_folders(path: Path) -> None:
    """Make a folder of mode 0700 and those above it; only new names are forced to the disk here."""
    if not path.is_dir():
        _make_folders(path.parent)
        path.mkdir(0o700, exist_ok=True)
        sync_folder(path.parent)


def _remove_folders(folder: Path, root: Path) -> None:
    """Remove a folder and those above it that are empty then."""
    # not empty: a writer is putting a new box there, or another patient's folder is below
    with contextlib.suppress(OSError):
        while folder != root:
            folder.rmdir()
            folder = folder.parent
            sync_folder(folder)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Quarantined(Reason.DISK, f"a key box cannot be written: {error.strerror}") from None


def _refuse(error: OSError) -> NoReturn:
    raise PolicyError(f"the folder of keys cannot be used: {error.strerror}") from None

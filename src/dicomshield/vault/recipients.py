"""Who a key box is for and who opens it: certificates, public and private keys, key files, passphrases, key services.

A `Recipient` is the public side and can only seal; an `Identity` opens. Both carry the ``alg`` of RFC 7518 section 4
that the wrapped key has in the box, and the ``kid`` by which an identity finds its place there:

===================  ====================  =============================================
named by             alg                   kid
===================  ====================  =============================================
RSA key              RSA-OAEP-256          SHA-256 of the SubjectPublicKeyInfo, base64url
EC key               ECDH-ES+A256KW        the same
key file             A256KW                JWK thumbprint (RFC 7638), base64url
passphrase           PBES2-HS512+A256KW    ``passphrase``
===================  ====================  =============================================
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import re
import secrets
import stat
import unicodedata
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from joserfc.jwk import ECKey, OctKey, RSAKey

from ..errors import PolicyError
from .files import whole_file, write_all

__all__ = ["Identity", "Recipient", "RemoteIdentity", "identity_from", "new_key_file", "recipient_from"]

_RSA, _EC, _KEY_FILE, _PASSPHRASE = "RSA-OAEP-256", "ECDH-ES+A256KW", "A256KW", "PBES2-HS512+A256KW"
_CURVES: Final = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS: Final = range(2048, 8193)
_RSA_ADVISED: Final = 3072
_ITERATIONS: Final = 600_000
_SHORTEST: Final = 12
_KEY_TEXT: Final = re.compile(rb"([A-Za-z0-9_-]{43})=?")
_KEY_BYTES: Final = 32
_FILE_BYTES: Final = 1 << 16

Ask = Callable[[str], str]
"""Puts a question to the user and returns a secret that is not shown."""


class _Named:
    """What recipients and identities have in common: the algorithm, the name in a box, and a key."""

    def __init__(self, alg: str, kid: str, material: bytes) -> None:
        self.alg, self.kid, self._material = alg, kid, material

    @classmethod
    def secret(cls, key: bytes) -> Self:
        """Make one of the 32 bytes of a key file."""
        if len(key) != _KEY_BYTES:
            raise PolicyError(f"a key file holds {_KEY_BYTES} bytes")
        return cls(_KEY_FILE, OctKey(key, key).thumbprint(), key)

    @cached_property
    def key(self) -> ECKey | OctKey | RSAKey:
        """The key, as joserfc takes it."""
        if self.alg not in (_RSA, _EC):
            return OctKey(self._material, self._material)
        key = self._loaded()
        if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
            return ECKey(key, key)
        assert isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey)  # noqa: S101 - nothing else comes this far
        return RSAKey(key, key)

    def _loaded(self) -> object:
        return serialization.load_der_public_key(self._material)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.alg}, {self.kid})"

    def __getstate__(self) -> dict[str, object]:
        # the keys of cryptography cannot be sent to another process; they are read again there
        return {name: value for name, value in self.__dict__.items() if name != "key"}


class Recipient(_Named):
    """The public side: somebody who will be able to open what is sealed now.

    Attributes
    ----------
    alg, kid : str
        How the key is wrapped, and for whom.
    notes : tuple of str
        What a user should know: a short key, an expired certificate. Nothing is refused for it.
    """

    def __init__(self, alg: str, kid: str, material: bytes, x5t: str = "", notes: tuple[str, ...] = ()) -> None:
        super().__init__(alg, kid, material)
        self._x5t, self.notes = x5t, notes

    @classmethod
    def public(cls, source: object) -> Recipient:
        """Make one of a public key or certificate of ``cryptography``.

        Raises
        ------
        PolicyError
            If it is no RSA key of 2048 to 8192 bits and no EC key on P-256, P-384 or P-521.
        """
        if not isinstance(source, x509.Certificate):
            alg, spki = _public(source)
            return cls(alg, _digest(spki), spki, notes=_key_notes(source))
        key = source.public_key()
        alg, spki = _public(key)
        x5t = _b64(source.fingerprint(hashes.SHA256()))
        return cls(alg, _digest(spki), spki, x5t, _key_notes(key) + _certificate_notes(source, alg))

    @classmethod
    def passphrase(cls, text: str) -> Recipient:
        """Make one of a passphrase.

        Raises
        ------
        PolicyError
            If it has fewer than 12 characters: whoever holds a box can try passphrases as long as he likes.
        """
        if len(text) < _SHORTEST:
            raise PolicyError(f"a passphrase needs {_SHORTEST} characters or more; a key file needs none")
        return cls(_PASSPHRASE, "passphrase", _normal(text))

    def header(self) -> dict[str, Any]:
        """Return the header of this recipient in a new box (RFC 7516 section 7.2.1)."""
        header: dict[str, Any] = {"alg": self.alg, "kid": self.kid}
        if self._x5t:
            header["x5t#S256"] = self._x5t
        if self.alg == _PASSPHRASE:
            header["p2c"] = _ITERATIONS
        return header


class Identity(_Named):
    """The private side: opens the boxes that were sealed to its `Recipient`."""

    @classmethod
    def private(cls, key: object) -> Identity:
        """Make one of a private key of ``cryptography``.

        Raises
        ------
        PolicyError
            If it is no RSA key of 2048 to 8192 bits and no EC key on P-256, P-384 or P-521.
        """
        if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise PolicyError(_WRONG_KEY)
        alg, spki = _public(key.public_key())
        der, pkcs8 = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
        return cls(alg, _digest(spki), key.private_bytes(der, pkcs8, serialization.NoEncryption()))

    @classmethod
    def passphrase(cls, text: str) -> Identity:
        """Make one of a passphrase."""
        return cls(_PASSPHRASE, "passphrase", _normal(text))

    def _loaded(self) -> object:
        return serialization.load_der_private_key(self._material, None)


class RemoteIdentity:
    """A private RSA key that stays in a key service or hardware module, which unwraps for us.

    Parameters
    ----------
    kid : str
        `Recipient.kid` of its public key: ``recipient_from("service.pem").kid``.
    unwrap : callable
        Gets the kid and the encrypted key, and returns what RSA-OAEP with SHA-256 for hash and mask
        (RFC 8017 section 7.1) and no label decrypts it to. May raise whatever it likes.
    """

    alg: Final = _RSA

    def __init__(self, kid: str, unwrap: Callable[[str, bytes], bytes]) -> None:
        self.kid, self.unwrap = kid, unwrap


# What a user names


def recipient_from(text: str, ask: Ask | None = None) -> Recipient:
    """Read what a user names as a recipient.

    Parameters
    ----------
    text : str
        Path of a certificate, public key (PEM or DER) or key file, which its content tells apart;
        ``passphrase:`` to be asked, ``passphrase-file:PATH``, or ``passphrase-fd:NUMBER``.
    ask : callable, optional
        How to ask for a passphrase; by default at the terminal.

    Raises
    ------
    PolicyError
        If it cannot be read, is a private key, or is open to others and should not be.
    """
    phrase = _passphrase(text, ask or _at_terminal, again=True)
    if phrase is not None:
        return Recipient.passphrase(phrase)
    data, private = _read(text)
    secret = _key_file(data, private)
    if secret is not None:
        return Recipient.secret(secret)
    if b"PRIVATE KEY-----" in data or _parsed(_private, data):
        raise PolicyError("this is a private key: seal to its public part, which `openssl pkey -pubout` writes")
    public = _parsed(_certificate, data) or _parsed(_public_key, data)
    if public is None:
        raise PolicyError("the recipient is no certificate, public key or key file")
    return Recipient.public(public)


def identity_from(text: str, ask: Ask | None = None) -> Identity:
    """Read what a user names as an identity.

    Parameters
    ----------
    text : str
        Path of a private key (PEM or DER, also encrypted) or key file, which its content tells apart;
        ``passphrase:`` to be asked, ``passphrase-file:PATH``, or ``passphrase-fd:NUMBER``.
    ask : callable, optional
        How to ask for a passphrase; by default at the terminal.

    Raises
    ------
    PolicyError
        If it cannot be read, is a certificate or public key, or is open to others.
    """
    phrase = _passphrase(text, ask or _at_terminal)
    if phrase is not None:
        return Identity.passphrase(phrase)
    data, private = _read(text)
    secret = _key_file(data, private)
    if secret is not None:
        return Identity.secret(secret)
    key = _private_key(data, ask or _at_terminal)
    if key is None:
        if _parsed(_certificate, data) or _parsed(_public_key, data):
            raise PolicyError("a certificate or public key can only seal: name the private key that belongs to it")
        raise PolicyError("the identity is no private key or key file")
    _insist(private)
    return Identity.private(key)


def new_key_file(path: str | os.PathLike[str]) -> None:
    """Write a key file: 32 random bytes as base64url, mode 0600, on the disk before this returns.

    Raises
    ------
    PolicyError
        If there is a file already, or it cannot be written.
    """
    text = _b64(secrets.token_bytes(_KEY_BYTES)) + "\n"
    try:
        with whole_file(path, replace=False) as fd:
            write_all(fd, text.encode())
    except OSError as error:
        raise PolicyError(f"the key file cannot be written: {error.strerror}") from None


_WRONG_KEY: Final = "the key cannot be used: RSA of 2048 to 8192 bits, or EC on P-256, P-384 or P-521, is needed"
_OPEN: Final = "others can read this secret: run chmod 600 on its file"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _digest(data: bytes) -> str:
    return _b64(hashlib.sha256(data).digest())


def _normal(text: str) -> bytes:
    """Encode a passphrase in one way only, whichever keyboard it came from (RFC 8265 section 4.2.2)."""
    try:
        return unicodedata.normalize("NFC", text).encode()
    except UnicodeEncodeError:
        raise PolicyError("the passphrase is no valid text") from None


def _public(key: object) -> tuple[str, bytes]:
    """Return the algorithm for a public key, and its SubjectPublicKeyInfo."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size in _RSA_BITS:
        alg = _RSA
    elif isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        alg = _EC
    else:
        raise PolicyError(_WRONG_KEY)
    return alg, key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _key_notes(key: object) -> tuple[str, ...]:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_ADVISED:
        return (f"the RSA key has {key.key_size} bits; {_RSA_ADVISED} or more are advised (SP 800-57)",)
    return ()


def _certificate_notes(certificate: x509.Certificate, alg: str) -> tuple[str, ...]:
    notes = []
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        notes.append("the certificate has expired or is not valid yet")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return tuple(notes)
    except ValueError:
        raise PolicyError("the certificate is damaged") from None
    if not (usage.key_encipherment if alg == _RSA else usage.key_agreement):
        notes.append("the key usage of the certificate does not name encryption")
    return tuple(notes)


# Files and passphrases


def _read(path: str) -> tuple[bytes, bool]:
    """Return the content of a file, and whether only its owner can read it."""
    try:
        with open(path, "rb") as file:
            return _bounded(file.read(_FILE_BYTES + 1)), _is_private(file.fileno())
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "no valid path"
        raise PolicyError(f"a file named as recipient or identity cannot be read: {what}") from None


def _bounded(data: bytes) -> bytes:
    if len(data) > _FILE_BYTES:
        raise PolicyError(f"a file named as recipient or identity is over {_FILE_BYTES >> 10} KiB: it is no key")
    return data


def _is_private(fd: int) -> bool:
    status = os.fstat(fd)
    # a pipe has no mode that anybody chose
    return not (stat.S_ISREG(status.st_mode) and status.st_mode & 0o077)


def _insist(private: bool) -> None:
    if not private:
        raise PolicyError(_OPEN)


def _key_file(data: bytes, private: bool) -> bytes | None:
    match = _KEY_TEXT.fullmatch(data.strip())
    if not match:
        return None
    _insist(private)
    return base64.urlsafe_b64decode(match[1] + b"=")


def _passphrase(text: str, ask: Ask, *, again: bool = False) -> str | None:
    """Return the passphrase if ``text`` names one, else None."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in ("passphrase", "passphrase-file", "passphrase-fd"):
        return None
    if kind == "passphrase-fd":
        return _first_line(*_read_descriptor(rest))
    if kind == "passphrase-file":
        return _first_line(*_read(rest))
    if rest:
        raise PolicyError("a passphrase on a command line is seen by others: write `passphrase:` alone to be asked")
    phrase = ask("Passphrase: ")
    if again and ask("The same again: ") != phrase:
        raise PolicyError("the two passphrases differ")
    return phrase


def _read_descriptor(number: str) -> tuple[bytes, bool]:
    try:
        with open(int(number), "rb", closefd=False) as file:
            return _bounded(file.read(_FILE_BYTES + 1)), _is_private(file.fileno())
    except (OSError, ValueError):
        raise PolicyError("`passphrase-fd:` takes the number of a descriptor that is open for reading") from None


def _first_line(data: bytes, private: bool) -> str:
    _insist(private)
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise PolicyError("the first line must be the passphrase, in UTF-8")
    return text


def _at_terminal(question: str) -> str:
    try:
        with warnings.catch_warnings():
            # without a terminal getpass would show what is typed
            warnings.simplefilter("error", getpass.GetPassWarning)
            return getpass.getpass(question)
    except (EOFError, getpass.GetPassWarning):
        raise PolicyError("there is no terminal to ask for a passphrase: use `passphrase-file:PATH`") from None


# Keys by content


def _parsed(read: Callable[[bytes], object], data: bytes) -> object | None:
    """Return what ``read`` makes of the data, or None if they are something else."""
    try:
        return read(data)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _is_pem(data: bytes) -> bool:
    return b"-----BEGIN " in data


def _certificate(data: bytes) -> x509.Certificate:
    if not _is_pem(data):
        return x509.load_der_x509_certificate(data)
    certificate, *more = x509.load_pem_x509_certificates(data)
    if more:
        raise PolicyError("the file holds several certificates: name one file for each recipient")
    return certificate


def _public_key(data: bytes) -> object:
    return (serialization.load_pem_public_key if _is_pem(data) else serialization.load_der_public_key)(data)


def _private(data: bytes, phrase: bytes | None = None) -> object:
    load = serialization.load_pem_private_key if _is_pem(data) else serialization.load_der_private_key
    return load(data, phrase)


def _private_key(data: bytes, ask: Ask) -> object | None:
    """Read a private key, asking for its passphrase if it has one."""
    try:
        return _private(data)
    except TypeError:
        # how cryptography says that a passphrase is missing
        key = _parsed(lambda data: _private(data, _normal(ask("Passphrase of the private key: "))), data)
        if key is None:
            raise PolicyError("the private key does not open with this passphrase") from None
        return key
    except (ValueError, UnsupportedAlgorithm):
        return None

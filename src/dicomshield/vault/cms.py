"""CMS EnvelopedData for RSA recipients (RFC 5652 section 6), the format of Encrypted Content (PS3.15 E.1.1).

Written are AES-256-CBC with RSA PKCS#1 v1.5 or RSAES-OAEP key transport; read is what openssl and GDCM write as
well: AES-128, AES-192 and Triple DES in CBC, other OAEP hashes, recipients named by subject key identifier. Only
DER is read: one way to write a length, and a depth that the structure itself bounds. The ciphers are all those
of ``cryptography``.

EnvelopedData has no integrity: whoever can change it can change what it holds, so the content must carry a MAC.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from ..errors import PolicyError, VaultError

__all__ = ["NOT_OPENED", "Unwrap", "envelop", "open_envelope", "rsa_key"]

NOT_OPENED: Final = "the encrypted attributes do not open: a wrong key, or damage"
"""The only thing that is ever said, whatever went wrong: anything more would help to guess what was encrypted."""

Unwrap = Callable[[bytes, AsymmetricPadding], bytes]
"""``(encrypted key, padding) -> key``: `RSAPrivateKey.decrypt`, or the call of a KMS or HSM that stands in for it.

Whatever it raises counts as a key that does not fit, except `OSError`: a device that cannot be reached is no oracle.
"""

_MIN_BITS: Final = 2048
_MAX: Final = 64 << 20
"""Bytes of the longest envelope that is read."""

_INTEGER, _OCTETS, _NULL, _OID, _SEQUENCE, _SET = 0x02, 0x04, 0x05, 0x06, 0x30, 0x31


def _oid(dotted: str) -> bytes:
    """Encode the value of an object identifier (X.690 8.19)."""
    first, second, *rest = map(int, dotted.split("."))
    value = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = range((max(arc.bit_length(), 1) - 1) // 7, -1, -1)
        value += bytes((arc >> 7 * place & 0x7F) | (0x80 if place else 0) for place in septets)
    return bytes(value)


_DATA, _ENVELOPED = _oid("1.2.840.113549.1.7.1"), _oid("1.2.840.113549.1.7.3")
_RSA, _RSA_OAEP, _MGF1 = (_oid(f"1.2.840.113549.1.1.{last}") for last in (1, 7, 8))
_P_SPECIFIED: Final = _oid("1.2.840.113549.1.1.9")
_SHA1, _SHA256, _AES256_CBC = map(_oid, ("1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.1.42"))

_HASHES: Final[dict[bytes, Callable[[], hashes.HashAlgorithm]]] = {
    _SHA1: hashes.SHA1,
    _SHA256: hashes.SHA256,
    _oid("2.16.840.1.101.3.4.2.2"): hashes.SHA384,
    _oid("2.16.840.1.101.3.4.2.3"): hashes.SHA512,
}
_CIPHERS: Final[dict[bytes, tuple[Callable[[bytes], BlockCipherAlgorithm], int]]] = {
    _oid("2.16.840.1.101.3.4.1.2"): (AES, 16),
    _oid("2.16.840.1.101.3.4.1.22"): (AES, 24),
    _AES256_CBC: (AES, 32),
    _oid("1.2.840.113549.3.7"): (TripleDES, 24),
}
"""Ciphers in CBC mode and the bytes of their keys: all that PS3.15 E.1.2 wants a re-identifier to read."""


def rsa_key(certificate: x509.Certificate) -> RSAPublicKey:
    """Return the key of a recipient.

    Raises
    ------
    PolicyError
        If it is no RSA key of at least 2048 bits.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise PolicyError("a recipient of encrypted attributes needs a certificate with an RSA key")
    if key.key_size < _MIN_BITS:
        raise PolicyError(f"an RSA key of {key.key_size} bits is too weak: at least {_MIN_BITS} are needed")
    return key


def envelop(content: bytes, recipients: Sequence[x509.Certificate], *, oaep: bool) -> bytes:
    """Encrypt to all recipients, each of whom can open it alone.

    Parameters
    ----------
    content : bytes
    recipients : sequence of Certificate
        RSA keys of at least 2048 bits; named in the envelope by issuer and serial number.
    oaep : bool
        RSAES-OAEP with SHA-256 (RFC 4055) instead of PKCS#1 v1.5, which is all that PS3.15 E.1.1 knows.

    Raises
    ------
    PolicyError
        If there is no recipient, or one with an unfit key.
    """
    if not recipients:
        raise PolicyError("encrypted attributes need at least one recipient")
    key, iv = secrets.token_bytes(32), secrets.token_bytes(16)
    padder, encryptor = PKCS7(AES.block_size).padder(), Cipher(AES(key), CBC(iv)).encryptor()
    encrypted = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    content_info = (
        _tlv(_OID, _DATA),
        _tlv(_SEQUENCE, _tlv(_OID, _AES256_CBC), _tlv(_OCTETS, iv)),
        _tlv(0x80, encrypted),
    )
    # DER sorts the members of a SET OF (X.690 11.6)
    keys = sorted(_key_transport(certificate, key, oaep=oaep) for certificate in recipients)
    enveloped = _tlv(_SEQUENCE, _tlv(_INTEGER, b"\0"), _tlv(_SET, *keys), _tlv(_SEQUENCE, *content_info))
    return _tlv(_SEQUENCE, _tlv(_OID, _ENVELOPED), _tlv(0xA0, enveloped))


def open_envelope(envelope: bytes, certificate: x509.Certificate, unwrap: Unwrap) -> bytes:
    """Decrypt for one recipient.

    Parameters
    ----------
    envelope : bytes
        DER; a byte that pads it to even length is ignored.
    certificate : Certificate
        Tells which of the recipients we are, by issuer and serial number or by subject key identifier.
    unwrap : callable

    Raises
    ------
    VaultError
        If it does not open, for whatever reason. A wrong key goes the same way as a wrong content: it is
        replaced by a random one (implicit rejection, RFC 3218 2.3.2), so that no reply tells them apart.
    """
    names = _names(certificate)
    try:
        return _opened(envelope, names, unwrap)
    except (ValueError, KeyError, UnsupportedAlgorithm):
        # KeyError: an algorithm that is not in the tables
        raise VaultError(NOT_OPENED) from None


# Writing


def _tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one DER element (X.690 section 10)."""
    value = b"".join(parts)
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + value


_SHA256_ID: Final = _tlv(_SEQUENCE, _tlv(_OID, _SHA256), _tlv(_NULL))
_MGF1_ID: Final = _tlv(_SEQUENCE, _tlv(_OID, _MGF1), _SHA256_ID)
_OAEP_ID: Final = _tlv(_SEQUENCE, _tlv(_OID, _RSA_OAEP), _tlv(_SEQUENCE, _tlv(0xA0, _SHA256_ID), _tlv(0xA1, _MGF1_ID)))
_PKCS1_ID: Final = _tlv(_SEQUENCE, _tlv(_OID, _RSA), _tlv(_NULL))


def _key_transport(certificate: x509.Certificate, key: bytes, *, oaep: bool) -> bytes:
    """Encode a KeyTransRecipientInfo (RFC 5652 6.2.1)."""
    padding = OAEP(MGF1(hashes.SHA256()), hashes.SHA256(), None) if oaep else PKCS1v15()
    encrypted = rsa_key(certificate).encrypt(key, padding)
    return _tlv(
        _SEQUENCE,
        _tlv(_INTEGER, b"\0"),
        _tlv(_SEQUENCE, _issuer_and_serial(certificate)),
        _OAEP_ID if oaep else _PKCS1_ID,
        _tlv(_OCTETS, encrypted),
    )


# Reading


class _Der:
    """Reads DER elements one after the other; anything unexpected is a `ValueError`."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = memoryview(data), 0

    @property
    def tag(self) -> int:
        """Tag of the next element, -1 at the end."""
        return self._data[self._at] if self._at < len(self._data) else -1

    @property
    def rest(self) -> memoryview:
        """What has not been read."""
        return self._data[self._at :]

    def value(self, tag: int) -> memoryview:
        """Read the next element, which must have this tag, and return its value."""
        if self.tag != tag:
            raise ValueError
        start = self._at + 2
        length = self._data[self._at + 1] if start <= len(self._data) else 0x80
        if length >= 0x80:
            octets = bytes(self._data[start : start + (length & 0x7F)])
            length = int.from_bytes(octets, "big")
            # indefinite, cut off, or more octets than needed
            if not octets or octets[0] == 0 or length < 0x80:
                raise ValueError
            start += len(octets)
        self._at = start + length
        if self._at > len(self._data):
            raise ValueError
        return self._data[start : self._at]

    def inside(self, tag: int, *tags: int) -> _Der:
        """Go into the next element; further tags name the only element within it, and so on."""
        reader = _Der(self.value(tag))
        for inner in tags:
            within = _Der(reader.value(inner))
            reader.end()
            reader = within
        return reader

    def object_id(self) -> bytes:
        """Read an object identifier."""
        return bytes(self.value(_OID))

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self._at != len(self._data):
            raise ValueError


def _opened(envelope: bytes, names: set[tuple[int, bytes]], unwrap: Unwrap) -> bytes:
    if len(envelope) > _MAX:
        raise ValueError
    whole = _Der(envelope)
    info = whole.inside(_SEQUENCE)
    if bytes(whole.rest[:2]) not in (b"", b"\0") or info.object_id() != _ENVELOPED:
        raise ValueError
    body = info.inside(0xA0, _SEQUENCE)
    info.end()
    body.value(_INTEGER)
    if body.tag == 0xA0:
        # OriginatorInfo: certificates that only key agreement needs
        body.value(0xA0)
    recipients, content = body.inside(_SET), body.inside(_SEQUENCE)
    if body.tag == 0xA1:
        body.value(0xA1)
    body.end()
    algorithm, size, iv, encrypted = _encrypted_content(content)
    padding, encrypted_key = _own_key(recipients, names)
    key = _unwrapped(encrypted_key, padding, unwrap, size)
    cipher = algorithm(key)
    decryptor, unpadder = Cipher(cipher, CBC(iv)).decryptor(), PKCS7(cipher.block_size).unpadder()
    return unpadder.update(decryptor.update(encrypted) + decryptor.finalize()) + unpadder.finalize()


def _encrypted_content(content: _Der) -> tuple[Callable[[bytes], BlockCipherAlgorithm], int, bytes, memoryview]:
    """Read an EncryptedContentInfo (RFC 5652 6.1): cipher, bytes of its key, IV (RFC 3370 5.1, 3565 4.1), content."""
    if content.object_id() != _DATA:
        raise ValueError
    identifier = content.inside(_SEQUENCE)
    algorithm, size = _CIPHERS[identifier.object_id()]
    iv = bytes(identifier.value(_OCTETS))
    identifier.end()
    encrypted = content.value(0x80)
    content.end()
    return algorithm, size, iv, encrypted


def _own_key(recipients: _Der, names: set[tuple[int, bytes]]) -> tuple[AsymmetricPadding, bytes]:
    """Find the KeyTransRecipientInfo (RFC 5652 6.2.1) of somebody who has these names."""
    while recipients.tag != -1:
        if recipients.tag != _SEQUENCE:
            # key agreement, passwords: for others
            recipients.value(recipients.tag)
            continue
        recipient = recipients.inside(_SEQUENCE)
        recipient.value(_INTEGER)
        kind = recipient.tag
        if (kind, bytes(recipient.value(kind))) in names:
            padding = _padding(recipient.inside(_SEQUENCE))
            encrypted_key = bytes(recipient.value(_OCTETS))
            recipient.end()
            return padding, encrypted_key
    raise ValueError


def _padding(identifier: _Der) -> AsymmetricPadding:
    """Read a KeyEncryptionAlgorithmIdentifier (RFC 3370 4.2.1, RFC 4055 4.1)."""
    algorithm = identifier.object_id()
    if algorithm == _RSA:
        _no_parameters(identifier)
        return PKCS1v15()
    if algorithm != _RSA_OAEP:
        raise ValueError
    parameters = identifier.inside(_SEQUENCE)
    identifier.end()
    digest = mask = _HASHES[_SHA1]()
    if parameters.tag == 0xA0:
        digest = _hash(parameters.inside(0xA0, _SEQUENCE))
    if parameters.tag == 0xA1:
        generator = parameters.inside(0xA1, _SEQUENCE)
        if generator.object_id() != _MGF1:
            raise ValueError
        mask = _hash(generator.inside(_SEQUENCE))
        generator.end()
    if parameters.tag == 0xA2:
        label = parameters.inside(0xA2, _SEQUENCE)
        if label.object_id() != _P_SPECIFIED or label.value(_OCTETS):
            raise ValueError
        label.end()
    parameters.end()
    return OAEP(MGF1(mask), digest, None)


def _hash(identifier: _Der) -> hashes.HashAlgorithm:
    algorithm = _HASHES[identifier.object_id()]
    _no_parameters(identifier)
    return algorithm()


def _no_parameters(identifier: _Der) -> None:
    """Accept NULL or nothing, which writers do not agree about (RFC 4055 2.1)."""
    if identifier.tag == _NULL and identifier.value(_NULL):
        raise ValueError
    identifier.end()


def _unwrapped(encrypted_key: bytes, padding: AsymmetricPadding, unwrap: Unwrap, size: int) -> bytes:
    """Decrypt the content's key; a random one takes the place of any that does not fit."""
    instead = secrets.token_bytes(size)
    try:
        key = unwrap(encrypted_key, padding)
    except OSError:
        raise
    except Exception:
        # a message about the padding is what Bleichenbacher's attack lives on
        return instead
    return key if len(key) == size else instead


def _names(certificate: x509.Certificate) -> set[tuple[int, bytes]]:
    """Return tag and value of each RecipientIdentifier (RFC 5652 6.2.1) that means this certificate."""
    names = {(_SEQUENCE, _issuer_and_serial(certificate))}
    try:
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        return names
    except ValueError:
        raise PolicyError("the extensions of a certificate cannot be read") from None
    return names | {(0x80, key_id.digest)}


def _issuer_and_serial(certificate: x509.Certificate) -> bytes:
    """Take both from the certificate as they are encoded there (RFC 5280 4.1): readers compare bytes."""
    certified = _Der(certificate.tbs_certificate_bytes).inside(_SEQUENCE)
    if certified.tag == 0xA0:
        certified.value(0xA0)
    serial = bytes(certified.value(_INTEGER))
    certified.value(_SEQUENCE)
    return _tlv(_SEQUENCE, bytes(certified.value(_SEQUENCE))) + _tlv(_INTEGER, serial)

"""The Encrypted Attributes Sequence (0400,0500): the original header, inside the object, for those who hold a key.

PS3.15 E.1.1 and E.1.2, PS3.3 C.12.1.1.4. The sequence has one item for all recipients, in it CMS EnvelopedData of
a data set, which holds the Modified Attributes Sequence (0400,0550) with one item: the original attributes. This
format has no integrity. Whoever holds the file can flip bits of what is encrypted, whoever has the certificate can
write an item, and items can be moved between files. So the encrypted data set goes on with a MAC of ours, which
other readers skip::

    (0400,0550) SQ  Modified Attributes Sequence
    (0401,0010) LO  "DICOMSHIELD"
    (0401,1001) OB  HMAC-SHA-256(key, u32be(length of UID) || SOP Instance UID || all bytes of (0400,0550))

where the UID is the de-identified one, of the object that the sequence lies in.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from ..encoding.elements import Element
from ..encoding.pieces import Envelope
from ..encoding.write import EXPLICIT, IMPLICIT, element, sequence
from ..errors import PolicyError, Quarantined, Reason, VaultError
from .cms import NOT_OPENED, Unwrap, envelop, open_envelope, rsa_key
from .whole_object import Data, WholeObject, elements_of, recoded, relative

if TYPE_CHECKING:
    from pydicom import Dataset

    from ..identity.project import Project

__all__ = [
    "Encloser",
    "Mode",
    "Restored",
    "certificate_warnings",
    "collect",
    "embed",
    "mac_key",
    "open_attributes",
    "read_certificate",
    "restore",
    "restored",
    "seal_attributes",
]

Mode = Literal["ps3.15", "oaep"]
"""Key transport: RSA PKCS#1 v1.5 as PS3.15 E.1.1 demands, or RSAES-OAEP with SHA-256, which SP 800-131A allows."""

_CHARACTER_SET, _SOP_INSTANCE = 0x00080005, 0x00080018
_IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _DATES_MODIFIED = 0x00120062, 0x00120063, 0x00120064, 0x00280303
_ENCRYPTED, _SYNTAX, _CONTENT, _MODIFIED = 0x04000500, 0x04000510, 0x04000520, 0x04000550
_CREATOR, _MAC, _CREATED_BY = 0x04010010, 0x04011001, b"DICOMSHIELD"
_ALWAYS: Final = frozenset({_CHARACTER_SET, _SOP_INSTANCE, _IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _DATES_MODIFIED})
"""What an item needs for its reader, and what `restore` takes away if it is not in it."""
_ALWAYS_VRS: Final = {_CHARACTER_SET: b"CS", _SOP_INSTANCE: b"UI"}
_FIRST: Final = 0x00080000
"""The first tag of a data set; lower ones are of commands and File Meta Information (PS3.5 7.1)."""
_PIXELS: Final = 0x7FE00000
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ITEM_HEAD: Final = 8

_MAX_ITEMS: Final = 64
"""Items of an Encrypted Attributes Sequence that are tried, each of which costs an RSA operation."""
_MAX_ORIGINALS: Final = 16 << 20
"""Bytes of original attributes in one object."""
_MIN_MAC_KEY: Final = 32
_CERTIFICATE_BYTES: Final = 1 << 16


class Restored(NamedTuple):
    """What was decrypted.

    Attributes
    ----------
    originals : bytes
        The original attributes, encoded.
    explicit : bool
        Whether they are encoded with their VR; always little endian.
    authentic : bool or None
        ``True`` if our MAC was verified, ``None`` if there is one but no key to verify it, ``False`` if there is none.
        If it is not ``True``, anybody may have written the originals, or moved them here from another object.
    """

    originals: bytes
    explicit: bool
    authentic: bool | None

    def dataset(self) -> Dataset:
        """Return the original attributes as a pydicom data set."""
        from pydicom.filereader import read_dataset

        return read_dataset(BytesIO(self.originals), is_implicit_VR=not self.explicit, is_little_endian=True)


def certificate_warnings(recipients: Sequence[x509.Certificate], now: datetime | None = None) -> list[str]:
    """Say what about the certificates of recipients is questionable.

    Parameters
    ----------
    recipients : sequence of Certificate
    now : datetime, optional
        With a time zone.

    Raises
    ------
    PolicyError
        If one cannot be used at all: its key is no RSA key of at least 2048 bits.
    """
    now = now or datetime.now(UTC)
    return [f"recipient {number}: {what}" for number, one in enumerate(recipients, 1) for what in _doubts(one, now)]


def _doubts(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    rsa_key(certificate)
    if now < certificate.not_valid_before_utc:
        yield "the certificate is not valid yet"
    if now > certificate.not_valid_after_utc:
        yield "the certificate has expired"
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except ValueError:
        yield "the extensions of the certificate cannot be read"
        return
    if not usage.key_encipherment:
        yield "the key usage of the certificate does not include key encipherment"


def read_certificate(path: str | os.PathLike[str]) -> x509.Certificate:
    """Read a certificate, PEM or DER.

    Raises
    ------
    PolicyError
        If it cannot be read, is none, or has no RSA key of at least 2048 bits.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_CERTIFICATE_BYTES)
    except OSError as error:
        raise PolicyError(f"a certificate cannot be read: {error.strerror}") from None
    pem = b"-----BEGIN" in data
    try:
        certificate = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except ValueError:
        raise PolicyError("what was named as a certificate is none: PEM or DER is needed") from None
    rsa_key(certificate)
    return certificate


def mac_key(project: Project) -> bytes:
    """Return the key of a project that tells its own originals from forged ones."""
    return hmac.digest(project.secret, b"dicomshield/1/ea-mac\1", "sha256")


# Encrypting and decrypting


def seal_attributes(
    originals: bytes,
    sop_instance: str,
    recipients: Sequence[x509.Certificate],
    mac_key: bytes,
    *,
    mode: Mode = "ps3.15",
    explicit: bool = True,
) -> bytes:
    """Encrypt original attributes into an Encrypted Attributes Sequence (0400,0500).

    Parameters
    ----------
    originals : bytes
        Elements in Explicit VR Little Endian in tag order, as `collect` returns them.
    sop_instance : str
        The de-identified SOP Instance UID, of the object that the sequence is for.
    recipients : sequence of Certificate
        Each can open it alone.
    mac_key : bytes
        At least 32 secret bytes, which recipients need to know what is genuine.
    mode : {"ps3.15", "oaep"}
    explicit : bool
        Whether the object is encoded with VRs.

    Returns
    -------
    bytes
        The encoded element.

    Raises
    ------
    PolicyError
        If a recipient or the MAC key is unfit, or the originals are not what is said above.
    """
    if mode not in ("ps3.15", "oaep"):
        raise PolicyError("the mode of encrypted attributes is ps3.15 or oaep")
    if len(mac_key) < _MIN_MAC_KEY:
        raise PolicyError(f"the MAC key of encrypted attributes needs at least {_MIN_MAC_KEY} bytes")
    try:
        tags = [one.tag for one in elements_of(originals, explicit=True)]
    except Quarantined:
        tags = []
    if _SOP_INSTANCE not in tags or tags != sorted(tags) or len(originals) > _MAX_ORIGINALS:
        raise PolicyError("original attributes must be Explicit VR elements in tag order, (0008,0018) among them")
    modified = sequence(_MODIFIED, originals, explicit=True)
    content = (
        modified
        + element(_CREATOR, b"LO", _CREATED_BY, explicit=True)
        + element(_MAC, b"OB", _mac(mac_key, sop_instance, modified), explicit=True)
    )
    envelope = envelop(content, recipients, oaep=mode == "oaep")
    inside = element(_SYNTAX, b"UI", EXPLICIT.encode(), explicit=explicit)
    inside += element(_CONTENT, b"OB", envelope, explicit=explicit)
    return sequence(_ENCRYPTED, inside, explicit=explicit)


def open_attributes(
    value: bytes,
    sop_instance: str,
    certificate: x509.Certificate,
    private_key: RSAPrivateKey | Unwrap,
    mac_key: bytes | None,
    *,
    explicit: bool = True,
) -> Restored:
    """Decrypt an Encrypted Attributes Sequence, of ours or of another writer.

    Parameters
    ----------
    value : bytes
        The encoded items of (0400,0500), with or without the sequence delimiter.
    sop_instance : str
        SOP Instance UID of the object that it lies in.
    certificate : Certificate
        Ours: tells what is meant for us.
    private_key : RSAPrivateKey or callable
        The key, or what stands in for it.
    mac_key : bytes or None
        ``None`` accepts what has no MAC, or one of an unknown key, as the items of other writers.
    explicit : bool
        Whether the object is encoded with VRs.

    Raises
    ------
    VaultError
        If nothing in it opens: another key, damage, forged, moved here from another object. It does not say which.
    PolicyError
        If the private key is no RSA key.
    """
    unwrap = private_key.decrypt if isinstance(private_key, RSAPrivateKey) else private_key
    if not callable(unwrap):
        raise PolicyError("encrypted attributes open with an RSA key, or a callable that unwraps with one")
    for syntax, envelope in _envelopes(value, explicit=explicit):
        try:
            content = open_envelope(envelope, certificate, unwrap)
            return _restored(content, sop_instance, mac_key, explicit=syntax == EXPLICIT)
        except (VaultError, Quarantined):
            # items of one sequence may be for different recipients (PS3.3 C.12.1.1.4)
            continue
    raise VaultError(NOT_OPENED)


def _mac(key: bytes, sop_instance: str, modified: bytes) -> bytes:
    uid = sop_instance.strip(" \0").encode()
    return hmac.digest(key, len(uid).to_bytes(4, "big") + uid + modified, "sha256")


def _envelopes(value: bytes, *, explicit: bool) -> Iterator[tuple[str, bytes]]:
    """Yield transfer syntax and CMS of the items."""
    tail = b"" if value.endswith(_SEQUENCE_END) else _SEQUENCE_END
    raw = element(_ENCRYPTED, b"SQ", value, explicit=explicit, undefined=True) + tail
    try:
        items = elements_of(raw, explicit=explicit)[0].items or ()
    except Quarantined:
        return
    for one in items[:_MAX_ITEMS]:
        values = {e.tag: raw[e.value : e.end] for e in one.elements if isinstance(e, Element)}
        syntax = values.get(_SYNTAX, b"").decode("latin-1").strip(" \0")
        if syntax in (EXPLICIT, IMPLICIT) and _CONTENT in values:
            yield syntax, values[_CONTENT]


def _restored(content: bytes, sop_instance: str, mac_key: bytes | None, *, explicit: bool) -> Restored:
    """Take the original attributes out of the decrypted data set."""
    elements = {one.tag: one for one in elements_of(content, explicit=explicit)}
    modified = elements.get(_MODIFIED)
    if modified is None or modified.items is None or len(modified.items) != 1:
        raise VaultError(NOT_OPENED)
    creator, mac = (content[e.value : e.end] if (e := elements.get(tag)) else b"" for tag in (_CREATOR, _MAC))
    marked = creator.strip(b" \0") == _CREATED_BY and bool(mac)
    raw = content[modified.start : modified.end]
    if mac_key is not None and not (marked and hmac.compare_digest(mac, _mac(mac_key, sop_instance, raw))):
        raise VaultError(NOT_OPENED)
    only = modified.items[0]
    originals = raw[only.start + _ITEM_HEAD : only.end]
    if any(one.tag < _FIRST for one in elements_of(originals, explicit=explicit)):
        raise VaultError(NOT_OPENED)
    return Restored(originals, explicit, True if mac_key is not None else None if marked else False)


# Whole objects


def collect(original: Data, released: Data, *, private: bool = False) -> bytes:
    """Return the original attributes that de-identification took away or changed, as `seal_attributes` wants them.

    Sequences are taken as a whole, and where bytes differ, even if only their lengths are written in another way.
    Specific Character Set, SOP Instance UID and what tells of an earlier de-identification are always there; pixel
    data never are.

    Parameters
    ----------
    original, released : bytes or path-like
        Files of one object, before and after.
    private : bool
        Take private top-level attributes as well, with the creators of their blocks.

    Raises
    ------
    Quarantined
        If one of them cannot be read, INCOMPLETE without SOP Instance UID, TOO_LARGE if it were over 16 MiB.
    """
    return _collected(WholeObject.read(original), WholeObject.read(released), private=private)


def _collected(before: WholeObject, after: WholeObject, *, private: bool) -> bytes:
    if not before.value(_SOP_INSTANCE):
        raise Quarantined(Reason.INCOMPLETE, "(0008,0018) is missing or empty")
    found, size = dict[int, bytes](), 0
    for tag in before.elements:
        if not (_FIRST <= tag < _PIXELS and tag & 0xFFFF) or (tag >> 16 & 1 and not private):
            continue
        raw = before.explicit(tag)
        if tag in _ALWAYS or tag not in after.elements or after.explicit(tag) != raw:
            found[tag] = raw
            size += len(raw)
            if size > _MAX_ORIGINALS:
                raise Quarantined(Reason.TOO_LARGE, f"original attributes of over {_MAX_ORIGINALS >> 20} MiB")
    creators = {tag & 0xFFFF0000 | tag >> 8 & 0xFF for tag in found if tag >> 16 & 1 and tag & 0xFFFF > 0xFF}
    found |= {tag: before.explicit(tag) for tag in creators if tag in before.elements}
    return b"".join(found[tag] for tag in sorted(found))


class Encloser:
    """Encrypts what the rewrite of an object takes away or changes, while it is released.

    Sequences are taken as a whole; private attributes and pixels are not.

    Parameters
    ----------
    certificates : sequence of Certificate
        Each opens it alone.
    mac_key : bytes
    mode : {"ps3.15", "oaep"}

    Raises
    ------
    PolicyError
        If there is no recipient, or one that cannot be used.
    """

    def __init__(self, certificates: Sequence[x509.Certificate], mac_key: bytes, mode: Mode = "ps3.15") -> None:
        if not certificates:
            raise PolicyError("encrypted attributes need at least one recipient")
        certificate_warnings(certificates)
        self._der = tuple(one.public_bytes(Encoding.DER) for one in certificates)
        self._mac_key, self._mode = mac_key, mode

    @cached_property
    def _certificates(self) -> list[x509.Certificate]:
        return [x509.load_der_x509_certificate(der) for der in self._der]

    def __getstate__(self) -> dict[str, object]:
        # certificates of cryptography cannot be sent to another process
        return {name: value for name, value in self.__dict__.items() if name != "_certificates"}

    def enclose(
        self, sop_instance: str, always: Mapping[int, bytes], explicit: bool, before: bytes, after: bytes
    ) -> Envelope:
        """Return the Encrypted Attributes Sequence of an object.

        Parameters
        ----------
        sop_instance : str
            The new SOP Instance UID.
        always : mapping
            tag -> value of what its reader needs also if it stays: Specific Character Set, SOP Instance UID.
        explicit : bool
            Whether the object is encoded with VRs.
        before, after : bytes
            Encoded top-level elements that go, and those that come in their place.

        Raises
        ------
        Quarantined
            TOO_LARGE over 16 MiB.
        """
        new = {one.tag: after[one.start : one.end] for one in elements_of(after, explicit=explicit)}
        found = {tag: element(tag, _ALWAYS_VRS[tag], value, explicit=True) for tag, value in always.items()}
        for one in elements_of(before, explicit=explicit):
            raw = before[one.start : one.end]
            if one.tag & 0xFFFF and new.get(one.tag) != raw:
                found[one.tag] = raw if explicit else recoded(raw, relative(one), explicit=True)
        originals = b"".join(found[tag] for tag in sorted(found))
        if len(originals) > _MAX_ORIGINALS:
            raise Quarantined(Reason.TOO_LARGE, f"original attributes of over {_MAX_ORIGINALS >> 20} MiB")
        recipients, mac_key, mode = self._certificates, self._mac_key, self._mode
        return Envelope(seal_attributes(originals, sop_instance, recipients, mac_key, mode=mode, explicit=explicit))


def embed(
    original: Data,
    released: Data,
    recipients: Sequence[x509.Certificate],
    mac_key: bytes,
    *,
    mode: Mode = "ps3.15",
    private: bool = False,
) -> bytes:
    """Return the released file with the original attributes encrypted in it.

    Parameters
    ----------
    original, released, private
        As for `collect`.
    recipients, mac_key, mode
        As for `seal_attributes`.

    Raises
    ------
    Quarantined, PolicyError
        As both do.
    """
    after = WholeObject.read(released)
    originals = _collected(WholeObject.read(original), after, private=private)
    sop_instance = after.value(_SOP_INSTANCE).decode("latin-1")
    explicit = after.container.explicit
    sealed = seal_attributes(originals, sop_instance, recipients, mac_key, mode=mode, explicit=explicit)
    return after.file(without=(), new={_ENCRYPTED: sealed})


def restore(
    data: Data,
    certificate: x509.Certificate,
    private_key: RSAPrivateKey | Unwrap,
    mac_key: bytes | None,
) -> bytes:
    """Re-identify an object (PS3.15 E.1.2).

    The original attributes take their place again, with them the SOP Instance UID of the File Meta Information.
    Patient Identity Removed becomes NO; De-identification Method, its codes and Longitudinal Temporal Information
    Modified go, as does the Encrypted Attributes Sequence, unless the original had them. Pixels stay as they are.

    Parameters
    ----------
    data : bytes or path-like
        The de-identified file.
    certificate, private_key, mac_key
        As for `open_attributes`.

    Raises
    ------
    VaultError
        If nothing in it opens, or there is no Encrypted Attributes Sequence.
    Quarantined
        If it cannot be read.
    """
    return restored(WholeObject.read(data), certificate, private_key, mac_key)[0]


def restored(
    released: WholeObject,
    certificate: x509.Certificate,
    private_key: RSAPrivateKey | Unwrap,
    mac_key: bytes | None,
) -> tuple[bytes, bool | None]:
    """Do what `restore` does with an object that was read, and tell `Restored.authentic` too."""
    sealed = released.elements.get(_ENCRYPTED)
    if sealed is None:
        raise VaultError("there are no encrypted attributes: (0400,0500) is missing")
    value = released.data_set[sealed.value : sealed.end]
    sop_instance = released.value(_SOP_INSTANCE).decode("latin-1")
    explicit = released.container.explicit
    opened = open_attributes(value, sop_instance, certificate, private_key, mac_key, explicit=explicit)
    return released.reidentified(_encoded(opened, explicit=explicit)), opened.authentic


def _encoded(restored: Restored, *, explicit: bool) -> dict[int, bytes]:
    """Return the original attributes by tag, encoded as the object around them is."""
    found = {}
    for one in elements_of(restored.originals, explicit=restored.explicit):
        raw = restored.originals[one.start : one.end]
        same = restored.explicit == explicit
        found[one.tag] = raw if same else recoded(raw, relative(one), explicit=explicit)
    return found

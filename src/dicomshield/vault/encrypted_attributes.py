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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from ..encoding.container import Container, deflate
from ..encoding.elements import Element, tag_name
from ..encoding.scan import LONG_VRS, SHORT_VRS, Scanner, Verdict
from ..encoding.source import Source
from ..encoding.write import EXPLICIT, IMPLICIT, element, file_meta, sequence
from ..errors import PolicyError, Quarantined, Reason, VaultError
from ..opened import opened
from ..profile import vr_of
from .cms import NOT_OPENED, Unwrap, envelop, open_envelope, rsa_key

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "Mode",
    "Restored",
    "certificate_warnings",
    "collect",
    "embed",
    "open_attributes",
    "restore",
    "seal_attributes",
]

Mode = Literal["ps3.15", "oaep"]
"""Key transport: RSA PKCS#1 v1.5 as PS3.15 E.1.1 demands, or RSAES-OAEP with SHA-256, which SP 800-131A allows."""

_Data = bytes | str | os.PathLike[str]

_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080016, 0x00080018
_IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _DATES_MODIFIED = 0x00120062, 0x00120063, 0x00120064, 0x00280303
_ENCRYPTED, _SYNTAX, _CONTENT, _MODIFIED = 0x04000500, 0x04000510, 0x04000520, 0x04000550
_CREATOR, _MAC, _CREATED_BY = 0x04010010, 0x04011001, b"DICOMSHIELD"
_ALWAYS: Final = frozenset({_CHARACTER_SET, _SOP_INSTANCE, _IDENTITY_REMOVED, _METHOD, _METHOD_CODES, _DATES_MODIFIED})
"""What an item needs for its reader, and what `restore` takes away if it is not in it."""
_FIRST: Final = 0x00080000
"""The first tag of a data set; lower ones are of commands and File Meta Information (PS3.5 7.1)."""
_PIXELS: Final = 0x7FE00000
_SEQUENCE_END: Final = b"\xfe\xff\xdd\xe0\0\0\0\0"
_ITEM: Final = b"\xfe\xff\x00\xe0"
_ITEM_HEAD: Final = 8

_MAX_ITEMS: Final = 64
"""Items of an Encrypted Attributes Sequence that are tried, each of which costs an RSA operation."""
_MAX_ORIGINALS: Final = 16 << 20
"""Bytes of original attributes in one object."""
_MIN_MAC_KEY: Final = 32
_MAX_UID: Final = 64


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
        tags = [one.tag for one in _elements(originals, explicit=True)]
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
        items = _elements(raw, explicit=explicit)[0].items or ()
    except Quarantined:
        return
    for one in items[:_MAX_ITEMS]:
        values = {e.tag: raw[e.value : e.end] for e in one.elements if isinstance(e, Element)}
        syntax = values.get(_SYNTAX, b"").decode("latin-1").strip(" \0")
        if syntax in (EXPLICIT, IMPLICIT) and _CONTENT in values:
            yield syntax, values[_CONTENT]


def _restored(content: bytes, sop_instance: str, mac_key: bytes | None, *, explicit: bool) -> Restored:
    """Take the original attributes out of the decrypted data set."""
    elements = {one.tag: one for one in _elements(content, explicit=explicit)}
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
    if any(one.tag < _FIRST for one in _elements(originals, explicit=explicit)):
        raise VaultError(NOT_OPENED)
    return Restored(originals, explicit, True if mac_key is not None else None if marked else False)


# Whole objects


class _Object(NamedTuple):
    """A DICOM file that was walked, with the top-level elements of its data set by tag."""

    container: Container
    elements: Mapping[int, Element]

    @classmethod
    def read(cls, data: _Data) -> _Object:
        if isinstance(data, bytes):
            source = Source.of(data)
        else:
            with Source.open(data) as file:
                source = Source.of(file.slice(0, file.size))
        container, scan, _ = opened(source, _scanner, frozenset())
        return cls(container, {one.tag: one for one in scan.elements if isinstance(one, Element)})

    @property
    def data_set(self) -> bytes:
        return self.container.source.head

    def value(self, tag: int) -> bytes:
        """Return a value without its padding, empty if there is none."""
        one = self.elements.get(tag)
        return self.data_set[one.value : one.end].strip(b" \0") if one else b""

    def raw(self, tag: int) -> bytes:
        """Return an element as it is encoded."""
        one = self.elements[tag]
        return self.data_set[one.start : one.end]

    def explicit(self, tag: int) -> bytes:
        """Return an element in Explicit VR Little Endian."""
        raw = self.raw(tag)
        return raw if self.container.explicit else _recoded(raw, _relative(self.elements[tag]), explicit=True)

    def file(self, *, without: Iterable[int], new: dict[int, bytes]) -> bytes:
        """Return the file of a data set with other elements, each encoded as this one is."""
        gone = {*without, *new}
        # group lengths would no longer be true (PS3.5 7.2)
        kept = {tag: self.raw(tag) for tag in self.elements if tag not in gone and tag & 0xFFFF}
        together = kept | new
        data_set = b"".join(together[tag] for tag in sorted(together))
        sop_class, sop_instance = (
            _uid(tag, together.get(tag, b""), explicit=self.container.explicit) for tag in (_SOP_CLASS, _SOP_INSTANCE)
        )
        meta = file_meta(sop_class, sop_instance, self.container.transfer_syntax)
        return meta + (deflate(data_set) if self.container.deflated else data_set)


def collect(original: _Data, released: _Data, *, private: bool = False) -> bytes:
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
    return _collected(_Object.read(original), _Object.read(released), private=private)


def _collected(before: _Object, after: _Object, *, private: bool) -> bytes:
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


def embed(
    original: _Data,
    released: _Data,
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
    after = _Object.read(released)
    originals = _collected(_Object.read(original), after, private=private)
    sop_instance = after.value(_SOP_INSTANCE).decode("latin-1")
    explicit = after.container.explicit
    sealed = seal_attributes(originals, sop_instance, recipients, mac_key, mode=mode, explicit=explicit)
    return after.file(without=(), new={_ENCRYPTED: sealed})


def restore(
    data: _Data,
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
    released = _Object.read(data)
    sealed = released.elements.get(_ENCRYPTED)
    if sealed is None:
        raise VaultError("there are no encrypted attributes: (0400,0500) is missing")
    value = released.data_set[sealed.value : sealed.end]
    sop_instance = released.value(_SOP_INSTANCE).decode("latin-1")
    explicit = released.container.explicit
    restored = open_attributes(value, sop_instance, certificate, private_key, mac_key, explicit=explicit)
    new = {_IDENTITY_REMOVED: element(_IDENTITY_REMOVED, b"CS", b"NO", explicit=explicit)}
    new |= _encoded(restored, explicit=explicit)
    return released.file(without=(_ENCRYPTED, _METHOD, _METHOD_CODES, _DATES_MODIFIED), new=new)


# Encodings


def _note(_tag: int, _vr: bytes) -> Verdict:
    return Verdict.NOTE


def _scanner(*, explicit: bool) -> Scanner:
    return Scanner(_note, vr_of, explicit=explicit)


def _elements(data_set: bytes, *, explicit: bool) -> list[Element]:
    """Walk a data set that has no file around it."""
    scan = _scanner(explicit=explicit).scan(Source.of(data_set), 0)
    return [one for one in scan.elements if isinstance(one, Element)]


def _uid(tag: int, raw: bytes, *, explicit: bool) -> bytes:
    """Return the value of an encoded element that File Meta Information repeats."""
    value = b"".join(raw[one.value : one.end].strip(b" \0") for one in _elements(raw, explicit=explicit))
    if not 0 < len(value) <= _MAX_UID:
        raise Quarantined(Reason.INCOMPLETE, f"{tag_name(tag)} is missing, empty or no UID")
    return value


def _relative(one: Element) -> Element:
    """Return a top-level element with offsets from its own start, as those inside of it are."""
    return one._replace(start=0, value=one.value - one.start, end=one.end - one.start)


def _encoded(restored: Restored, *, explicit: bool) -> dict[int, bytes]:
    """Return the original attributes by tag, encoded as the object around them is."""
    found = {}
    for one in _elements(restored.originals, explicit=restored.explicit):
        raw = restored.originals[one.start : one.end]
        same = restored.explicit == explicit
        found[one.tag] = raw if same else _recoded(raw, _relative(one), explicit=explicit)
    return found


def _recoded(raw: bytes, one: Element, *, explicit: bool) -> bytes:
    """Encode an element with, or without, its VR; values stay, sequences get defined lengths.

    Parameters
    ----------
    raw : bytes
        The top-level element that the offsets count from.
    one : Element
        It, or an element inside of it.
    explicit : bool
    """
    if one.items is None or one.vr != b"SQ":
        # PS3.5 6.2.2: what UN holds is encoded without VRs either way
        value, vr = raw[one.value : one.end], one.vr
        fits = vr in LONG_VRS or (vr in SHORT_VRS and len(value) <= 0xFFFE)
        return element(one.tag, vr if fits else b"UN", value, explicit=explicit, undefined=not one.defined)
    items, at = list[bytes](), one.value
    for inside in one.items:
        items += _empty_items(raw[at : inside.start])
        elements = (inner for inner in inside.elements if isinstance(inner, Element))
        items.append(b"".join(_recoded(raw, inner, explicit=explicit) for inner in elements))
        at = inside.end
    items += _empty_items(raw[at : one.end])
    return sequence(one.tag, *items, explicit=explicit)


def _empty_items(gap: bytes) -> list[bytes]:
    """Return the items that the walk passes over: those between noted ones can only be empty, or delimiters."""
    return [b""] * sum(gap.startswith(_ITEM, at) for at in range(0, len(gap), _ITEM_HEAD))

"""Find the data set inside a DICOM file, whatever its file format and transfer syntax (PS3.10 7, PS3.5 10)."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Mapping
from typing import Final, NamedTuple

from ..errors import Quarantined, Reason
from ..standard import tables
from .pieces import Envelope
from .scan import LONG_VRS, SHORT_VRS
from .source import Source
from .write import DEFLATED, EXPLICIT, IMPLICIT

__all__ = ["Container", "deflate", "deflate_around", "normalise", "unpack"]

MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_PAPYRUS: Final = "1.2.840.10008.1.20"
_MAX_IN_MEMORY: Final = 512 << 20
"""Bytes of an object that cannot be streamed: deflated ones when inflated, and what pydicom must read."""


_MAX_DEPTH: Final = 16
_STORED: Final = 0xFFFF


class Container(NamedTuple):
    """Where and how the data set is encoded.

    Attributes
    ----------
    source : Source
        Holds the data set: the file itself, or its inflated content.
    start : int
        First byte of the data set in the source.
    explicit : bool
        Whether elements carry their VR; always little endian.
    transfer_syntax : str
        UID that describes the data set as it will be released.
    meta : mapping
        tag -> value as encoded, of the File Meta Information.
    """

    source: Source
    start: int
    explicit: bool
    transfer_syntax: str
    meta: Mapping[int, bytes]

    @property
    def deflated(self) -> bool:
        """Whether the data set must be deflated again."""
        return self.transfer_syntax in DEFLATED


def unpack(source: Source) -> Container:
    """Find the data set.

    Raises
    ------
    Quarantined
        NOT_DICOM, DICOMDIR, TRANSFER_SYNTAX, TRUNCATED, TOO_LARGE; MALFORMED for what `normalise` may mend.
    """
    head = source.head
    start = 0
    meta: dict[int, bytes] = {}
    if head[128:132] == b"DICM":
        start, meta = _file_meta(source)
    elif head[:8] == b"\2\0\0\0UL\4\0":
        raise Quarantined(Reason.MALFORMED, "File Meta Information without preamble")
    media_class, syntax = (meta.get(tag, b"").decode("latin-1").strip(" \0") for tag in (0x00020002, 0x00020010))
    if media_class == MEDIA_STORAGE_DIRECTORY:
        raise Quarantined(Reason.DICOMDIR)
    if syntax in DEFLATED:
        return Container(_inflate(source, start), 0, True, syntax, meta)
    if syntax == _BIG_ENDIAN:
        raise Quarantined(Reason.MALFORMED, "Explicit VR Big Endian")
    explicit = _looks_encoded(source.window(start, 8), start == 0 and not syntax)
    if not syntax or syntax in (IMPLICIT, EXPLICIT, _PAPYRUS):
        syntax = EXPLICIT if explicit else IMPLICIT
    elif tables.registered_uids().get(syntax) != "Transfer Syntax":
        raise Quarantined(Reason.TRANSFER_SYNTAX)
    elif not explicit:
        raise Quarantined(Reason.MALFORMED, "an implicit VR data set under a transfer syntax with explicit VR")
    return Container(source, start, explicit, syntax, meta)


def _file_meta(source: Source) -> tuple[int, dict[int, bytes]]:
    """Read group 0002; its group length is often wrong, so it ends where the group does."""
    at, values = 132, dict[int, bytes]()
    data, known = source.head, len(source.head)
    while (head := data[at : at + 12] if at + 12 <= known else source.window(at, 12))[:2] == b"\2\0":
        if len(head) < 8:
            raise Quarantined(Reason.TRUNCATED, "inside the File Meta Information")
        vr = head[4:6]
        if vr in LONG_VRS:
            value, length = at + 12, int.from_bytes(head[8:12], "little")
        elif vr in SHORT_VRS:
            value, length = at + 8, int.from_bytes(head[6:8], "little")
        else:
            raise Quarantined(Reason.MALFORMED, "File Meta Information is not in Explicit VR Little Endian")
        if value + length > source.size:
            raise Quarantined(Reason.TRUNCATED, "inside the File Meta Information")
        if vr in SHORT_VRS:
            values[0x00020000 | int.from_bytes(head[2:4], "little")] = source.slice(value, value + length)
        at = value + length
    return at, values


def _looks_encoded(head: bytes, bare: bool) -> bool:
    """Tell explicit from implicit VR by the first element; ``bare`` data sets must prove themselves."""
    group = int.from_bytes(head[:2], "little")
    explicit = head[4:6] in LONG_VRS or head[4:6] in SHORT_VRS
    if bare and explicit and head[:2] in (b"\0\2", b"\0\x08"):
        raise Quarantined(Reason.MALFORMED, "Explicit VR Big Endian without File Meta Information")
    if bare and (group not in (0x0002, 0x0008) or len(head) < 8):
        raise Quarantined(Reason.NOT_DICOM)
    if bare and not explicit and int.from_bytes(head[4:8], "little") > 1 << 16:
        raise Quarantined(Reason.NOT_DICOM)
    return explicit


def _inflate(source: Source, start: int) -> Source:
    """Inflate a raw deflate stream (PS3.5 A.5) up to a bound, however small the bomb is."""
    inflator = zlib.decompressobj(-15)
    pieces, total, at = [], 0, start
    try:
        while not inflator.eof and (piece := source.window(at, 1 << 20)):
            at += len(piece)
            out = inflator.decompress(piece, _MAX_IN_MEMORY - total + 1)
            total += len(out)
            pieces.append(out)
            if total > _MAX_IN_MEMORY:
                raise Quarantined(Reason.TOO_LARGE, f"inflates to more than {_MAX_IN_MEMORY >> 20} MiB")
    except zlib.error:
        raise Quarantined(Reason.MALFORMED, "the deflated data set cannot be inflated") from None
    if not inflator.eof:
        raise Quarantined(Reason.TRUNCATED, "inside the deflated data set")
    return Source.of(b"".join(pieces))


def deflate(data_set: bytes) -> bytes:
    """Deflate a data set (PS3.5 A.5) and pad it to even length."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = packer.compress(data_set) + packer.flush()
    return data + b"\0" * (len(data) & 1)


def deflate_around(before: bytes, envelope: Envelope, after: bytes) -> list[bytes]:
    """Deflate a data set with an envelope, so that what is encrypted anew each time changes no other byte.

    The envelope goes into stored blocks (RFC 1951 3.2.4), what follows does not refer to anything before.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    head = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    parts = [envelope[at : at + _STORED] for at in range(0, len(envelope), _STORED)]
    sizes = [len(part).to_bytes(2, "little") + (len(part) ^ _STORED).to_bytes(2, "little") for part in parts]
    stored = Envelope(b"".join(b"\0" + size + part for size, part in zip(sizes, parts, strict=True)))
    tail = deflate(after)
    # it was padded to even length for itself
    return [head, stored, tail + b"\0" * (len(head) + len(stored) & 1)]


def normalise(source: Source) -> Container:
    """Have pydicom read what the walk does not, and write it as Explicit VR Little Endian.

    Raises
    ------
    Quarantined
        MALFORMED if pydicom cannot read or write it either, TRUNCATED, TOO_LARGE.
    """
    if source.size > _MAX_IN_MEMORY:
        raise Quarantined(Reason.TOO_LARGE, f"needs pydicom and is over {_MAX_IN_MEMORY >> 20} MiB")
    import pydicom
    from pydicom.config import disable_value_validation

    data = source.window(0, source.size)
    out = io.BytesIO()
    try:
        with warnings.catch_warnings(), disable_value_validation():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(data), force=True)
            _refuse_truncated(dataset)
            for _ in dataset.iterall():
                pass  # pydicom gives an element its VR when it decodes it
            meta = dataset.file_meta
            syntax = str(meta.get("TransferSyntaxUID", EXPLICIT))
            if not dataset.original_encoding[1]:
                _swap_words(dataset)
            if syntax in (IMPLICIT, _BIG_ENDIAN, _PAPYRUS, *DEFLATED):
                syntax = EXPLICIT
            del dataset[0x00000000:0x00080000]
            dataset.preamble = bytes(128)
            meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
            pydicom.dcmwrite(out, dataset, implicit_vr=False, little_endian=True, force_encoding=True)
    except Quarantined:
        raise
    except Exception as error:
        # pydicom's message may quote values
        raise Quarantined(Reason.MALFORMED, f"pydicom cannot read it either ({type(error).__name__})") from None
    return unpack(Source.of(out.getvalue()))


def _refuse_truncated(dataset: object, depth: int = 0) -> None:
    """Refuse what pydicom read short, of which it says nothing, and nests whose errors it repeats at each level."""
    from pydicom import Dataset
    from pydicom.dataelem import RawDataElement

    assert isinstance(dataset, Dataset)  # noqa: S101 - for the type checker
    if depth > _MAX_DEPTH:
        raise Quarantined(Reason.TOO_LARGE, f"needs pydicom and has over {_MAX_DEPTH} sequences within each other")
    for tag in dataset.keys():  # noqa: SIM118 - iterating a Dataset decodes every element
        raw = dataset.get_item(tag)
        if raw.VR in ("SQ", "UN"):
            for item in dataset[tag].value if dataset[tag].VR == "SQ" else ():
                _refuse_truncated(item, depth + 1)
        if (
            isinstance(raw, RawDataElement)
            and raw.value is not None
            and raw.length != 0xFFFFFFFF
            and len(raw.value) != raw.length
        ):
            raise Quarantined(Reason.TRUNCATED, "inside a value")


def _swap_words(dataset: object) -> None:
    """Turn values of more than one byte a unit, which pydicom leaves as bytes, to little endian."""
    import numpy as np
    from pydicom import Dataset

    width = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
    assert isinstance(dataset, Dataset)  # noqa: S101 - for the type checker
    for element in dataset.iterall():
        size = width.get(element.VR)
        if element.tag == 0x7FE00010 and size:
            # 8-bit pixels in OW lie in pairs, larger ones as numbers of their own size
            size = max(2, int(dataset.get("BitsAllocated", 16)) // 8)
        if size and isinstance(element.value, bytes):
            whole = len(element.value) // size * size
            element.value = np.frombuffer(element.value[:whole], f">u{size}").astype(f"<u{size}").tobytes()

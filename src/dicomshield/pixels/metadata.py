"""Text and previews inside compressed frames: what a codec's own headers may hold of a patient, and its removal.

Nothing here decodes pixels. What lies between two markers or boxes and is not known to hold only what a decoder
needs is cut out; the coded pixels stay as they are, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

from ..errors import Quarantined, Reason

__all__ = ["harmless", "head_is_clean", "without_metadata"]

_APP0, _APP8, _APP14, _APP15, _COM = 0xE0, 0xE8, 0xEE, 0xEF, 0xFE

# what encoders write of themselves; no part of a pattern can hold a word that is not in it
_SIGNATURE: Final = re.compile(
    rb"(?:Lavc\d{2}\.\d{1,3}\.\d{1,3}"
    rb"|LEAD Technologies Inc\. V1\.0[01]"
    rb"|CREATOR: gd-jpeg v1\.0 \(using IJG JPEG v\d{2,3}\), (?:default quality|quality = \d{1,3})"
    rb"|Intel\(R\) JPEG Library, version \[?\d\.\d{1,2}\.\d{1,2}\.\d{1,2}\]?"
    rb"|JPEG Encoder Copyright 1998, James R\. Weeks and BioElectroMech\."
    rb"|MITRA_DICOM_STANDARD)[\n\0]?"
)
_SIGNATURE_2000: Final = re.compile(
    rb"\x00\x01(?:Kakadu-v?\d{1,2}(?:\.\d{1,2}){1,3}"
    rb"|Kdu-Layer-Info: log_2\{Delta-D\((?:MSE|squared-error)\)/(?:\[2\^16\*)?Delta-L\(bytes\)\]?\}, L\(bytes\)\n"
    rb"(?: *-?\d{1,3}\.\d, +\d\.\de[+-]\d{2,3}\n){1,64}"
    rb"|Created by (?:GDCM/)?OpenJPEG version \d\.\d(?:\.\d{1,2})?"
    rb"|Creator: JasPer Version \d\.\d{1,3}\.\d{1,2}"
    rb"|OpenJPH Ver \d\.\d{1,2}\.\d{1,2}\.?"
    rb"|Pegasus Imaging Corp)\0?"
)
_JFIF: Final = re.compile(rb"JFIF\0\x01[\0-\x02][\0-\x02][\0-\x27][\0-\xff][\0-\x27][\0-\xff]\0\0")
_ADOBE: Final = re.compile(rb"Adobe\0[de][\0@\x80\xc0][\0-\x1f]\0\0[\0-\x02]")
_MRFX: Final = re.compile(rb"mrfx[\0-\x05]")


def harmless(marker: int, payload: bytes) -> bytes | None:
    """Judge an application or comment segment of JPEG and JPEG-LS (ITU-T T.81 B.2.4.5 and B.2.4.6).

    Parameters
    ----------
    marker : int
        Second byte of the marker: 0xE0 to 0xEF (APPn) or 0xFE (COM).
    payload : bytes
        What follows the length.

    Returns
    -------
    bytes or None
        The payload that may stay, without thumbnail, text and reserved fields, or None if the segment must go.
        The meaning of the samples never changes: what tells a decoder the colour space stays.
    """
    if marker == _COM:
        return payload if _SIGNATURE.fullmatch(payload) else None
    if marker == _APP0 and payload[:5] == b"JFIF\0" and len(payload) >= 14:
        clean = payload[:12] + b"\0\0"
        return clean if _JFIF.fullmatch(clean) else b"JFIF\0\1\1\0\0\1\0\1\0\0"
    if marker == _APP14 and payload[:5] == b"Adobe" and len(payload) >= 12:
        # decoders take an unknown transform for YCbCr
        transform = payload[11] if payload[11] <= 2 else 1
        return payload[:12] if _ADOBE.fullmatch(payload[:12]) else b"Adobe\0d\0\0\0\0" + bytes([transform])
    return payload if marker == _APP8 and _MRFX.fullmatch(payload) else None


def without_metadata(frame: bytes, syntax: str) -> bytes:
    """Cut text, previews and everything else that no decoder needs out of a compressed frame.

    Parameters
    ----------
    frame : bytes
        One whole frame, its fragments joined.
    syntax : str
        Transfer Syntax UID.

    Returns
    -------
    bytes
        The same object if there is nothing to cut. The coded pixels are the same in any case.

    Raises
    ------
    Quarantined
        PIXELS if the frame is broken, or holds what can neither be kept nor cut.
    """
    walker = _WALKERS.get(syntax)
    if walker is None:
        return frame
    try:
        edits = sorted(edit for edit in walker(_Reader(frame)) if edit)
    except _Short:
        raise _broken() from None
    if not edits:
        return frame
    parts: list[bytes | memoryview] = []
    at, view = 0, memoryview(frame)
    for edit in edits:
        parts += [view[at : edit.start], edit.new]
        at = edit.end
    return b"".join([*parts, view[at:]])


def head_is_clean(head: bytes, syntax: str) -> bool | None:
    """Judge a frame by its first bytes, as `without_metadata` would.

    Parameters
    ----------
    head : bytes
        The first bytes of a frame; 4 KiB do for most.
    syntax : str
        Transfer Syntax UID.

    Returns
    -------
    bool or None
        True if nothing before the coded pixels must be cut, False if something must, None if the head is too short
        to tell. What follows the first coded pixels is not seen: later scans and tiles, bytes after the end. A frame
        inside of boxes has them at both ends, so it is never judged clean.

    Raises
    ------
    Quarantined
        PIXELS as for `without_metadata`.
    """
    walker = _WALKERS.get(syntax)
    if walker is None:
        return True
    try:
        for edit in walker(_Reader(head)):
            return edit is None
    except _Short:
        pass
    return None


class _Edit(NamedTuple):
    """The bytes from ``start`` to ``end`` become ``new``."""

    start: int
    end: int
    new: bytes


_Edits = Iterator[_Edit | None]
"""What must change, in any order; None where the coded pixels begin and everything before them was seen."""


class _Short(Exception):
    """The bytes end before the frame does."""


class _Reader:
    """Big-endian numbers of a frame, as many as a sound frame may need."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = 1 << 20

    def number(self, at: int, size: int) -> int:
        self._left -= 1
        if not self._left:
            raise _broken()
        if at + size > len(self.data):
            raise _Short
        return int.from_bytes(self.data[at : at + size], "big")


def _broken() -> Quarantined:
    return Quarantined(Reason.PIXELS, "the structure of a compressed frame is broken or not understood")


def _tail(reader: _Reader, at: int, stop: int) -> _Edits:
    """Cut what follows the end, unless it is padding."""
    if reader.data[at:stop].strip(b"\0\xff"):
        yield _Edit(at, stop, b"")


def _segment_end(reader: _Reader, at: int) -> int:
    """Return where the marker segment at ``at`` ends, all of which must be there."""
    length = reader.number(at + 2, 2)
    if length < 2:
        raise _broken()
    reader.number(at + length + 1, 1)
    return at + 2 + length


# JPEG (ITU-T T.81) and JPEG-LS (ITU-T T.87)

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
# frame headers, Huffman and arithmetic tables, scans, quantization, number of lines, restart interval
_JPEG_MARKERS: Final = frozenset({*range(0xC0, 0xD0), 0xDA, 0xDB, 0xDC, 0xDD}) - {0xC8}
_JPEG_LS_MARKERS: Final = frozenset({0xF7, 0xF8, 0xDA, 0xDC, 0xDD})
# JPEG escapes 0xFF by a zero byte, JPEG-LS by a zero bit
_JPEG_MARKER: Final = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")
_JPEG_LS_MARKER: Final = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")


def _jpeg(reader: _Reader, markers: frozenset[int] = _JPEG_MARKERS, scan: re.Pattern[bytes] = _JPEG_MARKER) -> _Edits:
    data = reader.data
    if reader.number(0, 2) != 0xFF00 | _SOI:
        raise _broken()
    at, scans = 2, 0
    while True:
        start = at
        while reader.number(at, 2) == 0xFFFF:
            at += 1
        marker = reader.number(at, 2) ^ 0xFF00
        if marker == _EOI and scans:
            yield from _tail(reader, at + 2, len(data))
            return
        payload, at = at + 4, _segment_end(reader, at)
        if _APP0 <= marker <= _APP15 or marker == _COM:
            kept = harmless(marker, data[payload:at])
            if kept is None:
                yield _Edit(start, at, b"")
            elif kept != data[payload:at]:
                yield _Edit(start, at, bytes([0xFF, marker]) + (len(kept) + 2).to_bytes(2, "big") + kept)
        elif marker not in markers:
            raise _broken()
        if marker == _SOS:
            yield None
            scans += 1
            found = scan.search(data, at)
            if not found:
                raise _Short
            at = found.start()


def _jpeg_ls(reader: _Reader) -> _Edits:
    return _jpeg(reader, _JPEG_LS_MARKERS, _JPEG_LS_MARKER)


# JPEG 2000 (ITU-T T.800, T.801) and High-Throughput JPEG 2000 (ITU-T T.814)

_SOC, _SOT, _SOD, _EOC, _COM_2000, _TLM = 0xFF4F, 0xFF90, 0xFF93, 0xFFD9, 0xFF64, 0xFF55
# T.800 Table A.2 and T.801 Table A.1: capabilities, profiles, coding, quantization, pointers, comments, transforms
_MARKERS_2000: Final = frozenset({
    *range(0xFF50, 0xFF54), *range(0xFF55, 0xFF5A), *range(0xFF5C, 0xFF62), 0xFF63, _COM_2000, *range(0xFF70, 0xFF7A),
})  # fmt: skip
# the number of a packet may look like the end, right after the head of its SOP segment
_END_2000: Final = re.compile(rb"(?<!\xff\x91\x00\x04)\xff\xd9")


def _jpeg_2000(reader: _Reader) -> _Edits:
    if reader.number(0, 4) == 12:
        return _file(reader, b"jP  ", _JP2, frozenset({b"jp2c"}))
    return _codestream(reader, 0, len(reader.data))


def _codestream(reader: _Reader, at: int, stop: int) -> _Edits:
    if reader.number(at, 2) != _SOC:
        raise _broken()
    at, texts, pointers = _header_2000(reader, at + 2, _SOT)
    yield from texts
    yield None
    while reader.number(at, 2) == _SOT:
        part, length = at, reader.number(at + 6, 4)
        at, texts, _ = _header_2000(reader, _segment_end(reader, part), _SOD)
        yield from texts
        coded, at = at + 2, part + length if length else _end_2000(reader, at + 2, stop)
        if at < coded:
            raise _broken()
        if texts:
            # pointers to tile-parts may be left out, so they need no mending
            yield from pointers
            pointers = []
            shorter = length - sum(edit.end - edit.start for edit in texts)
            yield _Edit(part + 6, part + 10, (shorter if length else 0).to_bytes(4, "big"))
    if reader.number(at, 2) != _EOC or at + 2 > stop:
        raise _broken()
    yield from _tail(reader, at + 2, stop)


def _header_2000(reader: _Reader, at: int, last: int) -> tuple[int, list[_Edit], list[_Edit]]:
    """Walk a main or tile-part header; return where ``last`` begins, the cuts of comments, and of TLM segments."""
    texts, pointers = [], []
    while (marker := reader.number(at, 2)) != last:
        if marker not in _MARKERS_2000:
            raise _broken()
        start, at = at, _segment_end(reader, at)
        if marker == _COM_2000 and not _SIGNATURE_2000.fullmatch(reader.data[start + 4 : at]):
            texts.append(_Edit(start, at, b""))
        if marker == _TLM:
            pointers.append(_Edit(start, at, b""))
    return at, texts, pointers


def _end_2000(reader: _Reader, at: int, stop: int) -> int:
    """Return where the codestream ends, whose last tile-part has no length; coded data hold no markers."""
    found = _END_2000.search(reader.data, at, stop)
    if not found:
        raise _Short
    return found.start()


# Boxes (ITU-T T.800 annex I, ISO/IEC 18181-2): the file formats around JPEG 2000 and JPEG XL

_Rule = Callable[[_Reader, int, int], _Edits]
"""Walks the content of a box, from its start to its end."""


def _file(reader: _Reader, name: bytes, rules: Mapping[bytes, _Rule], needed: frozenset[bytes]) -> _Edits:
    """Walk the boxes of a file, the first of which says which format it is."""
    reader.number(11, 1)
    if reader.data[:12] != b"\0\0\0\x0c" + name + b"\r\n\x87\n":
        raise _broken()
    return _boxed(reader, 0, len(reader.data), rules, needed)


def _boxed(reader: _Reader, at: int, stop: int, rules: Mapping[bytes, _Rule], needed: frozenset[bytes]) -> _Edits:
    """Keep the boxes that have a rule, and cut all others; one of the ``needed`` kinds must be there."""
    kinds = set()
    while stop - at >= 8:
        start, length = at, reader.number(at, 4)
        kind, body = reader.data[at + 4 : at + 8], at + 8
        if length == 1:
            length, body = reader.number(at + 8, 8), at + 16
        at = start + length if length else stop
        if at > stop:
            raise _Short
        if at < body:
            raise _broken()
        kinds.add(kind)
        if kind not in rules:
            yield _Edit(start, at, b"")
            continue
        edits = [edit for edit in rules[kind](reader, body, at) if edit]
        yield from edits
        if edits and length:
            length += sum(len(edit.new) - (edit.end - edit.start) for edit in edits)
            wide = body - start == 16
            head = (1 if wide else length).to_bytes(4, "big") + kind + (length.to_bytes(8, "big") if wide else b"")
            yield _Edit(start, body, head)
    yield from _tail(reader, at, stop)
    if not needed & kinds:
        raise _broken()


def _plain(_reader: _Reader, _at: int, _stop: int) -> _Edits:
    """Keep the whole content."""
    return iter(())


_BRANDS: Final = re.compile(rb"(?:jp2 |jpx |jph |jxl )\0{4}(?:jp2 |jpx |jpxb|jph |jxl ){1,4}")


def _brands(reader: _Reader, at: int, stop: int) -> _Edits:
    """Keep the names of formats that are known."""
    if not _BRANDS.fullmatch(reader.data[at:stop]):
        yield _Edit(at, stop, b"jp2 \0\0\0\0jp2 ")


def _colour(reader: _Reader, at: int, stop: int) -> _Edits:
    """Keep an enumerated colour space; a profile, which holds text, becomes the space that it describes."""
    content = reader.data[at:stop]
    if content[:1] == b"\1" and len(content) >= 7:
        plain = content[:7]
    else:
        plain = b"\1\0\0\0\0\0" + (b"\x11" if content[19:23] == b"GRAY" else b"\x10")
    if plain != content:
        yield _Edit(at, stop, plain)


def _rebuilding(_reader: _Reader, _at: int, _stop: int) -> _Edits:
    """Refuse data that turn JPEG XL into JPEG again: they hold its text and thumbnails, compressed."""
    raise Quarantined(Reason.PIXELS, "a JPEG XL frame holds the headers of a JPEG image")


_RESOLUTION: Final[dict[bytes, _Rule]] = {b"resc": _plain, b"resd": _plain}
_IMAGE_HEADER: Final[dict[bytes, _Rule]] = {
    **dict.fromkeys((b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef"), _plain),
    b"colr": _colour,
    b"res ": partial(_boxed, rules=_RESOLUTION, needed=frozenset(_RESOLUTION)),
}
_JP2: Final[dict[bytes, _Rule]] = {
    b"jP  ": _plain,
    b"ftyp": _brands,
    b"jp2h": partial(_boxed, rules=_IMAGE_HEADER, needed=frozenset({b"ihdr"})),
    b"jp2c": _codestream,
}
_JXL: Final[dict[bytes, _Rule]] = {
    **dict.fromkeys((b"JXL ", b"jxlc", b"jxlp", b"jxll"), _plain),
    b"ftyp": _brands,
    b"jbrd": _rebuilding,
}


def _jpeg_xl(reader: _Reader) -> _Edits:
    if reader.number(0, 2) == 0xFF0A:
        yield None
        return
    yield from _file(reader, b"JXL ", _JXL, frozenset({b"jxlc", b"jxlp"}))


_UID: Final = "1.2.840.10008.1.2.4."
_WALKERS: Final = (
    dict.fromkeys((_UID + last for last in "50 51 53 55 57 70".split()), _jpeg)
    | dict.fromkeys((_UID + last for last in "80 81".split()), _jpeg_ls)
    | dict.fromkeys((_UID + last for last in "90 91 92 93 201 202 203".split()), _jpeg_2000)
    | dict.fromkeys((_UID + last for last in "110 111 112".split()), _jpeg_xl)
)

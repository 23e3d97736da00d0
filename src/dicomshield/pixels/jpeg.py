"""Black out parts of sequential Huffman JPEG frames in the compressed domain (ITU-T T.81; PS3.5 A.4.1).

A frame is taken apart down to its Huffman codes and put together again, never decoded to pixels. A masked block
becomes a DC coefficient that decodes to black and an end of block; behind it, one DC difference of each component is
coded anew. The bits of all other blocks are copied, so their DCT coefficients are the same. Codes that a Huffman
table lacks are added behind the ones it has, which stay.

Masks grow outward to whole MCUs. Where chrominance is subsampled, a decoder that smooths it mixes a mask and what
surrounds it in the pixels on either side of the border; the coefficients are not touched.

The whole frame is always read, even behind the last mask: what is broken there is found, and the frame refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ..errors import Quarantined, Reason
from .fast import fast
from .layout import Layout
from .metadata import harmless
from .region import Boxes, Region, compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["aligned", "mask_frame"]

_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_SOF0, _SOF1, _DHT, _SOS, _DQT, _DRI = 0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD
_APP0, _APP14, _APP15, _COM = 0xE0, 0xEE, 0xEF, 0xFE
_MARKER: Final = re.compile(rb"\xff+([^\0\xff])")
_AFTER_SCAN: Final = re.compile(rb"\xff[^\0\xd0-\xd7\xff]")
_MOST: Final = 1 << 24
"""Blocks of a scan, a gigapixel; masked ones cost half as much memory as their pixels."""
_UNKNOWN: Final = {
    **dict.fromkeys((0xC2, 0xCA), "progressive, masked only after conversion"),
    **dict.fromkeys((0xC3, 0xCB), "lossless coding under the transfer syntax of another"),
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "hierarchical, masked only after conversion"),
    **dict.fromkeys((0xC9, 0xCC), "arithmetic coding, masked only after conversion"),
    0xDC: "a DNL segment",
}
_TROUBLE: Final = {
    -1: "the entropy-coded data end too early",
    -2: "a Huffman code that means nothing here",
    -3: "more than 64 coefficients in a block",
    -4: "a DC coefficient out of range",
    -5: "restart markers are missing, too many or in a wrong order",
    -6: "more entropy-coded data than there can be",
}


def mask_frame(frame: bytes, boxes: Boxes, layout: Layout) -> bytes:
    """Return a JPEG frame in which every MCU that a box touches is black, and all else as it was.

    Black is white in MONOCHROME1. Application and comment segments that are not known to be harmless go, and so does
    everything else that no decoder needs.

    Parameters
    ----------
    frame : bytes
        SOF0 (baseline) or SOF1 (extended, 8 or 12 bit); a missing EOI is added.
    boxes : Boxes
    layout : Layout

    Raises
    ------
    Quarantined
        PIXELS if the frame is broken, of another kind, not of this layout, or if black cannot be coded; TOO_LARGE if
        it has more than a gigapixel.
    """
    rewrite = _Rewrite(boxes, layout)
    for marker, payload, coded in _segments(frame):
        rewrite.segment(marker, payload, coded)
    return rewrite.finished()


def aligned(frame: bytes, boxes: Boxes) -> Boxes:
    """Return the area that `mask_frame` blacks out: the boxes grown to whole MCUs, inside the frame.

    Raises
    ------
    Quarantined
        PIXELS as for `mask_frame`, as far as the frame header.
    """
    for marker, payload, _ in _segments(frame):
        if marker in (_SOF0, _SOF1):
            header = _Header.of(marker, payload)
            down, across = header.unit
            grown = [
                Region(top - top % down, left - left % across, -(-bottom // down) * down, -(-right // across) * across)
                for top, bottom, left, right in boxes
            ]
            return compiled(grown, header.rows, header.columns, 1)[0].boxes
    raise _refused("no frame header")


def _refused(what: str) -> Quarantined:
    return Quarantined(Reason.PIXELS, f"JPEG: {what}")


def _segments(frame: bytes) -> Iterator[tuple[int, bytes, NDArray[np.uint8]]]:
    """Yield marker, payload and the entropy-coded data that follow, up to EOI or the end (T.81 B.1.1)."""
    if frame[:2] != _SOI:
        raise _refused("does not begin with SOI")
    at = 2
    while at < len(frame):
        found = _MARKER.match(frame, at)
        if not found:
            raise _refused("no marker where one must be")
        if found[0][-2:] == _EOI:
            return
        start = found.end()
        at = start + int.from_bytes(frame[start : start + 2], "big")
        if not start + 2 <= at <= len(frame):
            raise _refused("a segment ends beyond the frame")
        payload, coded = frame[start + 2 : at], at
        if found[1][0] == _SOS:
            after = _AFTER_SCAN.search(frame, at)
            at = after.start() if after else len(frame)
        yield found[1][0], payload, np.frombuffer(frame, np.uint8, at - coded, coded)


class _Component(NamedTuple):
    """Sampling factors and quantization table of a component (T.81 B.2.2)."""

    across: int
    down: int
    quantizer: int


class _Header(NamedTuple):
    """What a frame header says (T.81 B.2.2); components by their identifiers."""

    precision: int
    rows: int
    columns: int
    components: dict[int, _Component]

    @classmethod
    def of(cls, marker: int, payload: bytes) -> _Header:
        """Read a frame header.

        Raises
        ------
        Quarantined
            PIXELS if it breaks the standard, or is of an image that DICOM does not have.
        """
        number = payload[5] if len(payload) > 5 else 0
        if number not in (1, 3) or len(payload) != 6 + 3 * number:
            raise _refused("the frame header has not one or three components, or a wrong length")
        components = {
            payload[at]: _Component(payload[at + 1] >> 4, payload[at + 1] & 15, payload[at + 2])
            for at in range(6, len(payload), 3)
        }
        if len(components) != number:
            raise _refused("two components with the same identifier")
        if not all([1 <= factor <= 4 for one in components.values() for factor in one[:2]]):
            raise _refused("sampling factors out of range")
        if number == 1:
            # the blocks of a lone component lie in rows, whatever its sampling factors are (T.81 A.2.2)
            components = {key: one._replace(across=1, down=1) for key, one in components.items()}
        rows, columns = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:5], "big")
        if not rows or not columns:
            raise _refused("no columns, or rows that only DNL would tell")
        if payload[0] not in ((8,) if marker == _SOF0 else (8, 12)):
            raise _refused("a precision that the process does not have")
        return cls(payload[0], rows, columns, components)

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns of an MCU, in pixels."""
        factors = self.components.values()
        return 8 * max([one.down for one in factors]), 8 * max([one.across for one in factors])

    @property
    def mcus(self) -> tuple[int, int]:
        """Rows and columns of the frame, in MCUs."""
        down, across = self.unit
        return -(-self.rows // down), -(-self.columns // across)

    def blocks(self, one: _Component) -> tuple[int, int]:
        """Rows and columns of a component, in blocks, when it has a scan of its own (T.81 A.1.1, A.2.2)."""
        down, across = self.unit
        rows, columns = -(-self.rows * 8 * one.down // down), -(-self.columns * 8 * one.across // across)
        return -(-rows // 8), -(-columns // 8)

    def check(self, layout: Layout) -> None:
        """Compare with the header of the object.

        Raises
        ------
        Quarantined
            PIXELS if they contradict each other.
        """
        if (self.rows, self.columns, len(self.components)) != (layout.rows, layout.columns, layout.samples):
            raise _refused("Rows, Columns or Samples per Pixel are not those of the object")
        if (self.precision == 8) != (layout.stored <= 8) or layout.stored > self.precision:
            raise _refused("the precision does not fit Bits Stored")

    def black(self, layout: Layout, space: str) -> dict[int, int]:
        """Return the sample of black for each component; ``space`` is what JFIF or Adobe segments say, if any."""
        top, middle = (1 << self.precision) - 1, 1 << self.precision - 1
        if len(self.components) == 1:
            # where more bits are coded than stored, viewers cut off or clip what is too much
            black = layout.black[0]
            return dict.fromkeys(self.components, top if black == (1 << layout.stored) - 1 else black & top)
        first, *others = self.components.values()
        if not space:
            space = "RGB" if bytes(self.components) == b"RGB" or layout.photometric == "RGB" else "YBR"
        if any([one[:2] != first[:2] for one in others]):
            space = "YBR"
        return dict(zip(self.components, (0, 0, 0) if space == "RGB" else (0, middle, middle), strict=True))


def _tables(marker: int, payload: bytes) -> dict[tuple[int, int], bytes]:
    """Divide a DQT or DHT segment into its tables, by marker and identifier (T.81 B.2.4.1, B.2.4.2)."""
    tables: dict[tuple[int, int], bytes] = {}
    at = 0
    while at < len(payload):
        kind, key = payload[at] >> 4, payload[at] & 15
        size = 65 + 64 * kind if marker == _DQT else 17 + sum(payload[at + 1 : at + 17])
        table = payload[at : at + size]
        if kind > 1 or key > 3 or len(table) != size or (marker == _DHT and not _is_huffman(table)):
            raise _refused("a broken quantization or Huffman table")
        tables[marker, key if marker == _DQT else table[0]] = table
        at += size
    return tables


def _is_huffman(table: bytes) -> bool:
    """Tell whether a table has codes for all its symbols, and for DC categories none of more than 15 bits."""
    return len(table) <= 17 + 256 and _room(table) >= 0 and (table[0] >> 4 == 1 or max(table[17:], default=0) < 16)


def _room(table: bytes) -> int:
    """Return how many codes of 16 bits are left, but the one of ones only, which is not allowed (T.81 C.2)."""
    return (1 << 16) - 1 - sum([count << 15 - at for at, count in enumerate(table[1:17])])


def _black_dc(black: int, precision: int, quantization: bytes) -> int:
    """Return the quantized DC coefficient of a block whose every sample is ``black``.

    Without other coefficients each sample is an eighth of it, above the middle of the range (T.81 A.3.1, A.3.3); the
    lowest and the highest are reached by clamping.

    Parameters
    ----------
    black : int
    precision : int
        8 or 12.
    quantization : bytes
        The table as in DQT.

    Raises
    ------
    Quarantined
        PIXELS if there is none.
    """
    step = int.from_bytes(quantization[1:3] if quantization[0] >> 4 else quantization[1:2], "big")
    level = 8 * (black - (1 << precision - 1))
    if step:
        quantized = -(-level // step) if black else level // step
        reached = quantized * step
        # decoders clamp by a table four times as wide as the range, and are wrong beyond it
        clamped = black in (0, (1 << precision) - 1) and -(2 << precision) <= (reached + 4) >> 3 < 2 << precision
        if clamped or reached == level:
            return quantized
    raise _refused("no DC coefficient is black with this quantization")


class _Slot(NamedTuple):
    """A component of a scan, its DC coefficient of black and its tables as in DQT and DHT."""

    component: _Component
    black: int
    quantization: bytes
    direct: bytes
    alternating: bytes


class _Rewrite:
    """A frame on its way from one form to the other, segment by segment."""

    def __init__(self, boxes: Boxes, layout: Layout) -> None:
        self._boxes, self._layout = boxes, layout
        self._header: _Header | None = None
        self._frame_header = (0, b"")
        self._space = ""
        self._black: dict[int, int] = {}
        self._missing: set[int] = set()
        self._tables: dict[tuple[int, int], bytes] = {(_DRI, 0): b"\0\0"}
        self._written = self._tables.copy()
        self._parts = [_SOI]

    def segment(self, marker: int, payload: bytes, coded: NDArray[np.uint8]) -> None:
        """Take the next segment."""
        if marker in (_DQT, _DHT):
            self._tables |= _tables(marker, payload)
        elif marker == _SOS:
            self._scan(payload, coded)
        elif marker in (_SOF0, _SOF1):
            self._begin(marker, payload)
        elif _APP0 <= marker <= _APP15 or marker == _COM:
            self._application(marker, payload)
        elif marker == _DRI and len(payload) == 2:
            self._tables[_DRI, 0] = payload
        else:
            raise _refused(_UNKNOWN.get(marker, "a segment that is not understood"))

    def finished(self) -> bytes:
        """Return the new frame."""
        if self._header is None or self._missing:
            raise _refused("components are missing")
        return b"".join([*self._parts, _EOI])

    def _application(self, marker: int, payload: bytes) -> None:
        """Keep what is harmless, and learn the colour space."""
        kept = harmless(marker, payload)
        if kept is None:
            return
        if marker == _APP14:
            self._space = "YBR" if kept[11] else "RGB"
        elif marker == _APP0:
            self._space = self._space or "YBR"
        self._write(marker, kept)

    def _begin(self, marker: int, payload: bytes) -> None:
        if self._header is not None:
            raise _refused("two frame headers")
        self._header = _Header.of(marker, payload)
        self._header.check(self._layout)
        self._frame_header = marker, payload
        self._missing = set(self._header.components)

    def _scan(self, payload: bytes, coded: NDArray[np.uint8]) -> None:
        """Rewrite a scan, after the tables it needs that are not written yet."""
        header = self._header
        if header is None:
            raise _refused("a scan before the frame header")
        slots = self._slots(header, payload)
        interval = self._tables[_DRI, 0]
        scan = _masked_scan(header, slots, int.from_bytes(interval, "big"), self._boxes, coded)
        for slot in slots:
            self._renew(_DQT, slot.component.quantizer, slot.quantization)
        self._renew(self._frame_header[0], 0, self._frame_header[1])
        for slot in slots:
            for table in (slot.direct, slot.alternating):
                self._renew(_DHT, table[0], _extended(table, header.precision))
        self._renew(_DRI, 0, interval)
        self._write(_SOS, payload[:-3] + b"\0\x3f\0")
        self._parts.append(scan)

    def _slots(self, header: _Header, payload: bytes) -> list[_Slot]:
        """Read a scan header (T.81 B.2.3)."""
        chosen, pairs = payload[1:-3:2], payload[2:-3:2]
        # some encoders write 0 for the last coefficient
        size = 4 + 2 * len(pairs)
        if len(payload) != size or payload[0] != len(pairs) or payload[-3:] not in (b"\0\x3f\0", b"\0\0\0"):
            raise _refused("not the header of a sequential scan")
        if not chosen or len(set(chosen)) < len(chosen) or not self._missing.issuperset(chosen):
            raise _refused("a scan of unknown components, or of some that were there already")
        self._missing -= set(chosen)
        self._black = self._black or header.black(self._layout, self._space)
        slots = []
        for key, pair in zip(chosen, pairs, strict=True):
            one = header.components[key]
            needed = ((_DQT, one.quantizer), (_DHT, pair >> 4), (_DHT, 16 | pair & 15))
            if not all([which in self._tables for which in needed]):
                raise _refused("a quantization or Huffman table is missing")
            quantization, direct, alternating = [self._tables[which] for which in needed]
            black = _black_dc(self._black[key], header.precision, quantization)
            slots.append(_Slot(one, black, quantization, direct, alternating))
        return slots

    def _renew(self, marker: int, key: int, table: bytes) -> None:
        """Write a table unless the last one written is the same."""
        if self._written.get((marker, key)) != table:
            self._written[marker, key] = table
            self._write(marker, table)

    def _write(self, marker: int, payload: bytes) -> None:
        self._parts.append(bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload)


@lru_cache(maxsize=64)
def _extended(table: bytes, precision: int) -> bytes:
    """Add the symbols that a mask needs to a Huffman table, with the longest codes: those it has do not change."""
    needed = (0,) if table[0] >> 4 else range(_largest(precision) + 1)
    missing = bytes([symbol for symbol in needed if symbol not in table[17:]])
    if len(missing) > _room(table) or len(missing) + table[16] > 255:
        raise _refused("a Huffman table has no room for the codes of black")
    return table[:16] + bytes([table[16] + len(missing)]) + table[17:] + missing


def _largest(precision: int) -> int:
    """Return the largest category of a DC difference (T.81 F.1.2.1.1)."""
    return 11 if precision == 8 else 15


class _Codebook(NamedTuple):
    """The Huffman tables of a scan, as `_edits` takes them.

    Attributes
    ----------
    plan : (3 * blocks of an MCU,) int64
        For each block its component and the numbers of its DC and its AC table.
    peek, whole : (tables << 10,) and (tables << 16,) uint16
        What the next 10 and the next 16 bits mean by each table, or 0 if they mean nothing or more bits are needed.
        In a DC table it is category << 5 | length of the code. In an AC table it is the number of coefficients, or
        128 for the end of block, << 5 | length of the code and the bits that follow it (T.81 F.1.2.1, F.1.2.2).
    codes : (17 * components,) int64
        Code << 5 | length, of each DC category and of the end of block.
    largest : int
        DC category.
    """

    plan: NDArray[np.int64]
    peek: NDArray[np.uint16]
    whole: NDArray[np.uint16]
    codes: NDArray[np.int64]
    largest: int


@lru_cache(maxsize=8)
def _codebook(precision: int, blocks: tuple[int, ...], pairs: tuple[tuple[bytes, bytes], ...]) -> _Codebook:
    """Prepare the tables of a scan.

    Parameters
    ----------
    precision : int
    blocks : tuple of int
        The component of each block of an MCU.
    pairs : tuple of (bytes, bytes)
        DC and AC table of each component, as in DHT.
    """
    tables = list(dict.fromkeys([table for pair in pairs for table in pair]))
    peek, whole = np.zeros((len(tables), 1 << 10), np.uint16), np.zeros((len(tables), 1 << 16), np.uint16)
    for number, table in enumerate(tables):
        lengths = np.repeat(np.arange(1, 17), list(table[1:17]))
        meanings = np.repeat(_meanings(table, lengths, precision), 1 << 16 - lengths)
        whole[number, : meanings.size] = meanings
        # longer codes come last
        short = int((1 << 16 - lengths[lengths <= 10]).sum())
        peek[number, : short >> 6] = meanings[:short:64]
    codes = []
    for direct, alternating in pairs:
        ends, categories = _codes(_extended(alternating, precision)), _codes(_extended(direct, precision))
        codes += [*[categories.get(size, 0) for size in range(16)], ends[0]]
    plan = [(at, tables.index(pairs[at][0]), tables.index(pairs[at][1])) for at in blocks]
    return _Codebook(
        np.array(plan, np.int64).ravel(), peek.ravel(), whole.ravel(), np.array(codes, np.int64), _largest(precision)
    )


def _meanings(table: bytes, lengths: NDArray[np.int64], precision: int) -> NDArray[np.int64]:
    """Return the meaning of each symbol, as in `_Codebook`; 0 if it has none."""
    symbols = np.frombuffer(table, np.uint8, offset=17).astype(np.int64)
    if table[0] >> 4 == 0:
        return np.where(symbols <= _largest(precision), symbols << 5 | lengths, 0)
    size, run = symbols & 15, symbols >> 4
    known = np.where(size, size <= precision + 2, (run == 0) | (run == 15))
    return np.where(known, np.where(symbols, run + 1, 128) << 5 | lengths + size, 0)


def _codes(table: bytes) -> dict[int, int]:
    """Return the code << 5 | length of each symbol (T.81 C.2)."""
    codes, code, symbols = {}, 0, iter(table[17:])
    for length in range(1, 17):
        for symbol in islice(symbols, table[length]):
            codes[symbol] = code << 5 | length
            code += 1
        code <<= 1
    return codes


def _masked_scan(
    header: _Header, slots: Sequence[_Slot], interval: int, boxes: Boxes, coded: NDArray[np.uint8]
) -> bytes:
    """Return the entropy-coded data of a scan, masked.

    Raises
    ------
    Quarantined
        PIXELS if they are broken, TOO_LARGE if they are too many.
    """
    rows, columns = header.mcus
    blocks = [at for at, slot in enumerate(slots) for _ in range(slot.component.across * slot.component.down)]
    if len(slots) == 1:
        (rows, columns), blocks = header.blocks(slots[0].component), [0]
    total = rows * columns * len(blocks)
    # before memory is taken for what cannot be there: a block has two codes
    if len(blocks) > 10 or total > 4 * coded.size:
        raise _refused("more blocks than an MCU or the entropy-coded data can hold")
    if total > _MOST:
        raise Quarantined(Reason.TOO_LARGE, "JPEG: a frame of more than a gigapixel")
    words, ends = _words(coded, interval or rows * columns, rows * columns)
    edits = np.empty(4 * (total + ends.size), np.int64)
    number = _checked(
        _edits(
            words, ends, interval or rows * columns, _mcu_mask(header, slots, boxes),
            *_codebook(header.precision, tuple(blocks), tuple([(slot.direct, slot.alternating) for slot in slots])),
            np.array([slot.black for slot in slots], np.int64), np.empty(2 * len(slots), np.int64), edits,
        )
    )  # fmt: skip
    # an edit adds less than 8 bytes to those that are copied, and byte stuffing doubles them at worst
    out = np.empty(2 * (4 * words.size + 8 * number) + 16, np.uint8)
    return out[: _checked(_spliced(words, edits, number, out))].tobytes()


def _checked(result: int) -> int:
    if result < 0:
        raise _refused(_TROUBLE[result])
    return result


def _mcu_mask(header: _Header, slots: Sequence[_Slot], boxes: Boxes) -> NDArray[np.uint8]:
    """Return 1 for each masked MCU of a scan and 0 for the others."""
    down, across = header.unit
    mask = np.zeros(header.mcus, np.uint8)
    for top, bottom, left, right in boxes:
        mask[top // down : -(-bottom // down), left // across : -(-right // across)] = 1
    if len(slots) == 1:
        one = slots[0].component
        rows, columns = header.blocks(one)
        mask = mask.repeat(one.down, 0).repeat(one.across, 1)[:rows, :columns]
    return np.ascontiguousarray(mask).ravel()


def _words(coded: NDArray[np.uint8], interval: int, mcus: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the data of a scan as 32-bit numbers, and the bytes of them at which each restart interval ends."""
    ends = np.zeros(-(-mcus // interval), np.int64)
    data = np.empty((coded.size + 8) & -4, np.uint8)
    size = _checked(_unstuffed(coded, data, ends))
    data = data[: (size + 8) & -4]
    # looked at, though never taken
    data[size:] = 0
    return data.view(">u4").astype(np.int64), ends


@fast
def _unstuffed(coded: Any, data: Any, ends: Any) -> int:
    """Copy entropy-coded data without the zero bytes after 0xFF, fill bytes and restart markers (T.81 B.1.1.5).

    ``ends`` become the sizes of ``data`` at the restart markers and at the end. Returns the last of them, or -5.
    """
    size = number = at = 0
    while at < len(coded):
        byte = coded[at]
        at += 1
        if byte == 0xFF:
            while at < len(coded) and coded[at] == 0xFF:
                at += 1
            if at == len(coded):
                break
            follower = coded[at]
            at += 1
            if follower:
                if follower != 0xD0 + (number & 7) or number + 1 == len(ends):
                    return -5
                ends[number] = size
                number += 1
                continue
        data[size] = byte
        size += 1
    if number + 1 != len(ends):
        return -5
    ends[number] = size
    return size


@fast
def _edits(
    words: Any, ends: Any, interval: int, mask: Any, plan: Any, peek: Any, whole: Any, codes: Any, largest: int,
    blacks: Any, predictions: Any, edits: Any,
) -> int:  # fmt: skip
    """Find out what must change in a scan, and return the number of edits or what is wrong.

    An edit is: copy up to this bit; go on at this one; between them, put these bits; so many. After the last MCU
    before a restart marker the bits are that marker, or 0 at the end, and their number is -1.

    Parameters
    ----------
    words : (words,) int64
        The data without byte stuffing, and a word more.
    ends : (intervals,) int64
        Where each restart interval ends, in bytes.
    interval : int
        MCUs of a restart interval.
    mask : (MCUs,) uint8
    plan, peek, whole, codes, largest
        As in `_Codebook`.
    blacks : (components,) int64
        DC coefficients of a masked block.
    predictions : (2 * components,) int64
        Room for the last DC coefficient of each component, as it was and as it becomes.
    edits : (4 * (blocks + intervals),) int64
    """
    count = first = 0
    components = len(blacks)
    for number in range(len(ends)):
        for at in range(2 * components):
            predictions[at] = 0
        # `held` bits of `buffer` are unread, and those from `word` on
        position = 8 * ends[number - 1] if number else 0
        word = (position >> 5) + 1
        held = 32 - (position & 31)
        buffer = words[word - 1]
        last = min(first + interval, len(mask))
        for mcu in range(first, last):
            for step in range(0, len(plan), 3):
                component = plan[step]
                if held < 32:
                    if word == len(words):
                        return -1
                    buffer = (buffer & ((1 << held) - 1)) << 32 | words[word]
                    word += 1
                    held += 32
                start = 32 * word - held
                meaning = peek[plan[step + 1] << 10 | (buffer >> (held - 10)) & 0x3FF]
                if not meaning:
                    meaning = whole[plan[step + 1] << 16 | (buffer >> (held - 16)) & 0xFFFF]
                    if not meaning:
                        return -2
                size = meaning >> 5
                held -= (meaning & 31) + size
                difference = (buffer >> held) & ((1 << size) - 1)
                if difference * 2 < 1 << size:
                    difference -= (1 << size) - 1
                before = predictions[component]
                predictions[component] = now = before + difference
                resume = 32 * word - held
                table = plan[step + 2]
                coefficients = 1
                while coefficients < 64:
                    if held < 32:
                        if word == len(words):
                            return -1
                        buffer = (buffer & ((1 << held) - 1)) << 32 | words[word]
                        word += 1
                        held += 32
                    meaning = peek[table << 10 | (buffer >> (held - 10)) & 0x3FF]
                    if not meaning:
                        meaning = whole[table << 16 | (buffer >> (held - 16)) & 0xFFFF]
                        if not meaning:
                            return -2
                    held -= meaning & 31
                    coefficients += meaning >> 5
                if 64 < coefficients < 128:
                    return -3
                masked = mask[mcu]
                written = predictions[components + component]
                if masked or before != written:
                    if masked:
                        now = blacks[component]
                        resume = 32 * word - held
                    difference = now - written
                    predictions[components + component] = now
                    size = 0
                    while abs(difference) >> size:
                        size += 1
                    if size > largest:
                        return -4
                    code = codes[17 * component + size]
                    if difference < 0:
                        difference += (1 << size) - 1
                    bits = (code >> 5) << size | difference
                    length = (code & 31) + size
                    if masked:
                        code = codes[17 * component + 16]
                        bits = bits << (code & 31) | code >> 5
                        length += code & 31
                    edits[count] = start
                    edits[count + 1] = resume
                    edits[count + 2] = bits
                    edits[count + 3] = length
                    count += 4
                else:
                    predictions[components + component] = now
        first = last
        edits[count] = 32 * word - held
        edits[count + 1] = 8 * ends[number]
        if edits[count] > edits[count + 1]:
            return -1
        edits[count + 2] = 0xD0 + (number & 7) if number + 1 < len(ends) else 0
        edits[count + 3] = -1
        count += 4
    return count >> 2


@fast
def _spliced(words: Any, edits: Any, number: int, out: Any) -> int:
    """Carry out the first ``number`` edits of `_edits`, with byte stuffing; return the size of ``out``, or -6."""
    buffer = held = size = at = 0
    for edit in range(0, 4 * number, 4):
        stop, bits, left = edits[edit], edits[edit + 2], edits[edit + 3]
        marker = bits if left < 0 else 0
        padded = left >= 0
        while True:
            if at < stop:
                taken = min(32 - (at & 31), stop - at)
                piece = words[at >> 5] >> (32 - (at & 31) - taken)
                at += taken
            elif left > 0:
                taken = min(31, left)
                left -= taken
                piece = bits >> left
            elif padded:
                break
            else:
                # the last byte is filled with ones
                taken = -held % 8
                piece = 0xFF
                padded = True
            buffer = (buffer & 0xFF) << taken | piece & ((1 << taken) - 1)
            held += taken
            if size + 12 > len(out):
                return -6
            while held >= 8:
                held -= 8
                byte = (buffer >> held) & 0xFF
                out[size] = byte
                size += 1
                if byte == 0xFF:
                    out[size] = 0
                    size += 1
        if marker:
            out[size] = 0xFF
            out[size + 1] = marker
            size += 2
        at = edits[edit + 1]
    return size

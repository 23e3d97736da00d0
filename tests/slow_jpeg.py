"""Sequential JPEG read and written down to its DCT coefficients, slowly and by the letter of ITU-T T.81.

It shares nothing with the package, and is its second opinion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

Block = tuple[int, ...]
"""64 quantized coefficients in zigzag order."""


class Broken(Exception):
    """No sequential JPEG, or a broken one."""


class Component(NamedTuple):
    """Sampling factors, and the quantization table in zigzag order."""

    across: int
    down: int
    quantization: tuple[int, ...]


class Picture(NamedTuple):
    """A frame; its components by identifier, its blocks by component, block row and block column."""

    precision: int
    rows: int
    columns: int
    components: dict[int, Component]
    blocks: dict[tuple[int, int, int], Block]

    @property
    def unit(self) -> tuple[int, int]:
        """Rows and columns of an MCU."""
        if len(self.components) == 1:
            return 8, 8
        return 8 * max(c.down for c in self.components.values()), 8 * max(c.across for c in self.components.values())

    def mcus(self, scan: Sequence[int]) -> list[list[tuple[int, int, int]]]:
        """Return the blocks of each MCU of a scan of these components, in order (A.2)."""
        down, across = self.unit
        if len(scan) == 1:
            one = self.components[scan[0]]
            whole = len(self.components) == 1
            rows = self.rows if whole else _up(self.rows * one.down * 8, down)
            columns = self.columns if whole else _up(self.columns * one.across * 8, across)
            return [[(scan[0], row, column)] for row in range(_up(rows, 8)) for column in range(_up(columns, 8))]
        return [
            [
                (key, row * self.components[key].down + y, column * self.components[key].across + x)
                for key in scan
                for y in range(self.components[key].down)
                for x in range(self.components[key].across)
            ]
            for row in range(_up(self.rows, down))
            for column in range(_up(self.columns, across))
        ]

    def masked(self, place: tuple[int, int, int], boxes: Sequence[tuple[int, int, int, int]]) -> bool:
        """Tell whether the MCU of this block touches a box (top, bottom, left, right)."""
        one = self.components[place[0]]
        whole = len(self.components) == 1
        row, column = place[1] // (1 if whole else one.down), place[2] // (1 if whole else one.across)
        down, across = self.unit
        return any(
            row * down < bottom and top < (row + 1) * down and column * across < right and left < (column + 1) * across
            for top, bottom, left, right in boxes
        )


def flat(block: Block, component: Component, precision: int) -> int | None:
    """Return the one sample that a block consists of, None if it has others."""
    if any(block[1:]):
        return None
    sample = (block[0] * component.quantization[0] + 4 >> 3) + (1 << precision - 1)
    return min(max(sample, 0), (1 << precision) - 1)


def _up(number: int, size: int) -> int:
    return -(-number // size)


def segments(frame: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield marker, payload and, for a scan, the entropy-coded data."""
    if frame[:2] != b"\xff\xd8":
        raise Broken
    at = 2
    while at < len(frame):
        found = re.compile(rb"\xff+([\xc0-\xfe])").match(frame, at)
        if not found:
            raise Broken
        marker, at = found[1][0], found.end()
        if marker == 0xD9:
            return
        length = int.from_bytes(frame[at : at + 2], "big")
        payload = frame[at + 2 : at + length]
        if length < 2 or len(payload) != length - 2:
            raise Broken
        at += length
        start = at
        if marker == 0xDA:
            while at < len(frame) and not re.compile(rb"\xff[^\0\xd0-\xd7\xff]").match(frame, at):
                at += 1
        yield marker, payload, frame[start:at]


def read(frame: bytes) -> Picture:
    """Read a frame.

    Raises
    ------
    Broken
        If it is no sequential Huffman JPEG, or not sound. The end of image may be missing, bytes after the last MCU
        do not matter, and the last coefficient of a scan may be given as 0.
    """
    try:
        return _read(frame)
    except (IndexError, KeyError, ValueError):
        raise Broken from None


def _read(frame: bytes) -> Picture:
    picture: Picture | None = None
    header: dict[int, tuple[int, int, int]] = {}
    quantization: dict[int, tuple[int, ...]] = {}
    huffman: dict[int, dict[str, int]] = {}
    interval = 0
    seen: set[int] = set()
    for marker, payload, coded in segments(frame):
        if marker == 0xDB:
            while payload:
                width = 1 + (payload[0] >> 4)
                values = payload[1 : 1 + 64 * width]
                _sound(width < 3 and len(values) == 64 * width and payload[0] & 15 < 4)
                quantization[payload[0] & 15] = tuple(
                    int.from_bytes(values[at : at + width], "big") for at in range(0, len(values), width)
                )
                payload = payload[1 + 64 * width :]
        elif marker == 0xC4:
            while payload:
                size = 17 + sum(payload[1:17])
                _sound(len(payload) >= size and payload[0] in (0, 1, 2, 3, 16, 17, 18, 19))
                huffman[payload[0]] = _codes(payload[1:17], payload[17:size])
                payload = payload[size:]
        elif marker == 0xDD:
            _sound(len(payload) == 2)
            interval = int.from_bytes(payload, "big")
        elif marker in (0xC0, 0xC1):
            _sound(not header and len(payload) == 6 + 3 * payload[5])
            header = {payload[at]: (*divmod(payload[at + 1], 16), payload[at + 2]) for at in range(6, len(payload), 3)}
            _sound(len(header) == payload[5] and all(0 < f < 5 for one in header.values() for f in one[:2]))
            picture = Picture(
                payload[0],
                int.from_bytes(payload[1:3], "big"),
                int.from_bytes(payload[3:5], "big"),
                {key: Component(one[0], one[1], ()) for key, one in header.items()},
                {},
            )
            _sound(picture.precision in ((8,) if marker == 0xC0 else (8, 12)) and 0 not in picture[1:3])
        elif marker == 0xDA:
            _sound(len(payload) == 4 + 2 * payload[0] and payload[-3:] in (b"\0\x3f\0", b"\0\0\0"))
            scan, tables = payload[1:-3:2], payload[2:-3:2]
            _sound(picture is not None and len(set(scan)) == len(scan) > 0 and not seen & set(scan))
            assert picture is not None
            seen |= set(scan)
            for key in scan:
                one = picture.components[key]
                picture.components[key] = one._replace(quantization=quantization[header[key][2]])
            pairs = {key: (huffman[pair >> 4], huffman[16 | pair & 15]) for key, pair in zip(scan, tables, strict=True)}
            _read_scan(picture, scan, pairs, interval, coded)
        else:
            _sound(0xE0 <= marker <= 0xEF or marker == 0xFE)
    if picture is None or seen != set(header):
        raise Broken
    return picture


def _sound(condition: bool) -> None:
    if not condition:
        raise Broken


def _codes(counts: bytes, symbols: bytes) -> dict[str, int]:
    codes, code, at = {}, 0, 0
    for length, count in enumerate(counts, start=1):
        for symbol in symbols[at : at + count]:
            codes[f"{code:0{length}b}"] = symbol
            code += 1
        at += count
        # a code of ones only is not allowed, and so neither are too many of them
        _sound(code < 1 << length)
        code <<= 1
    return codes


class _Bits:
    def __init__(self, data: bytes) -> None:
        data = re.sub(rb"\xff+\0", b"\xff", re.sub(rb"\xff+$", b"", data))
        self.text, self.at = "".join([f"{byte:08b}" for byte in data]), 0

    def take(self, number: int) -> str:
        self.at += number
        _sound(self.at <= len(self.text))
        return self.text[self.at - number : self.at]

    def symbol(self, codes: dict[str, int]) -> int:
        for length in range(1, 17):
            symbol = codes.get(self.text[self.at : self.at + length])
            if symbol is not None:
                self.take(length)
                return symbol
        raise Broken

    def value(self, size: int) -> int:
        """Read the bits that follow a category (F.1.2.1.1)."""
        if not size:
            return 0
        number = int(self.take(size), 2)
        return number if number >> (size - 1) else number - (1 << size) + 1


def _read_scan(
    picture: Picture,
    scan: Sequence[int],
    tables: dict[int, tuple[dict[str, int], dict[str, int]]],
    interval: int,
    coded: bytes,
) -> None:
    mcus = picture.mcus(scan)
    _sound(len(scan) == 1 or len(mcus[0]) <= 10)
    parts = re.split(rb"\xff+([\xd0-\xd7])", coded)
    _sound([part[0] & 7 for part in parts[1::2]] == [at & 7 for at in range(len(parts) // 2)])
    interval = interval or len(mcus)
    _sound(len(parts) // 2 + 1 == _up(len(mcus), interval))
    for at, part in enumerate(parts[::2]):
        bits, last = _Bits(part), dict.fromkeys(scan, 0)
        for mcu in mcus[at * interval : (at + 1) * interval]:
            for place in mcu:
                direct, alternating = tables[place[0]]
                size = bits.symbol(direct)
                _sound(size <= (11 if picture.precision == 8 else 15))
                last[place[0]] += bits.value(size)
                picture.blocks[place] = (last[place[0]], *_alternating(bits, alternating, picture.precision + 2))


def _alternating(bits: _Bits, codes: dict[str, int], largest: int) -> list[int]:
    coefficients: list[int] = []
    while len(coefficients) < 63:
        run, size = divmod(bits.symbol(codes), 16)
        if (run, size) == (0, 0):
            return coefficients + [0] * (63 - len(coefficients))
        _sound(0 < size <= largest or (run, size) == (15, 0))
        coefficients += [0] * run + [bits.value(size)]
        _sound(len(coefficients) <= 63)
    return coefficients


def table(symbols: Sequence[int], lengths: Sequence[int]) -> bytes:
    """Return counts and symbols of a Huffman table in which each symbol has a code of this length, in rising order."""
    return bytes([lengths.count(length) for length in range(1, 17)]) + bytes(symbols)


def write(
    picture: Picture,
    scans: Sequence[Sequence[int]],
    interval: int = 0,
    *,
    padding: int = 0,
    before: bytes = b"",
    symbols: Sequence[Sequence[int]] = ((), ()),
) -> bytes:
    """Write a frame with these scans, each component with tables of its own.

    Parameters
    ----------
    picture : Picture
    scans : sequence of sequence of int
        Components.
    interval : int
        MCUs between restart markers, 0 for none.
    padding : int
        Bits by which the Huffman codes are longer than they need to be.
    before : bytes
        Segments that come first.
    symbols : (sequence of int, sequence of int)
        What the DC and the AC tables hold, besides what is needed.
    """
    parts = [b"\xff\xd8", before]
    keys = list(picture.components)
    for at, one in enumerate(picture.components.values()):
        wide = max(one.quantization) > 255
        values = b"".join(value.to_bytes(1 + wide, "big") for value in one.quantization)
        parts.append(_segment(0xDB, bytes([wide << 4 | at]) + values))
    fields = [bytes([key, c.across << 4 | c.down, at]) for at, (key, c) in enumerate(picture.components.items())]
    size = picture.rows.to_bytes(2, "big") + picture.columns.to_bytes(2, "big")
    parts.append(_segment(0xC1, bytes([picture.precision]) + size + bytes([len(keys)]) + b"".join(fields)))
    parts.append(_segment(0xDD, interval.to_bytes(2, "big")))
    for scan in scans:
        mcus = picture.mcus(scan)
        step = interval or len(mcus)
        tokens = [_tokens(picture, scan, mcus[at : at + step]) for at in range(0, len(mcus), step)]
        codes: dict[int, dict[int, str]] = {}
        for which in sorted({kind for part in tokens for kind, _, _ in part}):
            needed = {symbol for part in tokens for kind, symbol, _ in part if kind == which}
            held = sorted(needed | set(symbols[which >> 4]))
            length = min(16, len(held).bit_length() + padding)
            parts.append(_segment(0xC4, bytes([which]) + table(held, [length] * len(held))))
            codes[which] = {symbol: f"{code:0{length}b}" for code, symbol in enumerate(held)}
        chosen = b"".join(bytes([key, keys.index(key) * 17]) for key in scan)
        parts.append(_segment(0xDA, bytes([len(scan)]) + chosen + b"\0\x3f\0"))
        for number, part in enumerate(tokens):
            text = "".join([codes[kind][symbol] + extra for kind, symbol, extra in part])
            text += "1" * (-len(text) % 8)
            parts.append(int(text, 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\0"))
            parts.append(bytes([0xFF, 0xD0 + number % 8]) if number < len(tokens) - 1 else b"")
    return b"".join([*parts, b"\xff\xd9"])


def _segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def _tokens(
    picture: Picture, scan: Sequence[int], mcus: Sequence[Sequence[tuple[int, int, int]]]
) -> list[tuple[int, int, str]]:
    """Return table, symbol and the bits that follow, for all blocks of a restart interval."""
    keys, last, tokens = list(picture.components), dict.fromkeys(scan, 0), []
    for place in [place for mcu in mcus for place in mcu]:
        which, block = keys.index(place[0]), picture.blocks[place]
        difference, last[place[0]] = block[0] - last[place[0]], block[0]
        tokens.append((which, abs(difference).bit_length(), _extra(difference)))
        run = 0
        for value in block[1:]:
            if not value:
                run += 1
                continue
            tokens += [(16 | which, 0xF0, "")] * (run // 16)
            tokens.append((16 | which, run % 16 << 4 | abs(value).bit_length(), _extra(value)))
            run = 0
        if run:
            tokens.append((16 | which, 0, ""))
    return tokens


def _extra(value: int) -> str:
    size = abs(value).bit_length()
    return f"{value if value > 0 else value + (1 << size) - 1:0{size}b}" if size else ""

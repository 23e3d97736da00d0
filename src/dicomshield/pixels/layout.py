"""How pixels lie in a frame by what the header says of them (PS3.3 C.7.6.3, PS3.5 section 8), and what black is."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from ..errors import Quarantined, Reason

__all__ = ["PALETTE", "Layout", "palette"]

_DESCRIPTORS: Final = (0x00281101, 0x00281102, 0x00281103)
_PLAIN: Final = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED: Final = (0x00281221, 0x00281222, 0x00281223)
PALETTE: Final = frozenset(_DESCRIPTORS + _PLAIN + _SEGMENTED)
"""Descriptors and data of the red, green and blue palette."""
_SUBSAMPLED: Final = frozenset({"YBR_FULL_422", "YBR_PARTIAL_422"})
_SAMPLES: Final = {
    "MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3,
    "YBR_PARTIAL_422": 3, "YBR_PARTIAL_420": 3, "YBR_RCT": 3, "YBR_ICT": 3, "XYB": 3,
}  # fmt: skip
_MODULE: Final = (
    0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102,
    0x00280103,
)  # fmt: skip
_FLOATING: Final = frozenset({0x7FE00008, 0x7FE00009})


class Layout(NamedTuple):
    """The form of all frames of one image.

    Attributes
    ----------
    rows, columns, frames : int
    samples : int
        1 or 3 per pixel.
    allocated, stored : int
        Bits of a sample, and those of them that hold its value.
    signed : bool
    planar : bool
        Whether a frame holds its samples plane after plane (Planar Configuration 1).
    photometric : str
        Photometric Interpretation.
    black : tuple of int
        What a masked pixel becomes, sample by sample: what a viewer shows darkest (PS3.3 C.7.6.3.1.2).
    low : int
        The lowest bit that holds a value; anything but 0 is retired.
    floating : bool
        Whether the samples are floating point numbers.
    """

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    planar: bool
    photometric: str
    black: tuple[int, ...]
    low: int = 0
    floating: bool = False

    @classmethod
    def of(cls, header: Mapping[int, bytes]) -> Layout:
        """Read the Image Pixel Module for masking.

        Parameters
        ----------
        header : mapping
            tag -> value as encoded, little endian.

        Raises
        ------
        Quarantined
            PIXELS if attributes contradict each other or are not understood, INCOMPLETE if one is missing.
        """
        form = cls.read(header)
        whole = min(form.rows, form.columns, form.frames) > 0 and 0 < form.stored <= form.allocated and not form.low
        if not whole or form.allocated not in (1, 8, 16, 32, 64) or _SAMPLES.get(form.photometric, -1) != form.samples:
            raise Quarantined(Reason.PIXELS, "Photometric Interpretation, Samples per Pixel and Bits contradict")
        return form._replace(black=_black(form, header))

    @classmethod
    def read(cls, header: Mapping[int, bytes]) -> Layout:
        """Read the Image Pixel Module whatever it says, and without ``black``.

        Raises
        ------
        Quarantined
            INCOMPLETE if an attribute it takes is missing or no number.
        """
        return _read(tuple([header.get(tag) for tag in _MODULE]), not header.keys().isdisjoint(_FLOATING))

    @property
    def frame_bits(self) -> int:
        """Bits of a frame in native form; only 1-bit frames need not fill whole bytes."""
        return self.rows * self.columns * self.samples * self.allocated

    def subsampled(self, length: int) -> bool:
        """Tell whether native frames of ``length`` bytes in all share chrominance (PS3.3 C.7.6.3.1.2).

        Some writers say YBR_FULL_422 and store every sample; what is there decides.
        """
        return self.photometric in _SUBSAMPLED and length < self.frame_bits * self.frames // 8

    def native_length(self, stored: int) -> int:
        """Return the bytes of all frames of native Pixel Data, without padding (PS3.5 8.1.1, 8.2).

        Parameters
        ----------
        stored : int
            Bytes there are.
        """
        bits = self.frame_bits * self.frames
        return ((bits * 2 // 3 if self.subsampled(stored) else bits) + 7) // 8


@lru_cache(maxsize=256)
def _read(values: tuple[bytes | None, ...], floating: bool) -> Layout:
    """Read the values of `_MODULE`; the objects of a series share them."""
    header = dict(zip(_MODULE, values, strict=True))

    def short(tag: int, default: int | None = None) -> int:
        value = header[tag] or b""
        if len(value) >= 2:
            return int.from_bytes(value[:2], "little")
        if default is None:
            raise Quarantined(Reason.INCOMPLETE, "nothing tells the length of Pixel Data")
        return default

    try:
        frames = int((header[0x00280008] or b"").strip(b" \0") or b"1")
    except ValueError:
        raise Quarantined(Reason.INCOMPLETE, "nothing tells the length of Pixel Data") from None
    allocated, samples = short(0x00280100), short(0x00280002, 1)
    stored = allocated if floating else short(0x00280101, allocated)
    return Layout(
        rows=short(0x00280010), columns=short(0x00280011), frames=frames, samples=samples, allocated=allocated,
        stored=stored, signed=not floating and short(0x00280103, 0) == 1,
        planar=samples > 1 and short(0x00280006, 0) == 1,
        photometric=(header[0x00280004] or b"").decode("latin-1").strip(" \0"), black=(),
        low=0 if floating else short(0x00280102, stored - 1) + 1 - stored, floating=floating,
    )  # fmt: skip


def _black(form: Layout, header: Mapping[int, bytes]) -> tuple[int, ...]:
    if form.floating:
        return (0,)
    name = form.photometric
    if name == "PALETTE COLOR":
        return (_darkest(form, header),)
    if name.startswith("MONOCHROME"):
        low, high = (
            (-1 << (form.stored - 1), (1 << (form.stored - 1)) - 1) if form.signed else (0, (1 << form.stored) - 1)
        )
        return (high if name == "MONOCHROME1" else low,)
    if name in ("YBR_FULL", "YBR_FULL_422"):
        middle = 1 << (form.stored - 1)
        return (0, middle, middle)
    if name.startswith("YBR_PARTIAL"):
        return (16 << (form.stored - 8), 1 << (form.stored - 1), 1 << (form.stored - 1))
    return (0, 0, 0)


def palette(form: Layout, header: Mapping[int, bytes]) -> tuple[int, list[tuple[int, ...]]]:
    """Return the stored value of the first colour of a palette, and red, green and blue of all (PS3.3 C.7.6.3.1.5).

    Raises
    ------
    Quarantined
        INCOMPLETE or PIXELS if there is no palette, or it is not understood.
    """
    colours, first = [], 0
    for number, (descriptor, plain, segmented) in enumerate(zip(_DESCRIPTORS, _PLAIN, _SEGMENTED, strict=True)):
        described = header.get(descriptor, b"")
        data, parts = header.get(plain, b""), header.get(segmented, b"")
        if len(described) != 6 or not (data or parts):
            raise Quarantined(Reason.INCOMPLETE, "the palette of a PALETTE COLOR image is missing")
        entries = int.from_bytes(described[:2], "little") or 1 << 16
        if not number:
            first = int.from_bytes(described[2:4], "little", signed=form.signed)
        wide = len(data) >= 2 * entries
        table = (_words(data) if wide else list(data)) if data else _expanded(_words(parts), entries)
        if len(table) < entries:
            raise Quarantined(Reason.PIXELS, "the palette is shorter than its descriptor says")
        colours.append(table[:entries])
    if len({len(table) for table in colours}) != 1:
        raise Quarantined(Reason.PIXELS, "the palettes of the three colours differ in length")
    return first, list(zip(*colours, strict=True))


def _darkest(form: Layout, header: Mapping[int, bytes]) -> int:
    first, colours = palette(form, header)
    low, high = (-1 << (form.stored - 1), 1 << (form.stored - 1)) if form.signed else (0, 1 << form.stored)
    usable = [at for at in range(len(colours)) if low <= first + at < high]
    if not usable:
        raise Quarantined(Reason.PIXELS, "no stored value reaches the palette")
    return first + min(usable, key=lambda at: sum(colours[at]))


def _words(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data) - 1, 2)]


def _expanded(words: list[int], entries: int) -> list[int]:
    """Expand a Segmented Palette Color Lookup Table (PS3.3 C.7.9.2)."""
    table: list[int] = []
    at = 0
    while at + 1 < len(words) and len(table) < entries:
        at = _segment(words, at, table, entries)
    return table


def _segment(words: list[int], at: int, table: list[int], entries: int) -> int:
    """Expand the segment at word ``at`` and return where the next one begins."""
    kind, length = words[at], words[at + 1]
    at += 2
    if kind == 0:
        table += words[at : at + length]
        return at + length
    if kind == 1 and table and at < len(words):
        start, end = table[-1], words[at]
        table += [round(start + (end - start) * step / length) for step in range(1, min(length, entries) + 1)]
        return at + 1
    if kind == 2 and at + 1 < len(words):
        copied = words[at] | words[at + 1] << 16
        for _ in range(length):
            if copied + 1 >= len(words) or words[copied] not in (0, 1):
                break
            copied = _segment(words, copied, table, entries)
        return at + 2
    raise Quarantined(Reason.PIXELS, "the segmented palette is broken")

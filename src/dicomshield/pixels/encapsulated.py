"""Mask encapsulated frames (PS3.5 A.4): only touched ones are edited, all others move as they are."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple

from ..encoding.elements import Element
from ..encoding.pieces import Chunk, Later, Range, Stream
from ..encoding.source import Source
from ..encoding.write import element as encoded
from ..errors import Quarantined, Reason
from .layout import Layout
from .metadata import head_is_clean, without_metadata
from .region import Boxes, Plan

__all__ = ["EncapsulatedPixels", "Frame", "editor", "frames_of", "inflated"]

ENCAPSULATED_NATIVE: Final = "1.2.840.10008.1.2.1.98"
DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"
RLE: Final = "1.2.840.10008.1.2.5"
_4: Final = "1.2.840.10008.1.2.4."
JPEG: Final = frozenset({f"{_4}50", f"{_4}51"})
_DECODED: Final = frozenset(f"{_4}{end}" for end in "57 70 80 81 90 91 110 111 112 201 202 203".split())
_SELF_DELIMITED: Final = JPEG | _DECODED | {f"{_4}{end}" for end in "53 55 92 93".split()}
"""Codestreams that begin with a marker of their own, except JPEG XL containers."""
_STARTS: Final = (b"\xff\xd8", b"\xff\x4f", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ")
_ITEM: Final = Struct("<HHI")
_END: Final = _ITEM.pack(0xFFFE, 0xE0DD, 0)
_HEAD: Final = 1 << 12
_LARGE: Final = 1 << 31
"""Bytes of pixel data from which on the offsets of a Basic Offset Table might not suffice."""
_MAX_FRAME: Final = 1 << 30
_EXTENDED_OFFSETS, _EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002

Editor = Callable[[bytes, Boxes], bytes]


class Fragment(NamedTuple):
    """A fragment: where its bytes lie in the source, without the item that holds them."""

    start: int
    end: int


Frame = tuple[Fragment, ...]


class EncapsulatedPixels(Stream):
    """An encapsulated Pixel Data element with its frames masked, and metadata inside them gone.

    Parameters
    ----------
    source : Source
    element : Element
    frames : sequence of Frame
    syntax : str
        Transfer syntax UID; it stays.
    plans : sequence of Plan
        Covers all frames; without boxes, frames lose their metadata only.
    edit : callable, optional
        ``(frame, boxes) -> frame``; needed if a plan has boxes, or ``every``.
    every : bool
        Edit frames without boxes too.
    extended : bool
        Whether the object has an Extended Offset Table.

    Attributes
    ----------
    untouched : bool
        Whether every frame stays as it is.
    """

    def __init__(
        self,
        source: Source,
        element: Element,
        frames: Sequence[Frame],
        syntax: str,
        plans: Sequence[Plan],
        edit: Editor | None = None,
        *,
        every: bool = False,
        extended: bool = False,
    ) -> None:
        self._source, self._element, self._frames, self._syntax = source, element, frames, syntax
        self._edit = edit
        single = all(len(frame) == 1 for frame in frames)
        large = element.end - element.value > _LARGE
        self._extended, self._basic = single and (extended or large), not large
        # a frame that is not here stays as it is
        self._touched = {
            number: boxes for first, last, boxes in plans if boxes or every for number in range(first, last)
        }
        self._unclean = {
            number
            for number, frame in enumerate(frames)
            if number not in self._touched and not _is_clean(source, frame, syntax)
        }
        self.untouched = not self._touched and not self._unclean

    def chunks(self) -> Iterator[Chunk]:
        """Yield the offset tables, and the element from its tag to its delimiter."""
        lengths: list[int] = []
        sizes: list[int] = []
        number, explicit = len(self._frames), self._element.explicit

        def offsets(width: int) -> bytes:
            starts = [0, *accumulate(sizes)][:number]
            if starts[-1] >= 1 << 8 * width:
                raise Quarantined(Reason.TOO_LARGE, "masked frames need an Extended Offset Table")
            return b"".join([start.to_bytes(width, "little") for start in starts])

        if self._extended:
            yield encoded(_EXTENDED_OFFSETS, b"OV", bytes(8 * number), explicit=explicit)[: -8 * number]
            yield Later(8 * number, lambda: offsets(8))
            yield encoded(_EXTENDED_LENGTHS, b"OV", bytes(8 * number), explicit=explicit)[: -8 * number]
            yield Later(8 * number, lambda: b"".join([length.to_bytes(8, "little") for length in lengths]))
        yield self._source.slice(self._element.start, self._element.value)
        if self._basic and not self._extended:
            yield _ITEM.pack(0xFFFE, 0xE000, 4 * number)
            yield Later(4 * number, lambda: offsets(4))
        else:
            yield _ITEM.pack(0xFFFE, 0xE000, 0)
        yield from self._items(lengths, sizes)
        yield _END

    def _items(self, lengths: list[int], sizes: list[int]) -> Iterator[Chunk]:
        """Yield the frames, runs of untouched ones as one range; note how long frames and their items are."""
        run: Range | None = None
        for number, frame in enumerate(self._frames):
            new = self._edited(number, frame)
            if new is None:
                begin, end = frame[0].start - 8, frame[-1].end
                run = Range(run.start if run else begin, end)
                lengths.append(frame[0].end - frame[0].start)
                sizes.append(end - begin)
                continue
            if run:
                yield run
                run = None
            pad = len(new) & 1
            lengths.append(len(new))
            sizes.append(8 + len(new) + pad)
            yield _ITEM.pack(0xFFFE, 0xE000, len(new) + pad)
            yield new + b"\0" * pad
        if run:
            yield run

    def _edited(self, number: int, frame: Frame) -> bytes | None:
        """Return what takes the place of a frame, ``None`` if it stays."""
        if number in self._touched:
            assert self._edit is not None  # noqa: S101 - whoever gave boxes gave it
            return self._edit(whole(self._source, frame), self._touched[number])
        if number in self._unclean:
            data = whole(self._source, frame)
            new = without_metadata(data, self._syntax)
            return None if new is data else new
        return None


def frames_of(source: Source, element: Element, number: int, syntax: str) -> tuple[Frame, ...]:
    """Tell which fragments belong to which frame (PS3.5 A.4).

    Parameters
    ----------
    source : Source
    element : Element
        Encapsulated Pixel Data.
    number : int
        Number of Frames.
    syntax : str

    Raises
    ------
    Quarantined
        PIXELS if it cannot be told with certainty.
    """
    fragments, table = _fragments(source, element)
    if number == len(fragments):
        # always so with an Extended Offset Table: PS3.3 C.7.6.3.1.8
        found = list(range(number))
    elif number == 1:
        found = [0]
    else:
        found = _places(table, fragments)
    markers = [at for at, fragment in enumerate(fragments) if _begins(source, fragment)]
    if syntax in _SELF_DELIMITED and found != markers:
        # offset tables are often wrong; a marker is part of the frame itself
        sure = markers[:1] == [0] and len(markers) == number
        found = markers if sure else found if set(found) <= set(markers) else []
    if not found or len(found) != number:
        raise Quarantined(Reason.PIXELS, "nothing tells which fragments belong to which frame")
    return tuple(tuple(fragments[begin:end]) for begin, end in zip(found, [*found[1:], len(fragments)], strict=True))


def whole(source: Source, frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raises
    ------
    Quarantined
        TOO_LARGE if it is too large to be held in memory.
    """
    if sum(end - start for start, end in frame) > _MAX_FRAME:
        raise Quarantined(Reason.TOO_LARGE, "a compressed frame")
    return b"".join([source.slice(start, end) for start, end in frame])


def editor(syntax: str, layout: Layout, *, clear: bool = False) -> Editor:
    """Return what masks a frame of a transfer syntax, and clears the bits that hold no pixel value if that is asked.

    Raises
    ------
    Quarantined
        PIXELS if frames of this syntax cannot be masked.
    """
    if clear:
        return _clearing_editor(syntax, layout)
    if syntax in JPEG:
        from . import jpeg

        return lambda frame, boxes: jpeg.mask_frame(frame, boxes, layout)
    if syntax == RLE:
        from . import rle

        return lambda frame, boxes: rle.mask_frame(frame, boxes, layout)
    if syntax in _DECODED:
        from . import codecs

        return lambda frame, boxes: codecs.mask_frame(frame, boxes, layout, syntax)
    if syntax in (ENCAPSULATED_NATIVE, DEFLATED_FRAMES):
        from .native import mask_bytes

        if syntax == ENCAPSULATED_NATIVE:
            return lambda frame, boxes: mask_bytes(frame, boxes, layout)
        return lambda frame, boxes: _deflated(mask_bytes(inflated(frame, layout), boxes, layout))
    raise Quarantined(Reason.PIXELS, "video, or a compression that cannot be edited without loss")


def _clearing_editor(syntax: str, layout: Layout) -> Editor:
    if syntax != RLE or layout.allocated not in (8, 16, 32):
        raise Quarantined(Reason.PIXELS, "an overlay lies in unused bits of compressed Pixel Data")

    def edit(frame: bytes, boxes: Boxes) -> bytes:
        from . import rle
        from .native import clear_unused

        pixels = rle.decode(frame, layout)
        clear_unused(pixels, layout)
        return rle.mask_frame(rle.encode(pixels, layout), boxes, layout)

    return edit


def inflated(frame: bytes, layout: Layout) -> bytes:
    """Inflate a frame of Deflated Image Frame Compression (PS3.5 A.4.13), never beyond its length.

    Raises
    ------
    Quarantined
        PIXELS if it is broken or of another length.
    """
    bound = (layout.frame_bits + 7) // 8 + 1
    inflator = zlib.decompressobj(-15)
    try:
        data = inflator.decompress(frame, bound + 1)
    except zlib.error:
        data = b""
    if not data or len(data) > bound or not inflator.eof:
        raise Quarantined(Reason.PIXELS, "a deflated frame is broken, or not as long as the header says")
    return data


def _deflated(frame: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(frame) + packer.flush()


def _fragments(source: Source, element: Element) -> tuple[list[Fragment], bytes]:
    """Return the fragments, which the walk over the data set has checked, and the Basic Offset Table."""
    at, fragments = element.value, []
    while True:
        group, number, length = _ITEM.unpack(source.slice(at, at + 8))
        if (group, number) != (0xFFFE, 0xE000):
            break
        fragments.append(Fragment(at + 8, at + 8 + length))
        at += 8 + length
    table = fragments.pop(0)
    return fragments, source.slice(*table)


def _places(table: bytes, fragments: Sequence[Fragment]) -> list[int]:
    """Return the fragments that the Basic Offset Table names, nothing if it names what is none."""
    starts = {fragment.start - fragments[0].start: at for at, fragment in enumerate(fragments)}
    places = [starts.get(int.from_bytes(table[at : at + 4], "little"), -1) for at in range(0, len(table), 4)]
    good = places[:1] == [0] and -1 not in places and places == sorted(set(places))
    return places if good else []


def _begins(source: Source, fragment: Fragment) -> bool:
    return source.window(fragment.start, min(12, fragment.end - fragment.start)).startswith(_STARTS)


def _is_clean(source: Source, frame: Frame, syntax: str) -> bool:
    """Tell by its first and last bytes whether a frame holds pixels only."""
    if syntax not in _SELF_DELIMITED:
        return True
    first, last = frame[0], frame[-1]
    tail = source.slice(max(last.start, last.end - 3), last.end)
    if len(frame) == 1 and (tail.endswith(b"\xff\xd9") or tail == b"\xff\xd9\0"):
        head = source.window(first.start, min(_HEAD, first.end - first.start))
        if head_is_clean(head, syntax):
            return True
    data = whole(source, frame)
    return without_metadata(data, syntax) is data

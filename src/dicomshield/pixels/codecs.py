"""Frames that must be decoded to be masked, and are encoded again without loss (PS3.5 8.2 and A.4).

JPEG Lossless, JPEG-LS, JPEG 2000, High-Throughput JPEG 2000 and JPEG XL. What a codestream says of itself - size,
precision, signedness, component transform, interleaving - is the same afterwards, so that a reader takes the other
pixels as it took them before, even where the header of the object says otherwise. Loss that a frame has already had
stays as it is: it is decoded once, and kept.

The new codestream is decoded again and compared with what it is meant to be. Before any codec sees a frame, its
headers are read here: a frame that is not of the size of the image, is not whole, or asks for more memory than an
image of that size may need, is refused. The libraries come with the extra ``codecs``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from ..errors import Quarantined, Reason
from .layout import Layout
from .mask import fill_boxes
from .region import Boxes

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode", "mask_frame"]


def decode(frame: bytes, syntax: str, layout: Layout) -> NDArray[Any]:
    """Return the pixels of a frame.

    Parameters
    ----------
    frame : bytes
        One whole frame, its fragments joined.
    syntax : str
        Transfer Syntax UID; JPEG Baseline and Extended are understood too.
    layout : Layout

    Returns
    -------
    ndarray, shape (rows, columns) or (rows, columns, samples)
        Of the type that the layout asks for. JPEG 2000 and JPEG XL undo a component transform of their own, so that
        YBR_RCT, YBR_ICT and XYB become RGB; all other colours are the components as coded, so that YBR stays YBR.

    Raises
    ------
    Quarantined
        CODEC if the library is missing, PIXELS if the frame is broken or not of this layout.
    """
    codec = _codec(syntax)
    if codec is _JPEG_XL and _recompressed(frame, syntax):
        frame, codec = _rebuilt(frame, layout), _JPEG
    stream, values = _opened(frame, codec, layout)
    return _stored(values, stream, codec, layout)


def mask_frame(frame: bytes, boxes: Boxes, layout: Layout, syntax: str) -> bytes:
    """Return a frame of the same transfer syntax in which the boxes are black, and every other pixel as it was.

    Black is the value that viewers show darkest of those that the codestream can hold. A JPEG image inside JPEG XL is
    masked as a JPEG image is.

    Parameters
    ----------
    frame : bytes
        One whole frame, its fragments joined. The boxes of a file format around a codestream go.
    boxes : Boxes
    layout : Layout
    syntax : str
        Transfer Syntax UID.

    Raises
    ------
    Quarantined
        CODEC if the library is missing, PIXELS if the frame is broken, not of this layout, or cannot be written again
        without loss.
    """
    codec = _codec(syntax)
    if codec is _JPEG_XL and _recompressed(frame, syntax):
        return _masked_jpeg(frame, boxes, layout)
    if codec.encode is None:
        raise _refused("frames of this transfer syntax are not masked by decoding them")
    stream, values = _opened(frame, codec, layout)
    fill_boxes(values[None], boxes, _fill(stream, codec, layout))
    coded = bytes(codec.encode(values, stream))
    again, written = _opened(coded, codec, layout)
    if again != stream or not np.array_equal(written, values):
        raise _refused("the codec did not write what it was given")
    return coded


class _Stream(NamedTuple):
    """What a codestream says of itself; all of it stays the same when it is written again.

    Attributes
    ----------
    rows, columns, samples, precision : int
    signed : bool
    transform : bool
        Whether JPEG 2000 transforms the components.
    interleave : int
        Of JPEG-LS: 0 by plane, 1 by line, 2 by pixel.
    """

    rows: int
    columns: int
    samples: int
    precision: int
    signed: bool = False
    transform: bool = False
    interleave: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.rows, self.columns, self.samples)[: 2 if self.samples == 1 else 3]

    @property
    def dtype(self) -> np.dtype[Any]:
        width = 1 if self.precision <= 8 else 2 if self.precision <= 16 else 4
        return np.dtype(f"{'i' if self.signed else 'u'}{width}")

    @property
    def range(self) -> tuple[int, int]:
        """Lowest and highest value."""
        number = 1 << self.precision
        return (-number // 2, number // 2 - 1) if self.signed else (0, number - 1)

    def check(self, layout: Layout) -> None:
        """Compare with the header of the object."""
        if (self.rows, self.columns, self.samples) != (layout.rows, layout.columns, layout.samples):
            raise _refused("Rows, Columns or Samples per Pixel differ from those of a compressed frame")
        if not 0 < self.precision <= layout.allocated:
            raise _refused("a compressed frame has more bits than Bits Allocated")


class _Codec(NamedTuple):
    """A way to read and write codestreams.

    Attributes
    ----------
    read : callable
        Returns what the codestream says of itself, or refuses it.
    decode, encode : callable
        ``encode`` is None if there is no way without loss.
    own_sign : bool
        Whether readers look for the sign at the codestream's own precision, and not at Bits Stored.
    """

    read: Callable[[bytes], _Stream]
    decode: Callable[[bytes, _Stream], NDArray[Any]]
    encode: Callable[[NDArray[Any], _Stream], bytes] | None
    own_sign: bool = False


def _refused(what: str) -> Quarantined:
    return Quarantined(Reason.PIXELS, what)


def _broken() -> Quarantined:
    return _refused("a compressed frame is broken, or of a kind that is not understood")


@contextmanager
def _reading() -> Iterator[None]:
    """Refuse a frame that ends inside of its headers."""
    try:
        yield
    except (struct.error, IndexError):
        raise _broken() from None


def _codec(syntax: str) -> _Codec:
    codec = _CODECS.get(syntax)
    if codec is None:
        raise _refused("frames of this transfer syntax cannot be decoded")
    return codec


def _native(library: str, function: str, *arguments: object, **options: object) -> Any:
    """Call a codec; whatever it raises, the frame is refused."""
    try:
        codec = getattr(import_module(library), function)
    except (ImportError, AttributeError):
        raise Quarantined(Reason.CODEC) from None
    try:
        return codec(*arguments, **options)
    except ImportError:
        # parts of a library are loaded when they are called
        raise Quarantined(Reason.CODEC) from None
    except Exception:
        raise _broken() from None


_imagecodecs: Final = partial(_native, "imagecodecs")


def _opened(frame: bytes, codec: _Codec, layout: Layout) -> tuple[_Stream, NDArray[Any]]:
    """Read and decode a frame; no value is beyond what its codestream can hold, since encoders trust in that."""
    with _reading():
        stream = codec.read(frame)
    stream.check(layout)
    values = codec.decode(frame, stream)
    low, high = stream.range
    if values.shape != stream.shape or values.dtype != stream.dtype or values.min() < low or values.max() > high:
        raise _broken()
    return stream, values


def _stored(values: NDArray[Any], stream: _Stream, codec: _Codec, layout: Layout) -> NDArray[Any]:
    """Convert to the type of the layout, as readers do: unused bits are those of the sign."""
    target = np.dtype(f"{'i' if layout.signed else 'u'}{max(layout.allocated, 8) // 8}")
    unused = target.itemsize * 8 - (stream.precision if codec.own_sign else layout.stored)
    stored = values.astype(target)
    return stored << unused >> unused if unused else stored


def _fill(stream: _Stream, codec: _Codec, layout: Layout) -> list[int]:
    """Return black in the values of the codestream.

    Where it has too few bits for what Bits Stored calls black, this is the darkest value that it can hold.
    """
    low, high = stream.range
    half = 1 << stream.precision - 1
    fill = []
    for black in layout.black:
        # the same bits, or what is extreme in one of the ways to read the sign
        pattern = (black - low) % (2 * half) + low
        held = [value for value in (pattern, low, high, 0, -1, half, half - 1) if low <= value <= high]
        shown = _stored(np.array(held, stream.dtype), stream, codec, layout).astype(np.int64)
        best = int(np.argmin(abs(shown - black)))
        if shown[best] != black and not layout.photometric.startswith("MONOCHROME"):
            raise _refused("a compressed frame has too few bits for black")
        fill.append(held[best])
    return fill


# JPEG (ITU-T T.81) and JPEG-LS (ITU-T T.87)

_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_LOSSLESS: Final = frozenset({0xC3})
_LS: Final = frozenset({0xF7})
_SOF: Final = frozenset({*range(0xC0, 0xD0)}) - {0xC4, 0xC8, 0xCC} | _LS
_SOS: Final = 0xDA


def _read_jpeg(frame: bytes, process: frozenset[int]) -> _Stream:
    """Read the headers of the frame and of its first scan (T.81 B.2.2 and B.2.3, T.87 C.2)."""
    if frame[:2] != b"\xff\xd8":
        raise _broken()
    stream, marker, at, body = None, 0, 2, b""
    while marker != _SOS:
        while frame[at : at + 2] == b"\xff\xff":
            at += 1
        start, marker, length = struct.unpack_from(">BBH", frame, at)
        at, body = at + 2 + length, frame[at + 4 : at + 2 + length]
        if start != 0xFF or marker < 0xC0 or 0xD0 <= marker <= 0xD9 or not len(body) == length - 2 >= 0:
            raise _broken()
        if marker in _SOF:
            if stream or marker not in process:
                raise _refused("a JPEG process that the transfer syntax does not allow")
            stream = _frame_header(body, process)
    # coded data hold no end of image, so that it is missing where they are cut off
    if stream is None or frame.rfind(b"\xff\xd9") < at:
        raise _broken()
    return stream._replace(interleave=body[2 * body[0] + 2]) if process == _LS and stream.samples > 1 else stream


def _frame_header(body: bytes, process: frozenset[int]) -> _Stream:
    precision, rows, columns, samples = struct.unpack_from(">BHHB", body)
    subsampled = len(set(body[7::3])) != 1
    if len(body) != 6 + 3 * samples or (subsampled and process != _SEQUENTIAL):
        raise _broken()
    return _Stream(rows, columns, samples, precision)


def _decode_jpeg(frame: bytes, stream: _Stream) -> NDArray[Any]:
    # colours are not converted, whatever its markers say of them
    space = "RGB" if stream.samples == 3 else None
    values: NDArray[Any] = _imagecodecs("jpeg8_decode", frame, colorspace=space, outcolorspace=space)
    return values


def _encode_jpeg(values: NDArray[Any], stream: _Stream) -> bytes:
    """Encode without loss, by the one predictor that both transfer syntaxes allow (T.81 H.1.2.1, PS3.5 10.2)."""
    # the marker of RGB tells readers to convert nothing
    space = "RGB" if stream.samples == 3 else None
    coded: bytes = _imagecodecs(
        "jpeg8_encode", values, lossless=True, predictor=1, bitspersample=stream.precision,
        colorspace=space, outcolorspace=space,
    )  # fmt: skip
    return coded


def _by_plane(stream: _Stream) -> bool:
    return stream.samples > 1 and stream.interleave == 0


def _decode_jpeg_ls(frame: bytes, stream: _Stream) -> NDArray[Any]:
    data, _ = _native("jpeg_ls", "decode_buffer", frame)
    values = np.frombuffer(data, stream.dtype)
    if values.size != stream.rows * stream.columns * stream.samples:
        raise _broken()
    if _by_plane(stream):
        return np.moveaxis(values.reshape(stream.samples, stream.rows, stream.columns), 0, -1)
    return values.reshape(stream.shape)


def _encode_jpeg_ls(values: NDArray[Any], stream: _Stream) -> bytes:
    coded: bytes = _native(
        "jpeg_ls", "encode_buffer", (np.moveaxis(values, -1, 0) if _by_plane(stream) else values).tobytes(),
        stream.rows, stream.columns, stream.samples, stream.precision, interleave_mode=stream.interleave,
    )  # fmt: skip
    return coded


# JPEG 2000 (ITU-T T.800) and High-Throughput JPEG 2000 (ITU-T T.814)

_JP2: Final = b"\0\0\0\x0cjP  \r\n\x87\n"
_EOC, _SOC_SIZ, _SOT, _SOD = b"\xff\xd9", b"\xff\x4f\xff\x51", 0xFF90, 0xFF93
_COD, _COC = 0xFF52, 0xFF53
_Segments = list[tuple[int, bytes]]


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of each box of a file format (T.800 I.4, ISO/IEC 18181-2)."""
    at = 0
    while len(data) - at >= 8:
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            length, head = *struct.unpack_from(">Q", data, at + 8), 16
        end = at + length if length else len(data)
        if not at + head <= end <= len(data):
            raise _broken()
        yield kind, data[at + head : end]
        at = end


def _codestream(frame: bytes) -> bytes:
    """Return a codestream without the boxes around it (T.800 annex I), unless they change its values."""
    if not frame.startswith(_JP2):
        return frame
    found = dict(_boxes(frame))
    for kind, content in _boxes(found.get(b"jp2h", b"")):
        # palette, components mapped or renamed, and sYCC, which some readers convert
        if kind in (b"pclr", b"cmap", b"cdef") or (kind == b"colr" and content[:1] + content[6:] == b"\1\x12"):
            raise _refused("a JP2 file changes what the samples of a frame mean")
    return found.get(b"jp2c", b"")


def _read_jpeg_2000(frame: bytes) -> _Stream:
    code = _codestream(frame)
    main, at = _marker_segments(code, 2, _SOT)
    coding = [body for marker, body in main if marker == _COD]
    if code[:4] != _SOC_SIZ or len(coding) != 1:
        raise _broken()
    stream, tiles = _image_and_tiles(main[0][1])
    for header in (main, *_tile_parts(code, at, tiles)):
        for marker, body in header:
            if marker == _COD:
                layers, levels = struct.unpack_from(">HxB", body, 2)
                _check_packets(stream, body[0], layers, levels, body[10:])
            if marker == _COC:
                _check_packets(stream, body[1], 1, body[2], body[7:])
    return stream._replace(transform=coding[0][4] & 1 == 1)


def _marker_segments(code: bytes, at: int, last: int) -> tuple[_Segments, int]:
    """Return the marker segments of a header, and where the marker behind it lies (T.800 A.1.3)."""
    segments: _Segments = []
    while True:
        marker, length = struct.unpack_from(">HH", code, at)
        if marker == last:
            return segments, at
        if marker < 0xFF00 or length < 2:
            raise _broken()
        segments.append((marker, code[at + 4 : at + 2 + length]))
        at += 2 + length


def _image_and_tiles(size: bytes) -> tuple[_Stream, int]:
    """Read the SIZ segment (T.800 A.5.1); return the image and the number of its tiles."""
    capabilities, *grid, samples = struct.unpack_from(">H8IH", size)
    right, bottom, left, top, tile_columns, tile_rows, tile_left, tile_top = grid
    components = {size[at : at + 3] for at in range(36, len(size), 3)}
    if len(size) != 36 + 3 * samples or len(components) != 1 or not tile_columns or not tile_rows:
        raise _broken()
    depth, *steps = components.pop()
    if capabilities & 0x8000 or steps != [1, 1]:
        raise _refused("subsampled components, or an extension of JPEG 2000")
    stream = _Stream(bottom - top, right - left, samples, (depth & 0x7F) + 1, signed=depth > 0x7F)
    tiles = -(-(right - tile_left) // tile_columns) * -(-(bottom - tile_top) // tile_rows)
    # what decoders hold of a tile is worth a thousand pixels; its number has 16 bits
    most = min(64 + stream.rows * stream.columns // 1024, 0xFFFF)
    if min(stream.rows, stream.columns) < 1 or not 0 < tiles <= most:
        raise _refused("a JPEG 2000 frame has too many tiles, or none")
    return stream, tiles


def _tile_parts(code: bytes, at: int, tiles: int) -> Iterator[_Segments]:
    """Yield the header of each tile-part (T.800 A.4.2), of which every tile must have one."""
    seen = set()
    while code[at : at + 2] == _SOT.to_bytes(2, "big"):
        tile, length = struct.unpack_from(">HI", code, at + 4)
        header, data = _marker_segments(code, at + 12, _SOD)
        yield header
        seen.add(tile)
        at = at + length if length else code.rfind(_EOC)
        if not data <= at <= len(code):
            raise _broken()
    if seen != {*range(tiles)} or (code[at : at + 2] != _EOC and code[at:].strip(b"\0")):
        raise _broken()


def _check_packets(stream: _Stream, style: int, layers: int, levels: int, sizes: bytes) -> None:
    """Refuse a coding style (T.800 A.6.1) for which decoders hold far more than the pixels."""
    if not style & 1:
        sizes = b"\xff" * (levels + 1)
    if levels > 32 or len(sizes) != levels + 1:
        raise _broken()
    precincts = 0
    for level, size in enumerate(sizes):
        rows, columns = (-(-side >> levels - level) for side in (stream.rows, stream.columns))
        precincts += -(-rows >> (size >> 4)) * -(-columns >> (size & 15))
    if precincts * (layers + 15) * 4 > stream.rows * stream.columns + (1 << 20):
        raise _refused("a JPEG 2000 frame has too many precincts or layers")


def _decode_jpeg_2000(frame: bytes, _stream: _Stream) -> NDArray[Any]:
    values: NDArray[Any] = _imagecodecs("jpeg2k_decode", _codestream(frame), numthreads=1)
    return values


def _encode_jpeg_2000(values: NDArray[Any], stream: _Stream) -> bytes:
    coded: bytes = _imagecodecs(
        "jpeg2k_encode", values, level=0, codecformat="J2K", reversible=True, mct=stream.transform,
        bitspersample=stream.precision, numthreads=1,
    )  # fmt: skip
    return coded


def _encode_htj2k(values: NDArray[Any], stream: _Stream) -> bytes:
    """Encode in the progression RPCL with tile-part lengths, down to 64 pixels or fewer (PS3.5 10.18)."""
    # the encoder knows 8, 16 and 32 bits only: it gets what follows the level shift (T.800 G.1), which needs no more
    # than that, and the SIZ segment then tells the precision
    shift = 0 if stream.signed else 1 << stream.precision - 1
    coded = bytearray(
        _imagecodecs(
            "htj2k_encode", (values - np.array(shift, values.dtype)).view(f"i{values.itemsize}"),
            reversible=True, rgb=stream.transform, planar=False, tlm=True, tilepart=1,
            resolutions=max(5, (max(stream.rows, stream.columns) - 1 >> 6).bit_length()),
        )
    )  # fmt: skip
    for at in range(42, 42 + 3 * stream.samples, 3):
        coded[at] = stream.precision - 1 | stream.signed << 7
    return bytes(coded)


# JPEG XL (ISO/IEC 18181)

_JXL: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_RATIOS: Final = ((0, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


class _Bits:
    """The first bits of a codestream, lowest first; zeros follow."""

    def __init__(self, data: bytes) -> None:
        self._left = int.from_bytes(data[:256], "little")

    def take(self, number: int) -> int:
        value = self._left & (1 << number) - 1
        self._left >>= number
        return value

    def side(self, by_eight: int) -> int:
        """Read rows or columns (ISO/IEC 18181-1 D.2)."""
        return 8 * (self.take(5) + 1) if by_eight else self.take((9, 13, 18, 30)[self.take(2)]) + 1


def _read_jpeg_xl(frame: bytes) -> _Stream:
    """Read the size, and the metadata as far as they tell samples and precision (ISO/IEC 18181-1 D.2 and D.3)."""
    if frame.startswith(_JXL):
        frame = b"".join([body[4 * (kind == b"jxlp") :] for kind, body in _boxes(frame) if kind in (b"jxlc", b"jxlp")])
    bits = _Bits(frame)
    if bits.take(16) != 0x0AFF:
        raise _broken()
    by_eight = bits.take(1)
    rows = bits.side(by_eight)
    over, under = _RATIOS[bits.take(3)]
    columns = rows * over // under if over else bits.side(by_eight)
    precision, samples = 8, 3
    if not bits.take(1):
        # orientation, intrinsic size, preview and animation; floating point
        if (bits.take(1) and bits.take(6)) or bits.take(1):
            raise _refused("a JPEG XL frame is no plain image of whole numbers")
        precision = (8, 10, 12, 0)[bits.take(2)] or bits.take(6) + 1
        bits.take(1)
        if bits.take(2):
            raise _refused("a JPEG XL frame has channels besides its colours")
        bits.take(1)
        if not bits.take(1):
            bits.take(1)
            samples = 1 if bits.take(2) == 1 else 3
    return _Stream(rows, columns, samples, precision)


def _decode_jpeg_xl(frame: bytes, _stream: _Stream) -> NDArray[Any]:
    values: NDArray[Any] = _imagecodecs("jpegxl_decode", frame, numthreads=1)
    return values


def _encode_jpeg_xl(values: NDArray[Any], stream: _Stream) -> bytes:
    # effort 1 takes a way of its own, which in libjxl 0.11 is not always lossless
    coded: bytes = _imagecodecs(
        "jpegxl_encode", values, lossless=True, effort=2, bitspersample=stream.precision, numthreads=1
    )
    return coded


def _recompressed(frame: bytes, syntax: str) -> bool:
    """Tell whether a frame holds what turns it into the JPEG image again that it was (ISO/IEC 18181-2)."""
    with _reading():
        found = frame.startswith(_JXL) and b"jbrd" in dict(_boxes(frame))
    if syntax == _RECOMPRESSION and not found:
        raise _refused("a frame of JPEG XL JPEG Recompression from which no JPEG image can be made")
    return found


def _rebuilt(frame: bytes, layout: Layout) -> bytes:
    """Return the JPEG image inside JPEG XL."""
    with _reading():
        _read_jpeg_xl(frame).check(layout)
        bits = _Bits(dict(_boxes(frame))[b"jbrd"][:256])
    bits.take(1)
    # each marker segment may hold 64 KiB that take no space here
    if 0xD9 - 0xC0 not in [bits.take(6) for _ in range(256)]:
        raise _refused("a JPEG image inside JPEG XL has too many marker segments")
    return bytes(_imagecodecs("jpegxl_decode_jpeg", frame, numthreads=1))


def _masked_jpeg(frame: bytes, boxes: Boxes, layout: Layout) -> bytes:
    from . import jpeg

    masked = jpeg.mask_frame(_rebuilt(frame, layout), boxes, layout)
    coded = bytes(_imagecodecs("jpegxl_encode_jpeg", masked, usecontainer=True, numthreads=1))
    if _rebuilt(coded, layout) != masked:
        raise _refused("the codec did not write what it was given")
    return coded


_JPEG: Final = _Codec(partial(_read_jpeg, process=_SEQUENTIAL), _decode_jpeg, None)
_JPEG_LOSSLESS: Final = _Codec(partial(_read_jpeg, process=_LOSSLESS), _decode_jpeg, _encode_jpeg)
_JPEG_LS: Final = _Codec(partial(_read_jpeg, process=_LS), _decode_jpeg_ls, _encode_jpeg_ls, own_sign=True)
_JPEG_2000: Final = _Codec(_read_jpeg_2000, _decode_jpeg_2000, _encode_jpeg_2000, own_sign=True)
# OpenJPEG reads High-Throughput JPEG 2000 too; unlike OpenJPH it tells when a frame is broken, and neither trusts
# in what the other wrote
_HTJ2K: Final = _Codec(_read_jpeg_2000, _decode_jpeg_2000, _encode_htj2k, own_sign=True)
_JPEG_XL: Final = _Codec(_read_jpeg_xl, _decode_jpeg_xl, _encode_jpeg_xl)
_CODECS: Final = {
    f"1.2.840.10008.1.2.4.{last}": codec
    for codec, lasts in (
        (_JPEG, "50 51"),
        (_JPEG_LOSSLESS, "57 70"),
        (_JPEG_LS, "80 81"),
        (_JPEG_2000, "90 91"),
        (_HTJ2K, "201 202 203"),
        (_JPEG_XL, "110 111 112"),
    )
    for last in lasts.split()
}
_RECOMPRESSION: Final = "1.2.840.10008.1.2.4.111"

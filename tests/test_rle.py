"""RLE Lossless frames (PS3.5 Annex G), masked as they are packed; other decoders read what was written."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import fuzz_rle
import numpy as np
import pydicom
import pytest
from factories import NAME, boxes_of, ct, shared, some_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.rle import _rle_decode_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from dicomshield.errors import Quarantined, Reason
from dicomshield.pixels import rle
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Box, Boxes, Region

BUNDLED = sorted(
    path for path in (Path(pydicom.data.__file__).parent / "test_files").iterdir() if "rle" in path.name.lower()
)
CORPORA = (
    "cornerstonejs+cornerstoneWADOImageLoader/examples/test-images/no-pixel-spacing.dcm",
    "pypi-pydicom-data/data_store/data/OBXXXX1A_rle.dcm",
    "pypi-pydicom-data/data_store/data/OBXXXX1A_rle_2frame.dcm",
)
FORMS = [
    (8, 1, False), (8, 3, False), (16, 1, False), (16, 1, True), (16, 3, False), (32, 1, False), (32, 3, False),
    (64, 1, True),
]  # fmt: skip


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Run the kernels as they stand, even if they could be compiled."""
    for name in ("_row_starts", "_unpack", "_pack"):
        patch.setattr(rle, name, getattr(rle, name).interpreted)


def layout_of(rows: int, columns: int, samples: int = 1, allocated: int = 8, *, signed: bool = False) -> Layout:
    """Return a layout whose black is another number in every byte and sample."""
    black = tuple(int.from_bytes(bytes(range(at + 1, at + 9)), "big") % (1 << allocated) for at in range(samples))
    return Layout(
        rows=rows, columns=columns, frames=1, samples=samples, allocated=allocated, stored=allocated, signed=signed,
        planar=False, photometric="RGB" if samples == 3 else "MONOCHROME2",
        black=tuple(value - (1 << allocated - 1) for value in black) if signed else black,
    )  # fmt: skip


def noise(layout: Layout, seed: int = 0) -> NDArray[Any]:
    """Return an image of noise, with runs of equal pixels of any length."""
    chance = np.random.default_rng(seed)
    number = layout.rows * layout.columns * layout.samples
    top = 1 << min(layout.allocated, 62)
    values = chance.integers(0, top, number, dtype=np.int64)
    runs = np.repeat(values, chance.choice([1, 1, 1, 2, 3, 127, 128, 129, 300], number))[:number]
    shape = (layout.rows, layout.columns, layout.samples)[: 3 if layout.samples > 1 else 2]
    kind = f"{'i' if layout.signed else 'u'}{max(layout.allocated // 8, 1)}"
    return runs.reshape(shape).astype(kind)


def painted(image: NDArray[Any], boxes: Boxes, layout: Layout) -> NDArray[Any]:
    image = image.copy()
    for top, bottom, left, right in boxes:
        image[top:bottom, left:right] = layout.black if layout.samples > 1 else layout.black[0]
    return image


def by_pydicom(frame: bytes, layout: Layout) -> NDArray[Any]:
    """Decode with pydicom's own decoder, in Python."""
    form = (layout.rows, layout.columns, layout.samples, layout.allocated)
    planes = np.frombuffer(_rle_decode_frame(frame, *form), f"<{'i' if layout.signed else 'u'}{layout.allocated // 8}")
    image = np.moveaxis(planes.reshape(layout.samples, layout.rows, layout.columns), 0, 2)
    return image if layout.samples > 1 else image[..., 0]


def by_tools(frames: Sequence[bytes], layout: Layout, folder: Path) -> Iterator[NDArray[Any]]:
    """Decode a file of frames with DCMTK and GDCM."""
    ds = ct(
        Rows=layout.rows, Columns=layout.columns, SamplesPerPixel=layout.samples, BitsAllocated=layout.allocated,
        BitsStored=layout.allocated, HighBit=layout.allocated - 1, PixelRepresentation=int(layout.signed),
        PhotometricInterpretation=layout.photometric, NumberOfFrames=len(frames),
    )  # fmt: skip
    if layout.samples > 1:
        ds.PlanarConfiguration = 0
    ds.PixelData = encapsulate(list(frames))
    ds["PixelData"].VR = "OB"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = RLELossless
    ds.save_as(folder / "packed.dcm", enforce_file_format=True)
    for tool in (["dcmdrle"], ["gdcmconv", "--raw"]):
        if not shutil.which(tool[0]):
            pytest.skip(f"{tool[0]} is not installed")
        if tool[0] == "gdcmconv" and layout.samples > 1 and layout.allocated > 8:
            # it mixes up the bytes of wide colours, in files of others too
            continue
        subprocess.run([*tool, "packed.dcm", "plain.dcm"], cwd=folder, check=True, capture_output=True)
        yield pixel_array(folder / "plain.dcm", raw=True).reshape(len(frames), *by_pydicom(frames[0], layout).shape)


def unpacked(segment: bytes) -> tuple[bytes, list[int]]:
    """Unpack by G.3.2, and tell after how many bytes each packet ends."""
    output, ends, at = b"", [], 0
    while at < len(segment):
        head = segment[at]
        if head < 128:
            output += segment[at + 1 : at + 2 + head]
            at += head + 2
        elif head > 128:
            output += segment[at + 1 : at + 2] * (257 - head)
            at += 2
        else:
            at += 1
        ends.append(len(output))
    return output, ends


def segments_of(frame: bytes) -> list[bytes]:
    count, *offsets = struct.unpack_from("<16I", frame)
    return [frame[start:end] for start, end in pairwise([*offsets[:count], len(frame)])]


def framed(*segments: bytes) -> bytes:
    """Put a header before segments (G.5)."""
    offsets = [64 + sum(map(len, segments[:at])) for at in range(len(segments))]
    return struct.pack("<16I", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


def frames_in(path: Path) -> Iterator[tuple[bytes, Layout]]:
    """Yield the frames of a file, with their layout."""
    ds = pydicom.dcmread(path)
    number = int(ds.get("NumberOfFrames", 1))
    layout = layout_of(
        ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated, signed=bool(ds.PixelRepresentation)
    )._replace(frames=number)
    for frame in generate_frames(ds.PixelData, number_of_frames=number):
        yield frame, layout


def check_file(path: Path, folder: Path) -> int:
    """Mask every frame of a file; other decoders find the boxes black, and all else as it was."""
    packed, expected = [], []
    for frame, layout in frames_in(path):
        boxes = some_boxes(layout)
        packed.append(rle.mask_frame(frame, boxes, layout))
        expected.append(painted(by_pydicom(frame, layout), boxes, layout))
        assert np.array_equal(by_pydicom(packed[-1], layout), expected[-1])
        assert np.array_equal(rle.decode(frame, layout), by_pydicom(frame, layout))
    assert all(np.array_equal(pixels, expected) for pixels in by_tools(packed, layout, folder))
    return len(packed)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_files_of_others(path: Path, tmp_path: Path) -> None:
    """Frames packed by others are black where they must be, and nowhere else (G.3)."""
    assert check_file(path, tmp_path) >= 1


@pytest.mark.parametrize("name", CORPORA)
def test_files_of_the_corpora(name: str, tmp_path: Path) -> None:
    """So are those of ultrasound devices (G.3)."""
    assert check_file(shared() / "corpora" / name, tmp_path) >= 1


def test_all_bundled_files_are_seen() -> None:
    """The files above are all that pydicom has."""
    assert len(BUNDLED) >= 9
    assert all(pydicom.dcmread(path).file_meta.TransferSyntaxUID == RLELossless for path in BUNDLED)


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (5, 129), (31, 400)], ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_form(form: tuple[int, int, bool], size: tuple[int, int], tmp_path: Path) -> None:
    """Every width, one and three samples, signed and not, odd sizes: other decoders read what was packed (G.2)."""
    layout = layout_of(*size, samples=form[1], allocated=form[0], signed=form[2])
    boxes, images = some_boxes(layout), [noise(layout, seed) for seed in range(3)]
    packed = [rle.encode(image, layout) for image in images]
    for image, frame in zip(images, packed, strict=True):
        assert np.array_equal(by_pydicom(frame, layout), image)
        assert np.array_equal(rle.decode(frame, layout), image)
        assert rle.decode(frame, layout).dtype == image.dtype

    masked = [rle.mask_frame(frame, boxes, layout) for frame in packed]

    expected = [painted(image, boxes, layout) for image in images]
    assert np.array_equal([by_pydicom(frame, layout) for frame in masked], expected)
    if layout.allocated < 64:
        assert all(np.array_equal(pixels, expected) for pixels in by_tools(masked, layout, tmp_path))


# How rows are packed


def test_rows_without_a_box_stay_as_they_are() -> None:
    """Rows above, between and below boxes are the same bytes, however strange a packer wrote them (G.3)."""
    layout = layout_of(6, 4)._replace(black=(1,))
    # equal bytes as literal, packets of nothing, one packet a byte
    rows = [
        b"\x03aaaa", b"\x80\xfdb", b"\0c\0c\0c\x80\0c", b"\x80\x80\x01dd\xffd", b"\xfde", b"\x01fg\x80\x01fg",
    ]  # fmt: skip

    for touched in ((1,), (0, 3), (5,), (2, 3, 4), ()):
        masked = rle.mask_frame(
            framed(b"".join(rows)), boxes_of(layout, *(Region(row, 1, row + 1, 3) for row in touched)), layout
        )

        packed = segments_of(masked)[0]
        kept = [b"".join(rows[first + 1 : last]) for first, last in pairwise([-1, *touched, 6])]
        assert re.fullmatch(b".+".join(map(re.escape, kept)) + b"\0?", packed, re.DOTALL)
        assert [unpacked(packed)[0][4 * row + 1 : 4 * row + 3] == b"\1\1" for row in range(6)] == [
            row in touched for row in range(6)
        ]


def test_packets_across_rows() -> None:
    """Packets that go from row to row are legal to read; what is written keeps to its row (G.3.1)."""
    layout = layout_of(9, 50)
    image = noise(layout, 4)
    long = layout._replace(rows=1, columns=450)
    frame = rle.encode(image.reshape(1, -1), long)
    assert {50 * row for row in range(1, 9)} - set(unpacked(segments_of(frame)[0])[1])

    masked = rle.mask_frame(frame, (Box(3, 5, 10, 20),), layout)

    assert np.array_equal(by_pydicom(masked, layout), painted(image, (Box(3, 5, 10, 20),), layout))
    assert {50 * row for row in range(1, 10)} <= set(unpacked(segments_of(masked)[0])[1])
    assert np.array_equal(rle.decode(frame, layout), image)


@pytest.mark.parametrize("at", range(4))
def test_packets_of_nothing(at: int) -> None:
    """A byte of 0x80 means nothing, wherever it is between packets (G.3.2)."""
    layout = layout_of(2, 3)._replace(black=(1,))
    packets = [b"\x01ab", b"\0c", b"\xfed"]
    frame = framed(b"".join([*packets[:at], b"\x80" * 300, *packets[at:]]))

    masked = rle.mask_frame(frame, (Box(1, 2, 0, 2),), layout)

    assert rle.decode(frame, layout).tobytes() == b"abcddd"
    assert rle.decode(masked, layout).tobytes() == by_pydicom(masked, layout).tobytes() == b"abc\1\1d"


def test_what_is_no_pixel_goes() -> None:
    """Bytes between header and segments, after the last row, and in unused offsets are not copied (G.4, G.5)."""
    layout = layout_of(4, 10, samples=3)
    image = noise(layout)
    name = NAME.encode()
    parts = segments_of(rle.encode(image, layout))
    frame = bytearray(framed(name, *(part + name for part in parts)))
    frame[:16] = struct.pack("<4I", 3, *struct.unpack_from("<3I", frame, 8))
    frame[40:60] = name[:20]

    masked = rle.mask_frame(bytes(frame), boxes_of(layout, Region(1, 1, 2, 2)), layout)

    assert bytes(frame).count(name) == 4
    assert name[:6] not in masked
    assert np.array_equal(by_pydicom(masked, layout), painted(image, (Box(1, 2, 1, 2),), layout))
    assert all(len(part) % 2 == 0 for part in segments_of(masked))


@given(row=st.binary(min_size=1, max_size=700), rows=st.integers(1, 3))
@settings(deadline=None)
def test_expansion(row: bytes, rows: int) -> None:
    """A row of n bytes takes at most n + ceil(n / 128) and unpacks to itself; three equal bytes are a run (G.3.1)."""
    plane = np.frombuffer(row * rows, np.uint8)
    bound = rows * (len(row) + -(-len(row) // 128))
    packed = np.zeros(bound + 8, np.uint8)

    length = rle._pack(plane, len(row), packed[:bound])

    assert 0 < length <= bound
    assert not packed[length:].any()
    output, ends = unpacked(packed[:length].tobytes())
    assert output == row * rows
    assert {len(row) * (at + 1) for at in range(rows)} <= set(ends)
    assert rle._pack(plane, len(row), packed[: length - 1]) == -1
    assert not packed[length:].any()


@pytest.mark.parametrize("length", [128, 129, 256, 257, 384, 1000])
def test_worst_row(length: int) -> None:
    """The bound on the length of a row is reached, not passed."""
    row = (np.arange(length) % 2).astype(np.uint8)
    packed = np.zeros(2 * length, np.uint8)

    assert rle._pack(row, length, packed) == length + -(-length // 128)


# Bits


def packed_bits(image: NDArray[Any]) -> bytes:
    return np.packbits(image, bitorder="little").tobytes()


@pytest.mark.parametrize("size", [(1, 1), (3, 7), (4, 16), (9, 33), (70, 80)], ids=str)
def test_single_bits(size: tuple[int, int]) -> None:
    """Bits are packed by eight, the first pixel in the lowest bit, rows without a gap between them (8.1.1)."""
    layout = layout_of(*size, allocated=1)._replace(black=(1,))
    image = noise(layout)
    boxes = some_boxes(layout)

    frame = rle.encode(image, layout)
    masked = rle.mask_frame(frame, boxes, layout)

    assert unpacked(segments_of(frame)[0])[0].startswith(packed_bits(image))
    assert unpacked(segments_of(masked)[0])[0].startswith(packed_bits(painted(image, boxes, layout)))
    assert np.array_equal(rle.decode(frame, layout), image)


@pytest.mark.parametrize("name", ["liver", "liver_nonbyte_aligned"])
def test_segmentations_of_the_corpora(name: str) -> None:
    """Segmentations of single bits hold the pixels of their deflated twins, but for the boxes (8.1.1)."""
    folder = shared() / "corpora/pydicom+pydicom-data/data_store/data"
    twin = pydicom.dcmread(folder / f"{name}_deflate.dcm")
    plain = [zlib.decompress(frame, -15) for frame in generate_frames(twin.PixelData, number_of_frames=3)]

    for (frame, layout), bits in zip(frames_in(folder / f"{name}_rle.dcm"), plain, strict=True):
        layout = layout._replace(black=(1,))
        boxes = some_boxes(layout)
        image = rle.decode(frame, layout)
        assert packed_bits(image) == bits[: -(-image.size // 8)]
        assert np.array_equal(rle.decode(rle.mask_frame(frame, boxes, layout), layout), painted(image, boxes, layout))


# Any image, any boxes


@st.composite
def masks(draw: st.DrawFn) -> tuple[NDArray[Any], Boxes, Layout]:
    """Draw an image, boxes and the layout."""
    allocated, samples, signed = draw(st.sampled_from([*FORMS, (1, 1, False)]))
    layout = layout_of(draw(st.integers(1, 6)), draw(st.integers(1, 20)), samples, allocated, signed=signed)
    shape = (layout.rows, layout.columns, samples)[: 3 if samples > 1 else 2]
    kind = np.dtype(f"<{'i' if signed else 'u'}{max(allocated // 8, 1)}")
    values = st.integers(*((0, 1) if allocated == 1 else (np.iinfo(kind).min, np.iinfo(kind).max)))
    image = draw(arrays.arrays(kind, shape, elements=values))
    edge = st.integers(0, 7)
    sides = draw(st.lists(st.tuples(edge, edge, edge, edge), max_size=3))
    regions = [Region(top, left, top + height + 1, left + width + 1) for top, left, height, width in sides]
    return image, boxes_of(layout, *regions), layout


@given(masks())
@settings(deadline=None)
def test_any_mask(drawn: tuple[NDArray[Any], Boxes, Layout]) -> None:
    """Inside boxes every pixel is black, outside none has changed; nothing is there to be masked twice (E.3.1)."""
    image, boxes, layout = drawn

    frame = rle.encode(image, layout)
    masked = rle.mask_frame(frame, boxes, layout)

    assert np.array_equal(rle.decode(masked, layout), painted(image, boxes, layout))
    assert rle.mask_frame(masked, boxes, layout) == masked
    assert boxes or masked == frame


@given(masks())
@settings(deadline=None, max_examples=50)
def test_interpreted(drawn: tuple[NDArray[Any], Boxes, Layout]) -> None:
    """Without a compiler the same bytes are written, just slower."""
    image, boxes, layout = drawn
    long = layout._replace(rows=1, columns=layout.rows * layout.columns)

    def written() -> list[bytes]:
        frames = [rle.encode(image, layout), rle.encode(image.reshape(1, long.columns, *image.shape[2:]), long)]
        return [*frames, *(rle.mask_frame(frame, boxes, layout) for frame in frames)] + [
            rle.decode(frame, layout).tobytes() for frame in frames
        ]

    compiled_way = written()
    with pytest.MonkeyPatch.context() as patch:
        interpret(patch)
        assert written() == compiled_way


# Broken and hostile frames


def header(count: int, *offsets: int) -> bytes:
    return struct.pack("<16I", count, *offsets, *[0] * (15 - len(offsets)))


GOOD = framed(b"\x05abcdef", b"\xfbg")
LAYOUT = layout_of(2, 3, allocated=16)


@pytest.mark.parametrize(
    ("frame", "layout"),
    [
        (b"", LAYOUT),
        (GOOD[:63], LAYOUT),
        (GOOD[:64], LAYOUT),
        (GOOD[:-2], LAYOUT),
        (GOOD[:-1], LAYOUT),
        (header(1, 64) + GOOD[64:], LAYOUT),
        (header(3, 64, 71, 72) + GOOD[64:], LAYOUT),
        (header(0) + GOOD[64:], LAYOUT),
        (header(16, *[64] * 15) + GOOD[64:], LAYOUT),
        (header(0xFFFFFFFF, 64, 71) + GOOD[64:], LAYOUT),
        (header(2, 71, 64) + GOOD[64:], LAYOUT),
        (header(2, 60, 71) + GOOD[64:], LAYOUT),
        (header(2, 0, 71) + GOOD[64:], LAYOUT),
        (struct.pack("<16I", 1, 60, *[0] * 13, 0x61FE), layout_of(1, 3)),
        (header(2, 64, 200) + GOOD[64:], LAYOUT),
        (header(2, 64, 0xFFFFFFFF) + GOOD[64:], LAYOUT),
        (header(2, 64, 64) + GOOD[64:], LAYOUT),
        (header(2, 64, 73) + GOOD[64:], LAYOUT),
        (framed(b"\x04abcde", b"\xfbg"), LAYOUT),
        (framed(b"\x06abcdefg", b"\xfbg"), LAYOUT),
        (framed(b"\x05abcdef", b"\xfag"), LAYOUT),
        (framed(b"\x05abcdef", b"\xfb"), LAYOUT),
        (framed(b"\x05abcdef", b"\x80" * 64), LAYOUT),
        (GOOD, layout_of(2, 4, allocated=16)),
        (GOOD, layout_of(65535, 8000, allocated=16)),
        (GOOD, layout_of(2, 3)),
        (GOOD, layout_of(2, 3, samples=3, allocated=64)),
        (framed(*[b"\0a"] * 15), layout_of(1, 1, samples=3, allocated=64)),
        (struct.pack("<I", 24) + framed(*[b"\0a"] * 15)[4:], layout_of(1, 1, samples=3, allocated=64)),
        (framed(*[b"\0a"] * 3), layout_of(1, 1, samples=3, allocated=1)),
        (framed(b"\0a"), layout_of(3, 3, allocated=1)),
    ],
)  # fmt: skip
def test_broken(frame: bytes, layout: Layout) -> None:
    """A frame that is broken, or not of the header's form, is held back and takes no memory first (G.5)."""
    boxes = boxes_of(layout, Region(0, 0, 1, 1))

    tracemalloc.start()
    for attempt in (lambda: rle.mask_frame(frame, boxes, layout), lambda: rle.decode(frame, layout)):
        with pytest.raises(Quarantined) as held:
            attempt()
        assert held.value.reason is Reason.PIXELS
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 22


def test_too_large() -> None:
    """A frame that would take more than 1 GiB is held back before it takes it."""
    layout = layout_of(65535, 16385)

    for attempt in (rle.decode, lambda frame, layout: rle.mask_frame(frame, (), layout)):
        with pytest.raises(Quarantined) as held:
            attempt(framed(bytes(17 << 20)), layout)
        assert held.value.reason is Reason.TOO_LARGE


def test_the_good_one_is_good() -> None:
    """The frame that the broken ones are made of is whole."""
    assert rle.decode(GOOD, LAYOUT).tobytes() == b"gagbgcgdgegf"


@pytest.mark.parametrize(("way", "count"), [("compiled", 4000), ("interpreted", 400)])
def test_fuzz(way: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutated frames are held back, or are right in every pixel; nothing is read or written beyond its end.

    Interpreted, a place beyond the end is an IndexError.
    """
    if way == "interpreted":
        interpret(monkeypatch)

    seen = fuzz_rle.main(count, seed=3)

    assert seen["masked"] > count // 4
    assert seen["held back"] > count // 4

"""Masked objects: only what a region covers changes, in every frame, and the header tells of it."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import NAME, ct, encoded, raw, raw_item
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicomshield import Action, Deidentifier, Profile, Project, Quarantined, Reason, Region
from dicomshield.encoding.source import Source
from dicomshield.masker import Masker
from dicomshield.storage import Storage

ENCAPSULATED_NATIVE, DEFLATED_FRAMES = "1.2.840.10008.1.2.1.98", "1.2.840.10008.1.2.8.1"
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
TOP = Region(0, 0, 3, 1 << 20)
PART = Region(5, 2, 7, 5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


def masked(project: Project, data: bytes, *regions: Region, **profile: bool) -> Dataset:
    """De-identify an object with regions masked, and read the result."""
    shield = Deidentifier(Profile(regions=regions, **profile), project=project)  # type: ignore[arg-type]
    return pydicom.dcmread(BytesIO(shield.bytes(data).data))


def stored(ds: Dataset) -> NDArray[np.generic]:
    """Return the stored values as pydicom reads them, shape (frames, rows, columns, samples)."""
    pixels = pixel_array(ds, raw=True) if "PixelData" in ds else ds.pixel_array
    return pixels.reshape(int(ds.get("NumberOfFrames") or 1), ds.Rows, ds.Columns, ds.get("SamplesPerPixel", 1))


def image(photometric: str = "MONOCHROME2", kind: str = "u2", shape: tuple[int, ...] = (1, 9, 12)) -> Dataset:
    """Return an image with random stored values of a kind, ``shape`` is (frames, rows, columns)."""
    samples = 1 if photometric.startswith(("MONO", "PAL")) else 3
    subsampled = photometric == "YBR_FULL_422"
    size = np.dtype(kind).itemsize
    values = np.random.default_rng(5).integers(1, 100, (*shape, 2 if subsampled else samples)).astype(kind)
    ds = ct()
    ds.PhotometricInterpretation, ds.SamplesPerPixel = photometric, samples
    ds.NumberOfFrames, ds.Rows, ds.Columns = shape
    ds.BitsAllocated = ds.BitsStored = 8 * size
    ds.HighBit, ds.PixelRepresentation = 8 * size - 1, int(np.dtype(kind).kind == "i")
    if samples > 1:
        ds.PlanarConfiguration = 0
    ds.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    ds["PixelData"].VR = "OB" if size == 1 else "OW"
    return ds


def covered(ds: Dataset, *regions: Region) -> NDArray[np.bool_]:
    canvas = np.zeros((ds.Rows, ds.Columns), bool)
    for region in regions:
        canvas[region.top : region.bottom, region.left : region.right] = True
    return canvas


def check(before: Dataset, after: Dataset, inside: NDArray[np.bool_], fill: tuple[float, ...]) -> None:
    """Compare every frame: outside as it was, inside nothing but the fill."""
    old, new = stored(before), stored(after)
    assert old.shape == new.shape
    assert np.array_equal(old[:, ~inside], new[:, ~inside])
    assert (new[:, inside] == np.array(fill)).all()
    assert not np.array_equal(old[:, inside], new[:, inside])


# Native pixels


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.keyword)
@pytest.mark.parametrize(
    ("photometric", "kind", "fill"),
    [
        ("MONOCHROME2", "u1", (0,)), ("MONOCHROME2", "u2", (0,)), ("MONOCHROME2", "i2", (-32768,)),
        ("MONOCHROME1", "u2", (65535,)), ("MONOCHROME2", "u4", (0,)), ("RGB", "u1", (0, 0, 0)),
        ("RGB", "u2", (0, 0, 0)), ("YBR_FULL", "u1", (0, 128, 128)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 7, 5)])
def test_every_native_form(
    project: Project, photometric: str, kind: str, fill: tuple[int, ...], shape: tuple[int, int, int], syntax: str
) -> None:
    """In every native transfer syntax and layout, odd lengths too, only the regions change (PS3.5 8.1, A.1 to A.5)."""
    ds = image(photometric, kind, shape)
    data = encoded(ds, syntax) if syntax != ExplicitVRBigEndian else big_endian(ds)
    check(pydicom.dcmread(BytesIO(data)), masked(project, data, TOP, PART), covered(ds, TOP, PART), fill)


def big_endian(ds: Dataset) -> bytes:
    """Encode with its words in the other order; 8-bit pixels in OB have none (PS3.5 7.3)."""
    size = ds.BitsAllocated // 8
    words = np.frombuffer(ds.PixelData[: len(ds.PixelData) // size * size], f"<u{size}")
    swapped = words.astype(f">u{size}").tobytes()
    explicit = pydicom.dcmread(BytesIO(encoded(ds)))
    explicit.PixelData = swapped + b"\0" * (len(swapped) & 1)
    explicit.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    out = BytesIO()
    pydicom.dcmwrite(out, explicit, implicit_vr=False, little_endian=False)
    return out.getvalue()


def test_eight_bit_words_in_big_endian(project: Project) -> None:
    """8-bit pixels in OW lie in swapped pairs there; the right ones are masked (PS3.5 8.1.1, Annex D)."""
    ds = image(kind="u1", shape=(2, 8, 8))
    ds["PixelData"].VR = "OW"
    data = encoded(ds, ExplicitVRBigEndian)
    check(pydicom.dcmread(BytesIO(data)), masked(project, data, PART), covered(ds, PART), (0,))


def test_colour_by_plane(project: Project) -> None:
    """With Planar Configuration 1 every plane is masked, with its own value of black (C.7.6.3.1.3)."""
    ds = image("YBR_FULL", "u1", (2, 9, 12))
    ds.PlanarConfiguration = 1
    check(ds_of(ds), masked(project, encoded(ds), TOP, PART), covered(ds, TOP, PART), (0, 128, 128))


def ds_of(ds: Dataset) -> Dataset:
    return pydicom.dcmread(BytesIO(encoded(ds)))


def test_shared_chrominance(project: Project) -> None:
    """In native YBR_FULL_422 two pixels share their colour, so a mask is aligned outwards to pairs (C.7.6.3.1.2)."""
    ds = image("YBR_FULL_422", "u1", (2, 9, 12))
    wider = Region(5, 2, 7, 6)
    check(ds_of(ds), masked(project, encoded(ds), Region(5, 3, 7, 5)), covered(ds, wider), (0, 128, 128))


def test_subsampled_in_name_only(project: Project) -> None:
    """Where YBR_FULL_422 is said and every sample stored, what is there decides."""
    ds = image("YBR_FULL", "u1", (1, 9, 12))
    data = encoded(ds).replace(b"YBR_FULL", b"YBR_FULL_422"[:8])
    ds.PhotometricInterpretation = "YBR_FULL_422"
    after = masked(project, encoded(ds), PART)
    after.PhotometricInterpretation = "YBR_FULL"
    check(pydicom.dcmread(BytesIO(data)), after, covered(ds, PART), (0, 128, 128))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 5), st.integers(0, 19), st.integers(0, 19), st.booleans())
def test_single_bits(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, frames: int, top: int, left: int, white: bool
) -> None:
    """Frames of 1-bit pixels need not begin with a byte; their neighbours stay as they are (PS3.5 8.1.1)."""
    region = Region(min(top, rows - 1), min(left, columns - 1), rows, min(left, columns - 1) + 5)
    ds = image("MONOCHROME1" if white else "MONOCHROME2", "u1", (frames, rows, columns))
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    random = np.random.default_rng(rows)
    ds.PixelData = np.packbits(random.integers(0, 2, frames * rows * columns), bitorder="little").tobytes()
    ds.PixelData += b"\0" * (len(ds.PixelData) & 1)
    after = masked(Project(tmp_path_factory.getbasetemp() / "bits"), encoded(ds), region)
    inside = covered(ds, region)
    assert np.array_equal(stored(ds_of(ds))[:, ~inside], stored(after)[:, ~inside])
    assert (stored(after)[:, inside] == int(white)).all()


@pytest.mark.parametrize(
    ("keyword", "kind", "bits"), [("FloatPixelData", "f4", 32), ("DoubleFloatPixelData", "f8", 64)]
)
def test_floating_point_pixels(project: Project, keyword: str, kind: str, bits: int) -> None:
    """Float and Double Float Pixel Data are masked as Pixel Data are (C.7.6.24, C.7.6.25)."""
    ds = ct()
    del ds.PixelData, ds.BitsStored, ds.HighBit, ds.PixelRepresentation
    ds.BitsAllocated, ds.NumberOfFrames = bits, 2
    setattr(ds, keyword, (np.arange(128, dtype=kind) / 7 + 1).tobytes())
    check(ds_of(ds), masked(project, encoded(ds), PART), covered(ds, PART), (0.0,))


def test_large_frames_are_read_by_bands(project: Project, tmp_path: Path) -> None:
    """Only the rows a mask touches are read; what lies between is copied by the kernel, and all of it is right."""
    ds = image("RGB", "u1", (3, 700, 1201))
    path = tmp_path / "large"
    path.write_bytes(encoded(ds))
    regions = (Region(2, 3, 4, 1200), Region(100, 0, 140, 1201), Region(560, 1190, 700, 1201, frames=(1, 2)))
    shield = Deidentifier(Profile(regions=regions), project=project)
    report = shield.file(path, tmp_path / "out")
    after = pydicom.dcmread(tmp_path / "out" / report.name)
    old, new = stored(ds_of(ds)), stored(after)
    for frame in range(3):
        inside = covered(ds, *regions[: 3 if frame == 1 else 2])
        assert np.array_equal(old[frame][~inside], new[frame][~inside])
        assert not new[frame][inside].any()
    assert shield.bytes(path).data == (tmp_path / "out" / report.name).read_bytes()


def add_overlay(ds: Dataset, *, allocated: int, position: int) -> None:
    """Describe an overlay plane as large as the image (PS3.3 C.9.2)."""
    values = ((0x10, "US", ds.Rows), (0x11, "US", ds.Columns), (0x40, "CS", "G"), (0x50, "SS", [1, 1]))
    for element, vr, value in (*values, (0x100, "US", allocated), (0x102, "US", position)):
        ds.add_new(0x60000000 | element, vr, value)


@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_overlays_in_unused_bits_are_cleared(project: Project, kind: str) -> None:
    """Bits above Bits Stored may draw text; they are cleared in every pixel, with or without a mask (C.9.2)."""
    ds = image(kind=kind, shape=(2, 9, 12))
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") * 9 - 300 & 0xFFF | 0x5000).astype("<u2").tobytes()
    add_overlay(ds, allocated=16, position=14)
    words = np.frombuffer(ds.PixelData, "<u2").reshape(2, 9, 12) & 0xFFF
    values = ((words ^ 0x800).astype(int) - 0x800) if kind == "i2" else words.astype(int)
    for regions in ((), (PART,)):
        after = masked(project, encoded(ds), *regions)
        kept = np.frombuffer(after.PixelData, f"<{kind}").reshape(2, 9, 12)
        outside = ~covered(ds, *regions)
        assert np.array_equal(kept[:, outside], values[:, outside])
        assert (kept[:, ~outside] == (-2048 if kind == "i2" else 0)).all()
        assert not any(element.tag.group == 0x6000 for element in after)


@pytest.mark.parametrize("kind", ["u2", "i2"])
def test_overlays_in_unused_bits_of_rle_are_cleared(project: Project, kind: str) -> None:
    """The same for RLE Lossless, in every frame (C.9.2)."""
    ds = image(kind=kind, shape=(3, 9, 12))
    ds.BitsStored, ds.HighBit = 12, 11
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") * 9 - 300 & 0xFFF | 0x5000).astype("<u2").tobytes()
    words = np.frombuffer(ds.PixelData, "<u2").reshape(3, 9, 12) & 0xFFF
    values = ((words ^ 0x800).astype(int) - 0x800) if kind == "i2" else words.astype(int)
    add_overlay(ds, allocated=16, position=14)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, generate_instance_uid=False)
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    for regions in ((), (Region(5, 2, 7, 5, frames=(1, 2)),)):
        after = masked(project, out.getvalue(), *regions)
        kept = stored(after)[..., 0]
        expected = values.copy()
        if regions:
            expected[1, 5:7, 2:5] = -2048 if kind == "i2" else 0
        assert np.array_equal(kept, expected)


def test_bytes_behind_the_last_frame_go(project: Project) -> None:
    """What a viewer never shows is not passed on."""
    ds = image(kind="u1", shape=(1, 9, 13))
    ds.PixelData = ds.PixelData[:117] + NAME.encode() * 4 + b"\0"
    data = encoded(ds)
    after = masked(project, data, PART)
    assert len(after.PixelData) == 118
    assert after.PixelData[-1] == 0
    assert NAME.encode() not in after.PixelData


# Encapsulated frames


def frames_file(
    frames: list[list[bytes]],
    *,
    table: list[int] | None = None,
    syntax: str = ENCAPSULATED_NATIVE,
    extra: bytes = b"",
) -> bytes:
    """Return an object whose frames are divided into these fragments; ``table`` is the Basic Offset Table."""
    return with_frames(image(kind="u1", shape=(len(frames), 4, 8)), frames, syntax, table=table, extra=extra)


def with_frames(
    ds: Dataset, frames: list[list[bytes]], syntax: str, *, table: list[int] | None = None, extra: bytes = b""
) -> bytes:
    """Return an object with these frames as its pixel data."""
    del ds.PixelData
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    # pydicom writes none that it does not know
    written = MPEG4HP41 if len(syntax) > 22 else ENCAPSULATED_NATIVE
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(written)
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True, implicit_vr=False, little_endian=True)
    head = out.getvalue().replace(written.encode(), syntax.encode().ljust(len(written), b"\0"))
    items = raw_item(struct.pack(f"<{len(table or [])}I", *(table or [])))
    items += b"".join(raw_item(fragment) for frame in frames for fragment in frame)
    return head + extra + raw(0x7FE00010, "OB", items, undefined=True)


def fragments(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the Basic Offset Table and all fragments, by PS3.5 A.4."""
    at, found = data.index(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12, []
    while data[at : at + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        found.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    assert data[at:] == b"\xfe\xff\xdd\xe0\0\0\0\0"
    return found[0], found[1:]


def plain(number: int) -> list[list[bytes]]:
    return [[bytes([frame % 99 + 1]) * 32] for frame in range(number)]


@pytest.mark.parametrize("number", [1, 2, 120])
def test_untouched_frames_stay_byte_by_byte(project: Project, number: int, tmp_path: Path) -> None:
    """Of 1, 2 and 120 frames only those of the region are edited; the offset table is right (PS3.5 A.4)."""
    path = tmp_path / "cine"
    path.write_bytes(frames_file(plain(number)))
    touched = range(number // 2, number // 2 + max(1, number // 10))
    region = Region(0, 0, 2, 3, frames=(touched.start, touched.stop))
    shield = Deidentifier(Profile(regions=(region,)), project=project)
    report = shield.file(path, tmp_path / "out")
    data = (tmp_path / "out" / report.name).read_bytes()
    table, after = fragments(data)
    for frame, (old,) in enumerate(plain(number)):
        new = np.frombuffer(after[frame], np.uint8).reshape(4, 8)
        inside = np.zeros((4, 8), bool)
        inside[:2, :3] = frame in touched
        assert (new[inside] == 0).all()
        assert (new[~inside] == old[0]).all()
    assert table == struct.pack(f"<{number}I", *(40 * frame for frame in range(number)))
    assert shield.bytes(path).data == data
    assert f"{len(touched)} of {number} frames" in report.pixels
    assert ("113101" in report.claims) == (number == 1)


def offsets(frames: list[list[bytes]]) -> list[int]:
    sizes = [sum(8 + len(fragment) for fragment in frame) for frame in frames]
    return [0, *accumulate(sizes)][:-1]


def test_several_fragments_for_a_frame(project: Project) -> None:
    """The offset table tells which belong together; a masked frame becomes one fragment (PS3.5 A.4)."""
    frames = [[b"\1" * 10, b"\1" * 22], [b"\2" * 32], [b"\3" * 2, b"\3" * 28, b"\3" * 2]]
    data = frames_file(frames, table=offsets(frames))
    shield = Deidentifier(Profile(regions=(Region(0, 0, 1, 8, frames=(2, 3)),)), project=project)
    table, after = fragments(shield.bytes(data).data)
    assert after == [b"\1" * 10, b"\1" * 22, b"\2" * 32, bytes(8) + b"\3" * 24]
    assert struct.unpack("<3I", table) == (0, 48, 88)


@pytest.mark.parametrize(
    ("frames", "table"),
    [
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], None),
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], [0, 19]),
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], [0, 48, 48]),
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], [48, 0]),
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], [18, 48]),
        ([[b"\1" * 10, b"\1" * 22], [b"\2" * 32]], [0, 18]),
        ([[], [b"\2" * 32]], None),
    ],
)
def test_fragments_that_cannot_be_told_apart_are_held_back(
    project: Project, frames: list[list[bytes]], table: list[int] | None
) -> None:
    """A wrong offset table would let the mask miss its frame, so nothing is guessed."""
    with pytest.raises(Quarantined) as held:
        masked(project, frames_file(frames, table=table), Region(0, 0, 1, 8))
    assert held.value.reason is Reason.PIXELS


@pytest.mark.parametrize("table", [[0, 7, 99], [5], [0, 40, 80]])
def test_a_wrong_table_is_put_right(project: Project, table: list[int]) -> None:
    """With one fragment for each frame the table says nothing that the fragments do not."""
    data = frames_file(plain(3), table=table)
    shield = Deidentifier(Profile(regions=(Region(0, 0, 4, 1),)), project=project)
    new, after = fragments(shield.bytes(data).data)
    assert struct.unpack("<3I", new) == (0, 40, 80)
    assert [one[0::8] for one in after] == [bytes(4)] * 3


def test_extended_offset_table(project: Project, tmp_path: Path) -> None:
    """It is rebuilt with the lengths before padding, and the basic one stays empty (C.7.6.3.1.8)."""
    extra = raw(0x7FE00001, "OV", struct.pack("<2Q", 0, 40)) + raw(0x7FE00002, "OV", struct.pack("<2Q", 32, 32))
    extra += raw(0x7FE00003, "UV", struct.pack("<Q", 99))
    path = tmp_path / "extended"
    path.write_bytes(frames_file(plain(2), extra=extra))
    shield = Deidentifier(Profile(regions=(Region(0, 0, 4, 1),)), project=project)
    report = shield.file(path, tmp_path / "out")
    data = (tmp_path / "out" / report.name).read_bytes()
    after = pydicom.dcmread(BytesIO(data))
    assert struct.unpack("<2Q", after.ExtendedOffsetTable) == (0, 40)
    assert struct.unpack("<2Q", after.ExtendedOffsetTableLengths) == (32, 32)
    assert 0x7FE00003 not in after
    assert fragments(data)[0] == b""
    assert shield.bytes(path).data == data


def test_frames_of_a_wrong_length_are_held_back(project: Project) -> None:
    """A frame that is not what the header says may show something else where the mask is not."""
    for length in (30, 34, 64):
        with pytest.raises(Quarantined) as held:
            masked(project, frames_file([[bytes(length)]]), Region(0, 0, 1, 1))
        assert held.value.reason is Reason.PIXELS


@pytest.mark.parametrize("content", [b"\3\0", b"", b"\xff\xff\xff\xff", b"\x4b\4\0"])
def test_deflated_frames(project: Project, content: bytes) -> None:
    """Each touched frame is inflated, masked and deflated; a broken or longer one is held back (PS3.5 A.4.13)."""
    packer = zlib.compressobj(wbits=-15)
    good = packer.compress(b"\7" * 32) + packer.flush()
    data = frames_file([[good + b"\0" * (len(good) & 1)]], syntax=DEFLATED_FRAMES)
    shield = Deidentifier(Profile(regions=(Region(0, 0, 1, 8),)), project=project)
    frame = fragments(shield.bytes(data).data)[1][0]
    assert zlib.decompress(frame, -15) == bytes(8) + b"\7" * 24
    bomb = zlib.compressobj(wbits=-15)
    for broken in (content, good[:-2], bomb.compress(bytes(1 << 22)) + bomb.flush()):
        with pytest.raises(Quarantined) as held:
            shield.bytes(frames_file([[broken + b"\0" * (len(broken) & 1)]], syntax=DEFLATED_FRAMES))
        assert held.value.reason is Reason.PIXELS


def test_recompressed_jpeg_loses_its_metadata(project: Project) -> None:
    """A comment lies compressed in JPEG XL JPEG Recompression; it goes with a mask and without one."""
    imagecodecs: Any = pytest.importorskip("imagecodecs")
    picture = np.random.default_rng(1).integers(0, 255, (32, 32), np.uint8)
    jpeg = imagecodecs.jpeg8_encode(picture, level=90)
    comment = b"\xff\xfe" + (len(NAME) + 2).to_bytes(2, "big") + NAME.encode()
    frame = imagecodecs.jpegxl_encode_jpeg(jpeg[:2] + comment + jpeg[2:])
    syntax = "1.2.840.10008.1.2.4.111"
    ds = image(kind="u1", shape=(1, 32, 32))
    data = with_frames(ds, [[frame + b"\0" * (len(frame) & 1)]], syntax)
    before = imagecodecs.jpeg8_decode(jpeg)
    for regions in ((), (Region(0, 0, 8, 32),)):
        shield = Deidentifier(Profile(regions=regions), project=project)
        (after,) = fragments(shield.bytes(data).data)[1]
        rebuilt = imagecodecs.jpegxl_decode_jpeg(after)
        assert NAME.encode() not in rebuilt
        now = imagecodecs.jpeg8_decode(rebuilt)
        assert np.array_equal(now[8:], before[8:])
        assert np.array_equal(now[:8], before[:8] * (not regions))


def test_video_is_held_back(project: Project) -> None:
    """It cannot be masked without loss; without a mask the policy may vouch for it."""
    data = frames_file([[b"\0\0\0\1" * 9]], syntax=MPEG4HP41)
    with pytest.raises(Quarantined) as held:
        masked(project, data, TOP)
    assert held.value.reason is Reason.PIXELS
    assert masked(project, data, trust_pixels=True).Modality == "CT"


# What the header says


def test_the_header_tells_of_the_mask(project: Project) -> None:
    """Image Type, Burned In Annotation and the code follow from what was done (PS3.15 E.3.1, PS3.3 C.7.6.1.1.2)."""
    ds = image(shape=(2, 9, 12))
    ds.BurnedInAnnotation, ds.SmallestImagePixelValue, ds.LargestImagePixelValue = "YES", 1, 99
    data = encoded(ds)
    after = masked(project, data, TOP)
    assert after.ImageType == ["DERIVED", "PRIMARY", "AXIAL"]
    assert after.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert "SmallestImagePixelValue" not in after
    assert "LargestImagePixelValue" not in after
    some = masked(project, data, Region(0, 0, 1, 1, frames=(0, 1)))
    assert some.ImageType[0] == "DERIVED"
    assert some.BurnedInAnnotation == "YES"
    assert "113101" not in [item.CodeValue for item in some.DeidentificationMethodCodeSequence]
    none = masked(project, data, trust_pixels=True)
    assert none.ImageType[0] == "ORIGINAL"
    assert none.BurnedInAnnotation == "YES"
    assert none.SmallestImagePixelValue == 1


def bundled(name: str) -> bytes:
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    return Path(path).read_bytes()


def test_a_reversible_transform_is_named(project: Project) -> None:
    """Every frame of YBR_ICT was encoded again with the reversible transform, so it is YBR_RCT now (PS3.5 8.2.4)."""
    data = bundled("examples_jpeg2k.dcm").replace(b"YBR_RCT", b"YBR_ICT")
    assert masked(project, data, TOP).PhotometricInterpretation == "YBR_RCT"
    assert masked(project, data, trust_pixels=True).PhotometricInterpretation == "YBR_ICT"


def test_lossy_compression_is_never_forgotten(project: Project) -> None:
    """What is lossy by its transfer syntax says so after masking, whatever it said before (PS3.3 C.7.6.1.1.5)."""
    data = bundled("SC_rgb_jpeg_dcmtk.dcm")
    ds = pydicom.dcmread(BytesIO(data))
    ds.LossyImageCompression = "00"
    out = BytesIO()
    ds.save_as(out)
    assert masked(project, out.getvalue(), TOP).LossyImageCompression == "01"


def test_frame_types_are_derived_too(project: Project) -> None:
    """Enhanced objects say it of each frame (C.8.16.1)."""
    ds = image(shape=(2, 9, 12))
    kind = Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    group = Dataset()
    group.CTImageFrameTypeSequence = Sequence([kind])
    ds.PerFrameFunctionalGroupsSequence = Sequence([group, group])
    after = masked(project, encoded(ds), TOP)
    types = [one.CTImageFrameTypeSequence[0].FrameType for one in after.PerFrameFunctionalGroupsSequence]
    assert types == [["DERIVED", "PRIMARY", "VOLUME", "NONE"]] * 2


def test_nothing_repeats_what_was_masked(project: Project, tmp_path: Path) -> None:
    """Icons and overlays go at any depth, also where a policy keeps them; so do private attributes like pictures."""
    ds = image()
    icon = image(kind="u1", shape=(1, 4, 4))
    ds.IconImageSequence = Sequence([icon])
    inner = Dataset()
    inner.IconImageSequence = Sequence([icon])
    ds.AnatomicRegionSequence = Sequence([inner])
    add_overlay(ds, allocated=1, position=0)
    ds.add_new(0x60003000, "OW", b"\5" * 14)
    block = ds.private_block(0x0029, "ACME PREVIEW", create=True)
    block.add_new(1, "OB", b"\1" * 5000)
    block.add_new(2, "OB", b"\2" * 10)
    path = tmp_path / "policy.toml"
    path.write_text(
        '[[mask]]\nwhen = {}\nregions = [[0, 0, 12, 3]]\n[attributes]\nIconImageSequence = "keep"\n'
        '"6000,3000" = "keep"\n"6000,0010" = "keep"\n[private."ACME PREVIEW"]\n"0029xx*" = "keep"\n'
    )
    shield = Deidentifier(Profile.from_toml(path), project=project)
    after = pydicom.dcmread(BytesIO(shield.bytes(encoded(ds)).data))
    tags = [element.tag for element in after.iterall()]
    assert 0x00880200 not in tags
    assert not any(tag.group == 0x6000 for tag in tags)
    assert after[0x00291002].value == b"\2" * 10
    assert 0x00291001 not in after


@pytest.mark.parametrize("syntax", NATIVE[:3])
def test_objects_of_a_series_do_not_mix(project: Project, syntax: str, tmp_path: Path) -> None:
    """Masked and unmasked objects, one after the other, each get what is theirs, however much they have in common."""
    path = tmp_path / "policy.toml"
    path.write_text('[[mask]]\nwhen = { BurnedInAnnotation = "YES" }\nregions = [[0, 0, 8, 2]]\n')
    rule = Profile.from_toml(path)
    both = Deidentifier(rule, project=project)
    kinds = set()
    for number in range(1, 40):
        ds = ct(number, LossyImageCompression="00", BurnedInAnnotation="NO" if number % 5 == 0 else "YES")
        data = encoded(ds, syntax)
        result = both.bytes(data)
        assert result.data == Deidentifier(rule, project=project).bytes(data).data
        kinds.add((result.report.pixels, pydicom.dcmread(BytesIO(result.data)).ImageType[0]))
    assert kinds == {("kept", "ORIGINAL"), ("masked by mask 1, 1 of 1 frames", "DERIVED")}


def test_a_mask_beside_the_frame_is_no_mask(project: Project) -> None:
    """A rule that covers no pixel was made for other images: the object is held back."""
    with pytest.raises(Quarantined) as held:
        masked(project, encoded(ct()), Region(100, 100, 120, 120))
    assert held.value.reason is Reason.PIXELS


def test_a_suspect_image_needs_a_rule_that_matches(project: Project, tmp_path: Path) -> None:
    """Ultrasound of the device in the rule is masked and released, any other is held back as before."""
    path = tmp_path / "policy.toml"
    path.write_text(
        '[[mask]]\nname = "Acme cart"\nwhen = { Modality = "US", Manufacturer = "acme*" }\nregions = [[0, 0, 8, 2]]\n'
    )
    shield = Deidentifier(Profile.from_toml(path), project=project)
    ours, other = (ct(1, Modality="US", Manufacturer=maker) for maker in ("ACME", "EMCA"))
    result = shield.bytes(encoded(ours))
    assert result.report.pixels == "masked by Acme cart, 1 of 1 frames"
    assert not stored(pydicom.dcmread(BytesIO(result.data)))[:, :2].any()
    with pytest.raises(Quarantined) as held:
        shield.bytes(encoded(other))
    assert held.value.reason is Reason.BURNED_IN
    assert shield.bytes(encoded(ct())).report.pixels == "kept"


def test_claims_need_a_profile_that_conforms(project: Project) -> None:
    """With an override that spares something no code is claimed, and Burned In Annotation stays as it is."""
    ds = image()
    ds.BurnedInAnnotation = "YES"
    profile = Profile(regions=(TOP,), overrides={0x00181030: Action.KEEP})
    result = Deidentifier(profile, project=project).bytes(encoded(ds))
    assert result.report.claims == ()
    assert pydicom.dcmread(BytesIO(result.data)).BurnedInAnnotation == "YES"


# Writing


def test_running_again_changes_nothing(project: Project, tmp_path: Path) -> None:
    """A masked object that is there is recognised, native or encapsulated; another content is not overwritten."""
    for number, data in enumerate((encoded(image(shape=(40, 90, 120))), frames_file(plain(5)))):
        path, out = tmp_path / f"in{number}", tmp_path / f"out{number}"
        path.write_bytes(data)
        shield = Deidentifier(Profile(regions=(TOP,)), project=project)
        first = shield.file(path, out)
        assert (first.outcome, shield.file(path, out).outcome) == ("released", "unchanged")
        written = (out / first.name).read_bytes()
        (out / first.name).write_bytes(written[: len(written) // 2])
        assert shield.file(path, out).outcome == "released"
        assert (out / first.name).read_bytes() == written
        (out / first.name).write_bytes(written[:-20] + b"\1" + written[-19:])
        with pytest.raises(Quarantined) as held:
            shield.file(path, out)
        assert held.value.reason is Reason.COLLISION


def test_a_frame_that_fails_leaves_nothing(project: Project, tmp_path: Path) -> None:
    """The tenth frame is broken: nine good ones are not left behind under any name."""
    path = tmp_path / "cine"
    path.write_bytes(frames_file([*plain(9), [bytes(30)]]))
    shield = Deidentifier(Profile(regions=(TOP,)), project=project)
    with pytest.raises(Quarantined) as held:
        shield.file(path, tmp_path / "out")
    assert held.value.reason is Reason.PIXELS
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


LARGE = """
import resource, sys
from dicomshield import Deidentifier, Profile, Region
shield = Deidentifier(Profile(regions=(Region(0, 0, 40, 1 << 20), Region(500, 3, 560, 90))), project=sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
shield.file(sys.argv[1], sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize("mebibytes", [64, 512])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, mebibytes: int) -> None:
    """A file of any size is masked within 64 MiB above the interpreter with this package."""
    rows, columns = 600, 800
    frames = mebibytes * (1 << 20) // (rows * columns)
    ds = image(kind="u1", shape=(1, rows, columns))
    ds.NumberOfFrames = frames
    ds.PixelData = b"\1\2"
    data = encoded(ds)
    path = tmp_path / "large"
    size = frames * rows * columns
    with path.open("wb") as file:
        file.write(data[:-6] + size.to_bytes(4, "little"))
        # a hole: no disk is needed
        file.truncate(len(data) - 2 + size)
    done = subprocess.run(
        [sys.executable, "-c", LARGE, path, tmp_path / "out", tmp_path / "project"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 64


# Pixels only


def test_masker_changes_pixels_only(tmp_path: Path) -> None:
    """Every element stays as it was but the pixels, and what describes or repeats them."""
    ds = image(shape=(2, 9, 12))
    ds.SmallestImagePixelValue = 1
    path = tmp_path / "in"
    path.write_bytes(encoded(ds))
    with Source.open(path) as source, Storage(tmp_path) as storage:
        Masker([PART]).prepare(source, "out").write(storage)
    before, after = pydicom.dcmread(path), pydicom.dcmread(tmp_path / "out")
    check(before, after, covered(ds, PART), (0,))
    assert after.ImageType[0] == "DERIVED"
    changed = {"PixelData", "ImageType", "SmallestImagePixelValue"}
    assert {e.keyword: e.value for e in before if e.keyword not in changed} == {
        e.keyword: e.value for e in after if e.keyword not in changed
    }


def test_masker_holds_back_what_has_no_pixels() -> None:
    """Nothing is copied as if it were masked."""
    ds = ct()
    del ds.PixelData
    with pytest.raises(Quarantined) as held:
        Masker([PART]).prepare(Source.of(encoded(ds)), "out")
    assert held.value.reason is Reason.INCOMPLETE


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "dicomshield", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_mask_verb(tmp_path: Path) -> None:
    """Files and folders are masked under their names; what cannot be is counted, and nothing is overwritten."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.dcm").write_bytes(encoded(image()))
    (tmp_path / "in" / "b").write_text("no object")
    done = cli("mask", tmp_path / "in", tmp_path / "out", "--region", "2,5,3,2")
    assert done.returncode == 3
    assert "1 masked, 1 held back" in done.stdout
    after = pydicom.dcmread(tmp_path / "out" / "deep" / "a.dcm")
    check(ds_of(image()), after, covered(after, PART), (0,))
    assert os.stat(tmp_path / "out" / "deep" / "a.dcm").st_mode & 0o777 == 0o600
    one = tmp_path / "in" / "deep" / "a.dcm"
    assert cli("mask", one, tmp_path / "one.dcm", "--region", "2,5,3,2").returncode == 0
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "out" / "deep" / "a.dcm").read_bytes()
    assert cli("mask", one, tmp_path / "one.dcm", "--region", "0,0,1,1").returncode == 3
    assert cli("mask", one, tmp_path, "--region", "0,0,1,1").returncode == 2
    assert cli("mask", one, tmp_path / "x", "--region", "0,0,1").returncode == 2
    assert cli("mask", one, tmp_path / "x").returncode == 2


def test_mask_option_of_the_main_job(tmp_path: Path) -> None:
    """--mask blacks out in every image, and lets suspect ones pass."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(encoded(ct(1, Modality="US")))
    args = ("deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "p", "--workers", 1)
    assert cli(*args).returncode == 3
    done = cli(*args, "--mask", "0,0,8,3", "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "out").rglob("*.dcm")
    assert not stored(pydicom.dcmread(path))[:, :3].any()
    assert '"pixels": "masked by regions for every image, 1 of 1 frames"' in (tmp_path / "report").read_text()
    plan = cli("plan", tmp_path / "in" / "a", "--mask", "0,0,8,3")
    assert "masked by regions for every image" in plan.stdout
    assert "marked derived" in plan.stdout


def test_preview(tmp_path: Path) -> None:
    """Outlines or masked frames, in a file that only its owner can read and that replaces none."""
    from PIL import Image

    path, png = tmp_path / "in", tmp_path / "out.png"
    path.write_bytes(encoded(image("RGB", "u1", (12, 30, 40))))
    assert cli("preview", path, "--png", png, "--mask", "10,10,8,5").returncode == 0
    assert png.stat().st_mode & 0o777 == 0o600
    picture = np.asarray(Image.open(png))
    assert picture.shape == (3 * 34 - 4, 3 * 44 - 4, 3)
    outline = (picture == (255, 64, 0)).all(axis=2)
    expected = np.zeros((30, 40), bool)
    expected[10:15, 10:18] = True
    expected[11:14, 11:17] = False
    assert np.array_equal(outline[:30, :40], expected)
    assert cli("preview", path, "--png", png).returncode == 2
    done = cli("preview", path, "--png", tmp_path / "m.png", "--mask", "10,10,8,5", "--masked", "--frame", "3")
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "m.png"))
    original = stored(ds_of(image("RGB", "u1", (12, 30, 40))))[2].copy()
    original[10:15, 10:18] = 0
    assert np.array_equal(picture, original)
    assert cli("preview", path, "--png", tmp_path / "n.png", "--frame", "13").returncode == 2

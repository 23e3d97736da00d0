"""Frames that are decoded, masked and encoded without loss (PS3.5 8.2); other decoders read what was written."""

from __future__ import annotations

import csv
import json
import random
import re
import resource
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from factories import shared, some_boxes
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.utils import get_j2k_parameters, pixel_array

from dicomshield.errors import Quarantined, Reason
from dicomshield.pixels import codecs, jpeg
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.metadata import without_metadata
from dicomshield.pixels.region import Box, Boxes

UID = "1.2.840.10008.1.2.4."
LOSSLESS = {UID + last for last in "57 70 80 90 201 202".split()}
BUNDLED = (
    "SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_08.dcm", "JPEGLSNearLossless_16.dcm",
    "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "GDCMJ2K_TextGBR.dcm", "J2K_pixelrep_mismatch.dcm",
    "MR_small_jp2klossless.dcm", "examples_jpeg2k.dcm", "693_J2KI.dcm", "JPEG2000.dcm", "SC_rgb_gdcm_KY.dcm",
)  # fmt: skip


def bundled(name: str) -> Path:
    return Path(pydicom.data.__file__).parent / "test_files" / name


def layout_of(precision: int, samples: int = 1, rows: int = 24, columns: int = 20, **changes: object) -> Layout:
    """Return the layout of an unsigned image that uses all bits of its codestream; ``changes`` are attributes."""
    form = Layout(
        rows=rows, columns=columns, frames=1, samples=samples, allocated=8 if precision <= 8 else 16,
        stored=precision, signed=False, planar=False, photometric="RGB" if samples == 3 else "MONOCHROME2",
        black=(0,) * samples,
    )  # fmt: skip
    return form._replace(**changes)  # type: ignore[arg-type]


def read_layout(ds: pydicom.Dataset) -> Layout:
    numbers = {
        0x00280002: ds.SamplesPerPixel, 0x00280010: ds.Rows, 0x00280011: ds.Columns, 0x00280100: ds.BitsAllocated,
        0x00280101: ds.BitsStored, 0x00280102: ds.HighBit, 0x00280103: ds.PixelRepresentation,
    }  # fmt: skip
    header = {tag: int(number).to_bytes(2, "little") for tag, number in numbers.items()}
    texts = {0x00280004: ds.PhotometricInterpretation, 0x00280008: str(ds.get("NumberOfFrames", 1))}
    return Layout.of(header | {tag: text.encode() for tag, text in texts.items()})


def painted(image: NDArray[Any], boxes: Boxes, black: tuple[int, ...]) -> NDArray[Any]:
    image = image.copy()
    for top, bottom, left, right in boxes:
        image[top:bottom, left:right] = black if image.ndim == 3 else black[0]
    return image


def image_of(precision: int, samples: int = 1, rows: int = 24, columns: int = 20, *, signed: bool = False) -> Any:
    """Return a smooth image with noise that reaches both ends of the range."""
    chance = np.random.default_rng(precision)
    y, x = np.mgrid[:rows, :columns]
    top = (1 << precision) - 1
    wave = (np.sin(x / 5) * np.cos(y / 4) + 1) / 2 * top
    image = np.clip(wave + chance.normal(0, top / 16, wave.shape), 0, top).astype(np.int64)
    image.flat[:2] = (0, top)[: image.size]
    if samples == 3:
        image = np.stack([image, image[::-1], image[:, ::-1]], -1)
    width = 8 if precision <= 8 else 16
    return (image - (signed << precision - 1)).astype(f"{'i' if signed else 'u'}{width // 8}")


# encoders, each with the options that files in the wild differ by


def jpeg_lossless(image: Any, precision: int, predictor: int = 1) -> bytes:
    space = "RGB" if image.ndim == 3 else None
    return bytes(
        imagecodecs.jpeg8_encode(
            image, lossless=True, predictor=predictor, bitspersample=precision, colorspace=space, outcolorspace=space
        )
    )


def jpeg_ls(image: Any, precision: int, interleave: int = 0, near: int = 0) -> bytes:
    import jpeg_ls as charls

    samples = 3 if image.ndim == 3 else 1
    planes = np.moveaxis(image, -1, 0) if samples == 3 and not interleave else image
    rows, columns = image.shape[:2]
    return bytes(
        charls.encode_buffer(
            planes.tobytes(), rows, columns, samples, precision, interleave_mode=interleave, lossy_error=near
        )
    )


def jpeg_2000(image: Any, precision: int, **options: Any) -> bytes:
    options = {"level": 0, "reversible": True, "codecformat": "J2K", "mct": False, **options}
    return bytes(imagecodecs.jpeg2k_encode(image, bitspersample=precision, **options))


def htj2k(image: Any, precision: int, **options: Any) -> bytes:
    """Encode by OpenJPH, which knows 8 and 16 bits only."""
    assert precision == 8 * image.itemsize
    return bytes(imagecodecs.htj2k_encode(image, **{"reversible": True, "rgb": False, "planar": False, **options}))


def jpeg_xl(image: Any, precision: int, **options: Any) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(image, bitspersample=precision, **{"lossless": True, **options}))


def jpeg_baseline(image: Any, **options: Any) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(image, **{"level": 90, "subsampling": "444", **options}))


# decoders that are not those of the package


def coded_as(frame: bytes, syntax: str) -> tuple[int, bool]:
    """Return precision and signedness of a codestream."""
    if syntax.startswith((UID + "9", UID + "20")):
        found = get_j2k_parameters(frame[frame.index(b"\xff\x4f\xff\x51") :])
        return found["precision"], found["is_signed"]
    return frame[frame.index(b"\xff\xf7" if syntax.startswith(UID + "8") else b"\xff\xc3") + 4], False


def scan_of(frame: bytes) -> tuple[int, ...]:
    """Return the parameters of the first scan behind its components (T.81 B.2.3, T.87 C.2.3)."""
    at = frame.index(b"\xff\xda") + 4
    return tuple(frame[at + 1 + 2 * frame[at] :][:3])


def colours_of(frame: bytes) -> int:
    """Return the number of components of JPEG Lossless and JPEG-LS."""
    return frame[min(at for at in map(frame.find, (b"\xff\xc3", b"\xff\xf7")) if at > 0) + 9]


DEMUXERS = {"mjpeg": "mjpeg", "jpegls": "jpegls_pipe", "jpeg2000": "j2k_pipe"}


def by_ffmpeg(frame: bytes, syntax: str) -> Iterator[NDArray[Any]]:
    """Decode by the decoders that FFmpeg has of its own, to numbers from 0 on, as far as they go."""
    name = {"5": "mjpeg", "7": "mjpeg", "8": "jpegls", "9": "jpeg2000"}.get(syntax[len(UID)])
    precision, _ = coded_as(frame, syntax)
    if (
        # its HTJ2K refuses blocks that three others read
        not name
        # it takes the difference of 32768 for another (T.81 H.1.2.2), and colours of 9 bits for transformed ones
        or (name == "mjpeg" and precision in (9, 16))
        # of colours it reads those of 8 bits, by plane or line
        or (name == "jpegls" and colours_of(frame) == 3 and (scan_of(frame)[1] == 2 or precision != 8))
    ):
        return
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    command = ["ffmpeg", "-hide_banner", "-nostdin", "-f", DEMUXERS[name], "-i", "-", "-f", "rawvideo", "-"]
    done = subprocess.run(command, input=frame, capture_output=True, check=True)
    found = re.findall(rb"rawvideo \(.*?\), (gray|rgb|bgr)(\w*)\(?.*?, (\d+)x(\d+)", done.stderr)
    assert len(found) == 1, done.stderr
    colours, form, columns, rows = found[0]
    size = 2 if form.endswith(b"le") else 1
    image = (
        np.frombuffer(done.stdout, f"<u{size}")
        .reshape(int(rows), int(columns), -1)
        .squeeze(2 if colours == b"gray" else ())
    )
    yield image[..., ::-1] if colours == b"bgr" else image >> 8 * size - precision


def by_others(frame: bytes, syntax: str) -> Iterator[NDArray[Any]]:
    """Decode by each decoder that is independent of the one in the package, to numbers from 0 on."""
    yield from by_ffmpeg(frame, syntax)
    if syntax in (UID + "57", UID + "70") and (colours_of(frame) == 1 or coded_as(frame, syntax)[0] == 8):
        yield imagecodecs.jpegsof3_decode(frame)
    if syntax.startswith(UID + "20"):
        image = imagecodecs.htj2k_decode(frame, planar=False)
        precision, signed = coded_as(frame, syntax)
        yield image.astype(np.int64) + (signed << precision - 1)


def from_zero(image: NDArray[Any], precision: int, signed: bool) -> NDArray[Any]:
    """Return what a codestream holds of an image, as numbers from 0 on."""
    return np.asarray((image.astype(np.int64) & (1 << precision) - 1) ^ (signed << precision - 1))


def by_tool(tool: list[str], ds: pydicom.Dataset, frames: list[bytes], folder: Path) -> NDArray[Any]:
    """Decode an object whose frames are replaced."""
    if not shutil.which(tool[0]):
        pytest.skip(f"{tool[0]} is not installed")
    ds.PixelData = encapsulate(frames)
    ds.save_as(folder / "coded.dcm")
    subprocess.run([*tool, "coded.dcm", "plain.dcm"], cwd=folder, check=True, capture_output=True)
    return pixel_array(folder / "plain.dcm", raw=True)


def check(frame: bytes, layout: Layout, syntax: str) -> bytes:
    """Mask a frame; every decoder finds the boxes black and all else as it was."""
    boxes = some_boxes(layout)
    masked = codecs.mask_frame(frame, boxes, layout, syntax)
    before, after = (codecs.decode(one, syntax, layout) for one in (frame, masked))
    assert np.array_equal(after, painted(before, boxes, layout.black))
    assert coded_as(frame, syntax) == coded_as(masked, syntax)
    assert without_metadata(masked, syntax) is masked
    expected = from_zero(after, *coded_as(masked, syntax))
    black = tuple(int(one) for one in expected[boxes[0].top, boxes[0].left].reshape(-1))
    for image in by_others(masked, syntax):
        assert np.array_equal(image, expected)
    if syntax in LOSSLESS:
        # what was lost before is lost by each decoder in its own way
        for one, other in zip(by_others(frame, syntax), by_others(masked, syntax), strict=True):
            assert np.array_equal(painted(one, boxes, black), other)
    return masked


def check_file(path: Path) -> int:
    ds = pydicom.dcmread(path)
    layout, syntax = read_layout(ds), ds.file_meta.TransferSyntaxUID
    frames = list(generate_frames(ds.PixelData, number_of_frames=layout.frames))
    for frame in frames:
        check(frame, layout, syntax)
    return len(frames)


@pytest.mark.parametrize("name", BUNDLED)
def test_real_frames(name: str) -> None:
    """Only the mask changes, for every decoder (PS3.5 8.2.1, 8.2.3, 8.2.4)."""
    assert check_file(bundled(name))


def test_real_frames_of_the_corpora() -> None:
    """The same for all frames of these kinds in the wild; two files are not what they say."""
    folder = shared() / "corpora"
    held, seen = [], 0
    with (folder / "MANIFEST.csv").open(encoding="utf-8") as file:
        kinds = ("JPEG Lossless", "JPEG-LS", "JPEG 2000", "High-Throughput")
        names = [row["file"] for row in csv.DictReader(file) if row["transfer_syntax"].startswith(kinds)]
    for name in names:
        if name.startswith("pypi-pydicom-bundled") or "PixelData" not in pydicom.dcmread(folder / name):
            continue
        try:
            seen += check_file(folder / name)
        except Quarantined:
            held.append(Path(name).name)
    # JPEG Baseline that calls itself JPEG Lossless
    assert held == ["sample-op.dcm"]
    assert seen > 80


TOOLS: dict[str, list[list[str]]] = {
    "5": [["dcmdjpeg"], ["gdcmconv", "--raw"]],
    "7": [["dcmdjpeg"], ["gdcmconv", "--raw"]],
    "8": [["dcmdjpls"], ["gdcmconv", "--raw"]],
    "9": [["gdcmconv", "--raw"]],
}


@pytest.mark.parametrize("name", BUNDLED)
def test_other_readers(name: str, tmp_path: Path) -> None:
    """DCMTK and GDCM read the object, and see what the package sees (PS3.5 A.4)."""
    ds = pydicom.dcmread(bundled(name))
    layout, syntax = read_layout(ds), ds.file_meta.TransferSyntaxUID
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    masked = codecs.mask_frame(frame, some_boxes(layout), layout, syntax)
    seen = codecs.decode(masked, syntax, layout)
    for tool in TOOLS[syntax[len(UID)]]:
        assert np.array_equal(by_tool(tool, ds, [masked], tmp_path), seen)


# every form of every codec

JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K, JPEG_XL = (UID + last for last in ("70", "80", "90", "201", "110"))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_every_form(data: st.DataObject) -> None:
    """Precision, sign, component transform and interleaving stay, whatever they and the size are (PS3.5 8.2)."""
    syntax = data.draw(st.sampled_from([JPEG_LOSSLESS, JPEG_LS, JPEG_2000, HTJ2K, JPEG_XL]))
    samples = data.draw(st.sampled_from([1, 3]))
    rows, columns = data.draw(st.tuples(st.integers(10, 80), st.integers(10, 80)))
    least = {JPEG_LOSSLESS: 2, JPEG_LS: 2}.get(syntax, 1)
    precision = data.draw(st.sampled_from([8, 16]) if syntax == HTJ2K else st.integers(least, 16))
    signed = syntax in (JPEG_2000, HTJ2K) and data.draw(st.booleans())
    image = image_of(precision, samples, rows, columns, signed=signed)
    layout = layout_of(
        precision, samples, rows, columns, signed=signed,
        black=((-signed << precision - 1),) if samples == 1 else (0, 0, 0),
    )  # fmt: skip
    transform = samples == 3 and data.draw(st.booleans())
    interleave = data.draw(st.integers(0, 2)) if samples == 3 else 0
    frame = {
        JPEG_LOSSLESS: lambda: jpeg_lossless(image, precision, data.draw(st.integers(1, 7))),
        JPEG_LS: lambda: jpeg_ls(image, precision, interleave),
        JPEG_2000: lambda: jpeg_2000(image, precision, mct=transform),
        HTJ2K: lambda: htj2k(image, precision, rgb=transform),
        JPEG_XL: lambda: jpeg_xl(image, precision),
    }[syntax]()
    assert np.array_equal(codecs.decode(frame, syntax, layout), image)
    if syntax == JPEG_XL:
        boxes = some_boxes(layout)
        masked = codecs.mask_frame(frame, boxes, layout, syntax)
        assert np.array_equal(imagecodecs.jpegxl_decode(masked), painted(image, boxes, layout.black))
        return
    masked = check(frame, layout, syntax)
    if syntax == JPEG_LS:
        assert scan_of(masked)[:2] == (0, interleave)
    if syntax in (JPEG_2000, HTJ2K):
        assert coding_style(masked)[4] == transform


def coding_style(code: bytes) -> bytes:
    """Return the COD segment behind its length (T.800 A.6.1)."""
    return code[code.index(b"\xff\x52") + 4 :]


@pytest.mark.parametrize("precision", [1, 4, 7, 8, 10, 12, 13, 15, 16])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_htj2k_of_any_precision(precision: int, samples: int, signed: bool) -> None:
    """HTJ2K keeps precisions that its encoder does not know; three decoders agree (T.814, PS3.5 8.2.12)."""
    image = image_of(precision, samples, 70, 90, signed=signed)
    layout = layout_of(precision, samples, 70, 90, signed=signed)._replace(
        black=(-signed << precision - 1,) if samples == 1 else (0, 0, 0)
    )
    # what is under test makes its own input from JPEG 2000, which is another codestream of the same precision
    plain = jpeg_2000(image, precision, mct=samples == 3)
    frame = codecs._encode_htj2k(image, codecs._read_jpeg_2000(plain))
    assert coded_as(frame, HTJ2K) == (precision, signed)
    assert np.array_equal(codecs.decode(frame, HTJ2K, layout), image)
    check(frame, layout, HTJ2K)


@pytest.mark.parametrize(("rows", "columns", "levels"), [(24, 20, 5), (64, 4096, 6), (2100, 33, 6), (5, 8193, 8)])
def test_rpcl_options(rows: int, columns: int, levels: int) -> None:
    """Resolution comes first, down to 64 pixels, and TLM tells where each one lies (PS3.5 10.18)."""
    image = image_of(8, 1, rows, columns)
    masked = codecs.mask_frame(
        htj2k(image, 8, tlm=True, tilepart=1), (Box(0, 2, 0, 9),), layout_of(8, 1, rows, columns), UID + "202"
    )
    style = coding_style(masked)
    assert (style[1], style[5]) == (2, levels)
    assert max(rows, columns) <= 64 << levels
    assert b"\xff\x55" in masked[: masked.index(b"\xff\x93")]
    assert masked.count(b"\xff\x90\x00\x0a") == levels + 1


@pytest.mark.parametrize("last", ["57", "70"])
def test_predictor(last: str) -> None:
    """JPEG Lossless is written by predictor 1, without a point transform (PS3.5 10.2, A.4.1)."""
    layout = layout_of(12)
    masked = codecs.mask_frame(jpeg_lossless(image_of(12), 12, predictor=6), some_boxes(layout), layout, UID + last)
    assert scan_of(masked) == (1, 0, 0)


def test_what_was_lost_stays_lost() -> None:
    """Lossy frames are decoded once and kept as they are then, in the lossless way of the same syntax (PS3.5 8.2)."""
    for samples in (1, 3):
        image, layout = image_of(8, samples), layout_of(8, samples)
        near = jpeg_ls(image, 8, interleave=samples - 1, near=3)
        masked = check(near, layout, UID + "81")
        assert (scan_of(near)[0], scan_of(masked)[0]) == (3, 0)
        for syntax, frame in (
            (UID + "91", jpeg_2000(image, 8, level=30, reversible=False, mct=samples == 3)),
            (UID + "203", htj2k(image, 8, reversible=False, level=0.05, rgb=samples == 3)),
        ):
            masked = check(frame, layout, syntax)
            assert (coding_style(frame)[9], coding_style(masked)[9]) == (0, 1)
            assert not np.array_equal(codecs.decode(frame, syntax, layout), image)
        lossy, syntax = jpeg_xl(image, 8, lossless=False, distance=2.0), UID + "112"
        masked = codecs.mask_frame(lossy, (Box(0, 4, 0, 4),), layout, syntax)
        seen = codecs.decode(lossy, syntax, layout)
        assert np.array_equal(codecs.decode(masked, syntax, layout), painted(seen, (Box(0, 4, 0, 4),), layout.black))
        assert not np.array_equal(seen, image)


def test_tiles() -> None:
    """A tiled JPEG 2000 frame is masked as any other (T.800 A.5.1)."""
    image, layout = image_of(12, 1, 100, 90), layout_of(12, 1, 100, 90)
    frame = bytes(imagecodecs.htj2k_encode(image, reversible=True, tile=(32, 32)))
    assert frame.count(b"\xff\x90\x00\x0a") == 12
    masked = check(frame, layout._replace(stored=16), HTJ2K)
    assert masked.count(b"\xff\x90\x00\x0a") == 6


# black


@pytest.mark.parametrize(
    ("photometric", "signed", "stored", "precision", "coded_signed", "black", "value", "shown"),
    [
        ("MONOCHROME2", False, 12, 12, False, 0, 0, 0),
        ("MONOCHROME1", False, 12, 12, False, 4095, 4095, 4095),
        ("MONOCHROME2", True, 12, 12, True, -2048, -2048, -2048),
        ("MONOCHROME1", True, 12, 12, True, 2047, 2047, 2047),
        # more bits in the codestream than are stored
        ("MONOCHROME1", False, 12, 16, False, 4095, 4095, 4095),
        ("MONOCHROME2", True, 12, 16, True, -2048, -2048, -2048),
        # fewer: the darkest that there is
        ("MONOCHROME1", False, 16, 12, False, 65535, 4095, 4095),
        ("MONOCHROME2", True, 16, 12, True, -32768, -2048, -2048),
        ("MONOCHROME1", True, 16, 12, True, 32767, 2047, 2047),
        # the sign is a bit like any other for the codestream, or the other way round
        ("MONOCHROME2", True, 13, 13, False, -4096, 4096, -4096),
        ("MONOCHROME1", True, 13, 13, False, 4095, 4095, 4095),
        ("MONOCHROME2", True, 16, 13, False, -32768, 4096, -4096),
        ("MONOCHROME1", True, 16, 13, False, 32767, 4095, 4095),
        ("MONOCHROME2", False, 12, 12, True, 0, 0, 0),
        ("MONOCHROME1", False, 12, 12, True, 4095, -1, 4095),
        ("MONOCHROME1", False, 16, 12, True, 65535, -1, 4095),
        ("PALETTE COLOR", False, 8, 8, False, 77, 77, 77),
    ],
)  # fmt: skip
def test_black_in_the_values_of_the_codestream(
    photometric: str, signed: bool, stored: int, precision: int, coded_signed: bool, black: int, value: int, shown: int
) -> None:
    """Black is what is shown darkest of the values that the codestream has (PS3.3 C.7.6.3.1.2)."""
    image = image_of(precision, signed=coded_signed)
    layout = layout_of(stored, signed=signed, photometric=photometric, black=(black,))
    boxes = (Box(5, 9, 3, 12),)
    masked = codecs.mask_frame(jpeg_2000(image, precision), boxes, layout, JPEG_2000)
    assert np.array_equal(imagecodecs.jpeg2k_decode(masked), painted(image, boxes, (value,)))
    seen = codecs.decode(masked, JPEG_2000, layout)
    assert (seen[5:9, 3:12] == shown).all()
    assert seen.dtype == np.dtype(f"{'i' if signed else 'u'}{1 if stored <= 8 else 2}")
    if photometric != "PALETTE COLOR" and precision <= stored:
        assert shown == (seen.max() if photometric == "MONOCHROME1" else seen.min())


@pytest.mark.parametrize(
    ("syntax", "stored", "precision", "value", "shown"),
    [
        (JPEG_LOSSLESS, 12, 12, 2048, -2048), (JPEG_LS, 12, 12, 2048, -2048), (JPEG_XL, 12, 12, 2048, -2048),
        (JPEG_LOSSLESS, 12, 16, 0xF800, -2048), (JPEG_LS, 12, 16, 0xF800, -2048), (JPEG_XL, 12, 16, 0xF800, -2048),
        # PS3.5 8.2.1: the sign is at Bits Stored, so that there is none; readers of JPEG-LS look at the precision
        (JPEG_LOSSLESS, 16, 12, 0, 0), (JPEG_LS, 16, 12, 2048, -2048),
    ],
)  # fmt: skip
def test_black_where_no_codestream_has_a_sign(syntax: str, stored: int, precision: int, value: int, shown: int) -> None:
    """JPEG, JPEG-LS and JPEG XL code the bits of a signed number (PS3.5 8.2.1, 8.2.3)."""
    image = image_of(precision)
    encoders: dict[str, Callable[..., bytes]] = {JPEG_LOSSLESS: jpeg_lossless, JPEG_LS: jpeg_ls, JPEG_XL: jpeg_xl}
    layout = layout_of(stored, signed=True, black=(-1 << stored - 1,), allocated=16)
    boxes = (Box(5, 9, 3, 12),)
    masked = codecs.mask_frame(encoders[syntax](image, precision), boxes, layout, syntax)
    bits = codecs.decode(masked, syntax, layout_of(precision, allocated=16))
    assert np.array_equal(bits, painted(image, boxes, (value,)))
    assert (codecs.decode(masked, syntax, layout)[5:9, 3:12] == shown).all()


def test_black_of_colours() -> None:
    """RGB is black where a component transform is undone, YBR where there is none (PS3.3 C.7.6.3.1.2)."""
    image, boxes = image_of(8, 3), (Box(5, 9, 3, 12),)
    for photometric, black in (("YBR_RCT", (0, 0, 0)), ("RGB", (0, 0, 0)), ("YBR_FULL", (0, 128, 128))):
        for transform in (False, True):
            layout = layout_of(8, 3, photometric=photometric, black=black)
            masked = codecs.mask_frame(jpeg_2000(image, 8, mct=transform), boxes, layout, JPEG_2000)
            assert np.array_equal(imagecodecs.jpeg2k_decode(masked), painted(image, boxes, black))


def test_black_that_the_codestream_cannot_hold() -> None:
    """Where the darkest colour is not among its values, a frame is held back."""
    layout = layout_of(8, photometric="PALETTE COLOR", black=(200,))
    with pytest.raises(Quarantined, match="too few bits for black"):
        codecs.mask_frame(jpeg_2000(image_of(7), 7), (Box(0, 1, 0, 1),), layout, JPEG_2000)


# boxes around a codestream


def jp2_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def in_jp2(code: bytes, *header: bytes) -> bytes:
    """Put a codestream into a JP2 file with ``header`` boxes besides the image header (T.800 annex I)."""
    signature = jp2_box(b"jP  ", b"\r\n\x87\n") + jp2_box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    image = jp2_box(b"ihdr", struct.pack(">IIHBBBB", 24, 20, 1, 7, 7, 0, 0))
    return signature + jp2_box(b"jp2h", image + b"".join(header)) + jp2_box(b"jp2c", code)


GREY, SYCC = (jp2_box(b"colr", struct.pack(">BBBI", 1, 0, 0, space)) for space in (17, 18))


def test_boxes_around_jpeg_2000_go() -> None:
    """A bare codestream is written, as the standard asks for (PS3.5 A.4.4)."""
    image, layout = image_of(8), layout_of(8)
    code = jpeg_2000(image, 8)
    wide = in_jp2(code, GREY)[: -len(code) - 8] + struct.pack(">I4sQ", 1, b"jp2c", 16 + len(code)) + code
    for frame in (in_jp2(code, GREY), in_jp2(code), wide, bytes(jpeg_2000(image, 8, codecformat="JP2"))):
        assert frame.startswith(b"\0\0\0\x0cjP")
        masked = check(frame, layout, JPEG_2000)
        assert masked.startswith(b"\xff\x4f\xff\x51")
        assert np.array_equal(codecs.decode(frame, JPEG_2000, layout), image)


@pytest.mark.parametrize("header", [SYCC, jp2_box(b"pclr", bytes(9)), jp2_box(b"cmap", b""), jp2_box(b"cdef", b"")])
def test_boxes_that_change_samples(header: bytes) -> None:
    """What a palette, a mapping or sYCC makes of the samples differs from reader to reader."""
    with pytest.raises(Quarantined, match="changes what the samples") as refused:
        codecs.mask_frame(in_jp2(jpeg_2000(image_of(8), 8), header), (Box(0, 1, 0, 1),), layout_of(8), JPEG_2000)
    assert refused.value.reason is Reason.PIXELS


# JPEG, and JPEG inside JPEG XL


@pytest.mark.parametrize("sampling", ["444", "422", "420"])
def test_jpeg_for_a_look_at_it(sampling: str) -> None:
    """Colours come as they are coded: YBR stays YBR, whatever the markers say (PS3.5 8.2.1)."""
    image = image_of(8, 3)
    frame = jpeg_baseline(image, subsampling=sampling)
    layout = layout_of(8, 3, photometric="YBR_FULL_422")
    seen = codecs.decode(frame, UID + "50", layout)
    assert np.array_equal(seen, imagecodecs.jpeg8_decode(frame, colorspace="YCBCR", outcolorspace="YCBCR"))
    assert not np.array_equal(seen, imagecodecs.jpeg8_decode(frame))
    plain = jpeg_baseline(image, colorspace="RGB", outcolorspace="RGB")
    assert abs(codecs.decode(plain, UID + "50", layout).astype(int) - image).mean() < 8


def test_jpeg_extended_for_a_look_at_it() -> None:
    """12 bits are read too (PS3.5 A.4.1)."""
    ds = pydicom.dcmread(bundled("JPEG-lossy.dcm"))
    (frame,) = generate_frames(ds.PixelData, number_of_frames=1)
    seen = codecs.decode(frame, UID + "51", read_layout(ds))
    assert (seen.dtype.str, seen.shape, int(seen.max())) == ("<u2", (1024, 256), 264)
    image = image_of(12)
    coded = bytes(imagecodecs.jpeg8_encode(image, level=99, bitspersample=12))
    assert abs(codecs.decode(coded, UID + "51", layout_of(12)).astype(int) - image).max() < 64


def test_jpeg_is_not_masked_here() -> None:
    """Its masking needs no decoder (PS3.5 A.4.1)."""
    with pytest.raises(Quarantined, match="not masked by decoding"):
        codecs.mask_frame(jpeg_baseline(image_of(8)), (Box(0, 1, 0, 1),), layout_of(8), UID + "50")


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("last", ["110", "111", "112"])
def test_jpeg_inside_jpeg_xl(samples: int, last: str) -> None:
    """The JPEG image is taken out, masked as such, and put in again (PS3.5 8.2.15)."""
    image = image_of(8, samples, 50, 70)
    layout = layout_of(8, samples, 50, 70, photometric="YBR_FULL" if samples == 3 else "MONOCHROME2")
    layout = layout._replace(black=(0, 128, 128)[:samples])
    baseline, boxes = jpeg_baseline(image), (Box(8, 30, 16, 40),)
    frame = bytes(imagecodecs.jpegxl_encode_jpeg(baseline, usecontainer=True))
    masked = codecs.mask_frame(frame, boxes, layout, UID + last)
    assert imagecodecs.jpegxl_decode_jpeg(masked, numthreads=1) == jpeg.mask_frame(baseline, boxes, layout)
    seen = codecs.decode(masked, UID + last, layout)
    assert (seen[8:30, 16:40] == (layout.black if samples == 3 else 0)).all()
    assert np.array_equal(seen, codecs.decode(jpeg.mask_frame(baseline, boxes, layout), UID + "50", layout))


def test_jpeg_recompression_without_a_jpeg() -> None:
    """What no JPEG image can be made of is not JPEG XL JPEG Recompression (PS3.5 10.20)."""
    for act in (codecs.decode, lambda *these: codecs.mask_frame(these[0], (Box(0, 1, 0, 1),), these[2], these[1])):
        with pytest.raises(Quarantined, match="from which no JPEG"):
            act(jpeg_xl(image_of(8), 8), UID + "111", layout_of(8))


def test_jpeg_xl_with_a_flood_of_segments() -> None:
    """Segments that take no space in JPEG XL, and all memory outside of it, are not unpacked (ISO/IEC 18181-2)."""
    text = b"\xff\xfe" + (60002).to_bytes(2, "big") + bytes(60000)
    baseline = jpeg_baseline(image_of(8))
    for number, fits in ((200, True), (260, False)):
        frame = bytes(
            imagecodecs.jpegxl_encode_jpeg(baseline[:2] + number * text + baseline[2:], usecontainer=True, out=1 << 20)
        )
        assert len(frame) < 2000
        if fits:
            assert len(codecs.mask_frame(frame, (Box(0, 1, 0, 1),), layout_of(8), UID + "111")) < 2000
            continue
        with pytest.raises(Quarantined, match="too many marker segments"):
            codecs.mask_frame(frame, (Box(0, 1, 0, 1),), layout_of(8), UID + "111")


@pytest.mark.parametrize("rows", [1, 6, 8, 40, 248, 256, 257, 300, 520, 9000])
@pytest.mark.parametrize("columns", [1, 8, 48, 200, 250, 256, 304, 3000])
def test_size_of_jpeg_xl(rows: int, columns: int) -> None:
    """The size is read in each way it is coded: by eights, as a ratio, in four lengths (ISO/IEC 18181-1 D.2)."""
    for samples, precision in ((1, 8), (3, 8), (1, 10), (1, 11), (1, 12), (3, 12), (1, 16)):
        image = np.zeros((rows, columns, 3)[: 2 if samples == 1 else 3], "u1" if precision == 8 else "u2")
        frame = jpeg_xl(image, precision, effort=1)
        assert codecs._read_jpeg_xl(frame) == (rows, columns, samples, precision, False, False, 0)


# frames that are not what they should be


def sample_frames() -> dict[str, tuple[bytes, str, Layout]]:
    """Return a small sound frame of every kind: its bytes, transfer syntax and layout."""
    frames = {}
    for precision, samples in ((8, 1), (12, 1), (16, 1), (8, 3)):
        image, layout = image_of(precision, samples), layout_of(precision, samples)
        made = {
            UID + "57": jpeg_lossless(image, precision, 6), UID + "70": jpeg_lossless(image, precision),
            UID + "91": jpeg_2000(image, precision, level=40, reversible=False, mct=samples == 3),
            JPEG_2000: jpeg_2000(image, precision, mct=samples == 3), JPEG_XL: jpeg_xl(image, precision),
        }  # fmt: skip
        made |= {JPEG_LS + f" {mode}": jpeg_ls(image, precision, mode, near=mode % 2) for mode in range(samples)}
        if precision != 12:
            made[HTJ2K] = htj2k(image, precision, rgb=samples == 3)
        if precision == 8:
            made[UID + "112"] = jpeg_xl(image, precision, lossless=False, distance=1.0)
            made[UID + "111"] = bytes(imagecodecs.jpegxl_encode_jpeg(jpeg_baseline(image), usecontainer=True))
        for syntax, frame in made.items():
            frames[f"{syntax} {precision} {samples}"] = frame, syntax.split()[0], layout
    return frames


SAMPLES = sample_frames()


def refusal(frame: bytes, layout: Layout, syntax: str) -> str:
    """Return why a frame is held back, by masking as by looking at it."""
    with pytest.raises(Quarantined) as refused:
        codecs.mask_frame(frame, (Box(0, 1, 0, 1),), layout, syntax)
    with pytest.raises(Quarantined) as unseen:
        codecs.decode(frame, syntax, layout)
    assert (refused.value.reason, refused.value.detail) == (unseen.value.reason, unseen.value.detail)
    assert refused.value.reason is Reason.PIXELS
    return refused.value.detail


@pytest.fixture
def no_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every codec fail the test that reaches it."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("a codec was called")

    monkeypatch.setattr(codecs, "_native", reached)
    monkeypatch.setattr(codecs, "_imagecodecs", reached)


@pytest.mark.usefixtures("no_codec")
@pytest.mark.parametrize("name", SAMPLES)
def test_another_size_than_the_header_says(name: str) -> None:
    """Before a codec sees a frame it has the size, samples and bits of the image (PS3.5 8.2)."""
    frame, syntax, layout = SAMPLES[name]
    for other in (
        layout._replace(rows=layout.rows + 1), layout._replace(columns=layout.columns - 1),
        layout._replace(rows=layout.columns, columns=layout.rows), layout._replace(samples=4 - layout.samples),
    ):  # fmt: skip
        assert "differ from those of a compressed frame" in refusal(frame, other, syntax)
    assert "more bits than" in refusal(frame, layout._replace(allocated=4 if layout.allocated == 8 else 8), syntax)


@pytest.mark.parametrize("name", SAMPLES)
def test_cut_off_anywhere(name: str) -> None:
    """A frame that is not all there is held back, unless nothing but the end of the codestream is missing."""
    frame, syntax, layout = SAMPLES[name]
    whole = codecs.decode(frame, syntax, layout)
    for end in range(len(frame)):
        try:
            seen = codecs.decode(frame[:end], syntax, layout)
        except Quarantined:
            continue
        assert end >= len(frame) - 2
        assert np.array_equal(seen, whole)


def patched(frame: bytes, *edits: tuple[int, bytes]) -> bytes:
    edited = bytearray(frame)
    for at, new in edits:
        edited[at : at + len(new)] = new
    return bytes(edited)


def cod(*, layers: int = 1, precinct: int | None = None, levels: int = 5) -> bytes:
    """Return a COD segment with the marker (T.800 A.6.1)."""
    sizes = b"" if precinct is None else bytes([precinct]) * (levels + 1)
    body = struct.pack(">BBHBBBBBB", int(precinct is not None), 0, layers, 0, levels, 4, 4, 0, 1) + sizes
    return b"\xff\x52" + struct.pack(">H", len(body) + 2) + body


@pytest.mark.usefixtures("no_codec")
def test_jpeg_2000_that_asks_for_too_much() -> None:
    """Tiles, precincts and layers have bounds that grow with the image (T.800 A.5.1, A.6.1, A.6.2)."""
    frame, layout = jpeg_2000(image_of(8, 1, 512, 512), 8), layout_of(8, 1, 512, 512)
    style = frame.index(b"\xff\x52")
    main, rest = frame[:style], frame[style + 14 :]
    part, data = rest.index(b"\xff\x90"), rest.index(b"\xff\x93")
    longer = patched(rest, (part + 6, struct.pack(">I", len(rest) - part - 2 + 20)))
    coc = b"\xff\x53" + struct.pack(">HBBBBBBB", 15, 0, 1, 5, 4, 4, 0, 1) + b"\x11" * 6
    for asks in (
        main + cod(layers=65535) + rest,
        main + cod(precinct=0x11) + rest,
        main + cod(precinct=0x33, layers=100) + rest,
        main + cod() + coc + rest,
        main + cod() + longer[:data] + cod(precinct=0x11) + longer[data:],
    ):
        assert "too many precincts or layers" in refusal(asks, layout, JPEG_2000)
    for side in (1, 4, 16):
        assert "too many tiles" in refusal(patched(frame, (24, struct.pack(">II", side, side))), layout, JPEG_2000)
    huge = patched(frame, (8, struct.pack(">II", 1 << 31, 1 << 31)), (24, struct.pack(">II", 1, 1)))
    assert "too many tiles" in refusal(huge, layout, JPEG_2000)


@pytest.mark.usefixtures("no_codec")
def test_jpeg_2000_that_is_not_whole() -> None:
    """Every tile has a tile-part, and each is as long as it says (T.800 A.4.2)."""
    image, layout = image_of(8, 1, 64, 64), layout_of(8, 1, 64, 64)
    frame = bytes(imagecodecs.htj2k_encode(image, reversible=True, tile=(32, 32)))
    parts = [at for at in range(len(frame)) if frame[at : at + 4] == b"\xff\x90\x00\x0a"]
    assert len(parts) == 4
    style = frame.index(b"\xff\x52")
    for broken in (
        frame[: parts[2]] + frame[parts[3] :],
        frame[: parts[3]] + b"\xff\xd9",
        patched(frame, (parts[1] + 4, b"\0\0")),
        patched(frame, (parts[3] + 6, struct.pack(">I", len(frame)))),
        patched(frame, (parts[1] + 6, struct.pack(">I", 12))),
        # no coding style, two of them, one of a wrong length; no SOC; what is no marker
        patched(frame, (style, b"\xff\x64")),
        frame[:style] + cod() + frame[style:],
        patched(frame, (style + 4, b"\1")),
        patched(frame, (0, b"\xff\x4e")),
        patched(frame, (style, b"\x7f")),
    ):
        assert "broken" in refusal(broken, layout, HTJ2K)


@pytest.mark.usefixtures("no_codec")
def test_other_kinds_of_jpeg_2000() -> None:
    """Part 2, subsampled and unequal components are held back (T.801, T.800 A.5.1)."""
    frame, layout = jpeg_2000(image_of(8, 3), 8), layout_of(8, 3)
    for at, new in ((6, b"\x80"), (46, b"\2"), (44, b"\2"), (45, b"\x0b"), (45, b"\x87")):
        assert refusal(patched(frame, (at, new)), layout, JPEG_2000)
    for syntax in (UID + "92", UID + "93", UID + "94", "1.2.840.10008.1.2.1", UID + "100", UID + "204"):
        assert "cannot be decoded" in refusal(frame, layout, syntax)


@pytest.mark.usefixtures("no_codec")
def test_other_kinds_of_jpeg() -> None:
    """A transfer syntax allows one process (PS3.5 10.2, 10.3, A.4.1)."""
    image, layout = image_of(8), layout_of(8)
    baseline, lossless, near = jpeg_baseline(image), jpeg_lossless(image, 8), jpeg_ls(image, 8)
    at = lossless.index(b"\xff\xc3")
    header = lossless[at : at + 13]
    for frame, syntax in (
        (baseline, JPEG_LOSSLESS), (near, JPEG_LOSSLESS), (lossless, JPEG_LS),
        (lossless[:at] + header + lossless[at:], JPEG_LOSSLESS), (patched(lossless, (at + 1, b"\xc2")), JPEG_LOSSLESS),
        (patched(lossless, (at + 1, b"\xcb")), JPEG_LOSSLESS), (patched(lossless, (at + 1, b"\xc7")), JPEG_LOSSLESS),
    ):  # fmt: skip
        assert "process that the transfer syntax does not allow" in refusal(frame, layout, syntax)
    with pytest.raises(Quarantined, match="process that the transfer syntax does not allow"):
        codecs.decode(lossless, UID + "50", layout)
    for frame in (lossless[:at] + lossless[at + 13 :], b"\xff\xd8", b"", lossless[2:], b"\xff\xd8\xff\xd9"):
        assert "broken" in refusal(frame, layout, JPEG_LOSSLESS)
    # any marker may have fill bytes before it (T.81 B.1.1.2)
    assert np.array_equal(
        codecs._read_jpeg(lossless[:at] + b"\xff\xff" + lossless[at:], codecs._LOSSLESS)[:2], (24, 20)
    )
    colours = jpeg_lossless(image_of(8, 3), 8)
    at = colours.index(b"\xff\xc3")
    assert "broken" in refusal(patched(colours, (at + 11, b"\x21")), layout_of(8, 3), JPEG_LOSSLESS)


@pytest.mark.usefixtures("no_codec")
def test_other_kinds_of_jpeg_xl() -> None:
    """Films, transparency and floating point are no plain image (ISO/IEC 18181-1 D.3)."""
    film = jpeg_xl(np.stack([image_of(8)] * 3), 8, photometric="gray", planar=False)
    real = bytes(imagecodecs.jpegxl_encode(image_of(8).astype("f4") / 255, lossless=True))
    clear = jpeg_xl(np.dstack([image_of(8, 3), image_of(8)]), 8)
    assert "no plain image" in refusal(film, layout_of(8), JPEG_XL)
    assert "no plain image" in refusal(real, layout_of(8), JPEG_XL)
    assert "channels besides" in refusal(clear, layout_of(8, 3), JPEG_XL)
    for frame in (b"", b"\xff\x0a"[:1], b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\1jxlc"):
        assert "broken" in refusal(frame, layout_of(8), JPEG_XL)


def test_values_beyond_the_codestream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a decoder returns is checked, since encoders trust in it."""
    frame, layout = jpeg_2000(image_of(12), 12), layout_of(12)
    for wrong in (
        np.full((24, 20), 4096, "u2"),
        np.zeros((24, 20), "i2"),
        np.zeros((24, 20), "u1"),
        np.zeros((20, 24), "u2"),
    ):
        monkeypatch.setattr(codecs, "_imagecodecs", lambda *_, wrong=wrong, **__: wrong)
        assert "broken" in refusal(frame, layout, JPEG_2000)
    for length in (0, 479, 481, 959):
        monkeypatch.setattr(codecs, "_native", lambda *_, length=length, **__: (bytearray(length), {}))
        assert "broken" in refusal(jpeg_ls(image_of(8), 8), layout_of(8), JPEG_LS)


def test_an_encoder_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is read again; a frame that is not as meant is never released."""
    image, layout = image_of(12, signed=True), layout_of(12, signed=True, black=(-2048,))
    other = image.copy()
    other[23, 19] ^= 1
    for wrong in (jpeg_2000(other, 12), jpeg_2000(image, 13), jpeg_2000(image[:-1], 12), b"", b"\xff\x4f"):
        codec = codecs._JPEG_2000._replace(encode=lambda *_, wrong=wrong: wrong)
        monkeypatch.setitem(codecs._CODECS, JPEG_2000, codec)
        with pytest.raises(Quarantined) as refused:
            codecs.mask_frame(jpeg_2000(image, 12), (), layout, JPEG_2000)
        assert refused.value.reason is Reason.PIXELS
    monkeypatch.undo()
    assert codecs.mask_frame(jpeg_2000(image, 12), (), layout, JPEG_2000)


def test_an_encoder_of_jpeg_xl_that_errs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG image must come out of JPEG XL as it went in."""
    image, layout = image_of(8), layout_of(8)
    frame, other = (
        bytes(imagecodecs.jpegxl_encode_jpeg(jpeg_baseline(image, level=level), usecontainer=True))
        for level in (90, 80)
    )
    monkeypatch.setattr(imagecodecs, "jpegxl_encode_jpeg", lambda *_, **__: other)
    with pytest.raises(Quarantined, match="did not write what it was given"):
        codecs.mask_frame(frame, (Box(0, 1, 0, 1),), layout, UID + "111")


@pytest.mark.parametrize("name", SAMPLES)
def test_without_the_library(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing codec is told as such, and says what to install."""
    frame, syntax, layout = SAMPLES[name]
    monkeypatch.setitem(sys.modules, "jpeg_ls" if syntax == JPEG_LS else "imagecodecs", None)
    for act in (codecs.decode, lambda *these: codecs.mask_frame(these[0], (), these[2], these[1])):
        with pytest.raises(Quarantined, match="pip install") as refused:
            act(frame, syntax, layout)
        assert refused.value.reason is Reason.CODEC


def test_without_a_part_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is too old, or built without a codec, is as good as missing."""

    def absent(*_: object, **__: object) -> None:
        raise ImportError

    for library in (
        SimpleNamespace(jpeg2k_decode=imagecodecs.jpeg2k_decode),
        SimpleNamespace(jpeg2k_decode=imagecodecs.jpeg2k_decode, htj2k_encode=absent),
    ):
        monkeypatch.setitem(sys.modules, "imagecodecs", library)
        with pytest.raises(Quarantined) as refused:
            codecs.mask_frame(SAMPLES[f"{HTJ2K} 8 1"][0], (), layout_of(8), HTJ2K)
        assert refused.value.reason is Reason.CODEC


def test_broken_frames() -> None:
    """Mutated frames are held back or masked right, in little time and memory, and no library crashes."""
    done = subprocess.run(
        [sys.executable, __file__, "600", "1"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, (done.stdout[-500:], done.stderr[-2000:])
    seen = Counter(json.loads(done.stdout.splitlines()[-1]))
    assert seen.keys() == {"masked", "held back"}
    assert min(seen.values()) > 1000


def _mutated(frame: bytes, chance: random.Random) -> bytes:
    """Return a frame with bits turned, most often in its headers, or with bytes changed, gone or inserted."""
    kind, head = chance.randrange(8), min(len(frame), 120)
    if kind == 0:
        return frame[: chance.randrange(len(frame))]
    edited = bytearray(frame)
    if kind == 1:
        at = chance.randrange(len(edited))
        edited[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(head if kind < 6 else len(frame)) % len(edited)
        edited[at] = (
            chance.choice(b"\x00\x01\x40\x7f\x80\xfe\xff") if kind == 2 else edited[at] ^ 1 << chance.randrange(8)
        )
    return bytes(edited)


def _fuzz(count: int, seed: int) -> None:
    """Mask ``count`` mutated frames of every kind; print what became of them."""
    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    seen: Counter[str] = Counter()
    boxes = (Box(2, 9, 3, 15), Box(20, 21, 0, 20))
    chance = random.Random(seed)  # noqa: S311
    for name, (frame, syntax, layout) in SAMPLES.items():
        print(name, flush=True)  # noqa: T201 - the last one, if a library crashes
        for _ in range(count):
            mutated = _mutated(frame, chance)
            try:
                masked = codecs.mask_frame(mutated, boxes, layout, syntax)
            except Quarantined as refused:
                seen["held back" if refused.reason is Reason.PIXELS else refused.reason.name] += 1
                continue
            seen["masked"] += 1
            before, after = (codecs.decode(one, syntax, layout) for one in (mutated, masked))
            if syntax != UID + "111":
                assert np.array_equal(after, painted(before, boxes, layout.black)), name
    for frame, syntax, layout in (
        (jpeg_baseline(image_of(8, 3), subsampling="420"), UID + "50", layout_of(8, 3)),
        (bytes(imagecodecs.jpeg8_encode(image_of(12), bitspersample=12)), UID + "51", layout_of(12)),
    ):
        print(syntax, flush=True)  # noqa: T201
        for _ in range(count):
            try:
                image = codecs.decode(_mutated(frame, chance), syntax, layout)
            except Quarantined:
                continue
            assert image.shape[:2] == (layout.rows, layout.columns)
    print(json.dumps(seen))  # noqa: T201


if __name__ == "__main__":
    _fuzz(int(sys.argv[1]), int(sys.argv[2]))

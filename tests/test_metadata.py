"""Text and previews inside compressed frames are cut out, and not a bit of the coded pixels changes."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydicom
import pytest
from factories import NAME, ct, shared
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from dicomshield.errors import Quarantined, Reason
from dicomshield.pixels.metadata import harmless, head_is_clean, without_metadata

TEXT = NAME.encode()
UID = "1.2.840.10008.1.2.4."
JPEG, JPEG_LS, JPEG_2000, HTJ2K, JPEG_XL = (UID + end for end in ("50", "80", "90", "201", "110"))
CHANGED = {"GDCMJ2K_TextGBR.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_jls_lossy_sample.dcm", "SC_rgb_jpeg.dcm"}
"""The bundled files that hold a profile, SPIFF headers, or an Adobe segment that is too short to be one."""
FORM = (
    "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation",
)  # fmt: skip


# What is read, and by whom


def compressed(folder: Path) -> Iterator[tuple[Path, str, bytes]]:
    """Yield path, transfer syntax and each frame of the compressed files in a folder."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            ds = pydicom.dcmread(path, force=True)
            syntax = str(ds.file_meta.TransferSyntaxUID)
            if syntax.startswith(UID) and "PixelData" in ds:
                number = int(ds.get("NumberOfFrames", 1) or 1)
                frames = list(generate_frames(ds.PixelData, number_of_frames=number))
                yield from ((path, syntax, frame) for frame in frames)
        except (AttributeError, ValueError):
            continue


@cache
def bundled(name: str) -> tuple[bytes, str]:
    """Return the first frame of a file that pydicom has, and its transfer syntax."""
    ds = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    return next(generate_frames(ds.PixelData, number_of_frames=1)), str(ds.file_meta.TransferSyntaxUID)


def by_tools(name: str, frame: bytes, folder: Path) -> list[bytes]:
    """Decode a frame of the form of those in a file with GDCM, and with DCMTK or imagecodecs."""
    source = pydicom.dcmread(str(get_testdata_file(name, download=False)))
    ds, syntax = ct(), str(source.file_meta.TransferSyntaxUID)
    for keyword in FORM:
        setattr(ds, keyword, source.get(keyword))
    ds.PixelData = encapsulate([frame])
    ds["PixelData"].VR = "OB"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    ds.save_as(folder / "packed.dcm", enforce_file_format=True)
    tools = [["gdcmconv", "--raw"]]
    if syntax.removeprefix(UID) in ("90", "91"):
        codecs: Any = pytest.importorskip("imagecodecs")
        found = [codecs.jpeg2k_decode(frame).tobytes()]
    else:
        found = []
        tools.append(["dcmdjpls"] if syntax.removeprefix(UID) in ("80", "81") else ["dcmdjpeg"])
    for tool in tools:
        if not shutil.which(tool[0]):
            pytest.skip(f"{tool[0]} is not installed")
        subprocess.run([*tool, "packed.dcm", "plain.dcm"], cwd=folder, check=True, capture_output=True)
        found.append(pydicom.dcmread(folder / "plain.dcm").PixelData)
    return found


def check(planted: bytes, syntax: str, clean: bytes) -> None:
    """Assert that what was planted is gone, the rest is as it was, and a second look finds nothing."""
    assert planted != clean
    output = without_metadata(planted, syntax)
    assert output == clean
    assert without_metadata(output, syntax) is output


# Real frames


@pytest.mark.filterwarnings("ignore")
def test_clean_frames_come_back_as_they_are() -> None:
    """A frame without text is the same object, and known by its head, so that it can be moved in bulk."""
    folder = Path(pydicom.data.__file__).parent / "test_files"
    changed, seen = set(), 0
    for path, syntax, frame in compressed(folder):
        output = without_metadata(frame, syntax)
        seen += 1
        if output is frame:
            assert head_is_clean(frame[:4096], syntax)
        else:
            changed.add(path.name)
            assert not head_is_clean(frame[:4096], syntax)
            assert without_metadata(output, syntax) is output
    assert seen >= 25
    assert changed == CHANGED


@pytest.mark.filterwarnings("ignore")
def test_frames_of_the_corpora() -> None:
    """No frame of a real device is held back, and few hold anything to cut."""
    seen, changed = 0, set()
    for path, syntax, frame in compressed(shared() / "corpora"):
        output = without_metadata(frame, syntax)
        seen += 1
        if output is not frame:
            changed.add(path.name)
            assert len(output) < len(frame)
    assert seen > 100
    assert changed == CHANGED | {
        "ELSCINT1_JP2vsJ2K.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "MAROTECH_CT_JP2Lossy.dcm"
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:Expected explicit VR")
@pytest.mark.parametrize("name", sorted(CHANGED))
def test_what_is_cut_from_real_frames_is_no_pixel(name: str, tmp_path: Path) -> None:
    """Two decoders read the same pixels before and after."""
    frame, syntax = bundled(name)
    output = without_metadata(frame, syntax)
    assert output != frame
    assert by_tools(name, output, tmp_path) == by_tools(name, frame, tmp_path)


# JPEG and JPEG-LS


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"
PLANTED = {
    "EXIF": segment(0xE1, b"Exif\0\0MM\0*" + TEXT),
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + TEXT),
    "comment": segment(0xFE, TEXT),
    "comment like a signature": segment(0xFE, b"Lavc57.64.101 " + TEXT),
    "comment after a signature": segment(0xFE, b"LEAD Technologies Inc. V1.01\0" + TEXT),
    "profile": segment(0xE2, b"ICC_PROFILE\0\1\1" + TEXT),
    "several pictures": segment(0xE2, b"MPF\0" + TEXT),
    "thumbnail": segment(0xE0, b"JFXX\0\x10\xff\xd8" + TEXT + b"\xff\xd9"),
    "Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM" + TEXT),
    "SPIFF": segment(0xE8, b"SPIFF\0" + TEXT),
    "transform": segment(0xE8, b"mrfx\1" + TEXT),
    "Adobe": segment(0xEE, b"Adobe" + TEXT[:6]),
    "empty": segment(0xEF, b""),
    "long": segment(0xE5, TEXT * 3000),
}
FRAMES = (
    "SC_rgb_dcmtk_+eb+cy+np.dcm", "SC_rgb_dcmtk_+eb+cr.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm",
    "MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm",
)  # fmt: skip


@pytest.mark.parametrize("kind", PLANTED)
@pytest.mark.parametrize("name", FRAMES)
def test_segments_with_text_go(name: str, kind: str) -> None:
    """Whatever application and comment segments hold of a patient is gone, wherever they are (T.81 B.2.4.5)."""
    clean, syntax = bundled(name)
    # after SOI, before the scan, and between the last scan and EOI
    for at in (2, clean.index(b"\xff\xda"), clean.rindex(b"\xff\xd9")):
        planted = clean[:at] + PLANTED[kind] + b"\xff" * (at > 2) + PLANTED[kind] + clean[at:]
        check(planted, syntax, clean)


@pytest.mark.parametrize("kind", ["comment", "thumbnail"])
@pytest.mark.parametrize("name", FRAMES)
def test_pixels_are_the_same(name: str, kind: str, tmp_path: Path) -> None:
    """Two decoders read the same pixels before and after."""
    clean, syntax = bundled(name)
    planted = clean[:2] + PLANTED[kind] + clean[2:]
    assert by_tools(name, without_metadata(planted, syntax), tmp_path) == by_tools(name, planted, tmp_path)


@pytest.mark.parametrize("name", FRAMES)
def test_what_follows_the_image_goes(name: str) -> None:
    """Bytes after EOI are cut; padding, which holds nothing, may stay (PS3.5 8.2)."""
    clean, syntax = bundled(name)
    clean = clean[: clean.rindex(b"\xff\xd9") + 2]
    for tail in (TEXT, b"\0" + TEXT, clean, b"\xff\xd9" + TEXT):
        check(clean + tail, syntax, clean)
    for pad in (b"\0", b"\xff", b"\0" * 511):
        padded = clean + pad
        assert without_metadata(padded, syntax) is padded


def test_later_scans_are_searched_too() -> None:
    """A comment between two scans goes, and so does one after restart markers and escaped bytes (T.81 B.1.1)."""
    scan = segment(0xDA, b"\1\1\0\0\0\0") + b"ab\xff\0c\xff\xd0d\xff\xd7\xff\0"
    table, comment = segment(0xC4, bytes(17)), segment(0xFE, TEXT)
    clean = b"\xff\xd8" + segment(0xC2, bytes(9)) + table + scan + table + scan + scan + b"\xff\xd9"
    planted = clean.replace(scan, scan + comment, 1).replace(scan + b"\xff\xd9", scan + comment + b"\xff\xd9")

    check(planted, JPEG, clean)
    assert head_is_clean(planted, JPEG)


@pytest.mark.parametrize(
    ("marker", "payload", "stays"),
    [
        (0xE0, JFIF, JFIF),
        (0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\0\0", b"JFIF\0\1\2\1\0\x48\0\x48\0\0"),
        (0xE0, JFIF[:12] + b"\1\1abc", JFIF),
        (0xE0, b"JFIF\0QuastelbXY", JFIF),
        (0xE0, JFIF[:13], None),
        (0xE0, b"AVI1\0\0\0\0", None),
        (0xEE, b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\0"),
        (0xEE, b"Adobe\0d\x80\0\0\0\1", b"Adobe\0d\x80\0\0\0\1"),
        (0xEE, b"Adobe\0e\xc0\0\0\0\2", b"Adobe\0e\xc0\0\0\0\2"),
        (0xEE, b"AdobeQuaste\0", b"Adobe\0d\0\0\0\0\0"),
        (0xEE, b"AdobeQuaste\2ltel", b"Adobe\0d\0\0\0\0\2"),
        (0xEE, b"AdobeQuastel", b"Adobe\0d\0\0\0\0\1"),
        (0xE8, b"mrfx\3", b"mrfx\3"),
        (0xE8, b"mrfxA", None),
        (0xFE, b"Lavc57.64.101\0", b"Lavc57.64.101\0"),
        (0xFE, b"LEAD Technologies Inc. V1.01\0", b"LEAD Technologies Inc. V1.01\0"),
        *(
            (0xFE, text, text) for text in (
                b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v62), quality = 90\n",
                b"CREATOR: gd-jpeg v1.0 (using IJG JPEG v80), default quality\n",
                b"Intel(R) JPEG Library, version [1.5.4.36]\0",
                b"MITRA_DICOM_STANDARD",
            )
        ),
        (0xFE, b"", None),
        (0xFE, b"CREATOR: Quastelberry v1.0 (using IJG JPEG v62), quality = 90\n", None),
        (0xFE, b"Lavc57.64.10119470523", None),
        (0xE1, b"", None),
    ],
)  # fmt: skip
def test_harmless(marker: int, payload: bytes, stays: bytes | None) -> None:
    """What a decoder needs stays, without thumbnail and with numbers only where numbers belong."""
    assert harmless(marker, payload) == stays


@given(st.integers(0xE0, 0xEF) | st.just(0xFE), st.binary(max_size=40), st.sampled_from([JFIF, b"Adobe\0d", b"mrfx"]))
@settings(deadline=None)
def test_harmless_is_settled(marker: int, payload: bytes, start: bytes) -> None:
    """What may stay once may stay again, and takes a few bytes only."""
    for one in (payload, start + payload):
        stays = harmless(marker, one)
        assert stays is None or harmless(marker, stays) == stays
        assert stays is None or marker == 0xFE or len(stays) <= 14


# JPEG 2000


def comment_2000(text: bytes, kind: int = 1) -> bytes:
    return segment(0x64, struct.pack(">H", kind) + text)


J2K = ("MR_small_jp2klossless.dcm", "JPEG2000.dcm", "SC_rgb_gdcm_KY.dcm")


def tile_parts(frame: bytes) -> list[int]:
    """Return where tile-parts begin."""
    starts, at = [], frame.index(b"\xff\x90\0\n")
    while frame[at : at + 2] == b"\xff\x90":
        starts.append(at)
        at += int.from_bytes(frame[at + 6 : at + 10], "big")
    return starts


def with_tile_comment(frame: bytes, comment: bytes) -> bytes:
    """Put a comment into the header of each tile-part."""
    for start in reversed(tile_parts(frame)):
        length = int.from_bytes(frame[start + 6 : start + 10], "big") + len(comment)
        frame = (
            frame[: start + 6]
            + struct.pack(">I", length)
            + frame[start + 10 : start + 12]
            + comment
            + frame[start + 12 :]
        )
    return frame


@pytest.mark.parametrize("name", J2K)
def test_comments_of_codestreams_go(name: str, tmp_path: Path) -> None:
    """Comments in the main header and in tile-part headers go, lengths are mended, pixels stay (T.800 A.9.2)."""
    clean, syntax = bundled(name)
    for comment in (
        comment_2000(TEXT),
        comment_2000(b"Kakadu-v7.3.3" + TEXT),
        comment_2000(TEXT, 0),
        comment_2000(b""),
    ):
        for at in (clean.index(b"\xff\x52"), clean.index(b"\xff\x90\0\n")):
            planted = clean[:at] + comment + clean[at:]
            check(planted, syntax, clean)
            assert head_is_clean(planted[:4096], syntax) is False
        check(with_tile_comment(clean, comment), syntax, clean)
    planted = with_tile_comment(clean, comment_2000(TEXT) * 3)
    assert by_tools(name, without_metadata(planted, syntax), tmp_path) == by_tools(name, planted, tmp_path)


def test_open_tile_part() -> None:
    """A last tile-part that reaches to EOC, whatever its length, has its comments cut too (T.800 A.4.2)."""
    clean, syntax = bundled("JPEG2000.dcm")
    (start,) = tile_parts(clean)
    clean = clean[: start + 6] + bytes(4) + clean[start + 10 :]
    assert without_metadata(clean, syntax) is clean
    check(clean[: start + 12] + comment_2000(TEXT) + clean[start + 12 :], syntax, clean)
    end = clean.rindex(b"\xff\xd9") + 2
    check(clean[:end] + TEXT, syntax, clean[:end])


def test_packet_number_that_looks_like_the_end() -> None:
    """The 65498th packet of a tile-part without a length is not taken for its end (T.800 A.8.1)."""
    frame = b"\xff\x4f" + segment(0x90, bytes(8)) + b"\xff\x93ab\xff\x91\0\4\xff\xd9cd\xff\xd9"
    assert without_metadata(frame, JPEG_2000) is frame
    check(frame + TEXT, JPEG_2000, frame)


def test_pointers_to_changed_tile_parts_go() -> None:
    """Lengths of tile-parts in the main header, which may be left out, go where they are no longer true (A.7.1)."""
    clean, syntax = bundled("MR_small_jp2klossless.dcm")
    at = clean.index(b"\xff\x90\0\n")
    pointed = clean[:at] + segment(0x55, b"\0\x40" + struct.pack(">I", len(clean) - at - 2)) + clean[at:]
    assert without_metadata(pointed, syntax) is pointed
    check(with_tile_comment(pointed, comment_2000(TEXT)), syntax, clean)


@pytest.mark.parametrize(
    "text",
    [
        b"Kakadu-2.2", b"Kakadu-v3.3", b"Kakadu-v7.3.3", b"Created by GDCM/OpenJPEG version 2.0",
        b"Created by OpenJPEG version 2.5.2", b"Creator: JasPer Version 1.701.0", b"OpenJPH Ver 0.7.3.",
        b"Pegasus Imaging Corp",
        b"Kdu-Layer-Info: log_2{Delta-D(MSE)/[2^16*Delta-L(bytes)]}, L(bytes)\n -58.0, 5.2e+004\n -59.6, 7.3e+004\n",
        b"Kdu-Layer-Info: log_2{Delta-D(squared-error)/Delta-L(bytes)}, L(bytes)\n-192.0,  1.2e+02\n",
    ],
)  # fmt: skip
def test_signatures_of_encoders_stay(text: bytes) -> None:
    """What an encoder says of itself stays, so that its frames need not be written anew; not with a word more."""
    clean, syntax = bundled("GDCMJ2K_TextGBR.dcm")
    clean = clean[clean.index(b"\xff\x4f\xff\x51") :]
    at = clean.index(b"\xff\x52")
    signed = clean[:at] + comment_2000(text) + clean[at:]
    assert without_metadata(signed, syntax) is signed
    for more in (text + TEXT, TEXT + text, text + b"19470523"):
        check(clean[:at] + comment_2000(more) + clean[at:], syntax, clean)


# Boxes


def box(kind: bytes, content: bytes, *, wide: bool = False) -> bytes:
    if wide:
        return struct.pack(">I4sQ", 1, kind, len(content) + 16) + content
    return struct.pack(">I4s", len(content) + 8, kind) + content


JP2_START = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
COLOUR = box(b"colr", b"\1\0\0\0\0\0\x11")


def jp2(codestream: bytes, *, header: bytes = COLOUR, extra: bytes = b"", wide: bool = False) -> bytes:
    """Wrap a codestream of 64 x 64 pixels of 16 bits into a file (T.800 annex I)."""
    image = box(b"ihdr", struct.pack(">IIHBBBB", 64, 64, 1, 15, 7, 0, 0)) + header
    return JP2_START + extra + box(b"jp2h", image, wide=wide) + extra + box(b"jp2c", codestream, wide=wide) + extra


@pytest.mark.parametrize("wide", [False, True])
def test_boxes_with_text_go(wide: bool) -> None:
    """Only the boxes that a decoder needs stay, here and inside of the header box (T.800 I.2.2)."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    clean = jp2(codestream, wide=wide)
    assert without_metadata(clean, syntax) is clean
    for extra in (
        box(b"xml ", TEXT),
        box(b"uuid", bytes(16) + TEXT),
        box(b"jp2i", TEXT),
        box(b"free", TEXT, wide=True),
    ):
        check(jp2(codestream, extra=extra, wide=wide), syntax, clean)
        check(jp2(codestream, header=COLOUR + extra, wide=wide), syntax, clean)
    check(jp2(codestream + TEXT, wide=wide), syntax, jp2(codestream, wide=wide))
    check(clean + struct.pack(">I4s", 0, b"xml ") + TEXT, syntax, clean)
    check(clean + b"Xenop", syntax, clean)
    at = codestream.index(b"\xff\x52")
    check(jp2(codestream[:at] + comment_2000(TEXT) + codestream[at:], wide=wide), syntax, clean)


def test_profiles_become_names_of_colour_spaces() -> None:
    """A profile holds text; the enumerated colour space of its kind takes its place (T.800 I.5.3.3)."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    for space, number in ((b"GRAY", b"\x11"), (b"RGB ", b"\x10"), (b"Lab ", b"\x10")):
        profile = box(b"colr", b"\2\0\0" + bytes(16) + space + TEXT)
        check(jp2(codestream, header=profile), syntax, jp2(codestream, header=box(b"colr", b"\1\0\0\0\0\0" + number)))
    named = box(b"colr", COLOUR[8:] + TEXT)
    check(jp2(codestream, header=named), syntax, jp2(codestream))
    res = box(b"res ", box(b"resc", bytes(10)))
    check(jp2(codestream, header=COLOUR + box(b"res ", box(b"resc", bytes(10)) + box(b"xml ", TEXT))), syntax,
          jp2(codestream, header=COLOUR + res))  # fmt: skip


def test_brands_are_known_ones() -> None:
    """The list of formats names formats only (T.800 I.5.2)."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    clean = jp2(codestream)
    for brands in (b"jp2 \0\0\0\0jp2 Quas", b"jp2 Quasjp2 ", b"Quas\0\0\0\0jp2 ", b"jp2 \0\0\0\0jp2 " * 40):
        check(clean.replace(JP2_START, JP2_START[:12] + box(b"ftyp", brands)), syntax, clean)


def test_boxed_pixels_are_the_same() -> None:
    """Frames in boxes are decoded as before."""
    codecs: Any = pytest.importorskip("imagecodecs")
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    planted = jp2(codestream, extra=box(b"xml ", TEXT), header=box(b"colr", b"\2\0\0" + bytes(16) + b"GRAY" + TEXT))
    output = without_metadata(planted, syntax)
    assert TEXT not in output
    assert (codecs.jpeg2k_decode(output) == codecs.jpeg2k_decode(codestream)).all()


def test_heads_of_boxed_frames_are_never_clean() -> None:
    """Boxes may follow the pixels, where a head does not reach."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    for frame, said in ((jp2(codestream), None), (jp2(codestream, extra=box(b"xml ", TEXT)), False)):
        assert head_is_clean(frame[:1000], syntax) is said
        assert head_is_clean(frame, syntax) is said


# JPEG XL

JXL_START = box(b"JXL ", b"\r\n\x87\n") + box(b"ftyp", b"jxl \0\0\0\0jxl ")


def test_boxes_of_jpeg_xl() -> None:
    """EXIF, XML and everything else beside the codestream goes; a bare codestream stays (ISO/IEC 18181-2)."""
    bare = b"\xff\x0a" + bytes(20)
    assert without_metadata(bare, JPEG_XL) is bare
    assert head_is_clean(bare[:2], JPEG_XL)
    parts = box(b"jxlp", bytes(4) + bare), box(b"jxlp", b"\x80\0\0\1" + bytes(9))
    for clean in (JXL_START + box(b"jxlc", bare), JXL_START + box(b"jxll", b"\5") + parts[0] + parts[1]):
        assert without_metadata(clean, JPEG_XL) is clean
        for extra in (box(b"Exif", TEXT), box(b"xml ", TEXT), box(b"jumb", TEXT), box(b"brob", b"Exif" + TEXT)):
            for planted in (clean + extra, JXL_START + extra + clean.removeprefix(JXL_START)):
                check(planted, JPEG_XL, clean)
                assert not head_is_clean(planted, JPEG_XL)


def test_jpeg_headers_inside_jpeg_xl_are_refused() -> None:
    """Data that turn JPEG XL into JPEG again may hold its text, compressed, and cannot be cut here."""
    frame = JXL_START + box(b"jbrd", TEXT) + box(b"jxlc", b"\xff\x0a")
    for attempt in (without_metadata, head_is_clean):
        with pytest.raises(Quarantined) as held:
            attempt(frame, JPEG_XL)
        assert held.value.reason is Reason.PIXELS


def test_real_jpeg_xl() -> None:
    """A frame in boxes is decoded as before."""
    codecs: Any = pytest.importorskip("imagecodecs")
    pixels = codecs.jpeg2k_decode(bundled("MR_small_jp2klossless.dcm")[0]).view("u2")
    clean = codecs.jpegxl_encode(pixels, lossless=True, usecontainer=True)
    assert without_metadata(clean, JPEG_XL) is clean
    check(clean + box(b"Exif", TEXT), JPEG_XL, clean)
    assert (codecs.jpegxl_decode(without_metadata(clean + box(b"xml ", TEXT), JPEG_XL)) == pixels).all()


# Heads, other syntaxes, broken frames


@pytest.mark.parametrize("name", [*FRAMES, *J2K])
def test_heads(name: str) -> None:
    """A head says yes where the coded pixels begin, no where something must go, and else that it is too short."""
    clean, syntax = bundled(name)
    begin = clean.index(b"\xff\x90\0\n") + 2 if name in J2K else clean.index(b"\xff\xda")
    said = [head_is_clean(clean[:length], syntax) for length in range(begin + 300)]
    first = said.index(True)
    assert begin <= first <= begin + 20
    assert said == [None] * first + [True] * (len(said) - first)
    planted = clean[:2] + (comment_2000(TEXT) if name in J2K else segment(0xFE, TEXT)) + clean[2:]
    said = [head_is_clean(planted[:length], syntax) for length in range(begin + 300)]
    assert True not in said
    assert said[-1] is False
    assert said == sorted(said, key=lambda one: one is False)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1", UID + "100", UID + "102"])
def test_other_syntaxes(syntax: str) -> None:
    """RLE, native frames and video have no such headers, or other ones."""
    assert without_metadata(TEXT, syntax) is TEXT
    assert head_is_clean(TEXT, syntax) is True


EMPTY_2000 = b"\xff\x4f" + segment(0x90, bytes(8)) + b"\xff\x93\xff\xd9"
SOI, EOI, SCAN = b"\xff\xd8", b"\xff\xd9", segment(0xDA, b"\1") + b"ab"


@pytest.mark.parametrize(
    ("frame", "syntax"),
    [
        (b"", JPEG), (SOI, JPEG), (SOI + EOI, JPEG), (SCAN + EOI, JPEG), (SOI + SCAN, JPEG),
        (SOI + SCAN + b"\xff", JPEG), (SOI + TEXT + SCAN + EOI, JPEG), (SOI + b"\xff" * 50, JPEG),
        (SOI + SOI + SCAN + EOI, JPEG), (SOI + segment(0xF7, b"") + SCAN + EOI, JPEG),
        (SOI + segment(0xC8, b"") + SCAN + EOI, JPEG), (SOI + segment(0xF0, TEXT) + SCAN + EOI, JPEG),
        (SOI + b"\xff\xe1\0\1" + SCAN + EOI, JPEG), (SOI + b"\xff\xe1\0\0" + SCAN + EOI, JPEG),
        (SOI + b"\xff\xe1\xff\xff" + TEXT + SCAN + EOI, JPEG), (SOI + SCAN + b"\xff\x01" + EOI, JPEG),
        (SOI + SCAN + b"\xff\x90" + EOI, JPEG), (SOI + SCAN + b"\xff\x90" + EOI, JPEG_LS),
        (SOI + segment(0xC0, bytes(9)) + SCAN + EOI, JPEG_LS), (TEXT, JPEG), (TEXT, JPEG_LS),
        (b"", JPEG_2000), (TEXT, JPEG_2000), (b"\xff\x4f", JPEG_2000), (b"\xff\x4f\xff\xd9", JPEG_2000),
        (b"\xff\x4f" + segment(0x65, TEXT) + segment(0x90, bytes(8)) + b"\xff\x93\xff\xd9", JPEG_2000),
        (b"\xff\x4f" + segment(0x90, bytes(8)) + b"\xff\x93ab", JPEG_2000),
        (b"\xff\x4f" + segment(0x90, bytes(8)) + b"\xff\x90", JPEG_2000),
        (b"\xff\x4f" + segment(0x90, b"\0\0\0\0\0\1\0\0") + b"\xff\x93\xff\xd9", JPEG_2000),
        (b"\xff\x4f" + segment(0x90, b"\0\0\0\0\0\x0f\0\0") + b"\xff\x93" + TEXT + b"\xff\xd9", JPEG_2000),
        (b"\xff\x4f" + segment(0x90, b"\0\0\xff\xff\xff\xff\0\0") + b"\xff\x93\xff\xd9", HTJ2K),
        (JP2_START, JPEG_2000), (JP2_START[:-1], JPEG_2000), (JP2_START + box(b"jp2h", b""), JPEG_2000),
        (JP2_START + box(b"jp2c", TEXT), JPEG_2000), (JP2_START + b"\0\0\0\7jp2c", JPEG_2000),
        (JP2_START + b"\0\0\0\1jp2c" + bytes(7) + b"\x0f", JPEG_2000),
        (JP2_START + b"\0\0\0\1jp2c" + b"\xff" * 8, JPEG_2000), (b"\0\0\0\x0cJXL \r\n\x87\n" + TEXT, JPEG_2000),
        (jp2(EMPTY_2000).replace(b"jP  ", b")P  "), JPEG_2000),
        (jp2(EMPTY_2000).replace(b"\r\n\x87\n", b"Quas"), JPEG_2000),
        (b"", JPEG_XL), (TEXT, JPEG_XL), (JXL_START, JPEG_XL), (JP2_START, JPEG_XL),
        (JXL_START + b"\0\0\1\0jxlc", JPEG_XL),
    ],
)  # fmt: skip
def test_broken(frame: bytes, syntax: str) -> None:
    """A frame whose structure is broken or not understood is held back; nothing in it is trusted."""
    with pytest.raises(Quarantined) as held:
        without_metadata(frame, syntax)
    assert held.value.reason is Reason.PIXELS


def test_the_empty_one_is_whole() -> None:
    """The frame that some of the broken ones are made of is not broken."""
    frame = jp2(EMPTY_2000)
    assert without_metadata(frame, JPEG_2000) is frame


def test_box_that_is_too_small_for_its_codestream() -> None:
    """A codestream that goes on after its box is held back, though only its last byte does."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    clean = jp2(codestream[: codestream.rindex(b"\xff\xd9") + 2])
    at = clean.rindex(b"jp2c") - 4
    short = clean[:at] + struct.pack(">I", len(clean) - at - 1) + clean[at + 4 :]
    with pytest.raises(Quarantined):
        without_metadata(short, syntax)


def test_box_that_is_too_small_for_its_head() -> None:
    """A box ends no earlier than its own head."""
    codestream, syntax = bundled("MR_small_jp2klossless.dcm")
    clean = jp2(codestream)
    at = clean.rindex(b"jp2c") - 4
    with pytest.raises(Quarantined):
        without_metadata(clean[:at] + b"\0\0\0\7xml" + clean[at:], syntax)


def test_tile_part_that_ends_inside_of_its_header() -> None:
    """A tile-part is not followed into a comment, where a made-up one could begin."""
    inner = segment(0x90, bytes(8)) + b"\xff\x93"
    part = segment(0x90, b"\0\0\0\0\0\x12\0\0") + comment_2000(inner) + b"\xff\x93"
    with pytest.raises(Quarantined):
        without_metadata(b"\xff\x4f" + part + b"\xff\xd9", JPEG_2000)


def many_segments() -> bytes:
    return SOI + segment(0xDD, b"") * 2_000_000


def many_comments() -> bytes:
    return SOI + segment(0xFE, b"") * 2_000_000 + SCAN + EOI


def many_scans() -> bytes:
    return SOI + (segment(0xDA, b"") + b"\xff\0") * 1_000_000 + EOI


def many_tile_parts() -> bytes:
    return b"\xff\x4f" + (segment(0x90, b"\0\0\0\0\0\x0e\0\0") + b"\xff\x93") * 1_000_000 + b"\xff\xd9"


def many_boxes() -> bytes:
    return JP2_START + box(b"xml ", b"") * 1_000_000


@pytest.mark.parametrize("build", [many_segments, many_comments, many_scans, many_tile_parts, many_boxes])
def test_frames_of_nothing_but_structure(build: Callable[[], bytes]) -> None:
    """A million segments or boxes are no image; looking at them ends in bounded time."""
    frame = build()
    began = time.process_time()
    with pytest.raises(Quarantined):
        without_metadata(frame, JPEG_2000 if frame[:2] != SOI else JPEG)
    assert time.process_time() - began < 10


@pytest.mark.parametrize("name", [*FRAMES, *J2K, "GDCMJ2K_TextGBR.dcm"])
def test_mutated(name: str) -> None:
    """Whatever is broken, a frame is held back or cleaned for good, by head and whole alike."""
    clean, syntax = bundled(name)
    chance = random.Random(name)  # noqa: S311
    planted = (b"", b"\xff", b"\xff\xd9", PLANTED["comment"], comment_2000(TEXT), box(b"xml ", TEXT))
    outcomes = set()
    for _ in range(600):
        frame = clean
        for _ in range(chance.randint(1, 3)):
            at = chance.choice([2, chance.randrange(700)])
            new = chance.choice([*planted, chance.randbytes(1)])
            frame = frame[:at] + new + frame[at + chance.choice([0, 0, 1, 2]) :]
        outcomes.add(_outcome(frame, syntax))
    assert outcomes >= {"held back", "cleaned"}
    assert outcomes <= {"held back", "cleaned", "clean"}


def _outcome(frame: bytes, syntax: str) -> str:
    try:
        said = head_is_clean(frame, syntax)
        output = without_metadata(frame, syntax)
    except Quarantined as cause:
        return "held back" if cause.reason is Reason.PIXELS else cause.reason.name
    assert without_metadata(output, syntax) is output
    if output is frame:
        assert said is not False
        return "clean"
    return "cleaned"

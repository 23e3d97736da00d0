"""Masks in sequential JPEG: black inside, the same coefficients outside (ITU-T T.81; PS3.5 A.4.1)."""

from __future__ import annotations

import random
import shutil
import subprocess
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import factories
import fuzz_jpeg
import imagecodecs
import numpy as np
import pydicom
import pytest
import slow_jpeg
from fuzz_jpeg import check, layout, look, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit

from dicomshield.errors import Quarantined, Reason
from dicomshield.pixels import jpeg
from dicomshield.pixels.jpeg import aligned, mask_frame
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Box, Boxes

GREY, YBR, RGB = ((0,),), ((0, 128, 128),), ((0, 0, 0),)
BUNDLED = {
    "JPEG-lossy.dcm": GREY, "JPGExtended.dcm": GREY, "SC_rgb_jpeg.dcm": RGB, "SC_rgb_jpeg_app14_dcmd.dcm": RGB,
    "SC_jpeg_no_color_transform.dcm": RGB, "SC_jpeg_no_color_transform_2.dcm": RGB, "SC_rgb_dcmtk_+eb+cr.dcm": RGB,
    "SC_rgb_dcmtk_+eb+cy+n1.dcm": YBR, "SC_rgb_dcmtk_+eb+cy+n2.dcm": YBR, "SC_rgb_dcmtk_+eb+cy+np.dcm": YBR,
    "SC_rgb_dcmtk_+eb+cy+s2.dcm": YBR, "SC_rgb_dcmtk_+eb+cy+s4.dcm": YBR, "SC_rgb_jpeg_dcmtk.dcm": YBR,
    "SC_rgb_jpeg_lossy_gdcm.dcm": YBR, "SC_rgb_small_odd_jpeg.dcm": YBR, "examples_ybr_color.dcm": YBR,
}  # fmt: skip
CORNER: Boxes = (Box(0, 9, 0, 9),)
ROWS, COLUMNS = 50, 70


def photograph() -> NDArray[np.uint8]:
    """Return smooth colours with noise, everywhere brighter than black."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    waves = [np.sin(y / 9) + np.cos(x / 13), np.sin((x + y) / 7), np.cos(x / 5) * np.sin(y / 17)]
    noise = np.random.default_rng(1).normal(0, 9, (ROWS, COLUMNS, 3))
    return np.clip(140 + 40 * np.stack(waves, -1) + noise, 40, 255).astype(np.uint8)


def encoded(subsampling: int | None, **options: Any) -> tuple[bytes, Layout]:
    """Return a photograph in colour, or grey if ``subsampling`` is None."""
    image, out = photograph(), BytesIO()
    image = image[..., 0] if subsampling is None else image
    options |= {} if subsampling is None else {"subsampling": subsampling}
    Image.fromarray(image).save(out, "JPEG", **({"quality": 85} | options))
    return out.getvalue(), layout(ROWS, COLUMNS, 1 if subsampling is None else 3)


def bundled(name: str) -> tuple[list[bytes], Layout]:
    """Return the first frames of one of pydicom's files."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str)
    ds = pydicom.dcmread(path)
    number = int(ds.get("NumberOfFrames") or 1)
    form = layout(ds.Rows, ds.Columns, ds.SamplesPerPixel, bits=ds.BitsStored, photometric=ds.PhotometricInterpretation)
    return list(generate_frames(ds.PixelData, number_of_frames=number))[:2], form


def area(boxes: Boxes, form: Layout, grown: int = 0) -> NDArray[np.bool_]:
    inside = np.zeros((form.rows, form.columns), bool)
    for top, bottom, left, right in boxes:
        inside[max(top - grown, 0) : bottom + grown, max(left - grown, 0) : right + grown] = True
    return inside


def refused(frame: bytes, form: Layout, boxes: Boxes = CORNER) -> str:
    with pytest.raises(Quarantined) as caught:
        mask_frame(frame, boxes, form)
    assert caught.value.reason is Reason.PIXELS
    return caught.value.detail


def segment(marker: int, payload: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(payload) + 2).to_bytes(2, "big") + payload


def changed(frame: bytes, marker: int, change: Callable[[bytes], bytes]) -> bytes:
    """Return a frame in which the payload of the last segment of a kind is another."""
    found = [payload for kind, payload, _ in slow_jpeg.segments(frame) if kind == marker][-1]
    assert frame.count(segment(marker, found)) == 1
    return frame.replace(segment(marker, found), segment(marker, change(found)))


def put(payload: bytes, at: int, *values: int) -> bytes:
    return payload[:at] + bytes(values) + payload[at + len(values) :]


def markers(frame: bytes) -> list[int]:
    return [marker for marker, _, _ in slow_jpeg.segments(frame)]


class TestExactness:
    """Outside of the masked MCUs each DCT coefficient is as it was; inside there is one colour."""

    @pytest.mark.parametrize(
        "options", [{}, {"optimize": True}, {"restart_marker_blocks": 3}, {"restart_marker_rows": 1}], ids=str
    )
    @pytest.mark.parametrize("quality", [1, 50, 95, 100])
    @pytest.mark.parametrize("subsampling", [0, 1, 2, None])
    def test_frames_of_libjpeg_turbo(self, subsampling: int | None, quality: int, options: dict[str, Any]) -> None:
        """A reader of its own compares every block, libjpeg-turbo every pixel."""
        boxes = (Box(0, 9, 20, 61), Box(30, 31, 69, 70))
        frame, form = encoded(subsampling, quality=quality, **options)

        masked = mask_frame(frame, boxes, form)

        check(frame, masked, boxes, GREY if subsampling is None else YBR)
        assert look(frame, masked, boxes)

    @pytest.mark.filterwarnings("ignore:Expected explicit VR")
    @pytest.mark.parametrize("name", BUNDLED)
    def test_frames_of_devices_and_toolkits(self, name: str) -> None:
        """Frames of pydicom's test files: 8 and 12 bit, all colour spaces."""
        frames, form = bundled(name)
        boxes = (Box(0, min(20, form.rows), 0, form.columns), Box(form.rows - 1, form.rows, 0, 1))
        for frame in frames:
            masked = mask_frame(frame, boxes, form)

            check(frame, masked, boxes, BUNDLED[name])
            assert look(frame, masked, boxes)

    @pytest.mark.parametrize("bits", [8, 12])
    def test_frames_of_dcmtk(self, tmp_path: Path, bits: int) -> None:
        """The extended process of another libjpeg, with tables of its own for each frame."""
        if not shutil.which("dcmcjpeg"):
            pytest.skip("no dcmcjpeg")
        pixels = (np.hypot(*np.mgrid[:40, :56]) * 60 % 4096).astype("<u2") >> 12 - bits
        ds = factories.ct(rows=40, columns=56, BitsStored=bits, HighBit=bits - 1, PixelData=pixels.tobytes())
        if bits == 8:
            ds.BitsAllocated, ds.PixelData = 8, pixels.astype(np.uint8).tobytes()
        (tmp_path / "native.dcm").write_bytes(factories.encoded(ds))
        subprocess.run(["dcmcjpeg", "+ee", tmp_path / "native.dcm", tmp_path / "jpeg.dcm"], check=True)
        made = pydicom.dcmread(tmp_path / "jpeg.dcm")
        form = layout(40, 56, 1, bits=made.BitsStored)
        frame = next(generate_frames(made.PixelData, number_of_frames=1))
        boxes = (Box(3, 12, 8, 33),)

        masked = mask_frame(frame, boxes, form)

        check(frame, masked, boxes, GREY)
        assert look(frame, masked, boxes)

    @pytest.mark.parametrize(("subsampling", "ring"), [(None, 0), (0, 0), (1, 1), (2, 1)])
    def test_pixels(self, subsampling: int | None, ring: int) -> None:
        """Where chrominance is subsampled, decoders smooth it across the border: one pixel on either side, no more."""
        frame, form = encoded(subsampling)
        boxes = (Box(17, 24, 33, 40),)
        inside = area(aligned(frame, boxes), form)
        near = area(aligned(frame, boxes), form, ring)
        far = ~area(((Box(0, ROWS, 0, COLUMNS)),), form)
        for top, bottom, left, right in aligned(frame, boxes):
            far[top + ring : bottom - ring, left + ring : right - ring] = True

        old, new = [imagecodecs.jpeg8_decode(one) for one in (frame, mask_frame(frame, boxes, form))]

        differ = (old != new).reshape(ROWS, COLUMNS, -1).any(-1)
        assert not differ[~near].any()
        assert differ[near & ~inside].any() == (ring > 0)
        assert (new[far] == 0).all()
        assert (old[inside] != 0).all()

    @pytest.mark.parametrize("tool", ["dcmdjpeg", "gdcmconv"])
    @pytest.mark.parametrize("name", ["JPGExtended.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "examples_ybr_color.dcm"])
    def test_other_decoders_agree(self, tmp_path: Path, name: str, tool: str) -> None:
        """The libjpeg of DCMTK and the one of GDCM see the same."""
        if not shutil.which(tool):
            pytest.skip(f"no {tool}")
        frames, form = bundled(name)
        boxes = (Box(10, 20, 20, form.columns - 20),)
        both = [
            decoded(tmp_path / f"{at}.dcm", frame, form, tool)
            for at, frame in enumerate((frames[0], mask_frame(frames[0], boxes, form)))
        ]
        away = ~area(aligned(frames[0], boxes), form, 1)

        assert np.array_equal(both[0][away], both[1][away])
        assert np.unique(both[1][area(boxes, form)], axis=0).tolist() in ([[0]], [[0, 0, 0]], [[0, 128, 128]])
        assert len(np.unique(both[0], axis=0)) > 1

    def test_a_whole_frame(self) -> None:
        """A mask over everything leaves one colour, and takes little room."""
        frame, form = encoded(2)
        boxes = (Box(0, ROWS, 0, COLUMNS),)

        masked = mask_frame(frame, boxes, form)

        assert not imagecodecs.jpeg8_decode(masked).any()
        assert len(masked) < 800

    def test_data_full_of_ones(self) -> None:
        """Byte stuffing may double a scan, and there is room for it."""
        made = picture(7, 40, 40, ((1, 1),))
        for place in made.blocks:
            made.blocks[place] = (1, *[1023] * 63)
        frame = slow_jpeg.write(made, [[1]], symbols=(range(4), [*range(1, 10), *range(17, 22)]))

        masked = mask_frame(frame, CORNER, layout(40, 40, 1))

        check(frame, masked, CORNER, GREY)
        assert masked.count(b"\xff\0") > len(masked) // 8

    def test_no_box(self) -> None:
        """Without a mask each scan stays as it is, bit by bit."""
        frame, form = encoded(1, optimize=True, restart_marker_blocks=4)

        assert list(slow_jpeg.segments(mask_frame(frame, (), form)))[-1][2] == list(slow_jpeg.segments(frame))[-1][2]


def decoded(path: Path, frame: bytes, form: Layout, tool: str) -> NDArray[np.generic]:
    """Let another toolkit decode a frame, without a change of colour space."""
    ds = factories.ct(rows=form.rows, columns=form.columns, BitsAllocated=form.allocated, BitsStored=form.stored)
    ds.HighBit, ds.SamplesPerPixel, ds.PhotometricInterpretation = form.stored - 1, form.samples, form.photometric
    if form.samples == 3:
        ds.PlanarConfiguration = 0
    ds.PixelData = encapsulate([frame])
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit if form.stored == 8 else JPEGExtended12Bit
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    native = path.with_suffix(".raw")
    subprocess.run([tool, "--conv-never" if tool == "dcmdjpeg" else "--raw", path, native], check=True)
    pixels = pydicom.dcmread(native).PixelData[: form.frame_bits // 8]
    return np.frombuffer(pixels, f"<u{form.allocated // 8}").reshape(form.rows, form.columns, form.samples)


class TestScans:
    """Interleaved and not, any sampling factors, restart intervals, 8 and 12 bit."""

    @settings(deadline=None, max_examples=150)
    @given(
        seed=st.integers(0, 1 << 32),
        size=st.tuples(st.integers(1, 50), st.integers(1, 50)),
        factors=st.one_of(
            st.tuples(st.tuples(st.integers(1, 4), st.integers(1, 4))),
            st.tuples(*[st.tuples(st.integers(1, 4), st.integers(1, 4))] * 3),
        ),
        split=st.lists(st.booleans(), min_size=2, max_size=2),
        interval=st.integers(0, 5),
        padding=st.integers(0, 9),
        deep=st.booleans(),
        corners=st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1, max_size=3),
    )
    def test_any_frame(
        self,
        seed: int,
        size: tuple[int, int],
        factors: tuple[tuple[int, int], ...],
        split: list[bool],
        interval: int,
        padding: int,
        deep: bool,
        corners: list[tuple[float, float, float, float]],
    ) -> None:
        """A masked frame of any form has black MCUs where a box is, and the old ones elsewhere."""
        scans = _scans(factors, split)
        frame = slow_jpeg.write(
            picture(seed, *size, factors, 12 if deep else 8, (1, 40000 if deep else 255)),
            scans,
            interval,
            padding=padding,
        )
        boxes = tuple([_box(corner, *size) for corner in corners])
        form = layout(*size, len(factors), bits=12 if deep else 8)
        rgb = len(factors) == 3 and len(set(factors)) == 1 and form.photometric == "RGB"

        masked = mask_frame(frame, boxes, form)

        middle = 2048 if deep else 128
        check(frame, masked, boxes, ((0, 0, 0) if rgb else (0, middle, middle),))

    def test_scans_with_other_tables(self) -> None:
        """Huffman and quantization tables of the same identifier may change between scans."""
        made = picture(5, 24, 40, ((2, 1), (1, 1), (1, 1)))
        sof = next(payload for marker, payload, _ in slow_jpeg.segments(slow_jpeg.write(made, [[1]])) if marker == 0xC1)
        frame = b"\xff\xd8" + segment(0xC1, put(put(put(sof, 8, 0), 11, 0), 14, 0))
        for key in made.components:
            for marker, payload, coded in slow_jpeg.segments(slow_jpeg.write(made, [[key]])):
                if marker == 0xDB and payload[0] & 15 == key - 1:
                    frame += segment(marker, put(payload, 0, 0))
                elif marker == 0xC4:
                    frame += segment(marker, put(payload, 0, payload[0] & 16))
                elif marker == 0xDA:
                    frame += segment(marker, put(payload, 2, 0)) + coded

        masked = mask_frame(frame, CORNER, layout(24, 40, 3))

        check(frame, masked, CORNER, YBR)
        assert markers(masked).count(0xDB) == 3
        assert markers(masked).count(0xC4) == 6

    def test_intervals_change_between_scans(self) -> None:
        made = picture(6, 24, 40, ((1, 1), (1, 1), (1, 1)))
        first, second = slow_jpeg.write(made, [[1]], 2), slow_jpeg.write(made, [[2, 3]], 5)
        cut = second.index(b"\xff\xdd")
        frame = first[:-2] + second[cut:]

        masked = mask_frame(frame, CORNER, layout(24, 40, 3))

        check(frame, masked, CORNER, YBR)
        assert markers(masked).count(0xDD) == 2


def _box(corner: tuple[float, float, float, float], rows: int, columns: int) -> Box:
    top, left = int(corner[0] * (rows - 1)), int(corner[1] * (columns - 1))
    return Box(top, top + 1 + int(corner[2] * (rows - 1 - top)), left, left + 1 + int(corner[3] * (columns - 1 - left)))


def _scans(factors: tuple[tuple[int, int], ...], split: list[bool]) -> list[list[int]]:
    """Divide the components into scans, none of which has more than 10 blocks in an MCU."""
    scans: list[list[int]] = []
    for key in range(1, len(factors) + 1):
        if (
            scans
            and not split[key - 2]
            and sum([h * v for h, v in (factors[at - 1] for at in [*scans[-1], key])]) <= 10
        ):
            scans[-1].append(key)
        else:
            scans.append([key])
    return scans


class TestBlack:
    """What a masked sample decodes to."""

    def test_every_quantization_of_8_bit(self) -> None:
        for step in range(1, 256):
            assert (_one_block(8, step, "MONOCHROME2") == 0).all()
            assert (_one_block(8, step, "MONOCHROME1") == 255).all()

    @pytest.mark.parametrize("step", [*range(1, 20), 255, 256, 2047, 2048, 4095, 16383, 16384, 16385, 40000, 65531])
    def test_quantizations_of_12_bit(self, step: int) -> None:
        for photometric, sample in (("MONOCHROME2", 0), ("MONOCHROME1", 4095)):
            assert (_one_block(12, step, photometric) == sample).all()

    def test_every_quantization_of_12_bit(self) -> None:
        """The lowest coefficient that clamps, for each step; the very largest would go beyond what decoders clamp."""
        for step in range(1, 1 << 16):
            table = b"\x10" + step.to_bytes(2, "big")
            black = jpeg._black_dc(0, 12, table)
            assert black * step <= -2048 * 8 < (black + 1) * step
            if step < 65532:
                white = jpeg._black_dc(4095, 12, table)
                assert (white - 1) * step < 2047 * 8 <= white * step
                assert max(-black, white) * 2 < 1 << 16
            else:
                with pytest.raises(Quarantined, match="no DC coefficient"):
                    jpeg._black_dc(4095, 12, table)

    def test_large_quantization_of_8_bit(self) -> None:
        """Up to the largest that decoders clamp, black is black; beyond it is refused."""
        assert (_one_block(8, 4099, "MONOCHROME2") == 0).all()
        with pytest.raises(Quarantined, match="no DC coefficient"):
            _one_block(8, 4101, "MONOCHROME2")

    def test_signed(self) -> None:
        """The lowest signed value is the middle of what JPEG codes, and the highest is not always there."""
        frame = slow_jpeg.write(picture(1, 16, 16, ((1, 1),), 12), [[1]])
        form = layout(16, 16, 1, bits=12)._replace(signed=True, black=(-2048,))

        masked = mask_frame(frame, CORNER, form)

        check(frame, masked, CORNER, ((2048,),))
        assert (imagecodecs.jpeg8_decode(masked)[:9, :9] == 2048).all()
        fine = slow_jpeg.write(picture(1, 16, 16, ((1, 1),), 12, (8, 8)), [[1]])
        check(fine, mask_frame(fine, CORNER, form._replace(black=(2047,))), CORNER, ((2047,),))
        assert "black" in refused(frame, form._replace(black=(2047,)))

    def test_fewer_bits_stored_than_coded(self) -> None:
        """All ones are white whether a viewer cuts off or clips the bits that are too many."""
        frame = slow_jpeg.write(picture(1, 16, 16, ((1, 1),), 12), [[1]])

        check(
            frame, mask_frame(frame, CORNER, layout(16, 16, 1, bits=10, photometric="MONOCHROME1")), CORNER, ((4095,),)
        )
        check(frame, mask_frame(frame, CORNER, layout(16, 16, 1, bits=10)), CORNER, GREY)

    def test_palette(self) -> None:
        """The darkest entry of a palette is coded exactly or not at all."""
        form = layout(ROWS, COLUMNS, 1)._replace(photometric="PALETTE COLOR")
        frame, _ = encoded(None, quality=100)
        check(frame, mask_frame(frame, CORNER, form._replace(black=(77,))), CORNER, ((77,),))
        assert "black" in refused(encoded(None, quality=50)[0], form._replace(black=(77,)))

    @pytest.mark.parametrize(
        ("before", "photometric", "keys", "expected"),
        [
            (b"", "RGB", b"\1\2\3", RGB),
            (b"", "YBR_FULL", b"\1\2\3", YBR),
            (b"", "YBR_FULL", b"RGB", RGB),
            (segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), "RGB", b"RGB", YBR),
            (segment(0xEE, b"Adobe\0d\0\0\0\0\0"), "YBR_FULL", b"\1\2\3", RGB),
            (segment(0xEE, b"Adobe\0d\0\0\0\0\1"), "RGB", b"RGB", YBR),
            (segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + segment(0xEE, b"Adobe\0d\0\0\0\0\0"), "RGB", b"\1\2\3", RGB),
            (segment(0xEE, b"Adobe\0d\0\0\0\0\0") + segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"), "RGB", b"\1\2\3", RGB),
            (segment(0xEE, b"Adobe\0d\0\0"), "YBR_FULL", b"\1\2\3", YBR),
        ],
    )
    def test_colour_space(
        self, before: bytes, photometric: str, keys: bytes, expected: tuple[tuple[int, ...], ...]
    ) -> None:
        """Adobe's segment decides before JFIF's, then the names of the components, then the header of the object."""
        made = picture(2, 16, 24, ((1, 1),) * 3)
        frame = slow_jpeg.write(_renamed(made, keys), [list(keys)], before=before)

        check(frame, mask_frame(frame, CORNER, layout(16, 24, 3, photometric=photometric)), CORNER, expected)

    def test_colour_space_is_known_before_the_first_scan(self) -> None:
        made = picture(2, 16, 24, ((1, 1),) * 3)
        frame = slow_jpeg.write(made, [[1], [2], [3]])
        at = frame.rindex(b"\xff\xda")
        late = frame[:at] + segment(0xEE, b"Adobe\0d\0\0\0\0\0") + frame[at:]

        check(late, mask_frame(late, CORNER, layout(16, 24, 3)), CORNER, YBR)

    def test_subsampled_chrominance_is_no_red_green_or_blue(self) -> None:
        made = picture(2, 16, 24, ((2, 1), (1, 1), (1, 1)))
        frame = slow_jpeg.write(made, [[1, 2, 3]], before=segment(0xEE, b"Adobe\0d\0\0\0\0\0"))

        check(frame, mask_frame(frame, CORNER, layout(16, 24, 3, photometric="RGB")), CORNER, YBR)


def _renamed(made: slow_jpeg.Picture, keys: bytes) -> slow_jpeg.Picture:
    names = dict(zip(made.components, keys, strict=True))
    return made._replace(
        components={names[key]: one for key, one in made.components.items()},
        blocks={(names[key], row, column): block for (key, row, column), block in made.blocks.items()},
    )


def _one_block(precision: int, step: int, photometric: str) -> NDArray[np.generic]:
    frame = slow_jpeg.write(picture(step, 8, 8, ((1, 1),), precision, (step, step)), [[1]])
    masked = mask_frame(frame, CORNER, layout(8, 8, 1, bits=precision, photometric=photometric))
    made: NDArray[np.generic] = imagecodecs.jpeg8_decode(masked)
    return made


class TestHuffmanTables:
    """Codes that a mask needs are added; those that were there stay (T.81 C.2)."""

    def test_missing_codes(self) -> None:
        """A table that has but the symbols of its scan gets the others, and every old code decodes as before."""
        blocks = {(1, row, column): (-1 if column % 2 else 1, *[0] * 62, 1) for row in range(4) for column in range(4)}
        made = slow_jpeg.Picture(8, 32, 32, {1: slow_jpeg.Component(1, 1, (1,) * 64)}, blocks)
        frame, form = slow_jpeg.write(made, [[1]]), layout(32, 32, 1)
        boxes = (Box(0, 32, 0, 32),)

        for area_ in (CORNER, boxes):
            masked = mask_frame(frame, area_, form)
            check(frame, masked, area_, GREY)
            assert look(frame, masked, area_)
            for old, new in zip(_tables(frame), _tables(masked), strict=True):
                assert new[:16] == old[:16]
                assert new[17:].startswith(old[17:])
        assert len(mask_frame(frame, boxes, form)) > len(frame)

    def test_complete_tables_stay(self) -> None:
        frame, form = encoded(2)

        assert _tables(mask_frame(frame, CORNER, form)) == _tables(frame)

    def test_no_room(self) -> None:
        """One code of each length leaves nothing but ones, which no code may be; 255 codes of a length are the most."""
        frame, form = encoded(None)
        for full in (slow_jpeg.table(range(1, 17), range(1, 17)), slow_jpeg.table(range(1, 256), [16] * 255)):
            wrong = changed(frame, 0xC4, lambda payload, full=full: payload[:1] + full)  # type: ignore[misc]
            assert "no room" in refused(wrong, form)

    @pytest.mark.parametrize(
        "table",
        [
            b"\0" + slow_jpeg.table((0, 1), (1, 1)),
            b"\0" + slow_jpeg.table((0, 1, 2), (1, 2, 2)),
            b"\x10" + bytes([255] * 16) + bytes(255 * 16),
            b"\x10" + bytes([0] * 14 + [2, 255]) + bytes(257),
            b"\x04" + slow_jpeg.table((0, 1), (2, 2)),
            b"\x20" + slow_jpeg.table((0, 1), (2, 2)),
            b"\0" + slow_jpeg.table((0, 16), (2, 2)),
            b"\0" + slow_jpeg.table((0, 1), (2, 2))[:-1],
            b"\0\0\1",
        ],
    )
    def test_broken_tables(self, table: bytes) -> None:
        frame, form = encoded(None)

        assert "broken quantization or Huffman table" in refused(changed(frame, 0xC4, lambda _: table), form)

    @pytest.mark.parametrize(
        "table", [b"\x04" + bytes(64), b"\x20" + bytes(192), b"\0" + bytes(63), b"\x10" + bytes(64)]
    )
    def test_broken_quantization(self, table: bytes) -> None:
        frame, form = encoded(None)

        assert "broken quantization" in refused(changed(frame, 0xDB, lambda _: table), form)

    @pytest.mark.parametrize(("precision", "value"), [(8, 1 << 11), (12, 1 << 15)])
    def test_dc_categories_over_the_limit(self, precision: int, value: int) -> None:
        """Twelve bits are too many for 8-bit images, and sixteen for 12-bit ones (T.81 F.1.2.1.1)."""
        made = picture(3, 8, 16, ((1, 1),), precision)
        made.blocks[1, 0, 1] = (made.blocks[1, 0, 0][0] + value, *[0] * 63)

        assert "Huffman" in refused(slow_jpeg.write(made, [[1]]), layout(8, 16, 1, bits=precision))

    @pytest.mark.parametrize(("precision", "value"), [(8, 1 << 10), (12, 1 << 14)])
    def test_ac_categories_over_the_limit(self, precision: int, value: int) -> None:
        made = picture(3, 8, 16, ((1, 1),), precision)
        made.blocks[1, 0, 1] = (0, value, *[0] * 62)
        frame, form = slow_jpeg.write(made, [[1]]), layout(8, 16, 1, bits=precision)

        assert "means nothing" in refused(frame, form)
        made.blocks[1, 0, 1] = (0, value - 1, *[0] * 62)
        frame = slow_jpeg.write(made, [[1]])
        check(frame, mask_frame(frame, CORNER[:1], form), CORNER, GREY)

    def test_symbols_of_other_processes(self) -> None:
        """Zeros without a coefficient behind them are progressive, unless they are 16 (T.81 F.1.2.2.1, G.1.2.2)."""
        made = picture(1, 8, 8, ((1, 1),))
        made.blocks[1, 0, 0] = (0,) * 64
        frame = slow_jpeg.write(made, [[1]])
        scan = list(slow_jpeg.segments(frame))[-1][2]
        assert frame.endswith(scan + b"\xff\xd9")
        # 21 times three zeros
        wrong = frame[: -len(scan) - 2] + bytes(5) + b"\x1f\xff\xd9"
        wrong = changed(wrong, 0xC4, lambda payload: payload[:1] + slow_jpeg.table([0x20], [2]))

        assert "means nothing" in refused(wrong, layout(8, 8, 1))

    def test_no_code_for_the_step_back_from_black(self) -> None:
        """A coefficient so bright that its distance from black has no category."""
        made = picture(3, 8, 24, ((1, 1),), 8, (1, 1))
        made.blocks[1, 0, 0], made.blocks[1, 0, 1] = (0,) * 64, (1500, *[0] * 63)
        made.blocks[1, 0, 2] = made.blocks[1, 0, 0]

        assert "DC coefficient out of range" in refused(
            slow_jpeg.write(made, [[1]]), layout(8, 24, 1), (Box(0, 8, 0, 8),)
        )


def _tables(frame: bytes) -> list[bytes]:
    return [payload for marker, payload, _ in slow_jpeg.segments(frame) if marker == 0xC4]


class TestWhatElseIsInAFrame:
    """Nothing leaves but what a decoder needs."""

    def test_segments_without_need_go(self) -> None:
        """Comments, application data, thumbnails, tables that no scan uses, and bytes between and behind."""
        frame, form = encoded(2)
        plain = mask_frame(frame, CORNER, form)
        secret = b"QUASTELBERRY" * 6
        thumbnail = b"JFIF\0\1\1\0\0\1\0\1\4\6" + secret
        added = [
            segment(0xE1, b"Exif\0\0" + secret), segment(0xFE, secret), segment(0xEE, secret), segment(0xE0, secret),
            segment(0xDB, b"\2" + secret[:64]), segment(0xC4, b"\x13" + slow_jpeg.table(secret[:1], [3])), b"\xff" * 7,
        ]  # fmt: skip
        old = next(payload for marker, payload, _ in slow_jpeg.segments(frame) if marker == 0xE0)
        full = frame.replace(segment(0xE0, old), segment(0xE0, thumbnail) + b"".join(added))
        full = full[:-2] + secret + b"\xff\xff\xff\xd9" + secret

        assert mask_frame(full, CORNER, form) == plain
        assert b"JFIF" in plain

    def test_adobe_segment_stays_without_its_tail(self) -> None:
        made = slow_jpeg.write(
            picture(2, 16, 24, ((1, 1),) * 3), [[1, 2, 3]], before=segment(0xEE, b"Adobe\0d\0\0\0\0\1QUASTELBERRY")
        )

        masked = mask_frame(made, CORNER, layout(16, 24, 3))

        assert segment(0xEE, b"Adobe\0d\0\0\0\0\1") in masked
        assert b"QUAST" not in masked

    def test_end_is_added(self) -> None:
        """PS3.5 wants EOI; frames that merely lack it are whole."""
        frame, form = encoded(1, restart_marker_blocks=3)

        for end in (b"", b"\0", b"\xff", b"\xff\xff"):
            assert mask_frame(frame[:-2] + end, CORNER, form) == mask_frame(frame, CORNER, form)

    def test_last_coefficient_given_as_0(self) -> None:
        """Some encoders do, all decoders read it; it is mended."""
        frame, form = encoded(None)
        wrong = changed(frame, 0xDA, lambda payload: payload[:-3] + bytes(3))

        assert mask_frame(wrong, CORNER, form) == mask_frame(frame, CORNER, form)

    def test_what_was_masked_has_no_influence(self) -> None:
        """Two frames that differ only under the mask become one, restart markers or not."""
        for interval in (0, 3):
            made = picture(9, 40, 40, ((2, 2), (1, 1), (1, 1)))
            boxes, other = (Box(0, 20, 10, 30),), picture(10, 40, 40, ((2, 2), (1, 1), (1, 1)))
            mixed = {place: (other if made.masked(place, boxes) else made).blocks[place] for place in made.blocks}
            both = [
                mask_frame(frame, boxes, layout(40, 40, 3))
                for frame in (_coded(made, interval), _coded(made._replace(blocks=mixed), interval))
            ]
            assert both[0] == both[1]


def _coded(made: slow_jpeg.Picture, interval: int) -> bytes:
    """Write a picture with tables that hold every symbol."""
    symbols = [run << 4 | size for run in range(16) for size in range(11) if size or run in (0, 15)]
    return slow_jpeg.write(made, [[1, 2, 3]], interval, symbols=(range(12), symbols))


class TestRefusals:
    """What is broken or not understood never leaves."""

    @pytest.mark.parametrize(
        ("marker", "change", "words"),
        [
            (0xC0, lambda p: put(p, 0, 12), "the process does not have"),
            (0xC0, lambda p: put(p, 1, 0, 0), "DNL"),
            (0xC0, lambda p: put(p, 2, 51), "Rows"),
            (0xC0, lambda p: put(p, 4, 71), "Rows"),
            (0xC0, lambda p: put(p[:9], 5, 1), "Samples per Pixel"),
            (0xC0, lambda p: put(p + p[6:9], 5, 4), "one or three"),
            (0xC0, lambda p: p + b"\0", "wrong length"),
            (0xC0, lambda p: p[:4], "wrong length"),
            (0xC0, lambda p: put(p, 6, p[9]), "same identifier"),
            (0xC0, lambda p: put(p, 7, 0x01), "sampling factors"),
            (0xC0, lambda p: put(p, 7, 0x20), "sampling factors"),
            (0xC0, lambda p: put(p, 7, 0x51), "sampling factors"),
            (0xC0, lambda p: put(p, 7, 0x44), "more blocks"),
            (0xC0, lambda p: put(p, 8, 2), "table is missing"),
            (0xDA, lambda p: put(p, 2, 0x20), "table is missing"),
            (0xDA, lambda p: put(p, 2, 0x02), "table is missing"),
            (0xDA, lambda p: put(p, 2, 0x0F), "table is missing"),
            (0xDA, lambda p: put(p, 1, 77), "unknown components"),
            (0xDA, lambda p: put(p, 1, p[3]), "unknown components"),
            (0xDA, lambda _: b"\0\0\x3f\0", "unknown components"),
            (0xDA, lambda p: put(p, 0, 2), "sequential scan"),
            (0xDA, lambda p: put(p, -3, 1), "sequential scan"),
            (0xDA, lambda p: put(p, -2, 5), "sequential scan"),
            (0xDA, lambda p: p[:-1] + b"\1", "sequential scan"),
            (0xDA, lambda _: b"", "sequential scan"),
            (0xDA, lambda _: bytes(600), "sequential scan"),
            (0xDA, lambda _: b"\1\1\0\2\0\x3f\0", "sequential scan"),
            (0xDB, lambda p: put(p, 1, 0), "no DC coefficient"),
        ],
    )
    def test_headers(self, marker: int, change: Callable[[bytes], bytes], words: str) -> None:
        frame, form = encoded(0)

        assert words in refused(changed(frame, marker, change), form)

    @pytest.mark.parametrize(
        ("added", "words"),
        [
            (segment(0xC2, bytes(15)), "progressive"), (segment(0xC3, bytes(15)), "lossless"),
            (segment(0xC9, bytes(15)), "arithmetic"), (segment(0xCC, bytes(2)), "arithmetic"),
            (segment(0xC5, bytes(15)), "hierarchical"), (segment(0xDC, bytes(2)), "DNL"),
            (segment(0xDD, bytes(3)), "not understood"), (segment(0xF0, bytes(3)), "not understood"),
            (b"\xff\xd8\0\2", "not understood"), (b"\xff\xd0\0\2", "not understood"),
            (b"\xff\x01\0\2", "not understood"),
            (b"\0", "no marker"), (b"\xff\xfe\0\1", "beyond"), (b"\xff\xfe\xff\xff", "beyond"),
            (segment(0xC0, b"\x08" + bytes([0, 50, 0, 70]) + b"\1\1\x11\0"), "two frame headers"),
            (segment(0xDA, b"\1\1\0\0\x3f\0"), "a scan before"),
        ],
    )  # fmt: skip
    def test_segments(self, added: bytes, words: str) -> None:
        frame, form = encoded(None)

        assert words in refused(frame[:2] + added + frame[2:], form)

    def test_not_jpeg(self) -> None:
        for frame in (b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff\xd9", b"BM" + bytes(64)):
            refused(frame, layout(8, 8, 1))

    def test_bits_stored_must_fit(self) -> None:
        eight, form = encoded(None)
        twelve = slow_jpeg.write(picture(1, 16, 16, ((1, 1),), 12), [[1]])

        assert "Bits Stored" in refused(eight, form._replace(allocated=16, stored=12))
        assert "Bits Stored" in refused(twelve, layout(16, 16, 1, bits=8))
        assert "Bits Stored" in refused(twelve, layout(16, 16, 1, bits=16))

    def test_a_component_without_a_scan(self) -> None:
        made = picture(1, 16, 16, ((1, 1),) * 3)

        assert "missing" in refused(slow_jpeg.write(made, [[1], [3]]), layout(16, 16, 3))

    def test_a_component_in_two_scans(self) -> None:
        made = picture(1, 16, 16, ((1, 1),) * 3)

        assert "already" in refused(slow_jpeg.write(made, [[1], [2, 1], [3]]), layout(16, 16, 3))

    @pytest.mark.parametrize("interval", [0, 2])
    def test_every_truncation(self, interval: int) -> None:
        """A frame cut anywhere is refused, unless nothing but the end of image is gone."""
        frame = slow_jpeg.write(picture(1, 20, 20, ((2, 1), (1, 1), (1, 1))), [[1], [2, 3]], interval)
        form = layout(20, 20, 3)
        whole = mask_frame(frame, CORNER, form)

        for cut in range(len(frame)):
            if cut < len(frame) - 2:
                refused(frame[:cut], form)
            else:
                assert mask_frame(frame[:cut], CORNER, form) == whole

    def test_restart_markers(self) -> None:
        frame, form = encoded(None, restart_marker_blocks=3)
        at, last = frame.index(b"\xff\xd2"), max([frame.rindex(bytes([0xFF, 0xD0 + number])) for number in range(8)])

        for wrong in (
            frame[:at] + frame[at + 2 :],
            frame[: at + 1] + b"\xd3" + frame[at + 2 :],
            frame[: at + 2] + frame[at:],
            frame[:-2] + b"\xff\xd3\xff\xd9",
            frame[:last] + frame[last + 2 :],
        ):
            assert "restart markers" in refused(wrong, form)
        plain, _ = encoded(None)
        assert "restart markers" in refused(plain[:-2] + b"\xff\xd0\xff\xd9", form)

    def test_more_than_64_coefficients(self) -> None:
        """A run of zeros that leads out of the block."""
        made = picture(1, 8, 8, ((1, 1),))
        made.blocks[1, 0, 0] = (5, *[*[0] * 14, 1] * 4, 0, 0, 0)
        frame = slow_jpeg.write(made, [[1]])
        wrong = changed(frame, 0xC4, lambda payload: payload[:-1] + b"\xf1")

        assert len(_tables(frame)[-1]) == 17 + 2
        assert "more than 64" in refused(wrong, layout(8, 8, 1))

    def test_absurd_sizes_cost_nothing(self) -> None:
        """Memory is bound by what the data can hold, not by what the header says."""
        form = layout(65535, 65535, 3)
        frame = changed(encoded(2)[0], 0xC0, lambda payload: put(payload, 1, 255, 255, 255, 255))
        refused(frame, form)
        tracemalloc.start()
        try:
            assert "more blocks" in refused(frame, form)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_a_gigapixel_is_too_much(self) -> None:
        side = 32769
        frame, _ = encoded(None)
        frame = changed(
            frame, 0xC0, lambda payload: put(payload, 1, *side.to_bytes(2, "big"), *side.to_bytes(2, "big"))
        )

        with pytest.raises(Quarantined) as caught:
            mask_frame(frame[:-2] + bytes(1 << 23), CORNER, layout(side, side, 1))

        assert caught.value.reason is Reason.TOO_LARGE

    def test_broken_frames(self) -> None:
        """Whatever is wrong with a frame, it is refused, or it leaves as it must."""
        ends = fuzz_jpeg.main(2000, 20)

        assert ends["masked"] > 100
        assert len(ends) > 15


class TestAligned:
    """The area that is really masked."""

    @pytest.mark.parametrize(("subsampling", "down", "across"), [(None, 8, 8), (0, 8, 8), (1, 8, 16), (2, 16, 16)])
    def test_boxes_grow_to_whole_mcus(self, subsampling: int | None, down: int, across: int) -> None:
        frame, _ = encoded(subsampling)

        assert aligned(frame, (Box(5, 6, 17, 18),)) == (Box(0, down, 16, 16 + across),)
        assert aligned(frame, (Box(49, 50, 69, 70),)) == (Box(48, 50, 64, 70),)
        assert aligned(frame, (Box(0, 1, 0, 1), Box(1, 2, 1, 2))) == (Box(0, down, 0, across),)
        assert aligned(frame, ()) == ()

    def test_no_frame_header(self) -> None:
        with pytest.raises(Quarantined, match="no frame header"):
            aligned(b"\xff\xd8\xff\xd9", CORNER)


class TestInterpreted:
    """Without numba the result is the same, byte by byte."""

    def test_same_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = random.Random(3)  # noqa: S311
        sources = fuzz_jpeg.frames(rng)
        sources += [(fuzz_jpeg.mutated(rng, frame, sources[0][0]), form) for frame, form in sources * 4]
        first = [_outcome(*source) for source in sources]
        for name in ("_unstuffed", "_edits", "_spliced"):
            monkeypatch.setattr(jpeg, name, getattr(jpeg, name).interpreted)

        assert [_outcome(*source) for source in sources] == first

    def test_nothing_is_written_beyond_the_end(self) -> None:
        """The room for the result is checked, and not only computed."""
        words, out = np.full(9, 0xFFFFFFFF, np.int64), np.zeros(40, np.uint8)
        edits = np.array([256, 256, 0, -1], np.int64)
        for spliced in (jpeg._spliced, jpeg._spliced.interpreted):  # type: ignore[attr-defined]
            out[:] = 7
            assert spliced(words, edits, 1, out[:30]) == -6
            assert (out[30:] == 7).all()


def _outcome(frame: bytes, form: Layout) -> bytes | str:
    try:
        return mask_frame(frame, fuzz_jpeg.BOXES, form)
    except Quarantined as caught:
        return caught.detail

"""What finders say of an image: by its header, declared regions, codes and overlays; and what is not searched."""

from __future__ import annotations

import copy
import csv
import re
import struct
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from factories import HOSPITAL, NAME, PATIENT_ID, ct, encoded, raw, raw_ct, raw_item, shared
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from dicomshield import Deidentifier, Option, Profile, Quarantined
from dicomshield.encoding.elements import Element
from dicomshield.encoding.scan import Scanner, Verdict
from dicomshield.encoding.source import Source
from dicomshield.errors import Reason
from dicomshield.finders import burned_in, devices, gate, overlays, ultrasound
from dicomshield.finders.barcode import Barcodes
from dicomshield.finders.devices import Devices
from dicomshield.finders.finder import Found, Image, spread
from dicomshield.finders.ultrasound import UltrasoundRegions
from dicomshield.identity.known import Harvest, Shared, known_spellings
from dicomshield.opened import opened, pixel_element
from dicomshield.pixels.decode import Frames
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Region, Shape, compiled
from dicomshield.pixels.rules import MaskRule
from dicomshield.profile import FACTS, vr_of
from dicomshield.standard import tables

TAGS = FACTS | burned_in.TAGS | devices.tags() | ultrasound.TAGS | overlays.TAGS | gate.TAGS
US_IMAGE, CT_IMAGE = "1.2.840.10008.5.1.4.1.1.6.1", "1.2.840.10008.5.1.4.1.1.2"


def note(tag: int, _: bytes) -> Verdict:
    return Verdict.NOTE if tag in TAGS or tag >> 24 == 0x60 else Verdict.KEEP


def scanner(*, explicit: bool) -> Scanner:
    return Scanner(note, vr_of, explicit=explicit)


def image(data: bytes, *known: Harvest) -> Image:
    container, scan, header = opened(Source.of(data), scanner, TAGS)
    element = pixel_element(scan)
    assert element is not None
    frames = Frames(container.source, element, Layout.of(header), container.transfer_syntax)
    sop_class = header[0x00080016].decode().strip("\0")
    return Image(header, sop_class, frames, container.source, scan, known_spellings((Shared(known),)))


def grey(frame: NDArray[Any], **changes: Any) -> Dataset:
    """Return a CT of 16 bits that shows a frame, or several."""
    rows, columns = frame.shape[-2:]
    ds = ct(rows=rows, columns=columns, BitsStored=16, HighBit=15, **changes)
    ds.PixelData = frame.astype("<u2").tobytes()
    if frame.ndim == 3:
        ds.NumberOfFrames = len(frame)
    return ds


def covered(found: Found, rows: int, columns: int) -> NDArray[np.bool_]:
    canvas = np.zeros((rows, columns), bool)
    for plan in compiled(found.shapes, rows, columns, 1):
        for top, bottom, left, right in plan.boxes:
            canvas[top:bottom, left:right] = True
    return canvas


def us(rows: int = 600, columns: int = 800, regions: Sequence[tuple[int, int, int, int]] = (), **changes: Any) -> Image:
    """Return an ultrasound image that declares regions: first column and row, last column and row."""
    ds = grey(np.zeros((rows, columns), np.uint16), SOPClassUID=US_IMAGE, Modality="US", **changes)
    ds.SequenceOfUltrasoundRegions = Items([region(*corners) for corners in regions])
    return image(encoded(ds))


def region(left: int, top: int, right: int, bottom: int) -> Dataset:
    item = Dataset()
    item.RegionSpatialFormat, item.RegionDataType, item.RegionFlags = 1, 1, 2
    item.RegionLocationMinX0, item.RegionLocationMinY0 = left, top
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = right, bottom
    return item


# devices


def test_the_facts_are_rules_of_a_policy() -> None:
    """Every block is read by the reader of policies, and every set names its source in its first line."""
    sets = devices.rule_sets()

    assert sum(map(len, sets)) > 340
    assert len({rule.when for rule_set in sets for rule in rule_set}) > 300
    for path in sorted(devices._DATA.glob("*.toml")):
        first = path.read_text("utf-8").splitlines()[0]
        assert first.startswith("# Regions of devices that carry text, by ")
        assert any(word in first for word in ("@", "1.4.2", "0.4.9"))


def by_header(rows: int, columns: int, **values: str) -> Image:
    """Return an image of which there is nothing but a header."""
    header = {tables.keywords()[keyword]: value.encode() for keyword, value in values.items()}
    header |= {0x00280010: struct.pack("<H", rows), 0x00280011: struct.pack("<H", columns)}
    layout = Layout(rows, columns, 1, 1, 16, 16, signed=False, planar=False, photometric="MONOCHROME2", black=(0,))
    nothing = Element(0x7FE00010, b"OW", 0, 0, 0, explicit=True)
    return Image(header, US_IMAGE, Frames(Source.of(b""), nothing, layout, "1.2.840.10008.1.2.1"))


def test_every_rule_of_the_facts_is_there() -> None:
    """What a row of the public facts says of a device, by maker, model and size, is masked, or more."""
    path = shared() / "standard" / "burned_in_rules.csv"
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    simple = [
        row
        for row in rows
        if (row["effect"], row["other_conditions"], row["software"]) == ("mask", "", "")
        and re.fullmatch("[0-9]+", row["rows"])
        and all(re.fullmatch("(~i|=)[^|&~]+|", row[key]) for key in ("modality", "manufacturer", "model"))
        and row["modality"] != "~iMRI"  # CXDI, written CXD1
    ]
    for row in simple:
        modality, maker, model = (re.sub("^(~i|=)", "", row[key]) for key in ("modality", "manufacturer", "model"))
        high, wide = int(row["rows"]), int(row["columns"] or 1200)
        device = by_header(high, wide, Modality=modality, Manufacturer=maker, ManufacturerModelName=model)
        seen = covered(Devices().find(device), high, wide)
        for box in row["regions_xywh"].split(";"):
            x, y, width, height = map(int, box.split(","))
            assert seen[y : y + height, x : x + width].all(), (row["source"], row["rule"])
    assert len(simple) > 110


def test_rule_sets_are_put_together() -> None:
    """Of each set the first rule counts; where sets differ, the device's banner is what any of them says."""
    found = Devices().find(
        by_header(768, 1024, Modality="US", Manufacturer="GE Medical Systems", ManufacturerModelName="LOGIQ9")
    )
    seen = covered(found, 768, 1024)

    assert seen[:60, 60:660].all()  # CTP's example
    assert seen[:67, :712].all()  # dicom-dre, 768 x 1024
    assert not seen[70:].any()
    assert not found.covers
    assert "CTP 018 Logiq US" in found.note
    assert "dicom-dre 114 GE LOGIQ9 US" in found.note


def test_a_rule_of_the_site_comes_first_and_alone() -> None:
    own = MaskRule("ours", (), (Region(5, 5, 6, 6),))
    seen = by_header(768, 1024, Modality="US", ManufacturerModelName="LOGIQ9")

    assert Devices([own]).find(seen) == Found((Region(5, 5, 6, 6),), note="ours")


def test_a_banner_outside_the_frame_is_no_mask() -> None:
    """A mask that touches nothing would hold the object back as broken."""
    rule = MaskRule("ours", (), (Region(100, 0, 120, 8),))

    assert Devices([rule]).find(by_header(8, 8)) == Found(note="ours: every region lies outside the frame")
    assert Devices().find(by_header(8, 8)) == Found(note="no rule for this device")


# suspicion


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Manufacturer": "VIDAR Systems"}, "film scanner"),
        ({"ManufacturerModelName": "Faxitron Trident"}, "film scanner"),
        ({"ImageType": ["DERIVED", "PRIMARY", "MRSC"], "Modality": "MR"}, "Image Type"),
        ({"Modality": "BMD"}, "Modality BMD"),
    ],
)
def test_what_rule_sets_reject_is_suspect(changes: dict[str, Any], why: str) -> None:
    seen = image(encoded(ct(**changes)))

    assert why in str(burned_in.suspicion(seen.header, seen.sop_class))
    assert burned_in.suspicion(image(encoded(ct())).header, CT_IMAGE) is None


# ultrasound


def test_everything_outside_the_declared_regions_goes() -> None:
    """PS3.3 C.8.5.5.1: the last column and row of a region belong to it."""
    found = UltrasoundRegions().find(us(regions=[(100, 60, 500, 400), (450, 300, 700, 599)]))
    seen = covered(found, 600, 800)
    inside = np.zeros((600, 800), bool)
    inside[60:401, 100:501] = inside[300:600, 450:701] = True

    assert (seen == ~inside).all()
    assert not found.covers
    assert found.note == "outside 2 declared regions"


def test_the_size_of_the_frame_may_stand_for_its_last_pixel() -> None:
    seen = covered(UltrasoundRegions().find(us(regions=[(100, 60, 800, 600)])), 600, 800)

    assert not seen[60:, 100:].any()
    assert seen[:60].all()


@pytest.mark.parametrize(
    ("regions", "note"),
    [
        ([], "no region is declared"),
        ([(0, 0, 799, 599)], "the declared regions fill the frame"),
        ([(100, 60, 99, 400)], "not used: 1 of 1 declared regions do not fit the frame"),
        ([(100, 60, 500, 400), (100, 60, 801, 400)], "not used: 1 of 2 declared regions do not fit the frame"),
        ([(800, 0, 800, 10)], "not used: 1 of 1 declared regions do not fit the frame"),
        ([(0xFFFFFFFF, 0, 0xFFFFFFFF, 10)], "not used: 1 of 1 declared regions do not fit the frame"),
        ([(1, 1, 5, 5)] * 65, "not used: more than 64 regions are declared"),
    ],
)
def test_regions_that_cannot_be_are_not_believed(regions: list[tuple[int, int, int, int]], note: str) -> None:
    """Cropped and scaled images keep regions of another size: none of them is a reason to mask, or not to look."""
    assert UltrasoundRegions().find(us(regions=regions)) == Found(note=note)


@pytest.mark.parametrize("undefined", [False, True])
def test_regions_are_read_as_they_are_encoded(undefined: bool) -> None:
    """Items of undefined length, corners of a wrong length, and corners that are missing."""
    whole = b"".join(raw(tag, "UL", struct.pack("<I", at)) for tag, at in zip(CORNERS, (1, 2, 5, 6), strict=True))
    short = raw(CORNERS[0], "UL", b"\1\0") + whole[12:]
    for content, expected in ((whole, "outside 1"), (short, "not used"), (whole[12:], "not used")):
        sequence = raw(0x00186011, "SQ", raw_item(content, undefined=undefined), undefined=undefined)
        found = UltrasoundRegions().find(image(raw_ct({0x00186011: sequence})))

        assert found.note.startswith(expected)
    assert covered(UltrasoundRegions().find(image(raw_ct({0x00186011: sequence}))), 8, 8).sum() == 0


CORNERS = (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E)


def test_regions_are_found_in_a_header_that_repeats() -> None:
    """Objects of a series are read by what they have in common; the regions lie in it."""
    data = encoded(grey(np.zeros((600, 800), np.uint16)))
    ds = pydicom.dcmread(BytesIO(data))
    ds.SequenceOfUltrasoundRegions = Items([region(100, 60, 500, 400)])
    learning = Scanner(note, vr_of, explicit=True, breaks=(0x00200000, 0x7FE00000))

    def same(*, explicit: bool) -> Scanner:
        assert explicit
        return learning

    notes = []
    for number in range(1, 6):
        one = copy.deepcopy(ds)
        one.SOPInstanceUID = f"1.2.3.{number}"
        source = Source.of(encoded(one))
        container, scan, header = opened(source, same, TAGS)
        element = pixel_element(scan)
        assert element is not None
        frames = Frames(container.source, element, Layout.of(header), container.transfer_syntax)
        notes.append(UltrasoundRegions().find(Image(header, "", frames, container.source, scan)).note)

    assert learning.stretches is not None
    assert learning.stretches.known
    assert notes == ["outside 1 declared regions"] * 5


def test_a_long_sequence_is_no_fact_that_is_too_large() -> None:
    """Sixty regions take more than the 4 KiB of a fact."""
    found = UltrasoundRegions().find(us(regions=[(at, 0, at, 9) for at in range(60)]))

    assert covered(found, 600, 800).sum() == 600 * 800 - 600


# barcodes


def coded(
    text: str, kind: str, rows: int = 300, columns: int = 400, low: int = 0, high: int = 4095
) -> tuple[NDArray[np.uint16], NDArray[np.bool_]]:
    """Return a noisy frame with a code, and where its dark bars are."""
    zxingcpp = pytest.importorskip("zxingcpp")
    code = zxingcpp.create_barcode(text, getattr(zxingcpp.BarcodeFormat, kind))
    drawn = np.array(code.to_image(scale=2, add_quiet_zones=True))[:80]
    frame = np.random.default_rng(7).normal(900, 40, (rows, columns))
    high_, wide = drawn.shape
    frame[150 : 150 + high_, 60 : 60 + wide] = np.where(drawn > 127, high, low)
    dark = np.zeros(frame.shape, bool)
    dark[150 : 150 + high_, 60 : 60 + wide] = drawn <= 127
    return frame.clip(0, 4095).astype(np.uint16), dark


@pytest.mark.parametrize("kind", ["Code128", "Code39", "QRCode", "DataMatrix", "PDF417", "Aztec", "ITF"])
def test_a_code_is_covered_with_its_quiet_zone(kind: str) -> None:
    frame, dark = coded(PATIENT_ID, kind)
    for turned in (0, 1):
        turned_frame, bars = np.rot90(frame, turned), np.rot90(dark, turned)
        found = Barcodes().find(image(encoded(grey(turned_frame))))
        seen = covered(found, *bars.shape)

        assert seen[bars].all()
        assert seen.mean() < 0.5
        assert not found.covers


@pytest.mark.parametrize(("low", "high"), [(1000, 1500), (3000, 4095)])
def test_a_code_of_little_contrast_is_found(low: int, high: int) -> None:
    frame, dark = coded(PATIENT_ID, "Code128", low=low, high=high)

    assert covered(Barcodes().find(image(encoded(grey(frame)))), *dark.shape)[dark].all()


def test_what_a_code_says_is_known_by_kind_only() -> None:
    """Neither the finding nor anything else that is returned holds the text of the code."""
    frame, _ = coded(f"{NAME}/{PATIENT_ID}", "QRCode")
    known = (Harvest("name", NAME.encode(), b""), Harvest("identifier", PATIENT_ID.encode(), b""))

    found = Barcodes().find(image(encoded(grey(frame)), *known))

    assert {finding.kind for finding in found.findings} == {"name", "identifier"}
    assert PATIENT_ID not in repr(found)
    assert NAME.partition("^")[0].lower() not in repr(found).lower()
    assert Barcodes().find(image(encoded(grey(frame)), Harvest("institution", HOSPITAL.encode(), b""))).findings == ()


def test_a_code_in_the_last_frame_is_found() -> None:
    frame, dark = coded(PATIENT_ID, "QRCode")
    empty = np.random.default_rng(1).normal(900, 40, (11, *frame.shape)).astype(np.uint16)
    loop = np.concatenate([empty, frame[None]])

    found = Barcodes().find(image(encoded(grey(loop))))

    assert covered(found, *dark.shape)[dark].all()
    assert found.note == "looked for in 8 frames"
    assert Barcodes().find(image(encoded(grey(empty)))).shapes == ()


def test_frames_are_spread_from_the_first_to_the_last() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(100, 5) == [0, 25, 50, 74, 99]
    assert spread(0, 8) == []


# overlays


def overlaid(bits: NDArray[np.bool_], frames: int = 1, **changes: Any) -> Image:
    ds = ct(**changes)
    ds.add_new(0x60000010, "US", bits.shape[-2])
    ds.add_new(0x60000011, "US", bits.shape[-1])
    ds.add_new(0x60000015, "IS", frames)
    ds.add_new(0x60003000, "OW", np.packbits(bits.ravel(), bitorder="little").tobytes())
    return image(encoded(ds))


def test_an_overlay_is_drawn_bit_by_bit() -> None:
    """PS3.5 8.1.2: the first pixel is the lowest bit; frames follow each other without a gap."""
    bits = np.random.default_rng(2).random((2, 7, 13)) < 0.5

    frames = overlays.bitmaps(overlaid(bits, 2), 0x60003000)

    assert len(frames) == 2
    for frame, drawn in zip(frames, bits, strict=True):
        assert (frame[8:-8, 8:-8] == np.where(drawn, 255, 0)).all()


def test_an_overlay_that_is_kept_must_not_carry_text() -> None:
    seen: list[tuple[int, str]] = []

    def detect(frames: Sequence[NDArray[Any]], photometric: str) -> tuple[Shape, ...]:
        seen.append((len(frames), photometric))
        return (Region(0, 0, 1, 1),)

    object_ = overlaid(np.ones((4, 4), bool))
    overlays.refuse_text(object_, [0x00081030, 0x60023000], detect)
    assert seen == []

    with pytest.raises(Quarantined, match=r"text in an overlay that the policy keeps, \(6000,3000\)") as held:
        overlays.refuse_text(object_, [0x60003000], detect)
    assert held.value.reason is Reason.BURNED_IN
    assert seen == [(1, "MONOCHROME2")]
    overlays.refuse_text(object_, [0x60003000], lambda *_: ())


@pytest.mark.parametrize("frames", [0, 2, 1 << 30])
def test_an_overlay_that_cannot_be_looked_at_is_held_back(frames: int) -> None:
    with pytest.raises(Quarantined, match="an overlay that cannot be looked at"):
        overlays.bitmaps(overlaid(np.ones((16, 16), bool), frames), 0x60003000)


def test_bits_that_hold_no_pixel_value_are_seen() -> None:
    """An overlay may lie there that no attribute declares; the sign of a number, repeated, is none."""
    values = np.arange(64, dtype=np.uint16).reshape(8, 8)
    negative = (values.astype(np.int16) - 32).view(np.uint16)

    def stray(pixels: NDArray[Any], stored: int, signed: int = 0) -> bool:
        ds = ct(BitsStored=stored, HighBit=stored - 1, PixelRepresentation=signed)
        ds.PixelData = pixels.astype("<u2").tobytes()
        return overlays.stray_bits(image(encoded(ds)).frames)

    assert not stray(values, 12)
    assert not stray(negative, 12, signed=1)
    assert not stray(negative, 12)
    assert stray(values | 0x8000, 12)
    assert not stray(values | 0x8000, 16)
    negative[3, 3] ^= 0x4000
    assert stray(negative, 12, signed=1)


# whole images, and images that are not searched


@pytest.mark.parametrize(("options", "reason"), [((), Reason.BURNED_IN), ((Option.CLEAN_PIXEL_DATA,), Reason.PIXELS)])
def test_video_is_held_back(tmp_path: Path, options: tuple[Option, ...], reason: Reason) -> None:
    """Nothing can be claimed of a video: it is neither decoded nor edited."""
    ds = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.77.1.1.1", Modality="ES")
    ds.PixelData = pydicom.encaps.encapsulate([bytes(64)])
    ds["PixelData"].VR = "OB"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID("1.2.840.10008.1.2.4.102")
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)

    with pytest.raises(Quarantined) as held:
        Deidentifier(Profile.basic(*options), project=tmp_path / "project").bytes(out.getvalue())
    assert held.value.reason is reason


@pytest.mark.parametrize("options", [(), (Option.CLEAN_PIXEL_DATA,)])
def test_a_document_is_replaced_and_nothing_is_claimed_of_its_pages(
    tmp_path: Path, options: tuple[Option, ...]
) -> None:
    """Pages are no pixel data (PS3.15 E.3.1): what is released in their place is an empty document."""
    ds = ct(SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1", Modality="DOC", BurnedInAnnotation="YES")
    del ds.PixelData
    ds.MIMETypeOfEncapsulatedDocument, ds.DocumentTitle = "application/pdf", f"letter for {NAME}"
    ds.ConceptNameCodeSequence = Items()
    ds.EncapsulatedDocument = b"%PDF-1.4 a page with a scanned name of nobody known "

    result = Deidentifier(Profile.basic(*options), project=tmp_path / "project").bytes(encoded(ds))

    assert b"scanned name" not in result.data
    assert "113101" not in result.report.claims
    assert pydicom.dcmread(BytesIO(result.data)).get("BurnedInAnnotation") != "NO"


def noise() -> NDArray[np.uint16]:
    return np.random.default_rng(5).normal(1000, 60, (128, 160)).astype(np.uint16)


@pytest.mark.parametrize(
    ("changes", "searched"),
    [
        ({}, False),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, True),
        ({"ImageType": ["ORIGINAL", "SECONDARY", "AXIAL"]}, True),
        ({"ImagePositionPatient": None}, True),
        ({"PixelSpacing": None}, True),
        ({"Modality": "MR"}, True),
        ({"BurnedInAnnotation": "YES"}, True),
        ({"NumberOfFrames": 2}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1"}, True),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4", "Modality": "SEG"}, False),
    ],
)
def test_only_plain_slices_are_not_searched(changes: dict[str, Any], searched: bool) -> None:
    frames = np.stack([noise()] * 2) if "NumberOfFrames" in changes else noise()

    assert (gate.skipped(image(encoded(grey(frames, **changes)))) is None) is searched


def test_a_plain_slice_with_letters_of_one_value_is_searched() -> None:
    """What a device draws has hard edges; it is seen in a slice whose header gives no hint."""
    from PIL import Image as Picture
    from PIL import ImageDraw, ImageFont

    for value in (4095, 1400, 0):
        drawn = Picture.new("1", (160, 128))
        ImageDraw.Draw(drawn).text((10, 20), "DOE JOHN", font=ImageFont.load_default(14), fill=1)
        frame = np.where(np.array(drawn), value, noise())

        assert gate.skipped(image(encoded(grey(frame)))) is None
    assert gate.skipped(image(encoded(grey(noise())))) == "a plain CT slice in which nothing is drawn"


def test_the_gate_measures_itself() -> None:
    plain, suspect = image(encoded(grey(noise()))), image(encoded(grey(noise(), BurnedInAnnotation="YES")))

    assert gate.measured([(plain, False), (plain, True), (suspect, True)]) == gate.Measured(3, 2, 2, 1)

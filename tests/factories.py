"""Objects for tests, built in code; every identity in them is made up."""

from __future__ import annotations

import copy
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicomshield import Polygon, Region
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Boxes, compiled

ROOT = Path(__file__).resolve().parents[1]
ENCODINGS = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
NAME, PATIENT_ID, BORN = "Quastelberry^Xenophon", "74839201", "19470523"
PHYSICIAN, HOSPITAL = "Grimsdottir^Ulrika", "Fennimore Harbour Hospital"
STUDY_DATE = "20190822"
UID_ROOT = "1.2.826.0.1.3680043.9.7433.1"
TOKENS = ("quastelberry", "xenophon", PATIENT_ID, BORN, "grimsdottir", "ulrika", "fennimore", "acc5550199")
"""What must never be found in anything that leaves."""


def ct(number: int = 1, *, rows: int = 8, columns: int = 8, **changes: object) -> Dataset:
    """Return a CT slice of a patient with a full set of identifiers; ``changes`` are keywords."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{UID_ROOT}.3.{number}"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = STUDY_DATE
    ds.StudyTime, ds.AcquisitionDateTime = "101530", f"{STUDY_DATE}101530.120000"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "ACC5550199", "CT", "ACME"
    ds.InstitutionName, ds.ReferringPhysicianName, ds.StationName = HOSPITAL, PHYSICIAN, "FENNIMORE1"
    ds.StudyDescription, ds.SeriesDescription = f"chest for {NAME}", "axial"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = NAME, PATIENT_ID, BORN
    ds.PatientSex, ds.PatientAge, ds.PatientComments = "M", "072Y", f"{PATIENT_ID} likes tea"
    ds.SliceThickness, ds.KVP, ds.DeviceSerialNumber = "1.25", "120", "SN8812345"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID_ROOT}.1", f"{UID_ROOT}.2"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber = "ST77881", 3, number
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = f"{UID_ROOT}.4", ""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns, ds.PixelSpacing = rows, columns, [0.5, 0.5]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.RescaleIntercept, ds.RescaleSlope = -1024, 1
    ds.PixelData = struct.pack(f"<{rows * columns}H", *((number + at) % 4096 for at in range(rows * columns)))
    ds["PixelData"].VR = "OW"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def nested(ds: Dataset, item: Dataset, depth: int = 1) -> Dataset:
    """Put ``item`` under ``depth`` levels of a sequence that no rule removes."""
    for _ in range(depth):
        outer = Dataset()
        outer.AnatomicRegionSequence = Sequence([item])
        item = outer
    ds.AnatomicRegionSequence = item.AnatomicRegionSequence
    return ds


def encoded(ds: Dataset, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """Return the file of a data set in a native transfer syntax."""
    ds = copy.deepcopy(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    if syntax == ExplicitVRBigEndian and "PixelData" in ds:
        ds.PixelData = struct.pack(
            f">{len(ds.PixelData) // 2}H", *struct.unpack(f"<{len(ds.PixelData) // 2}H", ds.PixelData)
        )
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def readable(data: bytes) -> bytes:
    """Return what a byte search of a file must see: inflated if the data set is deflated, lower case."""
    meta = pydicom.dcmread(BytesIO(data), specific_tags=["SOPClassUID"]).file_meta
    if meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian:
        start = 144 + int(meta.FileMetaInformationGroupLength)
        data = data[:start] + zlib.decompress(data[start:], -15)
    return data.lower()


def written(folder: Path, *datasets: Dataset, syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write data sets into a folder whose file names hold the patient's name, as exports do."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(datasets, start=1):
        (folder / f"{NAME.partition('^')[0]}_{number:04d}.dcm").write_bytes(encoded(ds, syntax))
    return folder


def shared() -> Path:
    """Return the folder of shared facts and corpora, or skip the test."""
    folder = Path(os.environ.get("DICOMSHIELD_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no shared material: set DICOMSHIELD_SHARED (looked in {folder.name!r} beside the project)")
    return folder


_LONG_VRS = frozenset("OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


def raw(tag: int, vr: str, value: bytes = b"", *, explicit: bool = True, undefined: bool = False) -> bytes:
    """Encode one element by PS3.5 7.1, independently of the package; ``undefined`` adds the delimiter."""
    if not undefined and len(value) & 1:
        value += b"\0" if vr in ("UI", "OB", "UN") else b" "
    length = 0xFFFFFFFF if undefined else len(value)
    if undefined:
        value += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    if not explicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length) + value
    if vr in _LONG_VRS:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length) + value
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length) + value


def raw_item(content: bytes, *, undefined: bool = False) -> bytes:
    """Encode one item (PS3.5 7.5)."""
    if undefined:
        return struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF) + content + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def raw_ct(
    extra: dict[int, bytes] | None = None,
    *,
    explicit: bool = True,
    pixels: bytes = bytes(128),
    tail: bytes = b"",
    preamble: bytes = bytes(128),
    meta: bytes = b"",
    syntax: str = "",
) -> bytes:
    """Return the file of a small CT, byte by byte; ``extra`` are encoded elements by tag, ``b""`` leaves one out."""
    values: tuple[tuple[int, str, bytes], ...] = (
        (0x00080005, "CS", b"ISO_IR 100"), (0x00080008, "CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
        (0x00080016, "UI", CTImageStorage.encode()), (0x00080018, "UI", f"{UID_ROOT}.3.1".encode()),
        (0x00080020, "DA", STUDY_DATE.encode()), (0x00080060, "CS", b"CT"), (0x00080070, "LO", b"ACME"),
        (0x00100010, "PN", NAME.encode()), (0x00100020, "LO", PATIENT_ID.encode()), (0x00100030, "DA", BORN.encode()),
        (0x00180050, "DS", b"1.25"), (0x0020000D, "UI", f"{UID_ROOT}.1".encode()),
        (0x0020000E, "UI", f"{UID_ROOT}.2".encode()), (0x00280002, "US", b"\1\0"),
        (0x00280004, "CS", b"MONOCHROME2"), (0x00280010, "US", b"\x08\0"), (0x00280011, "US", b"\x08\0"),
        (0x00280100, "US", b"\x10\0"), (0x00280101, "US", b"\x0c\0"), (0x00280102, "US", b"\x0b\0"),
        (0x00280103, "US", b"\0\0"), (0x7FE00010, "OW", pixels),
    )  # fmt: skip
    elements = {tag: raw(tag, vr, value, explicit=explicit) for tag, vr, value in values} | (extra or {})
    data_set = b"".join(elements[tag] for tag in sorted(elements)) + tail
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(wbits=-15)
        data_set = packer.compress(data_set) + packer.flush()
    syntax = syntax or (ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian)
    group = raw(0x00020001, "OB", b"\0\1") + raw(0x00020002, "UI", CTImageStorage.encode())
    group += raw(0x00020003, "UI", f"{UID_ROOT}.3.1".encode()) + raw(0x00020010, "UI", syntax.encode())
    group += raw(0x00020012, "UI", f"{UID_ROOT}.9".encode()) + meta
    return preamble + b"DICM" + raw(0x00020000, "UL", struct.pack("<I", len(group))) + group + data_set


def boxes_of(layout: Layout, *regions: Region | Polygon) -> Boxes:
    """Return regions as boxes of a frame."""
    return compiled(regions, layout.rows, layout.columns, 1)[0].boxes


def some_boxes(layout: Layout) -> Boxes:
    """Return a banner, a box inside, a pixel in a corner, and a triangle."""
    rows, columns = layout.rows, layout.columns
    return boxes_of(
        layout,
        Region(0, 0, max(rows // 8, 1), columns),
        Region(rows // 2, columns // 3, rows // 2 + max(rows // 4, 1), columns // 3 + max(columns // 4, 1)),
        Region(-1, -1, rows, columns),
        Polygon(((rows / 4, columns / 2), (rows / 2, columns), (rows / 3, columns / 8))),
    )

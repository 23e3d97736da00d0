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

"""Deterministic synthetic data for the benchmarks: CT slices, mammograms, ultrasound cines.

The header is modelled on what a clinical scanner writes: names, dates, UIDs, nested sequences, private
blocks. Every value is invented; the same arguments always give the same bytes.

Run as a script to build a folder::

    python benchmarks/data.py slices FOLDER --count 1000
    python benchmarks/data.py large FILE --gib 2
    python benchmarks/data.py mammograms FOLDER --count 20
    python benchmarks/data.py cines FOLDER --count 4 --frames 300 --coding jpeg
"""

from __future__ import annotations

import argparse
import copy
import datetime
import hashlib
import random
from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DigitalMammographyXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)

PATIENTS = 5
STUDIES_PER_PATIENT = 2
SERIES_PER_STUDY = 4
ROWS = COLUMNS = 512
FRAME_BYTES = ROWS * COLUMNS * 2
MG_ROWS, MG_COLUMNS = 5632, 4640
US_ROWS, US_COLUMNS = 768, 1024
US_DIFFERENT = 8
"""Frames of a cine that differ; they are repeated."""

_FAMILY = ("Andersson", "Brandt", "Castelli", "Dubois", "Eriksen", "Fontaine", "Grieg", "Hoffmann")
_GIVEN = ("Anna", "Bruno", "Clara", "Dario", "Elsa", "Felix", "Greta", "Hugo")
_PHYSICIANS = ("Keller^Martin^^Dr", "Lund^Sofia^^Dr", "Moreau^Julie^^Dr", "Novak^Petr^^Dr")
_PROTOCOLS = ("Thorax nativ", "Thorax KM arteriell", "Abdomen KM venoes", "Schaedel nativ")


def make_uid(*parts: object) -> str:
    """Derive a stable UID below 2.25 from the parts."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _dataset(**values: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    return _dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)


def _reference(class_uid: str, *parts: object) -> Dataset:
    return _dataset(ReferencedSOPClassUID=class_uid, ReferencedSOPInstanceUID=make_uid(*parts))


def _person(name: str, code: str) -> Dataset:
    return _dataset(
        PersonIdentificationCodeSequence=[_code(code, "99HOSP", name)],
        PersonAddress="1 Ward Street, Springfield",
        PersonTelephoneNumbers="+1 555 0100",
        InstitutionName="Springfield General Hospital",
        InstitutionAddress="1 Hospital Road, Springfield",
    )


def patient_name(patient: int) -> str:
    """Name of a synthetic patient, in DICOM PN form."""
    return f"{_FAMILY[patient % len(_FAMILY)]}^{_GIVEN[(patient * 3) % len(_GIVEN)]}"


def _fill_patient(ds: Dataset, patient: int) -> None:
    ds.PatientName = patient_name(patient)
    ds.PatientID = f"MRN{4711000 + patient * 137}"
    ds.IssuerOfPatientID = "SPRINGFIELD-ADT"
    ds.PatientBirthDate = f"{1941 + patient * 7}0{1 + patient % 9}1{patient % 9}"
    ds.PatientBirthTime = "061500"
    ds.PatientSex = "FM"[patient % 2]
    ds.OtherPatientIDsSequence = [
        _dataset(PatientID=f"OLD{patient:05d}", IssuerOfPatientID="LEGACY", TypeOfPatientID="TEXT"),
        _dataset(PatientID=f"INS{patient:07d}", IssuerOfPatientID="INSURER", TypeOfPatientID="TEXT"),
    ]
    ds.OtherPatientNames = f"{_FAMILY[(patient + 3) % len(_FAMILY)]}^{_GIVEN[patient % len(_GIVEN)]}"
    ds.PatientBirthName = f"{_FAMILY[(patient + 5) % len(_FAMILY)]}^{_GIVEN[patient % len(_GIVEN)]}"
    ds.PatientMotherBirthName = f"{_FAMILY[(patient + 2) % len(_FAMILY)]}^Maria"
    ds.PatientAge = f"{40 + patient * 7:03d}Y"
    ds.PatientSize = "1.74"
    ds.PatientWeight = f"{61 + patient * 4}.5"
    ds.PatientAddress = f"{10 + patient} Elm Street, Springfield"
    ds.PatientTelephoneNumbers = f"+1 555 01{patient:02d}"
    ds.MilitaryRank = "NONE"
    ds.CountryOfResidence = "XX"
    ds.RegionOfResidence = "North"
    ds.EthnicGroup = "UNKNOWN"
    ds.Occupation = "Teacher"
    ds.SmokingStatus = "NO"
    ds.PregnancyStatus = 4
    ds.MedicalAlerts = "Contrast reaction 2015"
    ds.Allergies = "Iodine"
    ds.AdditionalPatientHistory = f"{patient_name(patient).split('^')[0]} was seen in the outpatient ward"
    ds.PatientComments = "Call the daughter at +1 555 0199 before transport"
    ds.PatientInsurancePlanCodeSequence = [_code("P1", "99HOSP", "Public plan")]


def _fill_study(ds: Dataset, patient: int, study: int, day: datetime.date) -> None:
    date = day.strftime("%Y%m%d")
    ds.StudyInstanceUID = make_uid("study", patient, study)
    ds.StudyID = f"{1000 + patient * 10 + study}"
    ds.StudyDate, ds.StudyTime = date, "081502.120000"
    ds.AccessionNumber = f"ACC{day:%y%m%d}{patient:02d}{study}"
    ds.StudyDescription = f"CT {_PROTOCOLS[study % len(_PROTOCOLS)]}"
    ds.ReferringPhysicianName = _PHYSICIANS[patient % len(_PHYSICIANS)]
    ds.ReferringPhysicianAddress = "7 Practice Lane, Springfield"
    ds.ReferringPhysicianTelephoneNumbers = "+1 555 0142"
    ds.ReferringPhysicianIdentificationSequence = [_person("Keller", "D100")]
    ds.PhysiciansOfRecord = _PHYSICIANS[(patient + 1) % len(_PHYSICIANS)]
    ds.NameOfPhysiciansReadingStudy = _PHYSICIANS[(patient + 2) % len(_PHYSICIANS)]
    ds.PerformingPhysicianName = _PHYSICIANS[(patient + 3) % len(_PHYSICIANS)]
    ds.OperatorsName = "Olsen^Tina"
    ds.AdmittingDiagnosesDescription = "Suspected pulmonary embolism"
    ds.AdmittingDiagnosesCodeSequence = [_code("I26.9", "I10", "Pulmonary embolism")]
    ds.AdmissionID = f"ADM{patient:04d}{study}"
    ds.AdmittingDate = date
    ds.RequestingPhysician = _PHYSICIANS[(patient + 1) % len(_PHYSICIANS)]
    ds.RequestingService = "Emergency"
    ds.RequestedProcedureDescription = "CT thorax with contrast"
    ds.RequestedProcedureCodeSequence = [_code("RPID16", "RADLEX", "CT chest")]
    ds.CurrentPatientLocation = "Ward 3B"
    ds.PatientState = "stable"
    ds.ProcedureCodeSequence = [_code("P5-0801B", "SRT", "CT of chest")]
    ds.ReferencedStudySequence = [_reference("1.2.840.10008.3.1.2.3.1", "refstudy", patient, study)]
    ds.RequestAttributesSequence = [
        _dataset(
            RequestedProcedureID=f"RP{patient}{study}",
            RequestedProcedureDescription="CT thorax with contrast",
            ScheduledProcedureStepID=f"SPS{patient}{study}",
            ScheduledProcedureStepDescription="CT thorax",
            ScheduledProtocolCodeSequence=[_code("PROT1", "99HOSP", "Thorax standard")],
            AccessionNumber=f"ACC{day:%y%m%d}{patient:02d}{study}",
            ReasonForTheRequestedProcedure="Rule out embolism",
        )
    ]


def _fill_equipment(ds: Dataset) -> None:
    ds.Manufacturer = "Example Imaging"
    ds.ManufacturerModelName = "Exascan 64"
    ds.InstitutionName = "Springfield General Hospital"
    ds.InstitutionAddress = "1 Hospital Road, Springfield"
    ds.InstitutionalDepartmentName = "Radiology"
    ds.StationName = "CT01SPRING"
    ds.DeviceSerialNumber = "65011"
    ds.SoftwareVersions = ["VA48A", "SP2"]
    ds.DeviceUID = make_uid("device")
    ds.GantryID = "G1"
    ds.DateOfLastCalibration = "20190301"


def _fill_series(ds: Dataset, patient: int, study: int, series: int, day: datetime.date) -> None:
    date = day.strftime("%Y%m%d")
    protocol = _PROTOCOLS[series % len(_PROTOCOLS)]
    ds.Modality = "CT"
    ds.SeriesInstanceUID = make_uid("series", patient, study, series)
    ds.SeriesNumber = str(series + 1)
    ds.SeriesDate, ds.SeriesTime = date, f"08{20 + series}00.000000"
    ds.SeriesDescription = f"{protocol} 1.0 B{30 + series}f"
    ds.ProtocolName = protocol
    ds.BodyPartExamined = "CHEST"
    ds.PatientPosition = "HFS"
    ds.Laterality = ""
    ds.FrameOfReferenceUID = make_uid("frame", patient, study)
    ds.PositionReferenceIndicator = "SN"
    ds.PerformedProcedureStepStartDate = date
    ds.PerformedProcedureStepStartTime = "081600"
    ds.PerformedProcedureStepEndDate = date
    ds.PerformedProcedureStepEndTime = "083900"
    ds.PerformedProcedureStepID = f"PPS{patient}{study}{series}"
    ds.PerformedProcedureStepDescription = "CT thorax performed"
    ds.PerformedProtocolCodeSequence = [_code("PROT1", "99HOSP", "Thorax standard")]
    ds.ReferencedPerformedProcedureStepSequence = [_reference("1.2.840.10008.3.1.2.3.3", "mpps", patient, study)]
    ds.CommentsOnThePerformedProcedureStep = "Patient moved during scan 2"
    ds.ScanOptions = "SPIRAL"
    ds.KVP = "120"
    ds.DataCollectionDiameter = "500"
    ds.ReconstructionDiameter = "380"
    ds.DistanceSourceToDetector = "1040"
    ds.DistanceSourceToPatient = "570"
    ds.GantryDetectorTilt = "0"
    ds.TableHeight = "155"
    ds.RotationDirection = "CW"
    ds.ExposureTime = "500"
    ds.FilterType = "WEDGE_3"
    ds.GeneratorPower = "40"
    ds.FocalSpots = ["1.2"]
    ds.ConvolutionKernel = f"B{30 + series}f"
    ds.ContrastBolusAgent = "Omnipaque 350"
    ds.ContrastBolusRoute = "IV"
    ds.ContrastBolusVolume = "80"
    ds.ContrastBolusStartTime = "081900"
    ds.ContrastFlowRate = "4"
    ds.SingleCollimationWidth = 0.6
    ds.TotalCollimationWidth = 38.4
    ds.TableSpeed = 46.0
    ds.TableFeedPerRotation = 23.0
    ds.SpiralPitchFactor = 0.6
    ds.CTDIvol = 7.9
    ds.CTDIPhantomTypeCodeSequence = [_code("113691", "DCM", "IEC Body Dosimetry Phantom")]
    ds.ExposureModulationType = "XYZ_EC"
    ds.SynchronizationFrameOfReferenceUID = make_uid("sync", patient, study)


def _fill_image_static(ds: Dataset, patient: int, study: int, series: int) -> None:
    ds.SOPClassUID = CTImageStorage
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = ROWS, COLUMNS
    ds.PixelSpacing = ["0.7421875", "0.7421875"]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.SmallestImagePixelValue = 0
    ds.LargestImagePixelValue = 4095
    ds.WindowCenter, ds.WindowWidth = ["40", "-600"], ["400", "1500"]
    ds.WindowCenterWidthExplanation = ["SOFT", "LUNG"]
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "-1024", "1", "HU"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.SliceThickness = "1"
    ds.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    ds.ReferencedImageSequence = [_reference(CTImageStorage, "localizer", patient, study, index) for index in range(2)]
    source = _reference(CTImageStorage, "raw", patient, study, series)
    source.PurposeOfReferenceCodeSequence = [_code("121322", "DCM", "Source image")]
    ds.SourceImageSequence = [source]
    ds.ImageComments = "Checked by T. Olsen"
    ds.PerformingPhysicianIdentificationSequence = [_person("Novak", "D103")]
    ds.OperatorIdentificationSequence = [_person("Olsen", "T001")]


def _fill_private(ds: Dataset, patient: int, series: int, day: datetime.date) -> None:
    block = ds.private_block(0x0019, "EXAMPLE CT HEADER 1.0", create=True)
    for offset in range(6):
        block.add_new(offset, "DS", f"{1.25 * (offset + 1):.4f}")
    block = ds.private_block(0x0021, "EXAMPLE CT STUDY 1.0", create=True)
    block.add_new(0x01, "PN", patient_name(patient))
    block.add_new(0x02, "DA", day.strftime("%Y%m%d"))
    block.add_new(0x03, "LO", f"MRN{4711000 + patient * 137}")
    block.add_new(0x04, "UI", make_uid("private", patient, series))
    block.add_new(0x05, "SL", [patient, series, 17])
    block.add_new(0x06, "FD", 0.125 * series)
    block = ds.private_block(0x0029, "EXAMPLE CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    block.add_new(0x09, "LO", "20190401")
    block.add_new(0x10, "OB", random.Random(f"csa/{patient}/{series}").randbytes(4096))  # noqa: S311
    item = _dataset(PatientName=patient_name(patient), StudyDate=day.strftime("%Y%m%d"), ImageComments="copy")
    inner = item.private_block(0x0029, "EXAMPLE INNER", create=True)
    inner.add_new(0x01, "LO", f"MRN{4711000 + patient * 137}")
    inner.add_new(0x02, "ST", "reconstructed at console 2")
    block.add_new(0x20, "SQ", Sequence([item]))


def series_template(patient: int, study: int, series: int) -> Dataset:
    """Everything in the header that all slices of one series share."""
    day = datetime.date(2019, 4, 1) + datetime.timedelta(days=patient * 41 + study * 13)
    ds = Dataset()
    _fill_patient(ds, patient)
    _fill_study(ds, patient, study, day)
    _fill_equipment(ds)
    _fill_series(ds, patient, study, series, day)
    _fill_image_static(ds, patient, study, series)
    _fill_private(ds, patient, series, day)
    return ds


def _file_meta(class_uid: str, instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(class_uid)
    meta.MediaStorageSOPInstanceUID = UID(instance_uid)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("2.25.1")
    meta.ImplementationVersionName = "EXAMPLE_1"
    meta.SourceApplicationEntityTitle = "CT01SPRING"
    return meta


def slice_dataset(template: Dataset, patient: int, study: int, series: int, number: int) -> Dataset:
    """One slice without pixels: the series' header and what differs from slice to slice."""
    ds = copy.copy(template)
    ds._dict = dict(template._dict)
    date = str(ds.StudyDate)
    ds.SOPInstanceUID = make_uid("instance", patient, study, series, number)
    ds.InstanceNumber = str(number + 1)
    ds.AcquisitionNumber = "1"
    seconds = number % 60
    ds.AcquisitionDate, ds.AcquisitionTime = date, f"0821{seconds:02d}.{number % 1000:03d}000"
    ds.AcquisitionDateTime = f"{date}0821{seconds:02d}.{number % 1000:03d}000"
    ds.ContentDate, ds.ContentTime = date, f"0822{seconds:02d}.500000"
    ds.InstanceCreationDate, ds.InstanceCreationTime = date, f"0823{seconds:02d}.250000"
    ds.InstanceCreatorUID = make_uid("creator")
    ds.ImagePositionPatient = ["-190", "-190", f"{-300 + number}"]
    ds.SliceLocation = f"{-300 + number}"
    ds.XRayTubeCurrent = str(180 + number % 90)
    ds.Exposure = str(90 + number % 45)
    ds.IrradiationEventUID = make_uid("event", patient, study, series)
    ds.file_meta = _file_meta(CTImageStorage, ds.SOPInstanceUID)
    return ds


def _noise(seed: str) -> bytes:
    """One 512 x 512 frame of 12-bit noise."""
    mask = int.from_bytes(b"\xff\x0f" * (FRAME_BYTES // 2), "little")
    value = int.from_bytes(random.Random(seed).randbytes(FRAME_BYTES), "little")  # noqa: S311
    return (value & mask).to_bytes(FRAME_BYTES, "little")


def iter_slices(count: int) -> Iterator[tuple[str, Dataset]]:
    """Yield (relative path, dataset with pixels): the slices spread evenly over all series."""
    places = [
        (patient, study, series)
        for patient in range(PATIENTS)
        for study in range(STUDIES_PER_PATIENT)
        for series in range(SERIES_PER_STUDY)
    ]
    noise = _noise("slices")
    for index, (patient, study, series) in enumerate(places):
        template = series_template(patient, study, series)
        for number in range(count // len(places) + (index < count % len(places))):
            ds = slice_dataset(template, patient, study, series, number)
            shift = (index * 7919 + number * 1543) * 2 % FRAME_BYTES
            ds[0x7FE00010] = DataElement(0x7FE00010, "OW", noise[shift:] + noise[:shift])
            name = f"p{patient}/st{study}/se{series}/p{patient}st{study}se{series}i{number:05d}.dcm"
            yield name, ds


def write_slices(folder: Path, count: int = 1000) -> int:
    """Write `count` CT slices below `folder`; returns the number of files written."""
    written = 0
    for name, ds in iter_slices(count):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dcmwrite(path, ds, enforce_file_format=True)
        written += 1
    return written


def write_large(path: Path, size: int = 2 << 30, sparse: bool = False) -> int:
    """Write one native multi-frame CT with about `size` bytes of pixels; returns the frame count.

    With `sparse` the pixels are a hole in the file: quick to make, but a copy tool that knows holes skips
    them, so that such a file is no fair unit for a speed comparison.
    """
    frames = min(size, 0xFFFFFFFE) // FRAME_BYTES
    ds = slice_dataset(series_template(0, 0, 0), 0, 0, 0, 0)
    ds.SOPClassUID = EnhancedCTImageStorage
    ds.NumberOfFrames = str(frames)
    ds.file_meta = _file_meta(EnhancedCTImageStorage, ds.SOPInstanceUID)
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    noise = _noise("large")
    with path.open("ab") as stream:
        stream.write(b"\xe0\x7f\x10\x00OW\x00\x00" + (frames * FRAME_BYTES).to_bytes(4, "little"))
        if sparse:
            stream.flush()
            stream.truncate(stream.tell() + frames * FRAME_BYTES)
        else:
            for _ in range(frames):
                stream.write(noise)
    return frames


def _append(path: Path, ds: Dataset, pixels: Iterable[bytes]) -> None:
    """Write an object, and behind its header Pixel Data as they come."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dcmwrite(path, ds, enforce_file_format=True)
    with path.open("ab") as stream:
        stream.writelines(pixels)


def _native(vr: bytes, frames: list[bytes], count: int) -> Iterator[bytes]:
    """Yield native Pixel Data of `count` frames, those given again and again."""
    yield b"\xe0\x7f\x10\x00" + vr + b"\x00\x00" + (count * len(frames[0])).to_bytes(4, "little")
    for number in range(count):
        yield frames[number % len(frames)]


def write_mammograms(folder: Path, count: int) -> int:
    """Write mammograms of 50 MiB: a bright half circle of noise on black; returns the number of files."""
    import numpy as np

    y, x = np.ogrid[:MG_ROWS, :MG_COLUMNS]
    breast = np.hypot(y - MG_ROWS / 2, x) < MG_COLUMNS * 0.55
    noise = np.random.default_rng(1).integers(1200, 3600, (MG_ROWS, MG_COLUMNS), np.uint16)
    pixels = np.where(breast, noise, 0).astype("<u2").tobytes()
    for number in range(count):
        ds = slice_dataset(series_template(0, 0, 0), 0, 0, 0, number)
        ds.SOPClassUID, ds.Modality = DigitalMammographyXRayImageStorageForPresentation, "MG"
        ds.Rows, ds.Columns = MG_ROWS, MG_COLUMNS
        ds.file_meta = _file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
        _append(folder / f"mg{number:03d}.dcm", ds, _native(b"OW", [pixels], 1))
    return count


def ultrasound(number: int, rows: int = US_ROWS, columns: int = US_COLUMNS) -> Any:
    """Draw a frame like those of a colour Doppler cine: a sector of smoothed speckle, text-like marks, a colour box.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
    """
    import numpy as np

    chance = np.random.default_rng(number)
    y, x = np.mgrid[:rows, :columns]
    across = x - columns / 2
    depth = np.hypot(y + rows * 0.08, across)
    speckle = chance.gamma(2, 0.5, (rows, columns))
    speckle = (speckle + np.roll(speckle, 1, 1) + np.roll(speckle, 2, 1) + np.roll(speckle, 1, 0)) / 4
    tissue = 90 * (1 + np.sin(depth / 23 + number / 3) * np.cos(x / 31)) * speckle
    sector = (abs(np.arctan2(across, y + rows * 0.08)) < 0.7) & (depth < rows)
    grey = np.where(sector, np.clip(tissue, 0, 255), 0)
    # a banner with marks as high as letters
    grey[: rows // 20] = np.where((x[: rows // 20] // 7 % 3 == 0) & (y[: rows // 20] // 6 % 2 == 1), 220, 16)
    picture = np.repeat(grey[..., None], 3, axis=2)
    box = (slice(rows // 3, rows // 2), slice(columns * 2 // 5, columns * 3 // 5))
    picture[box] *= (1.4, 0.7, 0.3)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _ultrasound_dataset(number: int, frames: int, photometric: str, syntax: str) -> Dataset:
    ds = slice_dataset(series_template(0, 0, 0), 0, 0, 0, number)
    ds.SOPClassUID, ds.Modality = UltrasoundMultiFrameImageStorage, "US"
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, photometric, 0
    ds.NumberOfFrames, ds.Rows, ds.Columns = str(frames), US_ROWS, US_COLUMNS
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.FrameTime = "33.3"
    ds.file_meta = _file_meta(ds.SOPClassUID, ds.SOPInstanceUID)
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def _items(frames: list[bytes], count: int) -> Iterator[bytes]:
    """Yield encapsulated Pixel Data with a Basic Offset Table, empty where offsets would not fit (PS3.5 A.4)."""
    items = [
        b"\xfe\xff\x00\xe0" + (len(frame) + len(frame) % 2).to_bytes(4, "little") + frame + b"\0" * (len(frame) % 2)
        for frame in frames
    ]
    order = [items[number % len(items)] for number in range(count)]
    offsets = list(accumulate([len(item) for item in order], initial=0))[:-1]
    table = b"".join(at.to_bytes(4, "little") for at in offsets) if offsets[-1] < 1 << 32 else b""
    yield b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0" + len(table).to_bytes(4, "little") + table
    yield from order
    yield b"\xfe\xff\xdd\xe0\0\0\0\0"


def native_frames() -> list[bytes]:
    """Return frames of a cine as they are."""
    return [ultrasound(number).tobytes() for number in range(US_DIFFERENT)]


def jpeg_frames() -> list[bytes]:
    """Return frames of a cine in JPEG Baseline, 4:2:2, quality 85."""
    import io

    from PIL import Image

    frames = []
    for number in range(US_DIFFERENT):
        out = io.BytesIO()
        Image.fromarray(ultrasound(number)).save(out, "JPEG", quality=85, subsampling="4:2:2")
        frames.append(out.getvalue())
    return frames


def rle_frames() -> list[bytes]:
    """Return frames of a cine in RLE Lossless, by pydicom's encoder."""
    from pydicom.encaps import generate_frames

    frames: list[bytes] = []
    for number in range(US_DIFFERENT):
        ds = _ultrasound_dataset(0, 1, "RGB", ExplicitVRLittleEndian)
        ds.compress(RLELossless, ultrasound(number), generate_instance_uid=False)
        frames += generate_frames(ds.PixelData, number_of_frames=1)
    return frames


def write_cines(folder: Path, count: int, frames: int, coding: str) -> int:
    """Write ultrasound cines; returns the number of files.

    Parameters
    ----------
    folder : Path
    count : int
    frames : int
        In each.
    coding : str
        native, jpeg or rle
    """
    photometric, syntax, build = {
        "native": ("RGB", ExplicitVRLittleEndian, native_frames),
        "jpeg": ("YBR_FULL_422", JPEGBaseline8Bit, jpeg_frames),
        "rle": ("RGB", RLELossless, rle_frames),
    }[coding]
    different = build()
    for number in range(count):
        pixels = _native(b"OB", different, frames) if coding == "native" else _items(different, frames)
        ds = _ultrasound_dataset(number, frames, photometric, syntax)
        _append(folder / f"cine{number:03d}.dcm", ds, pixels)
    return count


def count_elements(ds: Dataset) -> int:
    """Elements in the dataset and in all its nested items (file meta not counted)."""
    return sum(1 for _ in ds.iterall())


def main() -> None:
    """Command line: build slices, a large file, mammograms or a cine."""
    parser = argparse.ArgumentParser(description="Build synthetic data.")
    commands = parser.add_subparsers(dest="command", required=True)
    slices = commands.add_parser("slices", help="many CT slices below a folder")
    slices.add_argument("folder", type=Path)
    slices.add_argument("--count", type=int, default=1000)
    large = commands.add_parser("large", help="one large multi-frame file")
    large.add_argument("file", type=Path)
    large.add_argument("--gib", type=float, default=2.0)
    large.add_argument("--sparse", action="store_true", help="leave the pixels a hole in the file")
    mammograms = commands.add_parser("mammograms", help="mammograms of 50 MiB in a folder")
    mammograms.add_argument("folder", type=Path)
    mammograms.add_argument("--count", type=int, default=20)
    cines = commands.add_parser("cines", help="ultrasound cines of 1024 x 768 in colour")
    cines.add_argument("folder", type=Path)
    cines.add_argument("--count", type=int, default=1)
    cines.add_argument("--frames", type=int, default=300)
    cines.add_argument("--coding", choices=("native", "jpeg", "rle"), default="native")
    args = parser.parse_args()
    if args.command == "slices":
        print(write_slices(args.folder, args.count))
    elif args.command == "large":
        print(write_large(args.file, int(args.gib * (1 << 30)), args.sparse))
    elif args.command == "mammograms":
        print(write_mammograms(args.folder, args.count))
    else:
        print(write_cines(args.folder, args.count, args.frames, args.coding))


if __name__ == "__main__":
    main()

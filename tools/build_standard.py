"""Write the resource files of ``dicomshield.standard`` from transcribed facts of the DICOM standard.

The facts directory holds plain CSV transcriptions of PS3.15 and PS3.16; the attribute and UID
dictionaries come from pydicom, the attribute Types of PS3.3 from highdicom's data files. The
decisions for attributes that Table E.1-1 does not list are made here, in ``DECISIONS``.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._uid_dict import UID_dictionary

DATA = Path(__file__).resolve().parent.parent / "src" / "dicomshield" / "standard" / "data"
EDITION = "2026d"
PS315 = f"DICOM PS3.15 {EDITION}, (c) NEMA"
WRITTEN = "written by tools/build_standard.py"
REMOVE = "X/Z/D"

Row = dict[str, str]
Types = dict[tuple[str, str], str]

OPTION_COLUMNS = {
    "rtn_safe_priv": "retain_safe_private",
    "rtn_uids": "retain_uids",
    "rtn_dev_id": "retain_device_identity",
    "rtn_inst_id": "retain_institution_identity",
    "rtn_pat_chars": "retain_patient_characteristics",
    "rtn_long_full_dates": "retain_full_dates",
    "rtn_long_modif_dates": "retain_modified_dates",
    "clean_desc": "clean_descriptors",
    "clean_struct_cont": "clean_structured_content",
    "clean_graph": "clean_graphics",
}

METHOD_OPTIONS = {
    "113100": "BASIC_PROFILE",
    "113101": "CLEAN_PIXEL_DATA",
    "113102": "CLEAN_RECOGNIZABLE_VISUAL_FEATURES",
    "113103": "CLEAN_GRAPHICS",
    "113104": "CLEAN_STRUCTURED_CONTENT",
    "113105": "CLEAN_DESCRIPTORS",
    "113106": "RETAIN_FULL_DATES",
    "113107": "RETAIN_MODIFIED_DATES",
    "113108": "RETAIN_PATIENT_CHARACTERISTICS",
    "113109": "RETAIN_DEVICE_IDENTITY",
    "113110": "RETAIN_UIDS",
    "113111": "RETAIN_SAFE_PRIVATE",
    "113112": "RETAIN_INSTITUTION_IDENTITY",
}

# The attribute that ends a valid object of each kind, by the module that makes it so. One of several pixel
# modules is always there, so that a choice between them counts as one that is mandatory.
PIXEL_DATA = "7FE00010"
PIXEL_MODULES = {"image-pixel", "floating-point-image-pixel", "double-floating-point-image-pixel"}
LAST_OF_MODULE = {
    "sr-document-content": "0040A730",
    "waveform": "54000100",
    "encapsulated-document": "00420011",
}

# Retired Storage SOP Classes that still occur, each with the class whose Types it gets.
SUCCESSORS = {
    "1.2.840.10008.5.1.4.1.1.3": "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.5": "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.6": "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.12.3": "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.77.1": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "1.2.840.10008.5.1.4.1.1.77.2": "1.2.840.10008.5.1.4.1.1.77.1.4",
}

# Listed for every object whatever their action is, so that a verifier can ask for them.
ALWAYS_TYPED = ("00080016", "00080018", "0020000D", "0020000E", "00080060")


class Decision(NamedTuple):
    """One decision, with its reason, for the attributes named in ``keywords``."""

    basic: str
    reason: str
    keywords: str
    institution: str = ""
    device: str = ""


# Every text, person name, URI, date and UID attribute outside groups 0000, 0002 and 0004 that Table E.1-1
# omits must be named exactly once, either here or by its class in ``_by_class``. Of its short strings, only
# those are named that can hold an identifier or what a person typed; the others stay as they are.
DECISIONS: tuple[Decision, ...] = (
    # UIDs
    Decision(
        "U",
        "instance reference, E.1.1-04",
        "MultiFrameSourceSOPInstanceUID SOPInstanceUIDOfConcatenationSource",
    ),
    Decision(
        "U",
        "UID made for this patient's data",
        "RadiopharmaceuticalAdministrationEventUID TargetFrameOfReferenceUID VolumeFrameOfReferenceUID "
        "TableFrameOfReferenceUID EquipmentFrameOfReferenceUID ReferencedFiducialUID "
        "VolumetricPresentationInputSetUID AssertionUID ReferencedAssertionUID ModelGroupUID "
        "FindingsGroupUIDTrial ReferencedFindingsGroupUIDTrial ReferencedContentItem",
    ),
    Decision("U", "may hold a UID of any kind", "SelectorUIValue"),
    Decision("U", "instance reference unless a registered palette", "ReferencedColorPaletteInstanceUID"),
    Decision(
        "U",
        "identifies an organisation",
        "RetrieveLocationUID RepositoryUniqueID HomeCommunityID ContextGroupExtensionCreatorUID",
        institution="K",
    ),
    Decision("U", "identifies the device that wrote the raw data", "CreatorVersionUID", device="K"),
    Decision(
        "K",
        "SOP class, structural",
        "SOPClassUID RelatedGeneralSOPClassUID OriginalSpecializedSOPClassUID SOPClassesInStudy "
        "ReferencedSOPClassUID SOPClassesSupported PertinentSOPClassesInStudy PertinentSOPClassesInSeries",
    ),
    Decision(
        "K",
        "transfer syntax, structural",
        "StoredInstanceTransferSyntaxUID AvailableTransferSyntaxUID FlowTransferSyntaxUID "
        "MACCalculationTransferSyntaxUID EncryptedContentTransferSyntaxUID",
    ),
    Decision(
        "K",
        "names a coding scheme or template, not an instance",
        "CodingSchemeUID ContextUID MappingResourceUID SegmentationTemplateUID",
    ),
    # text that is kept
    Decision("K", "code text of a coding scheme", "LongCodeValue URNCodeValue MappingResourceName"),
    Decision("K", "private attribute name given by its maker", "PrivateDataElementName PrivateDataElementKeyword"),
    Decision("K", "attribute name of the standard", "SelectorAttributeName"),
    Decision(
        "K",
        "product name given by the maker",
        "Manufacturer ManufacturerModelName SoftwareVersions SecondaryCaptureDeviceManufacturerModelName "
        "HardcopyDeviceManufacturerModelName DetectorManufacturerName DetectorManufacturerModelName "
        "ReceiveCoilManufacturerName TransmitCoilManufacturerName ApplicationName ImplantName",
    ),
    Decision(
        "K",
        "technical name written by the device",
        "SequenceName PulseSequenceName CollimatorGridName DoseModeName ReceiveCoilName TransmitCoilName "
        "MultiCoilElementName DetectorMode ExposureControlModeDescription EnergyWindowName",
    ),
    Decision("K", "stage or view of a protocol", "StageName ViewName"),
    Decision(
        "K",
        "technical description written by the device",
        "PaddleDescription MetaboliteMapDescription ApplicableSafetyStandardDescription "
        "ASLTechniqueDescription ASLCrusherDescription FieldOfViewDescription",
    ),
    Decision("K", "algorithm name given by the maker", "AlgorithmName SegmentAlgorithmName AlgorithmDescription"),
    Decision(
        "K",
        "key that joins frames to an optical path",
        "OpticalPathIdentifier ReferencedOpticalPathIdentifier",
    ),
    Decision(
        "K",
        "technical label written by software",
        "LUTLabel DimensionDescriptionLabel FontName CSSFontName CompressionLabel CompressionDescription "
        "TransformLabel DCTLabel",
    ),
    Decision("K", "names the segment, Type 1", "SegmentLabel"),
    Decision("K", "names the track set, Type 1", "TrackSetLabel"),
    Decision("K", "name of a reference data set", "DataSetName"),
    Decision("K", "expression over volume numbers", "ConceptualVolumeCombinationExpression"),
    Decision("K", "pattern of treatment days in digits", "FractionPattern"),
    Decision("K", "format of an identifier, not the identifier", "DeviceAlternateIdentifierFormat"),
    Decision("K", "print layout keyword", "ImageDisplayFormat"),
    Decision(
        "K",
        "material description",
        "GridAbsorbingMaterial GridSpacingMaterial MaterialGrade CouplingMedium OpticalCoatingType "
        "SourceIsotopeName LensConstantDescription",
    ),
    Decision(
        "K",
        "camera characteristic written by the device",
        "BatteryLevel OECFColumnNames SpatialFrequencyResponseColumnNames SpectralSensitivity EXIFVersion",
    ),
    Decision(
        "K",
        "technical setting of test equipment",
        "CADFileFormat MaterialPropertiesFileFormatRetired DelayLawIdentifier DataStreamingProtocol "
        "CoilConfigurationID FlashSynchronizationProtocol",
    ),
    Decision(
        "K",
        "implant catalogue text, no patient",
        "HPGLDocumentLabel HPGLPenLabel SurfaceModelLabel MatingFeatureSetLabel "
        "ImplantAssemblyTemplateName ImplantTemplateGroupName ImplantTemplateGroupVariationDimensionName",
    ),
    Decision("K", "animal species or breed", "PatientSpeciesDescription PatientBreedDescription"),
    Decision("K", "holder of items, each item is handled by the rules", "ContributingEquipmentSequence"),
    Decision("K", "signal itself; a voice needs a decision per SOP class", "WaveformSequence"),
    # text that names an organisation or a device
    Decision(
        REMOVE,
        "names an organisation",
        "CodingSchemeResponsibleOrganization LocalNamespaceEntityID UniversalEntityID",
        institution="K",
    ),
    Decision(
        REMOVE,
        "a local coding scheme can name the site",
        "CodingSchemeName CodingSchemeExternalID",
        institution="K",
    ),
    Decision(REMOVE, "names an organisation", "ComponentManufacturer WedgeManufacturerName"),
    Decision(
        REMOVE,
        "names one device of the site",
        "RadiationMachineName PrinterName DisplaySubsystemName DisplaySubsystemDescription SensorName",
        device="K",
    ),
    Decision(REMOVE, "can hold a detector serial number", "DetectorDescription", device="K"),
    Decision(REMOVE, "network address", "NTPSourceAddress"),
    Decision(
        REMOVE,
        "display setting named at the site",
        "ConfigurationName ConfigurationDescription LuminanceResponseDescription",
    ),
    Decision(REMOVE, "identifies one product or lot", "ProductPackageIdentifier ProductLotIdentifier"),
    Decision(REMOVE, "drug or product given to the patient", "InterventionDrugName ProductName ProductDescription"),
    # text about a subject or written by a person
    Decision(
        REMOVE,
        "text about one animal",
        "StrainDescription StrainAdditionalInformation GeneticModificationsDescription",
    ),
    Decision(
        REMOVE,
        "comment typed by a person",
        "TransactionStatusComment MaterialNotes CalibrationNotes PulserNotes ReceiverNotes PreAmplifierNotes "
        "ProbeDriveNotes InstructionPerformanceComment CalculationComment SystemStatusComment "
        "TestResultComment CommentsOnPatientPerformanceOfVisualField CommentsOnTheScheduledProcedureStep "
        "ReportStatusCommentTrial AssertionComments SurfaceComments SOPAuthorizationComment DoseComment "
        "FrameOfReferenceTransformationComment TreatmentStatusComment SetupImageComment",
    ),
    Decision(
        REMOVE,
        "reason or explanation typed by a person",
        "MaskOperationExplanation PotentialReasonsForProcedure PotentialDiagnosticTasks "
        "ReasonForCancellation ReasonForChannelOmissionDescription OverrideReason "
        "TreatmentTerminationDescription TreatmentToleranceViolationIdentification "
        "CompletionFlagDescription ApprovalStatusFurtherDescription",
    ),
    Decision(
        REMOVE,
        "clinical text about the patient",
        "InterventionDescription AnatomicPerspectiveDescriptionTrial "
        "AnatomicLocationOfExaminingInstrumentDescriptionTrial LensStatusDescription "
        "VitreousStatusDescription LensDescription SpecimenDescriptionTrial AssessmentSummaryDescription "
        "ObservationDescription IdentificationDescriptionTrial",
    ),
    Decision(REMOVE, "free text of any content", "TextValue SelectorUCValue BibliographicCitationTrial"),
    Decision(REMOVE, "title typed by a person", "DocumentTitle ContentDescription"),
    Decision(REMOVE, "identifier of the source document", "HL7InstanceIdentifier"),
    Decision(REMOVE, "address of a resource", "UniformResourceLocatorTrial"),
    Decision(REMOVE, "names a person or desk to contact", "ContactDisplayName"),
    Decision(REMOVE, "names a place", "AssignedLocation PTOLocationDescription"),
    Decision(REMOVE, "names the user's group or protocol", "HangingProtocolName HangingProtocolUserGroupName"),
    Decision(
        REMOVE,
        "label typed by a person",
        "TargetLabel FrameLabel ReferenceLocationLabel TrackingID GraphicGroupLabel TickLabel "
        "FiducialIdentifier ImageSetLabel DisplaySetLabel WorklistLabel ProcedureStepLabel TextureLabel "
        "AssessmentLabel FilmSessionLabel RTImageLabel RTImageName ToleranceTableLabel PatientSetupLabel "
        "FixationDeviceLabel ShieldingDeviceLabel SetupDeviceLabel SegmentationCreationTemplateLabel "
        "IndicationLabel PropertyLabel BeamName BlockName ApplicationSetupName TemplateName "
        "BrachyAccessoryDeviceName SourceApplicatorName ChannelShieldName WedgeName DataElementName "
        "RepairID PositionAcquisitionTemplateID",
    ),
    Decision(
        REMOVE,
        "protocol text typed at the site",
        "AcquisitionProtocolName ProtocolElementName ProtocolElementCharacteristicsSummary "
        "ProtocolElementPurpose ProtocolPlanningInformation ProtocolDesignRationale InstructionDescription "
        "ReferenceLocationDescription ReconstructionDescription ImageFilterDescription "
        "SpecificationSelectionGuidance ConstraintViolationCondition ScanProcedure CalibrationProcedure",
    ),
    Decision(
        REMOVE,
        "description typed by a person",
        "ExtendedCodeMeaning PrivateDataElementDescription PrivateDataElementEncoding InventoryPurpose "
        "InventoryInstanceDescription DataSetDescription PixelSpacingCalibrationDescription "
        "PartialViewDescription FrameOfInterestDescription ResourceDescription "
        "PerformedProcedureTypeDescription AlgorithmDescriptionTrial ContainerComponentDescription "
        "OpticalPathDescription SegmentDescription SurfaceProcessingDescription TrackSetDescription "
        "InformationSummary HPGLPenDescription PlanningLandmarkDescription GraphicLayerDescription "
        "GraphicGroupDescription FiducialDescription RGBATransferFunctionDescription "
        "HangingProtocolDescription DisplaySetPresentationGroupDescription "
        "ProcedureStepProgressDescription ImplantTemplateGroupDescription MediaDisposition "
        "RTImageDescription MeasuredDoseDescription CalculatedDoseReferenceDescription "
        "ApplicatorDescription SetupDeviceDescription SetupReferenceDescription SourceDescription "
        "RangeShifterDescription LateralSpreadingDeviceDescription RangeModulatorDescription "
        "GeneralAccessoryDescription EffectiveDoseCalculationMethodDescription "
        "OphthalmicAxialLengthDataSourceDescription OphthalmicAxialLengthQualityMetricTypeDescription "
        "OphthalmicImageTypeDescription ThreatCategoryDescription OOITypeDescriptor "
        "ConfigurationInformation ConfigurationInformationDescription",
    ),
    Decision(
        REMOVE,
        "inspection text typed by a person",
        "ComponentReferenceSystem ComponentManufacturingProcedure MaterialPropertiesDescription "
        "DataElementDescription ActualEnvironmentalConditions EnvironmentalConditions IndicationDescription "
        "CoordinateSystemAxisDescription TransformDescription LinearityCorrectionTechnique "
        "BeamHardeningCorrectionTechnique CouplingTechnique WaveDimensionDescription WedgeDescription "
        "LaserTypeDescription HeatSourceDescription",
    ),
    Decision(REMOVE, "can hold paths and command lines", "AlgorithmParameters"),
    Decision(REMOVE, "day of the week of a treatment", "IntendedStartDayOfWeek"),
    # attributes of other kinds that Annex E touches but Table E.1-1 omits
    Decision(
        REMOVE,
        "date in words, no option keeps it",
        "PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar",
    ),
    # short strings
    Decision(
        REMOVE,
        "identifies one device of the site",
        "DeviceID GridID SubstanceAdministrationDeviceID AuthorizationEquipmentCertificationNumber "
        "RespiratorySignalSourceID TimeSource",
        device="K",
    ),
    Decision(
        REMOVE,
        "identifier or bar code of a device of the site",
        "AccessoryCode PatientSupportAccessoryCode TrayAccessoryCode GeneralAccessoryID PatientSupportID "
        "WedgeID CompensatorTrayID BlockTrayID ApplicatorID SourceApplicatorID BrachyAccessoryDeviceID "
        "AfterloaderChannelID ChannelShieldID SnoutID RangeShifterID RangeModulatorID "
        "LateralSpreadingDeviceID TemplateType",
        device="K",
    ),
    Decision(
        REMOVE,
        "machine setting named at the site",
        "BeamCurrentModulationID ScanSpotTuneID ImagingDeviceSpecificAcquisitionParameters",
        device="K",
    ),
    Decision(REMOVE, "identifier typed for a device made for the patient", "BolusID CompensatorID MaterialID"),
    Decision(REMOVE, "identifies persons", "ComponentWelderIDs OwnerID"),
    Decision(
        REMOVE,
        "can name a person or an organisation",
        "HangingProtocolCreator ImplantAssemblyTemplateIssuer ImplantTemplateGroupIssuer AlgorithmSource "
        "DataSetSource CompressionOriginator",
    ),
    Decision(
        REMOVE,
        "identifies one animal or its supplier",
        "BreedRegistrationNumber StrainStockNumber StrainSource",
    ),
    Decision(
        REMOVE,
        "identifier of an order",
        "PlacerOrderNumberProcedure FillerOrderNumberProcedure "
        "PlacerOrderNumberImagingServiceRequestRetired FillerOrderNumberImagingServiceRequestRetired",
    ),
    Decision(
        REMOVE,
        "identifier given at the site",
        "ImageID StorageMediaFileSetID PrintJobID PrintQueueID AssessmentSetID ReferenceToRecordedSound",
    ),
    Decision(
        REMOVE,
        "identifies a journey, a passenger or a carrier",
        "RouteSegmentID BoardingPassID RouteSegmentStartLocationID RouteSegmentEndLocationID ItineraryID "
        "ItineraryIDType ItineraryIDAssigningAuthority RouteID RouteIDAssigningAuthority CarrierID",
    ),
    Decision(REMOVE, "about the patient's visit or standing", "RouteOfAdmissions ConfidentialityCode"),
    Decision(
        REMOVE,
        "text typed about the patient",
        "SubstanceAdministrationNotes PatientReliabilityIndicator PatientAdditionalPosition",
    ),
    Decision(
        REMOVE,
        "protocol or instruction typed at the site",
        "InstructionText TreatmentProtocols ProcedureVersion RequestedProcedureDescriptionTrial",
    ),
    Decision(REMOVE, "labels typed by a person", "FrameLabelVector DisplayWindowLabelVector EventTimerNames"),
    Decision("X", "serves digital signatures, which are removed", "MACParametersSequence"),
    Decision("X", "describes the document that was replaced", "EncapsulatedDocumentLength"),
    Decision("X", "holds the original values for its key holder", "EncryptedAttributesSequence"),
    Decision("X", "describes private attributes, which are removed", "PrivateDataElementCharacteristicsSequence"),
)

# Attributes that ``_by_class`` decides although the gap list leaves them out; what DECISIONS names beyond
# the gap list needs no entry here.
EXTRA_KEYWORDS = (
    "SourceApplicationEntityTitle",
    "SendingApplicationEntityTitle",
    "ReceivingApplicationEntityTitle",
    "RTVMetaInformationVersion",
    "RTVSourceIdentifier",
    "RTVFlowIdentifier",
    "RTVFlowRTPSamplingRate",
    "RTVFlowActualFrameDuration",
    "PrivateInformation",
    "ReferencedFileID",
    "CommandRecognitionCode",
    "Initiator",
    "Receiver",
    "MoveDestination",
    "MoveOriginatorApplicationEntityTitle",
    "MessageSetID",
    "EndMessageID",
)


def read_facts(path: Path) -> list[Row]:
    """Return the rows of a CSV file whose leading comment lines start with ``#``."""
    with path.open(encoding="utf-8", newline="") as stream:
        lines = [line for line in stream if not line.startswith("#")]
    return list(csv.DictReader(lines))


def write_resource(name: str, notes: Sequence[str], header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write one resource: its notes as ``#`` lines, then plain CSV with LF line ends."""
    DATA.mkdir(parents=True, exist_ok=True)
    count = 0
    with (DATA / name).open("w", encoding="utf-8", newline="") as stream:
        for note in (*notes, WRITTEN):
            stream.write(f"# {note}\n")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow(row)
            count += 1
    print(f"{name}: {count} rows")


def plain_vr(vr: str) -> str:
    """Join alternative VRs with a slash; a whole group has no VR of its own."""
    return "" if vr.startswith("(") else vr.replace(" or ", "/")


def build_attributes(profile: Sequence[Row], gaps: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Write attributes.csv and return its content as tag -> (vr, keyword)."""
    found = {f"{tag:08X}": (plain_vr(entry[0]), entry[4]) for tag, entry in DicomDictionary.items()}
    for tag, entry in RepeatersDictionary.items():
        found[re.sub("X", "x", tag.upper())] = (plain_vr(entry[0]), entry[4])
    for row in (*profile, *gaps):
        tag = row["tag"]
        if tag not in found and tag != "PRIVATE" and plain_vr(row["vr"]):
            found[tag] = (plain_vr(row["vr"]), row["keyword"])
    write_resource(
        "attributes.csv",
        (
            "Public attributes of the DICOM data dictionary with their VR and keyword.",
            f"Edition: PS3.6 as carried by pydicom {pydicom.__version__}, plus attributes up to {EDITION}.",
            f"Source: pydicom; attributes it lacks come from PS3.6 and Table E.1-1. {PS315}",
            "An x in a tag stands for any hexadecimal digit; VR alternatives are joined by a slash.",
        ),
        ("tag", "vr", "keyword"),
        ((tag, vr, keyword) for tag, (vr, keyword) in sorted(found.items())),
    )
    return found


def build_profile(profile: Sequence[Row]) -> None:
    """Write confidentiality_profile.csv."""
    columns = ("tag", "keyword", "vr", "basic", *OPTION_COLUMNS)
    rows = [
        [plain_vr(row["vr"]) if column == "vr" else row[column] for column in columns]
        + [row["name"], row["retired"], row["in_std_comp_iod"]]
        for row in profile
    ]
    write_resource(
        "confidentiality_profile.csv",
        (
            "Actions of the Basic Profile and of its options for each attribute.",
            f"Edition: {EDITION}",
            f"Source: Table E.1-1. {PS315}",
            "An empty option cell leaves the action of the Basic Profile as it is.",
            "PRIVATE stands for every attribute of an odd group.",
        ),
        (
            "tag",
            "keyword",
            "vr",
            "basic",
            *OPTION_COLUMNS.values(),
            "name",
            "retired",
            "in_std_comp_iod",
        ),
        sorted(rows),
    )


def _by_class(row: Row) -> Decision | None:
    """Return the decision that follows from the kind of attribute alone, if any."""
    if row["tag"][:4] == "0000":
        return Decision("X", "command group, not part of a data set", row["keyword"])
    if row["tag"][:4] == "0002":
        return Decision("X", "file meta information is rebuilt", row["keyword"])
    if row["tag"][:4] == "0004":
        return Decision("X", "directory records are rebuilt", row["keyword"])
    if row.get("class") == "person_name":
        return Decision(REMOVE, "name of a person", row["keyword"])
    if row.get("class") == "temporal":
        return Decision(REMOVE, "date or time of an event", row["keyword"])
    if row.get("class") == "uri" and row["keyword"] != "URNCodeValue":
        return Decision(REMOVE, "address of a resource", row["keyword"])
    return None


def build_beyond(gaps: Sequence[Row], attributes: Mapping[str, tuple[str, str]]) -> list[Row]:
    """Write beyond_table.csv and return its rows."""
    listed: dict[str, Decision] = {}
    for decision in DECISIONS:
        for keyword in decision.keywords.split():
            if keyword in listed:
                raise SystemExit(f"build_standard: {keyword} is decided twice")
            listed[keyword] = decision
    by_keyword = {keyword: (tag, vr) for tag, (vr, keyword) in attributes.items()}
    asked = list(gaps)
    in_gaps = {row["keyword"] for row in gaps}
    for keyword in (*EXTRA_KEYWORDS, *(keyword for keyword in listed if keyword not in in_gaps)):
        if keyword not in by_keyword:
            raise SystemExit(f"build_standard: {keyword} is not an attribute")
        tag, vr = by_keyword[keyword]
        asked.append({"tag": tag, "keyword": keyword, "vr": vr, "class": "extra"})
    rows: list[Row] = []
    used: set[str] = set()
    for row in asked:
        chosen = _by_class(row)
        if chosen is None:
            chosen = listed.get(row["keyword"])
            used.add(row["keyword"])
        if chosen is None:
            raise SystemExit(f"build_standard: no decision for {row['tag']} {row['keyword']}")
        dated = row["class"] == "temporal"
        rows.append(
            {
                "tag": row["tag"],
                "keyword": row["keyword"],
                "vr": plain_vr(row["vr"]),
                "basic": chosen.basic,
                "retain_full_dates": "K" if dated else "",
                "retain_modified_dates": "C" if dated else "",
                "retain_institution_identity": chosen.institution,
                "retain_device_identity": chosen.device,
                "reason": chosen.reason,
            }
        )
    overlay = dict.fromkeys(rows[0], "")
    rows.append(overlay | {"tag": "60xxxxxx", "basic": "X", "reason": "an overlay group is removed as a whole"})
    idle = set(listed) - used
    if idle:
        raise SystemExit(f"build_standard: decided here and by class: {' '.join(sorted(idle))}")
    rows.sort(key=lambda row: row["tag"])
    if len({row["tag"] for row in rows}) != len(rows):
        raise SystemExit("build_standard: an attribute beyond the table is listed twice")
    write_resource(
        "beyond_table.csv",
        (
            "Our actions for attributes that Table E.1-1 does not list but that can identify or link.",
            f"Edition: beside Table E.1-1 of {EDITION}",
            f"Source: decisions of this project, in the codes of Table E.1-1. {PS315}",
            "K leaves the attribute as it is; X/Z/D removes, empties or replaces it as its Type asks.",
        ),
        tuple(rows[0]),
        (tuple(row.values()) for row in rows),
    )
    return rows


class Highdicom:
    """The PS3.3 Types in highdicom's data files."""

    def __init__(self, folder: Path) -> None:
        self.modules: dict[str, list[dict[str, object]]] = _load(folder / "module_attribute_map.json")
        self.iods: dict[str, list[dict[str, str]]] = _load(folder / "iod_module_map.json")
        self.sops: dict[str, str] = _load(folder / "sop_class_iod_map.json")

    def attributes(self, module: str) -> Iterator[tuple[str, str, str]]:
        """Yield (keyword, immediate parent keyword or "", Type) for each attribute of a module."""
        for item in self.modules.get(module, []):
            path, kind = item["path"], str(item["type"])
            if kind in TYPE_ORDER and isinstance(path, list):
                yield str(item["keyword"]), str(path[-1]) if path else "", kind


TYPE_ORDER = ("1", "1C", "2", "2C", "3")


def _load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def strictest(kinds: Iterable[str]) -> str:
    """Return the strictest of some Types; none at all counts as 3."""
    return min(kinds, key=TYPE_ORDER.index, default="3")


def offering_x_or_z(codes: Mapping[str, str]) -> set[str]:
    """Return the tags whose action offers X or Z; repeating groups always go as a whole."""
    return {tag for tag, code in codes.items() if {"X", "Z"} & set(code.split("/")) and "x" not in tag}


def last_attribute(sop: str, tag_of: Mapping[str, str], types: Highdicom) -> str:
    """Return the tag of the highest attribute at the top level of every valid object of a SOP class."""
    modules = types.iods[types.sops[sop]]
    mandatory = [module["key"] for module in modules if module["usage"] == "M"]
    pixel = [module["key"] for module in modules if module["key"] in PIXEL_MODULES]
    if len(pixel) > 1 or PIXEL_MODULES.intersection(mandatory):
        return PIXEL_DATA
    for key, tag in LAST_OF_MODULE.items():
        if key in mandatory:
            return tag
    return max(
        tag_of[keyword]
        for key in mandatory
        for keyword, parent, kind in types.attributes(key)
        if not parent and kind in ("1", "2") and keyword in tag_of
    )


def build_iod_types(
    facts: Path, codes: Mapping[str, str], plain_x: set[str], tag_of: Mapping[str, str], types: Highdicom
) -> None:
    """Write iod_types.csv after comparing it with the transcribed Types of the compound codes."""
    wanted = offering_x_or_z(codes) | set(ALWAYS_TYPED)
    facts_rows = read_facts(facts / "iod_types.csv")
    names = {row["sop_class_uid"]: row["sop_class_name"] for row in facts_rows}
    by_module: dict[str, Types] = {
        module: {
            (tag_of[keyword], kind): ""
            for keyword, parent, kind in types.attributes(module)
            if not parent and tag_of.get(keyword) in wanted
        }
        for module in types.modules
    }
    result: dict[str, dict[str, str]] = {}
    for sop, iod in sorted(types.sops.items()):
        every: dict[str, list[str]] = {}
        mandatory: dict[str, list[str]] = {}
        for module in types.iods[iod]:
            for tag, kind in by_module.get(module["key"], {}):
                every.setdefault(tag, []).append(kind)
                if module["usage"] == "M":
                    mandatory.setdefault(tag, []).append(kind)
        found = {
            tag: strictest(mandatory[tag] if tag in plain_x and tag in mandatory else kinds)
            for tag, kinds in every.items()
        }
        result[sop] = {tag: kind for tag, kind in found.items() if kind != "3"}
    for row in facts_rows:
        ours = result[row["sop_class_uid"]].get(row["tag"], "3")
        if ours != row["type"]:
            raise SystemExit(f"build_standard: {row['sop_class_uid']} {row['tag']}: {ours}, not {row['type']}")
    last = {sop: last_attribute(sop, tag_of, types) for sop, found in result.items() if found}
    for retired, successor in SUCCESSORS.items():
        name = UID_dictionary[retired][0].removesuffix(" (Retired)")
        names[retired] = f"{name} (Retired)"
        result[retired] = result[successor]
        last[retired] = last[successor]
    write_resource(
        "iod_types.csv",
        (
            "Types at the top level of each Storage SOP Class, as GGGGEEEE=Type; Type 3 is left out.",
            "Edition: PS3.3 2026b",
            "Source: highdicom (MIT), from PS3.3 and PS3.4. DICOM PS3.3, (c) NEMA",
            "Type: the strictest one over all modules of the object, optional modules included.",
            "Except: for a plain X code, mandatory modules decide wherever one of them lists the attribute.",
            f"Attributes: those whose action offers X or Z, and always {' '.join(ALWAYS_TYPED)}.",
            "Not here: curve and overlay groups, which go or stay whole, and what beyond_table.csv codes X.",
            "A Type of an optional module does not say that the attribute has to be present.",
            "last: the highest attribute of every valid object: its content, or else the highest one of",
            "Type 1 or 2 in its mandatory modules. 7FE00010 stands for 7FE00008 and 7FE00009 as well.",
            "Pixel data that a JPIP transfer syntax only refers to by 00287FE0 has no 7FE00010.",
            "Retired SOP classes that still occur have the types and the last of their successor.",
        ),
        ("sop_class_uid", "name", "types", "last"),
        (
            (
                sop,
                names[sop],
                " ".join(f"{tag}={kind}" for tag, kind in sorted(found.items())),
                last[sop],
            )
            for sop, found in sorted(result.items())
            if found
        ),
    )


def build_nested_types(facts: Path, codes: Mapping[str, str], tag_of: Mapping[str, str], types: Highdicom) -> None:
    """Write nested_types.csv after comparing it with the transcribed Types."""
    wanted = offering_x_or_z(codes)
    found: dict[tuple[str, str], list[str]] = {}
    for module in types.modules:
        for keyword, parent, kind in types.attributes(module):
            tag = tag_of.get(keyword)
            if parent and tag in wanted:
                found.setdefault((parent, tag), []).append(kind)
    known = {key: strictest(kinds) for key, kinds in found.items()}
    checks = [
        (row["module_or_parent_sequence"], row["tag"], row["type"])
        for row in read_facts(facts / "iod_types_compact.csv")
        if row["level"] == "nested"
    ]
    checks += [
        (row["module_or_parent"], row["tag"], row["type"])
        for row in read_facts(facts / "plain_code_type_conflicts.csv")
        if row["level"] == "nested"
    ]
    for parent, tag, kind in checks:
        if known.get((parent, tag), "3") != kind:
            raise SystemExit(f"build_standard: {parent} {tag}: {known.get((parent, tag))}, not {kind}")
    rows = []
    for (parent, tag), kind in known.items():
        if kind == "3":
            continue
        if parent not in tag_of:
            print(f"nested_types.csv: no tag known for {parent}, {tag}={kind} left out")
            continue
        rows.append((tag_of[parent], tag, kind))
    write_resource(
        "nested_types.csv",
        (
            "Types in the items of the sequence named as parent; Type 3 is left out.",
            "Edition: PS3.3 2026b",
            "Source: highdicom (MIT), from PS3.3. DICOM PS3.3, (c) NEMA",
            "Type: the strictest one over all modules that hold the attribute in that sequence.",
            "Attributes: those whose action offers X or Z, but not what beyond_table.csv codes X.",
        ),
        ("parent", "tag", "type"),
        sorted(rows),
    )


def build_method_codes(facts: Path) -> None:
    """Write method_codes.csv."""
    rows = read_facts(facts / "codes.csv")
    write_resource(
        "method_codes.csv",
        (
            "Codes of the De-identification Method, each with the option it stands for.",
            f"Edition: {EDITION}",
            f"Source: PS3.16 CID 7050; sections of {PS315}",
            "The coding scheme is DCM.",
        ),
        ("code_value", "code_meaning", "option", "section"),
        (
            (row["code_value"], row["code_meaning"], METHOD_OPTIONS[row["code_value"]], row["ps315_section"])
            for row in rows
        ),
    )


def build_safe_private(facts: Path) -> None:
    """Write safe_private.csv."""
    rows = []
    for row in read_facts(facts / "safe_private.csv"):
        if row["source"] != f"PS3.15 {EDITION} Table E.3.10-1":
            continue
        group, element = row["tag_pattern"].split("xx")
        rows.append((group, element, row["private_creator"], row["vr"], row["vm"], row["meaning"]))
    write_resource(
        "safe_private.csv",
        (
            "Private attributes that are known to be safe.",
            f"Edition: {EDITION}",
            f"Source: Table E.3.10-1. {PS315}",
            "element is the low byte; the private creator reserves the high byte in each data set.",
        ),
        ("group", "element", "private_creator", "vr", "vm", "meaning"),
        sorted(rows, key=lambda row: (row[2], row[0], row[1])),
    )


LATER_TRANSFER_SYNTAXES = (
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
)
"""Registered after the edition that pydicom carries."""
LATER = dict.fromkeys(LATER_TRANSFER_SYNTAXES, "Transfer Syntax")


def build_registered_uids() -> None:
    """Write registered_uids.csv."""
    write_resource(
        "registered_uids.csv",
        (
            "UIDs registered by the standard, which are never replaced.",
            f"Edition: PS3.6 Annex A as carried by pydicom {pydicom.__version__}",
            "Source: pydicom, and later transfer syntaxes of 2026d. DICOM PS3.6, (c) NEMA",
        ),
        ("uid", "type"),
        sorted(({uid: entry[1] for uid, entry in UID_dictionary.items()} | LATER).items()),
    )


def find_highdicom() -> Path | None:
    """Return the data folder of an installed highdicom, if there is one."""
    spec = importlib.util.find_spec("highdicom")
    return Path(spec.origin).parent / "_standard" if spec and spec.origin else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Write every resource file; without highdicom the two files of Types stay as they are."""
    parser = argparse.ArgumentParser(description="Write the resource files of dicomshield.standard.")
    parser.add_argument("facts", type=Path, metavar="FACTS_DIR", help="directory of transcribed facts")
    parser.add_argument("--highdicom", type=Path, metavar="DIR", help="highdicom's _standard directory")
    options = parser.parse_args(arguments)
    facts: Path = options.facts
    profile = read_facts(facts / "confidentiality_profile.csv")
    gaps = read_facts(facts / "gaps_not_in_table.csv")
    attributes = build_attributes(profile, gaps)
    build_profile(profile)
    beyond = build_beyond(gaps, attributes)
    build_method_codes(facts)
    build_safe_private(facts)
    build_registered_uids()
    folder: Path | None = options.highdicom or find_highdicom()
    if folder is None:
        print("iod_types.csv, nested_types.csv: left as they are, highdicom was not found", file=sys.stderr)
        return 0
    types = Highdicom(folder)
    tag_of = {keyword: tag for tag, (_, keyword) in attributes.items() if keyword}
    # A plain X of our own means that no dummy is ever wanted, so its Type is of no use.
    codes = {row["tag"]: row["basic"] for row in beyond if row["basic"] != "X"}
    codes |= {row["tag"]: row["basic"] for row in profile if row["tag"] != "PRIVATE"}
    plain_x = {row["tag"] for row in profile if row["basic"] == "X"}
    build_iod_types(facts, codes, plain_x, tag_of, types)
    build_nested_types(facts, codes, tag_of, types)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The resource files of the standard against pydicom's dictionary and the transcribed facts."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom._uid_dict import UID_dictionary

from dicomshield.standard import tables

REPO = Path(__file__).resolve().parent.parent
DATA = REPO / "src" / "dicomshield" / "standard" / "data"

OPTIONS = {
    "retain_safe_private": "rtn_safe_priv",
    "retain_uids": "rtn_uids",
    "retain_device_identity": "rtn_dev_id",
    "retain_institution_identity": "rtn_inst_id",
    "retain_patient_characteristics": "rtn_pat_chars",
    "retain_full_dates": "rtn_long_full_dates",
    "retain_modified_dates": "rtn_long_modif_dates",
    "clean_descriptors": "clean_desc",
    "clean_structured_content": "clean_struct_cont",
    "clean_graphics": "clean_graph",
}
CODES = {"X", "Z", "D", "U", "K", "C", "Z/D", "X/Z", "X/D", "X/Z/D", "X/Z/U*"}
TYPES = {"1", "1C", "2", "2C"}

# Attributes of later editions than pydicom 3.0.2 carries.
UNKNOWN_TO_PYDICOM = {
    "00081301", "00081302", "00081303", "00081304", "00100011", "00100012", "00100013", "00100014",
    "00100015", "00100016", "00100041", "00100042", "00100043", "00100044", "00100045", "00100046",
    "00100047", "00102162", "00144103", "00146025", "0014602F", "00146036", "0014603B", "00146043",
    "00146045", "0040A034", "0040A035", "0040B034", "0040B036", "0040B03B", "0040B03F", "0040E012",
    "3004007F",
}  # fmt: skip
# Retired Storage SOP Classes, each with its successor (PS3.6 Annex A).
SUCCESSORS = {
    "1.2.840.10008.5.1.4.1.1.3": "1.2.840.10008.5.1.4.1.1.3.1",
    "1.2.840.10008.5.1.4.1.1.5": "1.2.840.10008.5.1.4.1.1.20",
    "1.2.840.10008.5.1.4.1.1.6": "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.12.3": "1.2.840.10008.5.1.4.1.1.12.1",
    "1.2.840.10008.5.1.4.1.1.77.1": "1.2.840.10008.5.1.4.1.1.77.1.4",
    "1.2.840.10008.5.1.4.1.1.77.2": "1.2.840.10008.5.1.4.1.1.77.1.4",
}

# Retired in the 2026d table, not yet in pydicom's dictionary.
RETIRED_SINCE = {"00102160"}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def resource(name: str) -> list[dict[str, str]]:
    return read(DATA / name)


@pytest.fixture(scope="module")
def facts() -> Path:
    """Return the directory of transcribed facts, which is not part of the repository."""
    folder = Path(os.environ.get("DICOMSHIELD_SHARED", str(REPO.parent / "shared"))) / "standard"
    if not folder.is_dir():
        pytest.skip("the transcribed facts are not here (set DICOMSHIELD_SHARED)")
    return folder


def pydicom_entry(tag: str) -> tuple[str, str, str, str, str] | None:
    """Return pydicom's (VR, VM, name, retired, keyword) of a tag; x is a wildcard digit."""
    if "x" in tag:
        return {key.lower(): entry for key, entry in RepeatersDictionary.items()}.get(tag.lower())
    return DicomDictionary.get(int(tag, 16))


@pytest.mark.parametrize("path", sorted(DATA.glob("*.csv")), ids=lambda path: path.name)
def test_resource_header(path: Path) -> None:
    """Every resource says what it is, its edition, its source and its writer, in UTF-8 with LF."""
    raw = path.read_bytes()
    assert b"\r" not in raw
    text = raw.decode("utf-8")
    notes = [line for line in text.splitlines() if line.startswith("# ")]
    assert text.startswith("# ")
    assert any(note.startswith("# Edition: ") for note in notes)
    assert any(note.startswith("# Source: ") for note in notes)
    assert "(c) NEMA" in text
    assert "# written by tools/build_standard.py" in notes


def test_attributes_equal_pydicom() -> None:
    """The dictionary gives the keyword and VR of PS3.6 for every tag pydicom knows."""
    rows = resource("attributes.csv")
    assert [row["tag"] for row in rows] == sorted({row["tag"] for row in rows})
    assert len(rows) == len(DicomDictionary) + len(RepeatersDictionary) + len(UNKNOWN_TO_PYDICOM)
    unknown = set()
    for row in rows:
        entry = pydicom_entry(row["tag"])
        if entry is None:
            unknown.add(row["tag"])
        else:
            assert (row["vr"], row["keyword"]) == (entry[0].replace(" or ", "/"), entry[4]), row
    assert unknown == UNKNOWN_TO_PYDICOM


@pytest.mark.parametrize("name", ["confidentiality_profile.csv", "beyond_table.csv"])
def test_action_tables_equal_dictionary(name: str) -> None:
    """Keyword and VR in the action tables are those of the dictionary (PS3.6)."""
    groups = {"PRIVATE", "50xxxxxx", "60xxxxxx"}
    dictionary = {row["tag"]: (row["keyword"], row["vr"]) for row in resource("attributes.csv")}
    for row in resource(name):
        if row["tag"] in groups:
            assert row["vr"] == ""
            continue
        assert (row["keyword"], row["vr"]) == dictionary[row["tag"]], row


def test_retired_rows_equal_pydicom() -> None:
    """A row is marked retired as in PS3.6, but for the attributes retired since pydicom's edition."""
    different = set()
    for row in resource("confidentiality_profile.csv"):
        entry = None if row["tag"] == "PRIVATE" else pydicom_entry(row["tag"])
        if entry is not None and (entry[3] == "Retired") != (row["retired"] == "Y"):
            different.add(row["tag"])
    assert different == RETIRED_SINCE


def test_action_codes_are_known() -> None:
    """Every action is a code of PS3.15 Table E.1-1a."""
    for name in ("confidentiality_profile.csv", "beyond_table.csv"):
        for row in resource(name):
            assert row["basic"] in CODES
            for option in OPTIONS:
                assert row.get(option, "") in {"", "K", "C"}, row


def test_beyond_table_is_disjoint_and_explained() -> None:
    """Our own actions never repeat a row of Table E.1-1, and each has a reason."""
    beyond = resource("beyond_table.csv")
    assert len({row["tag"] for row in beyond}) == len(beyond)
    assert not {row["tag"] for row in beyond} & {row["tag"] for row in resource("confidentiality_profile.csv")}
    assert all(row["reason"] for row in beyond)


def test_beyond_table_uids() -> None:
    """Instance UIDs that the table omits are mapped, structural UIDs are not (E.1.1-04, E.3.9)."""
    basic = {row["tag"]: row["basic"] for row in resource("beyond_table.csv")}
    mapped = (
        "00200242 00081167 00083012 0018991E 00209312 00209313 300A0675 0070031B 00701209 00440102 "
        "00440108 00687004 0072007F 0040E011 0040E030 0040E031 00280304 0008010D"
    )
    kept = (
        "00080016 00081150 0008001A 0008001B 00080062 0008115A 30100052 30100053 00083002 0008040E "
        "00340003 04000010 04000510 0008010C 00080117 00080118 3010001F"
    )
    assert {basic[tag] for tag in mapped.split()} == {"U"}
    assert {basic[tag] for tag in kept.split()} == {"K"}
    assert {code for tag, code in basic.items() if tag[:4] in {"0000", "0002", "0004"}} == {"X"}


def test_beyond_table_never_keeps_names_dates_or_addresses() -> None:
    """No person name, date or address outside the table is left as it is."""
    for row in resource("beyond_table.csv"):
        if row["vr"] in {"PN", "DA", "DT", "TM", "AE"} or (row["vr"] == "UR" and row["tag"] != "00080120"):
            assert row["basic"] in {"X", "X/Z/D"}, row


def test_beyond_table_short_strings() -> None:
    """Short strings that a site or a person fills in are removed; codes and device text have no row."""
    rows = {row["keyword"]: row for row in resource("beyond_table.csv")}
    removed = (
        "ComponentWelderIDs BreedRegistrationNumber StrainSource StrainStockNumber InstructionText "
        "SubstanceAdministrationNotes HangingProtocolCreator OwnerID ImageID AssessmentSetID "
        "TreatmentProtocols BoardingPassID ItineraryID RouteID CarrierID ConfidentialityCode"
    )
    devices = (
        "DeviceID GridID SubstanceAdministrationDeviceID AccessoryCode PatientSupportAccessoryCode "
        "TrayAccessoryCode ApplicatorID WedgeID RangeShifterID"
    )
    for keyword in f"{removed} {devices}".split():
        assert rows[keyword]["basic"] == "X/Z/D", keyword
    assert {rows[keyword]["retain_device_identity"] for keyword in devices.split()} == {"K"}
    assert {rows[keyword]["retain_device_identity"] for keyword in removed.split()} == {""}
    assert rows["MoveDestination"]["basic"] == "X"
    left = "CodeValue CodeMeaning CodingSchemeDesignator ConvolutionKernel FilterType LUTExplanation StackID"
    assert not set(left.split()) & set(rows)


def test_type_files_are_well_formed() -> None:
    """Types are 1, 1C, 2 or 2C of attributes in the dictionary, for UIDs of the standard (PS3.3)."""
    dictionary = {row["tag"]: row["vr"] for row in resource("attributes.csv")}
    for row in resource("iod_types.csv"):
        assert row["sop_class_uid"].startswith("1.2.840.10008.5.1.4.")
        entries = dict(entry.split("=") for entry in row["types"].split())
        assert {"00080016", "00080018"} <= set(entries)
        assert set(entries) <= set(dictionary)
        assert set(entries.values()) <= TYPES
        assert dictionary[row["last"]]
    nested = resource("nested_types.csv")
    assert len({(row["parent"], row["tag"]) for row in nested}) == len(nested)
    for row in nested:
        assert dictionary[row["parent"]] == "SQ"
        assert row["tag"] in dictionary
        assert row["type"] in TYPES


def test_last_attributes() -> None:
    """The content ends an object, else its highest mandatory attribute does (PS3.3)."""
    last = tables.last_attributes()
    expected = {
        "1.2.840.10008.5.1.4.1.1.2": 0x7FE00010,
        "1.2.840.10008.5.1.4.1.1.4.1": 0x7FE00010,
        "1.2.840.10008.5.1.4.1.1.30": 0x7FE00010,
        "1.2.840.10008.5.1.4.1.1.66.4": 0x7FE00010,
        "1.2.840.10008.5.1.4.1.1.66.8": 0x7FE00010,
        "1.2.840.10008.5.1.4.1.1.4.2": 0x56000020,
        "1.2.840.10008.5.1.4.1.1.9.1.1": 0x54000100,
        "1.2.840.10008.5.1.4.1.1.88.59": 0x0040A730,
        "1.2.840.10008.5.1.4.1.1.88.67": 0x0040A730,
        "1.2.840.10008.5.1.4.1.1.104.1": 0x00420011,
        "1.2.840.10008.5.1.4.1.1.11.1": 0x00700083,
        "1.2.840.10008.5.1.4.1.1.481.2": 0x3004000A,
        "1.2.840.10008.5.1.4.1.1.481.3": 0x30060009,
        "1.2.840.10008.5.1.4.1.1.481.5": 0x300A000C,
    }
    assert {sop: last[sop] for sop in expected} == expected
    assert last.keys() == tables.sop_classes().keys()
    assert {f"{tag:08X}" for tag in last.values()} <= {row["tag"] for row in resource("attributes.csv")}


def test_retired_sop_classes_follow_their_successor() -> None:
    """A retired Storage SOP Class has the Types and the last attribute of its successor."""
    rows = {row["sop_class_uid"]: row for row in resource("iod_types.csv")}
    assert {sop for sop, row in rows.items() if row["name"].endswith(" (Retired)")} == set(SUCCESSORS)
    for retired, successor in SUCCESSORS.items():
        assert UID_dictionary[retired][3] == "Retired"
        for column in ("types", "last"):
            assert rows[retired][column] == rows[successor][column]


def test_timezone_offset_is_not_required_everywhere() -> None:
    """The timezone module alone makes (0008,0201) Type 1; the other objects have it as Type 3."""
    strict = [row["sop_class_uid"] for row in resource("iod_types.csv") if "00080201=" in row["types"]]
    assert strict == ["1.2.840.10008.5.1.4.1.1.88.72"]


def test_plain_remove_conflicts() -> None:
    """Presentation Creation Date and Time are coded X but Type 1 in presentation states (PS3.3)."""
    types = {row["sop_class_uid"]: row["types"].split() for row in resource("iod_types.csv")}
    assert "00700082=1" in types["1.2.840.10008.5.1.4.1.1.11.1"]
    assert "00700083=1" in types["1.2.840.10008.5.1.4.1.1.11.1"]


def test_registered_uids_equal_pydicom() -> None:
    """Every UID of PS3.6 Annex A is listed with its type, those registered after pydicom's edition too."""
    listed = {row["uid"]: row["type"] for row in resource("registered_uids.csv")}
    # JPEG XL, and Deflated Image Frame Compression; importing pynetdicom adds them to pydicom's table
    later = [f"1.2.840.10008.1.2.{end}" for end in ("4.110", "4.111", "4.112", "8.1")]
    known = {uid: entry[1] for uid, entry in UID_dictionary.items()}
    assert listed == known | dict.fromkeys(later, "Transfer Syntax")


def test_profile_equals_facts(facts: Path) -> None:
    """All 657 rows of Table E.1-1 have the codes of the 2026d edition, in every column."""
    theirs = {row["tag"]: row for row in read(facts / "confidentiality_profile.csv")}
    ours = resource("confidentiality_profile.csv")
    assert len(ours) == len(theirs) == 657
    for row in ours:
        fact = theirs[row["tag"]]
        for column in ("keyword", "name", "basic", "retired", "in_std_comp_iod"):
            assert row[column] == fact[column]
        for column, theirs_column in OPTIONS.items():
            assert row[column] == fact[theirs_column], row
        assert row["vr"] == ("" if row["tag"] == "50xxxxxx" else fact["vr"].replace(" or ", "/"))


def test_beyond_table_covers_every_gap(facts: Path) -> None:
    """Every attribute known to be missing from Table E.1-1 has a decision."""
    assert {row["tag"] for row in read(facts / "gaps_not_in_table.csv")} <= {
        row["tag"] for row in resource("beyond_table.csv")
    }


def test_method_codes_equal_facts(facts: Path) -> None:
    """The 13 codes are those of PS3.16 CID 7050."""
    ours = [(row["code_value"], row["code_meaning"], row["section"]) for row in resource("method_codes.csv")]
    theirs = [(row["code_value"], row["code_meaning"], row["ps315_section"]) for row in read(facts / "codes.csv")]
    assert len(ours) == 13
    assert ours == theirs


def test_method_codes_equal_pydicom() -> None:
    """Code values and meanings are those of pydicom's copy of CID 7050."""
    from pydicom.sr.codedict import codes

    theirs = {str(code.value): code.meaning for code in (getattr(codes.CID7050, n) for n in codes.CID7050.dir())}
    assert {row["code_value"]: row["code_meaning"] for row in resource("method_codes.csv")} == theirs


def test_safe_private_equals_facts(facts: Path) -> None:
    """The 479 rows are those of Table E.3.10-1."""
    ours = {
        (row["group"] + "xx" + row["element"], row["private_creator"], row["vr"], row["vm"], row["meaning"])
        for row in resource("safe_private.csv")
    }
    theirs = {
        (row["tag_pattern"], row["private_creator"], row["vr"], row["vm"], row["meaning"])
        for row in read(facts / "safe_private.csv")
        if row["source"].endswith("Table E.3.10-1")
    }
    assert len(resource("safe_private.csv")) == 479
    assert ours == theirs


def test_compound_types_equal_facts(facts: Path) -> None:
    """Every compound code has the strictest Type of its object, at the top and in sequences (E.1.1)."""
    types = {
        row["sop_class_uid"]: dict(entry.split("=") for entry in row["types"].split())
        for row in resource("iod_types.csv")
    }
    for row in read(facts / "iod_types.csv"):
        assert types[row["sop_class_uid"]].get(row["tag"], "3") == row["type"], row
    tags = {row["keyword"]: row["tag"] for row in resource("attributes.csv")}
    nested = {(row["parent"], row["tag"]): row["type"] for row in resource("nested_types.csv")}
    compact = [row for row in read(facts / "iod_types_compact.csv") if row["level"] == "nested"]
    for row in compact:
        parent = tags[row["module_or_parent_sequence"]]
        assert nested.get((parent, row["tag"]), "3") == row["type"], row
    for row in read(facts / "plain_code_type_conflicts.csv"):
        if row["level"] == "nested":
            assert nested[tags[row["module_or_parent"]], row["tag"]] == row["type"], row

"""What a profile decides: codes by Type and place, options, overrides, claims (PS3.15 Annex E)."""

from __future__ import annotations

import copy
import pickle
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from factories import HOSPITAL, NAME, UID_ROOT, ct, raw, raw_ct
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, RTPlanStorage

from dicomshield import Action, Deidentifier, Option, PolicyError, Profile, Project, Quarantined, Reason, Report
from dicomshield.profile import vr_of
from dicomshield.standard import tables

FULL, MODIFIED, DEVICE = Option.RETAIN_FULL_DATES, Option.RETAIN_MODIFIED_DATES, Option.RETAIN_DEVICE_IDENTITY
PRIVATE = Option.RETAIN_SAFE_PRIVATE
CLEANERS = [option for option in Option if option.name.startswith("CLEAN_")]
WITHOUT = [option for option in CLEANERS if option is not Option.CLEAN_PIXEL_DATA]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


def clean(project: Project, ds: Dataset, profile: Profile | None = None) -> Dataset:
    return Deidentifier(profile, project=project)(ds)


def policy(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    return Profile.from_toml(path)


def item(**values: object) -> Dataset:
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def with_sequence(keyword: str, one: Dataset) -> Dataset:
    ds = ct()
    setattr(ds, keyword, Sequence([one]))
    return ds


def codes(ds: Dataset) -> list[str]:
    return [one.CodeValue for one in ds.get("DeidentificationMethodCodeSequence", [])]


def rt_plan(**changes: object) -> Dataset:
    """Return a small RT Plan with what its Type 1 and 2 attributes ask."""
    image = ct()
    ds = Dataset()
    ds.update({element.tag: element for element in image if element.tag < 0x00180000})
    ds.SOPClassUID, ds.Modality, ds.SOPInstanceUID = RTPlanStorage, "RTPLAN", f"{UID_ROOT}.8"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = image.StudyInstanceUID, image.SeriesInstanceUID
    ds.RTPlanLabel, ds.RTPlanGeometry, ds.ApprovalStatus = "plan of X", "PATIENT", "UNAPPROVED"
    ds.RTPlanDate, ds.RTPlanTime = "20190822", "1015"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize("options", [(FULL, MODIFIED), (DEVICE, MODIFIED), (FULL, DEVICE, MODIFIED)])
def test_options_that_contradict_each_other_are_refused(options: tuple[Option, ...]) -> None:
    """No date can be kept and changed, and PS3.15 gives no option precedence (E.3.6, E.3.8)."""
    with pytest.raises(PolicyError) as refused:
        Profile.basic(*options)

    assert "RETAIN_MODIFIED_DATES" in str(refused.value)
    assert all(option.name in str(refused.value) for option in options)
    with pytest.raises(PolicyError):
        Profile.basic(options[0]).with_options(options[1:])


@pytest.mark.parametrize("option", WITHOUT)
def test_options_without_a_cleaner_are_refused(option: Option) -> None:
    """An object must not claim what was not done (E.3.1 to E.3.5): the sentence names the option."""
    with pytest.raises(PolicyError, match=rf"^{option.name} is not available yet: .+no cleaner"):
        Profile.basic(option)


@pytest.mark.parametrize("option", [option for option in Option if option not in CLEANERS])
def test_every_other_option_is_accepted_and_claimed(project: Project, option: Option) -> None:
    """An option applied is claimed by its code of CID 7050 beside 113100 (E.1.1, PS3.16 CID 7050)."""
    output = clean(project, ct(StationName="CT7"), Profile.basic(option))

    assert codes(output) == ["113100", option.value]
    assert Option.parse(option.name.lower().replace("_", "-")) is option


@pytest.mark.parametrize(
    ("keyword", "sop_class", "parent", "expected"),
    [
        # X/D at Type 2: no Z on offer, the next stronger one is D
        ("RTPlanDate", RTPlanStorage, "", Action.DUMMY),
        ("RTPlanTime", RTPlanStorage, "", Action.DUMMY),
        ("RTPlanDate", CTImageStorage, "", Action.REMOVE),
        # X/Z/D at Type 3, 2 and 1C
        ("InstitutionName", CTImageStorage, "", Action.REMOVE),
        ("InstitutionName", CTImageStorage, "ROICreatorSequence", Action.EMPTY),
        ("InstitutionName", CTImageStorage, "ReferringPhysicianIdentificationSequence", Action.DUMMY),
        ("OperatorsName", RTPlanStorage, "", Action.EMPTY),
        ("OperatorsName", CTImageStorage, "", Action.REMOVE),
        # X/Z/U* at Type 3 and 1
        ("ReferencedImageSequence", CTImageStorage, "", Action.REMOVE),
        ("ReferencedImageSequence", CTImageStorage, "ReferencedSeriesSequence", Action.KEEP),
        # plain codes
        ("PatientBirthDate", CTImageStorage, "", Action.EMPTY),
        ("FrameOfReferenceUID", CTImageStorage, "", Action.UID),
        ("RTPlanLabel", RTPlanStorage, "", Action.DUMMY),
        # plain X, where the IOD does not let it go
        ("PresentationCreationDate", "1.2.840.10008.5.1.4.1.1.11.1", "", Action.DUMMY),
        ("PresentationCreationDate", CTImageStorage, "", Action.REMOVE),
        # Z/D, and what the tool makes of it at the top level
        ("PatientID", CTImageStorage, "", Action.PSEUDONYM),
        ("PatientName", CTImageStorage, "", Action.PSEUDONYM),
        ("Rows", CTImageStorage, "", Action.KEEP),
    ],
)
def test_codes_are_resolved_by_type_at_their_place(keyword: str, sop_class: str, parent: str, expected: Action) -> None:
    """A code takes the letter that the Type at that very place asks (Table E.1-1a, E.1.1)."""
    tag = tables.parse_tag(keyword)
    decision = Profile.basic().table(sop_class).decide(tag, vr_of(tag), tables.parse_tag(parent) if parent else 0)

    assert decision.action is expected
    assert decision.why


def test_every_row_is_resolved_within_its_code() -> None:
    """No attribute of Table E.1-1 is kept without an option, but references at Type 1 (Table E.1-1a)."""
    letters = {"X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U": Action.UID}
    offered: dict[int, set[Action]] = {}
    for pattern, rule in tables.confidentiality_profile().items():
        if "x" not in pattern and pattern != "PRIVATE":
            offered[int(pattern, 16)] = {letters[letter] for letter in rule.basic.split("/") if letter in letters}
    assert len(offered) > 600

    wrong = []
    for sop_class in (CTImageStorage, RTPlanStorage, "1.2.840.10008.5.1.4.1.1.88.11"):
        table = Profile.basic().table(sop_class)
        for tag, actions in offered.items():
            action = table.decide(tag, vr_of(tag)).action
            allowed = actions | {Action.PSEUDONYM, Action.REWRITE}
            if Action.REMOVE in actions:
                allowed |= {Action.EMPTY, Action.DUMMY} if tables.iod_types()[sop_class].get(tag, "3") != "3" else set()
            if action not in allowed and tag != 0x0040A073:
                wrong.append((sop_class, hex(tag), action))
    assert wrong == []


def test_an_rt_plan_date_is_replaced_not_removed(project: Project) -> None:
    """RT Plan Date is X/D and of Type 2: the object keeps one, that says nothing (Table E.1-1, PS3.3 C.8.8.9)."""
    output = clean(project, rt_plan())

    assert output.RTPlanDate == "19000101"
    assert output.RTPlanTime == "000000"
    assert output.RTPlanLabel == "Removed"
    assert "OperatorsName" not in output


@pytest.mark.parametrize(
    ("sequence", "released"),
    [("TreatmentMachineSequence", ""), ("RequestingPhysicianIdentificationSequence", "Removed")],
)
def test_nested_attributes_follow_the_type_of_their_sequence(project: Project, sequence: str, released: str) -> None:
    """Institution Name is Type 3 at the top, 2 or 1C in sequences: gone, empty, replaced (Table E.1-1a, PS3.3 10.1)."""
    one = item(InstitutionName=HOSPITAL, InstitutionAddress="Fennimore Road 1", StationName="FENNIMORE2")
    output = clean(project, with_sequence(sequence, one))

    assert "InstitutionName" not in output
    assert output[sequence].value[0].InstitutionName == released


def test_image_references_stay_where_they_must(project: Project) -> None:
    """Referenced Image Sequence goes at Type 3; at Type 1 it stays with new UIDs (Table E.1-1a, E.3.9)."""
    reference = item(ReferencedSOPClassUID=CTImageStorage, ReferencedSOPInstanceUID=f"{UID_ROOT}.3.9")
    inside = item(SeriesInstanceUID=f"{UID_ROOT}.2", ReferencedImageSequence=Sequence([copy.deepcopy(reference)]))
    alone = clean(project, ct(ReferencedImageSequence=Sequence([copy.deepcopy(reference)])))
    output = clean(project, ct(ReferencedSeriesSequence=Sequence([inside])))
    referenced = clean(project, ct(SOPInstanceUID=f"{UID_ROOT}.3.9"))

    assert "ReferencedImageSequence" not in alone
    series = output.ReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == output.SeriesInstanceUID
    assert series.ReferencedImageSequence[0].ReferencedSOPInstanceUID == referenced.SOPInstanceUID
    assert series.ReferencedImageSequence[0].ReferencedSOPClassUID == CTImageStorage


@pytest.mark.parametrize(
    "sequence",
    ["AnatomicRegionSequence", "ReferencedSeriesSequence", "PatientOrientationCodeSequence", "DerivationCodeSequence"],
)
def test_rules_hold_in_any_sequence(project: Project, sequence: str) -> None:
    """Items of sequences that no row lists follow the same rules (E.1.1)."""
    deep = item(CodeValue="T-1", PatientName=NAME, StudyDate="20190822", SeriesInstanceUID=f"{UID_ROOT}.2")
    deep.AnatomicRegionSequence = Sequence([item(PatientComments="x", FrameOfReferenceUID=f"{UID_ROOT}.4")])
    output = clean(project, with_sequence(sequence, deep))

    one = output[sequence].value[0]
    assert one.CodeValue == "T-1"
    assert one.PatientName == ""
    assert one.get("StudyDate", "") == ""
    assert one.SeriesInstanceUID == output.SeriesInstanceUID
    assert one.AnatomicRegionSequence[0].FrameOfReferenceUID == output.FrameOfReferenceUID
    assert "PatientComments" not in one.AnatomicRegionSequence[0]


def test_what_the_table_omits_is_handled(project: Project) -> None:
    """Identifying attributes that no row lists go or are replaced: dates in words, instance UIDs (E.1.1, E.1.1-04)."""
    ds = ct(PatientBirthDateInAlternativeCalendar="12 Tammuz 5707", PatientAlternativeCalendar="HEBREW")
    ds.SOPInstanceUIDOfConcatenationSource = f"{UID_ROOT}.3.1"
    ds.AcquisitionDeviceProcessingDescription = "filter"
    output = clean(project, ds)

    assert "PatientBirthDateInAlternativeCalendar" not in output
    assert output.SOPInstanceUIDOfConcatenationSource == output.SOPInstanceUID


@pytest.mark.parametrize(
    ("vr", "expected"),
    [(b"PN", {Action.REMOVE}), (b"DA", {Action.REMOVE}), (b"AE", {Action.REMOVE}), (b"UI", {Action.UID, Action.KEEP})],
)
def test_the_net_of_each_vr_has_no_holes(vr: bytes, expected: set[Action]) -> None:
    """Every attribute of VR PN, DA, AE goes where the IOD lets it, whether a row lists it or not (E.1.1)."""
    table = Profile.basic().table("")
    decided = {
        tag: table.decide(tag, vr).action
        for tag in tables.keywords().values()
        if vr_of(tag) == vr and tag >> 16 >= 8 and not tag >> 16 & 1
    }

    offers = expected | {Action.EMPTY, Action.DUMMY, Action.PSEUDONYM}
    assert len(decided) > 10
    assert {tag for tag, action in decided.items() if action not in offers} == set()


def test_unknown_attributes_go(project: Project) -> None:
    """A public attribute that PS3.6 does not define may hold anything, so it goes, nested too (E.1.1)."""
    ds = ct()
    ds.add_new(0x00080FFE, "LO", "chest")
    ds.add_new(0x00281FFE, "UN", b"chest ")
    ds.AnatomicRegionSequence = Sequence([Dataset()])
    ds.AnatomicRegionSequence[0].add_new(0x00080FFE, "LO", "chest")
    ds.AnatomicRegionSequence[0].CodeValue = "T-1"

    output = clean(project, ds)

    assert 0x00080FFE not in output
    assert 0x00281FFE not in output
    assert [int(element.tag) for element in output.AnatomicRegionSequence[0]] == [0x00080100]


def test_curves_overlays_and_icons_go(project: Project) -> None:
    """Curves, overlays with their labels, icons and signatures go (Table E.1-1, E.1.1)."""
    ds = ct(IconImageSequence=Sequence([item(Rows=1)]), DigitalSignaturesSequence=Sequence([item(MACIDNumber=1)]))
    for tag, vr, value in (
        (0x50000010, "US", 1), (0x50003000, "OW", bytes(8)), (0x60000010, "US", 8), (0x60000022, "LO", "of him"),
        (0x60003000, "OW", bytes(8)), (0x60021500, "LO", "label"), (0x00283000, "SQ", Sequence([])),
    ):  # fmt: skip
        ds.add_new(tag, vr, value)

    output = clean(project, ds)

    assert [element.tag for element in output if element.tag.group in range(0x5000, 0x60FF)] == []
    assert "IconImageSequence" not in output
    assert "DigitalSignaturesSequence" not in output


def private_ct(creator: str = "ELSCINT1", block: int = 0x10) -> Dataset:
    ds = ct()
    ds.add_new(0x00E10000 | block, "LO", creator)
    ds.add_new(0x00E10000 | block << 8 | 0x21, "DS", "1.5")
    ds.add_new(0x00E10000 | block << 8 | 0x22, "LO", "unlisted")
    return ds


def private_tags(ds: Dataset) -> list[int]:
    return [int(element.tag) for element in ds if element.tag.is_private]


def test_private_attributes_go(project: Project) -> None:
    """Without an option no private attribute stays, nested ones neither (E.1.1, row Private Attributes)."""
    ds = private_ct()
    ds.AnatomicRegionSequence = Sequence([private_ct()])

    output = clean(project, ds)

    assert private_tags(output) == private_tags(output.AnatomicRegionSequence[0]) == []


@pytest.mark.parametrize("block", [0x10, 0x11, 0x42, 0xFF])
def test_safe_private_attributes_stay_with_their_creator(project: Project, block: int) -> None:
    """A listed element stays in whichever block its creator reserved, nested too (E.3.10, PS3.5 7.8.1)."""
    ds = private_ct(block=block)
    ds.AnatomicRegionSequence = Sequence([private_ct(block=block)])

    output = clean(project, ds, Profile.basic(PRIVATE))

    listed = [0x00E10000 | block, 0x00E10021 | block << 8]
    assert private_tags(output) == private_tags(output.AnatomicRegionSequence[0]) == listed
    assert output[listed[0]].value == "ELSCINT1"
    assert output[listed[1]].value == 1.5


@pytest.mark.parametrize("creator", ["ELSCINT2", "elscint1", "", "Quastelberry"])
def test_the_same_element_of_another_creator_goes(project: Project, creator: str) -> None:
    """An element is known by its creator, and a creator without a kept element goes (E.3.10)."""
    assert private_tags(clean(project, private_ct(creator), Profile.basic(PRIVATE))) == []


def test_two_creators_in_one_group_do_not_mix(project: Project) -> None:
    """Each block belongs to the creator that reserved it (PS3.5 7.8.1)."""
    ds = private_ct("Other", 0x10)
    ds.update({element.tag: element for element in private_ct("ELSCINT1", 0x11) if element.tag.is_private})
    ds.add_new(0x00E11221, "DS", "2.5")

    assert private_tags(clean(project, ds, Profile.basic(PRIVATE))) == [0x00E10011, 0x00E11121]


def test_private_uids_are_replaced_like_any_other(project: Project) -> None:
    """A kept private UID is the one that its public twin got, at any depth (E.3.10, E.3.9)."""

    def uid_block() -> Dataset:
        ds = ct()
        ds.add_new(0x00990010, "LO", "NQHeader")
        ds.add_new(0x00991002, "UI", f"{UID_ROOT}.2")
        return ds

    ds = uid_block()
    ds.AnatomicRegionSequence = Sequence([uid_block()])
    output = clean(project, ds, Profile.basic(PRIVATE))
    kept = clean(project, ds, Profile.basic(PRIVATE, Option.RETAIN_UIDS))

    assert output[0x00991002].value == output.SeriesInstanceUID != f"{UID_ROOT}.2"
    assert output.AnatomicRegionSequence[0][0x00991002].value == output.SeriesInstanceUID
    assert kept[0x00991002].value == f"{UID_ROOT}.2"


def test_a_safe_private_sequence_is_judged_inside(project: Project) -> None:
    """What is nested in a kept private sequence follows the rules, private UIDs too (E.3.10-03)."""
    inner = item(PatientName=NAME, SeriesInstanceUID=f"{UID_ROOT}.2", CodeValue="T-1")
    inner.add_new(0x20010010, "LO", "Unknown maker")
    inner.add_new(0x20011099, "LO", "what is it")
    ds = ct()
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x2001105F, "SQ", Sequence([inner]))

    output = clean(project, ds, Profile.basic(PRIVATE))

    one = output[0x2001105F].value[0]
    assert (one.CodeValue, one.SeriesInstanceUID) == ("T-1", output.SeriesInstanceUID)
    assert one.PatientName == ""
    assert private_tags(one) == []


def test_overrides_by_keyword_tag_and_private(project: Project, tmp_path: Path) -> None:
    """A site's policy names attributes by keyword, by tag, or by creator and element; it comes first (E.1.1)."""
    profile = policy(
        tmp_path,
        """
        [attributes]
        Manufacturer = "remove"
        "(0018,0060)" = "empty"
        "0018,0050" = "dummy"
        00081090 = "keep"
        StationName = "dummy"
        InstitutionName = "empty"
        [private."ACME Inc"]
        "0019xx0C" = "keep"
        "0019xx0D" = "uid"
        [private."ACME Whole"]
        "001Bxx*" = "keep"
        "001Bxx02" = "remove"
        """,
    )
    ds = ct(ManufacturerModelName="Scanner 9")
    for tag, vr, value in (
        (0x00190011, "LO", "ACME Inc"), (0x0019110C, "LO", "kept"), (0x0019110D, "UI", f"{UID_ROOT}.4"),
        (0x0019110E, "LO", "gone"), (0x001B0010, "LO", "ACME Whole"), (0x001B1001, "LO", "kept"),
        (0x001B1002, "LO", "gone"),
    ):  # fmt: skip
        ds.add_new(tag, vr, value)

    output = clean(project, ds, profile)

    assert "Manufacturer" not in output
    assert output.KVP is None
    assert output.SliceThickness == 0
    assert output.ManufacturerModelName == "Scanner 9"
    assert (output.StationName, output.InstitutionName) == ("Removed", "")
    assert private_tags(output) == [0x00190011, 0x0019110C, 0x0019110D, 0x001B0010, 0x001B1001]
    assert output[0x0019110D].value == output.FrameOfReferenceUID


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('optoins = []', "no key 'optoins'; did you mean options?"),
        ('options = ["RETAIN_FUL_DATES"]', "no option is called 'RETAIN_FUL_DATES'; did you mean RETAIN_FULL_DATES"),
        ('options = "RETAIN_UIDS"', "options must be a list of names"),
        ('[attributes]\nPatientNam = "keep"', "no keyword 'PatientNam'; did you mean PatientName"),
        ('[attributes]\nPatientName = "kep"', "the action of 'PatientName' must be one of keep, remove, .+keep"),
        ('[attributes]\nPatientName = 1', "the action of 'PatientName' must be one of"),
        ('attributes = ["PatientName"]', "attributes must be a table"),
        ('sop_classes = ["CT Image Storag"]', "no Storage SOP class is called .+; did you mean CT Image Storage"),
        ('[private."ACME"]\n"0018xx0C" = "keep"', "'0018xx0C' is no private attribute"),
        ('[private."ACME"]\n"00191010" = "keep"', "is no private attribute"),
        ('[private]\n"ACME" = "keep"', "private attributes are written"),
        ('date_range = [0, 0]', "date_range must be"),
        ('date_range = [5, -5]', "date_range must be"),
        ('date_range = [-5.5, 5]', "date_range must be two whole numbers"),
        ('pixels = "trsut"', "pixels must be quarantine or trust; did you mean trust"),
        ('issuer = true', "issuer must be use or ignore"),
        ('unlisted_patients = "hide"', "unlisted_patients must be pseudonymize or quarantine"),
        ('= 1', "the policy is not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_policy_is_refused_with_what_comes_close(tmp_path: Path, text: str, says: str) -> None:
    """Nothing in a policy is silently ignored; the message helps to correct it (PS3.15 E.1.3)."""
    with pytest.raises(PolicyError, match=says):
        policy(tmp_path, text)


def test_a_policy_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing policy file is no empty policy; the message does not repeat its path (PS3.15 E.1.3)."""
    with pytest.raises(PolicyError) as refused:
        Profile.from_toml(tmp_path / "quastelberry.toml")

    assert "quastelberry" not in str(refused.value)


def test_a_full_policy_is_read(tmp_path: Path) -> None:
    """Every key of a policy reaches the profile, which is equal to one made in Python (PS3.15 E.1.3)."""
    profile = policy(
        tmp_path,
        """
        options = ["retain-uids", "RETAIN_SAFE_PRIVATE"]
        sop_classes = ["CT Image Storage", "1.2.840.10008.5.1.4.1.1.4"]
        date_range = [-30, -20]
        pixels = "trust"
        unlisted_patients = "quarantine"
        issuer = "ignore"
        """,
    )

    assert profile == Profile(
        options=frozenset({Option.RETAIN_UIDS, PRIVATE}),
        accepted=frozenset({CTImageStorage, "1.2.840.10008.5.1.4.1.1.4"}),
        date_range=(-30, -20),
        trust_pixels=True,
        only_listed=True,
        ignore_issuer=True,
    )
    assert profile.digest != Profile.basic().digest
    assert pickle.loads(pickle.dumps(profile)) == profile  # noqa: S301


def test_only_accepted_sop_classes_are_released(project: Project) -> None:
    """What a policy does not accept, and what is no Storage SOP class, is held back (E.1.1 Note 6)."""
    only_mr = Profile(accepted=frozenset({"1.2.840.10008.5.1.4.1.1.4"}))
    for ds, profile in ((ct(), only_mr), (ct(SOPClassUID="1.2.3.4"), None), (ct(SOPClassUID=UID_ROOT), None)):
        with pytest.raises(Quarantined) as held:
            clean(project, ds, profile)
        assert held.value.reason is Reason.SOP_CLASS


@pytest.mark.parametrize("spared", ["keep", "shift"])
def test_an_override_that_spares_ends_the_claim(project: Project, tmp_path: Path, spared: str) -> None:
    """An object that keeps what the profile removes does not claim the profile (E.1.1, E.1.3)."""
    for profile in (
        policy(tmp_path, f'[attributes]\nSeriesDate = "{spared}"'),
        policy(tmp_path, f'[private."ACME"]\n"0019xx0C" = "{spared}"'),
    ):
        output = clean(project, ct(SeriesDate="20180305"), profile)

        assert not profile.conforms
        assert codes(output) == []
        assert output.PatientIdentityRemoved == "YES"
        assert "policy of this site" in output.DeidentificationMethod


@pytest.mark.parametrize("text", ['Manufacturer = "remove"', 'KVP = "keep"', 'PatientSex = "dummy"', ""])
def test_an_override_that_spares_nothing_leaves_the_claim(project: Project, tmp_path: Path, text: str) -> None:
    """Removing more than the profile asks is within it (E.1.1)."""
    output = clean(project, ct(), policy(tmp_path, "[attributes]\n" + text))

    assert codes(output) == ["113100"]
    assert "PS3.15 2026d" in output.DeidentificationMethod


@pytest.mark.parametrize(
    ("options", "says", "study", "series"),
    [
        ((), "REMOVED", "", None),
        ((DEVICE,), "REMOVED", "", None),
        ((FULL,), "UNMODIFIED", "20190822", "20190822"),
    ],
)
def test_temporal_information_says_what_was_done(
    project: Project, options: tuple[Option, ...], says: str, study: str, series: str | None
) -> None:
    """Longitudinal Temporal Information Modified tells what became of dates (E.2, E.3.6)."""
    ds = ct(LongitudinalTemporalInformationModified="MODIFIED", StationName="CT7")
    output = clean(project, ds, Profile.basic(*options))

    assert output.LongitudinalTemporalInformationModified == says
    assert (output.StudyDate, output.get("SeriesDate")) == (study, series)
    assert output.PatientBirthDate == ""


def test_modified_dates_are_said_to_be_modified(project: Project) -> None:
    """With Retain Modified Dates each date moves, all alike, and times stay (E.3.6)."""
    output = clean(project, ct(), Profile.basic(MODIFIED))

    assert output.LongitudinalTemporalInformationModified == "MODIFIED"
    assert output.StudyDate == output.SeriesDate == output.AcquisitionDate == output.ContentDate != "20190822"
    assert output.AcquisitionDateTime == f"{output.StudyDate}101530.120000"
    assert output.StudyTime == "101530"
    assert output.PatientBirthDate == ""


@pytest.mark.parametrize("says", ["YES", "NO", None])
def test_burned_in_annotation_is_never_changed(project: Project, says: str | None) -> None:
    """Only the Clean Pixel Data Option may say NO (E.3.1); a policy's trust changes no statement."""
    ds = ct()
    if says:
        ds.BurnedInAnnotation = says
        ds.RecognizableVisualFeatures = says

    output = clean(project, ds, Profile.basic(trust_pixels=True))

    assert output.get("BurnedInAnnotation") == says
    assert output.get("RecognizableVisualFeatures") == says
    assert "113101" not in codes(output)


def test_earlier_method_codes_stay(project: Project) -> None:
    """Codes are added to what an earlier de-identification said, however often (E.1.1)."""
    earlier = item(CodeValue="113105", CodingSchemeDesignator="DCM", CodeMeaning="Clean Descriptors Option")
    first = clean(project, ct(DeidentificationMethodCodeSequence=Sequence([earlier]), PatientIdentityRemoved="NO"))
    second = clean(project, first, Profile.basic(FULL))

    assert codes(first) == ["113105", "113100"]
    assert codes(second)[:2] == ["113105", "113100"]
    assert codes(second)[2:] == ["113100", "113106"]
    assert first.PatientIdentityRemoved == second.PatientIdentityRemoved == "YES"


@pytest.mark.parametrize(
    ("age", "released"),
    [
        ("072Y", "072Y"), ("089Y", "089Y"), ("090Y", "090Y"), ("095Y", "090Y"), ("120Y", "090Y"), ("999M", "999M"),
        ("011M", "011M"), ("999W", "999W"), ("999D", "999D"), ("", None), ("72Y", None), ("old", None),
    ],
)  # fmt: skip
def test_ages_over_89_are_capped(project: Project, age: str, released: str | None) -> None:
    """A kept age over 89 years is written as 90, and what is no age goes (E.3.7, 45 CFR 164.514(b)(2)(i)(C))."""
    profile = Profile.basic(Option.RETAIN_PATIENT_CHARACTERISTICS)
    data = raw_ct({0x00101010: raw(0x00101010, "AS", age.encode())})

    output = pydicom.dcmread(BytesIO(Deidentifier(profile, project=project).bytes(data).data))

    assert output.get("PatientAge") == released


def test_ages_go_without_the_option(project: Project) -> None:
    """Patient's Age is X, and sex Z, unless patient characteristics are retained (Table E.1-1, E.3.7)."""
    plain, kept = (
        clean(project, ct(), Profile.basic(*options)) for options in ((), (Option.RETAIN_PATIENT_CHARACTERISTICS,))
    )

    assert "PatientAge" not in plain
    assert plain.PatientSex == ""
    assert (kept.PatientAge, kept.PatientSex) == ("072Y", "M")


@pytest.mark.parametrize(
    ("option", "keyword"),
    [
        (DEVICE, "DeviceSerialNumber"), (DEVICE, "StationName"),
        (Option.RETAIN_INSTITUTION_IDENTITY, "InstitutionName"),
        (Option.RETAIN_UIDS, "SeriesInstanceUID"), (Option.RETAIN_UIDS, "FrameOfReferenceUID"), (FULL, "StudyTime"),
    ],
)  # fmt: skip
def test_each_option_keeps_its_own_attributes_only(project: Project, option: Option, keyword: str) -> None:
    """An option overrides the profile for the attributes it names, and for no others (Table E.1-1, E.3)."""
    ds = ct(InstitutionName="Plain Place", StationName="CT7")

    output = clean(project, ds, Profile.basic(option))

    assert output[keyword].value == ds[keyword].value
    others = {"DeviceSerialNumber", "InstitutionName", "SeriesInstanceUID", "StudyDate"} - {keyword}
    same = {name for name in others if output.get(name) == ds[name].value}
    assert same <= {FULL: {"StudyDate"}, DEVICE: {"DeviceSerialNumber"}, Option.RETAIN_UIDS: {"SeriesInstanceUID"}}.get(
        option, set()
    )
    assert output.PatientName == output.PatientID != ds.PatientID


def test_the_report_lists_what_was_done(project: Project) -> None:
    """A report names attributes by tag and what was done with them, never by value (E.1.3)."""
    report = Deidentifier(project=project)(ct()).report

    assert isinstance(report, Report)
    done = dict(report.changes)
    assert done[(0x00080080,)] is Action.REMOVE
    assert done[(0x00100030,)] is Action.EMPTY
    assert done[(0x0020000D,)] is Action.UID
    assert done[(0x00100010,)] is Action.PSEUDONYM
    assert (0x00280010,) not in done


def test_a_date_kept_by_an_override_is_no_modified_date(tmp_path: Path) -> None:
    """Who keeps a date that the option must modify does not claim the option (PS3.15 E.3.6)."""
    profile = Profile(options=frozenset({Option.RETAIN_MODIFIED_DATES}), overrides={0x00080020: Action.KEEP})
    assert not profile.conforms
    assert Deidentifier(profile, project=tmp_path)(ct(StudyDate="20180101")).report.claims == ()

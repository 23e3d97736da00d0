"""Who the patient is to others: the project secret, pseudonyms, UIDs, shifted dates (PS3.15 E.1.1, E.3.6, E.3.9)."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from factories import NAME, PATIENT_ID, UID_ROOT, ct
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage

from dicomshield import Deidentifier, Option, PatientList, PolicyError, Profile, Project, Quarantined, Reason
from dicomshield.identity.dates import shifted
from dicomshield.identity.pseudonym import Pseudonymizer
from dicomshield.standard import tables

RANGE = (-3653, -366)
MODIFIED = Profile.basic(Option.RETAIN_MODIFIED_DATES)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


@pytest.fixture(scope="module")
def answers(project: Project) -> Pseudonymizer:
    return Pseudonymizer(project.secret, RANGE)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def day(text: object) -> date:
    return datetime.strptime(str(text)[:8], "%Y%m%d").date()


# the project secret


def test_a_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The key is made on first use, 0600 in a folder 0700, whatever the umask, and never again (E.1.1 Note 3)."""
    old = os.umask(0)
    try:
        first, second = Project(tmp_path / "a" / "p"), Project(tmp_path / "a" / "p")
    finally:
        os.umask(old)

    assert (first.created, second.created) == (True, False)
    assert first.secret == second.secret
    assert len(first.secret) == 32
    assert mode(tmp_path / "a" / "p") == 0o700
    assert [mode(path) for path in (tmp_path / "a" / "p").iterdir()] == [0o600]
    assert Project(tmp_path / "b").secret != first.secret


@pytest.mark.parametrize("open_to", [0o640, 0o604, 0o666, 0o620, 0o602, 0o610])
def test_a_secret_that_others_can_reach_is_refused(tmp_path: Path, open_to: int) -> None:
    """A key that others can read is no key; the message says what to do (E.1.1 Note 3)."""
    folder = Project(tmp_path / "p").folder
    (folder / "secret.key").chmod(open_to)

    with pytest.raises(PolicyError, match="chmod 600"):
        Project(folder)


@pytest.mark.parametrize(
    "damage",
    [b"", b"x", b"\xff\xfe", b"dicomshield-project-secret-1:", b"dicomshield-project-secret-1:AAAA", b"A" * 44],
)
def test_a_damaged_secret_is_refused_and_left_alone(tmp_path: Path, damage: bytes) -> None:
    """A damaged key is neither used nor replaced: a new one would give new pseudonyms (E.1.3)."""
    path = Project(tmp_path / "p").folder / "secret.key"
    path.write_bytes(damage)

    with pytest.raises(PolicyError):
        Project(tmp_path / "p")
    assert path.read_bytes() == damage


def test_one_lost_character_is_noticed(tmp_path: Path) -> None:
    """A key cut by one character is refused, not decoded to something shorter (E.1.3)."""
    path = Project(tmp_path / "p").folder / "secret.key"
    path.write_text(path.read_text().strip()[:-2])

    with pytest.raises(PolicyError, match="damaged"):
        Project(tmp_path / "p")


def test_a_project_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The message tells the kind of problem and not the path, which may name the patient (E.1.1)."""
    (tmp_path / "quastelberry").write_text("")

    with pytest.raises(PolicyError) as refused:
        Project(tmp_path / "quastelberry")
    assert "quastelberry" not in str(refused.value)


ASK = """
import sys
from dicomshield import Profile, Project
from dicomshield.identity.pseudonym import Pseudonymizer
answers = Pseudonymizer(Project(sys.argv[1]).secret, (-3653, -366))
for number in range(20):
    print(answers.patient(f"ID{number}", "", "1.2.3"), answers.uid(f"1.2.3.{number}".encode()))
print(answers.device_days)
"""


def asked(project: Path, seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", ASK, str(project)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_same_secret_gives_the_same_answers_in_every_process(tmp_path: Path) -> None:
    """Pseudonyms, UIDs and shifts depend on nothing but the secret (E.1.1-04, E.3.6, E.3.9)."""
    one, again, other = asked(tmp_path / "p", "1"), asked(tmp_path / "p", "2"), asked(tmp_path / "q", "1")

    assert one == again
    assert len(one.splitlines()) == 21
    assert set(one.splitlines()[:20]).isdisjoint(other.splitlines())


def test_answers_do_not_depend_on_their_order(project: Project) -> None:
    """No table is filled on the way: the last patient first gives the same (E.1.1-04)."""
    forth, back = Pseudonymizer(project.secret, RANGE), Pseudonymizer(project.secret, RANGE)
    names = [f"ID{number}" for number in range(50)]

    there = {name: forth.patient(name, "", "") for name in names}
    assert there == {name: back.patient(name, "", "") for name in reversed(names)}
    assert len({patient.pseudonym for patient in there.values()}) == 50
    assert len({patient.days for patient in there.values()}) > 40


# UIDs


@given(number=st.integers(0, 10**30))
def test_new_uids_are_valid(answers: Pseudonymizer, number: int) -> None:
    """A new UID is 2.25 and a UUID in decimal, without leading zeros, 64 characters at most (PS3.5 9.1, B.2)."""
    new = answers.uid(f"{UID_ROOT}.{number}".encode()).decode()

    assert re.fullmatch(r"2\.25\.(0|[1-9][0-9]{0,38})", new)
    uuid = int(new[5:])
    assert uuid < 1 << 128
    assert (uuid >> 76 & 0xF, uuid >> 62 & 3) == (8, 2)
    assert answers.uid(f"{UID_ROOT}.{number}\0".encode()).decode() == new
    assert answers.uid(f" {UID_ROOT}.{number} ".encode()).decode() == new


def test_uids_of_the_standard_are_never_replaced(answers: Pseudonymizer) -> None:
    """A UID that PS3.6 registers stands for nobody (PS3.6 Annex A, PS3.15 E.3.9)."""
    registered = tables.registered_uids()

    assert len(registered) > 400
    assert [uid for uid in registered if answers.uid(uid.encode()) != uid.encode()] == []
    assert answers.uid(b"1.2.840.10008.1.4.1.1\0") == b"1.2.840.10008.1.4.1.1"
    assert answers.uid(b"1.2.840.10008.99.99") != b"1.2.840.10008.99.99"
    assert answers.uid(b"") == b""


def test_each_of_several_uids_is_replaced(answers: Pseudonymizer) -> None:
    """Every value of a multi-valued UID gets the replacement it has alone (PS3.5 6.4, PS3.15 E.3.9)."""
    one, two, known = b"1.2.3.4", b"1.2.3.5", b"1.2.840.10008.1.2"

    assert answers.uid(b"\\".join((one, known, two))) == b"\\".join((answers.uid(one), known, answers.uid(two)))
    assert answers.uid(one) != answers.uid(two)


def test_references_between_objects_survive(project: Project) -> None:
    """A UID is replaced alike wherever it stands: top level, nested, file meta, in other objects (E.1.1-04)."""
    shield = Deidentifier(project=project)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = CTImageStorage, f"{UID_ROOT}.3.1"
    first = shield(ct(1))
    second = Deidentifier(project=project)(ct(2, AnatomicRegionSequence=Sequence([reference])))

    assert second.AnatomicRegionSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert (first.StudyInstanceUID, first.SeriesInstanceUID) == (second.StudyInstanceUID, second.SeriesInstanceUID)


# dates


@settings(max_examples=300)
@given(
    days=st.lists(st.dates(date(1900, 1, 1), date(2100, 12, 31)), min_size=2, max_size=6),
    patient=st.text("0123456789", min_size=1, max_size=8),
)
def test_intervals_survive(answers: Pseudonymizer, days: list[date], patient: str) -> None:
    """Any two dates of a patient are as far apart afterwards, over leap days too, and none stays (E.3.6)."""
    shift = answers.patient(patient, "", "").days
    moved = [shifted(b"DA", one.strftime("%Y%m%d").encode(), shift) for one in days]

    assert RANGE[0] <= shift <= RANGE[1]
    assert all(value is not None for value in moved)
    after = [day((value or b"").decode()) for value in moved]
    assert [one - after[0] for one in after] == [one - days[0] for one in days]
    assert all(new - old == timedelta(shift) for new, old in zip(after, days, strict=True))


@pytest.mark.parametrize(
    ("vr", "value", "days", "expected"),
    [
        (b"DA", b"20200301", -1, b"20200229"),
        (b"DA", b"20210301", -1, b"20210228"),
        (b"DA", b"20200229", -366, b"20190228"),
        (b"DA", b"20200229", 366, b"20210301"),
        (b"DA", b"19000301", -1, b"19000228"),
        (b"DA", b"20000101", -1, b"19991231"),
        (b"DA", b"1997.04.24", -1, b"1997.04.23"),
        (b"DA", b"20190822 ", -1, b"20190821"),
        (b"DA", b"20190822\\20190901\\", -1, b"20190821\\20190831\\"),
        (b"DA", b"2019.08.22\\20190901", -1, b"2019.08.21\\20190831"),
        (b"DA", b"", -1, b""),
        (b"DT", b"20190101", -1, b"20181231"),
        (b"DT", b"20190101101530.120000", -1, b"20181231101530.120000"),
        (b"DT", b"20190101101530.120000+0100", -1, b"20181231101530.120000+0100"),
        (b"DT", b"20190101-0500", -1, b"20181231-0500"),
        (b"DT", b"2019010110\\201901011015", 1, b"2019010210\\201901021015"),
        (b"TM", b"101530.5", -400, b"101530.5"),
        (b"TM", b"10:15:30", -400, b"10:15:30"),
        # what is no complete date, or none at all, cannot be shifted
        (b"DA", b"2019", -1, None),
        (b"DA", b"201908", -1, None),
        (b"DA", b"20190822101530", -1, None),
        (b"DA", b"20190230", -1, None),
        (b"DA", b"20190822\\unknown", -1, None),
        (b"DA", b"20190822-20190901", -1, None),
        (b"DA", b"1997.0424", -1, None),
        (b"DA", b"00010101", -1, None),
        (b"DT", b"2019", -1, None),
        (b"DT", b"201908", -1, None),
        (b"DT", b"20190822101530.1234567", -1, None),
        (b"DT", b"20190822101530 Quastelberry", -1, None),
        (b"TM", b"morning", -1, None),
    ],
)  # fmt: skip
def test_dates_move_by_whole_days(vr: bytes, value: bytes, days: int, expected: bytes | None) -> None:
    """DA, DT and TM move in the form they have; anything else is not guessed at (E.3.6, PS3.5 6.2)."""
    assert shifted(vr, value, days) == expected


@pytest.mark.parametrize(("date_range", "allowed"), [((-1, 0), {-1}), ((0, 1), {1}), ((-1, 1), {-1, 1}), ((5, 5), {5})])
def test_no_shift_is_zero(project: Project, date_range: tuple[int, int], allowed: set[int]) -> None:
    """A shift of nothing would release the date itself, so there is none in any range (E.3.6)."""
    answers = Pseudonymizer(project.secret, date_range)

    assert {answers.patient(f"ID{number}", "", "").days for number in range(100)} == allowed
    assert answers.device_days in allowed


def test_partial_dates_fall_back_to_the_basic_profile(project: Project) -> None:
    """A date that cannot be shifted is treated as without the option; the others still move (E.3.6, Table E.1-1)."""
    ds = ct(StudyDate="", AcquisitionDateTime="2019", ScheduledProcedureStepStartDate="")
    ds.DateOfSecondaryCapture = ""
    output = Deidentifier(MODIFIED, project=project)(ds)

    assert output.StudyDate == ""
    assert "AcquisitionDateTime" not in output
    assert day(output.SeriesDate) != day("20190822")


def test_all_dates_of_a_patient_move_alike(project: Project) -> None:
    """One patient, one shift: over studies, nested and multi-valued, whatever the scanner (E.3.6)."""
    shield = Deidentifier(MODIFIED, project=project)
    item = Dataset()
    item.StudyDate, item.StudyTime = "20180105", "0900"
    first = shield(ct(AnatomicRegionSequence=Sequence([item])))
    second = shield(ct(StudyDate="20240229", SeriesDate="20240301", StudyInstanceUID=f"{UID_ROOT}.77"))
    other = shield(ct(PatientID="OTHER8765"))

    shift = day(first.StudyDate) - day("20190822")
    assert day(first.AnatomicRegionSequence[0].StudyDate) - day("20180105") == shift
    assert first.AnatomicRegionSequence[0].StudyTime == "0900"
    assert day(second.StudyDate) - day("20240229") == day(second.SeriesDate) - day("20240301") == shift
    assert day(first.AcquisitionDateTime) - day("20190822") == shift
    assert day(other.StudyDate) - day("20190822") != shift


def test_device_dates_do_not_give_the_shift_away(project: Project) -> None:
    """A calibration date, which patients share, moves alike for all of them and unlike any of them (E.3.6)."""
    shield = Deidentifier(MODIFIED, project=project)
    shifts, device = set(), set()
    for number in range(12):
        output = shield(ct(PatientID=f"8880{number:04d}", DateOfLastCalibration=["20190101", "20190601"]))
        first, second = output.DateOfLastCalibration
        device.add(day(first) - day("20190101"))
        device.add(day(second) - day("20190601"))
        shifts.add(day(output.StudyDate) - day("20190822"))

    assert len(device) == 1
    assert device.isdisjoint(shifts)
    assert len(shifts) > 8


# the patient list


def listed(tmp_path: Path, text: str | bytes) -> PatientList:
    path = tmp_path / "patients.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return PatientList.read(path)


def test_a_patient_list_is_followed(project: Project, tmp_path: Path) -> None:
    """Curated pseudonyms are used, by issuer first; others get one from the secret (E.1.1)."""
    patients = listed(
        tmp_path, f"\ufeffid_old,issuer,id_new\r\n{PATIENT_ID},,SITE1-001\r\n{PATIENT_ID},NORTH,SITE1-002\r\n"
    )
    shield = Deidentifier(project=project, patients=patients)

    plain, north, other = shield(ct()), shield(ct(IssuerOfPatientID="NORTH")), shield(ct(PatientID="OTHER8765"))

    assert (plain.PatientID, plain.PatientName) == ("SITE1-001", "SITE1-001")
    assert north.PatientID == "SITE1-002"
    assert re.fullmatch("P[0-9A-Z]{16}", other.PatientID)
    assert shield(ct(IssuerOfPatientID="SOUTH")).PatientID == "SITE1-001"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id_old,id_new\nA1234,B1\n", "must begin with the line"),
        ("", "must begin with the line"),
        ("id_old;issuer;id_new\nA1234;;B1\n", "must begin with the line"),
        ("id_old,issuer,id_new\n,,B1\n", "line 2: .*must not be empty"),
        ("id_old,issuer,id_new\nA1234,,\n", "line 2: .*must not be empty"),
        ("id_old,issuer,id_new\nA1234\n", "line 2: .*must not be empty"),
        ("id_old,issuer,id_new\nA1234,,B1\nA1234,,B2\n", "line 3: this patient has a line already"),
        ("id_old,issuer,id_new\nA1234,,A1234\n", "line 2: id_new is the original identifier"),
        ("id_old,issuer,id_new\nA1234,,B1,C1\n", "line 2: too many fields"),
        ("id_old,issuer,id_new\nA1234,," + "B" * 65 + "\n", "line 2: .*at most 64 characters"),
        ("id_old,issuer,id_new\nA1234,,B\\1\n", "without backslash"),
        ("id_old,issuer,id_new\nA1234,,Ä1\n", "printable ASCII"),
        ('id_old,issuer,id_new\nA1234,,"B\n1"\n', "printable ASCII"),
        (b"id_old,issuer,id_new\nA1234,,\xff\n", "not CSV in UTF-8"),
    ],
)
def test_a_wrong_patient_list_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    """Each mistake is found before anything is read; the message repeats no identifier (E.1.1)."""
    with pytest.raises(PolicyError, match=says) as refused:
        listed(tmp_path, text)

    assert "A1234" not in str(refused.value)


def test_a_missing_patient_list_is_refused(tmp_path: Path) -> None:
    """A list that cannot be read is not an empty one, and its path is not repeated (E.1.1)."""
    with pytest.raises(PolicyError, match="cannot be read") as refused:
        PatientList.read(tmp_path / "quastelberry.csv")
    assert "quastelberry" not in str(refused.value)


def test_merged_patients_share_the_shift(project: Project, tmp_path: Path) -> None:
    """Two identifiers that a list maps to one pseudonym are one patient: intervals hold between them (E.3.6)."""
    patients = listed(tmp_path, f"id_old,issuer,id_new\n{PATIENT_ID},,S1\nOLD88123,,S1\nELSE4567,,S2\n")
    shield = Deidentifier(MODIFIED, project=project, patients=patients)

    one, two, other = (shield(ct(PatientID=name)) for name in (PATIENT_ID, "OLD88123", "ELSE4567"))

    assert (one.PatientID, one.StudyDate) == (two.PatientID, two.StudyDate)
    assert other.StudyDate != one.StudyDate


def test_unlisted_patients_are_held_back_on_request(project: Project, tmp_path: Path) -> None:
    """With unlisted_patients = "quarantine" only the patients of the list are released (E.1.1)."""
    patients = listed(tmp_path, f"id_old,issuer,id_new\n{PATIENT_ID},,S1\n")
    shield = Deidentifier(Profile(only_listed=True), project=project, patients=patients)

    assert shield(ct()).PatientID == "S1"
    for ds in (ct(PatientID="OTHER8765"), ct(PatientID="")):
        with pytest.raises(Quarantined) as held:
            shield(ds)
        assert held.value.reason is Reason.PATIENT


# who is one patient


def test_without_a_patient_id_the_study_stands_for_the_patient(project: Project) -> None:
    """Objects without Patient ID are one patient within a study, and nobody else's (E.1.1)."""
    shield = Deidentifier(project=project)
    missing = ct()
    del missing.PatientID
    same, empty, other = shield(missing), shield(ct(PatientID="")), shield(ct(PatientID="", StudyInstanceUID="1.2.99"))

    assert same.PatientName == empty.PatientID != other.PatientID
    assert shield(ct()).PatientID not in (same.PatientName, other.PatientID)


def test_the_issuer_separates_patients(project: Project) -> None:
    """The same number of two hospitals is two patients, unless a policy says otherwise (PS3.3 C.7.1.1)."""
    objects = [ct(), ct(IssuerOfPatientID="NORTH"), ct(IssuerOfPatientID="SOUTH"), ct(IssuerOfPatientID="SOUTH ")]

    used, ignored = (
        [Deidentifier(Profile(ignore_issuer=ignore), project=project)(ds).PatientID for ds in objects]
        for ignore in (False, True)
    )

    assert len(set(used)) == 3
    assert used[2] == used[3]
    assert set(ignored) == {used[0]}


def test_the_name_does_not_decide_who_the_patient_is(project: Project) -> None:
    """A corrected spelling of the name is the same patient, padding of the ID is nothing (PS3.3 C.7.1.1)."""
    shield = Deidentifier(project=project)

    assert shield(ct()).PatientID == shield(ct(PatientName="Quastelbery^X", PatientID=f"{PATIENT_ID} ")).PatientID
    assert NAME not in str(shield(ct()))

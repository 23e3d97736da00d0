"""The vault in the main job: who is who can be found again by those who hold a key, and by nobody else."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from factories import ENCODINGS, NAME, PATIENT_ID, TOKENS, UID_ROOT, ct, encoded, shared, written
from pydicom import Dataset
from test_encrypted_attributes import alice, assert_same, bob
from test_faults import files, tmpfs

from dicomshield import Deidentifier, PolicyError, Profile, Project, VaultError
from dicomshield.bulk.folder import Run
from dicomshield.evidence.report import Report
from dicomshield.identity.pseudonym import PatientList, Pseudonymizer
from dicomshield.storage import Storage
from dicomshield.vault.audit import AuditLog
from dicomshield.vault.audit_verification import entries, verify
from dicomshield.vault.encrypted_attributes import Encloser, mac_key
from dicomshield.vault.entering import Entering
from dicomshield.vault.ledger import Ledger, mark_of
from dicomshield.vault.recipients import Identity, Recipient, identity_from, new_key_file, recipient_from
from dicomshield.vault.reidentification import CertificateKey, Reidentifier
from dicomshield.vault.sealed_storage import SealedStorage
from dicomshield.vault.sealing import FileSealer
from dicomshield.vault.unsealing import Unsealer
from dicomshield.vault.vault import Vault

__all__ = ["tmpfs"]

CLI = (sys.executable, "-W", "error", "-m", "dicomshield")
OTHER: dict[str, Any] = {
    "PatientID": "OTHER77", "PatientName": "Zwetschgenbaum^Anna", "StudyInstanceUID": f"{UID_ROOT}.77",
    "SeriesInstanceUID": f"{UID_ROOT}.77.1",
}  # fmt: skip
VALUES = (*TOKENS, "other77", "zwetschgenbaum", UID_ROOT)


def cli(*args: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*CLI, *map(str, args)], capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def prepared(folder: Path, *datasets: Dataset) -> Path:
    """Write inputs, and keys of three people: of images, of the crosswalk, of a certificate."""
    written(folder / "in", *datasets)
    for name in ("images", "names"):
        new_key_file(folder / name)
    _, key = alice().files(folder)
    Path(key).chmod(0o600)
    return folder


def asked(folder: Path, out: str = "out", *more: object) -> tuple[object, ...]:
    """Return the command line with all that the vault does."""
    return (
        "deidentify", folder / "in", folder / out, "--project", folder / "project", "--keys", folder / "vault",
        "--seal", folder / "images", "--crosswalk", folder / "names",
        "--encrypt-attributes", folder / "party.crt", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where two patients were de-identified by two workers; nobody may change it."""
    few = [ct(number) for number in range(1, 5)]
    folder = prepared(tmp_path_factory.mktemp("box"), *few, ct(9, **OTHER))
    (folder / "in" / "junk").write_text("no DICOM")
    done = cli(*asked(folder, "out", "--workers", 2))
    assert done.returncode == 3, done.stderr
    assert "5 released, 0 released before, 1 held back" in done.stdout
    assert "who is who, encrypted" in done.stdout
    return folder


@pytest.fixture
def own(box: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(box, tmp_path / "box"))


def lines(folder: Path) -> list[tuple[str, dict[str, Any]]]:
    return [(entry.event, entry.fields) for entry in entries(folder / "vault" / "audit" / "audit.log")]


def events(folder: Path) -> Counter[str]:
    return Counter(event for event, _ in lines(folder))


def by_instance(folder: Path) -> dict[str, Dataset]:
    found = [pydicom.dcmread(path, force=True) for path in folder.rglob("*") if path.is_file() and path.name != "junk"]
    return {str(ds.SOPInstanceUID): ds for ds in found}


def identities(*paths: Path) -> list[Identity]:
    return [identity_from(str(path)) for path in paths]


def own_key() -> CertificateKey:
    return CertificateKey(*alice(), "A" * 43)


# The way back


def test_back_from_the_sequence(own: Path) -> None:
    """PS3.15 E.1.2: the header is the original's, of sealed objects and of plain ones."""
    opens = ("--certificate", own / "party.crt", "--certificate-key", own / "party.key")
    vault = ("--keys", own / "vault", "--with", own / "images")
    assert cli("unseal", own / "out", own / "plain", *vault).returncode == 0
    proof = ("--project", own / "project")
    for source, more in (("out", (*vault, *proof)), ("plain", ("--keys", own / "vault", *proof))):
        done = cli("reidentify", own / source, own / f"back-{source}", *more, *opens)
        assert done.returncode == 0, done.stderr
        assert not done.stderr
        originals, back = by_instance(own / "in"), by_instance(own / f"back-{source}")
        assert originals.keys() == back.keys()
        for uid, ds in originals.items():
            assert_same(ds, back[uid])
            assert back[uid].PatientIdentityRemoved == "NO"
            assert "DeidentificationMethodCodeSequence" not in back[uid]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (own / "back-out").rglob("*.dcm"))
    assert events(own)["reidentify"] == 10
    assert events(own)["unseal"] == 5
    unproven = cli("reidentify", own / "plain", own / "again", "--keys", own / "vault", *opens)
    assert unproven.returncode == 0
    assert "it is not proved who wrote the originals" in unproven.stderr


def test_back_from_the_crosswalk(own: Path) -> None:
    """Without the certificate's key: identifiers, names, dates and numbers of the study, and all three UIDs."""
    opens = ("--with", own / "images", "--with", own / "names", "--project", own / "project")
    done = cli("reidentify", own / "out", own / "back", "--keys", own / "vault", *opens)
    assert done.returncode == 0, done.stderr
    originals, back = by_instance(own / "in"), by_instance(own / "back")
    assert originals.keys() == back.keys()
    for uid, ds in originals.items():
        for keyword in (
            "PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "SeriesInstanceUID", "StudyDate",
            "AccessionNumber", "StudyTime", "StudyID",
        ):  # fmt: skip
            assert back[uid][keyword] == ds[keyword]
        assert back[uid].file_meta.MediaStorageSOPInstanceUID == uid
        assert back[uid].PatientIdentityRemoved == "NO"
        assert {"DeidentificationMethod", "EncryptedAttributesSequence"}.isdisjoint(back[uid].dir())
        assert back[uid].PixelData == ds.PixelData
    told = [fields for event, fields in lines(own) if event == "reidentify"]
    assert {fields["source"] for fields in told} == {"crosswalk"}
    assert {fields["patient"] for fields in told} == {path.name for path in (own / "out").iterdir()}


@pytest.mark.parametrize("syntax", ENCODINGS)
def test_every_encoding(tmp_path: Path, syntax: str) -> None:
    """Implicit, big endian and deflated objects have the sequence too, and it gives the header back."""
    project = Project(tmp_path / "project")
    encloser = Encloser([bob().certificate, alice().certificate], mac_key(project), "oaep")
    deidentifier = Deidentifier(project=project, encloser=encloser, verify_fully=True)
    data = deidentifier.bytes(encoded(ct(), syntax)).data
    (tmp_path / "released").write_bytes(data)
    written(tmp_path / "in", ct(), syntax=syntax)
    for outcome in ("released", "unchanged"):
        assert [one.outcome for one in deidentifier.folder(tmp_path / "in", tmp_path / "out")] == [outcome]
    assert not any(token.encode() in data.lower() for token in TOKENS)
    with Reidentifier(Vault(tmp_path / "vault"), project=project, certificate_key=own_key()) as reidentifier:
        result = reidentifier.file(tmp_path / "released", tmp_path / "back")
    assert (result.source, result.proven) == ("sequence", True)
    assert NAME not in repr(result)
    assert_same(pydicom.dcmread(BytesIO(encoded(ct(), syntax))), pydicom.dcmread(tmp_path / "back"))


def test_objects_of_a_series_stay_in_tag_order(tmp_path: Path) -> None:
    """The sequence has its place also where neighbouring elements are known from the object before."""
    project = Project(tmp_path / "project")
    deidentifier = Deidentifier(project=project, encloser=Encloser([alice().certificate], mac_key(project)))
    first: dict[int, int] = {}
    for number in [*range(100, 106)] * 2:
        result = deidentifier.bytes(encoded(ct(number, PresentationLUTShape="IDENTITY", PatientComments="odd")))
        tags = [element.tag for element in pydicom.dcmread(BytesIO(result.data))]
        assert tags == sorted(tags)
        assert sum(tag == 0x04000500 for tag in tags) == 1
        # what is encrypted does not depend on what came before
        assert first.setdefault(number, len(result.data)) == len(result.data)


def test_a_policy_that_keeps_the_sequence_is_refused(tmp_path: Path) -> None:
    """There cannot be two of them."""
    toml = tmp_path / "policy.toml"
    toml.write_text('[attributes]\nEncryptedAttributesSequence = "keep"\n')
    project = Project(tmp_path / "project")
    with pytest.raises(PolicyError, match="0400,0500"):
        Deidentifier(
            Profile.from_toml(toml), project=project, encloser=Encloser([alice().certificate], mac_key(project))
        )


def test_real_files(tmp_path: Path) -> None:
    """De-identified, sealed, opened and restored: every public top-level value of real objects, and the crosswalk's."""
    project, vault = Project(tmp_path / "project"), Vault(tmp_path / "vault")
    new_key_file(tmp_path / "k")
    sealers, opens = [recipient_from(str(tmp_path / "k"))], identities(tmp_path / "k")
    (tmp_path / "in").mkdir()
    for number, path in enumerate(sorted((shared() / "corpora").rglob("*.dcm"))[1::6]):
        (tmp_path / "in" / f"{number:04}").symlink_to(path)
    deidentifier = Deidentifier(
        Profile.basic(trust_pixels=True), project=project, keep_originals=True,
        encloser=Encloser([alice().certificate], mac_key(project)),
    )  # fmt: skip
    storage, entering = SealedStorage(tmp_path / "out", vault.boxes, sealers), Entering(vault, project, sealers)
    with Run(deidentifier, tmp_path / "in", tmp_path / "out", storage=storage, crosswalk=entering) as run:
        done = [one for one in run if one.report.outcome == "released"]
    assert len(done) > 20
    with_key = Reidentifier(vault, opens, project=project, certificate_key=own_key())
    with_rows = Reidentifier(vault, opens, project=project)
    for one in done:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original = pydicom.dcmread(one.path, force=True)
            for number, reidentifier in enumerate((with_key, with_rows)):
                result = reidentifier.file(
                    tmp_path / "out" / one.report.name, tmp_path / f"{one.report.number}-{number}"
                )
                back = pydicom.dcmread(BytesIO(result.data))
                for tag in [*original.keys()]:
                    whole = not (tag.group % 2 or tag.element == 0 or tag.group in (0x7FE0, 0xFFFC))
                    listed = tag in (0x0020000D, 0x0020000E, 0x00080018, 0x00100010, 0x00100020, 0x00100030, 0x00080050)
                    if whole if number == 0 else listed:
                        was, now = original.get_item(tag), back.get_item(tag)
                        assert was.value == now.value or original[tag] == back[tag], (one.path, tag)


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jürgen"),
        ("ISO_IR 192", "山田^太郎"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 144", "Люкceмбypг"),
    ],
)
def test_names_in_any_script(tmp_path: Path, charset: str | list[str], name: str) -> None:
    """The crosswalk writes a name in the character set of the object, or all of the object in UTF-8 if it must."""
    project, vault = Project(tmp_path / "project"), Vault(tmp_path / "vault")
    new_key_file(tmp_path / "k")
    same, other = ct(1, SpecificCharacterSet=charset, PatientName=name), ct(2, PatientName=NAME, StudyID="Zürich")
    other.SpecificCharacterSet = "ISO_IR 100"
    written(tmp_path / "in", same, other)
    entering = Entering(vault, project, [recipient_from(str(tmp_path / "k"))])
    deidentifier = Deidentifier(project=project, keep_originals=True)
    with Run(deidentifier, tmp_path / "in", tmp_path / "out", crosswalk=entering) as run:
        done = list(run)
    reidentifier = Reidentifier(vault, identities(tmp_path / "k"), project=project)
    for one in done:
        reidentifier.file(tmp_path / "out" / one.report.name, tmp_path / f"{one.report.number}")
    back, second = pydicom.dcmread(tmp_path / "1"), pydicom.dcmread(tmp_path / "2")
    assert back.PatientName == name
    assert back.SpecificCharacterSet == charset
    # what a study is entered with first holds for all of it
    assert second.PatientName == name
    assert second.SpecificCharacterSet == ("ISO_IR 100" if charset == "ISO_IR 100" else "ISO_IR 192")


def test_two_patients_in_one_study(tmp_path: Path) -> None:
    """An object is never given the name of another patient, whatever UIDs they share."""
    project, vault = Project(tmp_path / "project"), Vault(tmp_path / "vault")
    new_key_file(tmp_path / "k")
    written(
        tmp_path / "in", ct(1), ct(2, PatientID="OTHER77", PatientName="Zwetschgenbaum^Anna"),
        ct(3, PatientID="", PatientName="Nobody^Known"),
    )  # fmt: skip
    entering = Entering(vault, project, [recipient_from(str(tmp_path / "k"))])
    with Run(
        Deidentifier(project=project, keep_originals=True), tmp_path / "in", tmp_path / "out", crosswalk=entering
    ) as run:
        done = list(run)
    reidentifier = Reidentifier(vault, identities(tmp_path / "k"), project=project)
    for one in done:
        data = reidentifier.file(tmp_path / "out" / one.report.name, tmp_path / f"{one.report.number}").data
        was, now = pydicom.dcmread(one.path), pydicom.dcmread(BytesIO(data))
        assert (now.PatientID, now.PatientName) == (was.PatientID, was.PatientName)
        assert now.SOPInstanceUID == was.SOPInstanceUID


# Who cannot


def test_a_shredded_patient_is_gone_and_others_are_not(own: Path) -> None:
    """Keys of images and of rows go together."""
    gone, kept = sorted(path.name for path in (own / "out").iterdir())
    assert cli("unseal", own / "out", own / "plain", "--keys", own / "vault", "--with", own / "images").returncode == 0
    shred = ("keys", "shred", "--keys", own / "vault", "--project", own / "project", gone, "--yes")
    assert cli(*shred).returncode == 0
    opens = ("--keys", own / "vault", "--with", own / "images", "--with", own / "names", "--project", own / "project")
    for source, words in (("out", "shredded"), ("plain", "no row of the crosswalk")):
        done = cli("reidentify", own / source, own / f"back-{source}", *opens)
        assert done.returncode == 4
        assert words in done.stderr
        back = files(own / f"back-{source}")
        assert back
        assert {name.split("/")[0] for name in back} == {kept}


def test_a_powered_off_export_box_yields_nothing(box: Path, tmp_path: Path) -> None:
    """Outputs and vault, copied from a box that knows certificates only: no image, no name, no lookup."""
    prepared(tmp_path, *(ct(number) for number in range(1, 4)), ct(9, **OTHER))
    people = {name: party().files(_folder(tmp_path / name)) for name, party in (("a", alice), ("b", bob))}
    done = cli(
        "deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "project",
        "--keys", tmp_path / "vault", "--seal", people["a"][0], "--crosswalk", people["b"][0],
        "--encrypt-attributes", people["a"][0],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stolen = files(tmp_path / "out") | {f"vault/{name}": data for name, data in files(tmp_path / "vault").items()}
    assert {"vault/crosswalk.sqlite", "vault/audit/audit.log", "vault/audit/first.jwe"} <= stolen.keys()
    for name, data in stolen.items():
        assert not any(value in name.lower() or value.encode() in data.lower() for value in VALUES), name
        assert b"DICM" not in data
    images = [ct(number).PixelData[:64] for number in range(1, 4)]
    assert not any(image in data for image in images for data in stolen.values())
    project = Project(tmp_path / "project")
    stranger = Identity.secret(bytes(32))
    with pytest.raises(VaultError):
        Vault(tmp_path / "vault").first_key([stranger])
    with Reidentifier(Vault(tmp_path / "vault"), [stranger], project=project) as reidentifier:
        for path in (tmp_path / "out").rglob("*.dcms"):
            with pytest.raises(VaultError):
                reidentifier.file(path, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    # a vault of somebody else's project is refused
    with pytest.raises(VaultError):
        Vault(tmp_path / "vault").crosswalk(Project(box / "project"))


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_duties_are_split(own: Path) -> None:
    """Who opens images opens no name, and who opens names opens no image."""
    images, names = (identities(own / name) for name in ("images", "names"))
    project, path = Project(own / "project"), next((own / "out").rglob("*.dcms"))
    vault = Vault(own / "vault")
    with Reidentifier(vault, images, project=project) as reidentifier:
        with pytest.raises(VaultError, match="none of the identities"):
            reidentifier.file(path, own / "back")
        Unsealer(vault.boxes, images).unseal(path, own / "plain")
        with pytest.raises(VaultError, match="none of the identities"):
            reidentifier.file(own / "plain", own / "back")
    with pytest.raises(VaultError):
        Unsealer(vault.boxes, names).unseal(path, own / "x")
    with Reidentifier(vault, names, project=project) as reidentifier:
        assert reidentifier.file(own / "plain", own / "back").source == "crosswalk"


def test_what_is_refused_in_words(own: Path) -> None:
    """Each way that was not tried is named, and an original is no released object."""
    vault = ("--keys", own / "vault")
    file = next(path for path in (own / "in").iterdir() if path.name != "junk")
    refused = {
        "nothing opens without a key": (own / "out", own / "x", *vault),
        "open with both": (own / "out", own / "x", *vault, "--certificate", own / "party.crt"),
        "no project secret": (own / "out", own / "x", *vault, "--with", own / "names", "--project", own / "nowhere"),
        "the crosswalk was not tried": (own / "out", own / "x", *vault, "--with", own / "images"),
        "Patient Identity Removed is not YES": (file, own / "x", *vault, "--with", own / "images"),
    }
    for words, args in refused.items():
        done = cli("reidentify", *args)
        assert done.returncode in (2, 4)
        assert words in done.stderr
    assert not (own / "x").exists() or not files(own / "x")
    assert not (own / "nowhere").exists()


# The log


def test_every_object_is_a_line(own: Path) -> None:
    """Releases and quarantines with pseudonyms, new UIDs and digests; running again writes no release twice."""
    log = lines(own)
    released = [fields for event, fields in log if event == "release"]
    profile = Profile.basic()
    assert len(released) == 5
    for fields in released:
        path = own / "out" / f"{fields['patient']}/{fields['study']}/{fields['series']}/{fields['instance']}.dcms"
        beginning = path.read_bytes()[: 82 + len(fields["instance"])]
        assert fields["sha256"] == hashlib.sha256(beginning).hexdigest() == mark_of(path).sha256
        assert fields["profile"] == profile.whole_digest
        assert fields["profile"].startswith(profile.digest)
        assert len(fields["bidx"]) == 4
    assert [fields["reason"] for event, fields in log if event == "quarantine"] == ["NOT_DICOM"]
    raw = (own / "vault" / "audit" / "audit.log").read_bytes().lower()
    assert not any(value.encode() in raw for value in VALUES)
    with Vault(own / "vault").crosswalk(Project(own / "project")) as crosswalk:
        bidx = crosswalk.index("patient", PATIENT_ID, "")
        assert crosswalk.check() == len({one for fields in released for one in fields["bidx"]})
    assert sum(bidx in fields["bidx"] for fields in released) == 4
    assert cli(*asked(own)).stdout.startswith("0 released, 5 released before, 1 held back")
    assert events(own) == Counter(release=5, quarantine=2, start=1)
    first_key = Vault(own / "vault").first_key(identities(own / "images"))
    verdict = verify(own / "vault" / "audit" / "audit.log", first_key)
    assert verdict.ok
    assert verdict.proven == 8


def test_no_line_no_object(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the log cannot be written, nothing is opened, and a run stops; the next one completes both."""
    vault = Vault(own / "vault")
    path = next((own / "out").rglob("*.dcms"))

    def full(*_: object, **__: object) -> None:
        raise VaultError("the audit log cannot be used: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append_many", full)
        with vault.audit() as log:
            with pytest.raises(VaultError):
                Unsealer(vault.boxes, identities(own / "images"), log).unseal(path, own / "plain")
            reidentifier = Reidentifier(vault, identities(own / "images"), certificate_key=own_key(), log=log)
            with pytest.raises(VaultError):
                reidentifier.file(path, own / "back")
            assert not (own / "plain").exists()
            assert not (own / "back").exists()
            deidentifier, storage = Deidentifier(project=own / "project"), Storage(own / "second")
            ledger = Ledger(log, own / "second", "release", sealed=False)
            run = Run(deidentifier, own / "in", own / "second", storage=storage, ledger=ledger)
            with run, pytest.raises(VaultError):
                next(iter(run))
    assert len(files(own / "second")) == 5
    before = events(own)["release"]
    with vault.audit() as log:
        ledger = Ledger(log, own / "third", "release", sealed=False)
        with Run(Deidentifier(project=own / "project"), own / "in", own / "third", ledger=ledger) as run:
            assert sum(one.report.outcome == "released" for one in run) == 5
    assert events(own)["release"] == before + 5


def test_an_object_without_a_line_gets_one(own: Path) -> None:
    """A process killed between the name of an object and its line: the next run writes the line, once."""
    shutil.rmtree(own / "out")
    log, recipients = Vault(own / "vault").audit(), [recipient_from(str(own / "images"))]
    deidentifier = Deidentifier(project=own / "project")

    def run(ledger: Ledger | None) -> Counter[str]:
        storage = SealedStorage(own / "out", Vault(own / "vault").boxes, recipients)
        with Run(deidentifier, own / "in", own / "out", storage=storage, ledger=ledger) as running:
            return Counter(one.report.outcome for one in running)

    assert run(None)["released"] == 5
    assert events(own)["release"] == 5
    for _ in range(2):
        assert run(Ledger(log, own / "out", "release", sealed=True))["unchanged"] == 5
        assert events(own)["release"] == 10
    marks = {mark_of(path).sha256 for path in (own / "out").rglob("*.dcms")}
    assert marks <= {fields["sha256"] for event, fields in lines(own) if event == "release"}


def test_sealed_under_another_policy(own: Path) -> None:
    """What an earlier run sealed cannot be compared; it is not taken for what another policy would release."""
    done = cli(*asked(own, "out", "--mask", "0,0,4,4", "--report", own / "report"))
    assert done.stdout.startswith("0 released, 0 released before, 6 held back")
    reports = [json.loads(line) for line in (own / "report").read_text().splitlines()]
    assert Counter(one["reason"] for one in reports) == Counter(COLLISION=5, NOT_DICOM=1)
    assert "sealed before under another policy" in reports[0]["detail"]
    assert events(own)["release"] == 5
    assert cli(*asked(own)).stdout.startswith("0 released, 5 released before")


@pytest.mark.parametrize(
    "args",
    [
        ("--crosswalk", "names"),
        ("--seal", "images"),
        ("--auditor", "names"),
        ("--keys", "fresh"),
        ("--keys", "fresh", "--crosswalk", "party.key"),
        ("--keys", "in/vault", "--crosswalk", "names"),
        ("--encrypt-attributes", "party.key"),
        ("--encrypt-attributes", "nothing"),
    ],
)
def test_half_a_request_is_refused(own: Path, args: tuple[str, ...]) -> None:
    """Nothing is released before all that was asked for is there."""
    paths = [one if one.startswith("--") else own / one for one in args]
    done = cli("deidentify", own / "in", own / "new", "--project", own / "project", *paths)
    assert done.returncode == 2, done.stdout
    assert not (own / "new").exists() or not files(own / "new")


def test_running_again_with_plain_outputs(own: Path) -> None:
    """Encrypted attributes differ every time, and still an object is known again; another object is not."""
    args = asked(own, "clear")
    plain = [one for at, one in enumerate(args) if "--seal" not in args[max(0, at - 1) : at + 1]]
    assert cli(*plain).stdout.startswith("5 released, 0 released before")
    before = files(own / "clear")
    assert cli(*plain).stdout.startswith("0 released, 5 released before")
    assert files(own / "clear") == before
    (own / "in" / "zz").write_bytes(encoded(ct(1)))
    (own / "in" / "zzz").write_bytes(encoded(ct(1, SliceThickness="9")))
    again = cli(*plain)
    assert again.stdout.startswith("0 released, 6 released before, 2 held back")
    assert "COLLISION" in again.stdout
    # the same within a session that seals
    sealing = cli(*asked(own, "sealed-again", "--workers", 1))
    assert sealing.stdout.startswith("5 released, 1 released before, 2 held back")


# Lists of patients


def test_a_list_that_a_crosswalk_cannot_follow(own: Path) -> None:
    """One pseudonym for two patients has no way back; it is refused before anything is written."""
    (own / "list.csv").write_text("id_old,issuer,id_new\n74839201,,S1\nOTHER77,,S1\n")
    done = cli(*asked(own, "new", "--patients", own / "list.csv"))
    assert done.returncode == 2
    assert "one pseudonym to two patients" in done.stderr
    assert not (own / "new").exists() or not files(own / "new")
    (own / "list.csv").write_text("id_old,issuer,id_new\n74839201,,S1\nOTHER77,,S2\n")
    # this vault has them under other pseudonyms already
    done = cli(*asked(own, "new", "--patients", own / "list.csv"))
    assert done.returncode == 2
    assert "two pseudonyms" in done.stderr
    assert not files(own / "new")


def test_a_list_that_names_a_patient_for_any_issuer(tmp_path: Path) -> None:
    """The patient is one, and found by the identifier alone; each study still knows its issuer."""
    project, vault = Project(tmp_path / "project"), Vault(tmp_path / "vault")
    new_key_file(tmp_path / "k")
    second = {**OTHER, "PatientID": PATIENT_ID, "IssuerOfPatientID": "B"}
    written(tmp_path / "in", ct(1, IssuerOfPatientID="A"), ct(2, **second))
    patients = PatientList({(PATIENT_ID, ""): "S1"})
    entering = Entering(vault, project, [recipient_from(str(tmp_path / "k"))])
    deidentifier = Deidentifier(project=project, patients=patients, keep_originals=True)
    with Run(deidentifier, tmp_path / "in", tmp_path / "out", crosswalk=entering) as run:
        done = list(run)
    assert {one.report.patient for one in done} == {"S1"}
    with vault.crosswalk(project) as crosswalk:
        assert crosswalk.pseudonym_of("patient", PATIENT_ID, "") == "S1"
    reidentifier = Reidentifier(vault, identities(tmp_path / "k"), project=project)
    for one in done:
        data = reidentifier.file(tmp_path / "out" / one.report.name, tmp_path / f"{one.report.number}").data
        was, now = pydicom.dcmread(one.path), pydicom.dcmread(BytesIO(data))
        assert (now.PatientID, now.IssuerOfPatientID) == (was.PatientID, was.IssuerOfPatientID)


# Sealing what is there


def test_sealed_as_it_is(own: Path) -> None:
    """Byte for byte, under names that show nobody; what is not DICOM is held back."""
    vault = ("--keys", own / "vault")
    args = ("seal", own / "in", own / "sealed", *vault, "--to", own / "images")
    refused = cli(*args)
    assert refused.returncode == 2
    assert "--project" in refused.stderr
    done = cli(*args, "--project", own / "project", "--list", own / "list.csv")
    assert done.returncode == 3
    assert done.stdout.startswith("5 sealed, 0 sealed before, 1 held back")
    assert "NOT_DICOM" in done.stdout
    for name, data in files(own / "sealed").items():
        assert not any(value in name.lower() or value.encode() in data.lower() for value in VALUES)
    # where deidentify would put them
    assert files(own / "sealed").keys() == files(own / "out").keys()
    assert cli("unseal", own / "sealed", own / "opened", *vault, "--with", own / "images").returncode == 0
    inputs = {data for name, data in files(own / "in").items() if name != "junk"}
    assert {*files(own / "opened").values()} == inputs
    assert (own / "list.csv").stat().st_mode & 0o777 == 0o600
    assert cli(*args, "--project", own / "project").stdout.startswith("0 sealed, 5 sealed before")
    assert events(own)["seal"] == 5
    assert events(own)["unseal"] == 5


def test_released_objects_keep_their_names_when_sealed(own: Path) -> None:
    """An object that was de-identified goes by its own identifiers, one without a Patient ID by its study."""
    vault = ("--keys", own / "vault")
    assert cli("unseal", own / "out", own / "plain", *vault, "--with", own / "images").returncode == 0
    assert cli("seal", own / "plain", own / "again", *vault, "--to", own / "names").returncode == 0
    assert files(own / "again").keys() == files(own / "out").keys()
    file = next((own / "plain").rglob("*.dcm"))
    assert cli("seal", file, own / "one", *vault, "--to", own / "names").stdout.startswith("1 sealed")
    storage = SealedStorage(own / "two", Vault(own / "vault").boxes, [Recipient.secret(bytes(32))])
    sealer = FileSealer(storage, Pseudonymizer(bytes(32), (-9, -1)))
    nobody = ct(5, PatientID="", PatientIdentityRemoved="YES")
    written(own / "three", nobody, ct(6, PatientID="a/b", PatientIdentityRemoved="YES"), ct(7, StudyInstanceUID=""))
    reports = [sealer.seal(path, Report("", 1)) for path in sorted((own / "three").iterdir())]
    assert [report.outcome for report in reports] == ["released", "released", "quarantined"]
    assert reports[0].name.startswith(f"{nobody.StudyInstanceUID}/")
    assert reports[1].name.startswith("a_b/")
    assert reports[2].reason == "INCOMPLETE"


# Killed, and full


def assert_accounted_for(folder: Path) -> None:
    """Each object that is there has a line and rows that open."""
    vault, project = Vault(folder / "vault"), Project(folder / "project")
    released = Counter((f["instance"], f["sha256"]) for event, f in lines(folder) if event == "release")
    there = {(path.stem, mark_of(path).sha256) for path in (folder / "out").rglob("*.dcms")}
    assert there <= released.keys()
    assert set(released.values()) == {1}
    opener = vault.opener(identities(folder / "names"))
    with vault.crosswalk(project) as crosswalk:
        for instance, _ in there:
            assert crosswalk.original_of(instance, opener).original.startswith(UID_ROOT)
        crosswalk.check()
    assert verify(folder / "vault" / "audit" / "audit.log", vault.first_key(identities(folder / "images"))).ok


def test_killed_with_all_at_once(tmp_path: Path) -> None:
    """A kill -9 at any moment: after the next run each object has its rows and one line, and all inputs are there."""
    folder = prepared(tmp_path, *(ct(number) for number in range(1, 161)))
    moments = random.Random(5)  # noqa: S311
    command = [*CLI, *map(str, asked(folder, "out", "--workers", "2"))]
    for _ in range(3):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            enough = sum(1 for _ in (folder / "out").rglob("*.dcms")) + moments.randrange(1, 60)
            while process.poll() is None and sum(1 for _ in (folder / "out").rglob("*.dcms")) < enough:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        # workers end with their parent, within a second
        time.sleep(1.5)
    some = len(files(folder / "out"))
    assert some > 0
    assert cli(*asked(folder)).returncode == 0
    assert len(files(folder / "out")) == 160
    assert_accounted_for(folder)


def test_killed_workers(tmp_path: Path) -> None:
    """A worker that dies takes nothing with it that was told of, and the run goes on without it."""
    folder = prepared(tmp_path, *(ct(number) for number in range(1, 100)))
    command = [*CLI, *map(str, asked(folder, "out", "--workers", "2"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and sum(1 for _ in (folder / "out").rglob("*.dcms")) < 20:
            time.sleep(0.005)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        subprocess.run(["kill", "-9", children[0]], check=False)
        said, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "0 held back" in said
    assert len(files(folder / "out")) == 99
    assert_accounted_for(folder)


@pytest.mark.parametrize("workers", [1, 2])
def test_full_vault(tmp_path: Path, tmpfs: Path, workers: int) -> None:
    """A full disk under the vault: nothing is there without its rows, and space heals it."""
    folder = prepared(tmp_path, *(ct(number, StudyInstanceUID=f"{UID_ROOT}.9.{number}") for number in range(1, 41)))
    (folder / "vault").symlink_to(tmpfs)
    args = asked(folder, "out", "--workers", workers)
    assert cli(*(*args, "--durability", "file")).returncode == 0
    shutil.rmtree(folder / "out")
    for path in (tmpfs / "crosswalk.sqlite", *tmpfs.glob("crosswalk.sqlite-*")):
        path.unlink()
    filler = tmpfs / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(2 << 20))
    done = cli(*args)
    assert done.returncode in (2, 3, 4), done.stdout
    assert not (folder / "out").exists() or not files(folder / "out")
    filler.unlink()
    assert cli(*args).returncode == 0
    assert len(files(folder / "out")) == 40
    assert_accounted_for(folder)

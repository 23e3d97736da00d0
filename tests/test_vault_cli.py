"""The crosswalk, audit and keys verbs: who may know what, and that the log knows of it first."""

from __future__ import annotations

import csv
import io
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
from factories import ct, encoded

import dicomshield
from dicomshield import PolicyError, Project, VaultError
from dicomshield.cli import main
from dicomshield.vault.audit import AuditLog
from dicomshield.vault.audit_verification import entries
from dicomshield.vault.recipients import identity_from, new_key_file, recipient_from
from dicomshield.vault.vault import Vault

MRN, OTHER, NAME = "MRN-0047110815", "MRN-9", "Quastelberry^Zoë"
ROWS = f"""id_old,issuer,id_new,kind,patient,PatientName
{MRN},HOSP,P1,patient,P1,{NAME}
{OTHER},,P2,,,
1.2.3,,2.25.7,uid,P1,
"""


class Done(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*args: object, said: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said.encode())))
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        assert isinstance(ended.value.code, int)
        return Done(ended.value.code, *capsys.readouterr())

    return run


class Box:
    """A vault with a crosswalk of two patients, a project, and keys."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.folder, self.run = folder, run
        self.keys, self.project, self.key = folder / "keys", folder / "project", folder / "k"
        self.vault = ("--keys", self.keys)
        self.both = (*self.vault, "--project", self.project)
        Project(self.project)
        for name in ("k", "auditor", "new", "stranger"):
            new_key_file(folder / name)
        (folder / "in.csv").write_text(ROWS, "utf-8")
        done = self.crosswalk("import", folder / "in.csv", "--to", self.key, "--auditor", folder / "auditor")
        assert (done.status, done.out.split(";")[0]) == (0, "3 new rows")

    def crosswalk(self, verb: str, *args: object, said: str = "") -> Done:
        return self.run("crosswalk", verb, *self.both, *args, said=said)

    def audit(self, verb: str, *args: object) -> Done:
        return self.run("audit", verb, *self.vault, *args)

    def verify(self, *args: object) -> Done:
        return self.audit("verify", "--with", self.folder / "auditor", *args)

    def lines(self) -> list[tuple[str, dict[str, Any]]]:
        return [(one.event, one.fields) for one in entries(self.keys / "audit" / "audit.log")]


@pytest.fixture
def box(tmp_path: Path, run: Run) -> Iterator[Box]:
    made = Box(tmp_path, run)
    yield made
    # whatever was done: the log is whole and holds nothing of a patient
    assert made.verify().status == 0
    log = (made.keys / "audit" / "audit.log").read_text("ascii")
    assert not [word for word in (MRN, OTHER, "Quastel", "HOSP", "1.2.3") if word in log]


# The crosswalk


def test_lookup_of_originals(box: Box) -> None:
    """Whoever opens the patient's box sees the original; each question is one line, by blind index."""
    before = len(box.lines())
    done = box.crosswalk("lookup", "P1", "P2", "2.25.7", "--with", box.key)
    assert done == (
        0,
        f"P1: patient {MRN}, issuer HOSP\n  PatientName: {NAME}\nP2: patient {OTHER}\n2.25.7: uid 1.2.3\n",
        "",
    )
    new = box.lines()[before:]
    assert [event for event, _ in new] == ["lookup"] * 3
    kid = identity_from(str(box.key)).kid
    assert all(fields["identity"] == [kid] and fields["direction"] == "original" for _, fields in new)
    assert [fields.get("patient") for _, fields in new] == ["P1", "P2", None]


def test_lookup_of_pseudonyms(box: Box) -> None:
    """An original comes from a prompt or a file, never from the command line, and is not repeated."""
    (box.folder / "ids").write_text(f"{OTHER}\nMRN-1\n", "utf-8")
    done = box.crosswalk("lookup", "--originals", box.folder / "ids", "--with", box.key)
    assert (done.status, done.out) == (4, "P2\n")
    assert done.err == "number 2: not in the crosswalk\n"
    done = box.crosswalk("lookup", "--originals", "-", "--issuer", "HOSP", "--with", box.key, said=f"{MRN}\n")
    assert (done.status, done.out, done.err) == (0, "P1\n", "")
    done = box.crosswalk("lookup", "--issuer", "HOSP", "--with", box.key, said=f"{MRN}\n")
    assert (done.status, done.out) == (0, "P1\n")
    assert MRN not in done.err
    assert box.crosswalk("lookup", "--kind", "uid", "--with", box.key, said="1.2.3\n").out == "2.25.7\n"
    stranger = box.crosswalk("lookup", "--issuer", "HOSP", "--with", box.folder / "stranger", said=f"{MRN}\n")
    assert (stranger.status, stranger.out) == (4, "")
    found = [fields["found"] for event, fields in box.lines() if event == "lookup"]
    assert found == [1, 0, 1, 1, 1, 0]


def test_lookup_in_vain_is_written_down_too(box: Box) -> None:
    """A stranger's key, an unknown pseudonym, an original given as one: no answer, but a line."""
    done = box.crosswalk("lookup", "P1", "P9", MRN, "--with", box.folder / "stranger")
    assert (done.status, done.out) == (4, "")
    assert [fields["found"] for event, fields in box.lines() if event == "lookup"] == [0, 0, 0]


def test_no_answer_without_a_line(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the log cannot be written, nothing is told, exported, entered or merged."""
    (box.folder / "more.csv").write_text("id_old,issuer,id_new\nMRN-5,,P5\n", "utf-8")

    def full(*_: object, **__: object) -> int:
        raise VaultError("the audit log cannot be used: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(AuditLog, "append", full)
        for args in (
            ("lookup", "P1", "--with", box.key),
            ("export", "--out", box.folder / "out.csv", "--with", box.key),
        ):
            done = box.crosswalk(*args)
            assert (done.status, done.out) == (4, "")
        assert not (box.folder / "out.csv").exists()
        patched.setattr(AuditLog, "append_many", full)
        done = box.crosswalk("import", box.folder / "more.csv", "--to", box.key)
        assert (done.status, done.out) == (4, "")
    (box.keys / "audit").rename(box.folder / "away")
    done = box.crosswalk("lookup", "P1", "--with", box.key)
    assert (done.status, done.out) == (2, "")
    assert "--auditor" in done.err
    (box.folder / "away").rename(box.keys / "audit")


def test_export_and_import(box: Box) -> None:
    """An export is the owner's alone, replaces nothing, and comes in again elsewhere."""
    out = box.folder / "out.csv"
    done = box.crosswalk("export", "--out", out, "--with", box.key)
    assert (done.status, done.out) == (0, f"{out}: 3 rows (PHI)\n")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    rows = csv.DictReader(out.read_text("utf-8").splitlines())
    assert {(row["id_old"], row["id_new"], row["PatientName"]) for row in rows} == {
        ("1.2.3", "2.25.7", ""), (OTHER, "P2", ""), (MRN, "P1", NAME),
    }  # fmt: skip
    assert ("crosswalk", "export", 3) in [(e, f.get("action"), f.get("count")) for e, f in box.lines()]
    assert box.crosswalk("export", "--out", out, "--with", box.key).status == 2
    assert box.crosswalk("export", "--out", box.folder / "no", "--with", box.folder / "stranger").status == 4
    assert not (box.folder / "no").exists()
    assert box.crosswalk("import", out, "--to", box.key).out.startswith("0 new rows")
    elsewhere = ("--keys", box.folder / "elsewhere", "--project", box.project)
    done = box.run("crosswalk", "import", out, "--to", box.key, *elsewhere)
    assert done.out.startswith("3 new rows")
    assert box.run("crosswalk", "lookup", "P2", "--with", box.key, *elsewhere).out == f"P2: patient {OTHER}\n"


def test_merge(box: Box) -> None:
    """Rows of another worker's crosswalk come over without any key, and the log names their indexes."""
    (box.folder / "more.csv").write_text("id_old,issuer,id_new\nMRN-5,,P5\nMRN-9,,P2\n", "utf-8")
    other = ("--keys", box.folder / "worker", "--project", box.project)
    assert box.run("crosswalk", "import", box.folder / "more.csv", "--to", box.key, *other).status == 0
    done = box.crosswalk("merge", box.folder / "worker")
    assert (done.status, done.out) == (0, "1 new rows\n")
    event, fields = box.lines()[-1]
    assert (event, fields["action"], fields["count"], len(fields["bidx"])) == ("crosswalk", "merge", 1, 1)
    shutil.copytree(box.folder / "worker" / "P5", box.keys / "P5")
    assert box.crosswalk("lookup", "--with", box.key, said="MRN-5\n").out == "P5\n"
    assert box.crosswalk("merge", box.folder / "nothing").status == 2


def test_wrong_usage(box: Box) -> None:
    """What is missing is said before anything is asked, made or written."""
    count = len(box.lines())
    wrong: list[tuple[object, ...]] = [
        ("lookup", "P1", *box.both),
        ("lookup", "P1", "--issuer", "X", "--with", box.key, *box.both),
        ("lookup", "P1", "--with", box.key, "--keys", box.keys, "--project", box.folder / "nothing"),
        ("lookup", "P1", "--with", box.key, "--keys", box.folder / "nothing", "--project", box.project),
        ("export", "--out", box.folder / "x", "--with", box.key, "--keys", box.folder / "no", "--project", box.project),
    ]
    for args in wrong:
        done = box.run("crosswalk", *args)
        assert (done.status, done.out) == (2, "")
    assert len(box.lines()) == count
    assert not [name for name in ("nothing", "no", "x") if (box.folder / name).exists()]


def test_a_terminal_is_not_commanded(box: Box) -> None:
    """Control characters of an original are spelled out."""
    (box.folder / "odd.csv").write_text("id_old,issuer,id_new\nM\x1b[2J,,P7\n", "utf-8")
    assert box.crosswalk("import", box.folder / "odd.csv", "--to", box.key).status == 0
    assert box.crosswalk("lookup", "P7", "--with", box.key).out == "P7: patient M\\x1b[2J\n"


# Keys


def test_changed_keys_are_in_the_log(box: Box) -> None:
    """Each box that changed hands, for whom and by whom; and the first key of the log only as its holder wants."""
    new, kid = box.folder / "new", recipient_from(str(box.folder / "new")).kid
    done = box.run("keys", "add", *box.vault, "--with", box.key, "--to", new)
    assert (done.status, done.out) == (0, "2 boxes changed, 0 could not be opened and are as they were\n")
    lines = [fields for event, fields in box.lines() if event == "key"]
    assert lines[0] == {"action": "add", "identity": [identity_from(str(box.key)).kid], "recipient": [kid]}
    assert [(fields["action"], fields["patient"]) for fields in lines[1:]] == [("add", "P1"), ("add", "P2")]
    assert box.audit("verify", "--with", new).status == 4
    done = box.run("keys", "rotate", *box.vault, "--with", box.key, "--to", new)
    assert (done.status, done.out.splitlines()[1]) == (
        0,
        "the first key of the audit log stays as it is: it is for others",
    )
    assert box.crosswalk("lookup", "P1", "--with", box.key).status == 4
    assert box.crosswalk("lookup", "P1", "--with", new).status == 0
    assert [fields["action"] for event, fields in box.lines() if event == "key"].count("rotate") == 3


def test_the_first_key_goes_to_another_auditor(box: Box) -> None:
    """Whoever opens its box can add readers, and be replaced; the others it is for stay."""
    new, auditor = box.folder / "new", box.folder / "auditor"
    boxes = Vault(box.keys).boxes
    again = ("--to", auditor, "--with", auditor, "--with", box.key, *box.vault)
    assert box.run("keys", "add", "--audit-key", "--to", new, "--with", box.key, *box.vault).status == 4
    assert (
        box.run("keys", "add", "--audit-key", "--to", new, "--with", box.key, "--with", auditor, *box.vault).status == 0
    )
    assert box.audit("verify", "--with", new).status == 0
    assert box.run("keys", "rotate", "--to", box.folder / "stranger", "--with", new, *box.vault).status == 0
    assert box.audit("verify", "--with", new).status == 4
    for one in ("stranger", "auditor"):
        assert box.audit("verify", "--with", box.folder / one).status == 0
    assert box.run("keys", "add", "--audit-key", *again, "--with", box.folder / "stranger").status == 0
    assert {len(one.recipients) for one in boxes.list()} == {2}


def test_shred_takes_the_rows_along(box: Box) -> None:
    """Keys, rows and the lookup are gone; another patient is as before, and the patient can be entered anew."""
    assert box.run("keys", "shred", "P1", "--yes", *box.vault, "--project", box.folder / "nothing").status == 2
    assert len(list(box.keys.glob("P1/*.jwe"))) == 1
    done = box.run("keys", "shred", "P1", "--yes", *box.both)
    assert (done.status, done.out) == (0, "1 keys and 2 crosswalk rows deleted; delete them in backups too\n")
    event, fields = box.lines()[-1]
    assert (event, fields["action"], fields["patient"], len(fields["kid"])) == ("key", "shred", "P1", 1)
    assert box.crosswalk("lookup", "P1", "--with", box.key).status == 4
    assert box.crosswalk("lookup", "P2", "--with", box.key).status == 0
    assert box.crosswalk("lookup", "--issuer", "HOSP", "--with", box.key, said=f"{MRN}\n").status == 4
    assert box.crosswalk("import", box.folder / "in.csv", "--to", box.key).out.startswith("2 new rows")
    assert box.run("keys", "shred", "nobody", "--yes", *box.both).out.startswith("0 keys and 0 ")


# The audit log


def test_verify_says_what_was_proved(box: Box) -> None:
    """Without key, checkpoint or public key from elsewhere, what they would have proved is named as not proved."""
    assert "proved:\n  - nothing" in box.audit("verify").out
    note, public = box.folder / "note", box.folder / "pub"
    assert box.audit("checkpoint", "--out", note).status == 0
    assert box.audit("checkpoint").out.split("\n")[0] == note.read_text("utf-8").split("\n")[0]
    public.write_bytes((box.keys / "audit" / "audit.pub").read_bytes())
    alone = box.verify()
    assert "all 4 lines are what this log wrote" in alone.out
    assert "not set back to an earlier state" in alone.out
    assert "its own public key" in box.verify("--checkpoint", note).out
    whole = box.verify("--checkpoint", note, "--public-key", public).out
    assert "lines 1 to 2 are those that a checkpoint was signed for" in whole
    assert "its own public key" not in whole
    assert "cut off behind line 2" in whole
    without = box.audit("verify", "--checkpoint", note, "--public-key", public).out
    assert "that lines after line 2 are what was written" in without


def test_verify_finds_what_is_wrong(box: Box) -> None:
    """A changed line, a log set back, a stranger's key: exit status 4, with the line."""
    log, note = box.keys / "audit" / "audit.log", box.folder / "note"
    assert box.crosswalk("lookup", "P2", "--with", box.key).status == 0
    assert box.audit("checkpoint", "--out", note).status == 0
    good = log.read_bytes()
    log.write_bytes(good.replace(b'"patient":"P2"', b'"patient":"P1"'))
    done = box.verify()
    assert done.status == 4
    assert "wrong:\n  - line 3: the line is not what was written" in done.out
    assert "3 of 4 lines are what this log wrote" in done.out
    log.write_bytes(b"".join(good.splitlines(keepends=True)[:2]))
    assert box.verify().status == 0
    assert "shorter than a checkpoint says" in box.verify("--checkpoint", note).out
    log.write_bytes(good)
    assert box.audit("verify", "--with", box.folder / "stranger").status == 4
    assert box.verify("--checkpoint", box.folder / "missing").status == 2
    assert box.verify("--checkpoint", box.folder / "in.csv").status == 4


def test_export_of_the_log(box: Box) -> None:
    """One message a line, into a new file of the owner's."""
    for form, begins in (("dicom", "<AuditMessage>"), ("fhir", '{"resourceType":"AuditEvent"')):
        out = box.folder / form
        assert box.audit("export", "--form", form, "--out", out).out == f"{out}: 2 messages\n"
        assert all(line.startswith(begins) for line in out.read_text("utf-8").splitlines())
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert box.audit("export", "--form", form, "--out", out).status == 2
    assert json.loads((box.folder / "fhir").read_text("utf-8").splitlines()[1])["type"]["code"] == "110113"
    assert box.run("audit", "export", "--keys", box.folder, "--form", "dicom", "--out", box.folder / "y").status == 4
    assert not (box.folder / "y").exists()


# From Python


def test_one_file_from_python(tmp_path: Path) -> None:
    """Sealed for a key file; pydicom reads it, a stranger or another name does not; the log has the new key."""
    plain, out, keys = tmp_path / "1.dcm", tmp_path / "1.dcms", tmp_path / "keys"
    plain.write_bytes(encoded(ct(3)))
    for name in ("k", "stranger"):
        new_key_file(tmp_path / name)
    Vault(keys).audit([recipient_from(str(tmp_path / "k"))]).close()
    dicomshield.seal(plain, out, str(tmp_path / "k"), keys, patient="P1")
    with dicomshield.open_sealed(out, str(tmp_path / "k"), keys) as file:
        assert pydicom.dcmread(file).SOPInstanceUID == ct(3).SOPInstanceUID
        file.seek(0)
        assert file.read() == plain.read_bytes()
    with pytest.raises(VaultError):
        dicomshield.open_sealed(out, identity_from(str(tmp_path / "stranger")), keys)
    out.rename(tmp_path / "2.dcms")
    with pytest.raises(VaultError, match="label"):
        dicomshield.open_sealed(tmp_path / "2.dcms", [identity_from(str(tmp_path / "k"))], keys)
    with dicomshield.open_sealed(tmp_path / "2.dcms", str(tmp_path / "k"), keys, label="1") as file:
        assert file.read(2) == b"\0\0"
    assert [(one.event, one.fields.get("action")) for one in entries(keys / "audit" / "audit.log")][1:] == [
        ("key", "new")
    ]
    with pytest.raises(PolicyError):
        dicomshield.seal(plain, out, [], keys, patient="P1")


def test_cryptography_waits_until_it_is_used() -> None:
    """A plain run does not pay for what it does not use."""
    script = (
        "import sys, dicomshield\n"
        "print('cryptography' in sys.modules)\n"
        "dicomshield.seal\n"
        "print('joserfc' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="no_such"):
        dicomshield.no_such  # noqa: B018

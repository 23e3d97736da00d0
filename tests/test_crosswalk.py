"""The crosswalk: found again by those who hold a key, told to nobody else, and there after every accident."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from factories import BORN, NAME, PATIENT_ID, UID_ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_faults import fill, tmpfs, wait_until

from dicomshield.errors import DicomShieldError, PolicyError, Quarantined, Reason, VaultError
from dicomshield.identity.project import Project
from dicomshield.vault import crosswalk as module
from dicomshield.vault.crosswalk import Crosswalk, Entry, Lookup, Row, index_key
from dicomshield.vault.keys import DataKey

__all__ = ["tmpfs"]

INDEX_KEY = bytes(range(32))
MORE = {"PatientName": NAME, "PatientBirthDate": BORN}


def key_of(patient: str) -> DataKey:
    """Return the data key of a patient, as a key box of theirs would."""
    digest = hashlib.sha512(patient.encode()).digest()
    return DataKey(digest[:16], digest[32:], patient)


def opened(kid: bytes, patient: str) -> DataKey:
    """Open the key box of any patient."""
    assert key_of(patient).kid == kid
    return key_of(patient)


def except_for(shredded: str) -> Callable[[bytes, str], DataKey]:
    """Open the key box of any patient but one."""

    def open_key(kid: bytes, patient: str) -> DataKey:
        return {patient: opened(kid, patient)}[patient if patient != shredded else ""]

    return open_key


def batch_of(name: str) -> list[Row]:
    """Return rows that are entered together: a patient and four UIDs; some are those of every writer."""
    number = int(name.rpartition("-")[2])
    patient = f"P{name}"
    rows = [Row("uid", f"1.2.{name}.{at}", "", f"2.25.{name}.{at}", key_of(patient)) for at in range(3)]
    common = Row("uid", f"9.{number}", "", f"2.25.9.{number}", key_of("everybody"))
    return [Row("patient", f"MRN{name}", "hospital", patient, key_of(patient), MORE), *rows, common]


def crosswalk_in(folder: Path, name: str = "crosswalk.db", **options: object) -> Crosswalk:
    return Crosswalk(folder / name, index_key=INDEX_KEY, **options)  # type: ignore[arg-type]


def edit(path: Path, *statements: str) -> None:
    """Edit a crosswalk as somebody with write access would."""
    db = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def started(work: Callable[[], object]) -> int:
    """Do something in a forked process."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return child


def ended(children: list[int]) -> set[int]:
    """Wait for forked processes; return how they ended."""
    return {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}


def lp(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a crosswalk of two patients and three UIDs."""
    path = tmp_path / "vault" / "crosswalk.db"
    with crosswalk_in(path.parent) as crosswalk:
        crosswalk.add("patient", PATIENT_ID, "HOSP", "P1", key_of("P1"), **MORE)
        crosswalk.add("patient", "55501", "HOSP", "P2", key_of("P2"), PatientName="Other^One")
        for at, patient in enumerate(["P1", "P1", "P2"]):
            crosswalk.add("uid", f"{UID_ROOT}.{at}", "", f"2.25.{at}", key_of(patient))
    return path


# What it is for


def test_both_ways(path: Path) -> None:
    """All that an object without its sequence needs to become its original is found by what stands in it."""
    with crosswalk_in(path.parent) as crosswalk:
        assert crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP") == "P1"
        assert crosswalk.pseudonym_of("uid", f"{UID_ROOT}.2", "") == "2.25.2"
        assert crosswalk.original_of("P1", opened) == Entry("patient", PATIENT_ID, "HOSP", "P1", "P1", MORE)
        assert crosswalk.original_of("2.25.2", opened) == Entry("uid", f"{UID_ROOT}.2", "", "2.25.2", "P2", {})
        assert crosswalk.pseudonym_of("patient", PATIENT_ID, "ELSEWHERE") is None
        assert crosswalk.pseudonym_of("uid", PATIENT_ID, "HOSP") is None
        for unknown in ("P3", "", PATIENT_ID, "\ud800", "x" * 100_000):
            with pytest.raises(VaultError, match="no row"):
                crosswalk.original_of(unknown, opened)
        assert (crosswalk.count(), crosswalk.check()) == (5, 5)


text = st.text(max_size=20)
padding = st.text(" \0", max_size=3)


@settings(max_examples=30, deadline=None)
@given(rows=st.lists(st.tuples(st.sampled_from(module.KINDS), text, text, st.dictionaries(text, text)), max_size=4))
def test_any_text(rows: list[tuple[str, str, str, dict[str, str]]], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any text comes back as it was, padded or not, by either way and by CSV."""
    folder = tmp_path_factory.mktemp("text")
    entries = {}
    with crosswalk_in(folder, durable=False) as crosswalk, crosswalk_in(folder, "2", durable=False) as second:
        for at, (kind, original, issuer, more) in enumerate(rows):
            more = {name: value for name, value in more.items() if name not in ("", *module._CSV)}
            try:
                if crosswalk.pseudonym_of(kind, original, issuer) is None:
                    crosswalk.add_many([Row(kind, original, issuer, f"P{at}", key_of(f"P{at}"), more)])
                    entries[f"P{at}"] = Entry(kind, original, issuer, f"P{at}", f"P{at}", more)
            except PolicyError:
                assert not original.strip(" \0")
        crosswalk.export_csv(folder / "csv", opened)
        second.import_csv(folder / "csv", key_of)
        assert crosswalk.count() == second.count() == len(entries)
        for pseudonym, entry in entries.items():
            assert crosswalk.original_of(pseudonym, opened) == entry
            filled = {name: value for name, value in entry.more.items() if value}
            assert second.original_of(pseudonym, opened) == entry._replace(more=filled)
            for padded in (entry.original, f"{entry.original} ", f" {entry.original}\0"):
                assert second.pseudonym_of(entry.kind, padded, f"{entry.issuer}\0") == pseudonym


def test_text_that_was_none(tmp_path: Path) -> None:
    """Bytes that were no text in an object come back; what could not have been in one is refused."""
    with crosswalk_in(tmp_path) as crosswalk:
        crosswalk.add("patient", "A\udce9B", "", "P1", key_of("P1"))
        assert crosswalk.original_of("P1", opened).original == "A\udce9B"
        assert crosswalk.pseudonym_of("patient", "A\udce9B ", "") == "P1"
        crosswalk.export_csv(tmp_path / "csv", opened)
        assert b"A\\udce9B,,P1" in (tmp_path / "csv").read_bytes()
        with pytest.raises(PolicyError, match="no text"):
            crosswalk.pseudonym_of("patient", "\ud800", "")
        with pytest.raises(PolicyError, match="no text"):
            crosswalk.add("patient", "\ud800", "", "P2", key_of("P2"))


def test_layout(path: Path) -> None:
    """A row opens with SQLite, HMAC and AES-GCM alone, by what the module says of it."""
    db = sqlite3.connect(path)
    bidx = hmac.digest(INDEX_KEY, lp(b"patient") + lp(b"HOSP") + lp(PATIENT_ID.encode()), "sha256")[:16]
    select = "SELECT pseudonym, patient, kid, sealed, tag FROM entry WHERE bidx = ?"
    pseudonym, patient, kid, sealed, tag = db.execute(select, (bidx,)).fetchone()
    key = key_of("P1")
    assert (pseudonym, patient, kid) == ("P1", "P1", key.kid)
    associated = b"xw1" + kid + bidx + lp(pseudonym.encode()) + lp(patient.encode())
    row_key = hmac.digest(key.secret, b"dicomshield/v1/crosswalk/row\1", "sha256")
    content = json.loads(AESGCM(row_key).decrypt(sealed[:12], sealed[12:], associated))
    assert content == {"kind": "patient", "original": PATIENT_ID, "issuer": "HOSP", "more": MORE}
    tag_key = hmac.digest(INDEX_KEY, b"dicomshield/v1/crosswalk/tag\1", "sha256")
    assert tag == hmac.digest(tag_key, associated + sealed, "sha256")[:16]
    assert {len(sealed) % 64 for (sealed,) in db.execute("SELECT sealed FROM entry")} == {28}
    db.close()


def test_index_key(tmp_path: Path) -> None:
    """The index key comes from the project's secret under its own label, and opens its own project's file only."""
    project, other = Project(tmp_path / "one"), Project(tmp_path / "two")
    assert index_key(project) == hmac.digest(project.secret, b"dicomshield/1/blind-index\1", "sha256")
    Crosswalk(tmp_path / "crosswalk.db", index_key=index_key(project)).close()
    with pytest.raises(VaultError, match="another project's"):
        Crosswalk(tmp_path / "crosswalk.db", index_key=index_key(other))
    with pytest.raises(PolicyError, match="32 bytes"):
        Crosswalk(tmp_path / "crosswalk.db", index_key=b"short")


def test_entered_again(path: Path) -> None:
    """What is there stays as it is; only what is new is named for the audit log."""
    with crosswalk_in(path.parent) as crosswalk:
        fresh = DataKey(b"k" * 16, b"s" * 32, "P1")
        assert crosswalk.add("patient", f"{PATIENT_ID} ", "HOSP", "P1", fresh, PatientName="Later^Name") == []
        row = Row("uid", "1.2.3", "", "2.25.33", fresh)
        (bidx,) = crosswalk.add_many([row, row])
        assert bidx == hmac.digest(INDEX_KEY, lp(b"uid") + lp(b"") + lp(b"1.2.3"), "sha256")[:16].hex()
        assert crosswalk.original_of("P1", opened).more == MORE
        assert crosswalk.count() == 6


@pytest.mark.parametrize(
    "row", [Row("patient", PATIENT_ID, "HOSP", "P9", key_of("P9")), Row("patient", "other", "", "P1", key_of("P1"))]
)
def test_contradiction(path: Path, row: Row) -> None:
    """Neither has one original two pseudonyms, nor one pseudonym two originals; nothing of the batch is entered."""
    with crosswalk_in(path.parent) as crosswalk:
        with pytest.raises(PolicyError, match="two"):
            crosswalk.add_many([Row("uid", "1.2.3", "", "2.25.33", key_of("P1")), row])
        assert crosswalk.count() == crosswalk.check() == 5


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("name", "a", "", "P", key_of("P")), "kind"),
        (Row("patient", " \0", "", "P", key_of("P")), "Study Instance UID"),
        (Row("patient", "P ", "", "P", key_of("P")), "is the original"),
        (Row("patient", "a", "", "P", key_of("Q")), "another patient"),
        (Row("uid", "a", "", "2.25.1\\2.25.2", key_of("P")), "printable"),
        (Row("uid", "a", "", "2.25.1", key_of("")), "printable"),
        (Row("uid", "a", "", "2.25.1", key_of("x" * 65)), "printable"),
        (Row("uid", "a", "", "2.25.1", key_of("P"), {"id_old": "x"}), "names of their own"),
        (Row("uid", "a", "", "2.25.1", key_of("P"), {"a": "x" * 66_000}), "too long"),
        (Row("uid", "a", "", "2.25.1", DataKey(b"short", b"s" * 32, "P")), "key"),
        (Row("uid", "a", "", "2.25.1", DataKey(b"k" * 16, b"short", "P")), "key"),
    ],
)
def test_not_to_be_entered(path: Path, row: Row, message: str) -> None:
    with crosswalk_in(path.parent) as crosswalk:
        with pytest.raises(PolicyError, match=message):
            crosswalk.add_many([row])
        assert crosswalk.count() == 5


# Who may see what


def test_no_original_in_any_file(path: Path) -> None:
    """Neither the file nor those at its side hold an original, while it is written and afterwards; nor does a repr."""
    secrets = [PATIENT_ID, "55501", "Quastelberry", "Other^One", BORN, UID_ROOT, "HOSP", "PatientName"]
    with crosswalk_in(path.parent) as crosswalk:
        crosswalk.add("patient", "667788", "HOSP", "P3", key_of("P3"), **MORE)
        found = {file.name: file.read_bytes() for file in path.parent.iterdir()}
        assert found.keys() == {"crosswalk.db", "crosswalk.db-wal", "crosswalk.db-shm"}
        shown = repr([crosswalk.original_of("P3", opened), Row("uid", UID_ROOT, "HOSP", "", key_of("P"))]).encode()
    found["afterwards"] = path.read_bytes()
    assert b"P3" in found["crosswalk.db-wal"]
    assert b"P3" in found["afterwards"]
    for secret in [*secrets, "667788"]:
        for data in [*found.values(), shown]:
            assert secret.encode() not in data
            assert secret.encode("utf-16-le") not in data
            assert secret.encode().hex().encode() not in data


def test_modes(tmp_path: Path) -> None:
    """The folder is 0700 and every file in it 0600, whatever the mask; a file that others can read is refused."""
    mask = os.umask(0)
    try:
        with crosswalk_in(tmp_path / "new" / "vault") as crosswalk:
            crosswalk.add("uid", "1.2", "", "2.25.1", key_of("P"))
            crosswalk.export_csv(tmp_path / "new" / "vault" / "csv", opened)
            files = list((tmp_path / "new" / "vault").iterdir())
            assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
            assert len(files) == 4
    finally:
        os.umask(mask)
    assert (tmp_path / "new" / "vault").stat().st_mode & 0o777 == 0o700
    (tmp_path / "new" / "vault" / "crosswalk.db").chmod(0o640)
    with pytest.raises(PolicyError, match="chmod 600"):
        crosswalk_in(tmp_path / "new" / "vault")


def test_shredded(path: Path) -> None:
    """Without their keys a patient's rows do not open, and others' do; forgotten, the patient can come anew."""
    shredded = except_for("P1")
    with crosswalk_in(path.parent) as crosswalk:
        for gone in ("P1", "2.25.0", "2.25.1"):
            with pytest.raises(VaultError, match="key of this row is gone"):
                crosswalk.original_of(gone, shredded)
        assert crosswalk.original_of("P2", shredded).original == "55501"
        assert crosswalk.original_of("2.25.2", shredded).patient == "P2"
        assert crosswalk.export_csv(path.parent / "csv", shredded) == (2, 3)
        assert PATIENT_ID not in (path.parent / "csv").read_text()
        old = crosswalk._one("pseudonym", "P1")
        assert old
        assert crosswalk.forget("P1") == 3
        assert crosswalk.forget("P1") == crosswalk.forget("\ud800") == 0
        for file in path.parent.iterdir():
            assert old.sealed not in file.read_bytes()
        assert crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP") is None
        fresh = DataKey(b"k" * 16, b"s" * 32, "P1")
        assert len(crosswalk.add("patient", PATIENT_ID, "HOSP", "P1", fresh, **MORE)) == 1
        assert crosswalk.original_of("P1", lambda _kid, _patient: fresh).original == PATIENT_ID
        assert crosswalk.check() == 3


@pytest.mark.parametrize(
    "key", [key_of("P2"), key_of("P1")._replace(secret=b"s" * 32), key_of("P1")._replace(kid=b"k" * 16)]
)
def test_wrong_key(path: Path, key: DataKey) -> None:
    """A wrong key looks like damage."""
    with crosswalk_in(path.parent) as crosswalk, pytest.raises(VaultError, match="damaged, another project's"):
        crosswalk.original_of("P1", lambda _kid, _patient: key)


EDITS = {
    "swap": "UPDATE entry SET sealed = (SELECT sealed FROM entry WHERE pseudonym = 'P2') WHERE pseudonym = 'P1'",
    "sealed": "UPDATE entry SET sealed = CAST(x'00' || substr(sealed, 2) AS BLOB) WHERE pseudonym = 'P1'",
    "cut off": "UPDATE entry SET sealed = substr(sealed, 1, 5) WHERE pseudonym = 'P1'",
    "kid": "UPDATE entry SET kid = (SELECT kid FROM entry WHERE pseudonym = 'P2') WHERE pseudonym = 'P1'",
    "patient": "UPDATE entry SET patient = 'P2' WHERE pseudonym = 'P1'",
    "bidx": "UPDATE entry SET bidx = x'00112233445566778899aabbccddeeff' WHERE pseudonym = 'P1'",
    "text": "UPDATE entry SET sealed = 'P1' WHERE pseudonym = 'P1'",
    "number": "UPDATE entry SET patient = 1.5, kid = 7 WHERE pseudonym = 'P1'",
}


@pytest.mark.parametrize("by", ["a stranger", "one who has the index key"])
@pytest.mark.parametrize("name", EDITS)
def test_edited_row(path: Path, name: str, by: str) -> None:
    """An edit is refused: by the tag without any data key, and by the data key if the tag was made anew."""
    edit(path, EDITS[name])
    with crosswalk_in(path.parent) as crosswalk:
        if by == "a stranger":
            for use in (crosswalk.check, partial(crosswalk.pseudonym_of, "patient", PATIENT_ID, "HOSP")):
                if name != "bidx" or use == crosswalk.check:
                    with pytest.raises(VaultError):
                        use()
        elif name not in ("text", "number"):
            tag_anew(crosswalk, path, "P1")
            assert crosswalk.check() == 5
        with pytest.raises(VaultError, match="damaged, another project's"):
            crosswalk.original_of("P1", lambda _kid, patient: key_of("P2" if name == "kid" else patient))


def tag_anew(crosswalk: Crosswalk, path: Path, pseudonym: str) -> None:
    """Make the tag of an edited row, as somebody with the index key can."""
    db = sqlite3.connect(path)
    columns = db.execute(f"SELECT {module._COLUMNS} FROM entry WHERE pseudonym = ?", (pseudonym,)).fetchone()  # noqa: S608
    record = module._Record(*columns)
    tag = crosswalk._mac(record.associated() + record.sealed)
    db.execute("UPDATE entry SET tag = ? WHERE pseudonym = ?", (tag, pseudonym))
    db.commit()
    db.close()


@pytest.mark.parametrize("anew", [False, True])
def test_edited_pseudonym(path: Path, anew: bool) -> None:
    """Two pseudonyms exchanged do not lead to the wrong patient."""
    change = "UPDATE entry SET pseudonym = '{}', patient = '{}' WHERE pseudonym = '{}'"
    edit(path, *(change.format(new, new.strip("x"), old) for new, old in [("Px", "P1"), ("P1", "P2"), ("P2", "Px")]))
    with crosswalk_in(path.parent) as crosswalk:
        if anew:
            tag_anew(crosswalk, path, "P1")
        with pytest.raises(VaultError):
            crosswalk.original_of("P1", lambda kid, _patient: key_of("P2")._replace(patient="P1", kid=kid))
        if not anew:
            with pytest.raises(VaultError):
                crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP")


def test_content_is_bound(path: Path) -> None:
    """Who holds data key and index key of one row still cannot have it name what its index does not."""
    for plain in (b"no JSON", b"[]", b"{}", b'{"kind":1,"original":2,"issuer":3,"more":{}}', b"[" * 40_000):
        sealed_anew(path, plain)
    content = {"kind": "patient", "original": "somebody else", "issuer": "HOSP", "more": {}}
    sealed_anew(path, json.dumps(content).encode())
    content |= {"original": PATIENT_ID, "more": {"PatientName": 1}}
    sealed_anew(path, json.dumps(content).encode())
    sealed_anew(path, json.dumps({**content, "more": "text"}).encode())


def sealed_anew(path: Path, plain: bytes) -> None:
    with crosswalk_in(path.parent) as crosswalk:
        record = crosswalk._one("pseudonym", "P1")
        assert record
        sealed = b"n" * 12 + module._cipher(key_of("P1")).encrypt(b"n" * 12, plain, record.associated())
        tag = crosswalk._mac(record.associated() + sealed)
        with crosswalk._transaction() as db:
            db.execute("UPDATE entry SET sealed = ?, tag = ? WHERE pseudonym = 'P1'", (sealed, tag))
        with pytest.raises(VaultError, match="damaged"):
            crosswalk.original_of("P1", opened)


def test_lookups_are_told(path: Path) -> None:
    """Every lookup is told, also one that fails or finds nothing, before it is answered; never an original."""
    told: list[Lookup] = []
    with crosswalk_in(path.parent, on_lookup=told.append) as crosswalk:
        crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP", purpose="call back")
        crosswalk.pseudonym_of("patient", "unknown", "HOSP", purpose="call back")
        entry = crosswalk.original_of("P1", opened, purpose="recall")
        with pytest.raises(VaultError):
            crosswalk.original_of(PATIENT_ID, opened, purpose="the wrong way round")
        with pytest.raises(VaultError):
            crosswalk.original_of("P1", except_for("P1"), purpose="shredded")
        crosswalk.export_csv(path.parent / "csv", opened, purpose="all")
        crosswalk.add("patient", PATIENT_ID, "HOSP", "P1", key_of("P1"))
        crosswalk.check()
    assert entry.original == PATIENT_ID
    bidx = told[0].bidx
    assert told == [
        Lookup("patient", "P1", bidx, "call back", 1),
        Lookup("", "", told[1].bidx, "call back", 0),
        Lookup("patient", "P1", bidx, "recall", 1),
        Lookup("", "", "", "the wrong way round", 0),
        Lookup("", "P1", bidx, "shredded", 0),
        Lookup("", "", "", "all", 5),
    ]
    assert not {bidx, told[1].bidx} & {"", "unknown"}
    assert PATIENT_ID not in repr(told)


def test_what_cannot_be_told_is_not_answered(path: Path) -> None:
    """A log that cannot be written stops lookups, and an export leaves no file."""

    def refuse(_lookup: Lookup) -> None:
        raise Quarantined(Reason.DISK)

    with crosswalk_in(path.parent, on_lookup=refuse) as crosswalk:
        for use in (
            partial(crosswalk.pseudonym_of, "patient", PATIENT_ID, "HOSP"),
            partial(crosswalk.original_of, "P1", opened),
            partial(crosswalk.export_csv, path.parent / "csv", opened),
        ):
            with pytest.raises(Quarantined):
                use()
        assert not list(path.parent.glob("*csv*"))
        assert len(crosswalk.add("uid", "1.2.3", "", "2.25.33", key_of("P1"))) == 1


# CSV


def test_csv(path: Path) -> None:
    """An export is RFC 4180, read by anybody's parser; cells that a spreadsheet would run are stopped."""
    formulas = [
        '=HYPERLINK("http://x")',
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "'-1",
        "''",
        "'plain",
        'a,"b"\r\nc',
        "-",
    ]
    with crosswalk_in(path.parent) as crosswalk, crosswalk_in(path.parent, "second") as second:
        for at, formula in enumerate(formulas):
            crosswalk.add("patient", formula, formula, f"F{at}", key_of(f"F{at}"), **{formula: formula})
        assert crosswalk.export_csv(path.parent / "csv", opened) == (5 + len(formulas), 0)
        raw = (path.parent / "csv").read_bytes()
        with open(path.parent / "csv", encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, strict=True))
        assert raw.startswith(b"id_old,issuer,id_new,kind,patient,")
        assert raw.endswith(b"\r\n")
        assert len(lines) == 5 + len(formulas)
        mine = next(line for line in lines if line["id_new"] == "P1")
        assert mine["id_old"] == PATIENT_ID
        assert mine["PatientName"] == NAME
        cells = [cell for line in lines for cell in [*line, *line.values()]]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        assert len(second.import_csv(path.parent / "csv", key_of)) == second.count() == 5 + len(formulas)
        for pseudonym in ["P1", "P2", "2.25.0", *(f"F{at}" for at in range(len(formulas)))]:
            assert second.original_of(pseudonym, opened) == crosswalk.original_of(pseudonym, opened)
        second.export_csv(path.parent / "csv2", opened)
        assert (path.parent / "csv2").read_bytes() == raw


def test_csv_of_patients(tmp_path: Path) -> None:
    """A list of patients, as the main job takes it, is entered; key boxes are made for new patients only."""
    (tmp_path / "list.csv").write_text("\ufeffid_old,issuer,id_new,PatientName\n1, HOSP,A,Doe^Jane\n\n2,,B,\n", "utf-8")
    asked: list[str] = []

    def key_for(patient: str) -> DataKey:
        asked.append(patient)
        return key_of(patient)

    with crosswalk_in(tmp_path) as crosswalk:
        crosswalk.add("patient", "2", "", "B", key_of("B"))
        assert len(crosswalk.import_csv(tmp_path / "list.csv", key_for)) == 1
        assert crosswalk.import_csv(tmp_path / "list.csv", key_for) == []
        assert asked == ["A"]
        assert crosswalk.original_of("A", opened) == Entry(
            "patient", "1", " HOSP", "A", "A", {"PatientName": "Doe^Jane"}
        )
        (tmp_path / "list.csv").write_text("id_old,issuer,id_new,kind,patient\n1.2,,2.25.1,uid,A\n1.3,,2.25.2,uid,A\n")
        assert len(crosswalk.import_csv(tmp_path / "list.csv", key_for)) == 2
        assert asked == ["A", "A"]
        assert crosswalk.original_of("2.25.2", opened).patient == "A"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin"),
        (b"id_old,id_new,issuer\n", "must begin"),
        (b"id_old,issuer,id_new,name,name\n", "must begin"),
        (b"id_old,issuer,id_new,\n", "must begin"),
        (b"id_old,issuer,id_new\nSMITH,,A\nSMITH2,,B,C\n", "line 3: it has not as many fields"),
        (b"id_old,issuer,id_new\nSMITH,,A\nSMITH2,\n", "line 3: it has not as many fields"),
        (b"id_old,issuer,id_new\nSMITH,,SMITH\n", "line 2: the pseudonym is the original"),
        (b"id_old,issuer,id_new\n,,A\n", "line 2: the original is empty"),
        (b"id_old,issuer,id_new\nSMITH,,\n", "line 2: pseudonym and patient"),
        (b"id_old,issuer,id_new,kind\nSMITH,,A,uid\n", "line 2: pseudonym and patient"),
        (b"id_old,issuer,id_new,kind\nSMITH,,A,name\n", "line 2: the kind"),
        (b"id_old,issuer,id_new\nSM\xcfTH,,A\n", "UTF-8"),
        (b'id_old,issuer,id_new\n"SMITH" x,,A\n', "not CSV"),
        (b"id_old,issuer,id_new\nSMITH,,A\nSMITH,,B\n", "two pseudonyms"),
        (b"id_old,issuer,id_new\nSMITH,,P1\n", "two originals"),
    ],
)
def test_csv_refused(path: Path, content: bytes, message: str) -> None:
    """A wrong line is named by its number, no value is repeated, and nothing of the file is entered."""
    (path.parent / "csv").write_bytes(content)
    with crosswalk_in(path.parent) as crosswalk:
        with pytest.raises(PolicyError, match=message) as refused:
            crosswalk.import_csv(path.parent / "csv", key_of)
        assert "SM" not in str(refused.value)
        assert crosswalk.count() == 5
        with pytest.raises(PolicyError, match="No such file"):
            crosswalk.import_csv(path.parent / "nothing", key_of)


def test_export_replaces_nothing(path: Path) -> None:
    """A file that is there stays; an export that fails on its way leaves none."""
    (path.parent / "csv").write_text("precious")
    with crosswalk_in(path.parent) as crosswalk:
        with pytest.raises(PolicyError, match="replace"):
            crosswalk.export_csv(path.parent / "csv", opened)
        assert (path.parent / "csv").read_text() == "precious"
        edit(path, EDITS["sealed"])
        with pytest.raises(VaultError):
            crosswalk.export_csv(path.parent / "csv2", opened)
    assert {file.name for file in path.parent.iterdir()} == {"crosswalk.db", "csv"}


def test_export_is_one_view(path: Path) -> None:
    """What is entered while an export is made is not in it, and its names are not missed among the columns."""
    with crosswalk_in(path.parent) as crosswalk, crosswalk_in(path.parent) as writer:
        number = iter(range(100))

        def open_key(kid: bytes, patient: str) -> DataKey:
            at = next(number)
            writer.add("patient", f"late {at}", "", f"0{at}", key_of(f"0{at}"), **{f"Late{at}": "x"})
            return opened(kid, patient)

        assert crosswalk.export_csv(path.parent / "csv", open_key) == (5, 0)
        assert next(number) == 4, "one opening for each patient and pass"
        assert writer.count() == crosswalk.count() == 9
        assert b"Late" not in (path.parent / "csv").read_bytes()


def test_export_opens_a_key_once(path: Path) -> None:
    """However many rows a patient has, their key box is opened once for each pass over the rows."""
    asked: list[str] = []

    def open_key(kid: bytes, patient: str) -> DataKey:
        asked.append(patient)
        return opened(kid, patient)

    with crosswalk_in(path.parent) as crosswalk:
        crosswalk.add_many(Row("uid", f"1.2.{at}", "", f"2.25.9{at}", key_of(f"P{at % 3}")) for at in range(60))
        assert crosswalk.export_csv(path.parent / "csv", open_key) == (65, 0)
    assert asked == ["P0", "P1", "P2"] * 2


# Merging


def test_merge(path: Path) -> None:
    """Files of many workers become one, in any order and as often as one likes, without any data key."""
    folder = path.parent
    for name in ("w1", "w2"):
        with crosswalk_in(folder, name) as worker:
            worker.add_many([*batch_of("a-1"), *batch_of(f"{name}-2")])
    with crosswalk_in(folder) as crosswalk, crosswalk_in(folder, "back") as back:
        assert len(crosswalk.merge([folder / "w1", folder / "w2", folder / "w1"])) == 14
        assert crosswalk.merge([path, folder / "w2"]) == []
        assert crosswalk.count() == 19
        assert crosswalk.original_of("Pw2-2", opened).original == "MRNw2-2"
        assert len(back.merge([path])) == 19
        assert back.original_of("P1", opened) == crosswalk.original_of("P1", opened)
        with pytest.raises(PolicyError, match="not there"):
            crosswalk.merge([folder / "w3"])


@pytest.mark.parametrize(
    "row", [Row("patient", PATIENT_ID, "HOSP", "P9", key_of("P9")), Row("patient", "other", "", "P1", key_of("P1"))]
)
def test_merge_contradiction(path: Path, row: Row) -> None:
    """A file that contradicts is refused as a whole."""
    with crosswalk_in(path.parent, "other") as other:
        other.add_many([*batch_of("a-1"), row, *batch_of("b-2")])
    with crosswalk_in(path.parent) as crosswalk:
        with pytest.raises(PolicyError, match="two"):
            crosswalk.merge([path.parent / "other"])
        assert crosswalk.count() == 5


def test_merge_damaged(path: Path) -> None:
    """A file with an edited row, or of another project, is refused as a whole."""
    with crosswalk_in(path.parent, "edited") as other:
        other.add_many(batch_of("a-1"))
    edit(path.parent / "edited", "UPDATE entry SET patient = 'P2' WHERE pseudonym = 'Pa-1'")
    Crosswalk(path.parent / "foreign", index_key=bytes(32)).close()
    with crosswalk_in(path.parent) as crosswalk:
        for name in ("edited", "foreign"):
            with pytest.raises(VaultError):
                crosswalk.merge([path.parent / name])
        assert crosswalk.count() == 5


def test_merged_at_once(tmp_path: Path) -> None:
    """Processes that merge into each other's files at the same time wait for each other, and all have all."""
    names = ["w1", "w2", "w3"]
    for name in names:
        with crosswalk_in(tmp_path, name) as worker:
            for at in range(60):
                worker.add_many(batch_of(f"{name}-{at}"))

    def merge(name: str) -> None:
        with crosswalk_in(tmp_path, name) as mine:
            mine.merge([tmp_path / other for other in names])

    assert ended([started(partial(merge, name)) for name in names * 2]) == {0}
    with crosswalk_in(tmp_path, "w1") as first, crosswalk_in(tmp_path, "w3") as last:
        assert first.count() == first.check() == 60 * 4 * 3 + 60
        assert last.merge([tmp_path / "w1"]) == []


# Other files, other file systems


FOREIGN: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty": (b"", ()),
    "text": (b"remember the milk" * 1000, ()),
    "another database": (b"", ("CREATE TABLE t(a)",)),
    "another version": (b"", ("PRAGMA application_id=1145264215", *module._SCHEMA, "PRAGMA user_version=2")),
    "a view": (
        b"",
        (
            "PRAGMA application_id=1145264215",
            "PRAGMA user_version=1",
            "CREATE TABLE about(index_check BLOB NOT NULL)",
            "CREATE VIEW entry AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c",
        ),
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign(tmp_path: Path, name: str) -> None:
    """What is no crosswalk is refused before anything of it is run, and left as it was."""
    content, statements = FOREIGN[name]
    path = tmp_path / "crosswalk.db"
    path.write_bytes(content)
    edit(path, *statements)
    path.chmod(0o600)
    before = path.read_bytes()
    with pytest.raises(VaultError, match="damaged"):
        crosswalk_in(tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_defences(path: Path) -> None:
    """What SQLite advises for files of strangers is switched on (https://sqlite.org/security.html)."""
    with crosswalk_in(path.parent) as crosswalk, crosswalk._guarded() as db:
        found = {name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("trusted_schema", "cell_size_check")}
    assert found == {"trusted_schema": 0, "cell_size_check": 1}


def test_added_to(path: Path) -> None:
    """A trigger or a second row of marks in a crosswalk is refused."""
    shutil.copy(path, path.with_name("second"))
    edit(path, "CREATE TRIGGER t AFTER INSERT ON entry BEGIN DELETE FROM entry; END")
    edit(path.with_name("second"), "INSERT INTO about VALUES (x'00')")
    for name in ("crosswalk.db", "second"):
        with pytest.raises(VaultError, match="damaged"):
            crosswalk_in(path.parent, name)


def test_large_value(path: Path) -> None:
    """A value of a size that no row has is not read into memory."""
    edit(path, "UPDATE entry SET sealed = zeroblob(8000000) WHERE pseudonym = 'P1'")
    with crosswalk_in(path.parent) as crosswalk:
        for use in (crosswalk.check, partial(crosswalk.original_of, "P1", opened)):
            tracemalloc.start()
            with pytest.raises(VaultError):
                use()
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
            tracemalloc.stop()


def test_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for place, message in [("file/crosswalk.db", "cannot be made"), ("folder", "not a regular"), ("loop", "Too many")]:
        with pytest.raises(PolicyError, match=message):
            crosswalk_in(tmp_path, place)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_network_file_system(path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A crosswalk is neither made nor opened on a network file system; a local one is told from it."""
    device = path.stat().st_dev
    mounts = path.parent / "mountinfo"
    monkeypatch.setattr(module, "_MOUNTS", mounts)
    line = "36 35 {}:{} / /place\\040of\\040it rw,noatime shared:1 - {} server:/export rw\n"
    mounts.write_text(line.format(os.major(device), os.minor(device), kind))
    for name in ("crosswalk.db", "new.db"):
        with pytest.raises(PolicyError, match="merge them"):
            crosswalk_in(path.parent, name)
    assert not path.with_name("new.db").exists()
    other = line.format(os.major(device), os.minor(device) + 1, kind)
    mounts.write_text(other + line.format(os.major(device), os.minor(device), "fuse.fuseblk"))
    crosswalk_in(path.parent, "new.db").close()
    mounts.unlink()
    crosswalk_in(path.parent).close()


def test_no_shared_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where SQLite cannot do WAL, a crosswalk is neither made nor opened, and nothing is left."""
    connect = sqlite3.connect

    def without(database: str, **options: object) -> sqlite3.Connection:
        return connect(f"{database}&vfs=unix-dotfile", **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", without)
    for name in ("crosswalk.db", "new.db"):
        with pytest.raises(PolicyError, match="merge them"):
            crosswalk_in(path.parent, name)
    assert list(path.parent.iterdir()) == [path]


# Damage


def exchange(path: Path, one: bytes, other: bytes) -> None:
    """Exchange two values of the same length in the last place that has them: the index of pseudonyms."""
    data = bytearray(path.read_bytes())
    first, second = data.rfind(one), data.rfind(other)
    data[first : first + len(one)], data[second : second + len(one)] = other, one
    path.write_bytes(data)


def test_trees_that_contradict(path: Path) -> None:
    """An index that leads to another patient's row, sound in itself, is refused wherever it is used."""
    with crosswalk_in(path.parent) as crosswalk:
        one, other = (crosswalk._one("pseudonym", name) for name in ("P1", "P2"))
    assert one
    assert other
    exchange(path, one.bidx, other.bidx)
    with crosswalk_in(path.parent) as crosswalk, crosswalk_in(path.parent, "other") as another:
        assert crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP") == "P1"
        for use in (
            partial(crosswalk.original_of, "P1", opened),
            partial(crosswalk.export_csv, path.parent / "csv", opened),
            partial(another.merge, [path]),
            crosswalk.count,
            crosswalk.check,
        ):
            with pytest.raises(VaultError, match="damaged"):
                use()


def test_another_row_than_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should SQLite take the pseudonym from the row and not from the index that led there, that is seen."""
    select = f"SELECT {module._COLUMNS} FROM entry WHERE pseudonym = ?"  # noqa: S608
    with crosswalk_in(path.parent) as crosswalk:
        with crosswalk._guarded() as db:
            misled = Misled(db.execute(select, ("P2",)))
        monkeypatch.setattr(crosswalk, "_connection", misled)
        for use in (
            partial(crosswalk.original_of, "P1", opened),
            partial(crosswalk.pseudonym_of, "patient", PATIENT_ID, "HOSP"),
        ):
            with pytest.raises(VaultError, match="damaged"):
                use()
        monkeypatch.undo()


class Misled:
    """A connection that gives the same row whatever is asked for."""

    def __init__(self, row: sqlite3.Cursor) -> None:
        self.row = row.fetchone()

    def execute(self, _statement: str, _values: tuple[object, ...]) -> Misled:
        return self

    def fetchone(self) -> object:
        return self.row


def test_row_out_of_its_place(path: Path) -> None:
    """A row that its pseudonym finds and its index does not is damage; it is not taken for a contradiction."""
    with crosswalk_in(path.parent) as crosswalk:
        record = crosswalk._one("pseudonym", "P1")
    assert record
    data = path.read_bytes()
    assert data.count(record.bidx) == 2
    path.write_bytes(data.replace(record.bidx, bytes(16), 1))
    with crosswalk_in(path.parent) as crosswalk, pytest.raises(VaultError, match="damaged"):
        crosswalk.add("patient", PATIENT_ID, "HOSP", "P1", key_of("P1"))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return a file with some bytes changed, stretches moved or cut off."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at = chance.randrange(len(changed))
        end = at + chance.choice((1, 2, 4, 32, 512))
        match chance.randrange(6):
            case 0 | 1:
                changed[at] = chance.randrange(256)
            case 2:
                changed[at] ^= 1 << chance.randrange(8)
            case 3:
                changed[at:end] = bytes(len(changed[at:end]))
            case 4:
                start = chance.randrange(len(changed))
                changed[at:end] = changed[start : start + len(changed[at:end])]
            case 5 if chance.random() < 0.2:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


def sound_files(folder: Path) -> tuple[bytes, bytes]:
    """Return a crosswalk of several pages whose log is not yet in it: the file and the log."""
    with crosswalk_in(folder, durable=False) as crosswalk:
        for at in range(8):
            crosswalk.add_many(batch_of(f"a-{at}"))
    with crosswalk_in(folder, durable=False) as crosswalk:
        for at in range(8, 12):
            crosswalk.add_many(batch_of(f"a-{at}"))
        path = folder / "crosswalk.db"
        return path.read_bytes(), path.with_name("crosswalk.db-wal").read_bytes()


def try_damaged(folder: Path, files: tuple[bytes, bytes], chance: random.Random) -> str:
    """Use a damaged crosswalk in every way; return what came of it."""
    database, log = files
    which = chance.random()
    if which < 0.75:
        # often in the header, or the first page, which holds the schema
        at = chance.choice((100, 4096, len(database)))
        database = damaged(database[:at], chance) + database[at:]
    else:
        log = damaged(log, chance)
    path = folder / "crosswalk.db"
    for suffix, data in (("", database), ("-wal", log if which > 0.5 else b"")):
        path.with_name(f"crosswalk.db{suffix}").write_bytes(data)
    path.with_name("crosswalk.db-shm").unlink(missing_ok=True)
    path.chmod(0o600)
    said = "sound"
    try:
        crosswalk = crosswalk_in(folder, durable=False)
    except VaultError:
        return "did not open"
    with crosswalk:
        for use in (
            partial(asked, crosswalk, chance.randrange(12)),
            partial(crosswalk.add_many, batch_of("b-1")),
            crosswalk.check,
            crosswalk.count,
            partial(crosswalk.forget, "Pa-3"),
        ):
            try:
                use()
            except VaultError:
                said = "refused"
    return said


def asked(crosswalk: Crosswalk, number: int) -> None:
    """Look something up both ways: a wrong answer is worse than none."""
    name = f"a-{number}"
    assert crosswalk.pseudonym_of("patient", f"MRN{name}", "hospital") in (f"P{name}", None)
    try:
        assert crosswalk.original_of(f"P{name}", opened).original == f"MRN{name}"
    except VaultError as error:
        if "no row" not in str(error):
            raise


def test_damaged(tmp_path: Path) -> None:
    """A damaged file or log gives nothing but a `VaultError`, in time, and no wrong answer."""
    chance = random.Random(7433)  # noqa: S311
    files = sound_files(tmp_path)
    outcomes = []
    for _ in range(200):
        began = time.monotonic()
        outcomes.append(try_damaged(tmp_path, files, chance))
        assert time.monotonic() - began < 5
    assert {"did not open", "refused", "sound"} == set(outcomes)


# Accidents


def test_killed_writers(tmp_path: Path) -> None:
    """Of 20 writers killed in 10 rounds no acknowledged batch is lost, none is there by half, and all rows open."""
    path, acknowledged = tmp_path / "vault" / "crosswalk.db", tmp_path / "acknowledged"
    acknowledged.touch()
    moments = random.Random(7433)  # noqa: S311
    for turn in range(10):
        lines = acknowledged.read_bytes().count(b"\n")
        durable = turn % 2 == 0
        children = [started(partial(write_on, path, acknowledged, f"{turn}-{at}", durable)) for at in range(20)]
        assert wait_until(lambda lines=lines: acknowledged.read_bytes().count(b"\n") > lines, 30)  # type: ignore[misc]
        time.sleep(moments.uniform(0.05, 0.4))
        for child in children:
            os.kill(child, signal.SIGKILL)
        assert ended(children) == {-signal.SIGKILL}, "a writer failed"
        assert_all_there(path, acknowledged)


def write_on(path: Path, acknowledged: Path, name: str, durable: bool) -> None:
    """Write for as long as there is a parent, and note what is acknowledged."""
    log, parent = os.open(acknowledged, os.O_WRONLY | os.O_APPEND), os.getppid()
    with Crosswalk(path, index_key=INDEX_KEY, durable=durable) as crosswalk:
        for number in count():
            crosswalk.add_many(batch_of(f"{name}-{number}"))
            os.write(log, f"{name}-{number}\n".encode())
            if os.getppid() != parent:
                break


def assert_all_there(path: Path, acknowledged: Path) -> None:
    """Check a crosswalk against what its writers were told; a line may be cut off by the death of its writer."""
    names = acknowledged.read_text().splitlines()
    with Crosswalk(path, index_key=INDEX_KEY) as crosswalk:
        assert crosswalk.check() >= 4 * len(names)
        batches: dict[str, int] = {}
        for record in crosswalk._records("bidx"):
            entry = crosswalk._opened(record, opened)
            batches[entry.patient] = batches.get(entry.patient, 0) + 1
        batches.pop("everybody")
        assert set(batches.values()) == {4}
        assert {f"P{name}" for name in names} <= batches.keys()
        for name in names[-20:]:
            assert [crosswalk.original_of(row.pseudonym, opened).original for row in batch_of(name)] == [
                row.original for row in batch_of(name)
            ]


def test_disk_full(tmpfs: Path) -> None:
    """A full disk is a typed error each time; what was acknowledged is there, and with space it goes on."""
    with pytest.raises(Quarantined) as held:
        crowd(tmpfs)
    assert held.value.reason is Reason.DISK
    (tmpfs / "filler").unlink()
    with crosswalk_in(tmpfs) as crosswalk:
        rows = crosswalk.check()
        assert rows % 5 == 0
        assert rows >= 5
        crosswalk.add_many(batch_of("z-100000"))
        assert crosswalk.check() == rows + 5
        csv_file = tmpfs / "csv"
        fill(tmpfs)
        with pytest.raises(Quarantined, match="DISK"):
            crosswalk.export_csv(csv_file, opened)
    assert not csv_file.exists()
    (tmpfs / "filler").unlink()
    crosswalk_in(tmpfs).close()
    fill(tmpfs)
    with pytest.raises(Quarantined, match="DISK"):
        crosswalk_in(tmpfs)
    (tmpfs / "filler").unlink()
    with crosswalk_in(tmpfs) as crosswalk:
        assert crosswalk.check() == rows + 5


def crowd(folder: Path) -> None:
    """Enter rows until the disk is full; each that is acknowledged is there."""
    with crosswalk_in(folder) as crosswalk:
        crosswalk.add_many(batch_of("a-0"))
        with open(folder / "filler", "wb") as filler:
            filler.write(bytes(600_000))
        for at in range(1, 1000):
            try:
                crosswalk.add_many(batch_of(f"a-{at}"))
            except Quarantined:
                assert crosswalk.count() == crosswalk.check() == 5 * at
                assert crosswalk.pseudonym_of("patient", f"MRNa-{at - 1}", "hospital") == f"Pa-{at - 1}"
                assert crosswalk.pseudonym_of("patient", f"MRNa-{at}", "hospital") is None
                raise


def test_disk_full_from_the_start(tmpfs: Path) -> None:
    """Where there is no space for a crosswalk, none is there afterwards."""
    fill(tmpfs)
    with pytest.raises(DicomShieldError, match=r"DISK|cannot be made"):
        crosswalk_in(tmpfs)
    assert [file.name for file in tmpfs.iterdir()] == ["filler"]


def test_made_at_once(tmp_path: Path) -> None:
    """Processes that make the crosswalk at the same moment make one."""
    for turn in range(10):
        gate = os.pipe()
        children = [started(partial(make, tmp_path, f"{turn}.db", at, gate)) for at in range(8)]
        for end in gate:
            os.close(end)
        assert ended(children) == {0}
        with crosswalk_in(tmp_path, f"{turn}.db") as crosswalk:
            assert crosswalk.check() == 40
    assert {file.name for file in tmp_path.iterdir()} == {f"{turn}.db" for turn in range(10)}


def make(folder: Path, name: str, at: int, gate: tuple[int, int]) -> None:
    """Make a crosswalk at the moment the gate is closed, or use the one another process made."""
    os.close(gate[1])
    os.read(gate[0], 1)
    with crosswalk_in(folder, name, durable=False) as crosswalk:
        crosswalk.add_many(batch_of(f"{at}-{at}"))


def test_forked(tmp_path: Path) -> None:
    """A crosswalk in use is used on by forked processes, while the one that made it closes it."""
    crosswalk = crosswalk_in(tmp_path, durable=False)
    crosswalk.add_many(batch_of("parent-0"))

    def write(at: int) -> None:
        for number in range(100):
            crosswalk.add_many(batch_of(f"{at}-{at * 1000 + number}"))

    children = []
    for at in range(1, 5):
        children.append(started(partial(write, at)))
        crosswalk.add_many(batch_of(f"parent-{at}"))
        crosswalk.close()
    assert ended(children) == {0}
    assert crosswalk.check() == 405 * 5
    crosswalk.close()


def test_threads(tmp_path: Path) -> None:
    """Threads share one crosswalk, and one forks while others write."""
    failed: list[BaseException] = []

    def write(at: int) -> None:
        try:
            for number in range(50):
                crosswalk.add_many(batch_of(f"{at}-{at * 1000 + number}"))
                assert crosswalk.pseudonym_of("patient", f"MRN{at}-{at * 1000 + number}", "hospital")
        except BaseException as error:
            failed.append(error)

    with crosswalk_in(tmp_path, durable=False) as crosswalk:
        threads = [threading.Thread(target=write, args=(at,)) for at in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(50):
            module._before_fork()
            module._after_fork()
        for thread in threads:
            thread.join()
        assert not failed
        assert crosswalk.check() == 200 * 5


def test_others_do_not_finish(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that never ends makes others give up with a typed error; readers go on, and who has nothing new."""
    monkeypatch.setattr(module, "_SECONDS", 0.05)
    with crosswalk_in(path.parent) as crosswalk, crosswalk_in(path.parent) as other:
        with other._transaction(), pytest.raises(Quarantined, match=r"DISK.*locked"):
            crosswalk.add("uid", "1.2.3", "", "2.25.33", key_of("P1"))
        with other._transaction():
            assert crosswalk.pseudonym_of("patient", PATIENT_ID, "HOSP") == "P1"
            assert crosswalk.add("patient", PATIENT_ID, "HOSP", "P1", key_of("P1")) == []
        assert len(crosswalk.add("uid", "1.2.3", "", "2.25.33", key_of("P1"))) == 1


@pytest.mark.parametrize(("durable", "level"), [(True, 2), (False, 1)])
def test_durability(path: Path, durable: bool, level: int) -> None:
    """What is acknowledged is forced to the disk, unless that is not wanted."""
    with crosswalk_in(path.parent, durable=durable) as crosswalk, crosswalk._guarded() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (level,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_closed(path: Path) -> None:
    """Closing leaves one file; using it again opens it again."""
    crosswalk = crosswalk_in(path.parent)
    crosswalk.close()
    crosswalk.close()
    assert list(path.parent.iterdir()) == [path]
    assert crosswalk.count() == 5
    crosswalk.close()

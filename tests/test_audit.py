"""The audit log: every change shows, no acknowledged line is lost, and lines hold no value of a patient."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import test_faults
from factories import NAME, ROOT, TOKENS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicomshield.errors import PolicyError, VaultError
from dicomshield.storage import Durability
from dicomshield.vault import audit_lines
from dicomshield.vault.audit import AuditLog
from dicomshield.vault.audit_export import Form, export
from dicomshield.vault.audit_lines import Value
from dicomshield.vault.audit_verification import Problem, Verdict, Wrong, entries, verify

small = test_faults.tmpfs
"""A file system of 1 MiB, as a fixture."""

ORIGIN = "example.org/box3"
PATIENT, UID, DIGEST, KID = "P4X9Q2M7TZ0A1B2C3", "2.25.271005999324985060292900686673364454435", "5e" * 32, "0f" * 16
CT = "1.2.840.10008.5.1.4.1.1.2"
KEY_NAME = "kqXUNnJjnqYA1rH4rW3OQeGXm5mYr9DVRQhu9fd0-5M"
SAMPLES: tuple[tuple[str, dict[str, Value]], ...] = (
    ("start", {"version": "0.1.0"}),
    ("release", {"patient": PATIENT, "study": UID, "instance": UID, "sop_class": CT, "sha256": DIGEST}),
    ("release", {"patient": PATIENT, "study": UID, "instance": [UID, f"{UID}1"[:60]], "sha256": DIGEST, "kid": KID}),
    ("quarantine", {"reason": "BURNED_IN", "number": 7}),
    ("quarantine", {"reason": "RESIDUAL", "patient": PATIENT, "study": UID}),
    ("lookup", {"bidx": KID, "direction": "pseudonym", "kind": "patient", "found": 1, "identity": KEY_NAME}),
    ("lookup", {"patient": PATIENT, "direction": "original", "found": 0, "identity": [KEY_NAME, "passphrase"]}),
    ("reidentify", {"patient": PATIENT, "instance": UID, "source": "sequence", "identity": KEY_NAME}),
    ("seal", {"patient": PATIENT, "instance": UID, "kid": KID, "recipient": [KEY_NAME, "passphrase"]}),
    ("unseal", {"patient": PATIENT, "study": UID, "instance": UID, "kid": KID, "identity": "passphrase"}),
    ("key", {"action": "new", "patient": PATIENT, "kid": KID, "recipient": KEY_NAME}),
    ("key", {"action": "add", "kid": KID, "recipient": KEY_NAME}),
    ("key", {"action": "rotate", "count": 3}),
    ("key", {"action": "shred", "patient": PATIENT, "kid": [KID, "1e" * 16]}),
    ("crosswalk", {"action": "import", "count": 9, "sha256": DIGEST}),
    ("crosswalk", {"action": "export", "count": 9}),
    ("crosswalk", {"action": "merge", "bidx": [KID], "count": 1}),
    ("checkpoint", {"size": 4, "root": DIGEST}),
    ("release", {"patient": 'A<&>"B', "study": UID, "profile": DIGEST}),
)


class Box:
    """A log with 20 lines, checkpoints after 5 and after 12, and what an attacker copies on the way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "audit.log"
        self.log, self.first_key = AuditLog.create(folder, origin=ORIGIN, durability=Durability.NONE)
        self.public_key = self.log.public_key
        self.write(4)
        self.checkpoints = [self.log.checkpoint()]
        self.write(6)
        self.checkpoints.append(self.log.checkpoint())
        self.old_state, self.old_log = (folder / "audit.state").read_bytes(), self.path.read_bytes()
        self.write(7)
        self.lines = self.path.read_bytes().splitlines(keepends=True)
        assert len(self.lines) == 20

    def write(self, count: int) -> None:
        for number in range(count):
            self.log.append("release", patient=f"P{number}", sha256=DIGEST)

    def verify(self, *, key: bool = True, checkpoints: bool = True) -> Verdict:
        notes = self.checkpoints if checkpoints else []
        return verify(self.path, self.first_key if key else None, notes, self.public_key)

    def put(self, lines: list[bytes]) -> None:
        self.path.write_bytes(b"".join(lines))


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "box")


def found(verdict: Verdict) -> list[tuple[Wrong, int]]:
    assert verdict.ok == (not verdict.problems)
    return [(one.wrong, one.line) for one in verdict.problems]


def root_of(leaves: list[bytes]) -> bytes:
    """Return the root of a Merkle tree as RFC 6962 2.1 defines it."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def keys(first_key: bytes) -> Iterator[bytes]:
    while True:
        yield first_key
        first_key = hmac.digest(first_key, b"next", "sha256")


def repacked(slot: bytes, change: Callable[[dict[str, object]], object]) -> bytes:
    """Return a slot of the state with a right digest and another content."""
    state = json.loads(slot[36 : 36 + int.from_bytes(slot[32:36], "big")])
    change(state)
    data = json.dumps(state).encode()
    return (hashlib.sha256(data).digest() + len(data).to_bytes(4, "big") + data).ljust(4096, b"\0")


# What is written


def test_form_of_a_log(tmp_path: Path) -> None:
    """Lines are canonical JSON and a MAC of the chain, each computed here anew; the tree is that of RFC 6962."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    numbers = [log.append(event, **fields) for event, fields in SAMPLES]
    assert numbers == list(range(1, len(SAMPLES) + 1))
    assert log.append_many(SAMPLES) == range(len(SAMPLES) + 1, 2 * len(SAMPLES) + 1)
    assert log.append_many([]) == range(2 * len(SAMPLES) + 1, 2 * len(SAMPLES) + 1)
    lines = (tmp_path / "log" / "audit.log").read_bytes().splitlines()
    expected: list[tuple[str, dict[str, Value]]] = [("start", {"origin": ORIGIN}), *SAMPLES, *SAMPLES]
    before, times = bytes(32), []
    for number, (line, key, (event, fields)) in enumerate(zip(lines, keys(first_key), expected, strict=False)):
        body, mac = line.split(b"\t")
        entry = json.loads(body)
        assert body == json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
        times.append(entry.pop("t"))
        assert entry == {**fields, "event": event, "n": number}
        before = hmac.digest(key, b"line" + before + body, "sha256")
        assert mac == base64.b64encode(before)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", time) for time in times)
    verdict = verify(tmp_path / "log" / "audit.log", first_key)
    assert verdict.ok
    assert (verdict.lines, verdict.proven, verdict.covered) == (len(expected), len(expected), 0)
    assert verdict.root == base64.b64encode(root_of(lines)).decode()
    assert verdict.events == {name: sum(event == name for event, _ in expected) for name in verdict.events}
    assert sum(verdict.events.values()) == len(expected)
    assert [(one.event, one.fields) for one in entries(tmp_path / "log" / "audit.log")] == expected


def test_checkpoint(box: Box) -> None:
    """A checkpoint says origin, size and root, and is itself written down in the log (C2SP tlog-checkpoint)."""
    for note, size in zip(box.checkpoints, (5, 12), strict=True):
        body, signature = note.split("\n\n")
        root = base64.b64encode(root_of([line[:-1] for line in box.lines[:size]])).decode()
        assert body == f"{ORIGIN}\n{size}\n{root}"
        assert re.fullmatch(rf"— {ORIGIN} [A-Za-z0-9+/]{{91}}=\n", signature)
    noted = [entry.fields["size"] for entry in entries(box.path) if entry.event == "checkpoint"]
    assert noted == [5, 12]
    verdict = box.verify()
    assert found(verdict) == []
    assert (verdict.covered, verdict.lines, verdict.proven) == (12, 20, 20)
    without = box.verify(key=False)
    assert found(without) == []
    assert (without.covered, without.proven, without.root) == (12, 0, verdict.root)


def test_checkpoint_of_another_verifier(box: Box, tmp_path: Path) -> None:
    """Node alone verifies key ID, signature and root, and refuses what was changed."""
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    (tmp_path / "key").write_text(box.public_key)

    def node(note: str) -> str:
        (tmp_path / "note").write_text(note)
        program = ROOT / "tests" / "checkpoint.mjs"
        command = [Path("node"), program, box.path, tmp_path / "key", tmp_path / "note"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        return done.stdout.strip()

    for note, size in zip([*box.checkpoints, box.log.checkpoint()], (5, 12, 20), strict=True):
        assert node(note) == f"ok {size}"
    assert node(box.checkpoints[1].replace("\n12\n", "\n13\n")) == "signature"
    box.put([box.lines[0], *box.lines[2:]])
    assert node(box.checkpoints[1]) == "root"
    box.put(box.lines[:11])
    assert node(box.checkpoints[1]) == "truncated"


def test_witness_signatures(box: Box) -> None:
    """Signatures of others on a checkpoint do not disturb, and do not count (C2SP signed-note)."""
    other, _ = AuditLog.create(box.folder / "other", origin="witness.example/w1")
    line = other.checkpoint().split("\n\n")[1]
    text, own = box.checkpoints[0].split("\n\n")
    for note, wrong in ((f"{text}\n\n{line}{own}", []), (f"{text}\n\n{line}", [(Wrong.CHECKPOINT, 0)])):
        assert found(verify(box.path, None, [note], box.public_key)) == wrong


# Attacks


def edited(lines: list[bytes]) -> list[bytes]:
    lines[6] = lines[6].replace(b'"patient":"P0"', b'"patient":"P9"').replace(b'"patient":"P1"', b'"patient":"P9"')
    return lines


def swapped(lines: list[bytes]) -> list[bytes]:
    lines[6], lines[7] = lines[7], lines[6]
    return lines


def far_swapped(lines: list[bytes]) -> list[bytes]:
    lines[3], lines[15] = lines[15], lines[3]
    return lines


def forged(lines: list[bytes]) -> list[bytes]:
    """Insert a line under a key of one's own."""
    body = b'{"event":"release","n":6,"t":"2026-11-21T19:00:00.000000Z"}'
    mac = hmac.digest(bytes(32), b"line" + bytes(32) + body, "sha256")
    return [*lines[:6], body + b"\t" + base64.b64encode(mac) + b"\n", *lines[6:]]


def garbled(lines: list[bytes]) -> list[bytes]:
    lines[6] = b"\0" * 70_000 + b"\n"
    return lines


def far_number(lines: list[bytes]) -> list[bytes]:
    """Give a line a number whose key would take years to compute."""
    lines[6] = lines[6].replace(b'"n":6', b'"n":99999999999999')
    return lines


ATTACKS: dict[str, tuple[Callable[[list[bytes]], list[bytes]], list[tuple[Wrong, int]]]] = {
    "edit": (edited, [(Wrong.EDITED, 7)]),
    "edit of two": (lambda lines: [one.replace(b'"5e5e', b'"5e5f') for one in lines[:3]] + lines[3:],
                    [(Wrong.EDITED, 2), (Wrong.EDITED, 3)]),
    "delete": (lambda lines: lines[:6] + lines[7:], [(Wrong.DELETED, 7)]),
    "delete many": (lambda lines: lines[:6] + lines[10:], [(Wrong.DELETED, 7)]),
    "delete the first": (lambda lines: lines[1:], [(Wrong.DELETED, 1)]),
    "swap": (swapped, [(Wrong.SWAPPED, 7)]),
    "far swap": (far_swapped, [(Wrong.SWAPPED, 4), (Wrong.SWAPPED, 16)]),
    "insert": (forged, [(Wrong.INSERTED, 7)]),
    "repeat": (lambda lines: [*lines[:6], lines[2], *lines[6:]], [(Wrong.INSERTED, 7)]),
    "replace": (garbled, [(Wrong.EDITED, 7)]),
    "far number": (far_number, [(Wrong.EDITED, 7)]),
    "empty line": (lambda lines: [*lines[:6], b"\n", *lines[6:]], [(Wrong.INSERTED, 7)]),
    "last edited": (lambda lines: [*lines[:19], lines[19].replace(b'"P6"', b'"P5"')], [(Wrong.EDITED, 20)]),
    "torn": (lambda lines: [*lines[:19], lines[19][:40]], [(Wrong.TORN, 20)]),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(box: Box, name: str) -> None:
    """The chain shows what was done and at which line; the checkpoint alone shows that something was."""
    attack, expected = ATTACKS[name]
    box.put(attack(box.lines.copy()))
    assert found(box.verify(checkpoints=False)) == expected
    early = min(line for _, line in expected) <= 12
    assert (Wrong.ROLLED_BACK in {wrong for wrong, _ in found(box.verify(key=False))}) == early
    with_all = found(box.verify())
    assert set(expected) <= set(with_all)
    assert {wrong for wrong, _ in with_all} - {wrong for wrong, _ in expected} <= {Wrong.ROLLED_BACK}


def test_edit_without_key(box: Box) -> None:
    """Without the first key an edit behind the last checkpoint is not seen: the documentation says so."""
    box.put([*box.lines[:15], box.lines[15].replace(b'"P2"', b'"P3"'), *box.lines[16:]])
    assert found(box.verify(key=False)) == []
    assert found(box.verify()) == [(Wrong.EDITED, 16)]


def test_wrong_first_key(box: Box) -> None:
    """Nothing fits under another first key; without a length of 32 it is none."""
    verdict = verify(box.path, bytes(32))
    assert verdict.proven == 0
    assert {wrong for wrong, _ in found(verdict)} == {Wrong.EDITED}
    with pytest.raises(VaultError):
        verify(box.path, bytes(31))


def test_truncation(box: Box) -> None:
    """A log cut at a line is whole in itself; a checkpoint shows it, and so does the next line of the box."""
    box.put(box.lines[:9])
    assert found(box.verify(checkpoints=False)) == []
    assert found(box.verify()) == [(Wrong.TRUNCATED, 10)]
    with pytest.raises(VaultError, match="does not end as its state says"):
        box.log.append("start")
    assert box.path.read_bytes() == b"".join(box.lines[:9])


def test_rollback(box: Box) -> None:
    """Log and state set back together, written on by the box itself: only a checkpoint kept elsewhere shows it."""
    checkpoint = box.log.checkpoint()
    box.path.write_bytes(box.old_log)
    (box.folder / "audit.state").write_bytes(box.old_state)
    assert found(verify(box.path, box.first_key, [checkpoint], box.public_key)) == [(Wrong.TRUNCATED, 14)]
    box.log = AuditLog(box.folder)
    box.write(15)
    assert found(box.verify()) == []
    assert found(verify(box.path, box.first_key, [checkpoint], box.public_key)) == [(Wrong.ROLLED_BACK, 20)]


def test_rollback_with_the_stolen_key(box: Box) -> None:
    """Whoever has the current key can write on, but not where the log stood before."""
    state = (box.folder / "audit.state").read_bytes()
    newest = max((state[:4096], state[4096:]), key=lambda slot: json.loads(slot[36:].rstrip(b"\0"))["serial"])
    stolen = base64.b64decode(json.loads(newest[36:].rstrip(b"\0"))["k"])
    lines = box.lines[:14]
    before = base64.b64decode(lines[-1].split(b"\t")[1])
    for number, key in zip(range(14, 25), keys(stolen), strict=False):
        body = json.dumps({"event": "start", "n": number, "t": "2026-11-21T19:00:00.000000Z"}).replace(" ", "").encode()
        before = hmac.digest(key, b"line" + before + body, "sha256")
        lines.append(body + b"\t" + base64.b64encode(before) + b"\n")
    box.put(lines)
    assert found(box.verify(key=False)) == []
    verdict = box.verify()
    assert found(verdict)[0] == (Wrong.EDITED, 15)
    assert verdict.proven == 14


def test_replaced_while_open(box: Box) -> None:
    """A log that is exchanged under a running box is refused, not written past."""
    copy = box.folder / "copy"
    copy.write_bytes(box.path.read_bytes())
    copy.rename(box.path)
    with pytest.raises(VaultError, match="replaced"):
        box.log.append("start")
    box.path.unlink()
    with pytest.raises(VaultError, match="No such file"):
        box.log.append("start")


def test_wrong_checkpoints(box: Box) -> None:
    """Notes that are no checkpoints of this log, or changed ones, are named by their place in the list."""
    _, other = box.folder / "x", AuditLog.create(box.folder / "x", origin=ORIGIN)[0]
    good = box.checkpoints[0]
    bad = ["", "x", good[:-2], good.replace("\n5\n", "\n6\n"), good.replace("\n5\n", "\n05\n"), other.checkpoint()]
    verdict = verify(box.path, box.first_key, [good, *bad], box.public_key)
    assert verdict.problems == tuple(Problem(Wrong.CHECKPOINT, 0, place) for place in range(2, 8))
    assert verdict.covered == 5
    assert "line 0: a checkpoint is not one of this log" in str(verdict.problems[0])
    for key in ("", "x+00000000+AA==", box.public_key.replace("box3", "box4"), box.public_key[:-4]):
        with pytest.raises(VaultError):
            verify(box.path, None, [good], key)
    with pytest.raises(PolicyError):
        verify(box.path, None, [good])


# The state


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Of two lines that the state does not know yet, whole ones are taken up; the rest is cut off and reported."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=Durability.NONE)
    path, state = tmp_path / "log" / "audit.log", tmp_path / "log" / "audit.state"
    log.append("start")
    known, old = path.read_bytes(), state.read_bytes()
    log.append_many([("release", {"patient": PATIENT}), ("release", {"patient": PATIENT})])
    log.close()
    data = path.read_bytes()
    first_end = data.index(b"\n", len(known)) + 1
    for size in range(len(known), len(data) + 1):
        path.write_bytes(data[:size])
        state.write_bytes(old)
        whole = len(data) if size == len(data) else first_end if size >= first_end else len(known)
        with AuditLog(tmp_path / "log", Durability.NONE) as again:
            again.append("start")
        told = [entry.fields for entry in entries(path) if entry.event == "recover"]
        rest = data[whole:size]
        assert told == ([{"sha256": hashlib.sha256(rest).hexdigest(), "size": len(rest)}] if rest else [])
        assert path.read_bytes().startswith(data[:whole])
        verdict = verify(path, first_key)
        assert found(verdict) == []
        assert verdict.lines == data[:whole].count(b"\n") + 1 + bool(rest)


def test_cut_at_every_byte(box: Box) -> None:
    """A log that ends before its state is refused, wherever it was cut."""
    data = b"".join(box.lines)
    for size in range(len(data) - len(box.lines[-1]) - 3, len(data)):
        box.path.write_bytes(data[:size])
        with pytest.raises(VaultError):
            box.log.append("start")
    box.path.write_bytes(data)
    box.log.append("start")
    assert found(box.verify()) == []


def test_garbage_behind_the_log(box: Box) -> None:
    """Whatever else stands behind the last line is cut off and reported, also a line without its end."""
    for rest in (b"\n", b"x" * 200_000, box.lines[-1], b'{"event":"start"}\tAA==\n', forged([])[0]):
        with box.path.open("ab") as file:
            file.write(rest)
        box.log.append("start")
        recovered = [entry.fields for entry in entries(box.path) if entry.event == "recover"][-1]
        assert recovered == {"sha256": hashlib.sha256(rest).hexdigest(), "size": len(rest)}
        assert found(box.verify()) == []


def test_killed_between_cut_and_report(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut is in the state before it is done, so a process that dies then does not hide it."""
    with box.path.open("ab") as file:
        file.write(b"half a line")

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    for name in ("ftruncate", "write"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, dies)
            with pytest.raises(KeyboardInterrupt):
                box.log.append("start")
    box.log.close()
    box.log.append("start")
    assert [(entry.event, entry.fields.get("size")) for entry in entries(box.path)][-2:] == [
        ("recover", 11),
        ("start", None),
    ]
    assert found(box.verify()) == []


def test_foreign_state(box: Box, tmp_path: Path) -> None:
    """The state of another log, of the same size and origin, is refused."""
    other = Box(tmp_path / "other")
    (box.folder / "audit.state").write_bytes((other.folder / "audit.state").read_bytes())
    with pytest.raises(VaultError):
        box.log.append("start")
    assert box.path.read_bytes() == b"".join(box.lines)


def test_slots(box: Box) -> None:
    """Slots may be swapped, and one may be half-written or wiped; the log goes on. With none it does not."""
    state = box.folder / "audit.state"
    data = state.read_bytes()
    newest = 4096 * (json.loads(data[36:4096].rstrip(b"\0"))["n"] != 20)
    half = data[:newest] + data[newest : newest + 50].ljust(4096, b"x") + data[newest + 4096 :]
    wiped = data[:newest] + bytes(4096) + data[newest + 4096 :]
    for changed in (data[4096:] + data[:4096], half, wiped, data[newest : newest + 4096]):
        box.put(box.lines)
        state.write_bytes(changed)
        box.log.append("start")
        assert found(box.verify()) == []
        assert box.path.read_bytes().startswith(b"".join(box.lines))
    for changed in (b"", bytes(8192), b"\xff" * 8192):
        state.write_bytes(changed)
        with pytest.raises(VaultError, match="damaged"):
            box.log.append("start")


def test_slots_with_nonsense(box: Box) -> None:
    """A slot whose digest is right and whose content is not counts as damaged."""
    state = box.folder / "audit.state"
    newest = max((state.read_bytes()[at : at + 4096] for at in (0, 4096)), key=lambda slot: b'"n":20' in slot)
    changes: list[Callable[[dict[str, object]], object]] = [
        lambda one: one.pop("k"),
        lambda one: one.update(k="AA=="),
        lambda one: one.update(k=7),
        lambda one: one.update(n=-1),
        lambda one: one.update(n=True),
        lambda one: one.update(off=1 << 60),
        lambda one: one.update(frontier=[]),
        lambda one: one.update(frontier=None),
        lambda one: one.update(cut=[]),
        lambda one: one.update(cut={"name": NAME}),
        lambda one: one.update(serial="x"),
    ]
    for change in changes:
        state.write_bytes(repacked(newest, change) + bytes(4096))
        with pytest.raises(VaultError, match="damaged"):
            box.log.append("start")
    state.write_bytes(repacked(newest, lambda one: one.update(off=1 << 50)) + bytes(4096))
    with pytest.raises(VaultError):
        box.log.append("start")


# Keys and files


def test_keys_are_gone(tmp_path: Path) -> None:
    """The first key is in no file, and when a line is written the keys before it are not either."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    for number in range(1, 6):
        held = b"".join(path.read_bytes() for path in (tmp_path / "log").iterdir())
        past = [key for key, _ in zip(keys(first_key), range(number), strict=False)]
        assert not [key for key in past if key in held or base64.b64encode(key) in held]
        log.append("start")
    assert first_key not in pickle.dumps(log)


def test_modes(tmp_path: Path) -> None:
    """The folder and all files are the owner's alone; a state open to others is refused."""
    log, _ = AuditLog.create(tmp_path / "a" / "log", origin=ORIGIN)
    assert (tmp_path / "a" / "log").stat().st_mode & 0o777 == 0o700
    names = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "log").iterdir()}
    assert names == dict.fromkeys(("audit.key", "audit.log", "audit.pub", "audit.state"), 0o600)
    for name in ("audit.key", "audit.state"):
        (tmp_path / "a" / "log" / name).chmod(0o640)
        with pytest.raises(PolicyError, match="open to others"):
            AuditLog(tmp_path / "a" / "log").checkpoint()
        (tmp_path / "a" / "log" / name).chmod(0o600)
    assert log.checkpoint()


def test_damaged_keys(box: Box) -> None:
    """A signing key that is not one is refused, and nothing is signed or written."""
    key = box.folder / "audit.key"
    text = key.read_text()
    for changed in ("", "x", text.replace("+", ""), text[:-6], text.replace("box3", "box4"), "\xff" + text):
        key.write_text(changed, encoding="latin-1")
        with pytest.raises(VaultError):
            box.log.checkpoint()
    assert box.path.read_bytes() == b"".join(box.lines)


def test_not_begun_twice(tmp_path: Path) -> None:
    """A log is never begun anew over an old one, nor where there is none opened."""
    with pytest.raises(PolicyError, match="create one"):
        AuditLog(tmp_path)
    for origin in ("", "a b", "a+b", "ä", "a\n", "x" * 129):
        with pytest.raises(PolicyError):
            AuditLog.create(tmp_path / "log", origin=origin)
    assert not (tmp_path / "log").exists()
    AuditLog.create(tmp_path / "log", origin=ORIGIN)
    before = test_faults.files(tmp_path / "log")
    with pytest.raises(PolicyError, match="already"):
        AuditLog.create(tmp_path / "log", origin=ORIGIN)
    assert test_faults.files(tmp_path / "log") == before


@pytest.mark.parametrize("name", ["audit.key", "audit.pub", "audit.state", "audit.log"])
def test_begun_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A log that was not begun to its end is none, leaves no temporary files, and can be begun again."""
    rename = os.rename

    def fails(old: str, new: str) -> None:
        if new.endswith(name):
            raise OSError(28, "No space left on device")
        rename(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fails)
        with pytest.raises(VaultError, match="No space left"):
            AuditLog.create(tmp_path / "log", origin=ORIGIN)
    assert not list((tmp_path / "log").glob(".*"))
    with pytest.raises(PolicyError, match="create one"):
        AuditLog(tmp_path / "log")
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    note = log.checkpoint()
    assert found(verify(tmp_path / "log" / "audit.log", first_key, [note], log.public_key)) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "absent"])
def test_not_a_log(tmp_path: Path, kind: str) -> None:
    """What is no regular file is refused at once, by readers and writers."""
    AuditLog.create(tmp_path / "log", origin=ORIGIN)
    path = tmp_path / "log" / "audit.log"
    path.rename(tmp_path / "moved")
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "moved")
    for use in (lambda: verify(path, None), lambda: list(entries(path))):
        with pytest.raises(VaultError):
            use()
    with pytest.raises((VaultError, PolicyError)):
        AuditLog(tmp_path / "log")


@pytest.mark.parametrize("durability", Durability)
def test_durability(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability) -> None:
    """Lines are forced to the disk with each call, at the end of a batch, or not at all; before a signature always."""
    log, _ = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=durability)
    forced: list[str] = []
    sync = os.fdatasync

    def noted(fd: int) -> None:
        forced.append(Path(f"/proc/self/fd/{fd}").readlink().suffix[1:])
        sync(fd)

    monkeypatch.setattr(os, "fdatasync", noted)
    log.append("start")
    assert forced == (["log", "state"] if durability is Durability.FILE else [])
    forced.clear()
    log.settle()
    assert forced == ([] if durability is Durability.NONE else ["log", "state"])
    forced.clear()
    log.checkpoint()
    assert forced[:2] == ["log", "state"]


# Many writers, killed ones, full disks

WRITERS = """
import os, random, signal, sys, time
from dicomshield.storage import Durability
from dicomshield.vault.audit import AuditLog
folder, seed = sys.argv[1], int(sys.argv[2])
pause = random.Random(seed)
log = AuditLog(folder, Durability.NONE)
log.append("start")
writers = []
for number in range(20):
    pid = os.fork()
    if not pid:
        acknowledged = os.open(f"{folder}/../acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        count = 0
        while True:
            count += 1
            if count % 3:
                done = [log.append("release", patient=f"W{seed}-{number}", number=count)]
            else:
                done = log.append_many([("release", {"patient": f"W{seed}-{number}", "number": count})] * 5)
            os.write(acknowledged, b"".join(b"%d W%d-%d %d\\n" % (at, seed, number, count) for at in done))
    writers.append(pid)
pause.shuffle(writers)
for pid in writers:
    time.sleep(pause.uniform(0, 0.03))
    os.kill(pid, signal.SIGKILL)
for pid in writers:
    os.waitpid(pid, 0)
"""
CROWD = """
import sys, threading
from dicomshield.storage import Durability
from dicomshield.vault.audit import AuditLog
log = AuditLog(sys.argv[1], Durability.NONE)
def write(thread):
    for number in range(100):
        log.append("release", patient=f"C{sys.argv[2]}-{thread}", number=number)
threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
for one in threads:
    one.start()
for one in threads:
    one.join()
"""


def test_killed_writers(tmp_path: Path) -> None:
    """20 writers are killed at any moment in 10 rounds: no acknowledged line is lost, and the chain is whole."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=Durability.NONE)
    path, notes = tmp_path / "log" / "audit.log", []
    for seed in range(10):
        done = subprocess.run([sys.executable, "-c", WRITERS, tmp_path / "log", str(seed)], check=False)
        assert done.returncode == 0
        notes.append(log.checkpoint())
    verdict = verify(path, first_key, notes, log.public_key)
    assert found(verdict) == []
    written = {entry.number: (entry.fields.get("patient"), entry.fields.get("number")) for entry in entries(path)}
    acknowledged = (tmp_path / "acknowledged").read_text().splitlines()
    assert len(acknowledged) > 1000
    for line in acknowledged:
        at, writer, count = line.split()
        assert written[int(at)] == (writer, int(count))
    assert len({line.split()[1] for line in acknowledged}) > 100


def test_threads_and_processes(tmp_path: Path) -> None:
    """Threads of several processes write at once; each line is there once."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=Durability.NONE)
    command = [sys.executable, "-c", CROWD, str(tmp_path / "log")]
    writers = [subprocess.Popen([*command, str(number)]) for number in range(3)]
    threads = [threading.Thread(target=lambda: [log.append("start") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    verdict = verify(tmp_path / "log" / "audit.log", first_key)
    assert found(verdict) == []
    assert verdict.events == {"start": 401, "release": 1200}
    lines = [
        (one.fields["patient"], one.fields["number"])
        for one in entries(log.folder + "/audit.log")
        if one.event == "release"
    ]
    assert len(set(lines)) == 1200


def test_forked_while_open(tmp_path: Path) -> None:
    """Children made by fork do not share their parent's lock, also if a thread held it just then."""
    script = (
        "import os, sys, threading\n"
        "from dicomshield.storage import Durability\n"
        "from dicomshield.vault.audit import AuditLog\n"
        "log = AuditLog(sys.argv[1], Durability.NONE)\n"
        "def write():\n"
        "    for _ in range(200): log.append('start')\n"
        "thread = threading.Thread(target=write)\n"
        "thread.start()\n"
        "children = []\n"
        "for _ in range(8):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        for _ in range(50): log.append('unseal')\n"
        "        os._exit(0)\n"
        "    children.append(pid)\n"
        "thread.join()\n"
        "print([os.waitpid(pid, 0)[1] for pid in children] == [0] * 8)\n"
    )
    _, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout == "True\n"
    verdict = verify(tmp_path / "log" / "audit.log", first_key)
    assert found(verdict) == []
    assert verdict.events == {"start": 201, "unseal": 400}


def test_no_thread_is_in_the_log_when_a_process_forks(tmp_path: Path) -> None:
    """A child would inherit the locks that OpenSSL held there for a MAC, and hang on them with the log locked."""
    script = (
        "import os, sys, threading, time\n"
        "from dicomshield.storage import Durability\n"
        "from dicomshield.vault import audit\n"
        "log, inside, mac_of = audit.AuditLog(sys.argv[1], Durability.NONE), [], audit.mac_of\n"
        "def slowly(*args):\n"
        "    inside.append(1)\n"
        "    time.sleep(0.01)\n"
        "    inside.pop()\n"
        "    return mac_of(*args)\n"
        "audit.mac_of = slowly\n"
        "def write():\n"
        "    while not over: log.append('start'); time.sleep(0.001)\n"
        "over = []\n"
        "thread = threading.Thread(target=write)\n"
        "thread.start()\n"
        "statuses = []\n"
        "for _ in range(10):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        found = len(inside)\n"
        "        log.append('unseal')\n"
        "        os._exit(found)\n"
        "    statuses.append(os.waitpid(pid, 0)[1])\n"
        "over.append(1)\n"
        "thread.join()\n"
        "print(statuses == [0] * 10)\n"
    )
    _, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout == "True\n"
    assert verify(tmp_path / "log" / "audit.log", first_key).events["unseal"] == 10


def test_forked_while_a_crosswalk_writes_to_the_log(tmp_path: Path) -> None:
    """A thread holds the crosswalk and waits for the log; who forks takes both in the same order, and so waits too."""
    script = (
        "import os, sys, threading, time\n"
        "from dicomshield.vault.crosswalk import Crosswalk\n"
        "from dicomshield.vault.audit import AuditLog\n"
        "from dicomshield.vault.keys import DataKey\n"
        "from dicomshield.storage import Durability\n"
        "log, over, folder = AuditLog(sys.argv[1] + '/log', Durability.NONE), [], sys.argv[1]\n"
        "key = DataKey(bytes(16), bytes(32), 'P1')\n"
        "def note(lookup): time.sleep(0.002); log.append('lookup', found=lookup.rows)\n"
        "crosswalk = Crosswalk(folder + '/x', index_key=bytes(32), durable=False, on_lookup=note)\n"
        "crosswalk.add('patient', 'M1', '', 'P1', key)\n"
        "def export():\n"
        "    while not over: crosswalk.export_csv(f'{folder}/{time.time_ns()}', lambda kid, patient: key)\n"
        "thread = threading.Thread(target=export)\n"
        "thread.start()\n"
        "for _ in range(20):\n"
        "    pid = os.fork()\n"
        "    if not pid: os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "over.append(1)\n"
        "thread.join()\n"
        "print('done')\n"
    )
    AuditLog.create(tmp_path / "log", origin=ORIGIN)
    command = [sys.executable, "-c", script, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, timeout=300, check=False).stdout == "done\n"


def test_pickled(tmp_path: Path) -> None:
    """A log goes to a worker process as its folder, without keys."""
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    pickle.loads(pickle.dumps(log)).append("start")  # noqa: S301 - our own
    log.append("start")
    assert verify(tmp_path / "log" / "audit.log", first_key).lines == 3


def test_full_disk(small: Path) -> None:
    """On a full disk a call is refused and leaves no part of a line; with space the log goes on."""
    log, first_key = AuditLog.create(small / "log", origin=ORIGIN)
    path = small / "log" / "audit.log"
    many: list[tuple[str, dict[str, Value]]] = [("release", {"patient": PATIENT, "sha256": DIGEST})] * 100
    test_faults.fill(small)
    refused = None
    while refused is None:
        full = path.read_bytes()
        try:
            log.append("start")
        except VaultError as error:
            refused = str(error)
    assert "No space left on device" in refused
    assert path.read_bytes() == full
    written = full.count(b"\n")
    with pytest.raises(VaultError, match="No space left on device"):
        log.append_many(many)
    assert path.read_bytes() == full
    with pytest.raises(VaultError, match="No space left on device"):
        AuditLog.create(small / "other", origin=ORIGIN)
    assert not list(small.glob("other/*"))
    with (small / "filler").open("r+b") as file:
        file.truncate((small / "filler").stat().st_size - 8192)
    with pytest.raises(VaultError, match="No space left on device"):
        log.append_many(many)
    assert path.read_bytes() == full
    assert found(verify(path, first_key)) == []
    (small / "filler").unlink()
    log.append_many(many)
    AuditLog.create(small / "other", origin=ORIGIN)
    verdict = verify(path, first_key)
    assert found(verdict) == []
    assert verdict.lines == written + 100
    assert "recover" not in verdict.events


# No values


def test_closed_list(tmp_path: Path) -> None:
    """Unknown events, fields and forms are refused, and nothing is written; messages repeat no value."""
    log, _ = AuditLog.create(tmp_path / "log", origin=ORIGIN)
    before = (tmp_path / "log" / "audit.log").read_bytes()
    wrong: list[tuple[str, dict[str, object]]] = [
        ("recover", {}), ("relase", {}), ("release", {"PatientName": NAME}), ("release", {"action": "new"}),
        ("release", {"n": 1}), ("release", {"t": "x"}), ("release", {"event": "x"}), ("release", {"study": NAME}),
        ("release", {"sha256": DIGEST.upper()}), ("release", {"instance": [UID, NAME]}), ("release", {"count": True}),
        ("release", {"count": -1}), ("release", {"count": 1 << 53}), ("release", {"count": "1"}),
        ("release", {"patient": "a\\b"}), ("release", {"patient": "a\nb"}), ("release", {"patient": "Zoë"}),
        ("release", {"patient": "x" * 65}), ("release", {"patient": 7}), ("release", {"patient": None}),
        ("release", {"reason": "he fell"}), ("release", {"study": UID + "." + "1" * 30}), ("key", {}),
        ("key", {"action": "lose"}), ("key", {"action": ["new"]}), ("crosswalk", {"action": "new"}),
        ("release", {"study": UID + "\n"}), ("start", {"origin": ORIGIN}), ("start", {"version": "74839201"}),
        ("quarantine", {"reason": "QUASTELBERRY"}),
    ]  # fmt: skip
    for event, fields in wrong:
        with pytest.raises(PolicyError) as refused:
            log.append_many([("start", {}), (event, fields)])  # type: ignore[list-item]
        assert not [token for token in TOKENS if token in str(refused.value).lower()]
        assert NAME not in str(refused.value)
    with pytest.raises(PolicyError, match="64 KiB"):
        log.append("release", instance=[UID] * 2000)
    assert (tmp_path / "log" / "audit.log").read_bytes() == before
    with pytest.raises(PolicyError, match="did you mean release"):
        log.append("relase")


VALUES = st.one_of(
    st.text(), st.sampled_from([NAME, UID, DIGEST, KID, *TOKENS]), st.integers(), st.none(), st.booleans()
)
FIELDS = st.dictionaries(
    st.one_of(st.sampled_from(sorted(audit_lines.FORMS)), st.text()),
    st.one_of(VALUES, st.lists(VALUES, max_size=3)),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["release", "lookup", "key", "start", "recover", "x"]), FIELDS)
def test_lines_hold_only_what_is_allowed(tmp_path: Path, event: str, fields: dict[str, object]) -> None:
    """A line holds its event, number, time and the fields given; anything outside the list leaves no byte."""
    folder = tmp_path / "log"
    if not folder.exists():
        AuditLog.create(folder, origin=ORIGIN, durability=Durability.NONE)
    before = (folder / "audit.log").read_bytes()
    said = ""
    try:
        AuditLog(folder, Durability.NONE).append_many([(event, fields)])  # type: ignore[list-item]
    except PolicyError as refused:
        said = str(refused)
    if said:
        assert (folder / "audit.log").read_bytes() == before
        assert not [text for text in fields.values() if isinstance(text, str) and len(text) > 8 and text in said]
        return
    line = (folder / "audit.log").read_bytes()[len(before) :]
    assert line.isascii()
    assert line.count(b"\n") == 1
    entry = json.loads(line.split(b"\t")[0])
    assert {**fields, "event": event, "n": entry["n"], "t": entry["t"]} == entry
    assert set(fields) <= set(audit_lines.FORMS)
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            # a pseudonym may be any word of a curated list, and no number shows where it comes from
            if isinstance(one, str) and name != "patient":
                assert not [token for token in TOKENS if token in one.lower()]


# Anything at all


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["one", "some", "sign", "open", "settle"]), max_size=25), st.data())
def test_any_history(tmp_path: Path, steps: list[str], data: st.DataObject) -> None:
    """Whatever is done, the log verifies; and any one byte changed, lost or added under the last checkpoint shows."""
    shutil.rmtree(tmp_path / "log", ignore_errors=True)
    log, first_key = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=Durability.BATCH)
    path, notes = tmp_path / "log" / "audit.log", []
    for step in steps:
        if step == "one":
            log.append(*["start"])
        elif step == "some":
            log.append_many(SAMPLES[1:4])
        elif step == "sign":
            notes.append(log.checkpoint())
        elif step == "settle":
            log.settle()
        else:
            log = AuditLog(tmp_path / "log", Durability.BATCH)
    notes.append(log.checkpoint())
    verdict = verify(path, first_key, notes, log.public_key)
    assert found(verdict) == []
    whole = path.read_bytes()
    assert verdict.root == base64.b64encode(root_of(whole.splitlines())).decode()
    at, new = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.binary(max_size=2))
    changed = whole[:at] + new + whole[at + 1 :]
    path.write_bytes(changed)
    assert verify(path, first_key, notes, log.public_key).ok == (changed == whole)
    covered = sum(map(len, whole.splitlines(keepends=True)[: verdict.covered]))
    assert verify(path, None, notes, log.public_key).ok == (changed[:covered] == whole[:covered]) or at >= covered


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Change, drop, repeat or exchange parts of something."""
    for _ in range(chance.randint(1, 4)):
        at, size = chance.randrange(len(data) + 1), chance.choice((1, 1, 2, 9, 60, 400))
        piece = chance.choice((
            chance.randbytes(size), b"", data[at : at + size] * 2, data[:size], b"\n", b"\t", b"[" * size * 20,
            b'"n":', b"9" * size, b'{"event":"start"}', b"\xff", b"\0" * size, b"+", b"\xe2\x80\x94 ",
        ))  # fmt: skip
        data = data[:at] + piece + data[at + chance.choice((0, size)) :]
    return data


def attack_at_random(box: Box, seed: int) -> None:
    """Change one of the files or texts; nothing but VaultError may come of it."""
    chance = random.Random(seed)  # noqa: S311
    what = seed % 5
    if what == 0:
        box.path.write_bytes(mutated(b"".join(box.lines), chance))
        verdict = box.verify()
        assert verdict.lines >= 0
        with contextlib.suppress(VaultError):
            assert all(message for form in Form for message in export(box.path, form))
    elif what == 1:
        note = mutated(box.checkpoints[1].encode(), chance).decode("utf-8", "replace")
        verify(box.path, None, [note], box.public_key)
    elif what == 2:
        key = mutated(box.public_key.encode(), chance).decode("utf-8", "replace")
        with contextlib.suppress(VaultError):
            verify(box.path, None, box.checkpoints, key)
    else:
        state = (box.folder / "audit.state").read_bytes()
        at = 4096 * chance.randrange(2)
        slot = state[at : at + 4096]
        if what == 3:
            changed = mutated(slot, chance)
        else:
            inner = mutated(slot[36 : 36 + int.from_bytes(slot[32:36], "big")], chance)
            changed = (hashlib.sha256(inner).digest() + len(inner).to_bytes(4, "big") + inner).ljust(4096, b"\0")
        (box.folder / "audit.state").write_bytes(changed if chance.random() < 0.5 else changed[:4096] + slot)
        with contextlib.suppress(VaultError):
            AuditLog(box.folder, Durability.NONE).append("start")
        (box.folder / "audit.state").write_bytes(state)
    box.put(box.lines)


def test_random_attacks(box: Box) -> None:
    """Mutated logs, checkpoints, keys and states raise nothing but VaultError."""
    for seed in range(600):
        attack_at_random(box, seed)
    assert found(box.verify()) == []


def test_hostile_lines(tmp_path: Path) -> None:
    """Long, deep and huge lines take bounded time and memory, and are named."""
    path = tmp_path / "audit.log"
    hostile = [
        b"[" * 60_000, b'{"n":' + b"9" * 60_000 + b"}", b'{"n":0}\t' + b"A" * 43 + b"=", b"\t", b"", b"x" * 3_000_000,
        b'{"event":"start","n":0,"t":"2026-11-21T19:00:00.000000Z","t":1}\t',
        b'{"n":0,"event":[],"t":{}}\tx', b"null\t",
    ]  # fmt: skip
    for line in hostile:
        path.write_bytes(line + b"\n")
        assert found(verify(path, bytes(32))) == [(Wrong.EDITED if b'"n":0}' in line else Wrong.INSERTED, 1)]
        with pytest.raises(VaultError, match="line 1"):
            list(entries(path))
    path.write_bytes(b"x\n" * 50_000)
    verdict = verify(path, bytes(32))
    assert (verdict.lines, len(verdict.problems)) == (50_000, 100)
    path.write_bytes(b"x" * 3_000_000)
    assert verify(path, bytes(32)).problems == (Problem(Wrong.TORN, 1, 3_000_000),)


# Exports


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Return a log with a line of each kind."""
    log, _ = AuditLog.create(tmp_path / "log", origin=ORIGIN, durability=Durability.NONE)
    log.append_many(SAMPLES)
    log.checkpoint()
    with (tmp_path / "log" / "audit.log").open("ab") as file:
        file.write(b"half")
    log.append("start")
    return tmp_path / "log" / "audit.log"


def test_dicom_messages(exported: Path) -> None:
    """Every line becomes a message that the schema of PS3.15 A.5.1 accepts."""
    etree = pytest.importorskip("lxml.etree")
    schema = etree.RelaxNG(etree.parse(ROOT / "tests" / "audit_message.rng"))
    messages = [etree.fromstring(text) for text in export(exported, Form.DICOM)]
    for message in messages:
        assert schema.validate(message), schema.error_log
    lines = list(entries(exported))
    assert len(messages) == len(lines)
    codes = {}
    for message, line in zip(messages, lines, strict=True):
        codes[line.event] = message.find("EventIdentification/EventID").get("csd-code")
        requestors = [one.get("UserIsRequestor") for one in message.iter("ActiveParticipant")]
        assert requestors.count("true") == 1
        assert message.find("AuditSourceIdentification").get("AuditSourceID") == ORIGIN
        assert message.find("EventIdentification").get("EventDateTime") == line.time
    assert codes == {
        "start": "110100", "checkpoint": "110101", "seal": "110103", "unseal": "110103", "reidentify": "110103",
        "release": "110106", "quarantine": "110106", "lookup": "110112", "key": "110113", "crosswalk": "110113",
        "recover": "110113",
    }  # fmt: skip
    release, sealed = (
        one for one, line in zip(messages, lines, strict=True) if line.event == "release" and "instance" in line.fields
    )
    roles = [one.get("csd-code") for one in release.iterfind("ActiveParticipant/RoleIDCode")]
    assert roles == ["110153", "110154"]
    studies, patient = release.findall("ParticipantObjectIdentification")
    assert (studies.get("ParticipantObjectID"), patient.get("ParticipantObjectID")) == (UID, PATIENT)
    for message, encrypted in ((release, "false"), (sealed, "true")):
        assert message.findtext(".//Encrypted") == encrypted
        assert message.findtext(".//Anonymized") == "true"
    assert [one.get("UID") for one in sealed.iter("Instance")] == list(SAMPLES[2][1]["instance"])  # type: ignore[arg-type]
    quoted = messages[len(SAMPLES)].findall("ParticipantObjectIdentification")[1]
    assert quoted.get("ParticipantObjectID") == quoted.findtext("ParticipantObjectName") == 'A<&>"B'
    for element, attribute in (("EventIdentification", "EventDateTime"), ("ActiveParticipant", "UserIsRequestor")):
        broken = etree.fromstring(next(export(exported, Form.DICOM)))
        broken.find(element).set(attribute, "x")
        assert not schema.validate(broken)


def test_reidentified_is_not_anonymized(exported: Path) -> None:
    """After re-identification nothing claims to be anonymous, and a failed release is none."""
    messages = dict(zip([line.event for line in entries(exported)], export(exported, Form.DICOM), strict=True))
    assert "<Anonymized>false</Anonymized>" in messages["reidentify"]
    assert 'EventOutcomeIndicator="8"' in messages["quarantine"]
    assert "<EventOutcomeDescription>RESIDUAL</EventOutcomeDescription>" in messages["quarantine"]
    assert 'EventOutcomeIndicator="4"' in messages["recover"]


def test_fhir_events(exported: Path) -> None:
    """Every line becomes an AuditEvent that the model of FHIR R4B accepts."""
    model = pytest.importorskip("fhir.resources.R4B.auditevent").AuditEvent
    lines = list(entries(exported))
    for text, line in zip(export(exported, Form.FHIR), lines, strict=True):
        event = json.loads(text)
        model.model_validate(event)
        assert event["recorded"] == line.time
        assert sum(agent["requestor"] for agent in event["agent"]) == 1
        assert event["source"]["observer"]["identifier"]["value"] == ORIGIN
        for entity in event.get("entity", ()):
            assert not {"name", "query"} <= entity.keys()
        details = [one for entity in event.get("entity", ()) for one in entity.get("detail", ())]
        if details:
            assert {"type": "line", "valueString": str(line.number)} in details
    assert {event for event, _ in SAMPLES} | {"recover"} == {line.event for line in lines}


def test_half_a_line_is_not_exported(box: Box) -> None:
    """What was not written to its end was not acknowledged, and is left out."""
    box.put([*box.lines[:3], box.lines[3][:50]])
    assert len(list(export(box.path, Form.FHIR))) == 3

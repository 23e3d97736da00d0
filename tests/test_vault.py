"""Sealed output of the main job: nothing readable on the disk, and back again with a key."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from factories import TOKENS, ct, encoded, written
from test_faults import files
from test_pixels import frames_file, plain

from dicomshield import Deidentifier, Profile, Region, VaultError
from dicomshield.bulk.folder import Run
from dicomshield.vault.container import SealedHeader, open_sealed
from dicomshield.vault.keybox import KeyBoxes
from dicomshield.vault.recipients import identity_from, new_key_file, recipient_from
from dicomshield.vault.sealed_storage import SealedStorage
from dicomshield.vault.unsealing import Unsealer

CLI = (sys.executable, "-W", "error", "-m", "dicomshield")


def cli(*args: object, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *map(str, args)], input=said, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """Return a folder with inputs and a key file."""
    written(tmp_path / "in", *(ct(number, rows=64, columns=64) for number in range(2, 14)))
    (tmp_path / "in" / "cine").write_bytes(frames_file(plain(40)))
    new_key_file(tmp_path / "k")
    return tmp_path


def sealing(folder: Path, *more: object) -> tuple[object, ...]:
    return (
        "deidentify", folder / "in", folder / "sealed", "--project", folder / "project", "--keys", folder / "keys",
        "--seal", folder / "k", "--mask", "0,0,8,2", *more,
    )  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_sealed_comes_out_as_it_would_have_been_written(box: Path, workers: int) -> None:
    """Header, masked pixels and offset tables: the same bytes as without sealing."""
    done = cli(*sealing(box, "--workers", workers, "--report", box / "report"))
    assert done.returncode == 0, done.stderr
    assert f"sealed, keys in {box / 'keys'}" in done.stdout
    reported = [json.loads(line)["output"] for line in (box / "report").read_text().splitlines()]
    assert sorted(reported) == sorted(files(box / "sealed"))
    args = ("deidentify", box / "in", box / "plain", "--project", box / "project", "--mask", "0,0,8,2")
    assert cli(*args).returncode == 0
    opened = cli("unseal", box / "sealed", box / "opened", "--with", box / "k", "--keys", box / "keys")
    assert opened.returncode == 0, opened.stderr
    assert files(box / "opened") == files(box / "plain")
    assert len(files(box / "plain")) == 13
    assert cli(*sealing(box)).stdout.startswith("0 released, 13 released before")


def test_a_copied_export_box_shows_nothing(box: Path) -> None:
    """Sealed objects and key boxes hold no name, number or date of a patient, nor anything a viewer could read."""
    assert cli(*sealing(box)).returncode == 0
    everything = files(box / "sealed") | files(box / "keys")
    assert len(everything) >= 14
    for name, data in everything.items():
        assert not any(token in name.lower() or token.encode() in data.lower() for token in TOKENS)
        assert b"DICM" not in data
    for path in [*(box / "sealed").rglob("*"), *(box / "keys").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0 or (path.is_dir() and "keys" not in path.parts)


def test_another_object_under_the_same_name_is_held_back(box: Path) -> None:
    """Two objects with one SOP Instance UID are told apart while the keys of the session are there."""
    (box / "in" / "zz").write_bytes(encoded(ct(2, rows=64, columns=64)))
    (box / "in" / "zzz").write_bytes(encoded(ct(2, rows=64, columns=64, SliceThickness="9")))
    (box / "in" / "zzzz").write_bytes((box / "in" / "cine").read_bytes())
    (box / "in" / "zzzzz").write_bytes(frames_file(plain(41)))
    done = cli(*sealing(box, "--workers", "1"))
    assert "13 released, 2 released before, 2 held back" in done.stdout
    assert "COLLISION" in done.stdout


def test_pydicom_reads_a_sealed_object(box: Path) -> None:
    """It is a file of which any part can be read, by whoever has the identity and nobody else."""
    assert cli(*sealing(box)).returncode == 0
    unsealer = Unsealer(KeyBoxes(box / "keys"), [identity_from(str(box / "k"))])
    paths = list((box / "sealed").rglob("*.dcms"))
    for path in paths:
        with open_sealed(path, unsealer.key, path.stem) as file:
            assert pydicom.dcmread(file, stop_before_pixels=True).PatientIdentityRemoved == "YES"
    new_key_file(box / "other")
    stranger = Unsealer(KeyBoxes(box / "keys"), [identity_from(str(box / "other"))])
    with pytest.raises(VaultError):
        open_sealed(paths[0], stranger.key)
    (box / "sealed" / "renamed.dcms").write_bytes(paths[0].read_bytes())
    done = cli("unseal", box / "sealed" / "renamed.dcms", box / "x", "--with", box / "k", "--keys", box / "keys")
    assert done.returncode == 4
    assert not (box / "x").exists()


def test_a_writer_that_is_started_again_reads_nothing(box: Path) -> None:
    """It holds public keys and keys in memory; what it pickles for its workers holds neither secret."""
    import pickle

    storage = SealedStorage(box / "out", KeyBoxes(box / "keys"), [recipient_from(str(box / "k"))])
    deidentifier = Deidentifier(Profile(regions=(Region(0, 0, 2, 8),)), project=box / "project")
    with Run(deidentifier, box / "in", box / "out", storage=storage) as run:
        assert {done.report.outcome for done in run} == {"released"}
        session = storage._session
        assert session is not None
        secrets = [key.secret for key in session._keys.values()]
        assert secrets
        assert not any(secret in pickle.dumps(storage) for secret in secrets)
    again = SealedStorage(box / "out", KeyBoxes(box / "keys"), [recipient_from(str(box / "k"))])
    kids = {key.kid for key in KeyBoxes(box / "keys").list()}
    assert again._session is None
    assert kids


def test_keys_of_others_and_of_nobody(box: Path) -> None:
    """A new recipient opens what is there, a rotated one does not any more, and a shredded patient opens for none."""
    assert cli(*sealing(box)).returncode == 0
    assert cli("keys", "new", "--file", box / "k2").returncode == 0
    assert (box / "k2").stat().st_mode & 0o777 == 0o600
    before = files(box / "sealed")
    boxes = ("--keys", box / "keys")
    assert cli("keys", "add", *boxes, "--with", box / "k", "--to", box / "k2").returncode == 0
    unseal = ("unseal", box / "sealed")
    assert cli(*unseal, box / "a", "--with", box / "k2", *boxes).returncode == 0
    assert cli("keys", "rotate", *boxes, "--with", box / "k", "--to", box / "k2").returncode == 0
    assert cli(*unseal, box / "b", "--with", box / "k", *boxes).returncode == 4
    assert cli(*unseal, box / "c", "--with", box / "k2", *boxes).returncode == 0
    assert files(box / "c") == files(box / "a")
    assert files(box / "sealed") == before
    listed = cli("keys", "list", *boxes).stdout.splitlines()
    patient = listed[0].split()[0]
    assert cli("keys", "shred", *boxes, patient, said="n\n").returncode != 0
    assert cli("keys", "shred", *boxes, patient, said="y\n").returncode == 0
    assert cli(*unseal, box / "d", "--with", box / "k2", *boxes).returncode == 4
    assert not [path for path in (box / "d").rglob("*") if path.is_file()]


def test_one_patient_is_shredded_and_others_open(tmp_path: Path) -> None:
    """Keys belong to patients, so that one can be forgotten."""
    written(tmp_path / "in", ct(1), ct(2, PatientID="OTHER77"))
    new_key_file(tmp_path / "k")
    assert cli(*sealing(tmp_path)).returncode == 0
    boxes = KeyBoxes(tmp_path / "keys")
    gone, kept = sorted({one.patient for one in boxes.list()})
    assert boxes.shred(gone) == 1
    unsealer = Unsealer(boxes, [identity_from(str(tmp_path / "k"))])
    for path in (tmp_path / "sealed").rglob("*.dcms"):
        if path.parts[-4] == gone:
            with pytest.raises(VaultError):
                open_sealed(path, unsealer.key)
        else:
            assert path.parts[-4] == kept
            with open_sealed(path, unsealer.key) as file:
                assert pydicom.dcmread(file).PatientID == kept


@pytest.mark.parametrize(
    "change",
    [
        ("--seal", "k"),
        ("--keys", "keys"),
        ("--seal", "nowhere", "--keys", "keys"),
        ("--seal", "k", "--keys", "sealed/k"),
    ],
)
def test_half_a_request_is_refused(box: Path, change: tuple[str, ...]) -> None:
    """Nothing is written in the clear because an option was forgotten."""
    paths = [str(box / one) if not one.startswith("--") else one for one in change]
    args = ("deidentify", box / "in", box / "sealed", "--project", box / "project", *paths)
    assert cli(*args).returncode == 2
    assert not files(box / "sealed") if (box / "sealed").exists() else True


def test_killed_while_sealing(tmp_path: Path) -> None:
    """A kill -9 at any moment leaves sealed objects that open or none, and never a readable byte."""
    written(tmp_path / "in", *(ct(number, rows=128, columns=128) for number in range(1, 301)))
    new_key_file(tmp_path / "k")
    moments = random.Random(3)  # noqa: S311
    counts = []
    for _ in range(4):
        command = [*CLI, *map(str, sealing(tmp_path, "--workers", "2"))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            enough = sum(1 for _ in (tmp_path / "sealed").rglob("*.dcms")) + moments.randrange(1, 40)
            while process.poll() is None and sum(1 for _ in (tmp_path / "sealed").rglob("*.dcms")) < enough:
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        unsealer = Unsealer(KeyBoxes(tmp_path / "keys"), [identity_from(str(tmp_path / "k"))])
        # workers end with their parent, within a second
        time.sleep(1.5)
        found = files(tmp_path / "sealed")
        counts.append(len(found))
        for name, data in found.items():
            assert name.endswith(".dcms")
            assert not any(token.encode() in data.lower() for token in TOKENS)
            with open_sealed(BytesIO(data), unsealer.key, Path(name).stem) as file:
                assert pydicom.dcmread(file).PatientIdentityRemoved == "YES"
    assert 0 < counts[0] < 300
    assert cli(*sealing(tmp_path)).returncode == 0
    assert len(files(tmp_path / "sealed")) == 300


def test_no_key_for_a_foreign_object(tmp_path: Path) -> None:
    """The message tells what may have happened, and not whose object it is."""
    (tmp_path / "keys").mkdir()
    new_key_file(tmp_path / "k")
    unsealer = Unsealer(KeyBoxes(tmp_path / "keys"), [identity_from(str(tmp_path / "k"))])
    with pytest.raises(VaultError, match="shredded"):
        unsealer.key(SealedHeader(bytes(16), "2.25.1"))


def test_sealed_bytes_differ_every_time(box: Path) -> None:
    """Two seals of the same object have nothing in common: keys and salts are random."""
    result = Deidentifier(Profile.basic(), project=box / "project").bytes(encoded(ct()))
    assert result.report.outcome == "released"
    for name in ("one", "two"):
        args = ("deidentify", box / "in", box / name, "--project", box / "project", "--keys", box / f"keys-{name}")
        assert cli(*args, "--seal", box / "k").returncode == 0
    one, two = files(box / "one"), files(box / "two")
    assert one.keys() == two.keys()
    assert all(one[name][-64:] != two[name][-64:] for name in one)

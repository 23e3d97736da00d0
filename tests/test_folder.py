"""The main job over folders, through the real command line and the class behind it."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pydicom
import pytest
from factories import PATIENT_ID, TOKENS, UID_ROOT, ct, encoded, readable, written
from pydicom.fileset import FileSet

from dicomshield import Deidentifier, PolicyError, Quarantined, Reason
from dicomshield.bulk.folder import Done, Run
from dicomshield.storage import Storage

PLACE = re.compile(r"[^/]+/2\.25\.\d+/2\.25\.\d+/2\.25\.\d+\.dcm")
Tree = dict[str, tuple[bytes, int]]


def start(*args: str | Path) -> subprocess.Popen[str]:
    """Start the command line with warnings as errors."""
    # pydicom's FileSet leaves its temporary folder to the end of the process
    strict = ("-W", "error", "-W", "ignore:Implicitly cleaning up:ResourceWarning")
    command = [sys.executable, *strict, "-m", "dicomshield", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cli(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end."""
    with start(*args) as process:
        out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return subprocess.CompletedProcess([], process.returncode, out, err)


def deidentify(folder: Path, *more: str | Path, workers: int = 1) -> subprocess.CompletedProcess[str]:
    """De-identify ``folder/in`` to ``folder/out`` with the project ``folder/project``."""
    args = (folder / "in", folder / "out", "--project", folder / "project", "--workers", str(workers))
    return cli("deidentify", *args, *more)


def tree(folder: Path) -> Tree:
    """Return the content and modification time of all files under a folder, by relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes(), path.stat().st_mtime_ns
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (data, _) in tree(folder).items()}


def private_list(project: Path) -> tuple[Path, list[dict[str, str]]]:
    """Return the newest list of a project and its rows."""
    path = max(project.glob("run-*.csv"), key=lambda one: one.stat().st_mtime_ns)
    text = path.read_text("utf-8")
    return path, list(csv.DictReader(io.StringIO(text.partition("\n")[2])))


def run(folder: Path, workers: int = 1) -> Run:
    return Run(Deidentifier(project=folder / "project"), folder / "in", folder / "out", workers=workers)


def finished(folder: Path) -> list[Done]:
    """Do a run by the class."""
    with run(folder) as all_of_it:
        return list(all_of_it)


def reasons(done: Sequence[Done]) -> dict[str, str]:
    return {Path(path).name: report.reason for path, report, _ in done}


def mount(*args: str | Path) -> None:
    """Mount something, or skip the test and say why."""
    try:
        subprocess.run(["mount", *map(str, args)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here (it takes root): nothing to test on")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Return a folder that even root cannot write to."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    mount("--bind", folder, folder)
    try:
        mount("-o", "remount,ro,bind", folder)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_all_released(tmp_path: Path) -> None:
    """Exit status 0 when everything is released, each as patient/study/series/instance.dcm, without the patient."""
    written(tmp_path / "in", *(ct(number) for number in range(1, 6)))
    done = deidentify(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 released, 0 released before, 0 held back" in done.stdout
    released = contents(tmp_path / "out")
    assert len(released) == 5
    for name, data in released.items():
        assert PLACE.fullmatch(name)
        ds = pydicom.dcmread(io.BytesIO(data))
        assert ds.PatientIdentityRemoved == "YES"
        assert name.split("/") == [
            str(ds.PatientID),
            ds.StudyInstanceUID,
            ds.SeriesInstanceUID,
            f"{ds.SOPInstanceUID}.dcm",
        ]
        assert not [token for token in TOKENS if token.encode() in readable(data)]


def test_some_held_back(tmp_path: Path) -> None:
    """Exit status 3 when something is held back; the rest is released and the reason said."""
    written(tmp_path / "in", ct(1), ct(2, ImageType=["DERIVED", "SECONDARY"]))
    (tmp_path / "in" / "notes.txt").write_text("remember the milk")
    done = deidentify(tmp_path)
    assert done.returncode == 3
    assert "1 released, 0 released before, 2 held back" in done.stdout
    assert "NOT_DICOM: " in done.stdout
    assert "BURNED_IN: " in done.stdout
    assert len(contents(tmp_path / "out")) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        ("--option", "RETAIN_EVERYTHING"),
        ("--policy", "no-such-policy.toml"),
        ("--patients", "no-such-list.csv"),
        ("--only-listed",),
        ("--workers", "0"),
        ("--no-such-option",),
    ],
    ids=lambda wrong: wrong[0],
)
def test_wrong_usage(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    """Exit status 2 for a wrong option, with a message and nothing written to OUT."""
    written(tmp_path / "in", ct(1))
    done = deidentify(tmp_path, *wrong)
    assert done.returncode == 2
    assert re.search("error", done.stderr, re.IGNORECASE)
    assert not (tmp_path / "out").exists()


def test_private_list(tmp_path: Path) -> None:
    """The list in the project folder is private, says that it is PHI, and ties number, source, reason and advice."""
    written(tmp_path / "in", ct(1))
    (tmp_path / "in" / "zzz.txt").write_text("remember the milk")
    done = deidentify(tmp_path)
    path, rows = private_list(tmp_path / "project")
    assert str(path) in done.stdout
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "project").stat().st_mode & 0o777 == 0o700
    assert "PHI" in path.read_text().splitlines()[0]
    (name,) = contents(tmp_path / "out")
    released, held = rows
    assert released["object"] == "1"
    assert released["source"] == str(tmp_path / "in" / "Quastelberry_0001.dcm")
    assert (released["outcome"], released["output"], released["reason"]) == ("released", name, "")
    assert (held["object"], held["outcome"], held["output"]) == ("2", "quarantined", "")
    assert held["source"] == str(tmp_path / "in" / "zzz.txt")
    assert (held["reason"], held["what to do"]) == ("NOT_DICOM", Reason.NOT_DICOM.value)


def test_what_leaves_names_nobody(tmp_path: Path) -> None:
    """Terminal output, the report and every output name hold no source path and nothing of the patient."""
    written(tmp_path / "in", ct(1), ct(2, SOPClassUID="1.2.3.4"), ct(3, BurnedInAnnotation="YES"))
    broken = encoded(ct(4))
    (tmp_path / "in" / f"{PATIENT_ID} Xenophon.dcm").write_bytes(broken[: len(broken) // 2])
    done = deidentify(tmp_path, "--report", tmp_path / "report.jsonl")
    assert done.returncode == 3
    lines = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text().splitlines()]
    assert [line["object"] for line in lines] == [1, 2, 3, 4]
    assert sorted(line["outcome"] for line in lines) == ["quarantined"] * 3 + ["released"]
    by_outcome = {line["outcome"]: line for line in lines}
    assert by_outcome["released"]["output"] in contents(tmp_path / "out")
    assert {line.get("reason") for line in lines} == {None, "SOP_CLASS", "BURNED_IN", "TRUNCATED"}
    said = (tmp_path / "report.jsonl").read_text() + "".join(contents(tmp_path / "out"))
    said += done.stdout + done.stderr
    assert not [token for token in TOKENS if token in said.lower()]
    assert str(tmp_path / "in") not in said


NAMES = [
    b"with space .dcm",
    b"new\nline.dcm",
    b"caf\xe9 \xff\xfe.dcm",
    b'quote",comma;.dcm',
    "名前.dcm".encode(),
    b"x" * 251 + b".dcm",
    b"-rf",
    b"\x1b[31mred.dcm",
]


@pytest.mark.parametrize("workers", [1, 2])
def test_odd_names(tmp_path: Path, workers: int) -> None:
    """Files of any name the file system takes are released and tied to their numbers."""
    folder = os.fsencode(tmp_path / "in")
    os.mkdir(folder)
    for number, name in enumerate(NAMES):
        with open(folder + b"/" + name, "wb") as file:
            file.write(encoded(ct(number)))
    deep = folder + b"/".join([b"", *[b"d" * 200] * 10])
    os.makedirs(deep)
    with open(deep + b"/deep.dcm", "wb") as file:
        file.write(encoded(ct(99)))
    done = deidentify(tmp_path, workers=workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(contents(tmp_path / "out")) == len(NAMES) + 1
    _, rows = private_list(tmp_path / "project")
    assert [row["object"] for row in rows] == [str(number) for number in range(1, len(NAMES) + 2)]
    sources = {row["source"].removeprefix(str(tmp_path / "in") + "/") for row in rows}
    assert {"new\nline.dcm", 'quote",comma;.dcm', "caf\\xe9 \\xff\\xfe.dcm", "名前.dcm"} <= sources


def test_path_longer_than_the_system_takes(tmp_path: Path) -> None:
    """A folder whose path is too long to be named is reported and the rest is released."""
    written(tmp_path / "in", ct(1))
    fd = os.open(tmp_path / "in", os.O_RDONLY)
    for _ in range(25):
        os.mkdir("d" * 200, dir_fd=fd)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    done = finished(tmp_path)
    assert sorted(report.reason for _, report, _ in done) == ["", "UNREADABLE"]


def test_quarantine_folder(tmp_path: Path) -> None:
    """--quarantine copies each original held back, whole, private, named by its number; nothing else."""
    written(tmp_path / "in", ct(1), ct(2, BurnedInAnnotation="YES"))
    (tmp_path / "in" / "zzz.txt").write_text("remember the milk")
    os.mkfifo(tmp_path / "in" / "zzzz")
    done = deidentify(tmp_path, "--quarantine", tmp_path / "held")
    assert done.returncode == 3
    copies = sorted((tmp_path / "held").rglob("*.dcm"))
    assert [copy.name for copy in copies] == ["00000002.dcm", "00000003.dcm"]
    assert copies[0].read_bytes() == encoded(ct(2, BurnedInAnnotation="YES"))
    assert copies[1].read_text() == "remember the milk"
    assert {copy.stat().st_mode & 0o777 for copy in copies} == {0o600}
    assert {copy.parent.stat().st_mode & 0o077 for copy in copies} == {0}
    _, rows = private_list(tmp_path / "project")
    assert "not copied: NOT_A_FILE" in rows[-1]["detail"]


@pytest.mark.parametrize("workers", [1, 2])
def test_maps(tmp_path: Path, workers: int) -> None:
    """--patient-map and --uid-map hold every pair, private, also where a looser file was before."""
    written(tmp_path / "in", *(ct(number, PatientID=f"MRN-{number % 3}77") for number in range(1, 100)))
    maps = tmp_path / "patients.csv", tmp_path / "uids.csv"
    for path in maps:
        path.write_text("old and much longer content\n" * 1000)
        path.chmod(0o644)
    done = deidentify(tmp_path, "--patient-map", maps[0], "--uid-map", maps[1], workers=workers)
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_mode & 0o777 for path in maps} == {0o600}
    patients, uids = ([*csv.reader(path.read_text().splitlines())] for path in maps)
    assert patients[0] == uids[0] == ["id_old", "id_new"]
    new = {name.split("/")[0] for name in contents(tmp_path / "out")}
    assert {old for old, _ in patients[1:]} == {"MRN-077", "MRN-177", "MRN-277"}
    assert {pseudonym for _, pseudonym in patients[1:]} == new
    pairs = dict(uids[1:])
    instances = {name.split("/")[3].removesuffix(".dcm") for name in contents(tmp_path / "out")}
    assert {pairs[f"{UID_ROOT}.3.{number}"] for number in range(1, 100)} == instances
    assert {f"{UID_ROOT}.1", f"{UID_ROOT}.2", f"{UID_ROOT}.4"} <= pairs.keys()


def test_patient_list(tmp_path: Path) -> None:
    """--patients names patients as the site wishes; with --only-listed all others are held back."""
    written(tmp_path / "in", ct(1), ct(2, PatientID="unlisted-9"))
    (tmp_path / "patients.csv").write_text(f"id_old,issuer,id_new\n{PATIENT_ID},,TRIAL-007\n")
    done = deidentify(tmp_path, "--patients", tmp_path / "patients.csv", "--only-listed")
    assert done.returncode == 3
    (name,) = contents(tmp_path / "out")
    assert name.startswith("TRIAL-007/")
    _, rows = private_list(tmp_path / "project")
    assert [row["reason"] for row in rows] == ["", "PATIENT"]
    done = deidentify(tmp_path, "--patients", tmp_path / "patients.csv")
    assert done.returncode == 0
    assert len(contents(tmp_path / "out")) == 2


def test_workers_agree(tmp_path: Path) -> None:
    """The outputs do not depend on the number of processes."""
    written(tmp_path / "in", *(ct(number, PatientID=f"MRN-{number % 7}77") for number in range(1, 151)))
    (tmp_path / "in" / "zzz.txt").write_text("remember the milk")
    assert deidentify(tmp_path, "--report", tmp_path / "one.jsonl").returncode == 3
    one = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "first")
    assert deidentify(tmp_path, "--report", tmp_path / "two.jsonl", workers=2).returncode == 3
    assert contents(tmp_path / "out") == one
    assert len(one) == 150
    first, second = (sorted((tmp_path / name).read_text().splitlines()) for name in ("one.jsonl", "two.jsonl"))
    assert first == second


@pytest.mark.parametrize("workers", [1, 2])
def test_again(tmp_path: Path, workers: int) -> None:
    """Running again changes nothing; an output that is gone is made again."""
    written(tmp_path / "in", *(ct(number) for number in range(1, 101)))
    assert deidentify(tmp_path, workers=workers).returncode == 0
    before = tree(tmp_path / "out")
    done = deidentify(tmp_path, workers=workers)
    assert done.returncode == 0
    assert "0 released, 100 released before, 0 held back" in done.stdout
    assert tree(tmp_path / "out") == before
    gone = sorted(before)[17]
    (tmp_path / "out" / gone).unlink()
    done = deidentify(tmp_path, workers=workers)
    assert "1 released, 99 released before, 0 held back" in done.stdout
    after = tree(tmp_path / "out")
    assert after[gone][0] == before[gone][0]
    assert {name: one for name, one in after.items() if name != gone} == {
        name: one for name, one in before.items() if name != gone
    }


def test_two_runs_at_once(tmp_path: Path) -> None:
    """Two runs into one output with one new project both succeed, and nothing is missing or left over."""
    datasets = [ct(number) for number in range(1, 141)]
    written(tmp_path / "a", *datasets[:100])
    written(tmp_path / "b", *datasets[40:])
    common = ("--project", tmp_path / "project", "--workers", "2")
    both = [start("deidentify", tmp_path / name, tmp_path / "out", *common) for name in ("a", "b")]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err
    everything = contents(tmp_path / "out")
    assert len(everything) == 140
    assert all(PLACE.fullmatch(name) for name in everything)
    written(tmp_path / "in", *datasets)
    (tmp_path / "out").rename(tmp_path / "both")
    assert deidentify(tmp_path).returncode == 0
    assert contents(tmp_path / "out") == everything
    assert not list((tmp_path / "project").glob(".*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_collision(tmp_path: Path, workers: int) -> None:
    """Two objects of other content under one SOP Instance UID: the first is released, the other held back."""
    written(tmp_path / "in", ct(1), ct(1, KVP="140"), ct(1))
    done = deidentify(tmp_path, workers=workers)
    assert done.returncode == 3
    assert "1 released, 1 released before, 1 held back" in done.stdout
    _, rows = private_list(tmp_path / "project")
    assert [row["reason"] for row in rows] == ["", "COLLISION", ""]
    (data,) = contents(tmp_path / "out").values()
    assert pydicom.dcmread(io.BytesIO(data)).KVP == 120


@pytest.mark.parametrize(
    ("output", "project"),
    [
        ("in", "project"),
        ("in/deeper/out", "project"),
        (".", "../project"),
        ("link", "project"),
        ("link/deeper", "project"),
        ("up/in", "project"),
        ("in/../in", "project"),
        ("out", "out"),
        ("out", "out/project"),
        ("out", "out/link-to-out/project"),
        ("project/out", "project"),
    ],
)
def test_nested_folders(tmp_path: Path, output: str, project: str) -> None:
    """Folders that lie within each other, also through links, are refused before anything is written."""
    base = tmp_path / "base"
    written(base / "in", ct(1))
    (base / "link").symlink_to("in")
    (base / "up").symlink_to(".")
    if "link-to-out" in project:
        (base / "out").mkdir()
        (base / "out" / "link-to-out").symlink_to(".")
    before = sorted(base.rglob("*"))
    done = cli("deidentify", base / "in", base / output, "--project", base / project)
    assert done.returncode == 2
    assert "error: the " in done.stderr
    after = [path for path in sorted(base.rglob("*")) if path not in (base / "project", base / "project/secret.key")]
    assert after == before


def test_quarantine_must_lie_apart(tmp_path: Path) -> None:
    """The quarantine, which holds PHI, is refused inside the output and inside the input."""
    written(tmp_path / "in", ct(1))
    for place in ("out/held", "in/held", "out", "in", "."):
        done = deidentify(tmp_path, "--quarantine", tmp_path / place)
        assert done.returncode == 2
        assert not (tmp_path / "out").exists()


def test_project_inside_the_input(tmp_path: Path) -> None:
    """A project folder that lies in the input is no input."""
    written(tmp_path / "in", ct(1))
    for _ in range(2):
        done = cli("deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "in" / "project")
        assert done.returncode == 0, done.stdout


def test_missing_input(tmp_path: Path) -> None:
    """An input that is missing, or a file, is refused with exit status 2; the output is not made."""
    (tmp_path / "file").write_text("x")
    for name in ("missing", "file"):
        done = cli("deidentify", tmp_path / name, tmp_path / "out", "--project", tmp_path / "project")
        assert done.returncode == 2
        assert "error: the input folder does not exist or is no folder" in done.stderr
        assert not (tmp_path / "out").exists()


def test_output_is_a_file(tmp_path: Path) -> None:
    """An output or project that is a file, or lies under one, is refused with exit status 2."""
    written(tmp_path / "in", ct(1))
    (tmp_path / "file").write_text("x")
    for out, project in (("file", "project"), ("file/out", "project"), ("out", "file"), ("out", "file/project")):
        done = cli("deidentify", tmp_path / "in", tmp_path / out, "--project", tmp_path / project)
        assert done.returncode == 2
        assert (tmp_path / "file").read_text() == "x"


def test_read_only_places(tmp_path: Path, read_only: Path) -> None:
    """An output, project, report, map or quarantine that cannot be written: exit status 2 and a clear message."""
    written(tmp_path / "in", ct(1))
    for out, project in ((read_only, tmp_path / "project"), (read_only / "out", tmp_path / "project"),
                         (tmp_path / "out", read_only), (tmp_path / "out", read_only / "project")):  # fmt: skip
        done = cli("deidentify", tmp_path / "in", out, "--project", project)
        assert done.returncode == 2, (out, project)
        assert re.match("error: .*(Read-only|cannot be written)", done.stderr), done.stderr
    for option in ("--report", "--quarantine", "--uid-map", "--patient-map"):
        done = deidentify(tmp_path, option, read_only / "name")
        assert done.returncode == 2
        assert done.stderr.startswith("error: "), done.stderr


def test_read_only_input(tmp_path: Path, read_only: Path) -> None:
    """The input needs no right to write: a mounted disc will do."""
    subprocess.run(["mount", "-o", "remount,rw,bind", read_only], check=True)
    written(read_only, ct(1))
    subprocess.run(["mount", "-o", "remount,ro,bind", read_only], check=True)
    done = cli("deidentify", read_only, tmp_path / "out", "--project", tmp_path / "project")
    assert done.returncode == 0, done.stderr


def test_what_is_no_file(tmp_path: Path) -> None:
    """Pipes, sockets, devices and broken links are reported, never waited for."""
    folder = written(tmp_path / "in", ct(1))
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    (folder / "null").symlink_to("/dev/null")
    (folder / "link.dcm").symlink_to("Quastelberry_0001.dcm")
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(folder)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        done = finished(tmp_path)
    assert reasons(done) == {
        "Quastelberry_0001.dcm": "", "link.dcm": "", "fifo": "NOT_A_FILE", "socket": "NOT_A_FILE",
        "dangling": "NOT_A_FILE", "loop": "NOT_A_FILE", "null": "NOT_A_FILE",
    }  # fmt: skip
    assert len(contents(tmp_path / "out")) == 1


def test_links_to_folders(tmp_path: Path) -> None:
    """A folder that is linked twice, or into itself, is read once."""
    written(tmp_path / "in" / "a", ct(1))
    written(tmp_path / "elsewhere", ct(2))
    (tmp_path / "in" / "b").symlink_to("a")
    (tmp_path / "in" / "a" / "up").symlink_to("..")
    (tmp_path / "in" / "c").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "d").symlink_to(tmp_path / "elsewhere")
    done = finished(tmp_path)
    assert [report.outcome for _, report, _ in done] == ["released", "released"]


def test_file_vanishes(tmp_path: Path) -> None:
    """A file that goes between listing and opening is reported, and the rest is released."""
    written(tmp_path / "in", *(ct(number) for number in range(1, 101)))
    with run(tmp_path) as all_of_it:
        done = iter(all_of_it)
        first = next(done)
        (tmp_path / "in" / "Quastelberry_0090.dcm").unlink()
        rest = list(done)
    found = reasons([first, *rest])
    assert len(found) == 100
    assert {name: reason for name, reason in found.items() if reason} == {"Quastelberry_0090.dcm": "UNREADABLE"}


def test_file_grows(tmp_path: Path) -> None:
    """A file that grows while it is read is held back or released as it was when whole; never a mixture."""
    whole = encoded(ct(1, rows=2000, columns=2000))
    path = tmp_path / "growing.dcm"
    path.write_bytes(whole)
    deidentifier = Deidentifier(project=tmp_path / "project")
    expected = deidentifier.bytes(whole).data
    stop = threading.Event()

    def append() -> None:
        with open(path, "ab", buffering=0) as file:
            while not stop.wait(0.0005):
                file.write(b"Quastelberry Xenophon")

    thread = threading.Thread(target=append)
    thread.start()
    held: list[Reason] = []
    try:
        for number in range(60):
            out = tmp_path / f"out{number}"
            try:
                report = deidentifier.release(path, Storage(out))
            except Quarantined as cause:
                held.append(cause.reason)
                assert not contents(out)
            else:
                assert (out / report.name).read_bytes() == expected
                (out / report.name).unlink()
    finally:
        stop.set()
        thread.join()
    assert Reason.CHANGED in held
    assert set(held) <= {Reason.CHANGED, Reason.TRUNCATED, Reason.MALFORMED}


def test_file_shrinks(tmp_path: Path) -> None:
    """A file that is cut and written anew while it is read is held back or released whole."""
    whole = encoded(ct(1, rows=1000, columns=1000))
    path = tmp_path / "again.dcm"
    path.write_bytes(whole)
    deidentifier = Deidentifier(project=tmp_path / "project")
    expected = deidentifier.bytes(whole).data
    stop = threading.Event()

    def write_again() -> None:
        while not stop.wait(0.002):
            with open(path, "wb", buffering=0) as file:
                file.write(whole[:5000])
                time.sleep(0.002)
                file.write(whole[5000:])

    thread = threading.Thread(target=write_again)
    thread.start()
    outcomes: set[Reason | None] = set()
    try:
        for number in range(80):
            out = tmp_path / f"out{number}"
            try:
                report = deidentifier.release(path, Storage(out))
            except Quarantined as cause:
                outcomes.add(cause.reason)
                assert not contents(out)
            else:
                outcomes.add(None)
                assert (out / report.name).read_bytes() == expected
                (out / report.name).unlink()
    finally:
        stop.set()
        thread.join()
    assert outcomes <= {None, Reason.CHANGED, Reason.TRUNCATED, Reason.NOT_DICOM, Reason.UNREADABLE}


def media(folder: Path) -> None:
    """Write a file-set with a DICOMDIR."""
    files = FileSet()
    for number in (1, 2, 3):
        files.add(pydicom.dcmread(io.BytesIO(encoded(ct(number)))))
    files.write(folder)


def referenced(directory: Path) -> set[str]:
    """Return the instances that a DICOMDIR leads to, by the data sets in its files."""
    return {str(one.load().SOPInstanceUID) for one in FileSet(directory)}


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
def test_dicomdir(tmp_path: Path) -> None:
    """A DICOMDIR is held back with what to do, and doing it gives one that pydicom loads, without the patient."""
    media(tmp_path / "in")
    done = deidentify(tmp_path)
    assert done.returncode == 3
    assert "3 released, 0 released before, 1 held back" in done.stdout
    assert "1  DICOMDIR: a directory names its patients; rebuild it with `dicomshield dicomdir OUT`" in done.stdout
    released = contents(tmp_path / "out")
    for _ in range(2):
        done = cli("dicomdir", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        assert "3 objects" in done.stdout
        instances = referenced(tmp_path / "out" / "DICOMDIR")
        gc.collect()
        assert {f"{uid}.dcm" for uid in instances} == {name.split("/")[3] for name in released}
        directory = (tmp_path / "out" / "DICOMDIR").read_bytes().lower()
        assert not [token for token in TOKENS if token.encode() in directory]
        assert not list((tmp_path / "out").glob(".*"))
    assert released.items() <= contents(tmp_path / "out").items()
    assert deidentify(tmp_path).returncode == 3


def test_dicomdir_of_nothing(tmp_path: Path) -> None:
    """A DICOMDIR of an empty or missing folder is refused and nothing is made."""
    for name in (".", "missing"):
        assert cli("dicomdir", tmp_path / name).returncode == 2
    assert not list(tmp_path.iterdir())


def test_plan(tmp_path: Path) -> None:
    """`plan` lists tags, what would be done and why, and no value; what cannot be read is exit status 3."""
    (source,) = written(tmp_path / "in", ct(1)).iterdir()
    done = cli("plan", source)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"PatientName", "PatientID", "StudyInstanceUID", "InstitutionName"} <= lines.keys()
    assert not [token for token in TOKENS if token in done.stdout.lower()]
    for wrong in (tmp_path / "missing.dcm", tmp_path / "in"):
        done = cli("plan", wrong)
        assert done.returncode == 3
        assert done.stderr.startswith("held back: ")


def test_explain() -> None:
    """`explain` takes a keyword or a tag in either form, and refuses what is neither."""
    texts = {cli("explain", name).stdout for name in ("PatientName", "(0010,0010)", "00100010")}
    assert len(texts) == 1
    assert "(0010,0010) PatientName PN" in texts.pop()
    assert "private: removed" in cli("explain", "00091001").stdout
    assert cli("explain", "NoSuchAttribute").returncode == 2


def test_verify(tmp_path: Path) -> None:
    """`verify` finds nothing in an output (exit status 0), and everything in an original (3), by kind only."""
    (source,) = written(tmp_path / "in", ct(1)).iterdir()
    assert deidentify(tmp_path).returncode == 0
    (name,) = contents(tmp_path / "out")
    good = cli("verify", source, tmp_path / "out" / name)
    assert (good.returncode, good.stdout) == (0, "nothing of the patient found outside pixel data\n")
    bad = cli("verify", source, source)
    assert bad.returncode == 3
    assert {"name", "identifier", "date", "uid"} <= set(re.findall(r"found: (\w+)", bad.stdout))
    assert not [token for token in TOKENS if token in bad.stdout.lower()]
    assert cli("verify", tmp_path / "in", tmp_path / "out").returncode == 2


def test_demo(tmp_path: Path) -> None:
    """`demo` shows the whole job on real images, and does not write into a folder that holds something."""
    done = cli("demo", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    released = contents(tmp_path / "demo" / "released")
    assert released
    names = (b"castellanos", b"mirabel", b"vandermeer", b"yamashiro", b"hollowbrook", b"48213377", b"77120945")
    for data in released.values():
        assert not [name for name in names if name in readable(data)]
    assert cli("demo", tmp_path / "demo").returncode == 2
    assert contents(tmp_path / "demo" / "released") == released


def test_help_and_version() -> None:
    """Every verb explains itself."""
    assert "0.1.0" in cli("--version").stdout
    listed = cli("--help").stdout
    for verb in ("deidentify", "plan", "explain", "verify", "demo", "dicomdir"):
        assert verb in listed
        assert cli(verb, "--help").returncode == 0


def test_library_folder(tmp_path: Path) -> None:
    """`Deidentifier.folder` yields a report of each file, held back ones too, and refuses nested folders."""
    written(tmp_path / "in", ct(1), ct(2, BurnedInAnnotation="YES"))
    deidentifier = Deidentifier(project=tmp_path / "project")
    found = list(deidentifier.folder(tmp_path / "in", tmp_path / "out"))
    assert [report.outcome for report in found] == ["released", "quarantined"]
    assert found[0].changes
    with pytest.raises(PolicyError):
        list(deidentifier.folder(tmp_path / "in", tmp_path / "in"))


def test_run_abandoned(tmp_path: Path) -> None:
    """A run that is left half-way closes its processes and leaves whole files only."""
    written(tmp_path / "in", *(ct(number) for number in range(1, 151)))
    with run(tmp_path, workers=2) as all_of_it:
        for done in all_of_it:
            assert done.report.outcome == "released"
            break
    assert all(PLACE.fullmatch(name) for name in contents(tmp_path / "out"))
    assert len(finished(tmp_path)) == 150

"""Killed processes, full disks, systems that lack something: what is there is whole, and running again ends it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from factories import ct, encoded, written

from dicomshield import Quarantined, Reason
from dicomshield.encoding.pieces import Piece, Range
from dicomshield.encoding.source import Source
from dicomshield.storage import Outcome, Storage

CLI = (sys.executable, "-W", "error", "-m", "dicomshield")
LEFTOVER = ".dicomshield-*"
HOLDER = """
import sys
from dicomshield.encoding.source import Source
from dicomshield.storage import Storage
storage = Storage(sys.argv[1], unnamed=False)
for line in sys.stdin:
    try:
        print(storage.write(line.strip(), Source.of(b""), [line.encode()]).value, flush=True)
    except Exception as error:
        print(error, flush=True)
storage.close()
"""
KILLER = """
import os, signal, sys
from pathlib import Path
from dicomshield import Deidentifier
from dicomshield.bulk.folder import Run
folder = Path(sys.argv[1])
with Run(Deidentifier(project=folder / "project"), folder / "in", folder / sys.argv[2], workers=2) as run:
    done = iter(run)
    found = [next(done)]
    workers = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    os.kill(int(workers[int(sys.argv[3])]), signal.SIGKILL)
    found += done
whole = {one.report.outcome for one in found} <= {"released", "unchanged"}
print(len({one.report.number for one in found}), whole)
"""
HALF = """
import os, signal, struct, sys, time
from pathlib import Path
from dicomshield import Deidentifier
from dicomshield.bulk.folder import Run
def half(killed):
    frame = sys._getframe()
    while "result_queue" not in frame.f_locals:
        frame = frame.f_back
    results = frame.f_locals["result_queue"]
    results._wlock.acquire()
    os.write(results._writer.fileno(), struct.pack("!i", 1000))
    if killed:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
folder = Path(sys.argv[1])
with Run(Deidentifier(project=folder / "project"), folder / "in", folder / "out", workers=2) as run:
    run._pool.submit(half, sys.argv[2] == "killed")
    if sys.argv[2] == "killed":
        print(len(list(run)))
    time.sleep(0.5)
print("ended")
"""
COPIER = """
import sys
from dicomshield.encoding.source import Source
from dicomshield.encoding.pieces import Range
from dicomshield.storage import Storage
with Source.open(sys.argv[1]) as source:
    Storage(sys.argv[2], unnamed=sys.argv[3] == "unnamed").write("a/b.dcm", source, [Range(0, source.size)] * 4)
"""


def cli(*args: str | Path, limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; it never shows a traceback."""
    command = [*CLI, *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limit)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def files(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder, also while somebody writes there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, _, sid = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(sid) == leader and state not in "ZX":
                found.append(int(entry.name))
    return found


def wait_until(true: Callable[[], object], seconds: float) -> bool:
    """Wait for something and say whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.005)
    return bool(true())


def assert_whole(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    for name, data in found.items():
        assert data == expected[name]
        assert pydicom.dcmread(BytesIO(data)).PatientIdentityRemoved == "YES"


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """Return the mount point of a file system of 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here (it takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> None:
    """Use up all space under a folder."""
    with open(folder / "filler", "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


# Killed


@pytest.mark.parametrize("mask", [(), ("--mask", "2,2,100,20")], ids=["headers", "masks"])
def test_killed_at_any_moment(tmp_path: Path, mask: tuple[str, ...]) -> None:
    """A kill -9 at any moment leaves whole outputs, no temporary files and no processes; running again ends the job."""
    written(tmp_path / "in", *(ct(number, rows=128, columns=128) for number in range(1, 601)))
    (tmp_path / "in" / "zzz.txt").write_text("remember the milk")
    project: tuple[str | Path, ...] = ("--project", tmp_path / "project", "--workers", "2", *mask)
    assert cli("deidentify", tmp_path / "in", tmp_path / "undisturbed", *project).returncode == 3
    expected = files(tmp_path / "undisturbed")
    assert len(expected) == 600
    counts = []
    moments = random.Random(7433)  # noqa: S311
    for number in range(10):
        out = tmp_path / f"out{number}"
        command = [*CLI, "deidentify", str(tmp_path / "in"), str(out), *map(str, project)]
        null = subprocess.DEVNULL
        with subprocess.Popen(command, stdout=null, stderr=null, start_new_session=True) as process:
            enough = moments.randrange(1, 300)
            wait_until(lambda out=out, enough=enough: sum(1 for _ in out.rglob("*.dcm")) >= enough, 30)  # type: ignore[misc]
            process.kill()
        found = files(out) if out.exists() else {}
        assert_whole(found, expected)
        assert wait_until(lambda leader=process.pid: not session(leader), 3), "worker processes are left"  # type: ignore[misc]
        found = files(out) if out.exists() else {}
        assert_whole(found, expected)
        counts.append(len(found))
    assert min(counts) < 600, "no run was disturbed"
    assert max(counts) > 0, "no run had begun"
    for number in range(10):
        done = cli("deidentify", tmp_path / "in", tmp_path / f"out{number}", *project)
        assert done.returncode == 3
        assert f"{600 - counts[number]} released, {counts[number]} released before, 1 held back" in done.stdout
        assert files(tmp_path / f"out{number}") == expected


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends a run with exit status 130 and a word on how to go on; what is there is whole."""
    written(tmp_path / "in", *(ct(number, rows=128, columns=128) for number in range(1, 601)))
    out = tmp_path / "out"
    # what a shell starts in the background ignores Ctrl-C, and so would all that it starts in turn
    command = ["env", "--default-signal=INT", *CLI, "deidentify", str(tmp_path / "in"), str(out)]
    command += ["--project", str(tmp_path / "p"), "--workers", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert wait_until(lambda: out.exists() and any(out.iterdir()), 10)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert "Traceback" not in err
    assert process.returncode == 130
    assert "run the same command again" in err
    assert wait_until(lambda: not session(process.pid), 3)
    for data in files(out).values():
        assert pydicom.dcmread(BytesIO(data)).PatientIdentityRemoved == "YES"


def test_worker_killed(tmp_path: Path) -> None:
    """A worker process that is killed costs no object, and the run comes to its end."""
    written(tmp_path / "in", *(ct(number, rows=128, columns=128) for number in range(1, 131)))
    for number in range(4):
        command = [sys.executable, "-W", "error", "-c", KILLER, str(tmp_path), f"out{number}", str(number & 1)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
            try:
                out, _ = process.communicate(timeout=15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                pytest.fail("the run hangs")
        assert process.returncode == 0
        assert out == "130 True\n"
        assert len(files(tmp_path / f"out{number}")) == 130


@pytest.mark.parametrize(("how", "said"), [("killed", "130\nended\n"), ("interrupted", "ended\n")])
def test_half_a_result(tmp_path: Path, how: str, said: str) -> None:
    """A worker that is killed in the middle of its result costs no object; and Ctrl-C does not wait for the rest."""
    written(tmp_path / "in", *(ct(number) for number in range(1, 131)))
    command = [sys.executable, "-c", HALF, str(tmp_path), how]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=20, check=True)
    assert done.stdout == said


@pytest.mark.parametrize("how", ["unnamed", "named"])
def test_killed_while_writing(tmp_path: Path, how: str) -> None:
    """A process that is killed in the middle of a file leaves none under its name, and the next run no trace."""
    big, out = tmp_path / "big", tmp_path / "out"
    with open(big, "wb") as file:
        for _ in range(64):
            file.write(os.urandom(1 << 20))
    out.mkdir()
    begun = 0
    for delay in (0.0, 0.01, 0.03):
        with subprocess.Popen([sys.executable, "-c", COPIER, big, out, how], start_new_session=True) as process:
            wait_until(lambda: any(out.iterdir()) or process.poll() is not None, 10)
            begun += wait_until(lambda: any(out.glob(f"{LEFTOVER}/*")), 0.1 if how == "unnamed" else 5)
            time.sleep(delay)
            process.kill()
        assert not [path for path in out.rglob("*.dcm") if path.stat().st_size != 4 * big.stat().st_size]
        for path in out.rglob("*.dcm"):
            path.unlink()
    if how == "unnamed":
        assert not list(out.glob(LEFTOVER))
    else:
        assert begun
        assert list(out.glob(LEFTOVER))
    written(tmp_path / "in", ct(1))
    done = cli("deidentify", tmp_path / "in", out, "--project", tmp_path / "project", "--workers", "1")
    assert done.returncode == 0
    assert not list(out.glob(LEFTOVER))
    assert len(files(out)) == 1


# Without files that have no name


def test_storage_without_unnamed_files(tmp_path: Path) -> None:
    """Without O_TMPFILE a file is whole or absent too, never replaced, and close leaves no scratch folder."""
    path = tmp_path / "source"
    path.write_bytes(bytes(range(256)) * 1000)
    storage = Storage(tmp_path / "out", unnamed=False, mode=0o600)
    with Source.open(path) as source:
        pieces: list[Piece] = [b"head", Range(100, source.size)]
        assert storage.write("a/b.dcm", source, pieces) is Outcome.NEW
        target = tmp_path / "out" / "a" / "b.dcm"
        before = target.stat()
        assert storage.write("a/b.dcm", source, pieces) is Outcome.SAME
        with pytest.raises(Quarantined) as held:
            storage.write("a/b.dcm", source, [b"HEAD", Range(100, source.size)])
        assert held.value.reason is Reason.COLLISION
        with pytest.raises(Quarantined) as held:
            storage.write("a/c.dcm", source, [b"head", Range(100, source.size + 1)])
        assert held.value.reason is Reason.CHANGED
    after = target.stat()
    assert (before.st_mtime_ns, before.st_ino, before.st_mode & 0o777) == (after.st_mtime_ns, after.st_ino, 0o600)
    assert target.read_bytes() == b"head" + path.read_bytes()[100:]
    assert not list(tmp_path.glob(f"out/{LEFTOVER}/*"))
    storage.close()
    assert files(tmp_path / "out").keys() == {"a/b.dcm"}
    assert not list(tmp_path.glob(f"out/{LEFTOVER}"))


def test_scratch_of_the_living(tmp_path: Path) -> None:
    """The scratch folder of a living process is left alone; that of a killed one goes with the next run."""
    written(tmp_path / "in", ct(1))
    out = tmp_path / "out"
    out.mkdir()
    args = ("deidentify", tmp_path / "in", out, "--project", tmp_path / "project", "--workers", "1")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, out], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout

        def ask(name: str) -> str:
            assert process.stdin
            assert process.stdout
            process.stdin.write(f"{name}\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert ask("a/1") == "new"
        (scratch,) = out.glob(LEFTOVER)
        assert scratch.stat().st_mode & 0o777 == 0o700
        assert cli(*args).returncode == 0
        assert scratch.exists()
        assert ask("a/2") == "new"
        process.kill()
    assert scratch.exists()
    (scratch / "half").write_bytes(b"half a file")
    assert cli(*args).returncode == 0
    assert not scratch.exists()
    assert len(files(out)) == 3


def test_scratch_folders_made_at_once(tmp_path: Path) -> None:
    """A scratch folder that another process is just making is not taken for one left behind."""
    out = tmp_path / "out"
    out.mkdir()
    script = (
        "import sys\nfrom dicomshield.encoding.source import Source\nfrom dicomshield.storage import Storage\n"
        "for number in range(3000):\n"
        "    storage = Storage(sys.argv[1], unnamed=False)\n"
        "    storage.write(f'{sys.argv[2]}/{number}', Source.of(b''), [b'x'])\n"
        "    storage.close()\n"
    )
    remover = (
        "import sys\nfrom dicomshield.storage import Storage\n"
        "while sys.stdin.readable() and not __import__('select').select([sys.stdin], [], [], 0)[0]:\n"
        "    Storage(sys.argv[1]).remove_leftovers()\n"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", remover, out], stdin=pipe) as removing:
        done = subprocess.run([sys.executable, "-c", script, out, "a"], capture_output=True, text=True, check=False)
        removing.communicate(b"end")
    assert done.returncode == 0, done.stderr.splitlines()[-1]
    assert len(files(out)) == 3000


@pytest.mark.parametrize("workers", ["1", "2"])
def test_system_without_proc(tmp_path: Path, workers: str) -> None:
    """Where /proc is not mounted unnamed files cannot be given names; the job is done without and nothing is left."""
    if subprocess.run(["unshare", "-m", "umount", "-l", "/proc"], capture_output=True, check=False).returncode:
        pytest.skip("a private mount table is not permitted here (it takes root)")
    written(tmp_path / "in", *(ct(number) for number in range(1, 151)))
    args = ["deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "project", "--workers", workers]
    inside = ["unshare", "-m", "sh", "-c", 'umount -l /proc && exec "$@"', "sh", *CLI, *map(str, args)]
    for said in ("150 released, 0", "0 released, 150"):
        done = subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout
        assert len(files(tmp_path / "out")) == 150
        assert not list((tmp_path / "out").glob(LEFTOVER))


# Full disks


@pytest.mark.parametrize(("workers", "mask"), [("1", ()), ("2", ()), ("2", ("--mask", "2,2,100,20"))])
def test_full_output(tmp_path: Path, tmpfs: Path, workers: str, mask: tuple[str, ...]) -> None:
    """When the disk of OUT is full, the rest is held back as DISK, what is there is whole, and space heals it."""
    written(tmp_path / "in", *(ct(number, rows=256, columns=256) for number in range(1, 21)))
    project: tuple[str | Path, ...] = ("--project", tmp_path / "project", "--workers", workers, *mask)
    assert cli("deidentify", tmp_path / "in", tmp_path / "undisturbed", *project).returncode == 0
    expected = files(tmp_path / "undisturbed")
    done = cli("deidentify", tmp_path / "in", tmpfs / "out", *project)
    assert done.returncode == 3
    assert "DISK: the output could not be written; check space and permissions, then run again" in done.stdout
    found = files(tmpfs)
    assert 0 < len(found) < 20
    assert_whole({name.removeprefix("out/"): data for name, data in found.items()}, expected)
    assert f"{len(found)} released, 0 released before, {20 - len(found)} held back" in done.stdout
    assert not list(tmpfs.rglob(LEFTOVER))
    subprocess.run(["mount", "-o", "remount,size=8m", tmpfs], check=True)
    done = cli("deidentify", tmp_path / "in", tmpfs / "out", *project)
    assert done.returncode == 0, done.stdout
    assert files(tmpfs / "out") == expected


def test_full_output_without_unnamed_files(tmpfs: Path) -> None:
    """On a full disk nothing half-written stays in the scratch folder either."""
    data = os.urandom(300_000)
    storage = Storage(tmpfs / "out", unnamed=False)
    for number in range(5):
        try:
            storage.write(f"{number}", Source.of(b""), [data])
        except Quarantined as held:
            assert held.reason is Reason.DISK  # noqa: PT017
            assert "No space left" in held.detail  # noqa: PT017
            assert number == 3
            break
    else:
        pytest.fail("1.5 MB went into 1 MiB")
    assert not list(tmpfs.glob(f"out/{LEFTOVER}/*"))
    storage.close()
    assert files(tmpfs).keys() == {"out/0", "out/1", "out/2"}


def test_full_quarantine(tmp_path: Path, tmpfs: Path) -> None:
    """When the quarantine is full the reason stands, the copy is said to be missing, and the rest is released."""
    held = [ct(number, rows=512, columns=512, BurnedInAnnotation="YES") for number in range(1, 5)]
    written(tmp_path / "in", *held, ct(9))
    done = cli(
        "deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "project", "--workers", "1",
        "--quarantine", tmpfs / "held", "--report", tmp_path / "report.jsonl",
    )  # fmt: skip
    assert done.returncode == 3
    assert "1 released, 0 released before, 4 held back" in done.stdout
    report = (tmp_path / "report.jsonl").read_text()
    assert report.count('"BURNED_IN"') == 4
    assert report.count("not copied: DISK") == 3
    assert {len(data) for data in files(tmpfs).values()} == {len(encoded(held[0]))}


def test_full_project(tmp_path: Path, tmpfs: Path) -> None:
    """A full disk under the project folder is exit status 2 with a clear message; no damaged secret is left."""
    written(tmp_path / "in", ct(1))
    args = ("deidentify", tmp_path / "in", tmp_path / "out", "--project", tmpfs / "project", "--workers", "1")
    fill(tmpfs)
    done = cli(*args)
    assert done.returncode == 2
    assert done.stderr == "error: the project folder cannot be used: No space left on device\n"
    assert not (tmp_path / "out").exists()
    assert files(tmpfs).keys() == {"filler"}
    (tmpfs / "filler").unlink()
    assert cli(*args).returncode == 0
    fill(tmpfs)
    done = cli(*args)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr


@pytest.mark.parametrize("option", ["--report", "--patient-map", "--uid-map"])
def test_full_disk_under_a_list(tmp_path: Path, tmpfs: Path, option: str) -> None:
    """A full disk under the report or a map is exit status 2 with a clear message."""
    written(tmp_path / "in", ct(1))
    fill(tmpfs)
    done = cli(
        "deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "project", "--workers", "1",
        option, tmpfs / "list",
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "No space left on device" in done.stderr


# Little memory


def test_bomb_in_little_memory(tmp_path: Path) -> None:
    """A deflate bomb in a folder is held back in bounded memory, and the rest is released."""
    import resource
    import zlib

    deflated = encoded(ct(1), "1.2.840.10008.1.2.1.99")
    meta = deflated[: 144 + int.from_bytes(deflated[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = (packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)) * 128 + packer.flush()
    written(tmp_path / "in", ct(1), ct(2))
    (tmp_path / "in" / "bomb.dcm").write_bytes(meta + bomb)
    size = 3 << 29

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    began = time.monotonic()
    done = cli(
        "deidentify", tmp_path / "in", tmp_path / "out", "--project", tmp_path / "project", "--workers", "2",
        limit=limit,
    )  # fmt: skip
    assert time.monotonic() - began < 20
    assert done.returncode == 3, done.stderr
    assert "2 released, 0 released before, 1 held back" in done.stdout
    assert "TOO_LARGE: " in done.stdout

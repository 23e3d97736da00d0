"""Run whole processes and measure CPU time and peak memory of their process trees.

Only the standard library is imported here, and nothing large: on Linux the peak memory of a child process is
never reported below that of the process that started it, so the runner itself has to stay small.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
_PR_SET_CHILD_SUBREAPER = 36
_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclasses.dataclass(frozen=True)
class Sample:
    """What one run of one contender took."""

    cpu: float
    wall: float
    peak_rss: int


class RunError(RuntimeError):
    """A contender failed or did not write what it should."""


def adopt_orphans() -> None:
    """Make orphaned grandchildren our children (Linux), so that their CPU time is counted too."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run_measured(command: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Sample:
    """Run a command to its end; user + system time and peak RSS of it and of all its descendants.

    The peak is that of the largest single process, not the sum over processes.
    """
    with log.open("wb") as stream:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        peak = max(usage.ru_maxrss, _reap_orphans())
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        tail = log.read_text(errors="replace")[-1500:]
        raise RunError(f"exit status {process.returncode}: {tail.strip()}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Sample(cpu, wall, peak * _MAXRSS_UNIT)


def _reap_orphans(seconds: float = 10.0) -> int:
    """Wait for adopted helper processes (a few seconds at most); the largest peak RSS among them."""
    peak = 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid:
            peak = max(peak, usage.ru_maxrss)
        else:
            time.sleep(0.01)
    return peak


def run_python(python: str, code: str) -> str | None:
    """Output of a short Python snippet, or None if it fails."""
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def distribution_version(python: str, distribution: str, module: str) -> str | None:
    """Version of a distribution in the environment of `python`, or None if `module` can't be imported."""
    code = f"import {module}, importlib.metadata as m\nprint(m.version({distribution!r}))"
    return run_python(python, code)


def program_version(program: str, *arguments: str) -> str | None:
    """First line that a program prints about its version, or None if there is no such program."""
    if shutil.which(program) is None:
        return None
    result = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    lines = (result.stdout or result.stderr).strip().splitlines()
    return lines[0] if lines else "unknown"


def file_system(path: Path) -> str:
    """Name of the file system that holds `path` ("unknown" where that can't be told)."""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return "unknown"
    best = ("", "unknown")
    for line in lines:
        point, kind = line.split()[1:3]
        if path.resolve().is_relative_to(point) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def cpu_model() -> str:
    """Name of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def environment(work: Path) -> dict[str, str]:
    """Collect what a reader needs to judge the numbers."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": f"{cpu_model()}, {os.cpu_count()} logical",
        "file system": file_system(work),
        "cp": program_version("cp", "--version") or "missing",
    }


def median_and_range(values: Sequence[float]) -> str:
    """`median (min..max)`, the range only where there is more than one value."""
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):.2f}..{max(values):.2f})"


def mib(size: float) -> str:
    """Bytes as whole MiB."""
    return f"{size / (1 << 20):.0f}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table: the first column left aligned, all others right aligned."""
    lines = ["| " + " | ".join(header) + " |", "| :-- |" + " --: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def remove(path: Path) -> None:
    """Delete a file or a folder if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def count_files(path: Path) -> int:
    """Regular files at or below `path`."""
    if path.is_file():
        return 1
    return sum(len(files) for _, _, files in os.walk(path))


CommandBuilder = Callable[[Path, Path, Path], list[str]]
"""(input, output, fresh scratch folder) -> command line."""


@dataclasses.dataclass
class Contender:
    """One way to treat a set of files, as a command line."""

    name: str
    command: CommandBuilder
    version: str = ""
    slow: bool = False
    make_output: bool = False
    samples: list[Sample] = dataclasses.field(default_factory=list)
    small: Sample | None = None
    error: str = ""

    def run(self, source: Path, work: Path, expected: int) -> Sample:
        """One measured run with fresh output and scratch folders; preparing and deleting is not timed."""
        target, scratch = work / "out", work / "scratch"
        for path in (target, scratch):
            remove(path)
        scratch.mkdir()
        if self.make_output:
            target.mkdir()
        os.sync()
        sample = run_measured(self.command(source, target, scratch), work / "last.log")
        written = count_files(target)
        for path in (target, scratch):
            remove(path)
        if written != expected:
            raise RunError(f"wrote {written} files, expected {expected}")
        return sample

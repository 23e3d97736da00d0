"""Cost of sealing, in units of ``cp`` on the same file and of ``openssl speed`` in the same minute.

Sealing, reading a whole object, and the main job with masks and sealing (the command line, as users run it) run as
whole processes, in rounds with ``cp``; their start-up is measured too, and shown by itself. What takes microseconds
(opening, a header, a frame) is measured inside of one process, sealed and plain in turn. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from measure import (
    HERE,
    Sample,
    adopt_orphans,
    environment,
    markdown_table,
    median_and_range,
    mib,
    program_version,
    remove,
    run_measured,
)

FRAME = 512 * 512 * 2
"""Bytes of a frame of the file that data.py builds."""
OPENSSL = ["openssl", "speed", "-mr", "-seconds", "1", "-bytes", "16384", "-evp", "aes-256-gcm"]
CP, CP_SYNC, START = "cp", "cp; sync FILE", "start-up alone"
SEAL, SEAL_FILE, READ = "seal", "seal_file, which syncs", "open and read all"
JOB, JOB_START = "deidentify --mask --seal", "the same, on a file of 4 MiB"
STARTS = {SEAL: START, SEAL_FILE: START, READ: START, JOB: JOB_START}
"""Contenders, and what shows their start-up."""


# Tasks, each in a process of its own


def task_seal(source: str, target: str) -> None:
    from dicomshield.vault.container import seal

    with open(source, "rb", buffering=0) as plain, open(target, "wb", buffering=0) as file:
        seal(plain, file, _key(), "2.25.1")


def task_seal_file(source: str, target: str) -> None:
    from dicomshield.vault.container import seal_file

    seal_file(source, target, _key(), "2.25.1")


def task_read(source: str) -> None:
    from dicomshield.vault.container import open_sealed

    buffer = memoryview(bytearray(1 << 20))
    with open_sealed(source, _key(), "2.25.1") as file:
        while file.readinto(buffer):
            pass


def task_start() -> None:
    import dicomshield.vault.container  # noqa: F401


def task_calls(plain: str, sealed: str, rounds: str) -> None:
    """Print milliseconds of what is done often, for the plain file and the sealed one, and GB/s in memory."""
    import pydicom

    from dicomshield.vault.container import Sealer, open_sealed

    def opening(way: Callable[[], Any]) -> None:
        way().close()

    def header(way: Callable[[], Any]) -> None:
        with way() as file:
            pydicom.dcmread(file, stop_before_pixels=True)

    def frame(file: Any) -> None:
        # from the end, as the pixels end there
        file.seek(-FRAME * 3 - 1000, os.SEEK_END)
        file.read(FRAME)

    def in_memory() -> None:
        sealer = Sealer(lambda *_: None, _key(), "")
        for _ in range(64):
            sealer.write(data)
        sealer.finish()

    ways: tuple[Callable[[], Any], ...] = (partial(open, plain, "rb"), partial(open_sealed, sealed, _key(), "2.25.1"))
    data = os.urandom(1 << 20)
    found: dict[str, list[list[float]]] = {name: [[], []] for name in ("open", "header", "frame")}
    speed: list[float] = []
    with ways[0]() as one, ways[1]() as other:
        for _ in range(int(rounds)):
            for at, (way, file) in enumerate(zip(ways, (one, other), strict=True)):
                found["open"][at].append(_milliseconds(partial(opening, way)))
                found["header"][at].append(_milliseconds(partial(header, way)))
                found["frame"][at].append(_milliseconds(partial(frame, file)))
            speed.append((64 << 20) / _milliseconds(in_memory, 1) / 1e6)
    print(json.dumps({"milliseconds": found, "gigabytes_per_second": speed}))


def _key() -> Any:
    from dicomshield.vault.keys import DataKey

    return DataKey(bytes(16), bytes(32), "")


def _milliseconds(work: Callable[[], object], repeats: int = 50) -> float:
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats * 1000


TASKS: dict[str, Callable[..., None]] = {
    "seal": task_seal,
    "seal-file": task_seal_file,
    "read": task_read,
    "start": task_start,
    "calls": task_calls,
}


# The runner


def commands(plain: Path, sealed: Path, work: Path) -> dict[str, list[str]]:
    """Return the contenders; what they write is ``out``."""
    task = [sys.executable, str(HERE / "seal.py"), "--task"]
    return {
        CP: ["cp", str(plain), str(work / "out")],
        CP_SYNC: ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "sh", str(plain), str(work / "out")],
        SEAL: [*task, "seal", str(plain), str(work / "out")],
        SEAL_FILE: [*task, "seal-file", str(plain), str(work / "out")],
        READ: [*task, "read", str(sealed)],
        START: [*task, "start"],
        JOB: job(plain.parent, work),
        JOB_START: job(work / "small", work),
    }


def job(source: Path, work: Path) -> list[str]:
    """Return the main job over a folder: a banner is blacked out in every frame, the output sealed."""
    command = [sys.executable, "-m", "dicomshield", "deidentify", str(source), str(work / "out"), "--workers", "1"]
    command += ["--mask", "0,0,512,64", "--project", str(work / "project")]
    return [*command, "--seal", str(work / "key"), "--keys", str(work / "out.keys")]


def race(contenders: dict[str, list[str]], work: Path, rounds: int) -> dict[str, list[Sample]]:
    """Run the contenders in turn, once to warm up and then so many rounds."""
    samples: dict[str, list[Sample]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            clear(work)
            os.sync()
            sample = run_measured(contenders[name], work / "last.log")
            samples[name] += [sample] * (number > 0)
    clear(work)
    return samples


def clear(work: Path) -> None:
    """Remove what a contender wrote."""
    remove(work / "out")
    remove(work / "out.keys")


def openssl_speed() -> list[float]:
    """Return what OpenSSL says of itself, in GB/s: AES-256-GCM, 16 KiB at a time."""
    if program_version("openssl", "version") is None:
        return []
    lines = subprocess.run(OPENSSL, capture_output=True, text=True, check=True).stdout.splitlines()
    return [float(line.split(":")[-1]) / 1e9 for line in lines if line.startswith("+F:")]


def process_table(samples: dict[str, list[Sample]]) -> str:
    """Show whole processes; each against the median of ``cp``."""
    base = statistics.median(sample.cpu for sample in samples[CP])
    wall = statistics.median(sample.wall for sample in samples[CP])
    rows = []
    for name, own in samples.items():
        start = statistics.median(sample.cpu for sample in samples[STARTS[name]]) if name in STARTS else 0
        less = [(sample.cpu - start) / base for sample in own] if start else []
        rows.append(
            [
                name,
                median_and_range([sample.cpu / base for sample in own]),
                median_and_range(less) if less else "",
                median_and_range([sample.wall / wall for sample in own]),
                mib(max(sample.peak_rss for sample in own)),
            ]
        )
    return markdown_table(["process", "CPU / cp", "less start-up", "wall / cp", "peak RSS MiB"], rows)


def calls_table(calls: dict[str, Any], openssl: list[float]) -> str:
    """Show what was measured inside of one process."""
    rows = []
    for name, (plain, sealed) in calls["milliseconds"].items():
        ratios = [own / base for own, base in zip(sealed, plain, strict=True)]
        rows.append([name, median_and_range(sealed), median_and_range(plain), median_and_range(ratios)])
    if openssl:
        speed = calls["gigabytes_per_second"]
        base = statistics.median(openssl)
        ratios = [own / base for own in speed]
        row = ["sealing in memory, GB/s; openssl speed", median_and_range(speed), median_and_range(openssl)]
        rows.append([*row, median_and_range(ratios)])
    return markdown_table(["milliseconds of CPU", "sealed", "plain", "sealed / plain"], rows)


def run(args: argparse.Namespace, work: Path) -> None:
    """Build a file, measure, and print tables."""
    from dicomshield.vault.recipients import new_key_file

    plain, sealed = work / "large" / "large.dcm", work / "large.dcms"
    for path, size in ((plain, args.mib), (work / "small" / "small.dcm", 4)):
        build = ["large", str(path), "--gib", str(size / 1024)]
        subprocess.run([sys.executable, str(HERE / "data.py"), *build], check=True, stdout=subprocess.DEVNULL)
    new_key_file(work / "key")
    contenders = commands(plain, sealed, work)
    subprocess.run([*contenders[SEAL][:-1], str(sealed)], check=True)
    adopt_orphans()
    samples = race(contenders, work, args.rounds)
    openssl = openssl_speed()
    task = [sys.executable, str(HERE / "seal.py"), "--task", "calls", str(plain), str(sealed), str(args.rounds)]
    calls = json.loads(subprocess.run(task, check=True, stdout=subprocess.PIPE).stdout)
    openssl += openssl_speed()
    facts = environment(work) | {"file": f"{plain.stat().st_size} bytes, frames of {FRAME}"}
    facts["openssl"] = program_version("openssl", "version") or "missing"
    print("\n".join(f"- {key}: {value}" for key, value in facts.items()))
    print(f"\n{process_table(samples)}\n\n{calls_table(calls, openssl)}")
    if args.json:
        raw = {name: [vars(sample) for sample in own] for name, own in samples.items()}
        result = {"environment": facts, "processes": raw, "calls": calls, "openssl": openssl}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Command line entry."""
    if sys.argv[1:2] == ["--task"]:
        TASKS[sys.argv[2]](*sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description="Sealing in units of cp and openssl speed.")
    parser.add_argument("--mib", type=float, default=500, help="size of the file (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="measured rounds after one warm-up")
    parser.add_argument("--work", type=Path, help="folder for temporary data (default: a new one)")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args()
    if args.rounds < 1 or args.mib * (1 << 20) < 8 * FRAME:
        sys.exit("error: --rounds must be at least 1 and --mib at least 4")
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicomshield-bench-", dir=args.work) as folder:
        run(args, Path(folder))


if __name__ == "__main__":
    main()

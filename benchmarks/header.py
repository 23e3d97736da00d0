"""Speed of header de-identification, measured in units of ``cp -r`` on the same files.

Every contender runs as a whole process on the same synthetic CT slices, in interleaved rounds; see README.md
in this folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import (
    HERE,
    Contender,
    RunError,
    Sample,
    adopt_orphans,
    count_files,
    distribution_version,
    environment,
    markdown_table,
    median_and_range,
    mib,
    program_version,
    remove,
)

UNIT = "cp -r"
PYDICOM = "pydicom load + save"
SMALL = 2
GDCM_DUMB = (
    *(("--empty", tag) for tag in ("8,50", "8,90", "10,10", "10,20", "10,30", "10,40", "20,10")),
    *(("--remove", tag) for tag in ("8,80", "8,81", "8,92", "8,94", "8,1010", "8,1040", "8,1048")),
    *(("--remove", tag) for tag in ("8,1050", "8,1060", "8,1070", "10,1000", "10,1001", "10,1005")),
    *(("--remove", tag) for tag in ("10,1040", "10,1060", "10,2154", "10,21b0", "10,4000", "32,1032")),
)


def dicomshield_contender(workers: int, version: str) -> Contender:
    """Describe the project itself with a number of worker processes."""

    def command(source: Path, target: Path, scratch: Path) -> list[str]:
        project, report = str(scratch / "project"), str(scratch / "report.jsonl")
        start = [sys.executable, "-m", "dicomshield", "deidentify", str(source), str(target)]
        return [*start, "--project", project, "--report", report, "--workers", str(workers)]

    return Contender(f"dicomshield --workers {workers}", command, version)


def loop_contender(name: str, loop: str, python: str, version: str, slow: bool = False) -> Contender:
    """Describe a library without a command line, run by loops.py."""
    script = str(HERE / "loops.py")

    def command(source: Path, target: Path, _scratch: Path) -> list[str]:
        return [python, script, loop, str(source), str(target)]

    return Contender(name, command, version, slow)


def module_contender(name: str, python: str, module: str, options: list[str], version: str) -> Contender:
    """Describe a slow peer with a command line; `{in}` and `{out}` in the options stand for the folders."""

    def command(source: Path, target: Path, _scratch: Path) -> list[str]:
        places = {"{in}": str(source), "{out}": str(target)}
        return [python, "-m", module, *(places.get(option, option) for option in options)]

    return Contender(name, command, version, slow=True, make_output=True)


def gdcm_contender(name: str, options: list[str], version: str) -> Contender:
    """Describe gdcmanon on a folder."""

    def command(source: Path, target: Path, _scratch: Path) -> list[str]:
        return ["gdcmanon", *options, "-r", "-i", str(source), "-o", str(target)]

    return Contender(name, command, version)


def make_certificate(work: Path) -> Path | None:
    """Make a throw-away certificate for gdcmanon's standard mode, if openssl is there."""
    if program_version("openssl", "version") is None:
        return None
    certificate = work / "certificate.pem"
    files = ["-keyout", str(work / "key.pem"), "-out", str(certificate)]
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=benchmark", *files]
    subprocess.run(["openssl", "req", *options], check=True, capture_output=True)
    return certificate


def find_contenders(work: Path, peer_python: str, peers: bool) -> tuple[list[Contender], list[str]]:
    """All contenders that can run here, and the names of those that are not installed."""
    found = [Contender(UNIT, lambda source, target, _: ["cp", "-r", str(source), str(target)])]
    missing: list[str] = []

    version = distribution_version(sys.executable, "dicomshield", "dicomshield")
    if version is None:
        missing.append("dicomshield")
    else:
        found += [dicomshield_contender(workers, version) for workers in (1, 2)]

    version = distribution_version(sys.executable, "pydicom", "pydicom")
    if version is None:
        missing.append("pydicom")
    else:
        found.append(loop_contender(PYDICOM, "pydicom", sys.executable, version))
    if not peers:
        return found, missing

    version = distribution_version(peer_python, "dcmanon", "dcmanon")
    if version is None:
        missing.append("dcmanon")
    else:
        found.append(loop_contender("dcmanon", "dcmanon", peer_python, version))

    version = program_version("gdcmanon", "--version")
    if version is None:
        missing.append("gdcmanon")
    else:
        version = version.removeprefix("gdcmanon: gdcm ").split()[0]
        dumb = [word for pair in GDCM_DUMB for word in pair]
        found.append(gdcm_contender("gdcmanon --dumb", ["--dumb", *dumb], version))
        certificate = make_certificate(work)
        if certificate is None:
            missing.append("gdcmanon -c (needs openssl)")
        else:
            found.append(gdcm_contender("gdcmanon -c", ["-c", str(certificate)], version))

    version = distribution_version(peer_python, "dicom-anonymizer", "dicomanonymizer")
    if version is None:
        missing.append("dicom-anonymizer")
    else:
        options = ["{in}", "{out}"]
        name, module = "dicom-anonymizer", "dicomanonymizer.anonymizer"
        found.append(module_contender(name, peer_python, module, options, version))

    version = distribution_version(peer_python, "dicognito", "dicognito")
    if version is None:
        missing.append("dicognito")
    else:
        options = ["--quiet", "--output-directory", "{out}", "{in}"]
        found.append(module_contender("dicognito", peer_python, "dicognito", options, version))

    version = distribution_version(peer_python, "deid", "deid.dicom")
    if version is None:
        missing.append("deid")
    else:
        found.append(loop_contender("deid", "deid", peer_python, version, slow=True))
    return found, missing


def build_input(work: Path, count: int) -> Path:
    """Build the slices in a process of their own: the runner has to stay small."""
    source = work / "in"
    remove(source)
    command = [sys.executable, str(HERE / "data.py"), "slices", str(source), "--count", str(count)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return source


def flat_subset(source: Path, target: Path, count: int) -> int:
    """Hard links to `count` evenly spread files in one folder: not every peer descends into folders."""
    remove(target)
    target.mkdir()
    files = sorted(source.rglob("*.dcm"))
    count = min(count, len(files))
    for index in range(count):
        path = files[index * len(files) // count]
        os.link(path, target / path.name)
    return count


def progress(text: str) -> None:
    """Print a line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def try_run(contender: Contender, source: Path, work: Path, expected: int) -> Sample | None:
    """Run a contender; after a failure it is left out for good."""
    if contender.error:
        return None
    try:
        return contender.run(source, work, expected)
    except RunError as error:
        contender.error = str(error)
        progress(f"  {contender.name}: FAILED, {error}")
        return None


def measure_fast(contenders: list[Contender], source: Path, work: Path, rounds: int) -> None:
    """One warm-up round and `rounds` measured ones over the whole set, the order turned each round.

    The unit runs at the start, in the middle and at the end of a round, and its median counts: a copy mostly
    measures memory, and its time scatters far more than that of any program that computes something.
    """
    expected = count_files(source)
    unit, others = contenders[0], contenders[1:]
    for number in range(rounds + 1):
        turn = number % max(1, len(others))
        order = others[turn:] + others[:turn]
        middle = len(order) // 2
        unit_samples: list[Sample] = []
        for contender in [unit, *order[:middle], unit, *order[middle:], unit]:
            sample = try_run(contender, source, work, expected)
            if sample is None or number == 0:
                continue
            if contender is unit:
                unit_samples.append(sample)
            else:
                contender.samples.append(sample)
        if unit_samples:
            unit.samples.append(sorted(unit_samples, key=lambda sample: sample.cpu)[len(unit_samples) // 2])
        progress(f"round {number} of {rounds} done" + (" (warm-up)" if number == 0 else ""))


def measure_slow(contenders: list[Contender], source: Path, work: Path, rounds: int, count: int) -> int:
    """Run the slow peers on a subset, after a warm-up; returns the size of the subset."""
    expected = flat_subset(source, work / "subset", count)
    small = flat_subset(source, work / "small", SMALL)
    for contender in contenders:
        try_run(contender, work / "small", work, small)
        contender.small = try_run(contender, work / "small", work, small)
    for number in range(rounds):
        for contender in contenders:
            sample = try_run(contender, work / "subset", work, expected)
            if sample is not None:
                contender.samples.append(sample)
        progress(f"peer round {number + 1} of {rounds} done")
    return expected


def extrapolate(sample: float, small: float, subset: int, files: int) -> float:
    """Cost of `files` files from that of `subset` and of SMALL files: the start-up is counted once."""
    if subset >= files or subset <= SMALL:
        return sample * files / subset
    return small + (sample - small) * (files - SMALL) / (subset - SMALL)


def full_costs(contender: Contender, attribute: str, subset: int, files: int) -> list[float]:
    """CPU or wall seconds of each measured run, carried over to the whole set for slow peers."""
    values = [float(getattr(sample, attribute)) for sample in contender.samples]
    if contender.slow and contender.small is not None:
        small = float(getattr(contender.small, attribute))
        values = [extrapolate(value, small, subset, files) for value in values]
    return values


def relative(contender: Contender, values: list[float], unit: list[float]) -> list[float]:
    """Ratios to the unit: round by round where both ran in the same rounds, else to the unit's median."""
    if contender.slow or contender.name == UNIT or len(values) != len(unit):
        return [value / statistics.median(unit) for value in values]
    return [value / base for value, base in zip(values, unit, strict=True)]


def summarize(contenders: list[Contender], subset: int, files: int) -> list[dict[str, Any]]:
    """One record per contender: ratios, peak memory and raw samples."""
    by_name = {contender.name: contender for contender in contenders}
    cp_cpu, cp_wall = (full_costs(by_name[UNIT], key, subset, files) for key in ("cpu", "wall"))
    plain = by_name.get(PYDICOM)
    pydicom = full_costs(plain, "cpu", subset, files) if plain and not plain.error else []
    records: list[dict[str, Any]] = []
    for contender in contenders:
        record: dict[str, Any] = {"name": contender.name, "version": contender.version}
        if contender.error or not contender.samples:
            records.append({**record, "error": contender.error or "no sample"})
            continue
        cpu, wall = (full_costs(contender, key, subset, files) for key in ("cpu", "wall"))
        record |= {
            "files": subset if contender.slow else files,
            "cpu_to_cp": relative(contender, cpu, cp_cpu),
            "wall_to_cp": relative(contender, wall, cp_wall),
            "cpu_to_pydicom": statistics.median(cpu) / statistics.median(pydicom) if pydicom else None,
            "peak_rss": max(sample.peak_rss for sample in contender.samples),
            "samples": [dataclasses.asdict(sample) for sample in contender.samples],
        }
        records.append(record)
    return records


def table(records: list[dict[str, Any]]) -> str:
    """Show the result as a Markdown table."""
    rows = []
    for record in records:
        name = f"{record['name']} {record['version']}".strip()
        if "error" in record:
            rows.append([name, "failed", "", "", "", ""])
            continue
        to_pydicom = record["cpu_to_pydicom"]
        rows.append(
            [
                name,
                median_and_range(record["cpu_to_cp"]),
                "" if to_pydicom is None else f"{to_pydicom:.2f}",
                median_and_range(record["wall_to_cp"]),
                mib(record["peak_rss"]),
                f"{record['files']} x {len(record['samples'])}",
            ]
        )
    header = ["contender", "CPU / cp -r", "CPU / pydicom", "wall / cp -r", "peak RSS MiB", "files x rounds"]
    return markdown_table(header, rows)


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Speed of header de-identification in units of cp -r.")
    parser.add_argument("--files", type=int, default=1000, help="CT slices (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after one warm-up")
    parser.add_argument("--work", type=Path, help="folder for temporary data (default: a new one)")
    parser.add_argument("--no-peers", action="store_true", help="only cp, dicomshield and pydicom")
    parser.add_argument("--peer-python", default=sys.executable, help="Python that has the peers installed")
    parser.add_argument("--peer-rounds", type=int, default=1, help="rounds for the slow peers")
    parser.add_argument("--peer-files", type=int, default=200, help="files for the slow peers, 0 for all")
    parser.add_argument("--json", type=Path, help="write ratios and raw samples to this file")
    return parser.parse_args()


def run(args: argparse.Namespace, work: Path) -> None:
    """Build the data, measure everything, print the table."""
    contenders, missing = find_contenders(work, args.peer_python, not args.no_peers)
    for name in missing:
        progress(f"skipped, not installed: {name}")
    progress(f"building {args.files} slices")
    source = build_input(work, args.files)
    adopt_orphans()
    measure_fast([contender for contender in contenders if not contender.slow], source, work, args.rounds)
    slow = [contender for contender in contenders if contender.slow]
    subset = args.files
    if slow:
        subset = measure_slow(slow, source, work, args.peer_rounds, args.peer_files or args.files)

    facts = environment(work)
    size = sum(path.stat().st_size for path in source.rglob("*.dcm")) / args.files
    facts["data"] = f"{args.files} CT slices of {size / 1000:.0f} kB on average"
    records = summarize(contenders, subset, args.files)
    print("\n".join(f"- {key}: {value}" for key, value in facts.items()))
    print()
    print(table(records))
    if slow and subset < args.files:
        names = ", ".join(contender.name for contender in slow)
        print(f"\nRan on {subset} files, carried over to {args.files} (start-up counted once): {names}.")
    for name in missing:
        print(f"\nSkipped, not installed: {name}.")
    for record in records:
        if "error" in record:
            print(f"\nFailed: {record['name']}: {record['error']}")
    if args.json:
        result = {"environment": facts, "results": records, "skipped": missing}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """Command line entry."""
    args = parse_arguments()
    if args.files < 1 or args.rounds < 1 or args.peer_rounds < 1 or args.peer_files < 0:
        sys.exit("error: --files, --rounds and --peer-rounds must be at least 1, --peer-files at least 0")
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicomshield-bench-", dir=args.work) as folder:
        run(args, Path(folder))


if __name__ == "__main__":
    main()

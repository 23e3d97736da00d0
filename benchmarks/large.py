"""Cost of one very large native multi-frame file, in units of ``cp`` on the same file.

The interesting number is the peak memory: it should not grow with the file. See README.md in this folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from header import PYDICOM, dicomshield_contender, loop_contender, progress, try_run
from measure import (
    HERE,
    Contender,
    adopt_orphans,
    distribution_version,
    environment,
    markdown_table,
    median_and_range,
    mib,
    remove,
)

UNIT = "cp -r"


def find_contenders(with_pydicom: bool) -> tuple[list[Contender], list[str]]:
    """Find what can run here, and what is not installed."""
    found = [Contender(UNIT, lambda source, target, _: ["cp", "-r", str(source), str(target)])]
    missing: list[str] = []
    version = distribution_version(sys.executable, "dicomshield", "dicomshield")
    if version is None:
        missing.append("dicomshield")
    else:
        found.append(dicomshield_contender(1, version))
    if with_pydicom:
        version = distribution_version(sys.executable, "pydicom", "pydicom")
        if version is None:
            missing.append("pydicom")
        else:
            found.append(loop_contender(PYDICOM, "pydicom", sys.executable, version))
    return found, missing


def build_input(work: Path, gib: float, sparse: bool) -> Path:
    """Make a folder with the large file, built in a process of its own."""
    source = work / "in"
    remove(source)
    command = [sys.executable, str(HERE / "data.py"), "large", str(source / "large.dcm"), "--gib", str(gib)]
    if sparse:
        command.append("--sparse")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return source


def summarize(contenders: list[Contender]) -> list[dict[str, Any]]:
    """One record per contender: ratios to cp, peak memory and raw samples."""
    unit = contenders[0].samples
    records: list[dict[str, Any]] = []
    for contender in contenders:
        record: dict[str, Any] = {"name": contender.name, "version": contender.version}
        if contender.error:
            records.append({**record, "error": contender.error})
            continue
        cpu = [sample.cpu for sample in contender.samples]
        wall = [sample.wall for sample in contender.samples]
        record |= {
            "cpu_to_cp": [value / statistics.median(base.cpu for base in unit) for value in cpu],
            "wall_to_cp": [value / statistics.median(base.wall for base in unit) for value in wall],
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
            rows.append([name, "failed", "", ""])
            continue
        ratios = [median_and_range(record[key]) for key in ("cpu_to_cp", "wall_to_cp")]
        rows.append([name, *ratios, mib(record["peak_rss"])])
    return markdown_table(["contender", "CPU / cp -r", "wall / cp -r", "peak RSS MiB"], rows)


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description="One large multi-frame file in units of cp.")
    parser.add_argument("--gib", type=float, default=2.0, help="size of the pixel data (default %(default)s)")
    parser.add_argument("--sparse", action="store_true", help="pixels as a hole: quick, but no fair unit")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds after one warm-up")
    parser.add_argument("--with-pydicom", action="store_true", help="also a plain pydicom load and save")
    parser.add_argument("--work", type=Path, help="folder for temporary data (default: a new one)")
    parser.add_argument("--json", type=Path, help="write ratios and raw samples to this file")
    args = parser.parse_args()
    if args.rounds < 1 or args.gib <= 0:
        sys.exit("error: --rounds must be at least 1 and --gib more than 0")
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicomshield-bench-", dir=args.work) as folder:
        work = Path(folder)
        contenders, missing = find_contenders(args.with_pydicom)
        progress(f"building one file of {args.gib} GiB")
        source = build_input(work, args.gib, args.sparse)
        adopt_orphans()
        for number in range(args.rounds + 1):
            for contender in contenders:
                sample = try_run(contender, source, work, 1)
                if sample is not None and number > 0:
                    contender.samples.append(sample)
            progress(f"round {number} of {args.rounds} done" + (" (warm-up)" if number == 0 else ""))
        facts = environment(work)
        facts["data"] = f"one native multi-frame file, {(source / 'large.dcm').stat().st_size} bytes"
    records = summarize(contenders)
    print("\n".join(f"- {key}: {value}" for key, value in facts.items()))
    print()
    print(table(records))
    for name in missing:
        print(f"\nSkipped, not installed: {name}.")
    for record in records:
        if "error" in record:
            print(f"\nFailed: {record['name']}: {record['error']}")
    if args.json:
        result = {"environment": facts, "results": records, "skipped": missing}
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Cost of masking pixels, in units of ``cp -r`` on the same files.

Every contender runs as a whole process on the same synthetic images, in interleaved rounds; see README.md in this
folder. What is measured in memory comes from kernels.py, which this runs too.
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

from header import UNIT, full_costs, measure_fast, measure_slow, progress, relative
from measure import (
    HERE,
    Contender,
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
    run_measured,
)
from plot import Curve, Panel, drawn

SHIELD, ONE_FRAME, START = "dicomshield", "dicomshield, first frame only", "dicomshield, one small object"
PYDICOM, GDCM, DEID = "pydicom, decode and save", "gdcmimg", "deid"
TURBO, PYLIBJPEG, PYDICOM_RLE = (
    "libjpeg-turbo, decode only",
    "pylibjpeg-rle, decode + encode",
    "pydicom, decode + encode",
)
LEAN = 64
"""MiB over the interpreter that a workload may take where memory is promised."""
FRAME, JPEG_FRAME = 768 * 1024 * 3, 216_000
"""Bytes of a frame of a cine, native and compressed, about."""
OF_CT, OF_MG, OF_CINE = (
    ("0,0,512,40", "384,448,128,64"),
    ("0,0,4640,200", "3600,5200,1000,400"),
    ("0,0,1024,64", "768,640,256,128"),
)
"""Two rectangles, x,y,width,height."""
POLICY = f"""\
[[mask]]
name = "first frame"
when = {{}}
frames = [0, 1]
regions = [{", ".join(f"[{one}]" for one in OF_CINE)}]
"""


@dataclasses.dataclass(frozen=True)
class Workload:
    """Files to mask, what masks them, and what is promised.

    Attributes
    ----------
    key, title : str
    data : tuple of str
        Arguments of data.py; ``{in}`` stands for the folder.
    rectangles : tuple of str
        ``x,y,width,height``
    contenders : tuple of str
        Besides `cp -r`.
    targets : tuple of (str, str, float)
        A contender takes at most so many times the CPU time of another.
    reference : str
        The contender that others are compared with besides `cp -r`.
    one : tuple of str
        Arguments of data.py for one small object of the kind.
    slow : tuple of str
        Contenders that run on a subset, once.
    subset : int
        Files of that.
    lean : bool
        Whether dicomshield's memory is promised.
    """

    key: str
    title: str
    data: tuple[str, ...]
    rectangles: tuple[str, ...]
    contenders: tuple[str, ...]
    targets: tuple[tuple[str, str, float], ...]
    reference: str = ""
    one: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    subset: int = 0
    lean: bool = False


class StartUp(Contender):
    """Runs on one small object, whatever the others run on: what it costs is counted as start-up."""

    def run(self, _source: Path, work: Path, _expected: int) -> Sample:
        """Run on the small object."""
        return super().run(work / "one", work, 1)


def workloads(quick: bool, gib: float) -> tuple[Workload, ...]:
    """Return all of them; `gib` is the size of the native cine."""
    slices, mammograms, jpegs, frames, rles, few = (8, 1, 1, 8, 2, 1) if quick else (1000, 20, 4, 300, 8, 12)
    native = 4 if quick else int(gib * (1 << 30)) // FRAME
    slice_, cine = ("slices", "{in}", "--count", "1"), ("cines", "{in}", "--frames", "1")
    return (
        Workload(
            "ct", f"{slices} CT slices, header and 2 rectangles",
            ("slices", "{in}", "--count", str(slices)), OF_CT,
            (SHIELD, PYDICOM, GDCM, DEID), ((SHIELD, UNIT, 2.5),), one=slice_,
            slow=(GDCM, DEID), subset=min(200, slices // 2),
        ),
        Workload(
            "mg", f"{mammograms} mammograms of 50 MiB, 2 rectangles",
            ("mammograms", "{in}", "--count", str(mammograms)), OF_MG,
            (SHIELD, PYDICOM, GDCM), ((SHIELD, UNIT, 1.2),), one=slice_, slow=(GDCM,), subset=5, lean=True,
        ),
        Workload(
            "cine", f"A native colour cine of {native} frames, {native * FRAME / (1 << 30):.2f} GiB, 2 rectangles",
            ("cines", "{in}", "--frames", str(native)), OF_CINE,
            (SHIELD, PYDICOM, GDCM), ((SHIELD, UNIT, 1.5),), one=cine, lean=True,
        ),
        Workload(
            "jpeg", f"{jpegs} JPEG Baseline cines (4:2:2) of {frames} frames, 2 rectangles",
            ("cines", "{in}", "--count", str(jpegs), "--frames", str(frames), "--coding", "jpeg"), OF_CINE,
            (SHIELD, ONE_FRAME, TURBO, PYDICOM), ((SHIELD, TURBO, 1.2),),
            reference=TURBO, one=(*cine, "--coding", "jpeg"), slow=(PYDICOM,), subset=2,
        ),
        Workload(
            "rle", f"{rles} RLE cines of {few} frames, 2 rectangles",
            ("cines", "{in}", "--count", str(rles), "--frames", str(few), "--coding", "rle"), OF_CINE,
            (SHIELD, PYLIBJPEG, GDCM, PYDICOM_RLE), ((SHIELD, PYLIBJPEG, 1 / 3), (SHIELD, PYDICOM_RLE, 1 / 3)),
            reference=PYLIBJPEG, one=(*cine, "--coding", "rle"), slow=(PYDICOM_RLE,), subset=3,
        ),
    )  # fmt: skip


def versions(peer_python: str) -> dict[str, str | None]:
    """Return the version of each contender that is installed."""
    own = sys.executable
    gdcm = program_version("gdcmimg", "--version")
    shield = distribution_version(own, "dicomshield", "dicomshield")
    pydicom = distribution_version(own, "pydicom", "pydicom")
    return {
        UNIT: "",
        SHIELD: shield,
        ONE_FRAME: shield,
        START: shield,
        PYDICOM: pydicom,
        PYDICOM_RLE: pydicom,
        TURBO: distribution_version(own, "imagecodecs", "imagecodecs"),
        PYLIBJPEG: distribution_version(own, "pylibjpeg-rle", "rle"),
        GDCM: gdcm.removeprefix("gdcmimg: gdcm ").split()[0] if gdcm else None,
        DEID: distribution_version(peer_python, "deid", "deid.dicom.pixels"),
    }


def contender(name: str, workload: Workload, version: str, work: Path, peer_python: str) -> Contender:
    """Describe a contender with the rectangles of a workload."""
    slow = name in workload.slow
    if name == UNIT:
        return Contender(name, lambda source, target, _: ["cp", "-r", str(source), str(target)])
    if name in (SHIELD, ONE_FRAME, START):
        policy = work / "policy.toml"
        policy.write_text(POLICY)
        masks = [word for one in workload.rectangles for word in ("--mask", one)]
        options = ["--policy", str(policy)] if name == ONE_FRAME else masks

        def command(source: Path, target: Path, scratch: Path) -> list[str]:
            start = [sys.executable, "-m", "dicomshield", "deidentify", str(source), str(target)]
            return [*start, "--project", str(scratch / "project"), "--workers", "1", *options]

        return (StartUp if name == START else Contender)(name, command, version, slow)
    loops = {PYDICOM: "pydicom", PYDICOM_RLE: "pydicom-rle", TURBO: "turbo", PYLIBJPEG: "pylibjpeg-rle"}
    python, loop = peer_python if name == DEID else sys.executable, loops.get(name, name)

    def looped(source: Path, target: Path, _: Path) -> list[str]:
        return [python, str(HERE / "pixel_loops.py"), loop, str(source), str(target), *workload.rectangles]

    return Contender(name, looped, version, slow)


def build(arguments: tuple[str, ...], work: Path, name: str = "in") -> Path:
    """Build files in a process of its own, as the runner has to stay small."""
    source = work / name
    remove(source)
    command = [sys.executable, str(HERE / "data.py"), *(word.replace("{in}", str(source)) for word in arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return source


def measure(
    workload: Workload, installed: dict[str, str | None], args: argparse.Namespace, work: Path
) -> dict[str, Any]:
    """Build the files of a workload and run its contenders; return what came of it."""
    progress(f"{workload.key}: building")
    source = build(workload.data, work)
    build(workload.one, work, "one")
    names = [name for name in (UNIT, START, *workload.contenders) if installed[name] is not None]
    contenders = [contender(name, workload, installed[name] or "", work, args.peer_python) for name in names]
    files, subset = count_files(source), 0
    measure_fast([one for one in contenders if not one.slow], source, work, args.rounds)
    slow = [one for one in contenders if one.slow]
    if slow:
        subset = measure_slow(slow, source, work, 1, workload.subset)
    records = [record_of(one, contenders, workload, subset or files, files) for one in contenders]
    by_name = {record["name"]: record for record in records if "cpu" in record}
    for name in {SHIELD, ONE_FRAME} & by_name.keys() if START in by_name else ():
        # that of cp is nothing beside it
        costs = zip(by_name[name]["cpu"], by_name[START]["cpu"], by_name[UNIT]["cpu"], strict=True)
        by_name[name]["less_startup"] = [(cpu - start) / base for cpu, start, base in costs]
    return {"key": workload.key, "title": workload.title, "reference": workload.reference, "records": records}


def record_of(
    one: Contender, all_of_them: list[Contender], workload: Workload, subset: int, files: int
) -> dict[str, Any]:
    """Return what a contender cost, and the ratios to those it is compared with."""
    record: dict[str, Any] = {"name": one.name, "version": one.version}
    if one.error or not one.samples:
        return {**record, "error": one.error or "no sample"}
    units = {UNIT, workload.reference, *(unit for name, unit, _ in workload.targets if name == one.name)}
    cpu, wall = (full_costs(one, kind, subset, files) for kind in ("cpu", "wall"))
    others = {other.name: other for other in all_of_them if other.samples and other.name in units}
    return {
        **record,
        "files": 1 if one.name == START else subset if one.slow else files,
        "cpu": cpu,
        "cpu_to": {name: relative(one, cpu, full_costs(other, "cpu", subset, files)) for name, other in others.items()},
        "wall_to_cp": relative(one, wall, full_costs(others[UNIT], "wall", subset, files)),
        "peak_rss": max(sample.peak_rss for sample in one.samples),
        "samples": [dataclasses.asdict(sample) for sample in one.samples],
    }


def table(result: dict[str, Any], interpreter: int) -> str:
    """Show a workload as a Markdown table."""
    reference = result["reference"]
    header = [
        "contender",
        "CPU / cp -r",
        "less start-up",
        *([f"CPU / {reference}"] if reference else []),
        "wall / cp -r",
    ]
    rows = []
    for record in result["records"]:
        name = f"{record['name']} {record['version']}".strip()
        if "error" in record:
            rows.append([name, "failed", *[""] * (len(header) + 1)])
            continue
        ratios = [record["cpu_to"][UNIT], record.get("less_startup", [])]
        ratios += [record["cpu_to"].get(reference, [])] if reference else []
        rows.append(
            [
                name,
                *(median_and_range(one) if one else "" for one in [*ratios, record["wall_to_cp"]]),
                mib(record["peak_rss"]),
                mib(max(0, record["peak_rss"] - interpreter)),
                f"{record['files']} x {len(record['samples'])}",
            ]
        )
    return markdown_table([*header, "peak RSS MiB", "over the interpreter", "files x rounds"], rows)


def kept(chosen: list[Workload], results: list[dict[str, Any]], kernels: dict[str, Any], interpreter: int) -> str:
    """Compare what was measured with what is promised, as a Markdown table."""
    rows = []
    for workload, result in zip(chosen, results, strict=True):
        records = {record["name"]: record for record in result["records"]}
        for name, unit, limit in workload.targets:
            values = records[name].get("cpu_to", {}).get(unit)
            if values:
                rows.append(
                    [f"{workload.key}: {name}, CPU / {unit}", median_and_range(values), *_verdict(values, limit)]
                )
        if workload.lean and "peak_rss" in records[SHIELD]:
            over = (records[SHIELD]["peak_rss"] - interpreter) / (1 << 20)
            rows.append([f"{workload.key}: MiB over the interpreter", f"{over:.0f}", *_verdict([over], LEAN)])
    for title, values, limit in kernel_targets(kernels):
        rows.append(
            [f"in memory: {title}, medians of {len(values)} kinds", _range(values), *_verdict([max(values)], limit)]
        )
    return markdown_table(["what", "measured", "target", "kept"], rows)


def _verdict(values: list[float], limit: float) -> list[str]:
    return [f"<= {limit:.2f}" if limit < LEAN else f"< {limit}", "yes" if statistics.median(values) <= limit else "no"]


def _range(values: list[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}"


def kernel_targets(kernels: dict[str, Any]) -> list[tuple[str, list[float], float]]:
    """Return what is promised of masking in memory: title, median of each kind, limit."""
    if not kernels:
        return []
    medians = {
        (which, sector): [
            statistics.median(one[which]) for one in kernels["mask"] if one["array"].endswith("sector") == sector
        ]
        for which in ("warm", "cold")
        for sector in (False, True)
    }
    return [
        ("rectangles, CPU / memset, cached", medians["warm", False], 1.3),
        ("rectangles, CPU / memset, not cached", medians["cold", False], 1.3),
        ("polygon, CPU / memset, cached", medians["warm", True], 2.0),
        ("polygon, CPU / memset, not cached", medians["cold", True], 2.0),
        ("JPEG frame, CPU / decode", [statistics.median(one["to_decode"]) for one in kernels["jpeg"]], 1.2),
        (
            "RLE frame, CPU / decode + encode",
            [1 / statistics.median(one["times_faster"]) for one in kernels["rle"]],
            1 / 3,
        ),
    ]


def run_kernels(quick: bool, rounds: int, work: Path) -> tuple[dict[str, Any], str]:
    """Measure in memory, in a process of its own; return the figures, and tables of them."""
    figures = work / "kernels.json"
    options = ["--json", str(figures), "--rounds", str(rounds), *(["--quick"] if quick else [])]
    command = [sys.executable, str(HERE / "kernels.py"), *options]
    tables = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(figures.read_text()), tables


# Slopes


@dataclasses.dataclass(frozen=True)
class Slope:
    """CPU seconds and peak RSS of contenders over the size of something: name -> size -> (seconds, bytes)."""

    title: str
    unit: str
    costs: dict[str, dict[int, tuple[float, int]]]

    def panel(self) -> Panel:
        """Return the CPU seconds as curves."""
        curves = [
            Curve(name, tuple((size, seconds) for size, (seconds, _) in costs.items()))
            for name, costs in self.costs.items()
        ]
        return Panel(self.title, self.unit, "CPU seconds", tuple(curves))

    def table(self) -> str:
        """Return all as a Markdown table."""
        sizes = sorted({size for costs in self.costs.values() for size in costs})
        rows = [
            [name, *(f"{costs[size][0]:.3f} ({mib(costs[size][1])})" for size in sizes)]
            for name, costs in self.costs.items()
        ]
        return markdown_table([f"{self.title}: {self.unit}", *map(str, sizes)], rows)


def slopes(quick: bool, gib: float, installed: dict[str, str | None], work: Path) -> list[Slope]:
    """Measure what masking costs over the number of frames, and over the size of the file."""
    frames = (1, 4) if quick else (1, 4, 16, 64, 256)
    sizes = (1, 4) if quick else tuple(4**power for power in range(7) if 4**power <= gib * 1024)
    by_frames, by_size = [], []
    for number in frames:
        cine: tuple[str, ...] = ("cines", "{in}", "--frames", str(number))
        by_frames += [
            (number, Workload("native", "", cine, OF_CINE, (SHIELD,), ())),
            (number, Workload("JPEG", "", (*cine, "--coding", "jpeg"), OF_CINE, (SHIELD, ONE_FRAME), ())),
        ]
    for size in sizes:
        large = ("large", "{in}/large.dcm", "--gib", str(size / 1024))
        number = max(1, (size << 20) // JPEG_FRAME)
        cine = ("cines", "{in}", "--frames", str(number), "--coding", "jpeg")
        by_size += [
            (size, Workload("native", "", large, OF_CT, (SHIELD,), ())),
            (size, Workload("JPEG", "", cine, OF_CINE, (ONE_FRAME,), ())),
        ]
    return [
        Slope("A cine of 1024 x 768 in colour", "frames", costs_of(by_frames, installed, work)),
        Slope("A file", "MiB", costs_of(by_size, installed, work)),
    ]


def costs_of(
    points: list[tuple[int, Workload]], installed: dict[str, str | None], work: Path
) -> dict[str, dict[int, tuple[float, int]]]:
    """Run contenders side by side, three times after a warm-up, at each point; the median counts."""
    costs: dict[str, dict[int, tuple[float, int]]] = {}
    for size, workload in points:
        progress(f"slope: {workload.key}, {size}")
        source = build(workload.data, work)
        racing = [contender(name, workload, installed[name] or "", work, "") for name in (UNIT, *workload.contenders)]
        for number in range(4):
            for one in racing:
                sample = one.run(source, work, 1)
                one.samples += [sample] * (number > 0)
        remove(source)
        for one in racing:
            seconds = statistics.median(sample.cpu for sample in one.samples)
            peak = max(sample.peak_rss for sample in one.samples)
            costs.setdefault(f"{one.name}: {workload.key}", {})[size] = seconds, peak
    return costs


def parse_arguments(keys: tuple[str, ...]) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description="Cost of masking pixels in units of cp -r.")
    parser.add_argument("--quick", action="store_true", help="a few small files once, to see that it works")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after one warm-up")
    parser.add_argument("--only", action="append", choices=keys, help="repeatable; all if not given")
    parser.add_argument("--cine-gib", type=float, default=1.0, help="size of the native cine")
    parser.add_argument("--max-gib", type=float, default=1.0, help="where the slope over the size of a file ends")
    parser.add_argument("--work", type=Path, help="folder for temporary data (default: a new one)")
    parser.add_argument("--peer-python", default=sys.executable, help="Python that has deid installed")
    parser.add_argument("--plot", type=Path, help="draw the slopes to this SVG file")
    parser.add_argument("--json", type=Path, help="write ratios and raw samples to this file")
    return parser.parse_args()


def run(args: argparse.Namespace, chosen: list[Workload], work: Path) -> None:
    """Measure everything that was asked for, and print tables."""
    installed = versions(args.peer_python)
    adopt_orphans()
    facts = environment(work)
    only_import = [sys.executable, "-c", "import dicomshield"]
    interpreter = run_measured(only_import, work / "last.log").peak_rss
    facts["interpreter"] = f"{mib(interpreter)} MiB with dicomshield imported"
    results = [measure(workload, installed, args, work) for workload in chosen]
    kernels: dict[str, Any] = {}
    tables = ""
    if args.only is None or "memory" in args.only:
        progress("memory")
        kernels, tables = run_kernels(args.quick, 3 * args.rounds, work)
    grown: list[Slope] = []
    if args.only is None or "slope" in args.only:
        grown = slopes(args.quick, args.max_gib, installed, work)
        if args.plot:
            args.plot.write_text(drawn([slope.panel() for slope in grown]))
    print("\n".join(f"- {key}: {value}" for key, value in facts.items()))
    if not args.quick and (chosen or kernels):
        print(f"\n{kept(chosen, results, kernels, interpreter)}")
    for result in results:
        print(f"\n### {result['title']}\n\n{table(result, interpreter)}")
    if tables:
        print(f"\n### In memory\n\n{tables}")
    if grown:
        print("\n### CPU seconds (peak RSS in MiB)\n\n" + "\n\n".join(slope.table() for slope in grown) + "\n")
    for name, version in installed.items():
        if version is None:
            print(f"Skipped, not installed: {name}.")
    for result in results:
        for record in result["records"]:
            if "error" in record:
                print(f"Failed: {result['key']}, {record['name']}: {record['error']}")
    if args.json:
        whole = {"environment": facts, "interpreter": interpreter, "workloads": results, "memory": kernels}
        args.json.write_text(
            json.dumps({**whole, "slopes": [dataclasses.asdict(one) for one in grown]}, indent=2) + "\n"
        )


def main() -> None:
    """Command line entry."""
    keys = tuple(workload.key for workload in workloads(quick=True, gib=1))
    args = parse_arguments((*keys, "memory", "slope"))
    if args.rounds < 1 or min(args.cine_gib, args.max_gib) <= 0:
        sys.exit("error: --rounds must be at least 1, --cine-gib and --max-gib more than 0")
    args.rounds = 1 if args.quick else args.rounds
    if args.work:
        args.work.mkdir(parents=True, exist_ok=True)
    chosen = [one for one in workloads(args.quick, args.cine_gib) if args.only is None or one.key in args.only]
    with tempfile.TemporaryDirectory(prefix="dicomshield-bench-", dir=args.work) as folder:
        run(args, chosen, Path(folder))


if __name__ == "__main__":
    main()

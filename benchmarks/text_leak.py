"""What text detectors leave uncovered: our presets beside tesseract, presidio and stock rapidocr in the same run.

Images come from text_images.py, every finder runs in processes of its own (text_peers.py), and what is scored is its
final mask, with nothing added. See README.md in this folder for what the numbers mean. A run that was stopped goes on
where it was if it is given the same ``--out``.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import math
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from measure import HERE, environment, markdown_table
from numpy.typing import NDArray
from PIL import Image
from text_images import Cine, Item, Labelled, cines, contrasts, image, shown, viewed, with_ring

Mask = NDArray[np.bool_]
Pixels = NDArray[Any]
Row = dict[str, Any]

LEGIBLE, FADED, EASY, EASY_SIZE, AROUND, PAPER = 2.0, 1.0, 0.15, 10, 6, 24
PEERS: Final = {
    "tesseract": ("tesseract psm 3", "tesseract psm 11"), "rapidocr": ("rapidocr detector",),
    "presidio": ("presidio", "presidio, every word"),
}  # fmt: skip
_SIZES: Final = ((9, "to 9 px"), (16, "10 to 16 px"), (24, "17 to 24 px"), (48, "25 to 48 px"), (100, "49 to 100 px"))
_CONTRASTS: Final = ((0.05, "to 5 %"), (0.15, "5 to 15 %"), (0.4, "15 to 40 %"))
_CNR: Final = ((3, "2 to 3"), (5, "3 to 5"), (10, "5 to 10"))


# --- scoring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Score:
    """How one line of text came out.

    Attributes
    ----------
    item : Item
    parts, left : int
        Glyphs, and those of them that are more than half uncovered.
    faded : int
        Glyphs that are left but cannot be told from what is around them, as black ones on black.
    drawn : int
        Glyphs that are covered, but whose shape the mask shows.
    ink, covered : int
        Pixels of all glyphs, and those under the mask.
    """

    item: Item
    parts: int
    left: int
    faded: int
    drawn: int
    ink: int
    covered: int

    @property
    def legible(self) -> bool:
        """Whether it can be read: its contrast is twice the noise around it."""
        return self.item.cnr >= LEGIBLE

    @property
    def easy(self) -> bool:
        """Whether nobody would excuse a detector that leaves it."""
        return self.legible and self.item.contrast >= EASY and self.item.size >= EASY_SIZE


def scores(mask: Mask, items: Sequence[Item], glyphs: NDArray[np.uint16], seen: Pixels) -> list[Score]:
    """Score the lines of an image as it is seen; a glyph is an 8-connected part of a line that is no mere dot of it."""
    contrast_of, done = cache(lambda: contrasts(seen, glyphs)), []
    for number, item in enumerate(items, 1):
        window = with_ring(item.bbox)
        own = (glyphs[window] == number).astype(np.uint8)
        count, parts, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        inside = np.bincount(parts.ravel(), minlength=count)[1:]
        under = np.bincount(parts.ravel(), mask[window].ravel(), count)[1:]
        if not inside.size:
            continue
        length = stats[1:, cv2.CC_STAT_WIDTH : cv2.CC_STAT_HEIGHT + 1].max(1)
        large = (inside >= max(2, 0.25 * float(np.median(inside)))) & (length >= 0.4 * float(np.median(length)))
        gone = under >= 0.5 * inside
        faded = drawn = 0
        for part in 1 + np.flatnonzero(large):
            if gone[part - 1]:
                x, y, wide, high = (int(at) for at in stats[part][:4])
                box = np.s_[y : y + high, x : x + wide]
                drawn += _draws(mask[window][box], own[box])
            else:
                faded += contrast_of()(window, parts == part, item.size)[1] < FADED
        done.append(
            Score(item, int(large.sum()), int((large & ~gone).sum()), faded, drawn, int(inside.sum()), int(under.sum()))
        )
    return done


def _draws(mask: Mask, glyph: NDArray[np.uint8]) -> bool:
    """Return whether a mask follows a glyph: whether it leaves a quarter of the paper within its outline.

    The outline is convex; paper is what is two pixels and more away from ink. Letters without paper have no shape.
    """
    outline = np.zeros_like(glyph)
    cv2.fillConvexPoly(outline, cv2.convexHull(cv2.findNonZero(glyph)), 1)
    paper = outline.astype(bool) & ~cv2.dilate(glyph, np.ones((5, 5), np.uint8)).astype(bool)
    return bool(paper.sum() >= PAPER and mask[paper].mean() < 0.75)


def beyond(mask: Mask, items: Iterable[Item]) -> float:
    """Return the share of an image that is masked beyond `AROUND` pixels from where text is."""
    text = np.zeros(mask.shape, bool)
    for item in items:
        top, left, bottom, right = item.bbox
        text[max(0, top - AROUND) : bottom + AROUND, max(0, left - AROUND) : right + AROUND] = True
    return float((mask & ~text).mean())


def interval(hits: int, number: int, sure: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of Clopper and Pearson (1934) of a share."""
    if not number:
        return 0.0, 1.0
    tail = (1 - sure) / 2
    low = 0.0 if hits == 0 else _crossing(lambda p: _at_least(hits, number, p) - tail)
    high = 1.0 if hits == number else _crossing(lambda p: tail - (1 - _at_least(hits + 1, number, p)))
    return low, high


def _at_least(hits: int, number: int, p: float) -> float:
    """Return the chance of at least so many hits."""
    if p <= 0 or p >= 1:
        return float(p >= 1 or hits <= 0)
    whole, yes, no = math.lgamma(number + 1), math.log(p), math.log1p(-p)
    ways = ((k, whole - math.lgamma(k + 1) - math.lgamma(number - k + 1)) for k in range(hits, number + 1))
    return min(1.0, sum(math.exp(way + k * yes + (number - k) * no) for k, way in ways))


def _crossing(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2


# --- running -------------------------------------------------------------------------------------------------------


def stored(labelled: Labelled | Cine) -> dict[str, Any]:
    """Return what a finder is given of an image or loop."""
    cine = isinstance(labelled, Cine)
    items = [moving.item for moving in labelled.items] if isinstance(labelled, Cine) else list(labelled.items)
    return {
        "pixels": labelled.frames if isinstance(labelled, Cine) else labelled.pixels,
        "picture": np.zeros((0, 0), np.uint8) if isinstance(labelled, Cine) else shown(labelled),
        "photometric": labelled.photometric,
        "bits": labelled.bits,
        "frames": len(labelled.frames) if isinstance(labelled, Cine) else 0,
        "palette": np.zeros(0, np.uint8) if cine or labelled.palette is None else labelled.palette,  # type: ignore[union-attr]
        "texts": np.array([item.text for item in items if item.kind == "identifying"], dtype=str),
    }


def prepare(folder: Path, every: Iterator[tuple[int, Labelled | Cine]]) -> None:
    """Write what finders look at."""
    folder.mkdir(parents=True, exist_ok=True)
    for at, labelled in every:
        path = _stored_at(folder, at)
        if not path.exists():
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.savez_compressed(file, **stored(labelled))
            part.rename(path)


def _stored_at(folder: Path, at: int) -> Path:
    return folder / f"{at:06d}.npz"


def run(name: str, python: str, images: Path, out: Path, workers: int) -> bool:
    """Let a finder look at all images in so many processes; say whether it could."""
    out.mkdir(parents=True, exist_ok=True)
    command = [python, str(HERE / "text_peers.py"), name, str(images), str(out)]
    running = [subprocess.Popen([*command, str(share), str(workers)]) for share in range(workers)]
    return not any([process.wait() for process in running])


def read_mask(path: Path) -> tuple[Mask, dict[str, float]]:
    """Return a mask and what it cost."""
    with np.load(path, allow_pickle=False) as found:
        rows, columns = (int(size) for size in found["shape"])
        mask = np.unpackbits(found["mask"], axis=1)[:, :columns].astype(bool).reshape(rows, columns)
        return mask, {key: float(found[key]) for key in ("cpu", "wall", "rss")}


def row_of(name: str, at: int, labelled: Labelled, mask: Mask, cost: dict[str, float]) -> Row:
    """Return all that is known of one image under one finder."""
    rows, columns = mask.shape
    return {
        "finder": name, "image": at, "modality": labelled.modality, "background": labelled.background,
        "layout": labelled.layout, "photometric": labelled.photometric, "bits": labelled.bits,
        "megapixels": rows * columns / 1e6, "cpu": cost["cpu"], "rss_mib": cost["rss"] / 1024,
        "masked": float(mask.mean()), "beyond": beyond(mask, labelled.items),
        "scores": scores(mask, labelled.items, labelled.glyphs, viewed(labelled)),
    }  # fmt: skip


# --- reporting -----------------------------------------------------------------------------------------------------


def _leaks(row: Row, which: Callable[[Score], bool], faded: bool = True) -> bool | None:
    """Return whether an image leaks, faded glyphs or only others; None if it has no identifying line of the kind."""
    meant = [score for score in row["scores"] if score.item.kind == "identifying" and which(score)]
    return any(score.left > (0 if faded else score.faded) for score in meant) if meant else None


def _rate(rows: Iterable[Row], which: Callable[[Score], bool], faded: bool = True) -> tuple[int, int]:
    found = [leak for leak in (_leaks(row, which, faded) for row in rows) if leak is not None]
    return sum(found), len(found)


def _percent(hits: int, number: int) -> str:
    low, high = interval(hits, number)
    return f"{100 * hits / max(1, number):.2f} % [{100 * low:.2f}..{100 * high:.2f}] ({hits}/{number})"


def summary(rows: Sequence[Row]) -> Row:
    """Return the numbers of one finder."""
    every = [score for row in rows for score in row["scores"]]
    legible = [score for score in every if score.legible]
    read = [score for score in legible if score.item.kind == "identifying"]
    with_text, without = [row for row in rows if row["scores"]], [row for row in rows if not row["scores"]]
    return {
        "finder": rows[0]["finder"],
        "legible": _rate(rows, lambda score: score.legible),
        "seen": _rate(rows, lambda score: score.legible, faded=False), "easy": _rate(rows, lambda score: score.easy),
        "any": _rate(rows, lambda _: True),
        "lines": (sum(s.left > 0 for s in read), len(read)), "drawn": (sum(s.drawn > 0 for s in legible), len(legible)),
        "recall_legible": sum(s.covered for s in legible) / max(1, sum(s.ink for s in legible)),
        "recall": sum(s.covered for s in every) / max(1, sum(s.ink for s in every)),
        "beyond": float(np.mean([row["beyond"] for row in with_text] or [0])),
        "free_masked": float(np.mean([row["masked"] for row in without] or [0])),
        "free_hit": float(np.mean([row["masked"] > 0 for row in without] or [0])),
        "cpu_per_megapixel": sum(row["cpu"] for row in rows) / sum(row["megapixels"] for row in rows),
        "rss_mib": max(row["rss_mib"] for row in rows),
        "images": len(rows), "text_free": len(without),
    }  # fmt: skip


def _class(value: float, bounds: Sequence[tuple[float, str]], last: str) -> str:
    return next((name for bound, name in bounds if value <= bound), last)


def _rotation(item: Item) -> str:
    if item.rotation % 90 == 0:
        return f"{item.rotation:g}"
    return "to 10 off" if min(item.rotation, 360 - item.rotation) <= 10 else "other"


_KINDS: Final[dict[str, Callable[[Row, Item], str]]] = {
    "size": lambda _, item: _class(item.size, _SIZES, "over 100 px"),
    "contrast": lambda _, item: _class(item.contrast, _CONTRASTS, "over 40 %"),
    "contrast to noise": lambda _, item: _class(item.cnr, _CNR, "over 10"),
    "script": lambda _, item: item.script,
    "rotation": lambda _, item: _rotation(item),
    "letters": lambda _, item: item.face,
    "style": lambda _, item: item.style,
    "length": lambda _, item: _class(len(item.text), ((2, "1 to 2 letters"), (5, "3 to 5")), "6 and more"),
    "layout": lambda row, _: str(row["layout"]),
    "modality": lambda row, _: str(row["modality"]),
    "photometric": lambda row, _: str(row["photometric"]),
}


def breakdown(rows: Sequence[Row], kind: Callable[[Row, Item], str]) -> dict[str, tuple[int, int]]:
    """Return leaking and all legible identifying lines of each class."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        for score in row["scores"]:
            if score.legible and score.item.kind == "identifying":
                cell = found[kind(row, score.item)]
                cell[0] += score.left > 0
                cell[1] += 1
    return {name: (hits, number) for name, (hits, number) in sorted(found.items())}


def report(by_finder: dict[str, list[Row]]) -> str:
    """Return the tables."""
    head = (
        "finder", "images that leak, legible", "by a glyph that can be seen", "easy", "any contrast",
        "lines that leak, legible", "lines that the mask draws", "ink found, legible", "ink found, all",
        "masked beyond text", "masked, text-free", "text-free with any mask", "CPU s/MP", "RSS MiB",
    )  # fmt: skip
    body = [_line(summary(rows)) for rows in by_finder.values()]
    parts = [markdown_table(head, body)]
    for title, kind in _KINDS.items():
        cells = {name: breakdown(rows, kind) for name, rows in by_finder.items()}
        classes = sorted({one for found in cells.values() for one in found}, key=_order)
        lines = [(one, *(_cell(found.get(one)) for found in cells.values())) for one in classes]
        parts.append(
            f"### Legible identifying lines that leak, by {title}\n\n" + markdown_table((title, *cells), lines)
        )
    return "\n\n".join(parts)


def _order(name: str) -> tuple[bool, int, str]:
    """Sort classes by where they begin."""
    first = re.match(r"\d+", name)
    return name.startswith("over"), int(first[0]) if first else -1, name


def _line(s: Row) -> tuple[str, ...]:
    shares = (_percent(*s[key]) for key in ("legible", "seen", "easy", "any", "lines", "drawn"))
    masked = (f"{100 * s[key]:.2f} %" for key in ("beyond", "free_masked"))
    return (
        s["finder"], *shares, f"{s['recall_legible']:.4f}", f"{s['recall']:.4f}", *masked,
        f"{100 * s['free_hit']:.0f} %", f"{s['cpu_per_megapixel']:.2f}", f"{s['rss_mib']:.0f}",
    )  # fmt: skip


def _cell(found: tuple[int, int] | None) -> str:
    return f"{found[0]}/{found[1]}" if found else ""


def pictured(labelled: Labelled, mask: Mask, found: Sequence[Score]) -> NDArray[np.uint8]:
    """Return an image beside itself with the mask outlined, found ink green and lost ink red, around what leaks."""
    plain = shown(labelled)
    plain = np.repeat(plain[..., None], 3, 2) if plain.ndim == 2 else plain
    marked = plain.copy()
    ink = labelled.glyphs > 0
    around = cv2.dilate(ink.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~ink
    marked[around & mask], marked[around & ~mask] = (0, 200, 0), (255, 0, 0)
    edge = mask ^ cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    marked[edge] = (80, 120, 255)
    boxes = np.array([score.item.bbox for score in found if score.left])
    rows, columns = mask.shape
    top, left = (max(0, int(low) - 40) for low in boxes[:, :2].min(0))
    bottom, right = (min(size, int(high) + 40) for size, high in zip((rows, columns), boxes[:, 2:].max(0), strict=True))
    return np.concatenate(
        [plain[top:bottom, left:right], marked[top:bottom, left:right]], 0 if right - left > bottom - top else 1
    )


def plotted(by_finder: dict[str, list[Row]]) -> str:
    """Return a picture of the shares of images that leak, with their intervals, on a logarithmic axis."""
    left, width, line, least = 190, 430, 26, 5e-4
    height, right = 76 + line * len(by_finder), left + width + 30

    def at(share: float) -> str:
        return f"{left + width * (1 - math.log10(max(share, least)) / math.log10(least)):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right} {height}"',
        ' font-family="sans-serif" font-size="11">',
        f'<rect width="{right}" height="{height}" fill="white"/>',
        f'<text x="{left}" y="16" font-weight="bold">Images of which some identifying letter stays readable</text>',
    ]  # fmt: skip
    for share in (0.001, 0.01, 0.1, 1):
        parts.append(f'<line x1="{at(share)}" y1="24" x2="{at(share)}" y2="{height - 26}" stroke="#ddd"/>')
        parts.append(f'<text x="{at(share)}" y="{height - 12}" text-anchor="middle">{100 * share:g} %</text>')
    for number, (name, rows) in enumerate(by_finder.items()):
        y, found = 40 + line * number, summary(rows)
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        for (hits, images), colour, up in ((found["legible"], "#0072b2", y - 4), (found["easy"], "#e69f00", y + 4)):
            low, high = interval(hits, images)
            line_ = f'<line x1="{at(low)}" y1="{up}" x2="{at(high)}" y2="{up}" stroke="{colour}" stroke-width="2"/>'
            parts += [line_, f'<circle cx="{at(hits / max(1, images))}" cy="{up}" r="3.5" fill="{colour}"/>']
    legend = '<tspan fill="#0072b2">legible</tspan> <tspan fill="#e69f00">easy</tspan>'
    return "\n".join([*parts, f'<text x="8" y="{height - 12}">{legend}</text>', "</svg>", ""])


# --- loops ---------------------------------------------------------------------------------------------------------


def cine_rows(name: str, every: Iterator[tuple[int, Cine]], masks: Path) -> list[Row]:
    """Return a row for each line of each loop: a leak is a glyph left in any frame."""
    rows = []
    for at, cine in every:
        mask, cost = read_mask(_stored_at(masks, at))
        for number, moving in enumerate(cine.items, 1):
            frames = range(moving.first, moving.end)
            left = sum(
                _left_in(mask, cine.glyphs[frame] == number, moving.item, cine.frames[frame]) for frame in frames
            )
            rows.append({
                "finder": name, "loop": at, "background": cine.background, "motion": moving.motion,
                "text": moving.item.text,
                "legible": moving.item.cnr >= LEGIBLE, "frames": len(frames), "leaking_frames": left,
                "cpu": cost["cpu"], "megapixels": cine.glyphs.size / 1e6, "masked": float(mask.mean()),
            })  # fmt: skip
    return rows


def _left_in(mask: Mask, own: Mask, item: Item, seen: Pixels) -> bool:
    rows, columns = mask.shape
    whole = Item(item.text, item.kind, item.script, item.font, item.face, item.size, 0, "", 1, 9, (0, 0, rows, columns))
    return any(score.left for score in scores(mask, [whole], own.astype(np.uint16), seen))


def cine_report(rows: Sequence[Row]) -> str:
    """Return the table of loops."""
    body = []
    for name in dict.fromkeys(row["finder"] for row in rows):
        own = [row for row in rows if row["finder"] == name]
        loops = {row["loop"]: row for row in own}.values()
        cells = []
        for motion in ("static", "changing", "transient"):
            meant = [row for row in own if row["motion"] == motion and row["legible"]]
            cells.append(f"{sum(row['leaking_frames'] > 0 for row in meant)}/{len(meant)}")
        cpu = sum(row["cpu"] for row in loops) / sum(row["megapixels"] for row in loops)
        body.append((name, *cells, f"{cpu:.3f}", f"{100 * float(np.mean([row['masked'] for row in loops])):.2f} %"))
    return markdown_table(("finder", "static", "changing", "transient", "CPU s per MP of loop", "masked"), body)


# --- command line --------------------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("development", "held-out"), default="development")
    parser.add_argument("--number", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cines", type=int, default=0, help="loops, besides the images; ours only")
    parser.add_argument("--presets", default="light,default,paranoid", help="of dicomshield, may be empty")
    parser.add_argument("--peers", default="", help=f"some of {','.join(PEERS)}")
    parser.add_argument(
        "--peer-python", action="append", default=[], metavar="PEER=PYTHON", help="where a peer is installed"
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder of masks, rows, pictures and tables")
    parser.add_argument("--pictures", type=int, default=40, help="of leaks, for each finder")
    parser.add_argument("--keep", action="store_true", help="keep the images for another run")
    return parser.parse_args()


def _flat(row: Row) -> Iterator[Row]:
    """Yield a line of the CSV for each line of text, or one if there is none."""
    plain = {key: value for key, value in row.items() if key != "scores"}
    for score in row["scores"] or [None]:
        item = score.item if score else None
        yield plain | {
            "text": item.text if item else "", "kind": item.kind if item else "", "script": item.script if item else "",
            "font": item.font if item else "", "face": item.face if item else "", "size": item.size if item else "",
            "rotation": item.rotation if item else "", "style": item.style if item else "",
            "contrast": item.contrast if item else "", "cnr": item.cnr if item else "",
            "glyphs": score.parts if score else 0, "leaking_glyphs": score.left if score else 0,
            "faded_glyphs": score.faded if score else 0, "drawn_glyphs": score.drawn if score else 0,
            "ink": score.ink if score else 0, "covered": score.covered if score else 0,
        }  # fmt: skip


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file."""
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def measured(options: argparse.Namespace, names: Sequence[str]) -> dict[str, list[Row]]:
    """Score every finder on every image, and draw what leaks."""
    found: dict[str, list[Row]] = {name: [] for name in names}
    drawn: dict[str, int] = defaultdict(int)
    for at in range(options.number):
        labelled = image(options.part, options.seed, at)
        for name in names:
            mask, cost = read_mask(_stored_at(options.out / "masks" / name, at))
            row = row_of(name, at, labelled, mask, cost)
            found[name].append(row)
            if _leaks(row, lambda score: score.legible) and drawn[name] < options.pictures:
                drawn[name] += 1
                leaking = [score for score in row["scores"] if score.legible and score.item.kind == "identifying"]
                folder = options.out / "leaks" / name
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pictured(labelled, mask, leaking)).save(folder / f"{at:06d}.png")
    return found


def _machine(out: Path) -> str:
    found = environment(out)
    return ", ".join(found[key] for key in ("date", "python", "system", "cpu"))


def begun(options: argparse.Namespace) -> None:
    """Note what a folder is of, or refuse to mix it with something else."""
    code = (f"text_{name}.py" for name in ("fonts", "grounds", "scene", "layouts", "images"))
    drawn = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in code)).hexdigest()
    now = {"part": options.part, "seed": options.seed, "generator": drawn}
    note = options.out / "run.json"
    options.out.mkdir(parents=True, exist_ok=True)
    if note.exists() and json.loads(note.read_text(encoding="utf-8")) != now:
        raise SystemExit(f"{options.out} holds another run: take another folder")
    note.write_text(json.dumps(now), encoding="utf-8")


def main() -> int:
    """Run what is asked for and write the report."""
    options = _arguments()
    python = dict(pair.split("=", 1) for pair in options.peer_python)
    wanted = [(f"dicomshield {preset}", sys.executable) for preset in options.presets.split(",") if preset]
    wanted += [
        (name, python.get(peer, sys.executable)) for peer in options.peers.split(",") if peer for name in PEERS[peer]
    ]
    pictures, loops = options.out / "images", options.out / "loops"
    begun(options)
    shutil.rmtree(options.out / "leaks", ignore_errors=True)
    missing = (at for at in range(options.number) if not _stored_at(pictures, at).exists())
    prepare(pictures, ((at, image(options.part, options.seed, at)) for at in missing))
    names = [
        name for name, where in wanted if run(name, where, pictures, options.out / "masks" / name, options.workers)
    ]
    for name, _ in wanted:
        if name not in names:
            print(f"{name}: could not run", file=sys.stderr)
    found = measured(options, names)
    text = f"{options.part}, seed {options.seed}, {options.number} images; {_machine(options.out)}\n\n{report(found)}\n"
    write_rows(options.out / "rows.csv", (line for rows in found.values() for row in rows for line in _flat(row)))
    (options.out / "summary.json").write_text(
        json.dumps([summary(rows) for rows in found.values()], indent=1), encoding="utf-8"
    )
    (options.out / "leaks.svg").write_text(plotted(found), encoding="utf-8")
    if options.cines:
        text += f"\n### Loops: legible lines that leak in some frame\n\n{_looped(options, loops, names)}\n"
    (options.out / "report.md").write_text(text, encoding="utf-8")
    print(text)
    if not options.keep:
        shutil.rmtree(pictures)
        shutil.rmtree(loops, ignore_errors=True)
    return 0 if len(names) == len(wanted) else 1


def _looped(options: argparse.Namespace, folder: Path, names: Sequence[str]) -> str:
    def every() -> Iterator[tuple[int, Cine]]:
        return enumerate(cines(options.part, options.cines, options.seed))

    prepare(folder, every())
    rows: list[Row] = []
    for name in (name for name in names if name.startswith("dicomshield")):
        masks = options.out / "loop masks" / name
        if run(name, sys.executable, folder, masks, options.workers):
            rows += cine_rows(name, every(), masks)
    write_rows(options.out / "loops.csv", rows)
    return cine_report(rows)


if __name__ == "__main__":
    raise SystemExit(main())

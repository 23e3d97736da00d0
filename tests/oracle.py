"""One oracle for all masked files: other people's decoders read them before and after, and every pixel is compared.

``python tests/oracle.py FOLDER`` prints the table of docs/pixels.md.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.pixels.utils import pixel_array

from dicomshield import Quarantined, Region
from dicomshield.encoding.source import Source
from dicomshield.masker import Masker
from dicomshield.opened import opened, pixel_element
from dicomshield.pixels.decode import Frames
from dicomshield.pixels.jpeg import aligned
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Box, compiled
from dicomshield.profile import Profile
from dicomshield.storage import Storage

_4 = "1.2.840.10008.1.2.4."
_NATIVE = ("", *(f"1.2.840.10008.1.2{end}" for end in ("", ".1", ".1.99", ".2")))
LOSSY_JPEG = (f"{_4}50", f"{_4}51")
_Pixels = NDArray[np.generic]
_Mask = NDArray[np.bool_]
_RING = 1
"""Pixels on either side of a mask that smoothing of subsampled chrominance mixes."""


class Verdict(NamedTuple):
    """What the decoders say of one masked file.

    Attributes
    ----------
    syntax, form : str
        Transfer syntax, and the form of the pixels.
    agreed : tuple of str
        Decoders that read the same outside and only the fill inside.
    wrong : tuple of str
        Decoders that do not, or cannot read the output although they read the original.
    held : str
        Why it was not masked.
    """

    syntax: str
    form: str
    agreed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    held: str = ""


def _frames(ds: pydicom.Dataset, pixels: _Pixels) -> _Pixels:
    return pixels.reshape(int(ds.get("NumberOfFrames") or 1), ds.Rows, ds.Columns, ds.get("SamplesPerPixel", 1))


def by_pydicom(path: Path) -> _Pixels:
    """Decode with pydicom and whatever plugins it has, other than ours."""
    ds = pydicom.dcmread(path, force=True)
    return _frames(ds, pixel_array(ds, raw=True) if "PixelData" in ds else ds.pixel_array)


def by_imagecodecs(path: Path) -> _Pixels:
    """Decode with imagecodecs, through the frames that a preview shows."""
    with Source.open(path) as source:
        container, scan, header = opened(source, Profile().scanner, Profile().facts)
        element = pixel_element(scan)
        assert element is not None
        assert not element.defined
        frames = Frames(container.source, element, Layout.of(header), container.transfer_syntax)
        return _frames(pydicom.dcmread(path, force=True), np.stack([frames[at] for at in range(len(frames))]))


def by_openjpeg(path: Path) -> _Pixels:
    """Decode High-Throughput JPEG 2000 with OpenJPEG, where imagecodecs uses OpenJPH."""
    from openjpeg.utils import decode

    ds = pydicom.dcmread(path)
    fragments = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames") or 1))
    return _frames(ds, np.stack([decode(fragment) for fragment in fragments]))


def _by_tool(*command: str) -> Callable[[Path], _Pixels]:
    def decode(path: Path) -> _Pixels:
        with TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            subprocess.run([*command, path, out], check=True, capture_output=True, timeout=60)
            return by_pydicom(out)

    return decode


DECODERS: dict[str, Callable[[Path], _Pixels]] = {
    "pydicom": by_pydicom,
    "imagecodecs": by_imagecodecs,
    "pylibjpeg": by_openjpeg,
    "gdcmconv": _by_tool("gdcmconv", "--raw"),
    "dcmdjpeg": _by_tool("dcmdjpeg", "+cn"),
    "dcmdjpls": _by_tool("dcmdjpls"),
    "dcmdrle": _by_tool("dcmdrle"),
}
_OF = {f"{_4}{end}": "dcmdjpeg" for end in (50, 51, 57, 70)} | {f"{_4}{end}": "dcmdjpls" for end in (80, 81)}
_OF |= {f"{_4}{end}": "pylibjpeg" for end in (201, 202, 203)} | {"1.2.840.10008.1.2.5": "dcmdrle"}


def decoders(ds: pydicom.Dataset) -> Iterator[str]:
    """Name the decoders that can have a word about an object."""
    syntax = ds.file_meta.get("TransferSyntaxUID", "")
    yield "pydicom"
    if syntax not in _NATIVE:
        yield "imagecodecs"
    # GDCM reads 32-bit words of Explicit VR Big Endian in the wrong order, also where nothing was masked
    if not (syntax == "1.2.840.10008.1.2.2" and ds.BitsAllocated > 16):
        yield "gdcmconv"
    if syntax in _OF:
        yield _OF[syntax]


def regions(rows: int, columns: int) -> tuple[Region, Region]:
    """Return a band across the top, and a box in the middle."""
    top, left = rows // 2, columns // 3
    box = Region(top, left, min(rows, top + max(1, rows // 5)), left + max(1, columns // 4))
    return Region(0, 0, max(1, rows // 9), columns), box


def examine(path: Path, folder: Path) -> Verdict | None:
    """Mask a file, and compare it with the original by every decoder; ``None`` if it is no image."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path, force=True)
            wanted = regions(ds.Rows, ds.Columns)
            syntax = pydicom.uid.UID(ds.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2"))
            many = int(ds.get("NumberOfFrames") or 1) > 1
        except Exception:
            return None
        if not any(keyword in ds for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            return None
        form = f"{ds.PhotometricInterpretation} {ds.BitsAllocated}{', frames' if many else ''}"
        try:
            with Source.open(path) as source, Storage(folder) as storage:
                Masker(wanted).prepare(source, "out").write(storage)
        except Quarantined as cause:
            return Verdict(syntax, form, held=f"{cause.reason.name}: {cause.detail}")
        out = folder / "out"
        inside, ring = _covered(path, wanted, syntax)
        read = {name: (before, _read(name, out)) for name in decoders(ds) if (before := _read(name, path)) is not None}
        out.unlink()
        same = {
            name: after is not None and _same(before, after, inside, ring) for name, (before, after) in read.items()
        }
        agreed, wrong = (tuple(name for name in same if same[name] is right) for right in (True, False))
        return Verdict(syntax, form, agreed, wrong)


def _read(name: str, path: Path) -> _Pixels | None:
    """Decode a file, if the decoder can."""
    try:
        return DECODERS[name](path)
    except Exception:
        return None


def _covered(path: Path, wanted: tuple[Region, ...], syntax: str) -> tuple[_Mask, int]:
    """Return which pixels are masked, and how far around a decoder may mix colours."""
    with Source.open(path) as source:
        container, scan, header = opened(source, Profile().scanner, Profile().facts)
        layout, element = Layout.of(header), pixel_element(scan)
        assert element is not None
        boxes = compiled(wanted, layout.rows, layout.columns, 1)[0].boxes
        ring = 0
        if syntax in LOSSY_JPEG:
            frame = Frames(container.source, element, layout, syntax).data(0)
            boxes = aligned(frame, boxes)
            ring = _RING if layout.samples == 3 else 0
        elif element.defined and layout.subsampled(element.end - element.value):
            boxes = tuple(Box(top, bottom, left - left % 2, right + right % 2) for top, bottom, left, right in boxes)
    inside = np.zeros((layout.rows, layout.columns), bool)
    for top, bottom, left, right in boxes:
        inside[top:bottom, left:right] = True
    return inside, ring


def _grown(mask: _Mask, by: int) -> _Mask:
    for _ in range(by):
        wide = np.pad(mask, 1)
        mask = np.logical_or.reduce(
            [wide[y : y + mask.shape[0], x : x + mask.shape[1]] for y in range(3) for x in range(3)]
        )
    return mask


def _same(before: _Pixels, after: _Pixels, inside: _Mask, ring: int) -> bool:
    outside, core = ~_grown(inside, ring), ~_grown(~inside, ring)
    same = np.array_equal(before[:, outside], after[:, outside])
    one_value = len(np.unique(after[:, core].reshape(-1, after.shape[3]), axis=0)) <= 1
    # brightness, or what is not subsampled, never mixes
    exact = before.shape[3] == 1 or len(np.unique(after[:, inside][..., 0])) <= 1
    return same and one_value and exact


def files(*folders: Path) -> Iterator[Path]:
    """Yield every different file once."""
    seen = set()
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py"):
            digest = hashlib.sha256(path.read_bytes()).digest()
            if digest not in seen:
                seen.add(digest)
                yield path


def main(folder: str) -> None:
    """Print how many files of each transfer syntax and form were masked, and who read them."""
    masked: dict[tuple[str, str], Counter[str]] = {}
    with TemporaryDirectory() as scratch:
        for path in files(Path(folder), Path(pydicom.data.__file__).parent):
            verdict = examine(path, Path(scratch))
            if verdict is None:
                continue
            row = masked.setdefault((pydicom.uid.UID(verdict.syntax).name, verdict.form), Counter())
            row["files"] += 1
            row.update(verdict.agreed)
            row.update(f"WRONG {name}" for name in verdict.wrong)
            if verdict.held:
                row[f"held back, {verdict.held}"] += 1
    sys.stdout.write("| transfer syntax | pixels | files | read by |\n|---|---|--:|---|\n")
    for (syntax, form), row in sorted(masked.items()):
        readers = ", ".join(f"{name} {count}" for name, count in row.items() if name != "files")
        sys.stdout.write(f"| {syntax} | {form} | {row['files']} | {readers} |\n")


def missing_tools() -> list[str]:
    """Name the tools that are not installed."""
    return [name for name in ("gdcmconv", "dcmdjpeg", "dcmdjpls", "dcmdrle") if shutil.which(name) is None]


if __name__ == "__main__":
    main(sys.argv[1])

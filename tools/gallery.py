"""Draw docs/gallery.md: images that pydicom brings along, with made-up text burned in, before and after masking.

::

    python tools/gallery.py

Each image takes the way of ``dicomshield deidentify --mask``. Other decoders then read both files, and nothing is
written unless what lies outside of the mask is the same in both, and what lies inside is black. The libraries of the
tests are needed; the same versions of them always draw the same page.
"""

from __future__ import annotations

import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    HTJ2K,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from dicomshield import Deidentifier, Profile, Project, Region
from dicomshield.encoding.source import Source
from dicomshield.pixels.jpeg import aligned
from dicomshield.pixels.region import Boxes, compiled
from dicomshield.preview import preview

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
NAME, NUMBER = "DOE^JANE\n1947-05-23", "MRN 4711"
LARGEST, SMALLEST, COLOURS = 400, 256, 64
"""Pixels of the longer side of a picture, and the colours of its file."""
ENCAPSULATED_NATIVE, DEFLATED_FRAMES = UID("1.2.840.10008.1.2.1.98"), UID("1.2.840.10008.1.2.8.1")
JPEG_XL = UID("1.2.840.10008.1.2.4.110")
NAMES: Final = {
    ENCAPSULATED_NATIVE: "Encapsulated Uncompressed Explicit VR Little Endian",
    DEFLATED_FRAMES: "Deflated Image Frame Compression",
    JPEG_XL: "JPEG XL Lossless",
}
"""Transfer syntaxes that pydicom does not name."""
STAND_INS: Final = {DEFLATED_FRAMES: ENCAPSULATED_NATIVE, JPEG_XL: HTJ2K}
"""It does not write these, but UIDs as long as theirs."""
NATIVE: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
Values = NDArray[Any]
"""Stored values, shape (frames, rows, columns, samples)."""


class Exhibit(NamedTuple):
    """An image to show.

    Attributes
    ----------
    title : str
    file : str
        Of those that pydicom brings along.
    syntax : UID, optional
        Text is burned in, and the image encoded in this transfer syntax; the file is shown as it is if not given.
    change : callable, optional
        What is done with data set and stored values before that.
    options : dict
        Of the encoder.
    frames : tuple of int
        Which are shown, 0-based.
    """

    title: str
    file: str
    syntax: UID | None = None
    change: Callable[[Dataset, Values], Values] = lambda _, values: values
    options: dict[str, Any] = {}  # noqa: RUF012 - a default of a tuple
    frames: tuple[int, ...] = (0,)

    @property
    def name(self) -> str:
        """Of its picture."""
        return "-".join("".join(one if one.isalnum() else " " for one in self.title.lower()).split())


def twelve_bits(ds: Dataset, values: Values) -> Values:
    """Stretch the values over 12 bits, unsigned."""
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 12, 11, 0
    low, high = int(values.min()), int(values.max())
    return ((values.astype(np.int64) - low) * 4095 // (high - low)).astype(np.uint16)


def inverted(ds: Dataset, values: Values) -> Values:
    ds.PhotometricInterpretation = "MONOCHROME1"
    return 4095 - twelve_bits(ds, values)


def ybr(ds: Dataset, values: Values) -> Values:
    ds.PhotometricInterpretation = "YBR_FULL"
    return np.asarray(convert_color_space(values, "RGB", "YBR_FULL"))


def ybr_422(ds: Dataset, values: Values) -> Values:
    values = ybr(ds, values)
    ds.PhotometricInterpretation = "YBR_FULL_422"
    return values


def by_plane(ds: Dataset, values: Values) -> Values:
    ds.PlanarConfiguration = 1
    return values


EXHIBITS: Final = (
    Exhibit("MONOCHROME2, signed", "CT_small.dcm", ExplicitVRLittleEndian),
    Exhibit("MONOCHROME1", "CT_small.dcm", ImplicitVRLittleEndian, inverted),
    Exhibit("MONOCHROME2, big endian", "MR_small_bigendian.dcm", ExplicitVRBigEndian),
    Exhibit("MONOCHROME2, deflated", "image_dfl.dcm", DeflatedExplicitVRLittleEndian),
    Exhibit("MONOCHROME2, with an overlay", "examples_overlay.dcm", ExplicitVRLittleEndian),
    Exhibit("Segmentation", "liver_1frame.dcm", ExplicitVRLittleEndian),
    Exhibit("Dose", "rtdose.dcm", frames=(0, 4, 9, 14)),
    Exhibit("PALETTE COLOR", "examples_palette.dcm", ExplicitVRLittleEndian),
    Exhibit("RGB", "examples_rgb_color.dcm", ExplicitVRLittleEndian),
    Exhibit("RGB, by plane", "examples_rgb_color.dcm", ExplicitVRLittleEndian, by_plane),
    Exhibit("RGB, by plane, big endian", "ExplVR_BigEnd.dcm"),
    Exhibit("YBR_FULL", "examples_rgb_color.dcm", ExplicitVRLittleEndian, ybr),
    Exhibit("YBR_FULL_422", "SC_ybr_full_422_uncompressed.dcm", ExplicitVRLittleEndian),
    Exhibit("Encapsulated, uncompressed", "examples_rgb_color.dcm", ENCAPSULATED_NATIVE),
    Exhibit("Deflated frames, by plane", "examples_rgb_color.dcm", DEFLATED_FRAMES, by_plane),
    Exhibit("RLE, grey", "MR_small_RLE.dcm", RLELossless),
    Exhibit("RLE, colour", "examples_rgb_color.dcm", RLELossless),
    Exhibit("RLE, 16 bit, two frames", "SC_rgb_rle_16bit_2frame.dcm", RLELossless, frames=(0, 1)),
    Exhibit("RLE, PALETTE COLOR", "examples_palette.dcm", RLELossless),
    Exhibit("JPEG Baseline, grey", "image_dfl.dcm", JPEGBaseline8Bit),
    Exhibit("JPEG Baseline, 4:2:2", "examples_rgb_color.dcm", JPEGBaseline8Bit, ybr_422, {"subsampling": "422"}),
    Exhibit("JPEG Baseline, 4:2:0", "examples_rgb_color.dcm", JPEGBaseline8Bit, ybr_422, {"subsampling": "420"}),
    Exhibit("JPEG Baseline, 4:4:4", "examples_rgb_color.dcm", JPEGBaseline8Bit, ybr, {"subsampling": "444"}),
    Exhibit("JPEG Baseline, cine", "examples_ybr_color.dcm", frames=(0, 29)),
    Exhibit("JPEG Baseline, YBR by DCMTK", "SC_rgb_dcmtk_+eb+cy+np.dcm"),
    Exhibit("JPEG Baseline, RGB by DCMTK", "SC_rgb_dcmtk_+eb+cr.dcm"),
    Exhibit("JPEG Extended, bundled", "JPGExtended.dcm"),
    Exhibit("JPEG Extended", "CT_small.dcm", JPEGExtended12Bit, twelve_bits),
    Exhibit("JPEG Lossless, grey", "CT_small.dcm", JPEGLosslessSV1, twelve_bits),
    Exhibit("JPEG Lossless, colour", "SC_rgb_jpeg_gdcm.dcm", JPEGLosslessSV1),
    Exhibit("JPEG-LS, signed", "MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
    Exhibit("JPEG-LS, near-lossless", "SC_rgb_jls_lossy_line.dcm"),
    Exhibit("JPEG 2000, signed", "MR_small_jp2klossless.dcm", JPEG2000Lossless),
    Exhibit("JPEG 2000, colour", "examples_jpeg2k.dcm", JPEG2000Lossless),
    Exhibit("JPEG 2000, lossy", "693_J2KI.dcm"),
    Exhibit("HTJ2K, signed", "CT_small.dcm", HTJ2KLossless),
    Exhibit("HTJ2K, colour", "examples_rgb_color.dcm", HTJ2K),
    Exhibit("JPEG XL", "examples_rgb_color.dcm", JPEG_XL),
)


# Encoding and decoding, without the package


def stored(ds: Dataset) -> Values:
    """Decode an image; colours stay as they are coded."""
    shape = (int(ds.get("NumberOfFrames") or 1), ds.Rows, ds.Columns, ds.SamplesPerPixel)
    decode = DECODERS.get(ds.file_meta.TransferSyntaxUID)
    if decode is None:
        return np.array(pixel_array(ds, raw=True)).reshape(shape)
    return np.stack([np.asarray(decode(frame, ds)).reshape(shape[1:]) for frame in frames_of(ds)])


def frames_of(ds: Dataset) -> list[bytes]:
    return list(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames") or 1)))


def of_bytes(frame: bytes, ds: Dataset) -> Values:
    values = np.frombuffer(frame, np.uint8)
    return np.moveaxis(values.reshape(3, ds.Rows, ds.Columns), 0, -1) if ds.PlanarConfiguration == 1 else values


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def jpeg(values: Values, **options: Any) -> bytes:
    space = "YCBCR" if values.ndim == 3 else None
    return bytes(imagecodecs.jpeg8_encode(values, level=90, colorspace=space, outcolorspace=space, **options))


def jpeg_lossless(values: Values) -> bytes:
    space = "RGB" if values.ndim == 3 else None
    return bytes(imagecodecs.jpeg8_encode(values, lossless=True, predictor=1, colorspace=space, outcolorspace=space))


DECODERS: Final[dict[str, Callable[[bytes, Dataset], Any]]] = {
    ENCAPSULATED_NATIVE: of_bytes,
    DEFLATED_FRAMES: lambda frame, ds: of_bytes(zlib.decompress(frame, -15), ds),
    JPEGExtended12Bit: lambda frame, _: imagecodecs.jpeg8_decode(frame),
    JPEGLosslessSV1: lambda frame, _: imagecodecs.ljpeg_decode(frame),
    HTJ2K: lambda frame, _: imagecodecs.htj2k_decode(frame),
    HTJ2KLossless: lambda frame, _: imagecodecs.htj2k_decode(frame),
    JPEG_XL: lambda frame, _: imagecodecs.jpegxl_decode(frame),
}
"""Of transfer syntaxes that pydicom may not decode."""
ENCODERS: Final[dict[str, Callable[..., Any]]] = {
    ENCAPSULATED_NATIVE: lambda values: values.tobytes(),
    DEFLATED_FRAMES: lambda values: deflated(np.moveaxis(values, -1, 0).tobytes()),
    JPEGBaseline8Bit: jpeg,
    JPEGExtended12Bit: lambda values: jpeg(values, bitspersample=12),
    JPEGLosslessSV1: jpeg_lossless,
    JPEGLSLossless: lambda values: imagecodecs.jpegls_encode(values.view(np.uint16)),
    JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, level=0, codecformat="J2K", reversible=True),
    HTJ2K: lambda values: imagecodecs.htj2k_encode(values, reversible=True),
    HTJ2KLossless: lambda values: imagecodecs.htj2k_encode(values, reversible=True),
    JPEG_XL: lambda values: imagecodecs.jpegxl_encode(values, lossless=True),
}


def store(ds: Dataset, values: Values, syntax: UID, options: dict[str, Any]) -> None:
    """Put stored values into a data set."""
    ds.file_meta.TransferSyntaxUID = syntax
    if syntax == RLELossless:
        # pydicom's own encoder takes the image as a whole
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(syntax, values.squeeze(), generate_instance_uid=False)
        return
    if syntax in NATIVE:
        ds.PixelData = native(ds, values, ">" if syntax == ExplicitVRBigEndian else "<")
        ds["PixelData"].VR = "OB" if ds.BitsAllocated <= 8 else "OW"
    else:
        frames = values[..., 0] if values.shape[-1] == 1 else values
        ds.PixelData = encapsulate([ENCODERS[syntax](np.ascontiguousarray(frame), **options) for frame in frames])
        ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = syntax not in NATIVE


def native(ds: Dataset, values: Values, order: Literal["<", ">"]) -> bytes:
    """Return frames as native Pixel Data (PS3.5 8.1.1 and 8.2, PS3.3 C.7.6.3.1)."""
    if ds.BitsAllocated == 1:
        values = np.packbits(values.ravel(), bitorder="little")
    elif ds.PhotometricInterpretation == "YBR_FULL_422":
        # two of luminance, then the chrominance of the first
        pairs = values.reshape(*values.shape[:2], -1, 6)
        values = pairs[..., [0, 3, 1, 2]]
    elif ds.get("PlanarConfiguration") == 1:
        values = np.moveaxis(values, -1, 1)
    data: bytes = values.astype(values.dtype.newbyteorder(order)).tobytes()
    return data + b"\0" * (len(data) & 1)


def file_of(ds: Dataset) -> bytes:
    """Encode an object, with all that every object must have."""
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(ds, keyword, ds.get(keyword) or "2.25.4711")
    ds.SOPClassUID = ds.get("SOPClassUID") or SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    syntax = ds.file_meta.TransferSyntaxUID
    ds.file_meta.TransferSyntaxUID = written = STAND_INS.get(syntax, syntax)
    out = BytesIO()
    pydicom.dcmwrite(out, ds, enforce_file_format=True)
    ds.file_meta.TransferSyntaxUID = syntax
    return out.getvalue().replace(written.encode(), syntax.encode().ljust(len(written), b"\0"), 1)


# What is in a picture


def brightness(ds: Dataset) -> NDArray[np.int64]:
    """Return that of each colour of a palette."""
    tables = [ds[f"{colour}PaletteColorLookupTableData"].value for colour in ("Red", "Green", "Blue")]
    total: NDArray[np.int64] = np.array([np.frombuffer(table, "<u2") for table in tables], np.int64).sum(axis=0)
    return total


def colours(ds: Dataset, values: Values) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return those of text and of what is behind it: yellow on blue, or bright on darker."""
    space, top = ds.PhotometricInterpretation, int(values.max())
    if space == "PALETTE COLOR":
        order = np.argsort(brightness(ds), kind="stable")
        return (int(order[-1]),), (int(order[len(order) // 3]),)
    if space == "MONOCHROME1":
        return (int(values.min()),), (top,)
    if space.startswith("YBR_FULL"):
        return (226, 1, 149), (14, 188, 118)
    return ((top, top, 0), (0, 0, top // 2)) if values.shape[-1] == 3 else ((top,), (int(values.min()),))


def black(ds: Dataset) -> tuple[int, ...]:
    space = ds.PhotometricInterpretation
    if space == "PALETTE COLOR":
        return (int(np.argmin(brightness(ds))),)
    if space == "MONOCHROME1":
        return ((1 << ds.BitsStored) - 1,)
    if space == "MONOCHROME2":
        return (-1 << (ds.BitsStored - 1) if ds.PixelRepresentation else 0,)
    return (0, 128, 128) if space.startswith("YBR_FULL") else (0, 0, 0)


def burned_in(ds: Dataset, values: Values) -> tuple[Values, tuple[Region, ...]]:
    """Write a name and a number into every frame; return regions that cover them."""
    rows, columns = values.shape[1:3]
    canvas = Image.new("1", (columns, rows))
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(size=max(10, min(rows, columns) // 14))
    ink, paper = colours(ds, values)
    values, regions = values.copy(), []
    for text, last in ((NAME, False), (NUMBER, True)):
        left, top, right, bottom = (round(at) for at in draw.textbbox((0, 0), text, font, spacing=1))
        width, height = right - left + 2, bottom - top + 2
        x, y = (columns - width - 3, rows - height - 3) if last else (3, 3)
        draw.text((x + 1 - left, y + 1 - top), text, 1, font, spacing=1)
        values[:, y : y + height, x : x + width] = paper
        regions.append(Region.at(x, y, width, height))
    values[:, np.asarray(canvas)] = ink
    return values, tuple(regions)


def some_regions(ds: Dataset) -> tuple[Region, ...]:
    """Return two regions of an image that is shown as it is."""
    rows, columns = ds.Rows, ds.Columns
    return (
        Region.at(columns // 16 + 1, rows // 9, columns // 2, rows // 4),
        Region.at(columns - columns // 3, rows - rows // 4, columns // 4, rows // 5),
    )


# The check


def grown(ds: Dataset, boxes: Boxes) -> tuple[str, Boxes]:
    """Return what makes a mask larger than it was asked for, and how large it is then."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return "whole MCUs", aligned(frames_of(ds)[0], boxes)
    if ds.PhotometricInterpretation == "YBR_FULL_422" and syntax in NATIVE:
        even = [box._replace(left=box.left & -2, right=box.right + 1 & -2) for box in boxes]
        return "whole pairs of pixels, which share their chrominance", tuple(even)
    return "", boxes


def covered(rows: int, columns: int, boxes: Boxes) -> NDArray[np.bool_]:
    canvas = np.zeros((rows, columns), bool)
    for top, bottom, left, right in boxes:
        canvas[top:bottom, left:right] = True
    return canvas


def wider(canvas: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add the pixels beside those that are set."""
    rows, columns = canvas.shape
    padded = np.pad(canvas, 1)
    wide = np.zeros_like(canvas)
    for y in range(3):
        for x in range(3):
            wide |= padded[y : y + rows, x : x + columns]
    return wide


def compared(before: Dataset, after: Dataset, inside: NDArray[np.bool_]) -> int:
    """Return how many pixels beside the mask have other chrominance than before, since decoders smooth it.

    Raises
    ------
    ValueError
        If any other pixel changed, or a masked one is not black.
    """
    old, new = stored(before), stored(after)
    # where chrominance is not smoothed, nothing changes beside the mask
    smooth = before.PhotometricInterpretation == "YBR_FULL_422" and before.file_meta.TransferSyntaxUID not in NATIVE
    near, core = (wider(inside), ~wider(~inside)) if smooth else (inside, inside)
    fill = np.array(black(after))
    if (old != new)[:, ~near].any() or (old != new)[:, ~inside, 0].any():
        raise ValueError("a pixel outside of the mask changed")
    if (new[:, core] != fill).any() or (new[:, inside, 0] != fill[0]).any():
        raise ValueError("a masked pixel is not black")
    return int((old != new).any(axis=(0, 3))[~inside].sum())


# The page


def drawn(pictures: Iterable[Image.Image]) -> Image.Image:
    """Put pictures side by side, each brought to a size that shows on a page."""
    sized = []
    for one in pictures:
        smaller, larger = -(-max(one.size) // LARGEST), max(1, SMALLEST // max(one.size))
        picture = one.reduce(smaller)
        sized.append(picture.resize((picture.width * larger, picture.height * larger), Image.Resampling.NEAREST))
    width, height = sized[0].size
    whole = Image.new("RGB", (len(sized) * (width + 8) - 8, height), "white")
    for number, picture in enumerate(sized):
        whole.paste(picture, (number * (width + 8), 0))
    return whole.quantize(COLOURS, dither=Image.Dither.NONE)


def described(boxes: Boxes) -> str:
    return "; ".join(f"rows {top} to {bottom}, columns {left} to {right}" for top, bottom, left, right in boxes)


def shown(exhibit: Exhibit, project: Project, folder: Path) -> str:
    """Mask an image, check and draw it; return its part of the page."""
    ds = pydicom.dcmread(str(get_testdata_file(exhibit.file, download=False)))
    regions = some_regions(ds)
    if exhibit.syntax:
        values, regions = burned_in(ds, exhibit.change(ds, stored(ds)))
        store(ds, values, exhibit.syntax, exhibit.options)
    data = file_of(ds)
    profile = Profile(regions=regions)
    before, after = (
        pydicom.dcmread(BytesIO(one)) for one in (data, Deidentifier(profile, project=project).bytes(data).data)
    )
    boxes = compiled(regions, ds.Rows, ds.Columns, 1)[0].boxes
    why, larger = grown(before, boxes)
    beside = compared(before, after, covered(ds.Rows, ds.Columns, larger))
    pictures = [
        preview(Source.of(data), profile, frames=exhibit.frames, masked=masked).image for masked in (False, True)
    ]
    drawn(pictures).save(folder / f"{exhibit.name}.png", optimize=True)
    return text_of(exhibit, before, regions, f"grown to {why}: {described(larger)}" if why else "exact", beside)


def text_of(exhibit: Exhibit, ds: Dataset, regions: tuple[Region, ...], alignment: str, beside: int) -> str:
    """Say what a picture shows."""
    syntax = ds.file_meta.TransferSyntaxUID
    frames = int(ds.get("NumberOfFrames") or 1)
    form = f"{ds.PhotometricInterpretation}, {ds.BitsStored} of {ds.BitsAllocated} bits"
    form += ", signed" if ds.PixelRepresentation else ""
    form += ", by plane" if ds.get("PlanarConfiguration") == 1 else ""
    asked = " ".join(f"`--mask {one.left},{one.top},{one.right - one.left},{one.bottom - one.top}`" for one in regions)
    lines = [
        f"## {exhibit.title}", "", f"![{exhibit.title}: before and after](gallery/{exhibit.name}.png)", "",
        f"* {'Text in' if exhibit.syntax else 'As it is:'} `{exhibit.file}`, {ds.Rows} rows, {ds.Columns} columns"
        + (f", {frames} frames, shown: {', '.join(str(at + 1) for at in exhibit.frames)}" if frames > 1 else ""),
        f"* {NAMES.get(syntax, syntax.name)} ({syntax}); {form}",
        f"* {asked}, {alignment}",
    ]  # fmt: skip
    if beside:
        lines.append(f"* Decoders smooth chrominance: {beside} pixels beside the mask have another tint than before.")
    return "\n".join([*lines, ""])


HEAD: Final = """\
# Gallery

Written by `python tools/gallery.py`; do not edit. Images that pydicom brings along for its tests, before and after the
main job with `--mask`: on the left with the borders of the mask, on the right as released. Name, date and number are
made up and were drawn into the pixels, but for files that are shown as they are. Before this page was written, other
decoders have read every frame of both files: outside of the mask each pixel is the same, and inside each is black.
What is said of rows and columns is half-open, from 0.

Pictures are made for this page: grey values are stretched from the darkest to the brightest of the frame, and large
images are reduced.
"""


def main() -> None:
    """Draw all pictures, then write the page."""
    folder = DOCS / "gallery"
    folder.mkdir(exist_ok=True)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        project = Project(Path(temporary) / "project")
        parts = [shown(exhibit, project, folder) for exhibit in EXHIBITS]
    for picture in folder.glob("*.png"):
        if picture.stem not in {exhibit.name for exhibit in EXHIBITS}:
            picture.unlink()
    (DOCS / "gallery.md").write_text("\n".join([HEAD, *parts]))


if __name__ == "__main__":
    main()

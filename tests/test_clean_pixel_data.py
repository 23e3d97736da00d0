"""Clean Pixel Data (PS3.15 E.3.1): text in the pixels goes, the rest stays, and what is claimed was done."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from factories import NAME, ct, encoded, shared
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    MPEG4HP41,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from dicomshield import Deidentifier, Option, PolicyError, Profile, Project, Quarantined, Reason
from dicomshield.finders.text.finder import TextFinder
from dicomshield.pixels.region import Shape
from dicomshield.profile import TextSearch

CLEAN = Profile.basic(Option.CLEAN_PIXEL_DATA)
SHOWN = "MILLER^PETRA"
ROWS, COLUMNS = 240, 320


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project") / "p")


def ink(text: str, top: int, left: int, size: int = 18) -> NDArray[np.bool_]:
    """Return where a text is drawn in a frame."""
    canvas = Image.new("L", (COLUMNS, ROWS))
    ImageDraw.Draw(canvas).text((left, top), text, 255, ImageFont.load_default(size))
    return np.asarray(canvas) > 127


def tissue(frames: int = 1, seed: int = 1) -> NDArray[np.uint8]:
    """Return frames of soft speckle that moves, shape (frames, rows, columns)."""
    noise = np.random.default_rng(seed).normal(0, 1, (ROWS, COLUMNS))
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(-4, 5)) / 9  # type: ignore[assignment]
    soft = (60 + 60 * noise).clip(30, 90).astype(np.uint8)
    return np.stack([np.roll(soft, 3 * number, axis=1) for number in range(frames)])


def picture(pixels: NDArray[np.uint8], sop_class: str = SecondaryCaptureImageStorage) -> Dataset:
    """Build an object that shows frames of 8 bits."""
    ds = ct(
        SOPClassUID=sop_class, Modality="OT", ConversionType="WSD", Rows=ROWS, Columns=COLUMNS, BitsAllocated=8,
        BitsStored=8, HighBit=7, PixelRepresentation=0, PixelData=pixels.tobytes(), ImageType=["ORIGINAL", "PRIMARY"],
    )  # fmt: skip
    if len(pixels) > 1:
        ds.NumberOfFrames = len(pixels)
    return ds


def released(
    project: Project, ds: Dataset, profile: Profile = CLEAN, syntax: str = ExplicitVRLittleEndian
) -> tuple[Dataset, str]:
    """De-identify an object, and read it and what the report says of its pixels."""
    result = Deidentifier(profile, project=project).bytes(encoded(ds, syntax))
    return pydicom.dcmread(BytesIO(result.data)), result.report.pixels


def frames_of(ds: Dataset) -> NDArray[np.uint8]:
    return ds.pixel_array.reshape(-1, ROWS, COLUMNS)


def codes(ds: Dataset) -> list[str]:
    return [item.CodeValue for item in ds.DeidentificationMethodCodeSequence]


def test_text_goes_and_the_rest_stays(project: Project) -> None:
    """Every pixel of the text is black, pixels away from it are what they were, and the object says so (E.3.1)."""
    pixels, letters = tissue(), ink(SHOWN, 20, 30)
    pixels[0, letters] = 255
    output, said = released(project, picture(pixels))
    after = frames_of(output)[0]

    assert not after[letters].any()
    changed = after != pixels[0]
    assert changed.mean() < 0.2
    assert not changed[60:200].any()
    assert output.BurnedInAnnotation == "NO"
    assert codes(output) == ["113100", "113101"]
    assert output.ImageType[0] == "DERIVED"
    assert "masked by text detector" in said
    assert "PETRA" not in said


def test_nothing_found_is_said_and_nothing_changed(project: Project) -> None:
    """An image in which no text is found stays byte for byte; that every frame was looked at may be claimed."""
    ds = picture(tissue())
    output, said = released(project, ds)

    assert output.PixelData == ds.PixelData
    assert (output.BurnedInAnnotation, codes(output)) == ("NO", ["113100", "113101"])
    assert output.ImageType == ["ORIGINAL", "PRIMARY"]
    assert said.startswith("kept; ")


def test_what_was_not_searched_is_said_and_nothing_claimed(project: Project) -> None:
    """Asked to look at suspect images only, the gate says why it did not look; else every image is looked at."""
    ds = ct(rows=64, columns=64, ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], PixelSpacing=["1", "1"])
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["0", "0", "0"], ["1", "0", "0", "0", "1", "0"]
    assert ds.SOPClassUID == CTImageStorage
    output, said = released(project, ds, Profile(options=CLEAN.options, text=TextSearch(only_suspect=True)))
    assert "not looked for: a plain CT slice" in said
    assert (codes(output), output.get("BurnedInAnnotation")) == (["113100"], None)

    output, said = released(project, ds)
    assert "1 of 1 frames were looked at" in said
    assert (codes(output), output.BurnedInAnnotation) == (["113100", "113101"], "NO")


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit])
def test_one_mask_for_all_frames_of_a_cine(project: Project, syntax: str) -> None:
    """Static, changing and transient text goes from every frame, encapsulated or not."""
    pixels = tissue(24)
    static, transient = ink(SHOWN, 20, 30), ink("DOB 03.07.1961", 120, 60)
    pixels[:, static] = 255
    pixels[11:13, transient] = 255
    counters = [ink(f"{number:02d}:17:{(number * 7) % 60:02d}", 200, 200) for number in range(24)]
    for frame, letters in zip(pixels, counters, strict=True):
        frame[letters] = 255
    ds = picture(pixels, UltrasoundMultiFrameImageStorage)
    if syntax == RLELossless:
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    elif syntax == JPEGBaseline8Bit:
        ds.PixelData, ds.LossyImageCompression = _jpegs(pixels), "01"
    output, _ = released(project, ds, syntax=syntax)

    black = 0 if syntax != JPEGBaseline8Bit else 4
    for number, frame in enumerate(frames_of(output)):
        assert frame[static].max() <= black
        assert frame[transient].max() <= black
        assert frame[counters[number]].max() <= black
    assert codes(output) == ["113100", "113101"]


def _jpegs(pixels: NDArray[np.uint8]) -> bytes:
    buffers = [BytesIO() for _ in pixels]
    for frame, buffer in zip(pixels, buffers, strict=True):
        Image.fromarray(frame).save(buffer, "JPEG", quality=92)
    return pydicom.encaps.encapsulate([buffer.getvalue() for buffer in buffers])


def test_harmless_text_stays_if_that_was_asked_for(project: Project) -> None:
    """A line of the table stays, the patient's name goes; by default both go."""
    pixels = np.full((1, ROWS, COLUMNS), 16, np.uint8)
    name, voltage = ink(SHOWN, 20, 30), ink("120 kVp", 180, 200)
    pixels[0, name | voltage] = 255
    keep = Profile(options=CLEAN.options, text=TextSearch(keep_harmless=True))

    kept = frames_of(released(project, picture(pixels), keep)[0])[0]
    assert (kept[name].max(), kept[voltage].min()) == (0, 255)
    assert not frames_of(released(project, picture(pixels))[0])[0][name | voltage].any()


def test_identifiers_that_were_read_are_told_by_kind_only(project: Project) -> None:
    """The report says that a name was there, and not which."""
    pixels = tissue()
    pixels[0, ink(NAME.replace("^", " "), 20, 20, 20)] = 255
    ds = picture(pixels)
    result = Deidentifier(CLEAN, project=project).bytes(encoded(ds))

    assert "name" in [finding.kind for finding in result.report.findings]
    line = result.report.to_json()
    assert json.loads(line)["findings"]
    assert not [part for part in NAME.split("^") if part.lower() in line.lower()]


def test_what_is_still_read_after_masking_is_held_back(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text that no mask takes away is not released (here a finder that goes on finding the same)."""
    first: list[Sequence[Shape]] = []
    found = TextFinder.find

    def find(self: TextFinder, image: object) -> object:
        result = found(self, image)  # type: ignore[arg-type]
        first.append(result.shapes)
        return result

    monkeypatch.setattr(TextFinder, "find", find)
    monkeypatch.setattr(TextFinder, "left", lambda *_: tuple(first[-1]))
    pixels = tissue()
    pixels[0, ink(SHOWN, 20, 30)] = 255
    with pytest.raises(Quarantined, match="text is still read") as held:
        released(project, picture(pixels))
    assert held.value.reason is Reason.BURNED_IN


def test_without_the_extra_objects_that_may_carry_text_are_held_back(tmp_path: Path) -> None:
    """The reason says how to install it; nothing that may carry text slips through."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(encoded(picture(tissue())))
    program = (
        "import sys\n"
        "for name in ('cv2', 'onnxruntime', 'zxingcpp', 'rapidocr'):\n    sys.modules[name] = None\n"
        "from dicomshield.cli import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "deidentify", tmp_path / "in", tmp_path / "out", "--workers", "1",
         "--project", tmp_path / "p", "--option", "CLEAN_PIXEL_DATA"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "DETECTOR: text in pixels is not looked for without: pip install 'dicomshield[ocr]'" in done.stdout
    assert not list((tmp_path / "out").rglob("*.dcm"))


@pytest.mark.parametrize("preset", ["default", "paranoid"])
def test_it_works_without_any_network(tmp_path: Path, preset: str) -> None:
    """All weights come with the packages: text is found where not even the loopback is up."""
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a private network is not permitted here")
    pixels, letters = tissue(), ink(SHOWN, 20, 30)
    pixels[0, letters] = 255
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(encoded(picture(pixels)))
    (tmp_path / "policy.toml").write_text(
        f'options = ["CLEAN_PIXEL_DATA"]\n[text]\npreset = "{preset}"\n', encoding="utf-8"
    )
    done = subprocess.run(
        [*alone, sys.executable, "-m", "dicomshield", "deidentify", tmp_path / "in", tmp_path / "out",
         "--project", tmp_path / "p", "--policy", tmp_path / "policy.toml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (out,) = (tmp_path / "out").rglob("*.dcm")
    assert not frames_of(pydicom.dcmread(out))[0][letters].any()


def test_trust_and_search_contradict_each_other() -> None:
    """A policy cannot ask to look and not to look."""
    with pytest.raises(PolicyError, match="CLEAN_PIXEL_DATA looks at the pixels"):
        Profile(options=CLEAN.options, trust_pixels=True)


def test_video_is_held_back(project: Project) -> None:
    """Where no frame can be decoded and edited, nothing can be claimed."""
    ds = picture(tissue(2), UltrasoundMultiFrameImageStorage)
    ds.PixelData = pydicom.encaps.encapsulate([b"\0\0\0\x18ftypmp42" + bytes(64)])
    with pytest.raises(Quarantined) as held:
        released(project, ds, syntax=MPEG4HP41)
    assert held.value.reason in (Reason.PIXELS, Reason.CODEC)


def _identifying() -> list[tuple[Path, list[list[int]]]]:
    """Return real files with their identifying boxes, [x, y, width, height]."""
    truth = json.loads((shared() / "corpora" / "burned_in_truth.json").read_text())
    return [
        (shared() / "corpora" / file, [box["box"] for box in one["boxes"] if box["cls"] == "identifying"])
        for one in truth.values()
        if one["has_identifying"]
        for file in one["files"][:1]
    ]


def test_identifying_boxes_of_real_files_are_covered(project: Project) -> None:
    """No identifying text of the real files is left, in any frame: each box is black or the object is held back."""
    shield, checked = Deidentifier(CLEAN, project=project), 0
    for path, boxes in _identifying():
        try:
            ds = pydicom.dcmread(BytesIO(shield.bytes(path).data))
        except Quarantined:
            continue
        before = pydicom.dcmread(path).pixel_array.reshape(-1, ds.Rows, ds.Columns, ds.SamplesPerPixel)
        after = ds.pixel_array.reshape(before.shape)
        for x, y, width, height in boxes:
            left = after[:, y : y + height, x : x + width]
            was = before[:, y : y + height, x : x + width]
            same = ((left == was).all(axis=-1) & (was != 0).any(axis=-1)).mean()
            assert same < 0.1, f"{path.name}, box {x},{y}"
            checked += 1
    assert checked > 5

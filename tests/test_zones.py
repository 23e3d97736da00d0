"""``dicomshield zones``: masks learned from where text recurs, as a policy reads them."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import HOSPITAL, NAME, PATIENT_ID, TOKENS, ct, encoded
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from dicomshield import Profile
from dicomshield.cli import main
from dicomshield.errors import Reason
from dicomshield.finders.finder import Found, Image
from dicomshield.finders.zones import Device, Survey, Zones, blocks, drawn, learned
from dicomshield.pixels.region import Box, Region
from dicomshield.pixels.rules import read

ROWS, COLUMNS = 240, 320


class Bright:
    """Finds the rows and columns between which a frame is bright."""

    name, version, claim = "bright", "1", "what is bright"

    def find(self, image: Image) -> Found:
        shapes = []
        frame = image.frames[0]
        for top in range(0, ROWS, 8):
            lit = np.flatnonzero((frame[top : top + 8] > 4000).any(axis=0))
            if len(lit):
                shapes.append(Region(top, int(lit[0]), top + 8, int(lit[-1]) + 1))
        return Found(tuple(shapes), covers=True)


def screen(number: int, *, rows: int = ROWS, columns: int = COLUMNS, series: int = 0, **changes: Any) -> bytes:
    """Return an image with a banner whose length differs, a word that only some have, and one at another place."""
    frame = np.zeros((rows, columns), "<u2")
    frame[:16, : 80 + 20 * (number % 4)] = 4095
    if not number % 2:
        frame[200:208, 40:80] = 4095
    frame[100:104, 10 * number : 10 * number + 8] = 4095
    ds = ct(number, rows=rows, columns=columns, Modality="US", ManufacturerModelName="Cart 7", **changes)
    ds.SeriesInstanceUID += f".{series or number}"
    ds.PixelData = frame.tobytes()
    return encoded(ds)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return ten images of a device, two of another, one broken file and one without pixels."""
    folder = tmp_path / f"{NAME}"
    folder.mkdir()
    for number in range(10):
        (folder / f"{number}.dcm").write_bytes(screen(number))
    for number in range(2):
        (folder / f"other{number}.dcm").write_bytes(screen(number, Manufacturer="Müller"))
    (folder / "notes.txt").write_text(f"{NAME} called")
    report = ct()
    del report.PixelData
    (folder / "report.dcm").write_bytes(encoded(report))
    return folder


def surveyed(folder: Path) -> Survey:
    return Survey(str(path) for path in sorted(folder.iterdir()))


def test_images_are_sorted_by_device(folder: Path) -> None:
    survey = surveyed(folder)

    assert {device.name: len(paths) for device, paths in survey.images.items()} == {
        "ACME Cart 7, US 320 x 240": 10,
        "M?ller Cart 7, US 320 x 240": 2,
    }
    assert survey.left_out == Counter({Reason.NOT_DICOM: 1, Reason.INCOMPLETE: 1})


def test_what_is_sampled_comes_from_different_series(tmp_path: Path) -> None:
    """A hundred slices of one patient say less than one of each of three."""
    for number, series in enumerate((1, 1, 1, 1, 2, 3)):
        (tmp_path / f"{number}.dcm").write_bytes(screen(number, series=series))
    (paths,) = surveyed(tmp_path).images.values()

    assert [Path(path).stem for path in paths] == ["0", "4", "5", "1", "2", "3"]


def test_a_place_counts_where_text_recurs(folder: Path) -> None:
    """The banner goes as far as it ever reaches; what is somewhere else in each image is no zone."""
    device, paths = next(iter(surveyed(folder).images.items()))
    found = learned(device, paths, Bright())
    masked = np.zeros((ROWS, COLUMNS), bool)
    for top, bottom, left, right in found.boxes:
        masked[top:bottom, left:right] = True

    assert (found.images, found.searched) == (10, 10)
    assert masked[:16, :140].all()
    assert masked[200:208, 40:80].all()
    assert masked.sum() < 1.2 * (16 * 140 + 8 * 40)
    assert found.recurrence[0, 0] == 1
    assert found.recurrence[25, 6] == 0.5


def test_a_sample_is_enough(folder: Path) -> None:
    device, paths = next(iter(surveyed(folder).images.items()))

    assert learned(device, paths, Bright(), most=4).searched == 4


def test_two_images_prove_nothing(folder: Path) -> None:
    *_, (device, paths) = surveyed(folder).images.items()
    found = learned(device, paths, Bright())

    assert found.boxes == ()
    assert "too few to tell: M?ller Cart 7" in blocks([found])


def test_a_proposal_is_a_policy_for_its_device(folder: Path, tmp_path: Path) -> None:
    """It masks images of the device it was learned from, as a policy does, and no other ones."""
    survey = surveyed(folder)
    policy = tmp_path / "zones.toml"
    policy.write_text(blocks([learned(device, paths, Bright()) for device, paths in survey.images.items()]), "utf-8")
    (rule,) = Profile.from_toml(policy).masks
    header = {
        0x00080060: b"US",
        0x00080070: b"ACME",
        0x00081090: b"Cart 7",
        0x00280010: b"\xf0\0",
        0x00280011: b"\x40\1",
    }

    assert rule.name == "ACME Cart 7, US 320 x 240"
    assert rule.matches(header)
    assert not rule.matches(header | {0x00280011: b"\0\1"})
    assert not rule.matches(header | {0x00081090: b"Cart 8"})


def test_nothing_of_a_patient_is_proposed(folder: Path) -> None:
    zones = [learned(device, paths, Bright()) for device, paths in surveyed(folder).images.items()]
    said = blocks(zones).lower()

    for token in (*TOKENS, HOSPITAL.lower(), PATIENT_ID, "fennimore1", str(folder).lower()):
        assert token not in said
    assert {key for mask in tomllib.loads(said)["mask"] for key in mask["when"]} == {
        "modality", "manufacturer", "manufacturermodelname", "rows", "columns",
    }  # fmt: skip


@given(
    texts=st.lists(st.text(st.characters(codec="latin-1"), max_size=80), min_size=3, max_size=3),
    rows=st.integers(1, 65535), columns=st.integers(1, 65535),
)  # fmt: skip
def test_whatever_a_device_calls_itself_can_be_asked_for(texts: list[str], rows: int, columns: int) -> None:
    """The rule that is proposed matches the device whose values it was made of."""
    modality, maker, model = (text.strip(" \0") for text in texts)
    device = Device(modality, maker, model, rows, columns)
    places = np.ones((-(-rows // device.cell), -(-columns // device.cell)))
    (rule,) = read(tomllib.loads(blocks([Zones(device, 5, 5, places, (Box(0, rows, 0, columns),))]))["mask"])
    header = {0x00080060: modality, 0x00080070: maker, 0x00081090: model}
    numbers = {0x00280010: rows.to_bytes(2, "little"), 0x00280011: columns.to_bytes(2, "little")}

    assert rule.matches({tag: text.encode("latin-1") for tag, text in header.items()} | numbers)


def test_the_map_shows_places_and_no_pixel(folder: Path) -> None:
    device, paths = next(iter(surveyed(folder).images.items()))
    found = learned(device, paths, Bright())
    shown = np.array(drawn([found, found]))

    assert shown.shape[1] <= 700
    heat = shown[20 : 20 + 16 * 10]
    assert heat[30, 30].tolist() == [255, 255, 103]
    levels = np.rint(np.arange(11) * 25.5).astype(int).tolist()
    allowed = {(255, 64, 0), *((level, level, 40 + level // 4) for level in levels)}
    assert {tuple(colour) for colour in heat.reshape(-1, 3).tolist()} <= allowed
    assert drawn([]).size[0] > 0


def test_the_verb_proposes_what_the_detector_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the real detector: names of different lengths in one corner, over noise."""
    pytest.importorskip("onnxruntime")
    folder, font = tmp_path / "in", ImageFont.load_default(18)
    folder.mkdir()
    for number, name in enumerate(("Ottilie Brandauer", "Jo Quist", "Maximilian Achterberg", "Ines Wolkow")):
        drawn_ = Picture.new("L", (COLUMNS, ROWS))
        ImageDraw.Draw(drawn_).text((12, 8), name, font=font, fill=255)
        noise = np.random.default_rng(number).normal(600, 60, (ROWS, COLUMNS))
        ds = ct(number, rows=ROWS, columns=COLUMNS, ManufacturerModelName="Cart 7")
        ds.PixelData = np.where(np.array(drawn_) > 127, 3500, noise).astype("<u2").tobytes()
        (folder / f"{number}.dcm").write_bytes(encoded(ds))
    out, png = tmp_path / "zones.toml", tmp_path / "zones.png"

    with pytest.raises(SystemExit) as done:
        main(["zones", str(folder), "--out", str(out), "--png", str(png), "--preset", "light"])
    said = capsys.readouterr()

    assert done.value.code == 0
    assert "1 masks for 1 devices, 0 files left out" in said.err
    (rule,) = Profile.from_toml(out).masks
    assert any(isinstance(one, Region) and one.top <= 12 and one.left <= 16 for one in rule.regions)
    with Picture.open(png) as shown:
        assert shown.format == "PNG"
    assert out.stat().st_mode & 0o077 == 0
    with pytest.raises(SystemExit) as done:
        main(["zones", str(folder), "--out", str(out)])
    assert done.value.code == 2
    assert "is there already" in capsys.readouterr().err

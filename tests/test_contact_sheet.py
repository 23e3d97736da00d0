"""The contact sheet shows what was released, loads nothing, and tells nothing that the outputs do not tell."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result
from factories import TOKENS, ct, encoded
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicomshield import PolicyError
from dicomshield.cli.contact_sheet import command
from dicomshield.evidence.contact_sheet import ContactSheet

HOSTILE = "<script>alert(1)</script>\"'&\u202e"
Line = dict[str, Any]


class Page(HTMLParser):
    """What a page holds: its tiles by their data, all attributes, all text outside of styles and scripts."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tiles: list[dict[str, str]] = []
        self.text: list[str] = []
        self.code: dict[str, str] = {"style": "", "script": ""}
        self._inside = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in self.code else ""
        if tag == "article":
            self.tiles.append({name.removeprefix("data-"): value or "" for name, value in attrs})

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag in self.code else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.code[self._inside] += data
        else:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self) -> list[Image.Image]:
        found = list[Image.Image]()
        for one in self.all("img"):
            kind, _, data = (one["src"] or "").partition(",")
            assert kind == "data:image/jpeg;base64"
            found.append(Image.open(BytesIO(base64.b64decode(data))))
        return found


class Outputs:
    """A folder of released objects and the report of their run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lines = folder, list[Line]()
        (folder / "out").mkdir()

    def add(self, ds: Dataset | None, **more: Any) -> None:
        number = len(self.lines) + 1
        line: Line = {"object": number, "outcome": "released", "output": f"P/{number}.dcm", "pixels": "kept"} | more
        if ds is not None:
            (self.folder / "out" / "P").mkdir(exist_ok=True)
            (self.folder / "out" / "P" / f"{number}.dcm").write_bytes(encoded(ds))
        self.lines.append(line)

    def sheet(self, **options: Any) -> ContactSheet:
        report = self.folder / "report.jsonl"
        report.write_text("".join(json.dumps(line) + "\n" for line in self.lines), "utf-8")
        return ContactSheet(self.folder / "out", report, **options)

    def page(self, **options: Any) -> Page:
        return Page(self.sheet(**options).write(self.folder / "sheet.html")[0])


@pytest.fixture
def outputs(tmp_path: Path) -> Outputs:
    return Outputs(tmp_path)


def mask(*boxes: list[int], area: float = 0.1, finders: tuple[str, ...] = ("device rules",)) -> Line:
    return {"boxes": [*boxes], "area": area, "finders": [*finders]}


def square(side: int = 8, **changes: Any) -> Dataset:
    """Return an image that names a device and nobody."""
    return ct(rows=side, columns=side, SpecificCharacterSet="ISO_IR 192", ManufacturerModelName="Model", **changes)


def filled(outputs: Outputs) -> Outputs:
    """Add five objects of three devices, two modalities and two finders."""
    outputs.add(square(Manufacturer="Beta"), mask=mask([0, 0, 4, 2], area=0.02))
    outputs.add(square(Manufacturer="Alpha", Modality="MR"), mask=mask(area=0.3, finders=("text", "device rules")))
    outputs.add(square(Manufacturer="Beta"), outcome="unchanged")
    outputs.add(None, outcome="quarantined", output="", reason="BURNED_IN")
    outputs.add(square(Manufacturer="Gamma"), mask=mask(area=0.15, finders=("text",)))
    outputs.add(square(Manufacturer="Beta"), mask=mask(area=0.5))
    return outputs


def test_page_lists_what_was_released_and_counts_the_rest(outputs: Outputs) -> None:
    page = filled(outputs).page()
    assert [int(tile["number"]) for tile in page.tiles] == [2, 3, 6, 1, 5]
    assert len(page.pictures()) == 5
    assert {tile["finder"] for tile in page.tiles} == {"device rules", "text", "text\ndevice rules", "nothing masked"}
    text = "|".join(page.text)
    assert "BURNED_IN|1" in text
    assert "quarantined|1" in text
    assert "released|4" in text
    assert "30.00 %" in text
    assert "not told by the report" in text


@pytest.mark.parametrize(
    ("order", "numbers"),
    [("run", [1, 2, 3, 5, 6]), ("area", [3, 6, 2, 5, 1]), ("device", [2, 3, 6, 1, 5]), ("finder", [6, 1, 3, 5, 2])],
)
def test_order_holds_over_all_pages(outputs: Outputs, order: str, numbers: list[int]) -> None:
    """What the report does not tell the area of is looked at first."""
    assert [int(tile["number"]) for tile in filled(outputs).page(order=order).tiles] == numbers


def test_page_loads_nothing(outputs: Outputs) -> None:
    """No address but data, pages of the sheet and the namespace of nothing; the policy allows what is there, only."""
    page = filled(outputs).page()
    addresses = {value for _, found in page.tags for name, value in found.items() if name in ("src", "href", "action")}
    assert all((address or "").startswith("data:image/jpeg;base64,") for address in addresses)
    assert "http" not in page.source.replace("http-equiv", "")
    assert not [name for _, found in page.tags for name in found if name.startswith("on") or name == "style"]
    (policy,) = [one["content"] or "" for one in page.all("meta") if "http-equiv" in one]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for kind, code in page.code.items():
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_hostile_device_names_are_text(outputs: Outputs) -> None:
    """What a device wrote of itself is shown, not run; nothing turns the direction of the text."""
    outputs.add(square(Manufacturer=HOSTILE[:64]), mask=mask(finders=(HOSTILE,)), pixels=HOSTILE)
    outputs.add(square(Manufacturer="x" * 64))
    page = outputs.page()
    assert len(page.all("script")) == 1
    assert page.tiles[0]["device"].startswith("<script>alert(1)</script>\"'&")
    assert all(len(tile["device"]) <= 130 for tile in page.tiles)
    assert "\u202e" not in page.tiles[0]["device"]
    assert "<script>alert" not in page.source


def test_outlines_lie_where_the_report_says(outputs: Outputs) -> None:
    outputs.add(square(40), mask=mask([1, 2, 30, 4], [5, 20, 3, 3]))
    page = outputs.page()
    assert [one["viewbox"] for one in page.all("svg")] == ["0 0 40 40"]
    assert page.all("rect")[0] == {"x": "1", "y": "2", "width": "30", "height": "4"}
    assert len(page.all("rect")) == 2


@pytest.mark.parametrize("boxes", [[[1, 2, 3]], [["<b>", 1, 2, 3]], "all", [[1, 2, 3, True]], None])
def test_a_report_without_boxes_gives_no_outlines(outputs: Outputs, boxes: object) -> None:
    """Reports of older runs, and broken ones, cost the outlines and nothing else."""
    outputs.add(square(), mask={"boxes": boxes, "area": "much", "finders": []})
    page = outputs.page()
    assert page.all("rect") == []
    assert page.tiles[0]["area"] == ""
    assert len(page.pictures()) == 1


def test_cines_show_first_middle_and_last_frame(outputs: Outputs) -> None:
    cine = np.repeat(np.array([0, 60, 120, 180, 240], np.uint8), 64 * 64)
    outputs.add(
        square(
            64, NumberOfFrames=5, BitsAllocated=8, BitsStored=8, HighBit=7, SamplesPerPixel=1, PixelData=cine.tobytes()
        )
    )
    page = outputs.page()
    assert [one["alt"] for one in page.all("img")] == ["frame 1", "frame 3", "frame 5"]
    assert "3/5" in page.text


def test_masks_do_not_swallow_the_grey_scale(outputs: Outputs) -> None:
    """A signed CT is masked with -32768, far below all that is to be seen."""
    pixels = np.full((64, 64), -32768, "<i2")
    pixels[:, 32:] = np.linspace(-1000, 1000, 32)
    outputs.add(square(64, PixelRepresentation=1, BitsStored=16, HighBit=15, PixelData=pixels.tobytes()))
    (shown,) = outputs.page().pictures()
    grey = np.asarray(shown, np.int64)
    assert grey[:, :28].max() < 20
    assert grey[10, 60] - grey[10, 36] > 150


@pytest.mark.parametrize("photometric", ["RGB", "PALETTE COLOR", "MONOCHROME1"])
def test_large_pictures_are_made_small_in_their_colours(outputs: Outputs, photometric: str) -> None:
    """Means of palette entries would be other colours."""
    ds = square(600, PhotometricInterpretation=photometric, BitsAllocated=8, BitsStored=8, HighBit=7)
    pixels = np.zeros((600, 600), np.uint8)
    pixels[:, 300:] = 1 if photometric == "PALETTE COLOR" else 255
    if photometric == "RGB":
        ds.SamplesPerPixel, ds.PlanarConfiguration = 3, 0
        pixels = np.stack([pixels, 0 * pixels, 0 * pixels], axis=-1)
    if photometric == "PALETTE COLOR":
        for colour, values in (("Red", (0, 255)), ("Green", (0, 0)), ("Blue", (0, 0))):
            setattr(ds, f"{colour}PaletteColorLookupTableDescriptor", [2, 0, 16])
            setattr(ds, f"{colour}PaletteColorLookupTableData", np.array(values, "<u2").tobytes())
    ds.PixelData = pixels.tobytes()
    outputs.add(ds)
    (shown,) = outputs.page(side=100).pictures()
    assert shown.size == (100, 100)
    left, right = (np.asarray(shown.convert("RGB"), np.int64)[50, at] for at in (10, 90))
    if photometric == "MONOCHROME1":
        assert left.min() > 240
        assert right.max() < 15
    else:
        assert left.max() < 15
        assert right[0] > 230
        assert right[1:].max() < 25


def test_what_cannot_be_drawn_says_why(outputs: Outputs, tmp_path: Path) -> None:
    outputs.add(None)
    outputs.add(None, output="../secret.dcm")
    outputs.add(None, output="/etc/hostname")
    (tmp_path / "secret.dcm").write_bytes(encoded(square()))
    outputs.add(square(PixelData=b"\0\0"))
    report = square()
    del report.PixelData
    outputs.add(report)
    sheet = outputs.sheet(order="run")
    page = Page(sheet.write(tmp_path / "sheet.html")[0])
    said = [text.removeprefix("no picture: ") for text in page.text if text.startswith("no p")]
    assert said == ["UNREADABLE", "NOT_A_FILE", "NOT_A_FILE", "TRUNCATED", "no pixels"]
    assert sheet.counts["not shown"] == 4
    assert page.tiles[0]["device"] == "unknown device"


def test_many_objects_go_on_several_pages(outputs: Outputs, tmp_path: Path) -> None:
    ds = square()
    outputs.add(ds)
    outputs.lines = [outputs.lines[0] | {"object": number} for number in range(1101)]
    pages = outputs.sheet(order="run").write(tmp_path / "all sheets.html")
    assert [path.name for path in pages] == ["all sheets.html", "all sheets-2.html", "all sheets-3.html"]
    read = [Page(path) for path in pages]
    assert [int(tile["number"]) for page in read for tile in page.tiles] == list(range(1101))
    assert [len(page.tiles) for page in read] == [500, 500, 101]
    assert {one["href"] for one in read[1].all("a")} == {"all%20sheets.html", "all%20sheets-3.html"}
    assert not list(tmp_path.glob(".*"))


def test_nothing_is_written_over(outputs: Outputs, tmp_path: Path) -> None:
    sheet = filled(outputs).sheet()
    (tmp_path / "sheet.html").write_text("signed")
    with pytest.raises(PolicyError, match="there already"):
        sheet.write(tmp_path / "sheet.html")
    assert (tmp_path / "sheet.html").read_text() == "signed"
    with pytest.raises(PolicyError, match="cannot be written"):
        sheet.write(tmp_path / "no folder" / "sheet.html")


@pytest.mark.parametrize("content", ["no json", "[1]\n", None])
def test_what_is_no_report_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.jsonl").write_text(content)
    with pytest.raises(PolicyError, match="the report"):
        ContactSheet(tmp_path, tmp_path / "report.jsonl")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_command_draws_the_outputs_of_a_run_and_no_original(tmp_path: Path) -> None:
    """Header and pixels name the patient; the page made of the outputs does not."""
    from dicomshield.cli import main

    screen = ct(rows=64, columns=64, SOPClassUID=SecondaryCaptureImageStorage, Manufacturer="ACME")
    values = np.zeros((64, 64), "<u2")
    values[2:10, 2:60:2] = 4000
    values[40:50, 20:40] = 2000
    screen.PixelData = values.tobytes()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "Quastelberry.dcm").write_bytes(encoded(screen))
    (tmp_path / "in" / "held back.dcm").write_bytes(b"no object of Quastelberry")
    report, out = tmp_path / "report.jsonl", tmp_path / "sheet.html"
    with pytest.raises(SystemExit):
        main(["deidentify", *map(str, (tmp_path / "in", tmp_path / "out")), "--project", str(tmp_path / "project"),
              "--mask", "0,0,64,12", "--report", str(report), "--workers", "1"])  # fmt: skip
    done = run(tmp_path / "out", "--report", report, "--out", out)
    assert done.exit_code == 0, done.output
    page = Page(out)
    (tile,) = page.tiles
    assert tile["device"] == "ACME"
    assert "NOT_DICOM" in page.text
    assert [token for token in TOKENS if token.lower() in page.source.lower()] == []
    (shown,) = page.pictures()
    grey = np.asarray(shown)
    assert grey[:10].max() < 30
    assert grey[45, 30] > 100
    released = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert released.SOPInstanceUID in page.source
    for where in (tmp_path / "out" / "sheet.html", out):
        assert isinstance(run(tmp_path / "out", "--report", report, "--out", where).exception, PolicyError)


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no browser installed (Debian: chromium)")
    return found


def opened(browser: str, page: Path, chosen: str = "") -> tuple[str, list[tuple[int, bool]]]:
    """Open a page in a browser; return the counter of its script, and number and visibility of its tiles."""
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent}/browser",
         "--enable-logging=stderr", "--dump-dom", f"{page.as_uri()}#{chosen}"],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, "the page broke its own policy, or its script failed"
    tiles = re.findall(r'<article data-number="(\d+)"([^>]*)>', done.stdout)
    counter = re.search(r'<output id="shown">([^<]*)', done.stdout)
    assert counter is not None
    return counter[1], [(int(number), "hidden" not in rest) for number, rest in tiles]


def test_script_orders_and_filters_in_a_browser(browser: str, outputs: Outputs, tmp_path: Path) -> None:
    """The address holds what is chosen; the Content Security Policy lets the page's own script run, and no other."""
    outputs.add(square(Manufacturer=HOSTILE[:64]), mask=mask(area=0.9))
    filled(outputs).sheet(order="run").write(tmp_path / "sheet.html")
    count, tiles = opened(browser, tmp_path / "sheet.html")
    assert (count, [number for number, _ in tiles]) == ("6 of 6 shown", [1, 2, 3, 4, 6, 7])
    orders = {"area": [4, 1, 7, 3, 6, 2], "least": [2, 6, 3, 7, 1, 4], "device": [1, 3, 2, 4, 7, 6]}
    for order, numbers in orders.items():
        assert [number for number, _ in opened(browser, tmp_path / "sheet.html", f"order={order}")[1]] == numbers
    chosen = "finder=%3Dtext&device=%3DAlpha+Model&order=area"
    count, tiles = opened(browser, tmp_path / "sheet.html", chosen)
    assert count == "1 of 6 shown"
    assert [number for number, shown in tiles if shown] == [3]
    count, tiles = opened(browser, tmp_path / "sheet.html", "modality=%3DCT&outcome=%3Dreleased")
    assert sorted(number for number, shown in tiles if shown) == [1, 2, 6, 7]

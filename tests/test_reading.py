"""Text in boxes is read, what it says stays where it is, and only what tells nothing of anybody may stay visible."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from factories import BORN, HOSPITAL, NAME, PATIENT_ID, PHYSICIAN, STUDY_DATE
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicomshield import Finding, MissingExtra
from dicomshield.finders.text import models
from dicomshield.finders.text.boxes import Line
from dicomshield.finders.text.harmless import GRAMMAR, allowed, kept, own_values
from dicomshield.finders.text.reading import Read, Reader, folded, identifiers_read
from dicomshield.identity.known import Harvest, known_spellings, shared

Picture = NDArray[np.uint8]
HARMLESS = tuple(
    (
        "L|R|RIGHT|L MLO|R-CC|AP|PORTABLE|SUPINE|120 kV|kVp 120|200 mA|5.6 mAs|W 400 L 40|MI 1.1|TIS 0.4|Zoom 100%|"
        "FOV 24.0 cm|5 cm|25 mm/s|28 fps|5.0 MHz|TE 90|TR 4000|Se 3 Im 14|Gn 60|A|P|F|THK 5.0 mm|AO 100%"
    ).split("|")
)
IDENTIFYING = tuple(
    (
        "LI|NG|LEE|PAUL|LENA|LATHAM|RIGBY|LEFTON|WRIGHT|ALI|ERIC|SUPAN|MLOTEK|APEL|JK|RM|L LI|R SMITH|DOE, L|AP.|"
        "MRN120|ID 4711|R12345|TR12345678|12.03.1947|1947-05-23|03/12/47|23-MAY-1947|10:15|072Y|172 cm|68 kg|"
        "748-39-201|C61|SE20190822"
    ).split("|")
)


def fonts() -> list[str]:
    """Return fonts of the system, none if there are none: the one that Pillow brings along is always drawn."""
    found = sorted(Path("/usr/share/fonts").rglob("*.ttf"))
    wanted = ("DejaVuSans.ttf", "DejaVuSansMono.ttf", "LiberationSans-Regular.ttf", "LiberationSerif-Regular.ttf")
    return [str(path) for path in found if path.name in wanted]


def drawn(text: str, size: int = 24, font: str | None = None, grey: int = 255, turn: int = 0) -> tuple[Picture, Line]:
    """Draw a line of text on grey noise; return it with the box around its ink, in the form the detector gives it."""
    form = ImageFont.truetype(font, size) if font else ImageFont.load_default(size)
    left, top, right, bottom = form.getbbox(text)
    wide, high = int(right - left), int(bottom - top)
    margin = size
    ink = Image.new("L", (wide + 2 * margin, high + 2 * margin))
    ImageDraw.Draw(ink).text((margin - left, margin - top), text, font=form, fill=255)
    cover = np.rot90(np.asarray(ink, np.float32) / 255, -turn)
    noise = np.random.default_rng(7).normal(40, 4, cover.shape)
    image = np.clip(noise * (1 - cover) + grey * cover, 0, 255).astype(np.uint8)
    high, wide = high + size // 3, wide + size // 3
    y, x = image.shape[0] / 2, image.shape[1] / 2
    if high > wide * 1.5:
        wide, high, turn = high, wide, 1
    return image, Line(x, y, wide, high, 90 * turn)


def own(*values: tuple[str, str]) -> frozenset[str]:
    """Return the own values of a patient, from kinds and texts."""
    return own_values((shared(Harvest(kind, text.encode(), b"ISO_IR 192") for kind, text in values),))


@pytest.fixture(scope="module")
def reader() -> Reader:
    pytest.importorskip("onnxruntime", reason="the extra ocr is not installed")
    return Reader()


@pytest.mark.parametrize("font", [None, *fonts()])
def test_text_is_read_in_any_font(reader: Reader, font: str | None) -> None:
    texts = ["Quastelberry", "74839201", "22.08.2019", "L MLO", "120 kV"]
    read = [reader.read(*_one(drawn(text, 28, font)))[0] for text in texts]
    assert [one.text.replace(" ", "") for one in read] == [text.replace(" ", "") for text in texts]
    assert min(one.confidence for one in read) > 0.5


def _one(picture: tuple[Picture, Line]) -> tuple[Picture, list[Line]]:
    return picture[0], [picture[1]]


def test_lines_of_a_batch_are_read_as_each_alone(reader: Reader) -> None:
    """Boxes of one image keep their order, however wide they are."""
    pictures = [drawn(text, 22) for text in ("Fennimore Harbour Hospital", "L", "22.08.2019", "Xenophon", "W 400 L 40")]
    wide = max(image.shape[1] for image, _ in pictures)
    rows = [np.pad(image, ((0, 0), (0, wide - image.shape[1])), constant_values=40) for image, _ in pictures]
    starts = np.cumsum([0, *(len(row) for row in rows)])
    lines = [line._replace(y=line.y + start) for (_, line), start in zip(pictures, starts, strict=False)]
    alone = [reader.read(*_one(picture))[0].text for picture in pictures]
    assert [one.text for one in reader.read(np.concatenate(rows), lines)] == alone
    assert alone[0] == "Fennimore Harbour Hospital"


def test_text_that_runs_down_or_up_is_read(reader: Reader) -> None:
    for turn in (1, 3):
        image, line = drawn("XENOPHON", 28, turn=turn)
        assert reader.read(image, [line._replace(angle=90)])[0].text == "XENOPHON"


def test_colour_and_single_plane_views_are_read(reader: Reader) -> None:
    image, line = drawn("XENOPHON", 28)
    for view in (image[..., None], np.repeat(image[..., None], 3, axis=2), 255 - image):
        assert reader.read(view, [line])[0].text == "XENOPHON"


def test_an_empty_box_says_nothing(reader: Reader) -> None:
    read = reader.read(np.full((60, 200), 40, np.uint8), [Line(100, 30, 120, 24, 0)])
    assert read == [Read("", 0.0, 5.0)]
    assert reader.read(np.zeros((9, 9), np.uint8), []) == []


def test_what_was_read_is_not_in_a_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    """A `Read` may end up in a traceback or a log line of somebody's; its text may not."""
    read = Read("Quastelberry", 0.97, 6.0)
    logging.getLogger("test").warning("%s %r %s", read, [read], {"read": read})
    assert "uastelberry" not in f"{read} {read!r} {caplog.text} {caplog.records[0].args}"
    assert "0.97" in repr(read)
    assert pickle.loads(pickle.dumps(read)) == read  # noqa: S301


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"dicomshield\[ocr\]"):
        Reader(threads=5).read(*_one(drawn("L")))


_FORK = """
import multiprocessing, sys
sys.path.insert(0, {folder!r})
from test_reading import drawn, read_in_child
from dicomshield.finders.text.reading import Reader
image, line = drawn("Xenophon", 28)
first = Reader(2).read(image, [line])[0].text
with multiprocessing.get_context("fork").Pool(2) as pool:
    print([first, *pool.map(read_in_child, range(4), 1), "rapidocr" in sys.modules])
"""


def read_in_child(_: int) -> str:
    image, line = drawn("Xenophon", 28)
    return Reader(2).read(image, [line])[0].text


def test_processes_that_fork_after_reading_read_too(reader: Reader) -> None:
    """The threads of a session do not survive a fork; whoever used it would wait for ever."""
    assert reader
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork on this system")
    script = _FORK.format(folder=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.strip() == str([*["Xenophon"] * 5, False])


def test_the_table_takes_what_devices_write() -> None:
    assert [text for text in HARMLESS if not allowed(text)] == []
    assert [text for text in IDENTIFYING if allowed(text)] == []
    assert all(kind and pattern.isascii() for kind, pattern in GRAMMAR)


@pytest.mark.parametrize("text", ["l", "r", "а", "Ｌ", "ſ", "120 \u212aV", "٣ cm", "", " ", "L R", "LL R", "120"])
def test_only_plain_whole_entries_are_in_the_table(text: str) -> None:
    """Letters of other alphabets and small ones look like entries: l may be an I, and \u0430 is no a."""
    assert not allowed(text)


def numbers() -> Iterator[str]:
    """Yield dates, times, ages and record numbers, as screens show them."""
    for year, month, day in product((1931, 1947, 2003, 2024), (1, 5, 10, 12), (1, 9, 23)):
        for joint in ("-", "/", ".", " ", ""):
            yield joint.join((f"{year}", f"{month:02}", f"{day:02}"))
            yield joint.join((f"{day:02}", f"{month:02}", f"{year}"))
            yield joint.join((f"{month}", f"{day}", f"{year % 100:02}"))
        yield f"{day} MAY {year}"
        yield f"{day:02}:{month:02}:{year % 60:02}"
    for number, label in product(("4711", "74839", "748392", "74839201"), ("", "ID ", "MRN", "#", "R", "L", "C", "F ")):
        yield f"{label}{number}"
    yield from (f"{age:03}{unit}" for age in range(100) for unit in ("Y", "M", "D"))


def test_no_date_time_age_or_record_number_is_an_entry() -> None:
    texts = list(numbers())
    assert len(texts) > 1000
    assert [text for text in texts if allowed(text)] == []
    # the same beside every label of the table: five digits in a row are never harmless
    labels = {text.rstrip("0123456789.%,") for text in HARMLESS}
    assert [text for label in labels for text in (f"{label}12345", f"{label} 20190822") if allowed(text)] == []


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("L", "name", "L"), ("L", "name", "Lopez^Maria"), ("L", "name", "Maria^Lopez"), ("LM", "name", "Lopez^Maria"),
        ("LM", "name", "Maria^Lopez"), ("ML", "name", "Lopez^Maria"), ("PA", "name", "Pa^Xu"), ("AP", "name", "AP"),
        ("RIGHT", "name", "Right^Anna"), ("ERECT", "name", "Erect^X"), ("LEFT", "name", "Doe^Left"),
        ("A", "name", "Анна"), ("H", "name", "Иван"), ("LL", "name", "Li^Lu=李^路"), ("120 kV", "identifier", "120"),
        ("TE 90", "identifier", "0090"), ("L MLO", "name", "Lopez"), ("MI 1.1", "identifier", "1.1"),
        ("TE 90", "identifier", "90"), ("TE 90", "identifier", "TE90"), ("TE 90", "identifier", "TE-90"),
        ("TE 90", "identifier", "TE9O"), ("SE 3", "identifier", "SE3"), ("TR 1947", "date", "19470523"),
        ("MI 1.1", "name", "Mi^Xu"), ("L MLO", "name", "Mlo^X"), ("2D", "identifier", "2D"),
        ("W 2305", "date", "19470523"),
    ],
)  # fmt: skip
def test_what_occurs_in_the_patients_values_goes(reader: Reader, text: str, kind: str, value: str) -> None:
    """A patient may be called L, have these initials, or be number 120; characters that look alike are the same."""
    image, line = drawn(text, 32)
    assert kept(reader, image, [line], own(("name", "Zyx^Qwok")))[1] == [True]
    assert kept(reader, image, [line], own((kind, value), ("name", "Zyx")))[1] == [False]


def test_what_stands_beside_text_that_goes_goes_too(reader: Reader) -> None:
    """R may begin R SMITH; a line above or below, or far away, is another one."""
    base = [drawn(text, 28) for text in ("R", "SMITH")]
    high = max(len(image) for image, _ in base)
    left, right = (np.pad(image, ((0, high - len(image)), (0, 0)), constant_values=40) for image, _ in base)
    lines = [base[0][1], base[1][1]]
    for gap, stays in ((-20, False), (200, True)):
        apart = np.full((high, max(gap, 0)), 40, np.uint8)
        image = np.concatenate([left[:, : left.shape[1] + min(gap, 0)], apart, right], axis=1)
        beside = lines[1]._replace(x=lines[1].x + left.shape[1] + gap)
        assert kept(reader, image, [lines[0], beside], frozenset())[1] == [stays, False]
    below = np.concatenate([np.pad(left, ((0, 0), (0, right.shape[1] - left.shape[1])), constant_values=40), right])
    assert kept(reader, below, [lines[0], lines[1]._replace(y=lines[1].y + high)], frozenset())[1] == [True, False]


def test_a_letter_in_a_long_box_goes(reader: Reader) -> None:
    """What else is in the box was not read, so it may be a name."""
    image, line = drawn("L", 32)
    image = np.pad(image, ((0, 0), (0, 300)), constant_values=40)
    assert kept(reader, image, [Line(line.x + 80, line.y, 200, 34, 0)], frozenset())[1] == [False]


def test_most_harmless_text_stays_and_nothing_identifying(reader: Reader) -> None:
    """Measured over fonts, sizes and greys; the patient's own values are not even known here."""
    chance = random.Random(5)  # noqa: S311
    shapes = [(size, font, grey) for size in (12, 16, 24, 40) for font in (None, *fonts()) for grey in (255, 170, 120)]
    stayed = dict.fromkeys((HARMLESS, IDENTIFYING), 0)
    for texts in stayed:
        for number in range(105):
            size, font, grey = chance.choice(shapes)
            image, line = drawn(texts[number % len(texts)], size, font, grey)
            stayed[texts] += kept(reader, image, [line], frozenset())[1][0]
    assert stayed[HARMLESS] > 0.7 * 105
    assert stayed[IDENTIFYING] == 0


HARVEST = shared(
    Harvest(kind, text.encode(), b"ISO_IR 100")
    for kind, text in (
        ("name", NAME), ("name", PHYSICIAN), ("identifier", PATIENT_ID), ("identifier", "ACC5550199"), ("date", BORN),
        ("date", STUDY_DATE), ("institution", HOSPITAL),
    )
)  # fmt: skip
SPELLINGS = known_spellings((HARVEST,))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("QUASTELBERRY, XENOPHON", "name"), ("Quaste1berry X", "name"), ("QUASTELBEPRY", "name"), ("XEN0PH0N", "name"),
        ("XENO PHON", "name"), ("Xenophon^M", "name"), ("GRIMSDOTTIR", "name"), ("GRIMSDOTT1R, U", "name"),
        ("UIrika", "name"), ("PATIENT:QUASTELBERRY", "name"), ("748-39-201", "identifier"), ("7483920l", "identifier"),
        ("MRN 74839201", "identifier"), ("74 839 201", "identifier"), ("74839Z01", "identifier"),
        ("ACC555O199", "identifier"), ("19470523", "date"), ("1947-O5-23", "date"), ("23.05.1947", "date"),
        ("23/05/47", "date"), ("May 23, 1947", "date"), ("23-MAY-1947", "date"), ("22 08 2019", "date"),
        ("22.O8.2O19 10:15", "date"), ("FENNIM0RE HARBOUR", "institution"), ("Fennirnore Hosp", "institution"),
    ],
)  # fmt: skip
def test_known_identifiers_are_found_though_misread(text: str, kind: str) -> None:
    """PS3.15 E.1.1: what is in the header is looked for in the pixels; by kind, never by value."""
    findings = identifiers_read(["120 kV", text, "L"], SPELLINGS)
    assert [finding.kind for finding in findings] == [kind]
    assert all(type(finding) is Finding and finding.spellings > 0 for finding in findings)


@pytest.mark.parametrize(
    "text",
    [*HARMLESS, "General Hospital", "XENON", "23.05.1948", "20190823", "22.08.2018", "10:15:30", "Quest", "74839"],
)  # fmt: skip
def test_other_text_is_no_finding(text: str) -> None:
    assert identifiers_read([text], SPELLINGS) == ()


def test_what_looks_alike_is_folded_to_the_same() -> None:
    assert folded("OIl|S8ZG") == folded("01115826")
    assert folded("Müller") == folded("MULLER")
    assert folded("АННА") == folded("AHHA")
    assert folded("Quastelberry") != folded("Grimsdottir")

"""The text detector finds text however it is stored, says what it looked at, and bears whatever it is given."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from factories import ct, encoded, shared
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from dicomshield import PolicyError
from dicomshield.encoding.scan import Scanner, Verdict
from dicomshield.encoding.source import Source
from dicomshield.finders.finder import Image
from dicomshield.finders.text.boxes import canvas, undecided
from dicomshield.finders.text.boxes import written as written_in
from dicomshield.finders.text.detector import TextDetector
from dicomshield.finders.text.finder import TextFinder
from dicomshield.opened import opened, pixel_element
from dicomshield.pixels.decode import Frames
from dicomshield.pixels.layout import Layout, palette
from dicomshield.pixels.region import Shape, compiled
from dicomshield.profile import FACTS, vr_of

pytest.importorskip("onnxruntime")
pytest.importorskip("rapidocr")

ROWS, COLUMNS = 160, 256
TEXT = "QUASTELBERRY 74839201"
Frame = NDArray[Any]


def ink(
    text: str = TEXT, *, size: int = 16, at: tuple[int, int] = (60, 30), shape: tuple[int, int] = (ROWS, COLUMNS)
) -> Frame:
    """Return how much ink there is, 0 to 1; ``at`` is row and column."""
    page = Picture.new("L", shape[::-1])
    ImageDraw.Draw(page).text(at[::-1], text, fill=255, font=ImageFont.load_default(size))
    return np.asarray(page, np.float64) / 255


def scene(shape: tuple[int, int] = (ROWS, COLUMNS), seed: int = 3) -> Frame:
    """Return something smooth and noisy between 0 and 1, as images are."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 0.3 + 0.15 * np.sin(x / 37) * np.cos(y / 29)
    return np.asarray(np.clip(smooth + np.random.default_rng(seed).normal(0, 0.01, shape), 0, 1))


def written(drawn: Frame, seed: int = 3) -> Frame:
    """Return the scene with bright ink on it, 0 to 1."""
    return np.asarray(scene(drawn.shape, seed) * (1 - drawn) + 0.9 * drawn)


def mask_of(shapes: Sequence[Shape], rows: int, columns: int) -> NDArray[np.bool_]:
    """Return which pixels are masked."""
    mask = np.zeros((rows, columns), bool)
    for top, bottom, left, right in compiled(shapes, rows, columns, 1)[0].boxes:
        mask[top:bottom, left:right] = True
    return mask


def covered(
    frames: Sequence[Frame], drawn: Frame, photometric: str = "MONOCHROME2", preset: str = "default", **more: Any
) -> float:
    """Return the share of ink that is found."""
    found = TextDetector(preset).find(frames, photometric, **more)
    mask = mask_of(found, *drawn.shape)
    return float(mask[drawn > 0.35].mean())


def _grey(dtype: str, low: float, high: float) -> Callable[[Frame], Frame]:
    return lambda shown: (low + shown * (high - low)).astype(dtype)


def _rgb(shown: Frame) -> Frame:
    return np.stack([(shown * 255).astype(np.uint8)] * 3, axis=-1)


def _ybr(shown: Frame) -> Frame:
    luma = (shown * 255).astype(np.uint8)
    return np.stack([luma, np.full_like(luma, 128), np.full_like(luma, 128)], axis=-1)


FORMS: dict[str, tuple[Callable[[Frame], Frame], str, int]] = {
    "8 bits": (_grey("u1", 0, 255), "MONOCHROME2", 8),
    "12 bits": (_grey("<u2", 0, 4095), "MONOCHROME2", 12),
    "16 bits": (_grey("<u2", 0, 65535), "MONOCHROME2", 16),
    "signed": (_grey("<i2", -1024, 2000), "MONOCHROME2", 16),
    "32 bits": (_grey("<u4", 0, 4e9), "MONOCHROME2", 32),
    "float": (_grey("<f4", -1e-3, 1e-3), "MONOCHROME2", 32),
    "double": (_grey("<f8", 0, 1e300), "MONOCHROME2", 64),
    "inverted": (lambda shown: (255 - shown * 255).astype(np.uint8), "MONOCHROME1", 8),
    "RGB": (_rgb, "RGB", 8),
    "YBR_FULL": (_ybr, "YBR_FULL", 8),
    "YBR_FULL_422": (_ybr, "YBR_FULL_422", 8),
    "YBR_PARTIAL_422": (lambda shown: _ybr(16 / 255 + shown * 219 / 255), "YBR_PARTIAL_422", 8),
}


@pytest.mark.parametrize("form", FORMS)
def test_text_is_found_in_every_form_of_pixels(form: str) -> None:
    """PS3.3 C.7.6.3.1.2 and PS3.5 8.1.1: whatever the interpretation, depth and sign."""
    store, photometric, bits = FORMS[form]
    drawn = ink()
    assert covered([store(written(drawn))], drawn, photometric, bits=bits) > 0.99


def test_one_bit_text_is_found() -> None:
    """1-bit pixels have no grey to judge contrast by."""
    drawn = ink()
    assert covered([(drawn > 0.5).astype(np.uint8)], drawn, bits=1) > 0.99


def test_palette_text_is_found() -> None:
    """PS3.3 C.7.6.3.1.5: stored values say nothing, their colours do."""
    drawn, numbers = ink(), np.arange(256) * 91 % 256
    colours = np.repeat(np.argsort(numbers)[:, None], 3, axis=1).astype(np.uint8)
    stored = numbers[(written(drawn) * 255).astype(np.uint8)].astype(np.uint8)
    assert covered([stored], drawn, "PALETTE COLOR", palette=(0, colours), bits=8) > 0.99


@pytest.mark.parametrize("colour", [(200, 30, 30), (40, 60, 255)])
def test_text_as_bright_as_what_it_lies_on_is_found_by_its_colour(colour: tuple[int, int, int]) -> None:
    drawn = ink(size=20, at=(60, 4))
    grey = np.repeat((scene() * 255)[..., None], 3, axis=2)
    shown = grey * (1 - drawn[..., None]) + np.array(colour) * drawn[..., None]
    assert covered([shown.astype(np.uint8)], drawn, "RGB", bits=8) > 0.99


def test_yellow_text_on_white_is_found() -> None:
    """The brightest of red, green and blue shows nothing of it; the darkest does."""
    drawn = ink(size=20, at=(60, 4))
    shown = np.full((ROWS, COLUMNS, 3), 250.0)
    shown[..., 2] -= 200 * drawn
    assert covered([shown.astype(np.uint8)], drawn, "RGB", bits=8) > 0.99


def test_bits_above_those_stored_do_not_hide_text() -> None:
    """PS3.5 8.1.1: what lies above Bits Stored, such as old overlays, is no part of the image."""
    drawn = ink()
    stored = (written(drawn) * 4095).astype("<u2") | (
        np.random.default_rng(1).integers(0, 16, drawn.shape) << 12
    ).astype("<u2")
    assert covered([stored], drawn, bits=12) > 0.99


def test_padding_does_not_hide_text() -> None:
    """A step of thousands between padding and picture leaves room for faint text (PS3.3 C.7.5.1.1.2)."""
    drawn = ink(at=(60, 40))
    shown = (1000 + scene() * 50 + drawn * 40).astype("<i2")
    shown[:, :36] = -32000
    assert covered([shown], drawn) > 0.99


def test_numbers_that_are_none_do_not_hide_text() -> None:
    drawn = ink()
    shown = written(drawn).astype(np.float32)
    shown[:30, :40], shown[140:, 200:], shown[0, 100] = np.nan, np.inf, -np.inf
    assert covered([shown], drawn) > 0.99


@pytest.mark.parametrize("at", [(-6, 30), (148, 30), (60, -30), (60, 120)])
def test_text_cut_by_the_border_is_found(at: tuple[int, int]) -> None:
    drawn = ink(at=at)
    assert covered([(written(drawn) * 255).astype(np.uint8)], drawn) > 0.9


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_turned_text_is_found(turn: int) -> None:
    drawn = np.rot90(ink(), turn).copy()
    assert covered([(written(drawn) * 255).astype(np.uint8)], drawn) > 0.98


def _ruled(drawn: Frame, step: int) -> Frame:
    """Return the scene with the ink, and lines at even distances behind it, both ways."""
    shown = scene(drawn.shape)
    shown[step // 2 :: step], shown[:, step // 2 :: step] = 0.7, 0.7
    return np.asarray(shown * (1 - drawn) + 0.9 * drawn)


@pytest.mark.parametrize("letter", ["2", "5", "7", "R", "K"])
@pytest.mark.parametrize("step", [26, 41])
def test_a_letter_alone_is_found_on_a_grid(letter: str, step: int) -> None:
    drawn = ink(letter, size=20, at=(66, 90))
    assert covered([(_ruled(drawn, step) * 255).astype(np.uint8)], drawn) > 0.9


def test_a_number_at_the_end_of_a_ruler_is_found() -> None:
    drawn = ink("19", size=14, at=(128, 34))
    shown = written(drawn)
    for tick, at in enumerate(range(20, 140, 6)):
        shown[at, 20 : 30 if tick % 5 == 0 else 25] = 0.9
    assert covered([(shown * 255).astype(np.uint8)], drawn) > 0.97


def test_letters_far_apart_and_below_one_another_are_found() -> None:
    apart = ink("H O L M B E R G", size=14, at=(20, 20))
    below = sum(ink(letter, size=14, at=(50 + 16 * at, 200)) for at, letter in enumerate("LINDA"))
    drawn = np.maximum(apart, below)
    assert covered([(written(drawn) * 255).astype(np.uint8)], drawn) > 0.97


def test_large_text_is_found() -> None:
    """Letters of a fifth of the image and more: no height is too great for every scale."""
    drawn = ink("XENO", size=110, at=(120, 60), shape=(400, 480))
    assert covered([(written(drawn) * 255).astype(np.uint8)], drawn) > 0.95


@pytest.mark.parametrize("text", ["L", "LTF", "1471"])
def test_no_mask_draws_the_letter_that_it_hides(text: str) -> None:
    """A strip over each stroke of a letter says which one it was."""
    drawn = ink(text, size=130, at=(60, 60), shape=(360, 520))
    found = mask_of(TextDetector().find([(written(drawn) * 255).astype(np.uint8)], "MONOCHROME2"), *drawn.shape)
    cv2 = pytest.importorskip("cv2")
    number, letters = cv2.connectedComponents((drawn > 0.35).astype(np.uint8))
    for letter in range(1, number):
        outline = np.zeros(drawn.shape, np.uint8)
        cv2.fillConvexPoly(outline, cv2.convexHull(cv2.findNonZero((letters == letter).astype(np.uint8))), 1)
        assert found[outline > 0].mean() > 0.85


def test_a_word_that_touches_a_line_is_masked_without_what_is_between_them() -> None:
    """A word and a ruled frame that it touches are one part; the rectangle around that is the image."""
    ink = np.zeros((400, 400), np.uint8)
    ink[12:28, 37:240] = ink[12:390, 37:41] = ink[386:390, 37:390] = 200
    boxes = canvas(written_in(ink, 0.3, 0.5, 1), *ink.shape) > 0
    assert boxes[ink > 0].all()
    assert not boxes[80:330, 100:].any()


def test_a_block_of_lines_is_masked_line_by_line() -> None:
    """From afar several lines are one block; what is beside the short ones is image."""
    lines = enumerate(("SUPINE 20190510", "R", "H", "WESTWAY MEDICAL"))
    drawn = np.maximum.reduce([ink(line, size=18, at=(20 + 32 * at, 30), shape=(400, 400)) for at, line in lines])
    found = mask_of(TextDetector().find([(written(drawn) * 255).astype(np.uint8)], "MONOCHROME2"), *drawn.shape)
    assert found[drawn > 0.35].mean() > 0.97
    assert found[58:108, 80:200].mean() < 0.05


@given(seed=st.integers(0, 1 << 32), strokes=st.integers(1, 8), turned=st.booleans())
def test_boxes_cover_what_is_drawn_and_are_no_strips_of_it(seed: int, strokes: int, turned: bool) -> None:
    """Whatever is drawn, every pixel of it is covered, by boxes as large as a letter or as what there is."""
    cv2, chance = pytest.importorskip("cv2"), np.random.default_rng(seed)
    ink = np.zeros((200, 240), np.uint8)
    points = chance.integers(20, 180, (strokes + 1, 2))
    if not turned:  # upright strokes
        points[1::2, 0], points[2::2, 1] = points[:-1:2, 0], points[1:-1:2, 1]
    cv2.polylines(ink, [points.astype(np.int32)], False, 255, int(chance.integers(2, 9)))
    boxes = written_in(ink, 0.3, 0.5, 1)
    assert (canvas(boxes, *ink.shape) > 0)[ink > 0].mean() > 0.98
    whole = _length(np.argwhere(ink))
    assert all(max(box.length, box.height) >= min(48, whole) for box in boxes)


def _length(points: NDArray[np.int64]) -> float:
    return float(np.hypot(*(points.max(0) - points.min(0)))) / 2


def _loop(number: int, draw: Callable[[int], Frame | None]) -> tuple[list[Frame], Frame]:
    """Return frames of moving speckle with text, and where there ever was ink."""
    frames, ever = [], np.zeros((ROWS, COLUMNS))
    for at in range(number):
        drawn = draw(at)
        drawn = np.zeros((ROWS, COLUMNS)) if drawn is None else drawn
        ever = np.maximum(ever, drawn)
        frames.append((written(drawn, seed=at) * 255).astype(np.uint8))
    return frames, ever


@pytest.mark.parametrize(
    ("name", "draw"),
    [
        ("static", lambda _: ink()),
        ("changing", lambda at: ink(f"{at:02d}:{at * 7 % 60:02d}:{at * 13 % 60:02d}.{at * 131 % 1000:03d}")),
        ("transient", lambda at: ink() if at in (7, 8) else None),
        ("at times", lambda at: ink() if 4 < at < 11 else None),
        ("other each time", lambda at: ink(f"{at * 73856093 % 99991:05d} {at * 19349663 % 99991:05d}")),
    ],
)  # fmt: skip
def test_text_of_any_frame_is_in_the_one_mask(name: str, draw: Callable[[int], Frame | None]) -> None:
    """Static text, text that changes with each frame, and text that some or two frames of many show."""
    frames, ever = _loop(16, draw)
    assert covered(frames, ever) > 0.97, name


def _flowing(at: int) -> Frame:
    """Return speckle and, in the middle, spots of colour that come and go, as in Doppler ultrasound."""
    chance = np.random.default_rng(at)
    shown = np.repeat(chance.rayleigh(40, (ROWS, COLUMNS, 1)), 3, axis=2)
    flow = chance.normal(size=(8, 12)).repeat(8, axis=0).repeat(8, axis=1)
    middle = shown[48:112, 80:176]
    middle[flow > 0.7], middle[flow < -0.7] = (230, 70, 10), (20, 80, 240)
    return np.clip(shown, 0, 255).astype(np.uint8)


def test_speckle_and_flow_are_not_masked_as_text() -> None:
    found = TextDetector().find([_flowing(at) for at in range(24)], "RGB")
    assert mask_of(found, ROWS, COLUMNS).mean() < 0.01


def test_text_that_one_frame_shows_amid_speckle_and_flow_is_found() -> None:
    frames, drawn = [_flowing(at) for at in range(24)], ink(at=(12, 20))
    frames[9] = (frames[9] * (1 - drawn[..., None]) + 255 * drawn[..., None]).astype(np.uint8)
    assert covered(frames, drawn, "RGB") > 0.97


@given(seed=st.integers(0, 1 << 32), spots=st.integers(0, 60), side=st.integers(1, 40))
def test_a_part_of_ink_is_one_part_wherever_it_lies(seed: int, spots: int, side: int) -> None:
    """Parts are looked for box by box, and each is found as it would be in the whole map."""
    cv2, chance = pytest.importorskip("cv2"), np.random.default_rng(seed)
    ink = np.zeros((200, 170), np.uint8)
    for top, left in chance.integers(0, 170, (spots, 2)):
        ink[top : top + chance.integers(1, side + 1), left : left + chance.integers(1, side + 1)] = chance.integers(256)
    number, parts = cv2.connectedComponents((ink > 90).astype(np.uint8), connectivity=8)
    sure = {part for part in range(1, number) if ink[parts == part].max() >= 150}
    assert np.array_equal(undecided(ink, 90 / 255, 150 / 255), (parts > 0) & ~np.isin(parts, list(sure)))
    covered = canvas(written_in(ink, 90 / 255, 150 / 255, 1), *ink.shape) > 0
    large = [part for part in sure if (parts == part).sum() >= 4]
    assert covered[np.isin(parts, large)].all()
    assert bool(large) == covered.any()


@pytest.mark.parametrize(("preset", "most"), [("light", 2), ("default", 2), ("paranoid", 20)])
def test_many_frames_cost_two_looks_unless_each_is_asked_for(preset: str, most: int) -> None:
    frames = [(scene((32, 48), at) * 255).astype(np.uint8) for at in range(20)]
    looked = list(TextDetector(preset).looked(frames, "MONOCHROME2", None, None))
    assert 1 <= len(looked) <= most
    assert preset != "paranoid" or len(looked) == most


@pytest.mark.parametrize(("planes", "most"), [(1, 26), (3, 37)])
def test_a_large_frame_is_held_once(planes: int, most: int) -> None:
    """At no time more bytes are in use, for each pixel, than its planes take, one more of them, and maps."""
    side = 1200
    frame = np.repeat((scene((side, side))[..., None] * 255).astype(np.uint8), planes, 2)
    frame[: side // 4, : side // 4, 0] = 200
    detector, photometric = TextDetector(), "RGB" if planes == 3 else "MONOCHROME2"
    assert not detector.find([np.zeros((64, 64), np.uint8)], "MONOCHROME2")
    tracemalloc.start()
    try:
        detector.find([frame], photometric)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert used / side**2 < most


def test_what_small_scales_lack_of_a_line_large_ones_add(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is seen from afar is not forgotten because most of its letters were found from near."""
    near, afar = np.zeros((400, 400), np.uint8), np.zeros((200, 200), np.uint8)
    for column in (40, 90, 140, 240):
        near[100:140, column : column + 30] = 255
    afar[50:70, 20:135] = 255
    detector = TextDetector()
    monkeypatch.setattr(detector, "_ink", lambda *_: [(1.0, near), (0.5, afar)])
    mask = _mask(detector, np.arange(160_000, dtype=np.uint32).reshape(400, 400))
    assert mask[100:140, 190:220].all(), "a letter that nothing was seen of from near"
    assert mask[near > 0].all()
    assert mask.mean() < 1.5 * 40 * 230 / mask.size


def test_frames_are_not_kept() -> None:
    """A cine is streamed: only a few frames are alive at any time, however many it has."""

    class Counting:
        alive = most = 0

        def __len__(self) -> int:
            return 120

        def __getitem__(self, number: int) -> Frame:
            import weakref

            frame = (scene((32, 48), number) * 255).astype(np.uint8)
            Counting.alive += 1
            Counting.most = max(Counting.most, Counting.alive)
            weakref.finalize(frame, self._gone)
            return frame

        def _gone(self) -> None:
            Counting.alive -= 1

    TextDetector().find(Counting(), "MONOCHROME2")
    assert 0 < Counting.most < 20


def _noise(shape: tuple[int, int]) -> Frame:
    return np.random.default_rng(5).normal(100, 20, shape).astype(np.uint8)


@pytest.mark.parametrize(("preset", "most"), [("light", 0.02), ("default", 0.02), ("paranoid", 0.05)])
def test_nothing_is_found_where_nothing_is(preset: str, most: float) -> None:
    """A blank image, noise and a smooth one: little of them is masked, and nothing of the blank one."""
    detector = TextDetector(preset)
    assert detector.find([np.full((96, 96), 7, np.uint16)], "MONOCHROME2") == ()
    for frame in (_noise((96, 128)), (scene((96, 128)) * 255).astype(np.uint8)):
        assert mask_of(detector.find([frame], "MONOCHROME2"), 96, 128).mean() < most


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((1, 1), np.uint8), np.full((40, 40), np.nan, np.float32), np.full((2, 2, 3), 255, np.uint8),
        np.array([[-3.4e38, 3.4e38] * 20] * 40, np.float32), np.array([[0, 1 << 63]], np.uint64),
        np.random.default_rng(2).integers(0, 255, (3, 60000)).astype(np.uint8),
        np.random.default_rng(2).integers(0, 255, (9000, 1)).astype(np.uint8),
    ],
    ids=["one pixel", "no numbers", "colour", "extremes", "64 bits", "wide", "narrow"],
)  # fmt: skip
def test_strange_images_are_borne(frame: Frame) -> None:
    photometric = "RGB" if frame.ndim == 3 else "MONOCHROME2"
    rows, columns = frame.shape[:2]
    for number in (1, 9):
        assert mask_of(TextDetector().find([frame] * number, photometric), rows, columns).shape == (rows, columns)


def test_two_threads_find_what_one_finds() -> None:
    drawn, frame = ink() > 0.35, (written(ink()) * 255).astype(np.uint8)
    assert all(_mask(TextDetector(threads=threads), frame)[drawn].all() for threads in (1, 2))


def _mask(detector: TextDetector, frame: Frame) -> Frame:
    return mask_of(detector.find([frame], "MONOCHROME2"), *frame.shape)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_find_what_their_parent_finds(method: str) -> None:
    """A detector is sent to workers, also to those that were forked after it was used."""
    drawn, detector = ink() > 0.35, TextDetector(threads=2)
    frame = (written(ink()) * 255).astype(np.uint8)
    assert _mask(pickle.loads(pickle.dumps(detector)), frame)[drawn].all()  # noqa: S301
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply_async(_mask, (detector, frame)).get(60)[drawn].all()


@pytest.mark.parametrize("missing", ["onnxruntime", "cv2", "rapidocr"])
def test_without_the_extra_the_error_says_what_to_install(missing: str) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "import numpy as np\n"
        "from dicomshield import MissingExtra\n"
        "from dicomshield.finders.text.detector import TextDetector\n"
        "frame = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 7919 % 4096\n"
        "try:\n"
        "    TextDetector().find([frame], 'MONOCHROME2')\n"
        "except MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'dicomshield[ocr]'" in done.stdout, done.stderr


def test_importing_and_choosing_a_detector_loads_no_network() -> None:
    """Plain runs do not pay for it."""
    script = (
        "import sys\n"
        "from dicomshield.finders.text.finder import TextFinder\n"
        "TextFinder('paranoid', 2)\n"
        "print(sorted({'cv2', 'onnxruntime', 'rapidocr'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("wrong", [{"preset": "defalt"}, {"threads": 0}])
def test_wrong_settings_are_told(wrong: dict[str, Any]) -> None:
    with pytest.raises(PolicyError, match=r"default\?|one thread"):
        TextDetector(**wrong)


def _opened(data: bytes) -> Image:
    found = opened(Source.of(data), scanner, FACTS)
    element = pixel_element(found.scan)
    assert element is not None
    frames = Frames(found.container.source, element, Layout.of(found.header), found.container.transfer_syntax)
    return Image(found.header, "", frames)


def scanner(*, explicit: bool) -> Scanner:
    return Scanner(lambda tag, _: Verdict.NOTE if tag in FACTS else Verdict.KEEP, vr_of, explicit=explicit)


def test_the_finder_looks_at_every_frame_and_says_how() -> None:
    """PS3.3 C.7.6.6: frames of one object share the mask; few are looked at one by one."""
    drawn = ink()
    frames = np.stack([written(np.zeros_like(drawn)), written(drawn)]) * 4095
    ds = ct(rows=ROWS, columns=COLUMNS, NumberOfFrames=2, PixelData=frames.astype("<u2").tobytes())
    found = TextFinder().find(_opened(encoded(ds)))
    assert found.covers
    assert found.note == "2 of 2 frames were looked at (default)"
    assert mask_of(found.shapes, ROWS, COLUMNS)[drawn > 0.35].mean() > 0.99


def _identifying() -> dict[str, list[tuple[int, int, int, int]]]:
    """Return x, y, width and height of what identifies somebody, by file of the corpora."""
    truth = json.loads((shared() / "corpora" / "burned_in_truth.json").read_text("utf-8"))
    named = ((path, [tuple(box["box"]) for box in one["boxes"] if box["cls"] == "identifying"])
             for one in truth.values() for path in one["files"])  # fmt: skip
    return {path: boxes for path, boxes in named if boxes}


def uncovered(shapes: Sequence[Shape], boxes: list[tuple[int, int, int, int]], rows: int, columns: int) -> list[float]:
    """Return the share of each box that is not masked."""
    mask = mask_of(shapes, rows, columns)
    return [1 - float(mask[y : y + height, x : x + width].mean()) for x, y, width, height in boxes]


def test_every_real_identifier_is_covered() -> None:
    """Names, numbers, dates and places that devices drew into real images of the corpora."""
    left = {}
    for path, boxes in _identifying().items():
        image = _opened((shared() / "corpora" / path).read_bytes())
        layout, colours = image.frames.layout, None
        if layout.photometric == "PALETTE COLOR":
            first, entries = palette(layout, image.header)
            colours = first, np.array(entries)
        shapes = TextDetector().find(image.frames, layout.photometric, colours, layout.stored)
        left[path] = max(uncovered(shapes, boxes, layout.rows, layout.columns))
    assert len(left) >= 8
    assert {path: share for path, share in left.items() if share > 0.1} == {}

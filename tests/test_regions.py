"""Which pixels a shape means, and what black is (PS3.3 C.7.6.3)."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomshield import Bitmap, Polygon, Quarantined, Reason, Region, mask
from dicomshield.pixels.layout import Layout
from dicomshield.pixels.region import Box, compiled

COUNTS = st.integers(-25, 40)


@st.composite
def regions(draw: st.DrawFn) -> Region:
    """Draw a region, some of it or all of it outside the frame."""
    top, left = draw(COUNTS), draw(COUNTS)
    frames = draw(st.none() | st.tuples(st.integers(0, 4), st.integers(5, 9)))
    return Region.at(left, top, draw(st.integers(1, 40)), draw(st.integers(1, 40)), frames)


def drawn(shapes: list[Region], rows: int, columns: int, frame: int) -> NDArray[np.bool_]:
    """Draw regions pixel by pixel, by what `Region` promises."""
    canvas = np.zeros((rows, columns), bool)
    for region in shapes:
        if region.frames and not region.frames[0] <= frame < region.frames[1]:
            continue
        for row in range(rows):
            for column in range(columns):
                inside = []
                for at, size, low, high in (
                    (row, rows, region.top, region.bottom),
                    (column, columns, region.left, region.right),
                ):
                    low, high = (place + size if place < 0 else place for place in (low, high))
                    inside.append(low <= at < high)
                canvas[row, column] |= all(inside)
    return canvas


@given(st.lists(regions(), max_size=4), st.integers(1, 24), st.integers(1, 24), st.integers(1, 7))
def test_boxes_are_the_union_of_the_regions(shapes: list[Region], rows: int, columns: int, frames: int) -> None:
    """Every pixel of every region lies in exactly one box, in each frame, and no other pixel does."""
    plans = compiled(shapes, rows, columns, frames)
    assert [plan.first for plan in plans] == [0, *(plan.last for plan in plans[:-1])]
    assert plans[-1].last == frames
    for plan in plans:
        times = np.zeros((rows, columns), int)
        for box in plan.boxes:
            assert 0 <= box.top < box.bottom <= rows
            assert 0 <= box.left < box.right <= columns
            times[box.top : box.bottom, box.left : box.right] += 1
        for frame in (plan.first, plan.last - 1):
            assert np.array_equal(times, drawn(shapes, rows, columns, frame).astype(int))


@given(st.lists(st.tuples(st.floats(-9, 29), st.floats(-9, 29)), min_size=3, max_size=6), st.integers(0, 2**32 - 1))
def test_a_polygon_covers_every_pixel_it_touches(corners: list[tuple[float, float]], seed: int) -> None:
    """No point inside a polygon or on its border lies in a pixel that stays (text may stand at the very edge)."""
    canvas = np.zeros((20, 20), bool)
    for box in compiled([Polygon(tuple(corners))], 20, 20, 1)[0].boxes:
        canvas[box.top : box.bottom, box.left : box.right] = True
    random = np.random.default_rng(seed)
    for row, column in random.uniform(0, 20, (200, 2)):
        crossings = 0
        for (a, b), (c, d) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if min(a, c) <= row < max(a, c):
                crossings += b + (row - a) / (c - a) * (d - b) > column
        if crossings % 2:
            assert canvas[int(row), int(column)]
    for (a, b), (c, d) in zip(corners, [*corners[1:], corners[0]], strict=True):
        for part in random.uniform(0, 1, 20):
            row, column = a + part * (c - a), b + part * (d - b)
            if 0 <= row < 20 and 0 <= column < 20:
                # the last bit of a sum decides at the border between two pixels
                near = canvas[max(0, math.floor(row - 1e-9)) : int(row + 1e-9) + 1]
                assert near[:, max(0, math.floor(column - 1e-9)) : int(column + 1e-9) + 1].any()


def test_a_polygon_covers_no_more_than_that() -> None:
    """Of a right triangle stay all pixels on the far side of its diagonal."""
    boxes = compiled([Polygon(((0, 0), (8, 0), (8, 8)))], 8, 8, 1)[0].boxes
    assert boxes == (*(Box(row, row + 1, 0, row + 2) for row in range(6)), Box(6, 8, 0, 8))


def test_shapes_of_all_kinds_are_joined() -> None:
    """A bitmap and a rectangle that overlap become disjoint boxes."""
    pixels = np.zeros((6, 6), bool)
    pixels[1:3, 1:5] = pixels[4, 5] = True
    assert compiled([Bitmap(pixels), Region(2, 0, 4, 3)], 6, 6, 1)[0].boxes == (
        Box(1, 2, 1, 5),
        Box(2, 3, 0, 5),
        Box(3, 4, 0, 3),
        Box(4, 5, 5, 6),
    )


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "0,0,0,5", "0,0,5,-1", "", "1,2,3,4,5", "1.5,0,1,1"])
def test_what_is_no_region_is_refused(text: str) -> None:
    """A slip of the finger must not mask nothing."""
    with pytest.raises(ValueError, match=r"region|positive"):
        Region.parse(text)


def test_regions_without_pixels_are_refused() -> None:
    """Neither an empty rectangle nor a polygon of two corners can be meant."""
    with pytest.raises(ValueError, match="top < bottom"):
        Region(5, 0, 5, 10)
    with pytest.raises(ValueError, match="three corners"):
        Polygon(((0, 0), (1, 1)))
    with pytest.raises(ValueError, match="three corners"):
        Polygon(((0, 0), (1, 1), (float("nan"), 2)))
    with pytest.raises(ValueError, match="one after the last"):
        Region(0, 0, 1, 1, frames=(3, 3))
    with pytest.raises(ValueError, match="shape"):
        Bitmap(np.zeros((2, 2, 2), bool))


# mask()


@given(
    st.lists(regions(), max_size=3),
    st.sampled_from(["u1", "<u2", ">i2", "<f4", "f8"]),
    st.sampled_from([(3, 9, 11), (1, 9, 11), (2, 8, 5, 3), (9, 11)]),
    st.booleans(),
)
def test_mask_paints_the_regions_only(shapes: list[Region], kind: str, shape: tuple[int, ...], apart: bool) -> None:
    """Inside is the fill in every frame, outside every value is as it was, also where memory is not contiguous."""
    random = np.random.default_rng(7)
    frames = random.integers(1, 100, (*shape[:-1], shape[-1] * (2 if apart else 1))).astype(kind)
    frames = frames[..., ::2] if apart else frames
    before = frames.copy()
    fill: int | list[int] = [7, 128, 129] if len(shape) == 4 else 101
    if kind.endswith("f4"):
        fill = 101

    mask(frames, shapes, fill)

    view, old = (one[None] if one.ndim == 2 else one for one in (frames, before))
    for number in range(view.shape[0]):
        inside = drawn(shapes, view.shape[1], view.shape[2], number)
        assert np.array_equal(view[number][~inside], old[number][~inside])
        assert (view[number][inside] == np.asarray(fill)).all()


@pytest.mark.parametrize(
    ("frames", "fill", "error"),
    [
        ([[0, 1]], 0, TypeError),
        (np.zeros(5, "u1"), 0, ValueError),
        (np.zeros((2, 2, 2), "u1"), 256, ValueError),
        (np.zeros((2, 2, 2), "u1"), -1, ValueError),
        (np.zeros((1, 2, 2, 3), "u1"), [0, 1], ValueError),
        (np.zeros((2, 2, 2), "u1"), [[0]], ValueError),
    ],
)
def test_mask_refuses_what_it_cannot_paint(frames: NDArray[np.uint8], fill: float, error: type[Exception]) -> None:
    """A wrong shape or fill is an error, and changes nothing."""
    before = np.array(frames)
    with pytest.raises(error):
        mask(frames, [Region(0, 0, 1, 1)], fill)
    assert np.array_equal(frames, before)


def test_mask_refuses_read_only_frames() -> None:
    """What cannot be painted is not passed over."""
    frames = np.zeros((1, 4, 4), "u1")
    frames.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        mask(frames, [Region(0, 0, 1, 1)])


def test_a_bitmap_of_another_size_is_refused() -> None:
    """It was drawn on another image."""
    with pytest.raises(ValueError, match="does not fit"):
        mask(np.zeros((1, 4, 4), "u1"), [Bitmap(np.ones((5, 4), bool))])


# What black is


def header(photometric: str, *, stored: int = 8, allocated: int = 8, signed: bool = False) -> dict[int, bytes]:
    samples = 1 if photometric.startswith(("MONO", "PAL")) else 3
    shorts = {
        0x00280002: samples, 0x00280010: 4, 0x00280011: 4, 0x00280100: allocated, 0x00280101: stored,
        0x00280102: stored - 1, 0x00280103: int(signed),
    }  # fmt: skip
    return {tag: struct.pack("<H", value) for tag, value in shorts.items()} | {0x00280004: photometric.encode()}


@pytest.mark.parametrize(
    ("photometric", "stored", "allocated", "signed", "black"),
    [
        ("MONOCHROME2", 8, 8, False, (0,)),
        ("MONOCHROME2", 12, 16, True, (-2048,)),
        ("MONOCHROME1", 12, 16, False, (4095,)),
        ("MONOCHROME1", 16, 16, True, (32767,)),
        ("MONOCHROME1", 1, 1, False, (1,)),
        ("RGB", 8, 8, False, (0, 0, 0)),
        ("YBR_FULL", 8, 8, False, (0, 128, 128)),
        ("YBR_FULL_422", 16, 16, False, (0, 32768, 32768)),
        ("YBR_PARTIAL_422", 8, 8, False, (16, 128, 128)),
    ],
)
def test_black(photometric: str, stored: int, allocated: int, signed: bool, black: tuple[int, ...]) -> None:
    """Masked pixels are the darkest a viewer shows (PS3.3 C.7.6.3.1.2)."""
    form = Layout.of(header(photometric, stored=stored, allocated=allocated, signed=signed))
    assert form.black == black


def palette(*colours: tuple[int, int, int], first: int = 0, wide: bool = True) -> dict[int, bytes]:
    found = header("PALETTE COLOR")
    for number in range(3):
        found[0x00281101 + number] = struct.pack("<HHH", len(colours), first, 16 if wide else 8)
        found[0x00281201 + number] = struct.pack(
            f"<{len(colours)}{'H' if wide else 'B'}", *(colour[number] for colour in colours)
        )
    return found


@pytest.mark.parametrize("wide", [True, False])
def test_black_of_a_palette_is_its_darkest_colour(wide: bool) -> None:
    """It need not be the first one, nor 0; the table may begin at another stored value (C.7.6.3.1.5)."""
    colours = palette((200, 200, 200), (9, 9, 9), (0, 255, 0), first=20, wide=wide)
    assert Layout.of(colours).black == (21,)


def test_black_of_a_segmented_palette() -> None:
    """Discrete, linear and indirect segments are expanded (C.7.9.2)."""
    words = [0, 2, 900, 800, 1, 3, 200, 2, 1, 0, 0, 0, 1, 100]
    # 900 800 | 600 400 200 | 900 800 | 100
    found = header("PALETTE COLOR")
    for number in range(3):
        found[0x00281101 + number] = struct.pack("<HHH", 8, 0, 16)
        found[0x00281221 + number] = struct.pack(f"<{len(words)}H", *words)
    assert Layout.of(found).black == (7,)


@pytest.mark.parametrize("words", [[1, 5, 3], [2, 1, 9, 0], [7, 1, 1], [0, 2, 5], [], [1], [2, 9, 0, 0]])
def test_a_broken_segmented_palette_is_held_back(words: list[int]) -> None:
    """Neither a segment without a start nor one that copies itself hangs or gives a wrong black."""
    found = header("PALETTE COLOR")
    for number in range(3):
        found[0x00281101 + number] = struct.pack("<HHH", 8, 0, 16)
        found[0x00281221 + number] = struct.pack(f"<{len(words)}H", *words)
    with pytest.raises(Quarantined) as held:
        Layout.of(found)
    assert held.value.reason in (Reason.PIXELS, Reason.INCOMPLETE)


@pytest.mark.parametrize(
    "change",
    [
        {0x00280004: b"CMYK"},
        {0x00280002: b"\4\0"},
        {0x00280100: b"\x0c\0"},
        {0x00280101: b"\x09\0"},
        {0x00280102: b"\x0f\0"},
        {0x00280010: b"\0\0"},
        {0x00280008: b"0"},
        {0x00280101: b"\0\0"},
    ],
)
def test_pixels_that_are_not_understood_are_held_back(change: dict[int, bytes]) -> None:
    """Nobody knows what black is there, or where a pixel lies."""
    with pytest.raises(Quarantined) as held:
        Layout.of(header("MONOCHROME2") | change)
    assert held.value.reason is Reason.PIXELS


def test_shapes_of_a_profile_tell_themselves_apart() -> None:
    """The digest of a profile is made of what shapes print, so it must show every pixel."""
    one, other = np.zeros((300, 300), bool), np.zeros((300, 300), bool)
    other[150, 150] = True
    assert repr(Bitmap(one)) != repr(Bitmap(other))
    assert repr(Region(0, 0, 1, 1)) != repr(Region(0, 0, 1, 2))

"""The scorer of text detectors does not flatter them, and its images come out the same again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2", reason="OpenCV is not installed")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from text_fonts import family_of, fonts, part_of
from text_images import image, rgb, ybr
from text_leak import beyond, interval, scores
from text_scene import Item


def _item(box: tuple[int, int, int, int], cnr: float = 9.0) -> Item:
    return Item("ABC", "identifying", "latin", "made up", "bitmap", 12, 0, "plain", 0.5, cnr, box)


def _three_letters() -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    glyphs = np.zeros((30, 60), np.uint16)
    for left in (5, 15, 25):
        glyphs[10:20, left : left + 6] = 1
    glyphs[19:21, 40:42] = 1
    return glyphs


def test_a_glyph_leaks_when_more_than_half_of_it_stays() -> None:
    glyphs = _three_letters()
    mask = np.ones(glyphs.shape, bool)
    mask[:, 15:18] = False
    (half,) = scores(mask, [_item((10, 5, 21, 42))], glyphs, glyphs)
    assert (half.parts, half.left) == (3, 0), "a dot is no glyph, and half of a letter is covered"
    mask[10, 18] = False
    (more,) = scores(mask, [_item((10, 5, 21, 42))], glyphs, glyphs)
    assert more.left == 1
    assert more.covered == more.ink - 31


def test_nothing_is_added_to_a_mask_before_it_is_scored() -> None:
    glyphs = _three_letters()
    mask = np.zeros(glyphs.shape, bool)
    mask[9:21, 11:15] = True
    (touching,) = scores(mask, [_item((10, 5, 21, 42))], glyphs, glyphs)
    assert (touching.left, touching.covered) == (3, 0)


def test_a_mask_that_follows_a_letter_draws_it() -> None:
    """What is left of the paper within a letter says which letter it was."""
    glyphs = np.zeros((80, 60), np.uint16)
    glyphs[10:70, 10:18] = glyphs[62:70, 10:50] = 1
    close = np.zeros(glyphs.shape, bool)
    close[9:71, 9:19] = close[61:71, 9:51] = True
    boxes = [close, np.pad(close[:, :31], ((0, 0), (0, 29)), "edge"), np.ones_like(close)]
    assert [scores(mask, [_item((10, 10, 70, 50))], glyphs, glyphs)[0].drawn for mask in boxes] == [1, 1, 0]
    assert [scores(mask, [_item((10, 10, 70, 50))], glyphs, glyphs)[0].left for mask in boxes] == [0, 0, 0]


def test_only_text_that_can_be_read_counts_as_legible() -> None:
    glyphs, mask = _three_letters(), np.zeros((30, 60), bool)
    readable = [scores(mask, [_item((10, 5, 21, 42), cnr)], glyphs, glyphs)[0].legible for cnr in (1.9, 2.0)]
    assert readable == [False, True]


def test_a_glyph_like_its_paper_is_told_from_others() -> None:
    """What runs on from white into black is not there; it counts as left, and as faded."""
    glyphs = _three_letters()
    seen = np.where(glyphs, 0, 200)
    seen[:, 22:] = 0
    (line,) = scores(np.zeros(glyphs.shape, bool), [_item((10, 5, 21, 42))], glyphs, seen)
    assert (line.parts, line.left, line.faded) == (3, 3, 1)


def test_masked_area_beyond_the_text_is_counted_from_six_pixels_on() -> None:
    mask = np.zeros((100, 100), bool)
    mask[44:66, 44:66] = True
    assert beyond(mask, [_item((50, 50, 60, 60))]) == 0
    mask[43, 44:66] = True
    assert beyond(mask, [_item((50, 50, 60, 60))]) == pytest.approx(22 / 10_000)


@pytest.mark.parametrize(
    ("hits", "number", "low", "high"),
    [(0, 116, 0.0, 0.0313), (15, 200, 0.0426, 0.1207), (5, 1000, 0.0016, 0.0116), (10, 10, 0.6915, 1.0)],
)
def test_intervals_are_those_of_clopper_and_pearson(hits: int, number: int, low: float, high: float) -> None:
    """Compare with values of the beta distribution's quantiles."""
    assert interval(hits, number) == pytest.approx((low, high), abs=2e-4)


def test_a_font_stays_in_its_part_whatever_its_weight_and_maker() -> None:
    assert family_of("DejaVu Sans Bold") == family_of("DejaVu Sans") != family_of("DejaVu Serif")
    assert family_of("Arimo") == family_of("Liberation Sans Narrow")
    assert {part_of(f"device {number}") for number in range(20)} == {"development", "held-out"}


def test_colours_survive_the_way_through_luminance() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    assert np.abs(rgb(ybr(colours)).astype(int) - colours).max() <= 2


@pytest.mark.skipif(not shutil.which("fc-list"), reason="fontconfig is not installed")
def test_images_come_out_the_same_again_and_say_where_their_ink_is() -> None:
    if len(fonts("development")) < 20:
        pytest.skip("too few fonts are installed")
    drawn, again = (image("development", 5, 3, text_free=0) for _ in range(2))
    assert np.array_equal(drawn.pixels, again.pixels)
    assert drawn.items == again.items
    assert set(np.unique(drawn.glyphs)) == set(range(len(drawn.items) + 1))
    for number, item in enumerate(drawn.items, 1):
        rows, columns = np.nonzero(drawn.glyphs == number)
        assert item.bbox == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)

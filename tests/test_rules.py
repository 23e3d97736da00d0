"""Which images a ``[[mask]]`` of a policy is meant for, and what it blacks out."""

from __future__ import annotations

import pickle
import struct
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomshield import PolicyError, Profile
from dicomshield.pixels.region import Bitmap, Outside, Polygon, Region, Shape, compiled
from dicomshield.pixels.rules import MaskRule, first_match, read, tags

MODALITY, MANUFACTURER, MODEL, SERIES = 0x00080060, 0x00080070, 0x00081090, 0x0008103E
ROWS, COLUMNS, IMAGE_TYPE, COMMENTS, FRAMES = 0x00280010, 0x00280011, 0x00080008, 0x00204000, 0x00280008

POLICY = """
[[mask]]
name = "Acme cart, 1024x768"
when = { Modality = "US", Manufacturer = "*acme*", Rows = 768, Columns = [1024, 1280] }
regions = [[0, 0, 1024, 60], [-124, 60, 124, 300]]
polygons = [[[0, 0], [100, 0], [0, 100.5]]]
frames = [0, 10]

[[mask]]
when = {}
keep = [[200, 100, 600, 400]]
"""


def policy(tmp_path: Path, text: str) -> Profile:
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")
    return Profile.from_toml(path)


def us(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}H", *numbers)


def matches(when: str, header: Mapping[int, bytes]) -> bool:
    (rule,) = read(tomllib.loads(f"[[mask]]\nwhen = {when}\nregions = [[0, 0, 1, 1]]")["mask"])
    return rule.matches(header)


def test_every_key_of_a_mask_is_read(tmp_path: Path) -> None:
    """Rectangles are x, y, width, height; corners of a polygon x, y; shapes hold rows before columns."""
    first, second = policy(tmp_path, POLICY).masks

    assert first.name == "Acme cart, 1024x768"
    assert first.regions == (
        Region.at(0, 0, 1024, 60, frames=(0, 10)),
        Region.at(-124, 60, 124, 300, frames=(0, 10)),
        Polygon(((0, 0), (0, 100), (100.5, 0)), frames=(0, 10)),
    )
    assert second == MaskRule("mask 2", (), (Outside((Region.at(200, 100, 600, 400),)),))
    assert tags((first, second)) == {MODALITY, MANUFACTURER, ROWS, COLUMNS}


def test_the_first_rule_that_matches_holds(tmp_path: Path) -> None:
    """As in CTP; every condition of a rule must hold, and ``when = {}`` matches whatever comes."""
    rules = policy(tmp_path, POLICY).masks
    header = {MODALITY: b"US", MANUFACTURER: b"The ACME Corp ", ROWS: us(768), COLUMNS: us(1280)}

    assert first_match(rules, header) is rules[0]
    assert first_match(rules[::-1], header) is rules[1]
    for tag, other in ((MODALITY, b"XA"), (MANUFACTURER, b"Emca"), (ROWS, us(1024)), (COLUMNS, us(768))):
        assert first_match(rules, header | {tag: other}) is rules[1]
        assert first_match(rules[:1], header | {tag: other}) is None
    assert first_match((), header) is None


@pytest.mark.parametrize(
    ("when", "value", "expected"),
    [
        ('"US"', b"US", True),
        ('"us"', b"US", True),
        ('"US"', b" US\0", True),
        ('"US"', b"IVUS", False),
        ('"*us"', b"IVUS", True),
        ('"I?US"', b"IVUS", True),
        ('"I?US"', b"IUS ", False),
        ('"?*"', b"U", True),
        ('"[IU]*"', b"US", False),
        ('"a.c"', b"abc", False),
        ('"*"', b"U", True),
        ('["CT", "US"]', b"US", True),
        ('["CT", "MR"]', b"US", False),
        ('{ matches = "U[ST]" }', b"US", True),
        ('{ matches = "u[st]" }', b"US", False),
        ('{ matches = "U" }', b"US", False),
        ('{ matches = "(?i)u." }', b"US", True),
        ("{ matches = '\\w*' }", b"\xdcS", False),
        ('{ not = "US" }', b"CT", True),
        ('{ not = "US" }', b"US", False),
        ('{ not = ["US", { matches = "C." }] }', b"CT", False),
        ('{ is = "U*", not = "US" }', b"UX", True),
        ('{ is = "U*", not = "US" }', b"US", False),
        ('{ all = ["*A*", "*B*"] }', b"CBA", True),
        ('{ all = ["*A*", "*B*"] }', b"CBC", False),
        ('["*SECONDARY*"]', b"DERIVED\\SECONDARY\\OTHER", True),
        ('"DERIVED\\\\*"', b"DERIVED\\SECONDARY", True),
        ('"SECONDARY"', b"DERIVED\\SECONDARY", False),
        ("{ digits = { above = 100, below = 200 } }", b"V1\\5.0 rev 3", False),
        ("{ digits = { above = 100, below = 200 } }", b"V1\\5 rev 3", True),
    ],
)
def test_text_is_compared_as_a_whole(when: str, value: bytes, expected: bool) -> None:
    """Without its padding (PS3.5 6.2), in any case but for ``matches``, and with only ``*`` and ``?`` special."""
    assert matches(f"{{ ImageType = {when} }}", {IMAGE_TYPE: value}) is expected


@pytest.mark.parametrize(
    ("when", "header", "expected"),
    [
        ("Rows = 768", {ROWS: us(768)}, True),
        ("Rows = 768.0", {ROWS: us(768)}, True),
        ("Rows = 768", {ROWS: us(769)}, False),
        ("Rows = 768", {ROWS: us(768, 768)}, False),
        ("Rows = 768", {ROWS: us(768) + b"\0"}, False),
        ('Rows = "76?"', {ROWS: us(768)}, True),
        ("Rows = { above = 767, below = 769 }", {ROWS: us(768)}, True),
        ("Rows = { above = 768 }", {ROWS: us(768)}, False),
        ("Rows = { below = 768 }", {ROWS: us(768)}, False),
        ("Rows = { below = 40000 }", {ROWS: us(65535)}, False),
        ("NumberOfFrames = { above = 1 }", {FRAMES: b"+12 "}, True),
        ("NumberOfFrames = 12", {FRAMES: b"012 "}, True),
        ("NumberOfFrames = 12", {FRAMES: b"12 frames"}, False),
        ("NumberOfFrames = 12", {FRAMES: b"1_2"}, False),
        ("NumberOfFrames = { below = 5 }", {FRAMES: b"-inf"}, False),
        ("WindowWidth = 1e3", {0x00281051: b"1.0E+3 "}, True),
        ("WindowWidth = 400", {0x00281051: b"400\\1500"}, False),
        ("TagAngleSecondAxis = { below = 0 }", {0x00189219: struct.pack("<h", -5)}, True),
        ("ReferencePixelX0 = -3", {0x00186020: struct.pack("<i", -3)}, True),
        ("RegionLocationMaxX1 = 4000000000", {0x0018601C: struct.pack("<I", 4_000_000_000)}, True),
        ("PhysicalDeltaX = 0.1", {0x0018602C: struct.pack("<d", 0.1)}, True),
        ("RecommendedDisplayFrameRateInFloat = 0.1", {0x00089459: struct.pack("<f", 0.1)}, True),
        ("RecommendedDisplayFrameRateInFloat = 0.1", {0x00089459: b""}, False),
        ('"0019,1008" = "V*"', {0x00191008: b"V7"}, True),
        ('"(0019,0010)" = "ACME *"', {0x00190010: b"ACME 1.0"}, True),
        ('"(6000,0022)" = "Graphics"', {0x60000022: b"Graphics"}, True),
        ('ImplementationVersionName = "ACME*"', {0x00020013: b"ACME_1"}, True),
        ('ImageComments = "dose*"', {COMMENTS: b" dose "}, False),
        ('ImageComments = "a*b"', {COMMENTS: b"a\r\nb "}, True),
    ],
)
def test_values_are_read_by_their_vr(when: str, header: dict[int, bytes], expected: bool) -> None:
    """Binary numbers as such, numbers in text too; several values, or torn ones, are no number (PS3.5 6.2)."""
    assert matches(f"{{ {when} }}", header) is expected


@given(st.text("aB?*", max_size=7), st.text("AbC", min_size=1, max_size=8))
def test_a_glob_means_what_it_says(pattern: str, value: str) -> None:
    """By the plainest definition: a star is nothing, or a letter and a star."""

    def fits(pattern: str, text: str) -> bool:
        if not pattern or not text:
            return not text and not pattern.strip("*")
        if pattern[0] == "*":
            return fits(pattern[1:], text) or fits(pattern, text[1:])
        return pattern[0] in ("?", text[0]) and fits(pattern[1:], text[1:])

    expected = fits(pattern.lower(), value.lower())
    assert matches(f'{{ ManufacturerModelName = "{pattern}" }}', {MODEL: value.encode()}) is expected


def test_many_stars_cost_no_time() -> None:
    """A value made for it must not keep a pattern busy."""
    when = f'{{ ManufacturerModelName = "{"*a" * 30}*b" }}'
    assert not matches(when, {MODEL: b"a" * 4096})
    assert matches(when, {MODEL: b"a" * 4096 + b"b"})


@pytest.mark.parametrize("header", [{}, {MODEL: b""}, {MODEL: b"  "}, {MODEL: b"\0\0"}])
def test_a_missing_value_satisfies_only_what_says_so(header: dict[int, bytes]) -> None:
    """It is like an empty one; otherwise a rule with ``*`` would be meant for objects it says nothing of."""
    for positive in ('"*"', '"?"', '{ matches = ".*" }', "0", "{ below = 9 }", "{ digits = { below = 9 } }"):
        assert not matches(f"{{ ManufacturerModelName = {positive} }}", header)
        assert matches(f"{{ ManufacturerModelName = {{ not = {positive} }} }}", header)
    assert matches('{ ManufacturerModelName = "" }', header)
    assert matches('{ ManufacturerModelName = ["V*", ""] }', header)
    assert not matches('{ ManufacturerModelName = "" }', {MODEL: b"V8"})


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("when = {}\nregion = [[0, 0, 1, 1]]", "did you mean regions"),
        ("regions = [[0, 0, 1, 1]]", "when = {} for every image"),
        ('when = "US"\nregions = [[0, 0, 1, 1]]', "when = {} for every image"),
        ("when = {}", "black out nothing"),
        ("when = {}\nregions = []", "black out nothing"),
        ("when = {}\nregions = [[0, 0, 1]]", "four whole numbers"),
        ("when = {}\nregions = [[0, 0, 1.5, 1]]", "four whole numbers"),
        ("when = {}\nregions = [[0, 0, true, 1]]", "four whole numbers"),
        ("when = {}\nregions = [[0, 0, 0, 1]]", "must be positive"),
        ("when = {}\nregions = 4", "regions must be a list"),
        ("when = {}\npolygons = [[[0, 0], [1, 1]]]", "three corners"),
        ("when = {}\npolygons = [4]", "three corners"),
        ("when = {}\npolygons = [[[0, 0], [1, 1], [2]]]", "two numbers"),
        ("when = {}\npolygons = [[[0, 0], [1, 1], [0, nan]]]", "three corners"),
        ("when = {}\nkeep = [[0, 0, 9, 9]]\nregions = [[0, 0, 1, 1]]", "keep stands alone"),
        ("when = {}\nregions = [[0, 0, 1, 1]]\nframes = [3]", "frames must be"),
        ("when = {}\nregions = [[0, 0, 1, 1]]\nframes = [3, 3]", "frames are"),
        ("when = {}\nkeep = [[0, 0, 1, 1]]\nframes = [3, 3]", "frames are"),
        ('when = {}\nregions = [[0, 0, 1, 1]]\nname = ""', "one line"),
        ('when = {}\nregions = [[0, 0, 1, 1]]\nname = "a\\nb"', "one line"),
        ('when = { Manufacturor = "A" }', "did you mean Manufacturer"),
        ('when = { Modality = "US", "0008,0060" = "CT" }', "there twice"),
        ("when = { Modality = [] }", "a text, a number, a list"),
        ("when = { Modality = {} }", "a text, a number, a list"),
        ("when = { Modality = true }", "a text, a number, a list"),
        ("when = { Rows = nan }", "a text, a number, a list"),
        ("when = { Rows = inf }", "a text, a number, a list"),
        ("when = { Rows = 2024-01-01 }", "a text, a number, a list"),
        ('when = { Rows = { below = "9" } }', "below of 'Rows' must be a number"),
        ("when = { Rows = { below = true } }", "a text, a number, a list"),
        ("when = { Rows = { matches = 9 } }", "matches of 'Rows' must be a text"),
        ("when = { Rows = { all = [] } }", "all of 'Rows' must be a list"),
        ('when = { Modality = { matches = "(" } }', "no regular expression"),
        ('when = { Modality = { matches = "[[a]b]" } }', "no regular expression"),
        ('when = { Modality = { match = "US" } }', "did you mean matches"),
        ('when = { Manufacturer = "Müller" }', "ASCII"),
        ('when = { Manufacturer = { matches = "M[üu]ller" } }', "ASCII"),
        ('when = { PixelData = "A" }', "no mask can look at it"),
        ("when = { PixelPaddingValue = 1 }", "no mask can look at it"),
        ('when = { AnatomicRegionSequence = "A" }', "no mask can look at it"),
        ('when = { "0019,0000" = 1 }', "no mask can look at it"),
        ('when = { "0008,0002" = "A" }', "no mask can look at it"),
        ('when = { FileSetID = "A" }', "no mask can look at it"),
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, block: str, problem: str) -> None:
    """A rule that silently did less than its author meant would leak; the message says which block is wrong."""
    good = "[[mask]]\nwhen = {}\nregions = [[0, 0, 1, 1]]\n"
    with pytest.raises(PolicyError, match=r"^\[\[mask\]\] 2: ") as refused:
        policy(tmp_path, f"{good}[[mask]]\n{block}\n")
    assert problem in str(refused.value)


def test_masks_stand_in_blocks(tmp_path: Path) -> None:
    """A table instead of a list of tables, or a wrong headline, is named."""
    for text in ("[mask]\nwhen = {}", 'mask = "all"', "mask = [1]"):
        with pytest.raises(PolicyError, match=r"headed \[\[mask\]\]"):
            policy(tmp_path, text)
    with pytest.raises(PolicyError, match="did you mean mask"):
        policy(tmp_path, "[[masks]]\nwhen = {}")


def test_masks_are_part_of_the_profile(tmp_path: Path) -> None:
    """Any change of a rule changes the digest; equal rules are equal, hashable, and go to other processes."""
    profile = policy(tmp_path, POLICY)

    copy = pickle.loads(pickle.dumps(profile))  # noqa: S301
    assert copy == profile
    assert copy.digest == profile.digest
    assert hash(copy.masks) == hash(profile.masks)
    changes = [("768", "769"), ("acme", "acne"), ("[0, 10]", "[0, 11]"), ("keep", "regions"), ("100.5", "100.6")]
    others = {policy(tmp_path, POLICY.replace(*change)).digest for change in changes}
    assert len(others | {profile.digest, Profile.basic().digest}) == len(changes) + 2


def painted(shapes: list[Shape], rows: int, columns: int) -> NDArray[np.int_]:
    (plan,) = compiled(shapes, rows, columns, 1)
    times = np.zeros((rows, columns), int)
    for top, bottom, left, right in plan.boxes:
        assert 0 <= top < bottom <= rows
        assert 0 <= left < right <= columns
        times[top:bottom, left:right] += 1
    return times


_RECTANGLES = st.lists(
    st.builds(Region.at, *[st.integers(-9, 12)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=4
)


@example([Region(0, 0, 3, 9), Region(1, 2, 2, 4)], [Region(1, 1, 2, 2)], 4, 12, True)
@given(_RECTANGLES, _RECTANGLES, st.integers(1, 10), st.integers(1, 10), st.booleans())
def test_outside_is_the_complement(
    kept: list[Region], masked: list[Region], rows: int, columns: int, drawn: bool
) -> None:
    """What ``keep`` names stays unless another shape takes it, and no box overlaps another."""
    times = painted(list(kept), rows, columns)
    assert (painted([Outside(tuple(kept))], rows, columns) == 1 - times).all()

    others: list[Shape] = [*masked, Bitmap(np.zeros((rows, columns), bool))] if drawn else [*masked]
    both = painted([*others, Outside(tuple(kept))], rows, columns)
    assert (both == np.maximum(1 - times, painted(others, rows, columns))).all()


def test_outside_can_hold_for_some_frames() -> None:
    """The other frames stay whole."""
    plans = compiled([Outside((Region(1, 1, 2, 2),), frames=(1, 2))], 3, 3, 4)
    assert [(plan.first, plan.last, len(plan.boxes)) for plan in plans] == [(0, 1, 0), (1, 2, 4), (2, 4, 0)]

"""Scripts of CTP's DicomPixelAnonymizer become masks that match the same images and black out at least as much."""

from __future__ import annotations

import csv
import re
import struct
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from factories import shared
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dicomshield import PolicyError, Profile
from dicomshield.cli.import_ctp import command
from dicomshield.pixels.ctp import import_script
from dicomshield.pixels.region import Region, compiled
from dicomshield.pixels.rules import MaskRule, first_match, read
from dicomshield.standard import tables

SCRIPT = """Regions of our scanners (compiled 2024)
    see http://intranet/masks

Acme cart
  { Modality.equals("US") *    // the old ones
    Manufacturer.containsIgnoreCase ("acme") *
    ( [0018,1020].startsWith("V1.") + [00181020].startsWith("V2.") ) * ! Rows.equals("480") }
  (0,0,640,40) (-100, -20, 100, 20)

CT dose report (old)
{ SeriesDescription.matches("(?i)dose.*") + ImageType.contains("SCREEN SAVE") } (0,0,512,110)
"""


def masks(script: str) -> tuple[MaskRule, ...]:
    return read(tomllib.loads(import_script(script)).get("mask", []))


def us(number: int) -> bytes:
    return struct.pack("<H", number)


def test_a_script_becomes_a_policy(tmp_path: Path) -> None:
    """Titles become comments; tests of one attribute one condition; alternatives, and sizes, rules of their own."""
    text = import_script(SCRIPT)
    path = tmp_path / "policy.toml"
    path.write_text(text, "utf-8")

    cut = "{ below = 100 } }\nregions = [[0, 0, 641, 41], [0, 0, 101, 21]]"
    acme = (
        'when = { Modality = { matches = "US" }, Manufacturer = "*acme*", SoftwareVersions = '
        "[{ matches = '(?s)V1\\..*' }, { matches = '(?s)V2\\..*' }], Rows = "
    )
    assert '# signature 1, line 5: Acme cart\n[[mask]]\nname = "CTP signature 1, 1 of 4"\n' in text
    assert f"{acme}{{ all = [{{ not = 480 }}, {{ below = 20 }}] }}, Columns = {cut}" in text
    assert f"{acme}{{ not = 480 }} }}\nregions = [[0, 0, 641, 41], [-101, -20, 102, 21]]" in text
    assert "# signature 2, line 11: CT dose report\n" in text
    assert (
        "when = { SeriesDescription = { matches = '(?i)dose[^\\n\\r\\x85]*' } }\nregions = [[0, 0, 513, 111]]" in text
    )
    assert [rule.name for rule in Profile.from_toml(path).masks] == [
        *(f"CTP signature 1, {number} of 4" for number in (1, 2, 3, 4)),
        *(f"CTP signature 2, {number} of 2" for number in (1, 2)),
    ]


TAGS = {
    name: tables.keywords()[name] for name in ("Manufacturer", "ImageType", "Rows", "InstanceNumber", "ImageComments")
}
BRACKETED = {name: f"[{tag >> 16:04x},{tag & 0xFFFF:04X}]" for name, tag in TAGS.items()}


@dataclass(frozen=True)
class Call:
    """A test of one attribute, as CTP does it."""

    name: str
    method: str
    argument: str

    def holds(self, values: dict[str, str]) -> bool:
        value, argument, method = values[self.name], self.argument, self.method
        if method.endswith("IgnoreCase"):
            value, argument, method = value.lower(), argument.lower(), method.removesuffix("IgnoreCase")
        if method == "matches":
            # in Java the dot stands for no end of line of any kind
            return re.compile(argument.replace(".", "[^\n\r\x85]"), re.ASCII).fullmatch(value) is not None
        if method.startswith("is"):
            try:
                numbers = [float(re.sub("[^0-9.]", "", text)) for text in (value, argument)]
            except ValueError:
                return False
            return numbers[0] < numbers[1] if method == "isLessThan" else numbers[0] > numbers[1]
        return {
            "equals": value == argument, "contains": argument in value,
            "startsWith": value.startswith(argument), "endsWith": value.endswith(argument),
        }[method]  # fmt: skip

    def text(self, gap: str) -> str:
        name = self.name if len(gap) % 2 else BRACKETED[self.name]
        return f'{name}.{self.method}{gap if "//" not in gap else ""}("{self.argument}")'


@dataclass(frozen=True)
class Fixed:
    """``true.`` or ``false.``."""

    value: bool

    def holds(self, values: dict[str, str]) -> bool:  # noqa: ARG002
        return self.value

    def text(self, gap: str) -> str:  # noqa: ARG002
        return "true." if self.value else "false."


@dataclass(frozen=True)
class Not:
    """``!``, which CTP misreads when it is doubled."""

    part: Tree

    def holds(self, values: dict[str, str]) -> bool:
        return not self.part.holds(values)

    def text(self, gap: str) -> str:
        inner = self.part.text(gap)
        return f"!{gap}({inner})" if isinstance(self.part, Not | Pair) else f"!{gap}{inner}"


@dataclass(frozen=True)
class Pair:
    """``+`` or ``*``; parentheses only where precedence asks for them."""

    operator: str
    left: Tree
    right: Tree

    def holds(self, values: dict[str, str]) -> bool:
        both = self.left.holds(values), self.right.holds(values)
        return any(both) if self.operator == "+" else all(both)

    def text(self, gap: str) -> str:
        parts = [
            f"({part.text(gap)}{gap})" if self.operator == "*" and isinstance(part, Pair) and part.operator == "+"
            else part.text(gap)
            for part in (self.left, self.right)
        ]  # fmt: skip
        return f"{parts[0]}{gap}{self.operator}{gap}{parts[1]}"


Tree = Call | Fixed | Not | Pair

_WORDS = st.sampled_from(
    ["", "A", "a", "AB", "ab B", "b", "1", "12", "012", "2.5", "A*", "a?b", "\\", "[a", "A\\B", ".", "-3"]
)
_LIKE = [
    f"{method}{case}" for method in ("equals", "contains", "startsWith", "endsWith") for case in ("", "IgnoreCase")
]
_REGEXES = ["", ".*", "A.*", "(?i)a[b-z]?.*", "^[^A]+$", "\\d+", "1|12", "(?:a|b)+ ?B*", "\\[a|\\\\", ".?.?"]
_CALLS = st.one_of(
    st.builds(Call, st.sampled_from(sorted(TAGS)), st.sampled_from(_LIKE), _WORDS),
    st.builds(Call, st.sampled_from(sorted(TAGS)), st.just("matches"), st.sampled_from(_REGEXES)),
    st.builds(
        Call, st.sampled_from(sorted(TAGS)), st.sampled_from(["isLessThan", "isGreaterThan"]),
        st.sampled_from(["1", "12", "-2.5", ".5 mm"]),
    ),
)  # fmt: skip
_TREES: st.SearchStrategy[Tree] = st.recursive(
    st.one_of(_CALLS, _CALLS, _CALLS, st.builds(Fixed, st.booleans())),
    lambda inner: st.one_of(st.builds(Not, inner), st.builds(Pair, st.sampled_from("+*"), inner, inner)),
    max_leaves=7,
)
_VALUES = st.fixed_dictionaries(
    {
        "Manufacturer": _WORDS, "ImageType": st.lists(_WORDS, max_size=3).map("\\".join),
        "Rows": st.sampled_from(["", "1", "12", "212", "1\\2"]),
        "InstanceNumber": st.sampled_from(["", "1", "-12", "+2"]),
        "ImageComments": st.one_of(_WORDS, st.sampled_from([" A", "A\r\nb", "A\x85B", "\xc4"])),
    }
)  # fmt: skip


def encoded(values: dict[str, str]) -> dict[int, bytes]:
    """Return a header as it is encoded; an attribute without a value is missing, or there and empty."""
    header = {}
    for name, value in values.items():
        if name == "Rows":
            header[TAGS[name]] = b"".join(us(int(number)) for number in value.split("\\") if number)
        elif value or name == "InstanceNumber":
            before = " " if name in ("Manufacturer", "InstanceNumber") else ""
            header[TAGS[name]] = (before + value + " \0"[: len(value) % 3]).encode("latin-1")
    return header


@settings(max_examples=400, deadline=None)
@given(
    st.lists(_TREES, min_size=1, max_size=3),
    st.lists(_VALUES, min_size=1, max_size=4),
    st.sampled_from(["", " ", " // x\n"]),
)
def test_what_matched_in_ctp_matches_here(trees: list[Tree], headers: list[dict[str, str]], gap: str) -> None:
    """Any expression over any values selects the signature that CTP would select, and no other."""
    sections = (
        f"{{{gap}{tree.text(gap)}{gap}}} ({number},0,4,4)\n" for number, tree in zip((2, 4, 6), trees, strict=False)
    )
    rules = masks("".join(sections))

    for values in headers:
        expected = next((number for number, tree in zip((2, 4, 6), trees, strict=False) if tree.holds(values)), None)
        found = first_match(rules, encoded(values))
        first = found.regions[0] if found else None
        assert (first.left if isinstance(first, Region) else None) == expected


def blanked(
    areas: list[tuple[int, int, int, int]], rows: int, columns: int, *, early: int = 0, step: int = 1
) -> NDArray[np.bool_]:
    """Return what CTP blacks out: one column and row too many, and in YBR images from even columns on.

    Negative numbers count from the border; beyond the other border, they are taken for 0.
    """
    frame = np.zeros((rows, columns), bool)
    for x, y, width, height in areas:
        left, top = (max(0, at + size if at < 0 else at) for at, size in ((x, columns), (y, rows)))
        right, bottom = min(left + width, columns), min(top + height, rows)
        left = max(0, left - early)
        frame[top : bottom + 1, left - left % step : right + 1] = True
    return frame


@given(
    st.lists(
        st.tuples(st.integers(-14, 14), st.integers(-14, 14), st.integers(0, 12), st.integers(0, 12)),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_at_least_as_much_goes(areas: list[tuple[int, int, int, int]], rows: int, columns: int) -> None:
    """Never a pixel less than in CTP, for images of any size, and at most a column more."""
    script = "{true.}" + "".join(str(area) for area in areas)
    rule = first_match(masks(script), {TAGS["Rows"]: us(rows), 0x00280011: us(columns)})
    assert rule is not None

    frame = np.zeros((rows, columns), bool)
    for plan in compiled(rule.regions, rows, columns, 1):
        for top, bottom, left, right in plan.boxes:
            frame[top:bottom, left:right] = True
    assert frame[blanked(areas, rows, columns) | blanked(areas, rows, columns, step=2)].all()
    assert not frame[~blanked(areas, rows, columns, early=1)].any()


@pytest.mark.parametrize(
    ("expression", "rest", "problem"),
    [
        ("", "(0,0,1,1)", "ends too early"),
        ('Modality.equals("US") *', "(0,0,1,1)", "ends too early"),
        ('Modality.equals("US") Rows.equals("1")', "(0,0,1,1)", "does not belong there"),
        ('(Modality.equals("US")', "(0,0,1,1)", "no counterpart"),
        ('Modality.equals("US"))', "(0,0,1,1)", "does not belong there"),
        ('/* all */ Modality.equals("US")', "(0,0,1,1)", "is not understood"),
        ('!!Modality.equals("US")', "(0,0,1,1)", "takes !! for one !"),
        ("true", "(0,0,1,1)", "lacks '.'"),
        ("Modality.equals", "(0,0,1,1)", "lacks '('"),
        ('Modality.equals("US"', "(0,0,1,1)", "lacks ')'"),
        ('Modality.equals("US)', "(0,0,1,1)", "lacks ')'"),
        ("Modality.equals(US)", "(0,0,1,1)", "one text in quotes"),
        ('Modality.equals("a" "b")', "(0,0,1,1)", "one text in quotes"),
        ('Modality.equal("US")', "(0,0,1,1)", "did you mean equals"),
        ('SoftwareVersion.equals("1")', "(0,0,1,1)", "did you mean SoftwareVersions"),
        ('[0008,00G0].equals("1")', "(0,0,1,1)", "private creator"),
        ('[0019[ACME]08].equals("1")', "(0,0,1,1)", "private creator"),
        ('[0019,1008].equals("1")', "(0,0,1,1)", "CTP may read it otherwise"),
        ('AnatomicRegionSequence::CodeValue.equals("1")', "(0,0,1,1)", "lies in a sequence"),
        ('PhysicalDeltaX.equals("1.0")', "(0,0,1,1)", "CTP may read it otherwise"),
        ('PatientName.startsWith("TEST")', "(0,0,1,1)", "CTP may read it otherwise"),
        ('[0004,1130].equals("1")', "(0,0,1,1)", "CTP may read it otherwise"),
        ('Manufacturer.contains("Müller")', "(0,0,1,1)", "beyond ASCII"),
        ('Rows.isLessThan("many")', "(0,0,1,1)", "no number to compare with"),
        ('Rows.isLessThan("1.2.3")', "(0,0,1,1)", "no number to compare with"),
        ('Manufacturer.matches("a(?=b)")', "(0,0,1,1)", "may mean something else"),
        ('Manufacturer.matches("a$b")', "(0,0,1,1)", "may mean something else"),
        ('Manufacturer.matches("\\Qa\\E")', "(0,0,1,1)", "may mean something else"),
        ('Manufacturer.matches("[a-c&&b]")', "(0,0,1,1)", "may mean something else"),
        ('Manufacturer.matches("a**")', "(0,0,1,1)", "no regular expression"),
        ("true.", "", "no region"),
        ("true.", "(all of it)", "no region"),
        ("true.", "(0,0,640)", "not four whole numbers"),
        ("true.", "(0,0,640,4O)", "not four whole numbers"),
        ("true.", "(0,0,640,40", "no counterpart"),
        ("true.", "(0,0,640,(40))", "not four whole numbers"),
        ("true.", "(0,0,640,-40)", "negative width or height"),
        ("(" * 60 + "true." + ")" * 60, "(0,0,1,1)", "is not understood"),
        (
            "*".join(f'(Manufacturer.equals("{n}")+Modality.equals("{n}"))' for n in range(9)),
            "(0,0,1,1)",
            "256 alternatives",
        ),
        (
            "+".join(f'Manufacturer.equals("{n}")+Modality.equals("{n}")' for n in range(200)),
            "(0,0,1,1)",
            "256 alternatives",
        ),
    ],
)
def test_what_cannot_be_had_is_refused(expression: str, rest: str, problem: str) -> None:
    """With the number and line of the signature; nothing is dropped or weakened."""
    script = f"{SCRIPT}\n\nThe last\n{{ {expression} }}\n{rest}\n"
    with pytest.raises(
        PolicyError, match=r"^1 of 3 signatures cannot be imported:\n  signature 3 \(line 15\): "
    ) as refused:
        import_script(script)
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("", "no { signature }"),
        ("Modality = US (0,0,1,1)", "no { signature }"),
        ('{ Manufacturer.matches("A{3}") } (0,0,1,1)', "signature 1 (line 1) has no counterpart"),
        ("{ true. } (0,0,1,1)\n\n{ true.", "signature 1 (line 1) has no counterpart"),
    ],
)
def test_what_is_no_script_is_refused(script: str, problem: str) -> None:
    """A file of another kind, and braces that are not closed: CTP would pass over the rest of them."""
    with pytest.raises(PolicyError) as refused:
        import_script(script)
    assert problem in str(refused.value)


def test_every_problem_is_named_at_once() -> None:
    """So that a long script is mended in one go; the list is cut, and what stands in it too."""
    bad = f'{{ Modality.equals("{"X" * 500}" }} (0,0,1,1)\n'
    with pytest.raises(PolicyError) as refused:
        import_script(bad * 12 + "{ true. } (0,0,1,1)")
    lines = str(refused.value).splitlines()
    assert lines[0] == "12 of 13 signatures cannot be imported:"
    assert len(lines) == 12
    assert lines[-1].strip() == "and 2 more"
    assert max(len(line) for line in lines) < 120


def test_long_expressions_of_one_attribute_stay_one_rule() -> None:
    """A list of models is one condition, however long."""
    models = " + ".join(f'ManufacturerModelName.containsIgnoreCase("Model {n}")' for n in range(1000))
    (rule,) = masks(f"{{ {models} }} (0,0,1,1)")
    assert rule.matches({0x00081090: b"MODEL 999 "})
    assert not rule.matches({0x00081090: b"MODEL "})


def test_what_never_matched_leaves_no_rule() -> None:
    """And what always matched is a rule for every image."""
    assert "# signature 1, line 1: never matches\n" in import_script('{false. * Rows.equals("1")} (0,0,1,1)')
    assert masks("{false.} (0,0,1,1) {!false.} (0,0,1,1)") == (
        MaskRule("CTP signature 2", (), (Region.at(0, 0, 2, 2),)),
    )


@pytest.mark.parametrize("method", _LIKE)
def test_wildcards_of_a_policy_are_plain_letters_in_ctp(method: str) -> None:
    """``*`` and ``?`` mean themselves there, as what is special in a regular expression does."""
    for argument, other in (("A*B", "AXXB"), ("1?2", "132"), ("a.b", "axb"), ("(a)", "a")):
        (rule,) = masks(f'{{Manufacturer.{method}("{argument}")}} (0,0,1,1)')
        assert rule.matches({TAGS["Manufacturer"]: argument.encode()})
        assert not rule.matches({TAGS["Manufacturer"]: other.encode()})


def test_titles_are_only_comments() -> None:
    """Whatever a title holds, it stays in its line and is cut."""
    title = f'A\x1b[2J\x07 "\\ # {"B" * 200}'
    text = import_script(f"{{true.}} (0,0,1,1)\n{title}\n{{true.}} (0,0,1,1)")
    assert f'# signature 2, line 3: A[2J "\\ # {"B" * 54}\n[[mask]]\n' in text
    assert len(read(tomllib.loads(text)["mask"])) == 2


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet='{}()[]"!*+.,/\\ \nRows0028equals-é', max_size=60).map(lambda noise: f"{{ {noise} }} (0,0,1,1)")
)
def test_noise_is_refused_or_understood(script: str) -> None:
    """No script brings another error, or a policy that cannot be read."""
    try:
        text = import_script(script)
    except PolicyError:
        return
    read(tomllib.loads(text).get("mask", []))


def test_the_library_that_comes_with_ctp() -> None:
    """Every rule that is restated there, written as CTP writes it, matches what it is meant for, one pixel wider."""
    with (shared() / "standard" / "burned_in_rules.csv").open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    rows = [row for row in rows if row["source"].startswith("CTP DicomPixelAnonymizer.script")]
    rules = masks("".join(_section(row) for row in rows))

    assert len(rules) == len(rows) > 50
    for row, rule in zip(rows, rules, strict=True):
        areas = [[int(number) for number in area.split(",")] for area in row["regions_xywh"].split(";")]
        assert rule.regions == tuple(Region.at(x - x % 2, y, w + 1 + x % 2, h + 1) for x, y, w, h in areas)
        header = {
            0x00080060: row["modality"].lstrip("~i=").encode(), 0x00280010: us(int(row["rows"] or 7)),
            0x00080070: f"x {row['manufacturer'][2:]} y".upper().encode(), 0x00280011: us(int(row["columns"] or 7)),
            0x00081090: f"{row['model'][2:]} z".lower().encode(),
        }  # fmt: skip
        assert rule.matches(header) is (row["other_conditions"] == "")


def _section(row: dict[str, str]) -> str:
    tests = {
        "Modality": row["modality"], "Manufacturer": row["manufacturer"], "ManufacturerModelName": row["model"],
        "Rows": row["rows"] and f"={row['rows']}", "Columns": row["columns"] and f"={row['columns']}",
    }  # fmt: skip
    terms = [_term(name, wanted) for name, wanted in tests.items() if wanted]
    for other in re.split(" & ", row["other_conditions"]):
        terms += [other] if "(" in other else [_term(*re.split("(?=[~=])", other, maxsplit=1))] if other else []
    return f"{row['rule']}\n{{ {' * '.join(terms)} }} ({row['regions_xywh'].replace(';', ')(')})\n"


def _term(name: str, wanted: str) -> str:
    name = f"[{name}]" if "," in name else name
    operator = {"~i": "containsIgnoreCase", "=": "equals", "~": "contains"}
    sign = next(sign for sign in operator if wanted.startswith(sign))
    return f'{name}.{operator[sign]}("{wanted.removeprefix(sign)}")'


def test_the_verb_writes_a_new_file_only(tmp_path: Path) -> None:
    """It prints without ``--out``, and never writes over what is there."""
    script, out = tmp_path / "pixels.script", tmp_path / "policy.toml"
    script.write_text("\ufeff" + SCRIPT, "utf-8")
    run = CliRunner().invoke

    printed = run(command, [str(script)])
    assert printed.output == import_script(SCRIPT)
    written = run(command, [str(script), "--out", str(out)])
    assert written.output == f"{out}: 6 masks\n"
    assert out.read_text("utf-8") == printed.output

    again = run(command, [str(script), "--out", str(out)])
    assert isinstance(again.exception, PolicyError)
    assert "is there already" in str(again.exception)
    assert out.read_text("utf-8") == printed.output
    for missing in ([str(tmp_path / "none")], [str(script), "--out", str(tmp_path / "none" / "p.toml")]):
        assert isinstance(run(command, missing).exception, PolicyError)


def test_nothing_is_written_for_a_script_that_is_refused(tmp_path: Path) -> None:
    """Half a policy would pass for a whole one."""
    script, out = tmp_path / "pixels.script", tmp_path / "policy.toml"
    script.write_text(SCRIPT + "{ true. }", "utf-8")
    assert isinstance(CliRunner().invoke(command, [str(script), "--out", str(out)]).exception, PolicyError)
    assert not out.exists()

"""Read the resource files of `standard/data`, each once, on first use.

Every file names its edition and source in its first lines.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from ..errors import PolicyError, did_you_mean, shown

__all__ = [
    "EDITION",
    "Attribute",
    "Rule",
    "attribute",
    "beyond_table",
    "confidentiality_profile",
    "iod_types",
    "keywords",
    "last_attributes",
    "method_codes",
    "nested_types",
    "parse_tag",
    "registered_uids",
    "safe_private",
    "sop_classes",
]

EDITION: Final = "2026d"


class Attribute(NamedTuple):
    """A row of the data dictionary (PS3.6); VR alternatives are joined by a slash."""

    vr: str
    keyword: str


class Rule(NamedTuple):
    """What one row asks for an attribute: the action of the Basic Profile, and of each option that has one.

    ``source`` is ``"Table E.1-1"``, or the reason why the attribute is handled although no row lists it.
    """

    basic: str
    options: Mapping[str, str]
    source: str


_DATA: Final = Path(__file__).with_name("data")


def _rows(name: str) -> Iterator[dict[str, str]]:
    text = (_DATA / name).read_text("utf-8")
    return csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))


def _lines(name: str) -> Iterator[list[str]]:
    """Rows without quoting, split fast: the dictionary alone has five thousand."""
    text = (_DATA / name).read_text("utf-8")
    lines = (line.split(",") for line in text.splitlines() if not line.startswith("#"))
    next(lines)
    return lines


@cache
def _dictionary() -> Mapping[str, str]:
    """Return tag -> ``VR,keyword``; five thousand rows, of which a run looks at a few hundred."""
    text = (_DATA / "attributes.csv").read_text("utf-8")
    return {line[:8]: line[9:] for line in text.splitlines() if line[8:9] == ","}


@cache
def _repeating() -> list[tuple[int, int, str]]:
    """Return ``(mask, value, row)`` of the repeating groups and elements (PS3.5 7.6)."""
    found = []
    for tag, row in _dictionary().items():
        if "x" in tag:
            mask = int("".join("0" if digit == "x" else "F" for digit in tag), 16)
            found.append((mask, int(tag.replace("x", "0"), 16), row))
    return found


@lru_cache(maxsize=1 << 14)
def attribute(tag: int) -> Attribute | None:
    """Look up a public attribute; ``None`` if PS3.6 does not define the tag."""
    row = _dictionary().get(f"{tag:08X}")
    if row is None and tag >> 16 & 1 == 0:
        row = next((row for mask, value, row in _repeating() if tag & mask == value), None)
    return Attribute(*row.split(",")) if row else None


@cache
def keywords() -> Mapping[str, int]:
    """Return keyword -> tag of all attributes that have one tag only."""
    rows = _dictionary().items()
    return {row.partition(",")[2]: int(tag, 16) for tag, row in rows if "x" not in tag}


def _rules(name: str, source: str | None) -> dict[str, Rule]:
    rules = {}
    for row in _rows(name):
        options = {key.upper(): code for key, code in row.items() if key.startswith(("retain_", "clean_")) and code}
        rules[row["tag"]] = Rule(row["basic"], options, source or row["reason"])
    return rules


@cache
def confidentiality_profile() -> Mapping[str, Rule]:
    """Return PS3.15 Table E.1-1 by tag: 8 hexadecimal digits, ``x`` for any, ``PRIVATE`` for odd groups."""
    return _rules("confidentiality_profile.csv", "Table E.1-1")


@cache
def beyond_table() -> Mapping[str, Rule]:
    """Return what is done, and why, with identifying attributes that Table E.1-1 does not list."""
    return _rules("beyond_table.csv", None)


@cache
def iod_types() -> Mapping[str, Mapping[int, str]]:
    """Return SOP class UID -> tag -> Type at the top level (PS3.3); absent means Type 3 or not in the IOD."""
    found = {}
    for row in _rows("iod_types.csv"):
        pairs = (pair.split("=") for pair in row["types"].split())
        found[row["sop_class_uid"]] = {int(tag, 16): kind for tag, kind in pairs}
    return found


@cache
def last_attributes() -> Mapping[str, int]:
    """Return SOP class UID -> tag of the highest attribute that every valid object has at its top level.

    Pixel Data stands for Float Pixel Data and Double Float Pixel Data as well.
    """
    return {row["sop_class_uid"]: int(row["last"], 16) for row in _rows("iod_types.csv")}


@cache
def sop_classes() -> Mapping[str, str]:
    """Return SOP class UID -> name of every Storage SOP class."""
    return {row["sop_class_uid"]: row["name"] for row in _rows("iod_types.csv")}


@cache
def nested_types() -> Mapping[tuple[int, int], str]:
    """Return (tag of the sequence, tag) -> Type in its items (PS3.3)."""
    return {(int(parent, 16), int(tag, 16)): kind for parent, tag, kind in _lines("nested_types.csv")}


@cache
def method_codes() -> Mapping[str, tuple[str, str]]:
    """Return option -> (code value, code meaning) of PS3.16 CID 7050."""
    return {row["option"]: (row["code_value"], row["code_meaning"]) for row in _rows("method_codes.csv")}


@cache
def safe_private() -> Mapping[tuple[int, str, int], str]:
    """Return (group, private creator, low byte of the element) -> VR of PS3.15 Table E.3.10-1."""
    return {
        (int(row["group"], 16), row["private_creator"].strip(), int(row["element"], 16)): row["vr"]
        for row in _rows("safe_private.csv")
    }


@cache
def registered_uids() -> Mapping[str, str]:
    """Return UID -> kind of every UID that PS3.6 Annex A registers."""
    return dict(_lines("registered_uids.csv"))


def parse_tag(text: str) -> int:
    """Read a keyword, ``(gggg,eeee)``, ``gggg,eeee`` or ``ggggeeee``.

    Raises
    ------
    PolicyError
        If PS3.6 has no such keyword, with the keywords that come close.
    """
    digits = text.strip().strip("()").replace(",", "").replace(" ", "")
    if len(digits) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
        return int(digits, 16)
    known = keywords()
    if text not in known:
        raise PolicyError(f"PS3.6 has no keyword {shown(text)}" + did_you_mean(text, known))
    return known[text]

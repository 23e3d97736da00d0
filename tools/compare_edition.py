"""Compare Table E.1-1 of a DocBook ``part15.xml`` with the table this project ships.

Prints one line for each added, removed or changed row. Exit status: 0 when both agree, 1 when they
differ, 2 when the input cannot be read.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

PROFILE = (
    Path(__file__).resolve().parent.parent / "src" / "dicomshield" / "standard" / "data" / "confidentiality_profile.csv"
)
DOCBOOK = "{http://docbook.org/ns/docbook}"
LABEL = "E.1-1"

# Our column -> how its heading in the standard begins, letters and digits only, lower case.
HEADINGS = {
    "name": "attributename",
    "tag": "tag",
    "retired": "retd",
    "in_std_comp_iod": "instdcompiod",
    "basic": "basicprof",
    "retain_safe_private": "rtnsafepriv",
    "retain_uids": "rtnuids",
    "retain_device_identity": "rtndevid",
    "retain_institution_identity": "rtninstid",
    "retain_patient_characteristics": "rtnpatchars",
    "retain_full_dates": "rtnlongfulldates",
    "retain_modified_dates": "rtnlongmodifdates",
    "clean_descriptors": "cleandesc",
    "clean_structured_content": "cleanstructcont",
    "clean_graphics": "cleangraph",
}
COMPARED = tuple(column for column in HEADINGS if column != "tag")
Row = dict[str, str]


class UnreadableError(Exception):
    """The input is not a DocBook file with Table E.1-1."""


class PlainXml:
    """A reader that passes bytes on and refuses what could define or hide an entity.

    Parameters
    ----------
    stream
        the file to read
    """

    _ENCODING = re.compile(rb"""^<\?xml[^>]*?encoding\s*=\s*["']([^"']*)["']""")
    _ALLOWED = frozenset({b"utf-8", b"us-ascii", b"iso-8859-1"})

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._tail = b""
        self._start = True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; raise UnreadableError for a DOCTYPE or an unusual encoding."""
        # A chunk large enough to hold the whole XML declaration, whatever the parser asks for.
        data = self._stream.read(size if size < 0 else max(size, 4096))
        if self._start:
            self._start = False
            declared = self._ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
            if declared and declared.group(1).lower() not in self._ALLOWED:
                raise UnreadableError("its character encoding is not supported")
        if b"\0" in data:
            raise UnreadableError("it is not UTF-8 text")
        if b"<!DOCTYPE" in self._tail + data:
            raise UnreadableError("it has a DOCTYPE, which is refused")
        self._tail = (self._tail + data)[-16:]
        return data


def clean(text: str) -> str:
    """Return text without invisible characters and with single spaces."""
    visible = "".join(
        " " if character.isspace() else character for character in text if unicodedata.category(character) != "Cf"
    )
    return " ".join(visible.split())


def squeeze(text: str) -> str:
    """Return the letters and digits of a heading, in lower case."""
    return re.sub(r"[^a-z0-9]", "", clean(text).lower())


def cells(row: ET.Element) -> list[str]:
    """Return the text of each cell of a table row."""
    found = []
    for cell in row:
        if cell.tag in (f"{DOCBOOK}td", f"{DOCBOOK}th"):
            paragraphs = cell.findall(f"{DOCBOOK}para")
            texts = ["".join(part.itertext()) for part in (paragraphs or [cell])]
            found.append(clean(" ".join(texts)))
    return found


def plain_tag(text: str) -> str:
    """Return a tag such as (60xx,3000) as 60xx3000, and the row of private attributes as PRIVATE."""
    if text.lower().replace(" ", "").startswith("(gggg,eeee)"):
        return "PRIVATE"
    match = re.fullmatch(r"\(\s*([0-9A-Fa-fxX]{4})\s*,\s*([0-9A-Fa-fxX]{4})\s*\)", text)
    if match is None:
        raise UnreadableError(f"a tag of Table {LABEL} is not understood: {text[:40]!r}")
    return (match.group(1) + match.group(2)).upper().replace("X", "x")


def columns_of(heading: Sequence[str]) -> list[str]:
    """Return our column for each heading of the table."""
    found = []
    for text in heading:
        names = [name for name, start in HEADINGS.items() if squeeze(text).startswith(start)]
        if len(names) != 1:
            raise UnreadableError(f"a heading of Table {LABEL} is not understood: {text[:40]!r}")
        found.append(names[0])
    if sorted(found) != sorted(HEADINGS):
        raise UnreadableError(f"Table {LABEL} does not have the {len(HEADINGS)} columns this tool knows")
    return found


def table_rows(path: Path) -> Iterator[Row]:
    """Yield each row of Table E.1-1 as column -> text."""
    inside = False
    finished = False
    columns: list[str] = list(HEADINGS)
    with path.open("rb") as stream:
        for event, element in ET.iterparse(PlainXml(stream), events=("start", "end")):
            if element.tag == f"{DOCBOOK}table":
                if event == "start" and element.get("label") == LABEL:
                    inside = True
                elif event == "end":
                    finished, inside = finished or inside, False
                    element.clear()
            elif event == "end" and element.tag == f"{DOCBOOK}tr":
                if inside:
                    texts = cells(element)
                    if element.find(f"{DOCBOOK}th") is not None:
                        columns = columns_of(texts)
                    elif len(texts) != len(columns):
                        raise UnreadableError(f"a row of Table {LABEL} has {len(texts)} cells: {texts[:1]}")
                    else:
                        row = dict(zip(columns, texts, strict=True))
                        yield row | {"tag": plain_tag(row["tag"])}
                element.clear()
    if not finished:
        raise UnreadableError(f"it has no Table {LABEL}")


def theirs(path: Path) -> dict[str, Row]:
    """Return Table E.1-1 of a DocBook file, by tag."""
    found: dict[str, Row] = {}
    for row in table_rows(path):
        if found.setdefault(row["tag"], row) != row:
            raise UnreadableError(f"{shown(row['tag'])} stands in Table {LABEL} twice, with different content")
    if not found:
        raise UnreadableError(f"its Table {LABEL} has no rows")
    return found


def ours(path: Path) -> dict[str, Row]:
    """Return the shipped table, by tag."""
    with path.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        found = {row["tag"]: {column: row[column] for column in HEADINGS} for row in rows}
    for row in found.values():
        row["name"] = clean(row["name"])
    return found


def shown(tag: str) -> str:
    """Return a tag in the notation of the standard."""
    return tag if tag == "PRIVATE" else f"({tag[:4]},{tag[4:]})"


def differences(old: dict[str, Row], new: dict[str, Row]) -> list[str]:
    """Return one line for each added, removed or changed cell, by tag."""
    lines = []
    for tag in sorted(old.keys() | new.keys()):
        before, after = old.get(tag), new.get(tag)
        if before is None or after is None:
            row = after or before or {}
            filled = " ".join(f"{column}={row[column]}" for column in COMPARED[1:] if row[column])
            lines.append(f"{'added' if before is None else 'removed'} {shown(tag)} {row['name']}: {filled}")
            continue
        lines += [
            f"changed {shown(tag)} {before['name']}: {column}: {before[column] or '-'} -> {after[column] or '-'}"
            for column in COMPARED
            if before[column] != after[column]
        ]
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the two tables and print the difference."""
    parser = argparse.ArgumentParser(description="Compare Table E.1-1 of a DocBook file with the shipped one.")
    parser.add_argument("part15", type=Path, metavar="PART15_XML", help="part15.xml of the newer edition")
    parser.add_argument("--profile", type=Path, default=PROFILE, metavar="CSV", help="table to compare with")
    options = parser.parse_args(arguments)
    try:
        new = theirs(options.part15)
        old = ours(options.profile)
    except UnreadableError as problem:
        print(f"compare_edition: {options.part15}: {problem}", file=sys.stderr)
        return 2
    except ET.ParseError as problem:
        print(f"compare_edition: {options.part15}: not well-formed XML: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"compare_edition: {problem.filename}: {problem.strerror}", file=sys.stderr)
        return 2
    except (KeyError, UnicodeDecodeError, csv.Error):
        print(f"compare_edition: {options.profile}: not a confidentiality profile table", file=sys.stderr)
        return 2
    lines = differences(old, new)
    for line in lines:
        print(line)
    print(f"{len(old)} rows shipped, {len(new)} rows read, {len(lines)} differences")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

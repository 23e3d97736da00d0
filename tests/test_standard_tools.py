"""The tools that keep the resource files of the standard up to date."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import pytest

REPO = Path(__file__).resolve().parent.parent
TOOL = REPO / "tools" / "compare_edition.py"
PROFILE = REPO / "src" / "dicomshield" / "standard" / "data" / "confidentiality_profile.csv"

HEADINGS = {
    "name": "Attribute Name",
    "tag": "Tag",
    "retired": "Retd. (from PS3.6)",
    "in_std_comp_iod": "In Std. Comp. IOD (from PS3.3)",
    "basic": "Basic Prof.",
    "retain_safe_private": "Rtn. Safe Priv. Opt.",
    "retain_uids": "Rtn. UIDs Opt.",
    "retain_device_identity": "Rtn. Dev. Id. Opt.",
    "retain_institution_identity": "Rtn. Inst. Id. Opt.",
    "retain_patient_characteristics": "Rtn. Pat. Chars. Opt.",
    "retain_full_dates": "Rtn. Long. Full Dates Opt.",
    "retain_modified_dates": "Rtn. Long. Modif. Dates Opt.",
    "clean_descriptors": "Clean Desc. Opt.",
    "clean_structured_content": "Clean Struct. Cont. Opt.",
    "clean_graphics": "Clean Graph. Opt.",
}


def shipped() -> list[dict[str, str]]:
    with PROFILE.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def docbook(rows: list[dict[str, str]], prolog: str = "") -> str:
    """Return a small part15.xml, with the white space and emphasis the real one has."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', prolog, '<book xmlns="http://docbook.org/ns/docbook">']
    lines.append('<table label="E.1-1a"><tbody><tr><td><para>D</para></td></tr></tbody></table>')
    lines.append('<table label="E.1-1"><caption>Attributes</caption><thead><tr>')
    lines += [f"<th><para>{heading}</para></th>" for heading in HEADINGS.values()]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        tag = row["tag"]
        shown = "(gggg,eeee) where gggg is odd" if tag == "PRIVATE" else f"({tag[:4]},{tag[4:]})"
        lines.append("<tr valign='top'>")
        for column in HEADINGS:
            text = escape(shown if column == "tag" else row[column])
            if column == "name":
                text = text.replace(" ", "\n      \u200b", 1)
            elif column == "basic":
                text = f'<emphasis role="bold">{text}</emphasis>\u00a0'
            lines.append(f'<td align="left"><para>\n   {text}\n</para></td>' if text else "<td><para/></td>")
        lines.append("</tr>")
    lines.append("</tbody></table></book>")
    return "\n".join(line for line in lines if line)


def compare(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), str(path)], capture_output=True, text=True, check=False, encoding="utf-8"
    )


def test_same_edition(tmp_path: Path) -> None:
    """A table with the same rows gives no difference and exit status 0 (Table E.1-1)."""
    path = tmp_path / "part15.xml"
    path.write_text(docbook(shipped()), encoding="utf-8")
    result = compare(path)
    assert result.stdout == "657 rows shipped, 657 rows read, 0 differences\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_two_changed_rows(tmp_path: Path) -> None:
    """Changed cells are printed with their old and new code, exit status 1 (Table E.1-1)."""
    rows = shipped()
    for row in rows:
        if row["tag"] == "00100010":
            row["basic"] = "X"
        if row["tag"] == "00181000":
            row["retain_device_identity"] = ""
    path = tmp_path / "part15.xml"
    path.write_text(docbook(rows), encoding="utf-8")
    result = compare(path)
    assert result.stdout.splitlines() == [
        "changed (0010,0010) Patient's Name: basic: Z -> X",
        "changed (0018,1000) Device Serial Number: retain_device_identity: K -> -",
        "657 rows shipped, 657 rows read, 2 differences",
    ]
    assert (result.returncode, result.stderr) == (1, "")


def test_added_and_removed_rows(tmp_path: Path) -> None:
    """New and dropped rows are printed with their codes (Table E.1-1)."""
    rows = [row for row in shipped() if row["tag"] != "00100020"]
    added = dict.fromkeys(HEADINGS, "") | {"tag": "00109999", "name": "New One", "basic": "X/Z"}
    path = tmp_path / "part15.xml"
    path.write_text(docbook([*rows, added | {"clean_descriptors": "C"}]), encoding="utf-8")
    result = compare(path)
    assert result.stdout.splitlines() == [
        "removed (0010,0020) Patient ID: retired=N in_std_comp_iod=Y basic=Z/D",
        "added (0010,9999) New One: basic=X/Z clean_descriptors=C",
        "657 rows shipped, 657 rows read, 2 differences",
    ]
    assert result.returncode == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not well-formed XML"),
        ("<book/>", "it has no Table E.1-1"),
        ('<table xmlns="http://docbook.org/ns/docbook" label="E.1-1"/>', "its Table E.1-1 has no rows"),
        ("<book><para></book>", "not well-formed XML"),
        (docbook(shipped()[:9], '<!DOCTYPE book [<!ENTITY a "b">]>'), "it has a DOCTYPE, which is refused"),
        (docbook(shipped()[:9]).replace("utf-8", "cp037", 1), "its character encoding is not supported"),
        (
            docbook(shipped()[:9]).replace("Basic Prof.", "Other"),
            "a heading of Table E.1-1 is not understood",
        ),
        (
            docbook(shipped()[:9]).replace("(0008,0012)", "0008 0012"),
            "a tag of Table E.1-1 is not understood",
        ),
        (
            docbook(shipped()[:9]).replace("<td align", "<td/><td align", 1),
            "a row of Table E.1-1 has 16 cells",
        ),
    ],
)
def test_unreadable_input(tmp_path: Path, content: str, reason: str) -> None:
    """Anything but a DocBook file with the table ends with status 2 and one clear line."""
    path = tmp_path / "part15.xml"
    path.write_text(content, encoding="utf-8")
    result = compare(path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert reason in result.stderr


def test_missing_file(tmp_path: Path) -> None:
    """A file that is not there ends with status 2 and one clear line."""
    result = compare(tmp_path / "absent.xml")
    assert result.returncode == 2
    assert "absent.xml: No such file or directory" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_other_encoding(tmp_path: Path) -> None:
    """UTF-16, in which a DOCTYPE could hide from a search, is refused."""
    path = tmp_path / "part15.xml"
    path.write_bytes(docbook(shipped()[:9]).replace("utf-8", "utf-16", 1).encode("utf-16"))
    result = compare(path)
    assert result.returncode == 2
    assert "it is not UTF-8 text" in result.stderr

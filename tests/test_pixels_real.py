"""Every transfer syntax and layout of real files: masked, and read again by decoders that others wrote."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pydicom
import pytest
from factories import shared
from oracle import Verdict, examine, files, missing_tools

RLE, DEFLATED_FRAMES = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
NOT_EDITABLE = ("1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55")


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> list[Verdict]:
    if missing := missing_tools():
        pytest.skip(f"{', '.join(missing)} not installed (Debian: dcmtk, libgdcm-tools)")
    scratch = tmp_path_factory.mktemp("oracle")
    found = files(shared() / "corpora", Path(pydicom.data.__file__).parent)
    return [verdict for path in found if (verdict := examine(path, scratch)) is not None]


def test_every_decoder_sees_the_same_pixels_outside_and_only_black_inside(verdicts: list[Verdict]) -> None:
    """Bit for bit, in every frame; but for the colours that smoothing mixes at the border of a mask in lossy JPEG."""
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert len([verdict for verdict in verdicts if verdict.agreed]) > 200


def test_two_independent_decoders_read_each_syntax(verdicts: list[Verdict]) -> None:
    """Each syntax was read by two decoders; of single bits under RLE and deflate only ours knows the new form."""
    new_form = [v for v in verdicts if v.form.startswith("MONOCHROME2 1,") and v.syntax in (RLE, DEFLATED_FRAMES)]
    assert len(new_form) == 4
    readers: dict[str, Counter[str]] = {}
    for verdict in verdicts:
        if verdict not in new_form and not verdict.held:
            readers.setdefault(verdict.syntax, Counter()).update(verdict.agreed)
    assert len(readers) >= 15
    assert {syntax: found for syntax, found in readers.items() if len(found) < 2} == {}


def test_what_is_held_back_has_a_reason(verdicts: list[Verdict]) -> None:
    """Few real images cannot be masked: cut off, broken, or compressed in a way that no edit leaves intact."""
    held = [verdict for verdict in verdicts if verdict.held]
    assert len(held) < len(verdicts) // 20
    assert all(verdict.held.startswith(("PIXELS", "TRUNCATED", "INCOMPLETE")) for verdict in held)
    assert {verdict.syntax for verdict in held} >= set(NOT_EDITABLE)

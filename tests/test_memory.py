"""Memory does not grow with the size of an object."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from factories import ct, encoded

FRAMES, SIDE = 256, 2048
PIXELS = FRAMES * SIDE * SIDE * 2


def _large_file(path: Path) -> None:
    """Write a multi-frame object of 2 GiB whose pixel data are a hole in the file."""
    small = ct(rows=1, columns=1, NumberOfFrames=FRAMES)
    small.Rows = small.Columns = SIDE
    head = encoded(small)[:-6]
    with path.open("wb") as file:
        file.write(head + PIXELS.to_bytes(4, "little"))
        file.truncate(file.tell() + PIXELS)


def test_two_gibibytes_stay_under_128_mib(tmp_path: Path) -> None:
    """Peak RSS stays under 128 MiB whatever the file size; the bytes arrive all the same."""
    incoming = tmp_path / "in"
    incoming.mkdir()
    _large_file(incoming / "cine.dcm")
    arguments = ["deidentify", str(incoming), str(tmp_path / "out"), "--project", str(tmp_path / "p"), "--workers", "1"]
    child = os.posix_spawn(sys.executable, [sys.executable, "-m", "dicomshield", *arguments], os.environ)
    _, status, usage = os.wait4(child, 0)
    assert status == 0
    (output,) = (tmp_path / "out").rglob("*.dcm")
    assert output.stat().st_size > PIXELS
    output.unlink()
    assert usage.ru_maxrss < 128 << 10, f"{usage.ru_maxrss >> 10} MiB"

"""Memory does not grow with the size of an object."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from factories import ct, encoded

FRAMES, SIDE = 256, 2048
PEAK = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-m", "dicomshield", *sys.argv[1:]], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
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
    # a process begins with the peak of the one that started it, so a small one stands in between
    done = subprocess.run([sys.executable, "-c", PEAK, *arguments], capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-1])
    (output,) = (tmp_path / "out").rglob("*.dcm")
    assert output.stat().st_size > PIXELS
    output.unlink()
    assert 10 << 10 < peak < 128 << 10, f"{peak >> 10} MiB"

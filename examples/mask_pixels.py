"""Mask burned-in text: by a rule for a device in a policy, by regions in code, and on decoded arrays.

docs/pixels.md tells what is done in each transfer syntax. The temporary folder stays, to look at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, Polygon, Profile, Region, mask

POLICY = """
[[mask]]
name = "Philips, 800 columns"
when = { Modality = "US", Manufacturer = "Philips*", Columns = 800 }
regions = [[0, 0, 800, 60], [0, 60, 80, 200], [80, 60, 240, 50]]
"""


def main() -> None:
    """Mask an ultrasound image of a made-up patient in three ways."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    policy, original = folder / "policy.toml", folder / "thornquist.dcm"
    policy.write_text(POLICY, "utf-8")
    planted = pydicom.dcmread(str(get_testdata_file("examples_palette.dcm", download=False)))
    planted.PatientName, planted.PatientID = "Thornquist^Marit", "55120983"
    planted.save_as(original)

    shield = Deidentifier(Profile.from_toml(policy), project=folder / "project")
    report = shield.file(original, folder / "released")
    print(f"{report.pixels}; codes claimed: {', '.join(report.claims)}")

    everywhere = Deidentifier(Profile(regions=(Region(0, 0, 60, 800),)), project=folder / "project")
    print(everywhere.bytes(original).report.pixels)

    frames = planted.pixel_array[None].copy()  # (frames, rows, columns)
    mask(frames, [Region(0, 0, 60, 800), Polygon(((60, 0), (60, 80), (260, 0)))])
    print(f"array: {(frames != planted.pixel_array).sum()} pixels changed")
    print(f"released: {folder / 'released'}")


if __name__ == "__main__":
    main()

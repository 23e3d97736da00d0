"""Write a policy in TOML, use it, and see how a mistake in one is refused before anything is read.

docs/policy.md explains every key. The temporary folder stays, to look at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, PolicyError, Profile

POLICY = """
options = ["RETAIN_MODIFIED_DATES", "RETAIN_PATIENT_CHARACTERISTICS"]
sop_classes = ["CT Image Storage", "MR Image Storage"]
date_range = [-1000, -400]

[attributes]
Manufacturer = "remove"
PatientSex = "empty"
"""


def main() -> None:
    """De-identify a CT image of a made-up patient by the policy."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    policy, original = folder / "policy.toml", folder / "thornquist.dcm"
    policy.write_text(POLICY, "utf-8")
    planted = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    planted.PatientName, planted.PatientID, planted.PatientAge = "Thornquist^Marit", "55120983", "093Y"
    planted.save_as(original)

    profile = Profile.from_toml(policy)
    report = Deidentifier(profile, project=folder / "project").file(original, folder / "released")
    clean = pydicom.dcmread(folder / "released" / report.name)
    print(f"age {planted.PatientAge} became {clean.PatientAge}; manufacturer kept: {'Manufacturer' in clean}")
    print(f"policy {profile.digest} conforms: {profile.conforms}; codes claimed: {', '.join(report.claims)}")

    policy.write_text(POLICY.replace("Manufacturer", "Manufacturr"), "utf-8")
    try:
        Profile.from_toml(policy)
    except PolicyError as error:
        print(f"refused: {error}")
    print(f"released: {folder / 'released'}")


if __name__ == "__main__":
    main()

"""De-identify one file: what is written, what the report says, and that the input stays as it was.

The patient is made up and planted into a real CT image of pydicom. The temporary folder stays, to look at.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, Option, Profile, Quarantined


def main() -> None:
    """Plant an identity, de-identify the file, and show some attributes before and after."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    original = folder / "THORNQUIST_MARIT.dcm"
    planted = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
    planted.PatientName, planted.PatientID = "Thornquist^Marit", "55120983"
    planted.PatientBirthDate, planted.StudyDate = "19610412", "20230315"
    planted.save_as(original)

    deidentifier = Deidentifier(Profile.basic(Option.RETAIN_MODIFIED_DATES), project=folder / "project")
    try:
        report = deidentifier.file(original, folder / "released")
    except Quarantined as cause:
        # nothing was written; the message holds no value of the patient
        print(f"held back: {cause}")
        return

    clean = pydicom.dcmread(folder / "released" / report.name)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyDate"):
        print(f"{keyword:<18}{planted[keyword].value!s:<20}{clean[keyword].value!s}")
    print(f"{len(report.changes)} attributes changed, {report.dropped} private ones and the like removed")
    print(f"checks passed: {', '.join(report.checks)}; codes claimed: {', '.join(report.claims)}")
    print(f"{report.outcome}: {folder / 'released'}")


if __name__ == "__main__":
    main()

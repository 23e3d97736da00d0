"""De-identify a folder: progress from the reports, counts, and why objects were held back.

Reports hold no identifiers, so they may be printed and logged. The temporary folder stays, to look at.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, Reason

FILES = ("CT_small.dcm", "MR_small.dcm", "rtplan.dcm", "test-SR.dcm", "examples_palette.dcm")


def main() -> None:
    """Build an incoming folder with something in it that is no DICOM, and de-identify it."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    incoming, released = folder / "incoming", folder / "released"
    incoming.mkdir()
    for number, name in enumerate(FILES):
        dataset = pydicom.dcmread(str(get_testdata_file(name, download=False)))
        dataset.PatientName, dataset.PatientID = "Thornquist^Marit", "55120983"
        dataset.save_as(incoming / f"thornquist_{number}.dcm")
    (incoming / "export.log").write_text("5 objects sent\n")

    deidentifier = Deidentifier(project=folder / "project")
    outcomes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for done, report in enumerate(deidentifier.folder(incoming, released, workers=2), start=1):
        outcomes[report.outcome] += 1
        if report.reason:
            reasons[report.reason] += 1
        print(f"{done}: object {report.number} {report.outcome} {report.detail}")

    print(f"{outcomes['released']} released, {outcomes['quarantined']} held back")
    for reason, count in reasons.most_common():
        print(f"  {count} {reason}: {Reason[reason].value}")
    print(f"released: {released}")


if __name__ == "__main__":
    main()

"""Give patients the pseudonyms of a list, hold back everyone else, and write the maps of what was replaced.

The list and the maps hold PHI: they belong in the project folder. The temporary folder stays, to look at.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, PatientList, Profile, Project
from dicomshield.bulk.folder import Run


def main() -> None:
    """De-identify the CT images of two made-up patients, of whom one is in the list."""
    folder = Path(tempfile.mkdtemp(prefix="dicomshield-"))
    incoming, project = folder / "incoming", Project(folder / "project")
    incoming.mkdir()
    people = (("Thornquist^Marit", "55120983"), ("Abernethy^Lucan", "77430126"))
    for number, (name, patient_id) in enumerate(people):
        dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm", download=False)))
        dataset.PatientName, dataset.PatientID, dataset.SOPInstanceUID = name, patient_id, f"1.2.3.4.{number}"
        dataset.save_as(incoming / f"{number}.dcm")
    with project.private_file("patients.csv") as file:
        # an empty issuer matches whoever issued the identifier
        csv.writer(file).writerows([("id_old", "issuer", "id_new"), ("55120983", "", "TRIAL-001")])

    patients = PatientList.read(project.folder / "patients.csv")
    deidentifier = Deidentifier(Profile(only_listed=True), project=project, patients=patients)
    deidentifier.pseudonymizer.recording = True
    with Run(deidentifier, incoming, folder / "released") as run:
        for _, report, _ in run:
            print(f"object {report.number}: {report.outcome} {report.reason}{report.patient}")
    for name, pairs in (("patient-map.csv", run.patients), ("uid-map.csv", run.uids)):
        with project.private_file(name) as file:
            csv.writer(file).writerows([("id_old", "id_new"), *sorted(pairs.items())])
        print(f"{name}: {len(pairs)} lines")
    print(f"released: {folder / 'released'}")


if __name__ == "__main__":
    main()

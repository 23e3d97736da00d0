"""Data sets in, data sets out: a small loader for machine learning that yields pixels and clean headers.

Nothing is written but the project secret. With the same secret, the slices of one series stay one series.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.data import get_testdata_file

from dicomshield import Deidentifier, Quarantined


def load(datasets: Iterable[Dataset], deidentifier: Deidentifier) -> Iterator[tuple[NDArray[Any], Dataset]]:
    """Yield the pixels and the header of every object that may be used."""
    for dataset in datasets:
        try:
            clean = deidentifier(dataset)
        except Quarantined as cause:
            print(f"left out: {cause}")
            continue
        yield clean.pixel_array, clean


def main() -> None:
    """Load three slices of a made-up patient, and an image that may carry text."""
    paths = (str(get_testdata_file(name, download=False)) for name in ("CT_small.dcm", "MR_small.dcm"))
    ct, mr = map(pydicom.dcmread, paths)
    ct.PatientName, ct.PatientID = "Thornquist^Marit", "55120983"
    slices = [copy.deepcopy(ct) for _ in range(3)]
    for number, one in enumerate(slices, start=1):
        one.InstanceNumber, one.SOPInstanceUID = number, f"{ct.SeriesInstanceUID}.{number}"

    with tempfile.TemporaryDirectory() as project:
        loaded = list(load([*slices, mr], Deidentifier(project=Path(project) / "project")))
    volume = np.stack([pixels for pixels, _ in loaded])
    patients = {header.PatientID for _, header in loaded}
    series = {header.SeriesInstanceUID for _, header in loaded}
    print(f"volume {volume.shape} of {len(patients)} patient and {len(series)} series")
    print(f"pseudonym {patients.pop()}")


if __name__ == "__main__":
    main()

"""Small whole-process loops for contenders without a command line of their own.

``python benchmarks/loops.py NAME IN OUT`` reads every ``*.dcm`` below IN and writes it below OUT, under the
same relative path. Libraries are imported inside the loops: each runs where only its own is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path


def _pairs(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    for path in sorted(source.rglob("*.dcm")):
        out = target / path.relative_to(source)
        out.parent.mkdir(parents=True, exist_ok=True)
        yield path, out


def run_pydicom(source: Path, target: Path) -> None:
    """Plain load and save: the floor for any tool built on pydicom."""
    dcmread = import_module("pydicom").dcmread
    for path, out in _pairs(source, target):
        dcmread(path).save_as(out)


def run_deid(source: Path, target: Path) -> None:
    """Run deid: default recipe, values for its variables given, private elements removed."""
    recipe = import_module("deid.config").DeidRecipe()
    replace_identifiers = import_module("deid.dicom").replace_identifiers
    values = {
        "entity_id": "SUBJECT1",
        "item_id": "ITEM1",
        "entity_timestamp": "20000101",
        "item_timestamp": "20000101",
    }
    for path, out in _pairs(source, target):
        replace_identifiers(
            dicom_files=[str(path)],
            deid=recipe,
            ids={str(path): dict(values)},
            save=True,
            overwrite=True,
            output_folder=str(out.parent),
            remove_private=True,
        )


def run_dcmanon(source: Path, target: Path) -> None:
    """Run dcmanon with its default actions."""
    anonymizer = import_module("dcmanon").Anonymizer()
    for path, out in _pairs(source, target):
        out.write_bytes(anonymizer.anonymize(str(path)))


LOOPS: dict[str, Callable[[Path, Path], None]] = {
    "pydicom": run_pydicom,
    "deid": run_deid,
    "dcmanon": run_dcmanon,
}


if __name__ == "__main__":
    LOOPS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))

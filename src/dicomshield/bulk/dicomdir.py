"""Build a DICOMDIR from released objects (PS3.10 section 8, PS3.15 E.1.1), with pydicom's FileSet."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pydicom
from pydicom.fileset import FileSet

from ..errors import PolicyError

__all__ = ["write_dicomdir"]

_RECORD_NEEDS: Final = {
    "PatientID": "REMOVED", "StudyDate": "19000101", "StudyTime": "000000", "StudyID": "0", "Modality": "OT",
    "SeriesNumber": 0, "InstanceNumber": 0, "ContentDate": "19000101", "ContentTime": "000000",
}  # fmt: skip
"""What directory records need and objects may be without; written to records only (PS3.3 F.5)."""


def write_dicomdir(folder: Path) -> tuple[int, int]:
    """Write DICOMDIR and its file-set into a folder of released objects.

    File IDs are short by the standard, so each object gets a second name under ``PT000000/...``: a hard link, which
    takes no space, or a copy where links cannot be made.

    Returns
    -------
    written, left_out : int
        Objects with and without a record; those left out have no standard directory record.

    Raises
    ------
    PolicyError
        If the folder holds no released objects or cannot be written.
    """
    paths = list(_objects(folder))
    if not paths:
        raise PolicyError("no released objects (*.dcm) in this folder")
    scratch = folder / f".dicomshield-{secrets.token_hex(8)}"
    try:
        written, left_out = _write(paths, scratch)
        for old in (folder / "DICOMDIR", *folder.glob("PT[0-9A-Z]*")):
            if _is_ours(old.name) and old.exists():
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        for new in list(scratch.iterdir()):
            new.rename(folder / new.name)
    except OSError as error:
        raise PolicyError(f"the DICOMDIR cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return written, left_out


def _objects(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*/*/*.dcm")) if not _is_ours(path.relative_to(folder).parts[0]))


def _is_ours(name: str) -> bool:
    """Tell a file-set's names, which have no more than eight characters, from those of released objects."""
    return name == "DICOMDIR" or (len(name) == 8 and name.startswith("PT"))


def _write(paths: list[Path], scratch: Path) -> tuple[int, int]:
    files, written = FileSet(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in paths:
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            for keyword, value in _RECORD_NEEDS.items():
                if not dataset.get(keyword):
                    setattr(dataset, keyword, value)
            try:
                instance = files.add(dataset)
            except (ValueError, AttributeError, NotImplementedError):
                continue
            written += 1
            _link(path, Path(instance.path))
        if written:
            files.write(scratch)
        originals = {path.stem: path for path in paths}
        for instance in files:
            _link(originals[str(instance.SOPInstanceUID)], Path(instance.path))
    return written, len(paths) - written


def _link(original: Path, placed: Path) -> None:
    """Let ``placed`` be the same file as ``original``, or a copy of it."""
    placed.unlink(missing_ok=True)
    try:
        os.link(original, placed)
    except OSError:
        shutil.copyfile(original, placed)

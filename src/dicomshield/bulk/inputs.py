"""Find the files of a folder, and refuse folders that lie within each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import PolicyError

__all__ = ["find_files", "refuse_nested"]


def find_files(folder: str | os.PathLike[str], skip: tuple[Path, ...] = ()) -> Iterator[str]:
    """Yield the path of every entry that is not a folder, in a stable order.

    Links to folders are followed once, so that a loop of links ends. What cannot be listed is yielded as it is:
    whoever opens it says why it cannot be read.

    Parameters
    ----------
    folder : path-like
    skip : tuple of Path
        Folders that are not inputs, such as the project's.
    """
    seen = {_identity(path) for path in skip}
    pending = [os.fspath(folder)]
    while pending:
        current = pending.pop()
        identity = _identity(current)
        if identity is not None and identity in seen:
            continue
        seen.add(identity)
        try:
            with os.scandir(current) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield current
            continue
        folders = []
        for entry in listed:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                folders.append(entry.path)
            else:
                yield entry.path
        pending += reversed(folders)


def _identity(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def refuse_nested(**folders: Path | None) -> None:
    """Refuse folders of which one is another or lies in it, also through links.

    Parameters
    ----------
    **folders : Path or None
        By the name an error message calls them.

    Raises
    ------
    PolicyError
    """
    real = [(name.replace("_", " "), path.resolve()) for name, path in folders.items() if path is not None]
    for index, (name, path) in enumerate(real):
        for other_name, other in real[index + 1 :]:
            if path == other:
                raise PolicyError(f"the {name} folder and the {other_name} folder are the same")
            if path in other.parents or other in path.parents:
                inner, outer = (name, other_name) if other in path.parents else (other_name, name)
                raise PolicyError(f"the {inner} folder lies inside the {outer} folder; choose another place")

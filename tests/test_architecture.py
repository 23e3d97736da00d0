"""The shape of the package: what it shows, and which way it leans."""

from __future__ import annotations

import ast
from pathlib import Path

from factories import ROOT

import dicomshield
from dicomshield import errors

PACKAGE = ROOT / "src" / "dicomshield"
LAYERS = (
    {"standard", "errors", "_version"},
    {"encoding"},
    {"pixels"},
    {"identity", "profile", "policy"},
    {"finders", "rebuild"},
    {"storage", "evidence", "opened"},
    {"vault"},
    {"deidentifier"},
    {"masker", "preview"},
    {"bulk"},
    {"cli"},
)


def _layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if module.split(".")[0] in names)


def _imports(path: Path) -> set[str]:
    """Return the parts of the package that a file imports, relative to the package."""
    found = set()
    depth = len(path.relative_to(PACKAGE).parts) - 1
    # an import inside a function may reach upwards: nothing is loaded before the function runs
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level == depth + 1:
            found |= {node.module} if node.module else {name.name for name in node.names}
    return found


def test_imports_point_downwards() -> None:
    """A part imports only its own layer's lower neighbours and what lies below."""
    checked = 0
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in ("__init__", "__main__"):
            continue
        for module in _imports(path):
            checked += 1
            assert _layer(module) <= _layer(own), f"{path.name} imports {module}"
    assert checked > 50


def test_public_names_are_all_there_is() -> None:
    """``__all__`` is sorted, small, and every name in it exists."""
    names = dicomshield.__all__
    assert list(names) == sorted(names)
    assert len(names) <= 25
    assert all(hasattr(dicomshield, name) for name in names)


def test_every_error_has_one_root() -> None:
    """One ``except DicomShieldError`` catches all that is raised on purpose."""
    raised = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(raised) == 5
    assert all(issubclass(error, errors.DicomShieldError) for error in raised)


def test_every_reason_says_what_to_do() -> None:
    """A reason without advice leaves a user alone with a held-back object."""
    assert all(len(reason.value) > 30 for reason in errors.Reason)
    assert len({reason.value for reason in errors.Reason}) == len(errors.Reason)

"""dicomshield makes medical images safe to share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ._version import __version__
from .deidentifier import Deidentifier, Result
from .errors import DicomShieldError, Finding, MissingExtra, PolicyError, Quarantined, Reason, VaultError
from .evidence.report import Report
from .identity.project import Project
from .identity.pseudonym import PatientList
from .pixels.mask import mask
from .pixels.region import Bitmap, Polygon, Region
from .profile import Action, Option, Profile
from .storage import Durability

if TYPE_CHECKING:
    from .vault.sealed import open_sealed, seal

__all__ = [
    "Action",
    "Bitmap",
    "Deidentifier",
    "DicomShieldError",
    "Durability",
    "Finding",
    "MissingExtra",
    "Option",
    "PatientList",
    "PolicyError",
    "Polygon",
    "Profile",
    "Project",
    "Quarantined",
    "Reason",
    "Region",
    "Report",
    "Result",
    "VaultError",
    "__version__",
    "mask",
    "open_sealed",
    "seal",
]

_LATE: Final = {"open_sealed": ".vault.sealed", "seal": ".vault.sealed"}


def __getattr__(name: str) -> Any:
    """Import what needs cryptography when it is used: most runs encrypt nothing."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name], __name__), name)

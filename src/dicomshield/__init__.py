"""dicomshield makes medical images safe to share."""

from __future__ import annotations

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
]

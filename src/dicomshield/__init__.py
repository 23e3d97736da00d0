"""dicomshield makes medical images safe to share."""

from __future__ import annotations

from ._version import __version__
from .deidentifier import Deidentifier, Result
from .errors import DicomShieldError, Finding, MissingExtra, PolicyError, Quarantined, Reason
from .evidence.report import Report
from .identity.project import Project
from .identity.pseudonym import PatientList
from .profile import Action, Option, Profile
from .storage import Durability

__all__ = [
    "Action",
    "Deidentifier",
    "DicomShieldError",
    "Durability",
    "Finding",
    "MissingExtra",
    "Option",
    "PatientList",
    "PolicyError",
    "Profile",
    "Project",
    "Quarantined",
    "Reason",
    "Report",
    "Result",
    "__version__",
]

"""Read an output again with pydicom, which had no part in writing it, and check what must hold."""

from __future__ import annotations

import warnings
from io import BytesIO

from ..encoding.elements import tag_name
from ..errors import Quarantined, Reason
from ..profile import Action
from ..standard import tables
from .report import Report

__all__ = ["check"]


def check(data: bytes, report: Report) -> None:
    """Check one output object against its report.

    Raises
    ------
    Quarantined
        INVALID if pydicom cannot read every element, File Meta Information and data set disagree, the object
        does not say that it was de-identified, or lacks an attribute its SOP class requires and the
        original had.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(BytesIO(data))
            for element in dataset.iterall():
                _ = element.value
            agrees = dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID == report.instance
            marked = dataset.get("PatientIdentityRemoved") == "YES"
    except Exception as error:
        # pydicom's message may quote values
        raise Quarantined(Reason.INVALID, f"pydicom cannot read the output ({type(error).__name__})") from None
    if not agrees or not marked:
        raise Quarantined(Reason.INVALID, "the output does not say of itself what it is")
    types = tables.iod_types().get(report.sop_class, {})
    for path, action in report.changes:
        kind = types.get(path[0], "3")
        gone = action is Action.REMOVE or (action is Action.EMPTY and kind == "1")
        if len(path) == 1 and kind in ("1", "2") and gone:
            raise Quarantined(Reason.INVALID, f"{tag_name(path[0])} is of Type {kind} and was {action.value}")

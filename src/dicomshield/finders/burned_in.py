"""Tell from the header whether pixels may carry text.

The tests restate what PS3.3, the RSNA CTP pixel filter, the pydicom/deid recipes and the exclusions of dicom-dre look
at; none of them can say that an image is clean, only that it is of a kind that often is not. Left out are flags for
all images of a CT model, of mammography, angiography and fluoroscopy, which speak of one site's rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

__all__ = ["COMPUTED", "TAGS", "suspicion"]

_UID: Final = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE: Final = frozenset({f"{_UID}7", f"{_UID}7.1", f"{_UID}7.2", f"{_UID}7.3", f"{_UID}7.4"})
_ULTRASOUND: Final = frozenset({f"{_UID}3", f"{_UID}3.1", f"{_UID}6", f"{_UID}6.1", f"{_UID}6.2", f"{_UID}6.3"})
_VISIBLE_LIGHT: Final = f"{_UID}77.1."
COMPUTED: Final = frozenset(
    {f"{_UID}66.4", f"{_UID}66.7", f"{_UID}66.8", f"{_UID}30", f"{_UID}481.2", f"{_UID}481.23"}
    | {f"{_UID}128.1", f"{_UID}200.2", f"{_UID}200.8"}
)
"""Segmentations, parametric maps, dose grids: pixels are results of a computation, not a picture of a screen."""
_SCREENS: Final = (
    "SECONDARY", "SCREEN SAVE", "SAVE", "SCREEN", "REPORTDATA", "DEMOGRAPHICDATA", "INVALID", "VOLREN", "VXTL STATE",
    "DOSE", "LABEL", "OVERVIEW", "MRSC",
)  # fmt: skip
_DESCRIPTIONS: Final = ("DOSE REPORT", "PATIENT PROTOCOL", "SAVE", "PACS NOMINATION FORM", "STUDY ACQUIRED OUTSIDE")
_CAPTURE_DEVICE: Final = (0x00181010, 0x00181012, 0x00181016, 0x00181018, 0x00181019)
_MODALITIES: Final = frozenset(
    "US IVUS BDUS OT SC DOC XC ES GM SM OP OPT ECG HD XA RF TG FLM DG LS ST VF OSS AS BD BMD CF CP CS DE DEXA DF DMS "
    "EC FA FILM_CT FS HC LP REPORT REQUEST SD".split()
)  # fmt: skip
_DERIVED_IS_PLAIN: Final = frozenset({"CR", "DX", "DR", "MG", "MR", "IO", "PX"})
"""Where DERIVED is what every processed image says of itself."""
_DEVICES: Final = ("VIDAR", "ICAD", "THE DICOM BOX", "BIOPTICS", "BIOVISION", "FAXITRON", "KUBTEC", "TRIDENT")
"""Film scanners, digitizers and cameras for specimens, by words of Manufacturer and Manufacturer's Model Name."""
_MAKER, _MODEL = 0x00080070, 0x00081090
TAGS: Final = frozenset(
    {0x00080008, 0x00080060, 0x00080064, _MAKER, 0x0008103E, _MODEL, 0x00280301, 0x00480010, *_CAPTURE_DEVICE}
)
"""Attributes that `suspicion` looks at."""


def suspicion(header: Mapping[int, bytes], sop_class: str) -> str | None:
    """Return why the pixels may carry text, ``None`` if no test says so.

    Parameters
    ----------
    header : mapping
        tag -> value as encoded, of the top level.
    sop_class : str
        SOP Class UID.
    """
    return _suspicion(
        sop_class,
        header.get(0x00280301, b""),
        header.get(0x00080008),
        header.get(0x00080060, b""),
        header.get(0x0008103E, b""),
        header.get(0x00080064),
        any(header.get(tag, b"").strip(b" \0") for tag in _CAPTURE_DEVICE),
        header.get(0x00480010, b""),
        header.get(_MAKER, b"") + b"\\" + header.get(_MODEL, b""),
    )


@lru_cache(maxsize=1024)
def _suspicion(
    sop_class: str,
    burned_in: bytes,
    image_type: bytes | None,
    modality: bytes,
    description: bytes,
    conversion: bytes | None,
    captured: bool,
    label: bytes,
    device: bytes,
) -> str | None:
    if _text(burned_in) == "YES":
        return "Burned In Annotation is YES"
    if sop_class in COMPUTED:
        return None
    if sop_class in _SECONDARY_CAPTURE:
        return "a secondary capture"
    if sop_class in _ULTRASOUND:
        return "an ultrasound image"
    if sop_class.startswith(_VISIBLE_LIGHT):
        return "a photograph, video, endoscopy or slide image"
    if conversion is not None:
        return "Conversion Type says it was captured or scanned"
    if captured:
        return "it names a secondary capture device"
    if _text(label) == "YES":
        return "Specimen Label in Image is YES"
    kinds = [kind.strip() for kind in _text(image_type or b"").split("\\")]
    if not any(kinds):
        return "Image Type is missing or empty"
    for kind in kinds:
        if any(screen in kind for screen in _SCREENS):
            return "Image Type calls it secondary, a screen or a report"
    if "DERIVED" in kinds and _text(modality) not in _DERIVED_IS_PLAIN:
        return "Image Type is DERIVED"
    if any(word in _text(description) for word in _DESCRIPTIONS):
        return "Series Description is that of a report or screen save"
    if any(word in _text(device) for word in _DEVICES):
        return "a film scanner, or a camera for specimens"
    if _text(modality) in _MODALITIES:
        return f"Modality {_text(modality)} often shows text"
    return None


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip(" \0").upper()

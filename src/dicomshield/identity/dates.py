"""Shift dates by whole days (PS3.15 E.3.6, PS3.5 6.2 for DA, TM and DT).

A shift of whole days keeps every time of day, so the pairs of DA and TM that the standard uses for one
moment move together, and so do DT values with and without a zone.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Final

__all__ = ["shifted"]

_DAY: Final = re.compile(rb"(\d{4})(\.?)(\d{2})\2(\d{2})")
_TIME: Final = re.compile(rb"\d{2}(?::?\d{2}(?::?\d{2}(?:\.\d{1,6})?)?)?")
_DT_REST: Final = re.compile(rb"(?:\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?)?(?:[+-]\d{4})?")


def shifted(vr: bytes, value: bytes, days: int) -> bytes | None:
    """Move each of the values by ``days`` days.

    Parameters
    ----------
    vr : bytes
        ``b"DA"``, ``b"DT"`` or ``b"TM"``; a time of day is only checked, it stays.
    value : bytes
        As encoded, with padding; values separated by a backslash. The form 1997.04.24 of old objects is kept.
    days : int

    Returns
    -------
    bytes or None
        ``None`` if a value is no complete date of that VR: what cannot be read cannot be shifted.
    """
    out = []
    for part in value.split(b"\\"):
        text = part.strip(b" \0")
        moved = text if not text else _moved(vr, text, days)
        if moved is None:
            return None
        out.append(moved)
    return b"\\".join(out)


def _moved(vr: bytes, text: bytes, days: int) -> bytes | None:
    if vr == b"TM":
        return text if _TIME.fullmatch(text) else None
    match = _DAY.match(text)
    if match is None:
        return None
    rest = text[match.end() :]
    if (vr == b"DA" and rest) or (vr == b"DT" and not _DT_REST.fullmatch(rest)):
        return None
    year, dot, month, day = match.groups()
    try:
        moved = date(int(year), int(month), int(day)) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return b"%04d%b%02d%b%02d" % (moved.year, dot, moved.month, dot, moved.day) + rest

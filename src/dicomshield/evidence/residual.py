"""Search what is about to be released for what is known of the patient.

The search does not trust the rewrite: it knows nothing of elements and reads every byte it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..errors import Finding
from ..identity.known import Known, Needle, lowered

__all__ = ["search", "suspects"]

_DIGITS = b"0123456789"
_NEIGHBOURS = {b"9": _DIGITS, b"a": b"abcdefghijklmnopqrstuvwxyz"}


def search(data: bytes, known: Known, *, written: Mapping[bytes, int] | None = None) -> list[Finding]:
    """Look for spellings of known values.

    Parameters
    ----------
    data : bytes
        What goes out, apart from pixel data; its file name too.
    known : Known
    written : mapping, optional
        Dates that the rewrite wrote itself and how often: a shifted date can equal another original one.

    Returns
    -------
    list of Finding
        One of each kind, with how many spellings were found; never the value.
    """
    hay = lowered(data)
    found = [
        needle for shared, group in known if shared in hay for needle in group if _stands(hay, needle, written or {})
    ]
    return [Finding(kind, count) for kind, count in Counter(needle.kind for needle in found).items()] if found else []


def suspects(data: bytes, known: Known) -> bool:
    """Tell at little cost whether `search` could find anything."""
    hay = lowered(data)
    return any([shared in hay for shared, _ in known])


def _stands(hay: bytes, needle: Needle, written: Mapping[bytes, int]) -> bool:
    """Tell whether an occurrence counts, given its neighbours and what was written on purpose."""
    text, _, edges = needle
    spare = written.get(text, 0) if needle.kind == "date" else 0
    at = hay.find(text)
    while at >= 0:
        before, after = hay[at - 1 : at], hay[at + len(text) : at + len(text) + 1]
        part_of_more = bool(edges) and (
            (before != b"" and before in _NEIGHBOURS[edges])
            # a time of day may follow a date, and an initial a name
            or (after != b"" and after in _DIGITS and edges == b"9" and needle.kind != "date")
        )
        if not part_of_more:
            if not spare:
                return True
            spare -= 1
        at = hay.find(text, at + 1)
    return False

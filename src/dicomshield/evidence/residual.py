"""Search what is about to be released for what is known of the patient.

The search does not trust the rewrite: it knows nothing of elements and reads every byte it is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ..errors import Finding
from ..identity.known import Known, Needle, Spellings, divided, lowered, undivided

__all__ = ["search", "suspects"]


def search(data: bytes, known: Spellings, *, written: Mapping[bytes, int] | None = None) -> list[Finding]:
    """Look for spellings of known values.

    Parameters
    ----------
    data : bytes
        What goes out, apart from pixel data; its file name too.
    known : Spellings
    written : mapping, optional
        Dates that the rewrite wrote itself and how often: a shifted date can equal another original one.

    Returns
    -------
    list of Finding
        One of each kind, with how many spellings were found; never the value.
    """
    hay = lowered(data)
    found = _found(hay, known.plain, written or {})
    whole = undivided(hay)
    found += [
        needle for text, group in known.undivided if text in whole for needle in group if divided(text).search(hay)
    ]
    return [Finding(kind, count) for kind, count in Counter(needle.kind for needle in found).items()] if found else []


def suspects(data: bytes, known: Spellings) -> bool:
    """Tell at little cost whether `search` could find anything."""
    hay = lowered(data)
    if any([shared in hay for shared, _ in known.plain]):
        return True
    hay = undivided(hay)
    return any([shared in hay for shared, _ in known.undivided])


def _found(hay: bytes, known: Known, written: Mapping[bytes, int]) -> list[Needle]:
    return [
        needle for shared, group in known if shared in hay for needle in group if _stands(hay, needle, written)
    ]  # fmt: skip


def _stands(hay: bytes, needle: Needle, written: Mapping[bytes, int]) -> bool:
    """Tell whether an occurrence counts, given its neighbours and what was written on purpose."""
    text, _, edges = needle
    spare = written.get(text, 0) if needle.kind == "date" else 0
    at = hay.find(text)
    while at >= 0:
        before, after = hay[at - 1 : at], hay[at + len(text) : at + len(text) + 2]
        part_of_more = (
            # a time of day may follow a date
            edges == b"9" and (before.isdigit() or (after[:1].isdigit() and needle.kind != "date"))
        ) or (
            # an initial may follow a name
            edges == b"a" and (before.isalpha() or (len(after) == 2 and after.isalpha()))
        )
        if not part_of_more:
            if not spare:
                return True
            spare -= 1
        at = hay.find(text, at + 1)
    return False

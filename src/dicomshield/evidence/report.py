"""The report of one object: what was done, by tags, codes and pseudonyms; never by values or paths."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from typing import Final, NamedTuple

from ..errors import Finding, Quarantined
from ..identity.known import Shared
from ..pixels.region import Box, Plan
from ..rebuild import Change

__all__ = ["Mask", "Report"]


class Mask(NamedTuple):
    """What was blacked out.

    Attributes
    ----------
    boxes : tuple of (int, int, int, int)
        Column, row, width and height of the 64 largest, of all frames.
    area : float
        Share of all pixels.
    finders : tuple of str
        What found them.
    """

    boxes: tuple[tuple[int, int, int, int], ...]
    area: float
    finders: tuple[str, ...]

    @classmethod
    def of(cls, plans: Sequence[Plan], rows: int, columns: int, finders: Iterable[str]) -> Mask:
        """Sum up what `compiled` returned."""
        covered = sum((plan.last - plan.first) * _area(box) for plan in plans for box in plan.boxes)
        largest = sorted({box for plan in plans for box in plan.boxes}, key=_area, reverse=True)[:_BOXES]
        drawn = tuple((box.left, box.top, box.right - box.left, box.bottom - box.top) for box in largest)
        return cls(drawn, round(covered / (rows * columns * plans[-1].last), 6), tuple(finders))


def _area(box: Box) -> int:
    return (box.bottom - box.top) * (box.right - box.left)


_BOXES: Final = 64


@dataclass
class Report:
    """What became of one object.

    Attributes
    ----------
    outcome : str
        ``"released"``, ``"unchanged"`` (an earlier run released the same) or ``"quarantined"``.
    number : int
        Place in the run; the run's list in the project folder ties it to the source.
    sop_class, transfer_syntax : str
        UIDs; of the output.
    patient, study, series, instance : str
        Pseudonym and new UIDs; empty in quarantine before they were known.
    name : str
        Relative path of the output.
    parts : tuple of Shared of Change
        What was done, by top-level element; see `changes`.
    dropped : int
        Elements removed unseen: private ones, group lengths, padding.
    claims : tuple of str
        CID 7050 codes written into the object.
    profile : str
        Digest of the profile.
    checks : tuple of str
        Checks that passed.
    pixels : str
        What was done with the pixels: ``"kept"``, ``"kept, trusted by policy: ..."``, ``"masked by ..."``,
        ``"none"``.
    mask : Mask, optional
        What was blacked out.
    reason, detail : str
        Of a quarantine.
    findings : tuple of Finding
        Of a quarantine; of a release, the kinds of known values that were read in the pixels and masked.
    """

    outcome: str
    number: int = 0
    sop_class: str = ""
    transfer_syntax: str = ""
    patient: str = ""
    study: str = ""
    series: str = ""
    instance: str = ""
    name: str = ""
    parts: tuple[Shared[Change], ...] = field(default=(), repr=False, compare=False)
    dropped: int = 0
    claims: tuple[str, ...] = ()
    profile: str = ""
    checks: tuple[str, ...] = ()
    pixels: str = ""
    mask: Mask | None = None
    reason: str = ""
    detail: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def changes(self) -> list[Change]:
        """What was done with each attribute, in file order."""
        return list(chain.from_iterable(self.parts))

    def held_back(self, cause: Quarantined) -> Report:
        """Turn this report into that of a quarantine."""
        self.outcome, self.name, self.checks, self.claims = "quarantined", "", (), ()
        self.reason, self.detail, self.findings = cause.reason.name, cause.detail, cause.findings
        return self

    def to_json(self) -> str:
        """Return one line of JSON."""
        if self.outcome == "quarantined":
            return json.dumps(
                {
                    "object": self.number, "outcome": self.outcome, "reason": self.reason, "detail": self.detail,
                    "findings": [finding._asdict() for finding in self.findings], "sop_class": self.sop_class,
                    "profile": self.profile,
                }
            )  # fmt: skip
        # UIDs, numbers and our own words need no escapes; a pseudonym of a site's list may
        head = (
            f'{{"object": {self.number}, "outcome": "{self.outcome}", "patient": {json.dumps(self.patient)}, '
            f'"study": "{self.study}", "series": "{self.series}", "instance": "{self.instance}", '
            f'"output": "{self.name}"'
        )
        rest = _common(
            self.sop_class, self.transfer_syntax, self.profile, self.claims, self.checks, self.pixels, self.dropped
        )
        return f"{head}, {rest}, {_actions(self.parts)}{self._of_pixels()}}}"

    def _of_pixels(self) -> str:
        said: dict[str, object] = {"mask": self.mask._asdict()} if self.mask else {}
        if self.findings:
            said["findings"] = [finding._asdict() for finding in self.findings]
        return f", {json.dumps(said)[1:-1]}" if said else ""


@lru_cache(maxsize=256)
def _common(
    sop_class: str,
    transfer_syntax: str,
    profile: str,
    claims: tuple[str, ...],
    checks: tuple[str, ...],
    pixels: str,
    dropped: int,
) -> str:
    return json.dumps(
        {
            "sop_class": sop_class, "transfer_syntax": transfer_syntax, "profile": profile, "claims": claims,
            "checks": checks, "pixels": pixels, "removed_unseen": dropped,
        }
    )[1:-1]  # fmt: skip


@lru_cache(maxsize=256)
def _actions(parts: tuple[Shared[Change], ...]) -> str:
    """List paths by action; the objects of a series share this text."""
    actions: dict[str, list[str]] = {}
    for path, action in chain.from_iterable(parts):
        where = ".".join(f"{tag:08X}" for tag in path)
        paths = actions.setdefault(action.value, [])
        if where not in paths:
            paths.append(where)
    return f'"actions": {json.dumps(actions)}'

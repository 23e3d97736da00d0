"""Where devices are known to draw text: what public rule sets say, restated in `finders/data`.

Each file holds one rule set as ``[[mask]]`` blocks of a policy, with its source in the first lines, so a rule means
here what it means in a policy, and a block can be copied from one to the other.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Final

from ..pixels import rules
from ..pixels.region import Shape, compiled
from ..pixels.rules import MaskRule, first_match
from .finder import Found, Image

__all__ = ["Devices", "rule_sets", "tags"]

_DATA: Final = Path(__file__).with_name("data")


@cache
def rule_sets() -> tuple[tuple[MaskRule, ...], ...]:
    """Return the rules of each set, in their order."""
    return tuple(
        rules.read(tomllib.loads(path.read_text("utf-8"))["mask"]) for path in sorted(_DATA.glob("*.toml"))
    )  # fmt: skip


@cache
def tags() -> frozenset[int]:
    """Return the attributes that the rules look at; they must be in the header of an image."""
    return frozenset().union(*(rules.tags(rule_set) for rule_set in rule_sets()))


class Devices:
    """Finds the banners of known devices by the header alone.

    Of each rule set the first rule that matches holds, as in CTP, and what the sets say is put together: where they
    differ, a banner too much costs less than a name. A rule of the site's own that matches holds alone.

    Parameters
    ----------
    own : sequence of MaskRule
        Of the site's policy.
    """

    name = "device rules"
    version = "2026-11"
    claim = (
        "Blacks out where public rule sets say that a device draws its banner; "
        "it looks at no pixel, so it can say nothing of the rest of the image."
    )

    def __init__(self, own: Sequence[MaskRule] = ()) -> None:
        self._sets = tuple(own), *rule_sets()

    def find(self, image: Image) -> Found:
        """Return the regions of the rules that match; never covers an image."""
        own, *others = (first_match(rule_set, image.header) for rule_set in self._sets)
        matched = [own] if own else [rule for rule in others if rule]
        shapes = _within(image, [shape for rule in matched for shape in rule.regions])
        names = ", ".join(rule.name for rule in matched)
        if matched and not shapes:
            return Found(note=f"{names}: every region lies outside the frame")
        return Found(shapes, note=names or "no rule for this device")


def _within(image: Image, shapes: Sequence[Shape]) -> tuple[Shape, ...]:
    """Return the shapes that touch the frame, each once."""
    layout = image.frames.layout
    return tuple(
        shape
        for shape in dict.fromkeys(shapes)
        if any(plan.boxes for plan in compiled([shape], layout.rows, layout.columns, layout.frames))
    )

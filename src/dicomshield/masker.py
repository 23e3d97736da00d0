"""Black out regions and change nothing else: the header stays, with all that identifies the patient in it."""

from __future__ import annotations

from collections.abc import Sequence

from .deidentifier import Prepared
from .encoding.scan import Scanner, Verdict
from .encoding.source import Source
from .encoding.write import file_meta
from .errors import Quarantined, Reason
from .evidence.report import Report
from .identity.pseudonym import Patient, Pseudonymizer
from .opened import opened, overlay_in_pixels, pixel_element
from .pixels.masking import masked
from .pixels.region import Shape
from .profile import ABOUT_PIXELS, FACTS, Action, ActionTable, Decision, Marks, of_pixels, vr_of
from .rebuild import Rebuilder

__all__ = ["Masker"]


class Masker:
    """Masks the pixels of objects, and what in their headers repeats or describes these.

    Parameters
    ----------
    regions : sequence of Region, Polygon or Bitmap
    """

    def __init__(self, regions: Sequence[Shape]) -> None:
        self._regions = tuple(regions)
        self._scanners = {explicit: Scanner(_judge, vr_of, explicit=explicit) for explicit in (False, True)}

    def prepare(self, source: Source, name: str) -> Prepared:
        """Take all steps up to the bytes that may be written under ``name``.

        Raises
        ------
        Quarantined
            If it cannot be masked.
        """
        container, scan, header = opened(source, self._scanner, FACTS)
        element = pixel_element(scan)
        if element is None or not self._regions:
            raise Quarantined(Reason.INCOMPLETE, "there are no pixels to mask")
        pixels = masked(
            container.source, element, header, container.transfer_syntax, self._regions,
            overlay=overlay_in_pixels(header),
        )  # fmt: skip
        # nobody's values are replaced, so it does not matter whose they are
        rebuilder = Rebuilder(_Everything(), Patient("", 0), Pseudonymizer(bytes(32), (-2, -1)), b"")
        pieces = rebuilder.rebuild(container, scan, pixels=pixels.stream).pieces
        sop_class, instance = (header.get(tag, b"").strip(b" \0") for tag in (0x00080016, 0x00080018))
        report = Report("", name=name, transfer_syntax=container.transfer_syntax)
        report.pixels = f"masked, {pixels.touched} of {pixels.frames} frames"
        return Prepared.of(container, file_meta(sop_class, instance, container.transfer_syntax), pieces, report, None)

    def _scanner(self, *, explicit: bool) -> Scanner:
        return self._scanners[explicit]


def _judge(tag: int, _vr: bytes) -> Verdict:
    """Note what masked pixels concern; let group lengths go, which may not hold any more."""
    group, number = tag >> 16, tag & 0xFFFF
    if group < 8 or number == 0:
        return Verdict.DROP
    noted = group & 1 or tag >> 24 == 0x60 or tag in FACTS or tag in ABOUT_PIXELS
    return Verdict.NOTE if noted else Verdict.KEEP


class _Everything(ActionTable):
    """Decides to keep all but what tells of masked pixels, or repeats them."""

    def __init__(self) -> None:
        self.masked = True

    def decide(self, tag: int, vr: bytes, parent: int = 0) -> Decision:  # noqa: ARG002
        return of_pixels(tag, Marks((), masked=True)) or Decision(Action.KEEP, Action.KEEP, "")

    def private(self, group: int, creator: str, number: int) -> tuple[Action, bytes]:  # noqa: ARG002
        return Action.KEEP, b""

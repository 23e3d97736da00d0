"""Where an ultrasound image is, and hence where its annotation is: the US Region Calibration Module (PS3.3 C.8.5.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..encoding.elements import Element, Item
from ..encoding.source import Source
from ..pixels.region import Outside, Region, compiled
from .finder import Found, Image

__all__ = ["TAGS", "UltrasoundRegions"]

_REGIONS: Final = 0x00186011
_CORNERS: Final = (0x0018601A, 0x00186018, 0x0018601E, 0x0018601C)
"""Region Location Min Y0, Min X0, Max Y1, Max X1; all 32 bits unsigned, the last ones inclusive."""
TAGS: Final = frozenset({_REGIONS, *_CORNERS})
"""Attributes that must be noted when an object is opened."""
_MOST: Final = 64
"""Regions of one image; devices declare up to a dozen."""


class UltrasoundRegions:
    """Finds what lies outside all declared regions: banners, scales and menus.

    Every declared region is spared, whatever its Region Data Type: spectra, traces of the ECG and colour bars are data
    too, and devices leave the type of real images at 0. What is drawn inside a region (callipers, names typed over the
    image) is not found here. If one region does not fit the frame, none is believed: images are cropped and scaled, and
    their regions left behind.
    """

    name = "ultrasound regions"
    version = "1"
    claim = (
        "Blacks out all that lies outside the regions that the device declares; "
        "it says nothing of text inside them, so they must be searched."
    )

    def find(self, image: Image) -> Found:
        """Return everything outside the union of the declared regions; never covers an image."""
        sequence = image.element(_REGIONS)
        items = (sequence[1].items or ()) if sequence else ()
        if sequence is None or not items:
            return Found(note="no region is declared")
        if len(items) > _MOST:
            return Found(note=f"not used: more than {_MOST} regions are declared")
        layout = image.frames.layout
        regions = [_region(sequence[0], sequence[1], item, layout.rows, layout.columns) for item in items]
        spared = tuple(region for region in regions if region)
        if len(spared) < len(items):
            broken = len(items) - len(spared)
            return Found(note=f"not used: {broken} of {len(items)} declared regions do not fit the frame")
        outside = Outside(spared)
        if not compiled([outside], layout.rows, layout.columns, 1)[0].boxes:
            return Found(note="the declared regions fill the frame")
        return Found((outside,), note=f"outside {len(items)} declared regions")


def _region(source: Source, sequence: Element, item: Item, rows: int, columns: int) -> Region | None:
    """Return the region of an item, ``None`` if it is incomplete, reversed or beyond the frame."""
    corners = dict(_corners(source, sequence.start, item))
    if len(corners) < len(_CORNERS):
        return None
    top, left, bottom, right = (corners[tag] for tag in _CORNERS)
    # devices write the size of the frame for its last row and column
    if top <= bottom <= rows and left <= right <= columns and top < rows and left < columns:
        return Region(top, left, min(bottom + 1, rows), min(right + 1, columns))
    return None


def _corners(source: Source, start: int, item: Item) -> Iterator[tuple[int, int]]:
    for one in item.elements:
        # inside a sequence, offsets count from its start
        if isinstance(one, Element) and one.tag in _CORNERS and one.end - one.value == 4:
            yield one.tag, int.from_bytes(source.slice(start + one.value, start + one.end), "little")

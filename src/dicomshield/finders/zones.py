"""Learn where a device draws text, from images of it: where text is found again and again.

What comes out tells of devices, never of patients: places of text, not text, and no pixel of any image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Final, NamedTuple

from ..encoding.scan import Scanner, Verdict
from ..encoding.source import Source
from ..errors import Quarantined, Reason
from ..pixels.region import Bitmap, Box, compiled
from ..profile import FACTS, vr_of
from .finder import Found, Image, RegionFinder, spread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image as Picture

__all__ = ["Device", "Survey", "Zones", "blocks", "drawn", "learned"]

_MODALITY, _MAKER, _MODEL, _SERIES, _SOP_CLASS = 0x00080060, 0x00080070, 0x00081090, 0x0020000E, 0x00080016
_WANTED: Final = FACTS | {_MAKER, _MODEL}
_FEWEST: Final = 3
"""Images in which text must be found at a place before the device counts as what drew it."""
_OFTEN, _SOMETIMES = 0.5, 0.1
"""Parts of the images in which text is found: where it recurs, and next to such a place."""
_CELLS: Final = 128
_SMALLEST: Final = 8
"""Places are squares: up to so many along the longer side of a frame, and of so many pixels at least."""
_LONGEST_NAME: Final = 64
_PANEL, _CAPTION, _INK = 640, 20, (255, 255, 255)
_MOST_SHOWN: Final = 60


class Device(NamedTuple):
    """What images of one kind have in common; texts as they are encoded, without padding."""

    modality: str
    manufacturer: str
    model: str
    rows: int
    columns: int

    @property
    def name(self) -> str:
        """A line of plain letters, for people."""
        made = " ".join(part for part in (self.manufacturer, self.model) if part) or "unknown device"
        size = f", {self.modality[:16]} {self.columns} x {self.rows}"
        line = made[: _LONGEST_NAME - len(size)] + size
        return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in line)

    @property
    def cell(self) -> int:
        """Side of a place, in pixels."""
        return max(_SMALLEST, -(-max(self.rows, self.columns) // _CELLS))


class Survey:
    """The images among some files, by device.

    Parameters
    ----------
    paths : iterable of str

    Attributes
    ----------
    images : dict
        Device -> paths of its images, one of each series before the second of any.
    left_out : Counter
        Reason -> how many files could not be read as images.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.left_out: Counter[Reason] = Counter()
        found: dict[Device, dict[bytes, list[str]]] = {}
        for path in paths:
            try:
                with Source.open(path) as source:
                    image = _opened(source)
            except Quarantined as cause:
                self.left_out[cause.reason] += 1
                continue
            found.setdefault(_device(image), {}).setdefault(image.header.get(_SERIES, b""), []).append(path)
        self.images = {device: _in_turn(series.values()) for device, series in sorted(found.items())}


class Zones(NamedTuple):
    """Where a device draws text.

    Attributes
    ----------
    device : Device
    images, searched : int
        How many there are of it, and how many were searched.
    recurrence : ndarray of float, shape (rows, columns) of places
        In what part of the searched images text was found there.
    boxes : tuple of Box
        Where text recurs, in pixels; empty if it does not, or too few images were searched.
    """

    device: Device
    images: int
    searched: int
    recurrence: NDArray[np.float64]
    boxes: tuple[Box, ...]


def learned(device: Device, paths: Sequence[str], finder: RegionFinder, most: int = 40) -> Zones:
    """Find out where text recurs in images of a device.

    Parameters
    ----------
    device : Device
    paths : sequence of str
        Of its images, as `Survey` orders them.
    finder : RegionFinder
        Finds the text.
    most : int
        Images that are searched; one that cannot be decoded is left out.
    """
    import numpy as np

    counts = np.zeros((-(-device.rows // device.cell), -(-device.columns // device.cell)))
    searched = 0
    for path in (paths[number] for number in spread(len(paths), most)):
        try:
            with Source.open(path) as source:
                found = finder.find(_opened(source))
        except Quarantined:
            continue
        searched += 1
        counts += _places(device, found)
    return Zones(device, len(paths), searched, counts / max(searched, 1), _boxes(device, counts, searched))


def blocks(zones: Iterable[Zones]) -> str:
    """Return ``[[mask]]`` blocks of a policy, in TOML, and in comments what they rest on."""
    return "\n".join(chain([_HEADER], (_block(one) for one in zones)))


_HEADER: Final = """\
# Where text recurs in images of each device, proposed by `dicomshield zones`: look at each block before it is used.
# The first block that matches holds. What is drawn elsewhere, or only now and then, is not masked by it.
"""


def drawn(zones: Sequence[Zones]) -> Picture.Image:
    """Draw a map of each device, one below the other: the more often text was found, the brighter, and the boxes.

    It shows places, as a policy names them, and no pixel of any image.
    """
    from PIL import Image, ImageDraw

    panels = [_panel(one) for one in zones[:_MOST_SHOWN]]
    height = sum(panel.height + _CAPTION for panel in panels)
    whole = Image.new("RGB", (max((panel.width for panel in panels), default=_PANEL), max(height, _CAPTION)))
    draw, at = ImageDraw.Draw(whole), 0
    for one, panel in zip(zones, panels, strict=False):
        caption = f"{one.device.name}: {one.searched} of {one.images} searched, {len(one.boxes)} boxes"
        draw.text((2, at + 4), caption, fill=_INK)
        whole.paste(panel, (0, at + _CAPTION))
        at += _CAPTION + panel.height
    return whole


def _panel(zones: Zones) -> Picture.Image:
    import numpy as np
    from PIL import Image

    from ..pixels.picture import outlined

    scale = max(1, _PANEL // max(zones.recurrence.shape))
    heat = np.rint(zones.recurrence * 255).astype(np.uint8)
    shown = np.stack([heat, heat, 40 + heat // 4], axis=-1).repeat(scale, axis=0).repeat(scale, axis=1)
    cell = zones.device.cell
    boxes = tuple(Box(*(-(-side // cell) * scale for side in box)) for box in zones.boxes)
    return Image.fromarray(outlined(shown, boxes))


@cache
def _scanner(*, explicit: bool) -> Scanner:
    def judge(tag: int, _: bytes) -> Verdict:
        return Verdict.NOTE if tag in _WANTED else Verdict.DROP

    return Scanner(judge, vr_of, explicit=explicit)


def _opened(source: Source) -> Image:
    """Open an image.

    Raises
    ------
    Quarantined
        If it is none, or broken.
    """
    from ..opened import opened, pixel_element

    found = opened(source, _scanner, _WANTED)
    element = pixel_element(found.scan)
    if element is None:
        raise Quarantined(Reason.INCOMPLETE, "there are no pixels")
    return Image.of(found, element)


def _device(image: Image) -> Device:
    header, layout = image.header, image.frames.layout
    return Device(
        _text(header, _MODALITY), _text(header, _MAKER), _text(header, _MODEL), layout.rows, layout.columns
    )  # fmt: skip


def _text(header: Mapping[int, bytes], tag: int) -> str:
    return header.get(tag, b"").decode("latin-1").strip(" \0")


def _in_turn(series: Iterable[list[str]]) -> list[str]:
    """Return one path of each series, then the second of each, and so on."""
    return [path for turn in zip_longest(*series) for path in turn if path is not None]


def _places(device: Device, found: Found) -> NDArray[np.bool_]:
    """Return the places that text touches in any frame."""
    import numpy as np

    cell = device.cell
    touched = np.zeros((-(-device.rows // cell), -(-device.columns // cell)), bool)
    for plan in compiled(found.shapes, device.rows, device.columns, 1):
        for top, bottom, left, right in plan.boxes:
            touched[top // cell : -(-bottom // cell), left // cell : -(-right // cell)] = True
    return touched


def _boxes(device: Device, counts: NDArray[np.float64], searched: int) -> tuple[Box, ...]:
    """Return where text recurs, and next to it where it sometimes is: names are longer and shorter."""
    recurring = counts >= max(_FEWEST, _OFTEN * searched)
    near = counts >= max(2, _SOMETIMES * searched)
    size = 0
    while size < recurring.sum():
        size = int(recurring.sum())
        recurring |= near & _widened(recurring)
    # one place between two is the gap between lines or words
    closed = recurring | ~_widened(~_widened(recurring))
    (high, wide), cell = closed.shape, device.cell
    return tuple(
        Box(top * cell, min(bottom * cell, device.rows), left * cell, min(right * cell, device.columns))
        for plan in compiled([Bitmap(closed)], high, wide, 1)
        for top, bottom, left, right in plan.boxes
    )


def _widened(places: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return places and their neighbours, also at corners; none lies beyond the border."""
    import numpy as np

    padded = np.pad(places, 1)
    high, wide = places.shape
    wider = np.zeros_like(places)
    for down in range(3):
        for across in range(3):
            wider |= padded[down : down + high, across : across + wide]
    return wider


def _block(zones: Zones) -> str:
    device = zones.device
    looked = f"# {zones.searched} of {zones.images} images were searched"
    if not zones.boxes:
        few = zones.searched < _FEWEST
        return f"{looked}; {'too few to tell' if few else 'no text recurs'}: {device.name}\n"
    when = ", ".join(_conditions(device))
    regions = ", ".join(f"[{left}, {top}, {right - left}, {bottom - top}]" for top, bottom, left, right in zones.boxes)
    strongest = round(100 * float(zones.recurrence.max()))
    area = sum((bottom - top) * (right - left) for top, bottom, left, right in zones.boxes)
    share = round(100 * area / (device.rows * device.columns))
    return (
        f"{looked}; text is at one place in up to {strongest} % of them; {share} % of a frame would go\n"
        f"[[mask]]\nname = {_quoted(device.name)}\nwhen = {{ {when} }}\nregions = [{regions}]\n"
    )  # fmt: skip


def _conditions(device: Device) -> Iterator[str]:
    yield f"Modality = {_quoted(device.modality)}"
    yield f"Manufacturer = {_quoted(device.manufacturer)}"
    yield f"ManufacturerModelName = {_quoted(device.model)}"
    yield f"Rows = {device.rows}"
    yield f"Columns = {device.columns}"


def _quoted(text: str) -> str:
    """Return a text in TOML; what a mask cannot ask for becomes any letters."""
    plain = "".join(letter if letter.isascii() and letter.isprintable() else "*" for letter in text)
    return json.dumps(plain)

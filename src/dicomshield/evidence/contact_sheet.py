"""The contact sheet of a run: pictures of what was released, for the person who signs the release.

It is made from released objects and the report of their run, never from originals, so that it shows what a recipient
will see. Pages are HTML files that load nothing: pictures lie in them, and a Content Security Policy forbids the rest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html import escape
from importlib.resources import files
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote

from ..encoding.scan import Scanner, Verdict
from ..encoding.source import Source
from ..encoding.text import decodings
from ..errors import PolicyError, Quarantined, Reason
from ..opened import Header, opened, pixel_element
from ..profile import FACTS, vr_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..pixels.layout import Layout

__all__ = ["ORDERS", "ContactSheet"]

_PAGE: Final = 500
"""Objects of a page: about 10 MB, which any browser shows."""
_SMALL: Final = ' class="small"'
_LONGEST: Final = 64
"""Characters of a device's name that are shown."""
_MODALITY, _MAKER, _MODEL = 0x00080060, 0x00080070, 0x00081090
_FACTS: Final = FACTS | {_MAKER, _MODEL}


class _Row(NamedTuple):
    """An object, by what it is ordered and filtered by; its pictures are drawn when its page is written.

    Attributes
    ----------
    number : int
        Place in the run.
    at : int
        Where its line begins in the report, in bytes.
    outcome, device, modality : str
    finders : tuple of str
    area : float or None
        Share of the pixels that is masked, 0 to 1; ``None`` if the report does not tell.
    """

    number: int
    at: int
    outcome: str
    device: str
    modality: str
    finders: tuple[str, ...]
    area: float | None


def _area(row: _Row) -> float:
    # nobody knows what is unknown, so it is looked at first
    return 2.0 if row.area is None else row.area


ORDERS: Final[Mapping[str, Callable[[_Row], Any]]] = {
    "device": lambda row: (row.device, row.modality, -_area(row), row.number),
    "finder": lambda row: (row.finders, row.device, -_area(row), row.number),
    "area": lambda row: (-_area(row), row.number),
    "run": lambda row: row.number,
}
"""How objects follow each other over all pages."""


class ContactSheet:
    """Writes the sheet of one run.

    Parameters
    ----------
    released : Path
        Folder of the outputs.
    report : Path
        The run's report, a line of JSON for each object.
    side : int
        Longer side of a picture, in pixels.
    order : str
        One of `ORDERS`.

    Attributes
    ----------
    counts : Counter
        Objects by outcome, and those of them that could not be shown under ``"not shown"``.

    Raises
    ------
    PolicyError
        If the report cannot be read, or is none.
    """

    def __init__(self, released: Path, report: Path, *, side: int = 256, order: str = "device") -> None:
        self._released, self._report, self._side = released, report, side
        self.counts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._rows = sorted(self._read(), key=ORDERS[order])

    def write(self, out: Path) -> list[Path]:
        """Write ``out`` and, for more than 500 objects, further pages beside it.

        Returns
        -------
        list of Path
            The pages.

        Raises
        ------
        PolicyError
            If one of them is there already, or cannot be written.
        """
        number = max(1, -(-len(self._rows) // _PAGE))
        pages = [out, *(out.with_name(f"{out.stem}-{at}{out.suffix}") for at in range(2, number + 1))]
        if any(os.path.lexists(page) for page in pages):
            raise PolicyError("a page of the contact sheet is there already: name a new file")
        try:
            for at in reversed(range(number)):
                self._write_page(pages, at)
        except OSError as error:
            raise PolicyError(f"the contact sheet cannot be written: {error.strerror}") from None
        return pages

    def _read(self) -> Iterator[_Row]:
        """Read the report, and of each released object what it is ordered by."""
        for at, line in self._lines():
            outcome = str(line.get("outcome", ""))
            self.counts[outcome] += 1
            if outcome not in ("released", "unchanged"):
                self._reasons[str(line.get("reason", ""))] += 1
                continue
            mask = _mask(line)
            try:
                with Source.open(self._path(line)) as source:
                    header = _header(source)
            except Quarantined:
                header = {}
            yield _Row(
                int(line.get("object", 0)), at, outcome, sys.intern(_device(header)),
                sys.intern(_text(header, _MODALITY) or "none"), _finders(line, mask), mask.get("area"),
            )  # fmt: skip

    def _lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Return the lines of the report, and where each begins."""
        at = 0
        try:
            with open(self._report, "rb") as file:
                for raw in file:
                    line = json.loads(raw)
                    if not isinstance(line, dict):
                        raise ValueError
                    yield at, line
                    at += len(raw)
        except OSError as error:
            raise PolicyError(f"the report cannot be read: {error.strerror}") from None
        except ValueError:
            raise PolicyError("the report is no report of a run: a line of JSON for each object") from None

    def _path(self, line: Mapping[str, Any]) -> Path:
        """Return where an output lies; a report may not point out of the folder."""
        name = PurePosixPath(str(line.get("output", "")))
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise Quarantined(Reason.NOT_A_FILE)
        return self._released / name

    def _write_page(self, pages: list[Path], at: int) -> None:
        """Write a page under another name, and give it its own when it is complete."""
        page = pages[at]
        scratch = page.with_name(f".{page.name}.part")
        rows = self._rows[at * _PAGE : (at + 1) * _PAGE]
        try:
            with open(scratch, "x", encoding="utf-8") as file, open(self._report, "rb") as report:
                self._fill(file, report, rows, [one.name for one in pages], at)
            os.rename(scratch, page)
        finally:
            scratch.unlink(missing_ok=True)

    def _fill(self, file: IO[str], report: IO[bytes], rows: list[_Row], pages: list[str], at: int) -> None:
        file.write(_head(f"Contact sheet, page {at + 1} of {len(pages)}"))
        file.write(_links(pages, at))
        if at == 0:
            file.write(self._summary())
        file.write(_controls(rows))
        for row in rows:
            report.seek(row.at)
            file.write(self._tile(row, json.loads(report.readline())))
        file.write(
            f"</main>\n{_links(pages, at)}{_SIGN if at == 0 else ''}<script>{_SCRIPT}</script>\n</body></html>\n"
        )

    def _summary(self) -> str:
        """Count what the run did, and what it was done to."""
        finders = Counter(finder for row in self._rows for finder in row.finders)
        tables = "".join(
            (
                _table("Outcome", self.counts), _table("Held back, not shown here", self._reasons),
                _table("Device", Counter(row.device for row in self._rows)),
                _table("Modality", Counter(row.modality for row in self._rows)), _table("Masked by", finders),
            )
        )  # fmt: skip
        return f'<section class="counts">{tables}</section>\n'

    def _tile(self, row: _Row, line: Mapping[str, Any]) -> str:
        mask = _mask(line)
        try:
            with Source.open(self._path(line)) as source:
                frames = _frames(source, self._side, mask)
        except Quarantined as cause:
            self.counts["not shown"] += 1
            frames = f'<p class="none">no picture: {escape(cause.reason.name)}</p>'
        facts = {
            "object": f"{row.number}, {row.outcome}", "device": row.device, "modality": row.modality,
            "masked by": ", ".join(row.finders), "masked": _percent(row.area), "pixels": line.get("pixels", ""),
            "output": line.get("output", ""),
        }  # fmt: skip
        data = {
            "number": row.number, "outcome": row.outcome, "device": row.device, "modality": row.modality,
            "finder": "\n".join(row.finders), "area": "" if row.area is None else f"{row.area:.6f}",
        }  # fmt: skip
        attributes = "".join(f' data-{name}="{_escaped(value)}"' for name, value in data.items())
        terms = "".join(
            f"<dt>{name}<dd{_SMALL if name == 'output' else ''}>{_escaped(value)}" for name, value in facts.items()
        )
        return f'<article{attributes}><div class="frames">{frames}</div><dl>{terms}</dl></article>\n'


def _mask(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report tells of the mask; reports of older runs tell nothing."""
    mask = line.get("mask")
    if not isinstance(mask, dict):
        return {}
    area, boxes = mask.get("area"), mask.get("boxes")
    whole = isinstance(boxes, list) and all(_is_box(box) for box in boxes)
    return mask | {"area": float(area) if isinstance(area, int | float) else None, "boxes": boxes if whole else None}


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(at) is int for at in box)


def _finders(line: Mapping[str, Any], mask: Mapping[str, Any]) -> tuple[str, ...]:
    found = mask.get("finders")
    if isinstance(found, list) and found:
        return tuple(sys.intern(str(one)) for one in found)
    return (sys.intern("a mask" if str(line.get("pixels", "")).startswith("masked") else "nothing masked"),)


def _header(source: Source) -> Header:
    return opened(source, _scanner, _FACTS).header


def _scanner(*, explicit: bool) -> Scanner:
    return _SCANNERS[explicit]


def _judge(tag: int, _vr: bytes) -> Verdict:
    return Verdict.NOTE if tag in _FACTS else Verdict.KEEP


_SCANNERS: Final = tuple(Scanner(_judge, vr_of, explicit=explicit) for explicit in (False, True))


def _text(header: Header, tag: int) -> str:
    """Return a value as it can be shown: no control characters, nothing that turns the direction of text."""
    texts = decodings(header.get(tag, b"").strip(b" \0"), header.get(0x00080005, b""))
    shown = "".join(letter if letter.isprintable() else "?" for letter in texts[0]) if texts else "?"
    return shown[:_LONGEST]


def _device(header: Header) -> str:
    """Name the device as far as the released object still does."""
    return " ".join(filter(None, (_text(header, tag) for tag in (_MAKER, _MODEL)))) or "unknown device"


def _frames(source: Source, side: int, mask: Mapping[str, Any]) -> str:
    """Draw the first, middle and last frame."""
    from ..pixels.decode import Frames
    from ..pixels.layout import Layout

    container, scan, header = opened(source, _scanner, _FACTS)
    element = pixel_element(scan)
    if element is None:
        return '<p class="none">no pixels</p>'
    layout = Layout.of(header)
    frames = Frames(container.source, element, layout, container.transfer_syntax)
    last = len(frames) - 1
    shown = sorted({0, last // 2, last})
    outlines = _outlines(layout, mask)
    return "".join(_figure(frames[at], layout, header, side, outlines, (at, len(frames))) for at in shown)


def _figure(
    frame: NDArray[Any], layout: Layout, header: Header, side: int, outlines: str, place: tuple[int, int]
) -> str:  # fmt: skip
    """Draw one frame as an element of the page; ``place`` is its number and how many there are."""
    from PIL import Image

    from ..pixels.decode import colours
    from ..pixels.picture import picture

    palette = colours(layout, header)
    small = _reduced(frame, side, exact=palette is not None)
    image = Image.fromarray(picture(small, layout, _span(small, layout), palette))
    image.thumbnail((side, side))
    file = BytesIO()
    image.convert("L" if layout.photometric.startswith("MONOCHROME") else "RGB").save(file, "JPEG", quality=80)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    number, frames = place
    caption = f"<figcaption>{number + 1}/{frames}</figcaption>" if frames > 1 else ""
    return (
        f'<figure><img alt="frame {number + 1}" width="{image.width}" height="{image.height}" '
        f'src="data:image/jpeg;base64,{data}">{outlines}{caption}</figure>'
    )


def _reduced(frame: NDArray[Any], side: int, *, exact: bool) -> NDArray[Any]:
    """Make a large frame small by whole steps, so that a mammogram need not be drawn at full size.

    Parameters
    ----------
    frame : ndarray, shape (rows, columns[, samples])
    side : int
        Pixels of the longer side that must be left at least.
    exact : bool
        Leave values as they are, because means of palette entries are other colours.
    """
    step = max(frame.shape[:2]) // side
    if step < 2 or min(frame.shape[:2]) < step:
        return frame
    if exact:
        return frame[::step, ::step]
    rows, columns = (length // step for length in frame.shape[:2])
    blocks = frame[: rows * step, : columns * step].reshape(rows, step, columns, step, *frame.shape[2:])
    means: NDArray[Any] = blocks.mean(axis=(1, 3), dtype="f4").astype(frame.dtype)
    return means


def _span(frame: NDArray[Any], layout: Layout) -> tuple[float, float]:
    """Return the grey values to show as darkest and brightest: nearly all that are no mask."""
    import numpy as np

    if frame.ndim == 3:
        return 0, 0
    values = frame[frame != layout.black[0]]
    low, high = np.nanpercentile(values, (0.5, 99.5)) if values.size else (0, 0)
    return (low, high) if low < high else (frame.min(), frame.max())


def _outlines(layout: Layout, mask: Mapping[str, Any]) -> str:
    """Draw the borders of the mask over a picture, in pixels of the frame."""
    boxes = mask.get("boxes") or ()
    drawn = "".join('<rect x="{:d}" y="{:d}" width="{:d}" height="{:d}"/>'.format(*box) for box in boxes)
    return (
        f'<svg viewBox="0 0 {layout.columns} {layout.rows}" preserveAspectRatio="none">{drawn}</svg>' if drawn else ""
    )


def _percent(area: float | None) -> str:
    return "not told by the report" if area is None else f"{100 * area:.2f} %"


def _escaped(value: object) -> str:
    return escape(str(value), quote=True)


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


_STYLE, _SCRIPT = _resource("contact_sheet.css"), _resource("contact_sheet.js")
_STYLE_HASH, _SCRIPT_HASH = (
    f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'" for text in (_STYLE, _SCRIPT)
)
_POLICY: Final = (
    f"default-src 'none'; img-src data:; style-src {_STYLE_HASH}; script-src {_SCRIPT_HASH}; "
    "base-uri 'none'; form-action 'none'"
)
_SIGN: Final = """<section class="sign"><h2>Release</h2>
<p>I have looked at the pictures of every page. None shows a name, number, date or face of a patient, but for:</p>
<label>Exceptions <input autocomplete="off"></label>
<label>Name <input autocomplete="off"></label>
<label>Date <input autocomplete="off"></label>
<label>Signature <input autocomplete="off"></label>
<p>Nothing that is written here is stored: print the page.</p></section>
"""


def _head(title: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_escaped(_POLICY)}">\n'
        f'<meta name="referrer" content="no-referrer"><title>{_escaped(title)}</title>\n'
        f"<style>{_STYLE}</style></head><body>\n<h1>{_escaped(title)}</h1>\n"
        "<p>Pictures of released objects, made small: text may be there that is too small to be read here.</p>\n"
    )


def _links(pages: list[str], at: int) -> str:
    if len(pages) == 1:
        return ""
    links = (
        f"<b>{number}</b>" if number == at + 1 else f'<a href="{_escaped(quote(page))}">{number}</a>'
        for number, page in enumerate(pages, start=1)
    )
    return f"<nav>Page {' '.join(links)}</nav>\n"


def _table(caption: str, counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = "".join(
        f'<tr><td>{_escaped(name)}<td class="number">{number}'
        for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )
    return f"<div><table><caption>{caption}</caption>{rows}</table></div>\n"


def _controls(rows: list[_Row]) -> str:
    """Return what orders and hides; it shows up only where scripts run."""
    choices = {
        "device": {row.device for row in rows}, "modality": {row.modality for row in rows},
        "finder": {finder for row in rows for finder in row.finders}, "outcome": {row.outcome for row in rows},
    }  # fmt: skip
    filters = "".join(
        f'<label>{name} <select data-filter="{name}"><option value="">all'
        + "".join(f'<option value="={_escaped(value)}">{_escaped(value)}' for value in sorted(values))
        + "</select></label>"
        for name, values in choices.items()
    )
    orders = {"number": "run", "device": "device", "modality": "modality", "finder": "finder", "area": "most masked",
              "least": "least masked"}  # fmt: skip
    listed = "".join(f'<option value="{value}">{name}' for value, name in {"": "as written", **orders}.items())
    return (
        f'<div class="controls" hidden>{filters}<label>order <select id="order">{listed}</select></label>'
        '<output id="shown"></output></div>\n'
        '<input type="checkbox" id="outlines" class="outlines" checked> '
        '<label for="outlines" class="outlines">outline what was masked</label>\n<main>\n'
    )

"""Pictures of an object's frames, with what its policy blacks out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from .encoding.source import Source
from .errors import PolicyError, Quarantined, Reason
from .opened import opened, pixel_element
from .pixels.decode import Frames, MaskedFrames, colours
from .pixels.layout import Layout
from .pixels.picture import outlined, picture, sheet
from .profile import Profile

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Preview", "preview"]

_SHOWN: Final = 9


class Preview(NamedTuple):
    """A picture of frames side by side.

    Attributes
    ----------
    image : Image
    frames : list of int
        Which, 0-based, from left to right and from the top down.
    what : str
        By which rules they are masked.
    """

    image: Image
    frames: list[int]
    what: str


def preview(source: Source, profile: Profile, *, frames: Sequence[int] | None = None, masked: bool = False) -> Preview:
    """Draw frames of an object.

    Parameters
    ----------
    source : Source
    profile : Profile
        Its masks and regions are drawn, and text is looked for if it asks for that.
    frames : sequence of int, optional
        0-based; up to nine across the image if not given.
    masked : bool
        Draw the frames as they would be released, instead of the borders of the masks.

    Raises
    ------
    Quarantined
        If the object or its pixels cannot be read.
    PolicyError
        If there is no such frame.
    """
    container, scan, header = found = opened(source, profile.scanner, profile.facts)
    element = pixel_element(scan)
    if element is None:
        raise Quarantined(Reason.INCOMPLETE, "there are no pixels to show")
    layout = Layout.of(header)
    stored = Frames(container.source, element, layout, container.transfer_syntax)
    wanted = list(frames) if frames is not None else _spread(len(stored))
    if not all(0 <= number < len(stored) for number in wanted):
        raise PolicyError(f"the object has {len(stored)} frames")
    what, shapes = profile.masks_of(header)
    if profile.searches_pixels:
        from .finders import finder, search

        searched = search.PixelSearch(profile)(finder.Image.of(found, element))
        what, shapes = ", ".join(searched.finders), searched.shapes
    released = MaskedFrames(stored, shapes)
    palette = colours(layout, header)
    pictures = []
    for number in wanted:
        before = stored[number]
        after = released[number] if masked else before
        shown = picture(after, layout, (before.min(), before.max()), palette)
        pictures.append(shown if masked else outlined(shown, released.boxes(number)))
    return Preview(sheet(pictures), wanted, f"masked by {what}" if what else "no mask")


def _spread(number: int) -> list[int]:
    """Return up to nine frames from the first to the last."""
    step = max(1.0, (number - 1) / (_SHOWN - 1))
    return sorted({min(number - 1, round(at * step)) for at in range(min(number, _SHOWN))})

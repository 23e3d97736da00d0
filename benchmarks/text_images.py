"""Images with burned-in text whose every pixel is known, to measure text detectors with; see README.md in this folder.

Text is drawn over real images (the corpora of DICOMSHIELD_SHARED, pydicom's own files and those of ``pydicom-data``)
and over made-up ones. Fonts and backgrounds belong to one part for good, development or held-out, by SHA-256 of
the font's family or of the device that made the background: what is found by tuning on one part is tested on fonts
and devices that it has never met. ``python benchmarks/text_images.py SHEET.png`` draws a sheet of development images.

Fonts are those that fontconfig and X11's folder have when it runs, and ``Hershey-Fonts`` of PyPI. Debian packages::

    fontconfig libfribidi0 fonts-3270 fonts-agave fonts-alee fonts-amiga fonts-anonymous-pro fonts-arphic-ukai
    fonts-arphic-uming fonts-atarismall fonts-b612 fonts-baekmuk fonts-breip fonts-bwht fonts-cantarell
    fonts-clear-sans fonts-cmu fonts-comic-neue fonts-courier-prime fonts-creep2 fonts-croscore
    fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu fonts-dejavu-extra fonts-dkg-handwriting fonts-dosis
    fonts-dotgothic16 fonts-dseg fonts-dustin fonts-ecolier-court fonts-fantasque-sans fonts-farsiweb
    fonts-femkeklaver fonts-firacode fonts-freefont-ttf fonts-gargi fonts-gfs-didot fonts-gfs-neohellenic
    fonts-glasstty fonts-gnutypewriter fonts-go fonts-hack fonts-hermit fonts-hosny-amiri fonts-hosny-thabit
    fonts-humor-sans fonts-inconsolata fonts-inter fonts-ipafont fonts-jetbrains-mono fonts-junction fonts-jura
    fonts-kacst fonts-karla fonts-klee fonts-lato fonts-league-mono fonts-liberation fonts-linuxlibertine
    fonts-lohit-deva fonts-manrope fonts-misaki fonts-monofur fonts-monoid fonts-mononoki fonts-mplus fonts-nakula
    fonts-nanum fonts-national-park fonts-naver-d2coding fonts-noto-cjk fonts-noto-core fonts-noto-mono fonts-ocr-a
    fonts-ocr-b fonts-open-sans fonts-opendin fonts-osifont fonts-paratype fonts-pc fonts-pc-extra fonts-play
    fonts-proggy fonts-quicksand fonts-roboto fonts-roboto-slab fonts-routed-gothic fonts-sahadeva fonts-samyak-deva
    fonts-sarai fonts-sixtyfour fonts-spleen fonts-takao fonts-terminus fonts-tiresias fonts-tlwg-garuda-ttf
    fonts-tlwg-loma-ttf fonts-tlwg-sawasdee-ttf fonts-tlwg-typewriter-ttf fonts-tlwg-waree-ttf fonts-tuffy
    fonts-unfonts-core fonts-urw-base35 fonts-vlgothic fonts-wqy-microhei fonts-wqy-zenhei culmus unifont
    xfonts-75dpi xfonts-base xfonts-terminus xfonts-x3270-misc
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from text_fonts import Face, Floats, Part, Pixels, fonts, inked
from text_grounds import Background, Noise, backgrounds, loops, made
from text_layouts import LAYOUTS, Person, any_hand, scatter, somebody
from text_scene import LIGHT, Item, Scene, furnish

__all__ = [
    "Cine", "Item", "Labelled", "Moving", "backgrounds", "cines", "contrasts", "fonts", "image", "images", "loops",
    "shown", "viewed", "with_ring",
]  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """An image, and which of its pixels are text.

    Attributes
    ----------
    pixels : ndarray, shape (rows, columns) or (rows, columns, 3)
        Stored values.
    photometric : str
        MONOCHROME1, MONOCHROME2, RGB, YBR_FULL or PALETTE COLOR.
    bits : int
        Bits Stored; signed if the type of the pixels is.
    items : tuple of Item
    glyphs : ndarray of uint16, shape (rows, columns)
        0, or the number of the item, from 1, whose ink covers at least a third of the pixel.
    background, modality, layout : str
    palette : ndarray of uint8, shape (entries, 3), optional
        Colours of PALETTE COLOR; the first belongs to stored value 0.
    """

    pixels: Pixels
    photometric: str
    bits: int
    items: tuple[Item, ...]
    glyphs: NDArray[np.uint16]
    background: str
    modality: str
    layout: str
    palette: NDArray[np.uint8] | None = None


# --- whole images --------------------------------------------------------------------------------------------------


def images(part: Part, number: int, seed: int, *, text_free: float = 0.2) -> Iterator[Labelled]:
    """Yield labelled images, the same ones for the same arguments on the same machine.

    Parameters
    ----------
    part : str
        development or held-out.
    number : int
    seed : int
    text_free : float
        Share of images without any text, but with what looks like it.
    """
    for at in range(number):
        yield image(part, seed, at, text_free=text_free)


def image(part: Part, seed: int, at: int, *, text_free: float = 0.2) -> Labelled:
    """Return image number `at` of those that `images` yields."""
    chance = random.Random(f"{part}|{seed}|{at}")  # noqa: S311
    free = (at * 0.6180339887 + seed * 0.37) % 1 < text_free
    while True:
        drawn = _drawn(chance, part, free)
        if free or drawn.items:
            return drawn


def _drawn(chance: random.Random, part: Part, free: bool) -> Labelled:
    noise = np.random.default_rng(chance.getrandbits(63))
    background = _prepared(chance, noise, part)
    scene, bits, signed = _scene(chance, background, fonts(part))
    layout = "none"
    if chance.random() < (0.75 if free else 0.4):
        furnish(scene, chance.randint(1, 4 if free else 2))
    if not free:
        layout = chance.choices(list(LAYOUTS), [weight for _, weight in LAYOUTS.values()])[0]
        LAYOUTS[layout][0](scene)
        if scene.items and chance.random() < 0.12:
            scatter(scene)
    return _finished(chance, scene, background, bits, signed, layout)


def _prepared(chance: random.Random, noise: Noise, part: Part) -> Background:
    """Return a background of a likely size."""
    (low, high), _ = chance.choices(
        (((256, 400), 0), ((400, 640), 0), ((640, 1024), 0), ((1024, 1500), 0), ((2000, 2600), 0)), (18, 42, 32, 6, 2)
    )[0]
    size = chance.randint(low, high)
    real = backgrounds(part)
    if not real or chance.random() < 0.35:
        return made(chance, noise, part, min(size, 1500) if chance.random() < 0.9 else size)
    groups = sorted({one.key for one in real})
    group = chance.choice(groups)
    background = chance.choice([one for one in real if one.key == group])
    pixels = background.pixels
    pixels = _sized(chance, pixels, size)
    if chance.random() < 0.5:
        pixels = pixels[:, ::-1]
    if chance.random() < 0.1:
        pixels = np.rot90(pixels)
    if chance.random() < (0.5 if background.modality == "US" else 0.12):
        pixels = _on_canvas(chance, pixels)
    return replace(background, pixels=np.ascontiguousarray(pixels))


def _sized(chance: random.Random, pixels: Pixels, size: int) -> Pixels:
    """Cut or scale an image to about `size`; little ones get no larger than is seen on real screens."""
    rows, columns = pixels.shape[:2]
    longest = max(rows, columns)
    if longest > size and chance.random() < 0.6:
        tall, wide = min(rows, size), min(columns, size)
        top, left = chance.randint(0, rows - tall), chance.randint(0, columns - wide)
        return pixels[top : top + tall, left : left + wide]
    times = size / longest
    if 0.8 < times < 1.25:
        return pixels
    how = cv2.INTER_AREA if times < 1 else chance.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    scaled = cv2.resize(
        pixels.astype(np.float32), (max(8, round(columns * times)), max(8, round(rows * times))), interpolation=how
    )
    return np.clip(np.round(scaled), pixels.min(), pixels.max()).astype(pixels.dtype)


def _on_canvas(chance: random.Random, pixels: Pixels) -> Pixels:
    rows, columns = pixels.shape[:2]
    margins = [(chance.randint(0, size // 4), chance.randint(0, size // 4)) for size in (rows, columns)]
    return np.pad(pixels, margins + [(0, 0)] * (pixels.ndim - 2), constant_values=pixels.min())


def _scene(chance: random.Random, background: Background, faces: tuple[Face, ...]) -> tuple[Scene, int, bool]:
    """Return the scene of a background, its bits, and whether its numbers are signed."""
    pixels = background.pixels
    if background.modality == "US" and pixels.ndim == 2 and chance.random() < 0.4:
        pixels = (
            np.repeat((pixels >> max(0, background.bits - 8))[..., None], 3, 2) if pixels.dtype.kind == "u" else pixels
        )
    values = pixels.astype(np.float32)
    bits, signed = background.bits, pixels.dtype.kind == "i"
    if pixels.ndim == 2 and chance.random() < 0.4:
        values, bits, signed = _recoded(chance, values)
    elif pixels.ndim == 3 and values.max() > 255:
        values, bits = values * (255 / values.max()), 8
    most = float(values.max())
    high = (
        min(
            (1 << (bits - 1 if signed else bits)) - 1,
            (1 << max(8 if bits >= 8 else bits, math.ceil(math.log2(most + 2)))) - 1,
        )
        if most > 0
        else 255
    )
    return Scene(values, min(0.0, float(values.min())), float(high), chance, faces), bits, signed


def _recoded(chance: random.Random, values: Floats) -> tuple[Floats, int, bool]:
    """Give a grey image another number of bits, as secondary captures and other devices would."""
    bits = chance.choice((8, 8, 8, 10, 12, 12, 14, 16))
    low, high = (float(at) for at in np.percentile(values, (0.2, 99.8)))
    top = ((1 << bits) - 1) * (1 if bits == 8 else chance.choice((0.25, 0.5, 0.9)))
    values = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * top
    signed = bits > 8 and chance.random() < 0.3
    return (values - (1 << (bits - 1)) // 2 if signed else values).astype(np.float32), bits, signed


def _finished(
    chance: random.Random, scene: Scene, background: Background, bits: int, signed: bool, layout: str
) -> Labelled:
    """Store what was drawn as devices would, and measure each item in it."""
    values, glyphs, times = scene.values, scene.glyphs, 1.0
    if chance.random() < 0.12:
        times = chance.choice((chance.uniform(0.6, 0.95), chance.uniform(1.1, 2)))
        values, glyphs = _captured(chance, values, glyphs, times)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    kind = ("int" if signed else "uint") + ("8" if bits <= 8 and not signed else "16")
    pixels = np.clip(np.round(values), low, high).astype(kind)
    if pixels.dtype == np.uint8 and bits == 8 and chance.random() < 0.3:
        pixels = _squeezed(pixels, chance.randint(45, 95))
    photometric, palette, seen = background.photometric, None, pixels
    if pixels.ndim == 3:
        photometric, pixels, palette, seen = _coloured(chance, pixels)
    elif not signed and chance.random() < 0.15:
        photometric = "MONOCHROME2" if photometric == "MONOCHROME1" else "MONOCHROME1"
        pixels = (high - pixels.astype(np.int64)).astype(pixels.dtype)
    items, glyphs = _measured(seen, scene.items, glyphs, times)
    return Labelled(pixels, photometric, bits, items, glyphs, background.key, background.modality, layout, palette)


def _coloured(chance: random.Random, pixels: Pixels) -> tuple[str, Pixels, NDArray[np.uint8] | None, Pixels]:
    """Return a photometric interpretation, an RGB image stored so, its palette, and what a viewer makes of it."""
    photometric = chance.choices(("RGB", "YBR_FULL", "PALETTE COLOR"), (60, 25, 15))[0]
    if photometric == "YBR_FULL":
        stored = ybr(pixels)
        return photometric, stored, None, rgb(stored)
    if photometric == "PALETTE COLOR":
        stored, palette = _indexed(pixels)
        return photometric, stored, palette, palette[stored]
    return photometric, pixels, None, pixels


def _captured(
    chance: random.Random, values: Floats, glyphs: NDArray[np.uint16], times: float
) -> tuple[Floats, NDArray[np.uint16]]:
    """Scale an image with its text, as a screen capture is."""
    how = cv2.INTER_AREA if times < 1 else chance.choice((cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_NEAREST))
    size = (round(values.shape[1] * times), round(values.shape[0] * times))
    cover = cv2.resize((glyphs > 0).astype(np.float32), size, interpolation=how)
    owner = cv2.resize(cv2.dilate(glyphs, np.ones((3, 3), np.uint8)), size, interpolation=cv2.INTER_NEAREST)
    scaled = np.asarray(cv2.resize(values, size, interpolation=how), np.float32)
    return scaled, np.where(cover >= LIGHT, owner, 0).astype(np.uint16)


def _squeezed(pixels: Pixels, quality: int) -> Pixels:
    """Return what is left of 8-bit pixels after JPEG."""
    shown = pixels if pixels.ndim == 2 else pixels[..., ::-1]
    done, coded = cv2.imencode(".jpg", np.ascontiguousarray(shown), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError("OpenCV writes no JPEG")
    back = np.asarray(cv2.imdecode(coded, cv2.IMREAD_UNCHANGED))
    return np.ascontiguousarray(back if pixels.ndim == 2 else back[..., ::-1])


_TO_YBR: Final = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)


def ybr(pixels: Pixels) -> NDArray[np.uint8]:
    """Convert RGB to YBR_FULL (PS3.3 C.7.6.3.1.2)."""
    return np.clip(np.round(pixels.astype(np.float32) @ _TO_YBR.T + (0, 128, 128)), 0, 255).astype(np.uint8)


def rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Convert YBR_FULL to RGB."""
    back = np.linalg.inv(_TO_YBR.astype(np.float64))
    return np.clip(np.round((pixels.astype(np.float64) - (0, 128, 128)) @ back.T), 0, 255).astype(np.uint8)


def _indexed(pixels: Pixels) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return palette indices of an RGB image, and the palette."""
    reduced = Image.fromarray(np.ascontiguousarray(pixels)).quantize(256, dither=Image.Dither.NONE)
    colours = np.zeros((256, 3), np.uint8)
    flat = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)
    colours[: len(flat)] = flat
    return np.asarray(reduced, np.uint8), colours


def shown(labelled: Labelled) -> NDArray[np.uint8]:
    """Return an image as viewers show it, in 8 bits of grey or RGB; grey is stretched from darkest to brightest."""
    pixels = viewed(labelled)
    if pixels.ndim == 3:
        return np.asarray(pixels, np.uint8)
    low, high = np.percentile(pixels, (0.5, 99.8))
    grey = np.clip((pixels.astype(np.float32) - low) / max(1.0, float(high - low)) * 255, 0, 255).astype(np.uint8)
    return np.asarray(255 - grey if labelled.photometric == "MONOCHROME1" else grey, np.uint8)


Window = tuple[slice, slice]
"""Rows and columns."""
_Contrast = tuple[float, float]


def viewed(labelled: Labelled) -> Pixels:
    """Return what a viewer makes of the stored values: grey as it is stored, or RGB."""
    if labelled.palette is not None:
        return np.asarray(labelled.palette[labelled.pixels], np.uint8)
    return rgb(labelled.pixels) if labelled.photometric.startswith("YBR") else labelled.pixels


def _measured(
    seen: Pixels, items: Sequence[Item], glyphs: NDArray[np.uint16], times: float
) -> tuple[tuple[Item, ...], NDArray[np.uint16]]:
    """Return items that are left in the finished image, with what can be measured there, and their labels."""
    contrast_of = contrasts(seen, glyphs)
    kept, labels = [], np.zeros_like(glyphs)
    for number, item in enumerate(items, 1):
        window = with_ring([round(at * times) for at in item.bbox])
        own = glyphs[window] == number
        if own.sum() < 4:
            continue
        contrast, cnr = contrast_of(window, own, item.size * times)
        (first, last), (start, end) = ((int(at.min()), int(at.max()) + 1) for at in np.nonzero(own))
        y, x = window[0].start, window[1].start
        kept.append(replace(
            item, contrast=round(contrast, 4), cnr=round(cnr, 2), size=round(item.size * times),
            bbox=(y + first, x + start, y + last, x + end),
        ))  # fmt: skip
        labels[window][own] = len(kept)
    return tuple(kept), labels


def with_ring(box: Sequence[int]) -> Window:
    """Return a box of top, left, bottom and right, and what contrast is measured against around it."""
    top, left, bottom, right = box
    return np.s_[max(0, top - 9) : bottom + 9, max(0, left - 9) : right + 9]


def contrasts(seen: Pixels, glyphs: NDArray[np.uint16]) -> Callable[[Window, NDArray[np.bool_], float], _Contrast]:
    """Return what measures the contrast of ink, given where it is, which pixels there are ink, and the letters' size.

    Contrast is told in parts of the image's span, and in standard deviations of what is around.
    """
    values = seen.astype(np.float32) if seen.ndim == 3 else seen.astype(np.float32)[..., None]
    span = max(1.0, float(np.percentile(values[::2, ::2], 99.8) - np.percentile(values[::2, ::2], 0.2)))
    near = cv2.dilate((glyphs > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0

    def contrast_of(window: Window, own: NDArray[np.bool_], size: float) -> _Contrast:
        reach = min(9, max(3, round(size / 7)))
        ring = cv2.dilate(own.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
        return _contrast(values[window], own, ring & ~near[window], span)

    return contrast_of


def _contrast(values: Floats, own: NDArray[np.bool_], around: NDArray[np.bool_], span: float) -> _Contrast:
    if around.sum() < 10:
        around = ~own
    if not around.any():
        return 1.0, 9.0
    apart = np.abs(values[own].mean(0) - values[around].mean(0))
    spread = values[around].std(0) + 0.02 * span
    return float((apart / span).max()), float((apart / spread).max())


# --- loops ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Moving:
    """A line of text in some frames of a loop.

    Attributes
    ----------
    item : Item
        As in the middle one of its frames.
    motion : str
        static, changing (a timer) or transient (in few frames).
    first, end : int
        First frame that has it and the one after the last.
    """

    item: Item
    motion: Literal["static", "changing", "transient"]
    first: int
    end: int


@dataclass(frozen=True)
class Cine:
    """A loop with text; `frames` and `glyphs` have one axis more than those of `Labelled`."""

    frames: Pixels
    photometric: str
    bits: int
    items: tuple[Moving, ...]
    glyphs: NDArray[np.uint16]
    background: str
    modality: str


def cines(part: Part, number: int, seed: int) -> Iterator[Cine]:
    """Yield loops with static, changing and transient text, real ones and ones made from still images in turn."""
    for at in range(number):
        chance = random.Random(f"cine|{part}|{seed}|{at}")  # noqa: S311
        real = loops(part)
        if real and at % 2 == 0:
            loop = real[at // 2 % len(real)]
            frames = loop.pixels[: chance.randint(8, 40)]
        else:
            loop = _prepared(chance, np.random.default_rng(chance.getrandbits(63)), part)
            loop = replace(loop, pixels=loop.pixels[:700, :900])
            frames = _moved(chance, loop)
        yield _annotated(chance, part, loop, frames)


def _moved(chance: random.Random, still: Background) -> Pixels:
    """Let a still image breathe: it shifts, swells and flickers."""
    noise = np.random.default_rng(chance.getrandbits(63))
    rows, columns = still.pixels.shape[:2]
    values, reach, frames = still.pixels.astype(np.float32), chance.uniform(2, 12), []
    grain = 0.02 * float(np.percentile(values, 99.5) - np.percentile(values, 0.5))
    for at in range(chance.randint(8, 24)):
        turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), math.sin(at / 4), 1 + 0.02 * math.sin(at / 3))
        turn[:, 2] += np.array([reach * math.sin(at / 2.5), reach * math.cos(at / 3.1)])
        moved = cv2.warpAffine(values, turn, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
        frames.append(moved * (1 + 0.05 * math.sin(at)) + noise.normal(0, grain, moved.shape))
    return np.clip(np.round(np.stack(frames)), still.pixels.min(), still.pixels.max()).astype(still.pixels.dtype)


def _annotated(chance: random.Random, part: Part, loop: Background, frames: Pixels) -> Cine:
    stills = [_scene(random.Random(0), replace(loop, pixels=frame), fonts(part)) for frame in frames]  # noqa: S311
    scenes = [scene for scene, _, _ in stills]
    place = Scene(np.median(frames, 0).astype(np.float32), scenes[0].low, scenes[0].high, chance, fonts(part))
    person, moving = somebody(place, 0.8), []
    for motion in ("static",) * 3 + ("changing",) * 2 + ("transient",) * chance.randint(1, 2):
        few = max(1, len(frames) // 10)
        first = chance.randint(0, len(frames) - few) if motion == "transient" else 0
        end = first + few if motion == "transient" else len(frames)
        if put := _put(place, scenes[first:end], person, motion):
            moving.append((put, motion, first, end))
    _, bits, signed = stills[0]
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = np.stack([np.clip(np.round(scene.values), low, high) for scene in scenes]).astype(frames.dtype)
    glyphs = np.stack([scene.glyphs for scene in scenes])
    return Cine(pixels, loop.photometric, bits, _timed(pixels, glyphs, moving), glyphs, loop.key, loop.modality)


def _put(place: Scene, scenes: Sequence[Scene], person: Person, motion: str) -> Item | None:
    """Write a line at the same place into frames; return it as it is in the first of them."""
    c = place.chance
    hand = replace(
        any_hand(place, c.choice((9, 10, 12, 14, 16, 20, 28))),
        style=c.choice(("plain", "outline", "shadow")),
        spacing=0,
    )
    text, script = c.choice(person.lines()) if motion != "changing" else ("88:88:88.8", "latin")
    drawn = place.ink(text, script, hand)
    if drawn is None:
        return None
    ink, pen = drawn
    before = len(place.items)
    for _ in range(20):
        top, left = c.randint(0, max(0, place.rows - ink.shape[0])), c.randint(0, max(0, place.columns - ink.shape[1]))
        if place.write(text, script, True, hand, top, left, "tl", drawn) and len(place.items) > before:
            break
    else:
        return None
    hand = replace(
        hand, brighter=bool(np.median(place.values[top : top + 9, left : left + 9]) < (place.floor + place.ceiling) / 2)
    )
    for at, scene in enumerate(scenes):
        shown = (
            inked(f"{at // 60:02d}:{at % 60:02d}:{at * 37 % 60:02d}.{at % 10}", pen) if motion == "changing" else ink
        )
        if shown is not None:
            shown = shown[: scene.rows - top, : scene.columns - left]
            shown = shown[: ink.shape[0], : ink.shape[1]] if motion == "changing" else shown
            scene.chance = random.Random(0)  # noqa: S311
            scene._draw(shown, top, left, hand)
            scene.glyphs[top : top + shown.shape[0], left : left + shown.shape[1]][shown >= LIGHT] = len(place.items)
    return place.items[-1]


def _timed(
    pixels: Pixels, glyphs: NDArray[np.uint16], moving: Sequence[tuple[Item, str, int, int]]
) -> tuple[Moving, ...]:
    """Measure each line in the middle of its frames."""
    done = []
    for number, (item, motion, first, end) in enumerate(moving, 1):
        middle = (first + end) // 2
        only = np.where(glyphs[middle] == number, 1, 0).astype(np.uint16)
        measured, _ = _measured(pixels[middle], [item], only, 1.0)
        done.append(Moving(measured[0] if measured else item, motion, first, end))  # type: ignore[arg-type]
    return tuple(done)


def main() -> None:
    """Draw a sheet of development images: ``SHEET.png [SEED [NUMBER]]``."""
    given = [int(number) for number in sys.argv[2:]]
    out, seed, number = sys.argv[1], (*given, 1)[0], (*given[1:], 30)[0]
    tiles = [_tile(shown(labelled), 420) for labelled in images("development", number, seed)]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 6)
    Image.fromarray(np.vstack([np.hstack(tiles[at : at + 6]) for at in range(0, len(tiles), 6)])).save(out)


def _tile(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    small = Image.fromarray(picture).convert("RGB")
    small = small.resize(tuple(round(length * side / max(small.size)) for length in small.size))  # type: ignore[arg-type]
    tile = Image.new("RGB", (side, side), (40, 40, 40))
    tile.paste(small)
    return np.asarray(tile)


if __name__ == "__main__":
    main()

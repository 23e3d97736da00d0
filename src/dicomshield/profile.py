"""What happens to each attribute, decided before the first byte changes (PS3.15 Annex E).

A `Profile` is the Basic Application Level Confidentiality Profile with some of its options, and a site's own
overrides. For one SOP class it gives an `ActionTable`, which answers for an attribute at a place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Final, NamedTuple

from .encoding.elements import tag_name
from .encoding.scan import Scanner, Verdict
from .errors import PolicyError, did_you_mean, shown
from .pixels.layout import PALETTE
from .pixels.region import Shape
from .pixels.rules import MaskRule, first_match, tags
from .standard import tables

__all__ = ["PRESETS", "Action", "ActionTable", "Decision", "Marks", "Option", "Profile", "TextSearch"]


class Option(Enum):
    """The options of PS3.15 Annex E; the value is the code of CID 7050."""

    CLEAN_PIXEL_DATA = "113101"
    CLEAN_RECOGNIZABLE_VISUAL_FEATURES = "113102"
    CLEAN_GRAPHICS = "113103"
    CLEAN_STRUCTURED_CONTENT = "113104"
    CLEAN_DESCRIPTORS = "113105"
    RETAIN_FULL_DATES = "113106"
    RETAIN_MODIFIED_DATES = "113107"
    RETAIN_PATIENT_CHARACTERISTICS = "113108"
    RETAIN_DEVICE_IDENTITY = "113109"
    RETAIN_UIDS = "113110"
    RETAIN_SAFE_PRIVATE = "113111"
    RETAIN_INSTITUTION_IDENTITY = "113112"

    @classmethod
    def parse(cls, name: str) -> Option:
        """Return the option of this name, written in any case, with ``-`` or ``_``.

        Raises
        ------
        PolicyError
            With the names that come close.
        """
        wanted = name.strip().upper().replace("-", "_").removesuffix("_OPTION")
        if wanted not in cls.__members__:
            raise PolicyError(f"no option is called {shown(name)}" + did_you_mean(wanted, cls.__members__))
        return cls[wanted]


class Action(StrEnum):
    """What is done with one attribute; the value is how a report calls it."""

    KEEP = "kept"
    REMOVE = "removed"
    EMPTY = "emptied"
    DUMMY = "replaced"
    PSEUDONYM = "pseudonymized"
    UID = "uid replaced"
    SHIFT = "date shifted"
    SHIFT_DEVICE = "device date shifted"
    CAP_AGE = "age capped"
    REWRITE = "written anew"
    DERIVE = "marked derived"
    MASK = "masked"


class Decision(NamedTuple):
    """What is done with an attribute at a place, and why.

    Attributes
    ----------
    action : Action
    fallback : Action
        What is done instead if a value cannot be shifted or capped.
    why : str
        Code, Type, option, and where they are written.
    """

    action: Action
    fallback: Action
    why: str


DATE_RANGE: Final = (-3653, -366)
"""Days: one to ten years into the past."""
METHOD_CODES: Final = 0x00120064
MARKERS: Final = frozenset({0x00120062, 0x00120063, METHOD_CODES, 0x00280303})
"""Attributes that say what was done; written anew (PS3.15 E.1.1)."""
LISTED_REFERENCES: Final = 0x00081115
_BREAKS: Final = (0x00120062, 0x00120065, 0x00280303, 0x00280304, 0x04000500, 0x7FE00000)
"""New elements stand here, and pixel data are never remembered."""
FACTS: Final = frozenset(
    {
        0x00080005,
        0x00080008,
        0x00080016,
        0x00080018,
        0x00080060,
        0x00080064,
        0x00080070,
        0x0008103E,
        0x00081090,
        LISTED_REFERENCES,
        0x00100020,
        0x00100021,
    }
    | {0x00181010, 0x00181012, 0x00181016, 0x00181018, 0x00181019, 0x0020000D, 0x0020000E}
    | {0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102}
    | {0x00280103, 0x00280301, 0x00420012, 0x00480010}
    | PALETTE
    | {0x7FE00001, 0x7FE00002, 0x7FE00003, 0x7FE00008, 0x7FE00009, 0x7FE00010}
    | set(tables.last_attributes().values())
)
"""Attributes whose values the main job reads before it decides; their own fate is as the tables say."""
PHOTOMETRIC, BURNED_IN_ANNOTATION, LOSSY = 0x00280004, 0x00280301, 0x00282110
_PIXEL_MARKERS: Final = frozenset({PHOTOMETRIC, BURNED_IN_ANNOTATION, LOSSY})
"""Attributes that say what was done to the pixels; written anew where something was."""
_IMAGE_TYPES: Final = frozenset({0x00080008, 0x00089007})
_PIXEL_VALUES: Final = frozenset(
    {0x00280104, 0x00280105, 0x00280106, 0x00280107, 0x00280108, 0x00280109, 0x00280110, 0x00280111}
)
"""Smallest and largest pixel values, which a mask may change."""
_ICON: Final = 0x00880200
ABOUT_PIXELS: Final = _PIXEL_MARKERS | _IMAGE_TYPES | _PIXEL_VALUES | {_ICON}
"""Attributes that tell of the pixels or repeat them, so that somebody must decide about them when pixels are masked."""

WITH_CLEANER: Final = frozenset(
    option for option in Option if option is Option.CLEAN_PIXEL_DATA or not option.name.startswith("CLEAN_")
)
_PSEUDONYM: Final = frozenset({0x00100010, 0x00100020, 0x00120040})
TEMPORAL: Final = frozenset({"DA", "DT", "TM"})
_VOCABULARY_DATES: Final = frozenset({0x00080106, 0x00080107})
_REFERENCES: Final = frozenset({0x00081110, 0x00081111, 0x00081140, 0x00082112, 0x0040A073})
"""Sequences that are replaced by replacing what they hold: instance references, and verifying observers."""
_NOT_ACCEPTED: Final = frozenset(
    {"1.2.840.10008.5.1.4.1.1.9.4.1", "1.2.840.10008.5.1.4.1.1.9.4.2", "1.2.840.10008.5.1.4.1.1.201.1"}
)
"""A voice is a biometric identifier; an inventory lists patients and where their files lie."""


class Marks(NamedTuple):
    """What an object says of its pixels.

    Attributes
    ----------
    elements : tuple of (int, bytes, bytes)
        Tag, VR and value of what is written anew.
    masked : bool
        Whether pixels are masked; else they were only searched.
    """

    elements: tuple[tuple[int, bytes, bytes], ...]
    masked: bool

    @property
    def tags(self) -> frozenset[int]:
        """The attributes that are written anew."""
        return frozenset(tag for tag, _, _ in self.elements)


PRESETS: Final = ("light", "default", "paranoid")


@dataclass(frozen=True)
class TextSearch:
    """How ``CLEAN_PIXEL_DATA`` looks for text in pixels.

    Attributes
    ----------
    preset : str
        ``"light"``, ``"default"`` or ``"paranoid"``.
    only_suspect : bool
        Leave out images that give no reason to think that they carry text, which is quicker and can be wrong.
    keep_harmless : bool
        Leave what is read as nothing but a side, a view, a scale or a setting of the scanner.

    Raises
    ------
    PolicyError
        If there is no such preset.
    """

    preset: str = "default"
    only_suspect: bool = False
    keep_harmless: bool = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise PolicyError(f"preset must be {' or '.join(PRESETS)}" + did_you_mean(self.preset, PRESETS))


@dataclass(frozen=True)
class Profile:
    """The Basic Profile, options and overrides; immutable, and equal if it decides alike.

    Attributes
    ----------
    options : frozenset of Option
    overrides : mapping
        tag -> Action of a site's own policy.
    private_overrides : mapping
        (group, private creator, low byte or -1 for the whole block) -> Action.
    accepted : frozenset of str, or None
        SOP class UIDs that may be released; ``None`` for every Storage SOP class but audio and inventories.
    date_range : (int, int)
        Smallest and largest shift of dates, in days.
    trust_pixels : bool
        Release objects whose pixels may carry text.
    only_listed : bool
        Hold back patients that the patient list does not name.
    ignore_issuer : bool
        Take Patient IDs as unique whoever issued them; else the same number of two issuers is two patients.
    masks : tuple of MaskRule
        What to black out in which images; of the rules that match one, the first holds.
    regions : tuple of Region, Polygon or Bitmap
        What to black out in every image, beside what the rules say.
    text : TextSearch
        With ``CLEAN_PIXEL_DATA``: how text in pixels is looked for.
    """

    options: frozenset[Option] = frozenset()
    overrides: Mapping[int, Action] = field(default_factory=dict)
    private_overrides: Mapping[tuple[int, str, int], Action] = field(default_factory=dict)
    accepted: frozenset[str] | None = None
    date_range: tuple[int, int] = DATE_RANGE
    trust_pixels: bool = False
    only_listed: bool = False
    ignore_issuer: bool = False
    masks: tuple[MaskRule, ...] = ()
    regions: tuple[Shape, ...] = ()
    text: TextSearch = TextSearch()

    def __post_init__(self) -> None:
        _refuse_contradictions(self.options)
        low, high = self.date_range
        if not -36500 <= low <= high <= 36500 or low == high == 0:
            raise PolicyError("date_range must be two numbers of days, the smaller first, not both 0")
        if self.trust_pixels and self.searches_pixels:
            raise PolicyError('CLEAN_PIXEL_DATA looks at the pixels that pixels = "trust" does not look at: choose one')

    @classmethod
    def basic(cls, *options: Option, trust_pixels: bool = False) -> Profile:
        """Return the Basic Profile with options.

        Raises
        ------
        PolicyError
            If options contradict each other, or one has no cleaner yet.
        """
        return cls(options=frozenset(options), trust_pixels=trust_pixels)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Profile:
        """Read a policy file; see docs/policy.md for its keys.

        Raises
        ------
        PolicyError
            For anything unknown in it, with the names that come close.
        """
        from .policy import read

        return read(path)

    def with_options(self, options: Iterable[Option]) -> Profile:
        """Return this profile with more options."""
        return replace(self, options=self.options | frozenset(options))

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change whenever a decision could."""
        return self.whole_digest[:16]

    @cached_property
    def whole_digest(self) -> str:
        """The same with all 64 digits of SHA-256."""
        said = [
            tables.EDITION, sorted(option.name for option in self.options),
            sorted((tag, action.name) for tag, action in self.overrides.items()),
            sorted((*key, action.name) for key, action in self.private_overrides.items()),
            sorted(self.accepted or ()), self.date_range, self.trust_pixels, self.only_listed,
            self.ignore_issuer, self.masks, self.regions, self.text,
        ]  # fmt: skip
        return hashlib.sha256(repr(said).encode()).hexdigest()

    @cached_property
    def conforms(self) -> bool:
        """Whether the Basic Profile may be claimed: no override spares what the standard would act on."""
        plain = replace(self, overrides={}, private_overrides={})
        as_the_option = {Action.KEEP: "K", Action.SHIFT: "C"}
        spared = [
            tag for tag, action in self.overrides.items()
            if action in as_the_option and plain.code(tag, b"")[0] != as_the_option[action]
        ]  # fmt: skip
        return not spared and not as_the_option.keys() & set(self.private_overrides.values())

    @property
    def keeps_private(self) -> bool:
        """Whether any private attribute can stay."""
        return Option.RETAIN_SAFE_PRIVATE in self.options or bool(self.private_overrides)

    def accepts(self, sop_class: str) -> bool:
        """Tell whether objects of this SOP class may be released."""
        if self.accepted is not None:
            return sop_class in self.accepted
        return sop_class in tables.sop_classes() and sop_class not in _NOT_ACCEPTED

    @property
    def masking(self) -> bool:
        """Whether any image can be masked."""
        return bool(self.masks or self.regions or self.searches_pixels)

    @property
    def searches_pixels(self) -> bool:
        """Whether text is looked for in pixels."""
        return Option.CLEAN_PIXEL_DATA in self.options

    @cached_property
    def facts(self) -> frozenset[int]:
        """Attributes whose values are read before anything is decided; their own fate is as the tables say."""
        return FACTS | tags(self.masks) | (self._finders_facts if self.searches_pixels else frozenset())

    @property
    def _finders_facts(self) -> frozenset[int]:
        from .finders import burned_in, devices, gate, overlays, ultrasound

        return burned_in.TAGS | devices.tags() | ultrasound.TAGS | overlays.TAGS | gate.TAGS

    @cached_property
    def _noted(self) -> frozenset[int]:
        return self.facts | MARKERS | (ABOUT_PIXELS if self.masking else frozenset())

    def masks_of(self, header: Mapping[int, bytes]) -> tuple[str, tuple[Shape, ...]]:
        """Return what is blacked out in an image, and by which rules; no name if nothing."""
        rule = first_match(self.masks, header)
        names = ([rule.name] if rule else []) + (["regions for every image"] if self.regions else [])
        return " and ".join(names), (*(rule.regions if rule else ()), *self.regions)

    def scanner(self, *, explicit: bool) -> Scanner:
        """Return the walk that notes what this profile has to decide about."""
        return self._scanners[explicit]

    @cached_property
    def _scanners(self) -> tuple[Scanner, Scanner]:
        breaks: tuple[int, ...] = () if self.keeps_private else _BREAKS
        if self.masking and breaks:
            breaks = tuple(sorted({*breaks, *_PIXEL_MARKERS, *(tag + 1 for tag in _PIXEL_MARKERS)}))
        implicit, explicit = (Scanner(self.judge, vr_of, explicit=vr, breaks=breaks) for vr in (False, True))
        return implicit, explicit

    def table(self, sop_class: str, *, lists_references: bool = False, marks: Marks | None = None) -> ActionTable:
        """Return the decisions for one SOP class.

        Parameters
        ----------
        sop_class : str
        lists_references : bool
            Whether the object has a Common Instance Reference Module (PS3.3 C.12.2), which lists what its
            references name: with nothing left to list, the object would contradict itself.
        marks : Marks, optional
            Of an object whose pixels are masked or were searched: what it says of that.
        """
        key = sop_class, lists_references, marks
        if key not in self._tables:
            self._tables[key] = ActionTable(self, *key)
        return self._tables[key]

    @cached_property
    def _tables(self) -> dict[tuple[str, bool, Marks | None], ActionTable]:
        return {}

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def judge(self, tag: int, vr: bytes) -> Verdict:
        """Tell whether an element can pass unseen, must go unseen, or needs a decision at its place."""
        group, number = tag >> 16, tag & 0xFFFF
        if group < 8 or number == 0 or tag == 0xFFFCFFFC:
            return Verdict.DROP
        if group & 1:
            return Verdict.NOTE if self.keeps_private or tag in self._noted else Verdict.DROP
        code, rule = self.code(tag, vr)
        # what only an option keeps may still be changed, as ages are
        return Verdict.KEEP if code == rule.basic == "K" and tag not in self._noted else Verdict.NOTE

    def code(self, tag: int, vr: bytes) -> tuple[str, tables.Rule]:
        """Return the code that holds for an attribute under the options chosen, and its rule."""
        if tag in self.overrides:
            return self.overrides[tag].value, tables.Rule("", {}, "the policy of this site")
        rule = _rule(tag, vr)
        for option in self.options:
            if (code := rule.options.get(option.name)) == "K":
                return "K", rule
            if code == "C" and option is Option.RETAIN_MODIFIED_DATES:
                return "C", rule
        if rule.basic == "U" and not rule.options and Option.RETAIN_UIDS in self.options:
            # instance references that the table omits; the UIDs of organisations and devices have options of their own
            return "K", rule
        return rule.basic, rule


def vr_of(tag: int) -> bytes:
    """Return the VR of an attribute that is encoded without one (PS3.5 A.1), ``b"UN"`` if unknown."""
    if tag & 0xFFFF == 0:
        return b"UL"
    if tag >> 16 & 1:
        return b"LO" if 0x10 <= tag & 0xFFFF <= 0xFF else b"UN"
    found = tables.attribute(tag)
    return (found.vr.split("/")[-1].encode() or b"UN") if found else b"UN"


_rules: dict[tuple[int, bytes], tables.Rule] = {}


def _rule(tag: int, vr: bytes) -> tables.Rule:
    """Find the rule of an attribute: its row, ours beyond the table, or the net of its VR."""
    found = _rules.get((tag, vr))
    if found is None:
        found = _rules[tag, vr] = _find_rule(tag, vr)
    return found


def _find_rule(tag: int, vr: bytes) -> tables.Rule:
    digits = f"{tag:08X}"
    group, number = digits[:4], digits[4:]
    patterns = (digits, f"{group[:2]}xx{number}", f"{group[:2]}xxxxxx")
    for rules in (tables.confidentiality_profile(), tables.beyond_table()):
        for pattern in patterns:
            if pattern in rules:
                return rules[pattern]
    known = tables.attribute(tag)
    if known is None:
        return tables.Rule("X", {}, "PS3.6 does not define it")
    vrs = {known.vr, vr.decode("latin-1")}
    if "PN" in vrs:
        return tables.Rule("X/Z/D", {}, "a person's name by its VR")
    if vrs & TEMPORAL:
        dates = {"RETAIN_FULL_DATES": "K", "RETAIN_MODIFIED_DATES": "C"}
        return tables.Rule("X/Z/D", dates, "a date or time by its VR")
    if "AS" in vrs:
        return tables.Rule("X/Z/D", {"RETAIN_PATIENT_CHARACTERISTICS": "K"}, "an age by its VR")
    if "AE" in vrs:
        return tables.Rule("X/Z/D", {}, "a network name by its VR")
    if "UI" in vrs:
        return tables.Rule("U", {"RETAIN_UIDS": "K"}, "a UID that no rule calls structural")
    return tables.Rule("K", {}, "no rule names it")


class ActionTable:
    """The decisions of a profile for one SOP class; complete before any byte changes.

    Attributes
    ----------
    masked : bool
        Whether they are those of an object whose pixels are masked.
    """

    def __init__(self, profile: Profile, sop_class: str, lists_references: bool, marks: Marks | None = None) -> None:
        self._profile, self._lists_references, self._marks = profile, lists_references, marks
        self.masked = marks is not None and marks.masked
        self._types = tables.iod_types().get(sop_class, {})
        self._decided: dict[tuple[int, bytes, int], Decision] = {}

    def decide(self, tag: int, vr: bytes, parent: int = 0) -> Decision:
        """Decide about a public attribute.

        Parameters
        ----------
        tag : int
        vr : bytes
            As encoded; ``b""`` for the dictionary's.
        parent : int
            Tag of the sequence whose item holds it, 0 at the top level.
        """
        key = (tag, vr, parent)
        found = self._decided.get(key)
        if found is None:
            found = self._decided[key] = self._decide(tag, vr, parent)
        return found

    def private(self, group: int, creator: str, number: int) -> tuple[Action, bytes]:
        """Decide about a private attribute by its creator and its low byte, -1 for the creator (PS3.15 E.3.10).

        Returns
        -------
        action : Action
        vr : bytes
            From Table E.3.10-1, ``b""`` if it does not list the attribute.
        """
        profile = self._profile
        vr = tables.safe_private().get((group, creator, number), "")
        for low in (number, -1):
            action = profile.private_overrides.get((group, creator, low))
            if action is not None:
                return action, vr.encode()
        if not vr or Option.RETAIN_SAFE_PRIVATE not in profile.options:
            return Action.REMOVE, b""
        return self._safe_private_action(vr), vr.encode()

    def _safe_private_action(self, vr: str) -> Action:
        """Keep a value that is known to be safe, yet treat it as any other of its VR (PS3.15 E.3.10)."""
        options = self._profile.options
        if vr == "UI" and Option.RETAIN_UIDS not in options:
            return Action.UID
        if vr in TEMPORAL and Option.RETAIN_FULL_DATES not in options:
            return Action.SHIFT if Option.RETAIN_MODIFIED_DATES in options else Action.REMOVE
        if vr == "PN":
            return Action.REMOVE
        return Action.KEEP

    def _decide(self, tag: int, vr: bytes, parent: int) -> Decision:
        if self._marks is not None and (decided := of_pixels(tag, self._marks)):
            return decided
        if tag in MARKERS:
            return Decision(Action.REWRITE, Action.REMOVE, "says what was done; written anew, PS3.15 E.1.1")
        profile = self._profile
        if tag in profile.overrides:
            action = profile.overrides[tag]
            return Decision(action, Action.REMOVE, "the policy of this site")
        code, rule = profile.code(tag, vr)
        kind = tables.nested_types().get((parent, tag), "3") if parent else self._types.get(tag, "3")
        why = f"{rule.basic}, Type {kind}, {rule.source}"
        basic = _resolved(rule.basic, kind, tag)
        if rule.basic == "X/Z/U*" and self._lists_references and not parent:
            basic = Action.KEEP
        if not parent and tag in _PSEUDONYM and basic in (Action.EMPTY, Action.DUMMY):
            basic = Action.PSEUDONYM
        known = tables.attribute(tag)
        dictionary_vr = known.vr if known else ""
        if code == "K" and rule.basic != "K":
            action = Action.CAP_AGE if "AS" in (dictionary_vr, vr.decode("latin-1")) else Action.KEEP
            return Decision(action, basic, f"{why}; an option keeps it")
        if code == "C":
            return Decision(_modified(tag, rule, basic), basic, f"{why}; Retain Modified Dates")
        return Decision(basic, basic, why)


def of_pixels(tag: int, marks: Marks) -> Decision | None:
    """Decide about what tells of pixels that are masked or were searched, or repeats them."""
    if tag in marks.tags:
        return Decision(Action.REWRITE, Action.REMOVE, "says what was done to the pixels; written anew")
    if not marks.masked:
        return None
    if tag in _IMAGE_TYPES:
        return Decision(Action.DERIVE, Action.KEEP, "the pixels are masked, PS3.3 C.7.6.1.1.2")
    if tag in _PIXEL_VALUES:
        return Decision(Action.REMOVE, Action.REMOVE, "may tell a value of masked pixels, PS3.3 C.7.6.3.1")
    if tag == _ICON or tag >> 24 == 0x60:
        return Decision(Action.REMOVE, Action.REMOVE, "may show what was masked")
    return None


def _modified(tag: int, rule: tables.Rule, basic: Action) -> Action:
    """Say how a temporal attribute is modified (PS3.15 E.3.6) without giving the patient's shift away.

    A date that many patients share, such as a calibration or the version of a vocabulary, would show the
    difference of two patients' shifts if it moved with them.
    """
    if tag in _VOCABULARY_DATES:
        return basic
    if tag == 0x00080201:
        return Action.KEEP
    return Action.SHIFT_DEVICE if "RETAIN_DEVICE_IDENTITY" in rule.options else Action.SHIFT


_LETTERS: Final = MappingProxyType(
    {"K": Action.KEEP, "U": Action.UID, "X": Action.REMOVE, "Z": Action.EMPTY, "D": Action.DUMMY, "U*": Action.KEEP}
)
_NEED: Final = MappingProxyType({"1": "D", "1C": "D", "2": "Z", "2C": "Z"})


def _resolved(code: str, kind: str, tag: int) -> Action:
    """Resolve a code of Table E.1-1a by the Type of the attribute at its place.

    The letter that the Type needs, or the next stronger one the code offers; where the code offers none,
    the integrity of the IOD comes first (E.1.1).
    """
    letters = code.split("/")
    if letters in (["K"], ["U"]):
        return _LETTERS[code]
    need = _NEED.get(kind, "X")
    if need != "X" and "U*" in letters:
        # Z would do for Type 2, but the Common Instance Reference Module lists what is referenced (PS3.3 C.12.2)
        return Action.KEEP
    stronger = "XZD"["XZD".index(need) :]
    letter = next((letter for letter in stronger if letter in letters), need)
    action = _LETTERS[letter]
    return Action.KEEP if action is Action.DUMMY and tag in _REFERENCES else action


def _refuse_contradictions(options: frozenset[Option]) -> None:
    for option in sorted(options - WITH_CLEANER, key=lambda option: option.name):
        raise PolicyError(
            f"{option.name} is not available yet: dicomshield has no cleaner for it, and claims nothing it did not do"
        )
    names = {option.name for option in options}
    torn = [
        pattern
        for rules in (tables.confidentiality_profile(), tables.beyond_table())
        for pattern, rule in rules.items()
        if "RETAIN_MODIFIED_DATES" in names
        and rule.options.get("RETAIN_MODIFIED_DATES") == "C"
        and any(rule.options.get(name) == "K" for name in names)
    ]
    if torn:
        keepers = sorted(names & {"RETAIN_FULL_DATES", "RETAIN_DEVICE_IDENTITY"})
        raise PolicyError(
            f"{' and '.join(keepers)} would keep {len(torn)} attributes, such as {tag_name(int(torn[0], 16))}, "
            "that RETAIN_MODIFIED_DATES must change (PS3.15 gives neither precedence): choose one, or keep "
            "single attributes by overrides in the policy"
        )

"""Rules that say which regions of which images to black out: the ``[[mask]]`` blocks of a policy."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from ..errors import PolicyError, did_you_mean, shown
from ..standard import tables
from .region import Outside, Polygon, Region, Shape

__all__ = ["MaskRule", "comparable", "first_match", "read", "tags"]


@dataclass(frozen=True)
class Glob:
    """The whole value in any case; ``*`` stands for any characters, ``?`` for one, ``""`` for no value."""

    pattern: str

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return _glob(self.pattern)(text) is not None if text else not self.pattern


@dataclass(frozen=True)
class Regex:
    """A regular expression of ASCII semantics for the whole value, as it is written."""

    pattern: str

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return bool(text) and _regex(self.pattern)(text) is not None


@dataclass(frozen=True)
class Number:
    """The value is one number that equals, or is above or below, another; no text or list of values is."""

    relation: str
    number: float

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        if not _NUMERAL(text):
            return False
        value = float(text)
        if self.relation == "is":
            return value == self.number
        return value > self.number if self.relation == "above" else value < self.number


@dataclass(frozen=True)
class Digits:
    """A condition for the digits and points of a value, whatever stands between them."""

    condition: Condition

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return self.condition.holds("".join(letter for letter in text if letter in "0123456789."))


@dataclass(frozen=True)
class Not:
    """Whatever another condition does not hold for, a missing value too."""

    condition: Condition

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return not self.condition.holds(text)


@dataclass(frozen=True)
class AnyOf:
    """At least one of several conditions."""

    conditions: tuple[Condition, ...]

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return any(condition.holds(text) for condition in self.conditions)


@dataclass(frozen=True)
class AllOf:
    """Several conditions together."""

    conditions: tuple[Condition, ...]

    def holds(self, text: str) -> bool:
        """Tell whether the text of a value satisfies this."""
        return all(condition.holds(text) for condition in self.conditions)


Condition = Glob | Regex | Number | Digits | Not | AnyOf | AllOf


@dataclass(frozen=True)
class MaskRule:
    """What to black out in images of a kind.

    Attributes
    ----------
    name : str
        Stands in reports.
    when : tuple of (int, condition)
        Attributes of the top level by tag, and what their values must satisfy; all of them.
    regions : tuple of Region, Polygon or Outside

    Raises
    ------
    PolicyError
        If nothing would be blacked out.
    """

    name: str
    when: tuple[tuple[int, Condition], ...]
    regions: tuple[Shape, ...]

    def __post_init__(self) -> None:
        if not self.regions:
            raise PolicyError("it needs regions, polygons or keep: it would black out nothing")

    def matches(self, header: Mapping[int, bytes]) -> bool:
        """Tell whether the rule is meant for an object.

        Parameters
        ----------
        header : mapping
            tag -> value as encoded, little endian; File Meta Information too if a rule looks at it.
        """
        return first_match((self,), header) is not None


def first_match(rules: Iterable[MaskRule], header: Mapping[int, bytes]) -> MaskRule | None:
    """Return the first rule that matches; `MaskRule.matches` says what a header is."""
    read_so_far: dict[int, str] = {}

    def holds(tag: int, condition: Condition) -> bool:
        if tag not in read_so_far:
            read_so_far[tag] = _text(tag, header.get(tag, b""))
        return condition.holds(read_so_far[tag])

    return next((rule for rule in rules if all(holds(*one) for one in rule.when)), None)


def tags(rules: Iterable[MaskRule]) -> frozenset[int]:
    """Return the attributes that rules look at."""
    return frozenset(tag for rule in rules for tag, _ in rule.when)


_NUMERAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?").fullmatch
_BINARY: Final = MappingProxyType(
    {"US": "H", "SS": "h", "UL": "I", "SL": "i", "UV": "Q", "SV": "q", "FL": "f", "FD": "d"}
)
_TEXT: Final = frozenset("AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UR UT".split())
_NEVER_PADDED_BEFORE: Final = frozenset("AS DA DT LT ST TM UC UI UR UT".split())
"""A space before the value belongs to it (PS3.5 6.2)."""


def comparable(tag: int) -> str:
    """Return the VR by which rules read an attribute, ``""`` if they cannot; ``"UN"``, of private data, is as text."""
    group, number = tag >> 16, tag & 0xFFFF
    if number == 0 or (group < 8 and group != 2):
        return ""
    if group & 1:
        return "LO" if 0x10 <= number <= 0xFF else "UN"
    known = tables.attribute(tag)
    return known.vr if known and (known.vr in _TEXT or known.vr in _BINARY) else ""


def _text(tag: int, value: bytes) -> str:
    """Return a value as text: numbers as decimals, several values with backslashes between them (PS3.5 6.4)."""
    vr = comparable(tag)
    code = _BINARY.get(vr)
    if code is None:
        text = value.decode("latin-1").rstrip(" \0")
        return text if vr in _NEVER_PADDED_BEFORE else text.lstrip(" ")
    count, torn = divmod(len(value), struct.calcsize(code))
    numbers = () if torn else struct.unpack(f"<{count}{code}", value)
    if code == "f" and numbers:
        import numpy as np

        # 0.1 is not what a double makes of it
        return "\\".join(str(np.float32(number)) for number in numbers)
    return "\\".join(str(number) for number in numbers)


@cache
def _glob(pattern: str) -> Callable[[str], object]:
    parts = ["".join("." if letter == "?" else re.escape(letter) for letter in part) for part in pattern.split("*")]
    first, *rest = parts
    # the first place where a part fits is as good as any other, and looking no further keeps the time linear
    between = "".join(f"(?>.*?{part})" for part in rest[:-1])
    end = f".*{rest[-1]}" if rest else ""
    return re.compile(first + between + end, re.ASCII | re.DOTALL | re.IGNORECASE).fullmatch


@cache
def _regex(pattern: str) -> Callable[[str], object]:
    return re.compile(pattern, re.ASCII).fullmatch


_KEYS: Final = ("name", "when", "regions", "polygons", "keep", "frames")
_OPERATORS: Final = MappingProxyType(
    {"matches": "text", "above": "number", "below": "number", "all": "list"}
    | dict.fromkeys(("is", "not", "digits"), "condition")
)


def read(blocks: object) -> tuple[MaskRule, ...]:
    """Read the ``[[mask]]`` blocks of a policy.

    Raises
    ------
    PolicyError
        For anything unknown in them, with the names that come close.
    """
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise PolicyError("masks are written in blocks, each headed [[mask]]")
    rules = []
    for number, block in enumerate(blocks, 1):
        try:
            rules.append(_rule(block, f"mask {number}"))
        except (PolicyError, ValueError) as error:
            raise PolicyError(f"[[mask]] {number}: {error}") from None
    return tuple(rules)


def _rule(block: dict[str, Any], name: str) -> MaskRule:
    for key in block:
        if key not in _KEYS:
            raise PolicyError(f"a mask has no key {shown(key)}" + did_you_mean(key, _KEYS))
    name = block.get("name", name)
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= 64):
        raise PolicyError("name must be one line of at most 64 letters")
    if not isinstance(block.get("when"), dict):
        raise PolicyError("it needs when = { attribute = value, ... }, or when = {} for every image")
    return MaskRule(name, _when(block["when"]), _shapes(block))


def _when(wanted: dict[str, object]) -> tuple[tuple[int, Condition], ...]:
    conditions: dict[int, Condition] = {}
    for name, value in wanted.items():
        tag = tables.parse_tag(name)
        if not comparable(tag):
            raise PolicyError(f"{shown(name)} is not known to hold text or numbers of one kind: no mask can look at it")
        if tag in conditions:
            raise PolicyError(f"{shown(name)} is there twice")
        conditions[tag] = _condition(value, name)
    return tuple(sorted(conditions.items()))


def _condition(wanted: object, name: str) -> Condition:
    match wanted:
        case str():
            return Glob(_ascii(wanted, name))
        case list() if wanted:
            return AnyOf(tuple(_condition(one, name) for one in wanted))
        case dict() if wanted:
            conditions = tuple(_operator(operator, value, name) for operator, value in wanted.items())
            return conditions[0] if len(conditions) == 1 else AllOf(conditions)
    return Number("is", _number(wanted, name))


def _operator(operator: str, value: object, name: str) -> Condition:
    if operator not in _OPERATORS:
        raise PolicyError(f"{shown(name)} has no operator {shown(operator)}" + did_you_mean(operator, _OPERATORS))
    match operator, value:
        case "is", _:
            return _condition(value, name)
        case "not", _:
            return Not(_condition(value, name))
        case "digits", _:
            return Digits(_condition(value, name))
        case "all", list() if value:
            return AllOf(tuple(_condition(one, name) for one in value))
        case "above" | "below", int() | float():
            return Number(operator, _number(value, name))
        case "matches", str():
            return Regex(_expression(value, name))
    raise PolicyError(f"{operator} of {shown(name)} must be a {_OPERATORS[operator]}")


def _expression(pattern: str, name: str) -> str:
    try:
        with warnings.catch_warnings():
            # a later Python would read it otherwise
            warnings.simplefilter("error")
            _regex(_ascii(pattern, name))
    except (re.error, RecursionError, OverflowError, FutureWarning):
        raise PolicyError(f"{shown(pattern)} for {shown(name)} is no regular expression") from None
    return pattern


def _number(value: object, name: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1 << 64:
        return float(value)
    raise PolicyError(f"{shown(name)} is compared with a text, a number, a list of them, or a table of operators")


def _ascii(text: str, name: str) -> str:
    """Refuse what depends on the character set of an object: its values are compared as they are encoded."""
    if not text.isascii():
        raise PolicyError(f"{shown(name)} is compared with ASCII text only: write * for the other letters")
    return text


def _shapes(block: dict[str, Any]) -> tuple[Shape, ...]:
    frames = None
    if "frames" in block:
        first, last = _whole(block["frames"], 2, "frames must be the first and the one after the last, [0, 10]")
        frames = first, last
    masked = tuple(_rectangle(one, frames) for one in _list(block, "regions"))
    polygons = tuple(_polygon(one, frames) for one in _list(block, "polygons"))
    kept = tuple(_rectangle(one) for one in _list(block, "keep"))
    if kept and (masked or polygons):
        raise PolicyError("keep stands alone: everything outside it is blacked out anyway")
    return (*masked, *polygons, *((Outside(kept, frames),) if kept else ()))


def _list(block: dict[str, Any], key: str) -> list[object]:
    value = block.get(key, [])
    if not isinstance(value, list):
        raise PolicyError(f"{key} must be a list")
    return value


def _rectangle(value: object, frames: tuple[int, int] | None = None) -> Region:
    x, y, width, height = _whole(value, 4, "a rectangle must be four whole numbers, [x, y, width, height]")
    return Region.at(x, y, width, height, frames)


def _polygon(value: object, frames: tuple[int, int] | None) -> Polygon:
    return Polygon(tuple(_corner(one) for one in value) if isinstance(value, list) else (), frames)


def _corner(value: object) -> tuple[float, float]:
    if isinstance(value, list) and len(value) == 2 and all(type(at) in (int, float) for at in value):
        return value[1], value[0]
    raise PolicyError("a corner of a polygon must be two numbers, [x, y]")


def _whole(value: object, count: int, wanted: str) -> list[int]:
    if not (isinstance(value, list) and [type(number) for number in value] == [int] * count):
        raise PolicyError(wanted)
    return value

"""Scripts of the DicomPixelAnonymizer of RSNA's CTP, turned into ``[[mask]]`` blocks of a policy.

A signature becomes one rule for each alternative of its expression. Whatever matched in CTP matches here, in the same
order, and at least the same pixels go; a signature for which that cannot be had is refused, and the script with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from types import MappingProxyType
from typing import Final, NamedTuple

from ..errors import PolicyError, did_you_mean, shown
from ..standard import tables
from .rules import comparable

__all__ = ["import_script"]

_MOST_ALTERNATIVES: Final = 256
_DEEPEST: Final = 50
_SHOWN_PROBLEMS: Final = 10


def import_script(text: str) -> str:
    """Return the ``[[mask]]`` blocks, in TOML, that do what a script does.

    Raises
    ------
    PolicyError
        If a signature cannot be expressed, with its number, its line and the reason.
    """
    masks: list[str] = []
    problems: list[str] = []
    signatures = _signatures(text)
    for signature in signatures:
        try:
            masks += _blocks(signature)
        except PolicyError as error:
            problems.append(f"signature {signature.number} (line {signature.line}): {error}")
    if problems:
        more = [f"and {len(problems) - _SHOWN_PROBLEMS} more"] if len(problems) > _SHOWN_PROBLEMS else []
        listed = "\n  ".join([*problems[:_SHOWN_PROBLEMS], *more])
        raise PolicyError(f"{len(problems)} of {len(signatures)} signatures cannot be imported:\n  {listed}")
    return "\n\n".join([_HEADER.format(len(signatures)), *masks]) + "\n"


_HEADER: Final = """\
# From a script for the DicomPixelAnonymizer of RSNA's CTP: {} signatures. The first mask that matches holds, as there.
# CTP blacks out the column and row after a region too, and may start a column early; these rectangles include them."""


class _Signature(NamedTuple):
    """One section of a script; ``regions`` is the text from its closing brace to the next section."""

    number: int
    line: int
    title: str
    expression: str
    regions: str


def _signatures(text: str) -> list[_Signature]:
    """Divide a script; what stands before a brace and outside parentheses is comment, whatever it looks like."""
    found = list(re.finditer(r"\{([^}]*)\}", text))
    if not found:
        raise PolicyError("there is no { signature } in it: is it a script for CTP's DicomPixelAnonymizer?")
    signatures = []
    ends = [*(section.start() for section in found[1:]), len(text)]
    before = text[: found[0].start()]
    for number, (section, end) in enumerate(zip(found, ends, strict=True), 1):
        regions = text[section.end() : end]
        line = text.count("\n", 0, section.start()) + 1
        if set("{}") & set(before + regions):
            raise PolicyError(f"a brace near signature {number} (line {line}) has no counterpart")
        signatures.append(_Signature(number, line, _title(before), section[1], regions))
        before = regions
    return signatures


def _title(before: str) -> str:
    lines = [line for line in _PARENTHESES.sub("", before).splitlines() if line.strip()]
    return "".join(letter for letter in lines[-1].strip() if letter.isprintable())[:64] if lines else ""


def _blocks(signature: _Signature) -> Iterator[str]:
    areas = _areas(signature.regions)
    alternatives = _alternatives(_Expression(signature.expression).whole(), True)
    rules = [(_both(when, limits), cut) for when in alternatives for limits, cut in _by_size(areas)]
    for number, (when, cut) in enumerate(rules, 1):
        of_several = f", {number} of {len(rules)}" if len(rules) > 1 else ""
        title = f": {signature.title}" if signature.title else ""
        conditions = {name: wanted[0] if len(wanted) == 1 else {"all": wanted} for name, wanted in when.items()}
        yield (
            f"# signature {signature.number}, line {signature.line}{title}\n[[mask]]\n"
            f'name = "CTP signature {signature.number}{of_several}"\n'
            f"when = {_toml(conditions)}\nregions = {_toml(cut)}"
        )
    if not rules:
        yield f"# signature {signature.number}, line {signature.line}: never matches"


_PARENTHESES: Final = re.compile(r"\(([^)]*)\)")


class _Area(NamedTuple):
    """A region as it is written; negative ``x`` and ``y`` count from the right and bottom border."""

    x: int
    y: int
    width: int
    height: int


def _areas(text: str) -> list[_Area]:
    areas = []
    for content in _PARENTHESES.findall(text):
        numbers = [number.strip() for number in content.split(",")]
        if len(numbers) == 4 and all(re.fullmatch(r"[+-]?[0-9]{1,9}", number) for number in numbers):
            areas.append(_Area(*(int(number) for number in numbers)))
        elif len(numbers) == 4 or not any(letter.isalpha() for letter in content):
            raise PolicyError(f"the region ({shown(content)[1:-1]}) is not four whole numbers")
    if set("()") & set(_PARENTHESES.sub("", text)):
        raise PolicyError("a parenthesis after it has no counterpart")
    if any(area.width < 0 or area.height < 0 for area in areas):
        raise PolicyError("a region of it has a negative width or height")
    if not areas:
        raise PolicyError("it has no region: such images would pass untouched, which no mask can express")
    return areas


def _by_size(areas: list[_Area]) -> Iterator[tuple[_When, list[list[int]]]]:
    """Return what to black out in images of all sizes, the smallest first.

    In an image that is smaller than the number a region counts from the border, CTP moves it to the other border.
    """
    wide = [*sorted({-area.x for area in areas if area.x < 0}), None]
    high = [*sorted({-area.y for area in areas if area.y < 0}), None]
    for columns, rows in product(wide, high):
        limits: _When = {}
        for name, limit in (("Columns", columns), ("Rows", rows)):
            if limit is not None:
                limits[name] = [{"below": limit}]
        yield limits, [_rectangle(area, columns, rows) for area in areas]


def _rectangle(area: _Area, columns: int | None, rows: int | None) -> list[int]:
    x = 0 if columns is not None and -area.x >= columns else area.x
    y = 0 if rows is not None and -area.y >= rows else area.y
    # in YBR images CTP starts at even columns; from the right border that may be any
    early = 1 if x % 2 or x < 0 else 0
    return [x - early, y, area.width + 1 + early, area.height + 1]


_Wanted = str | int | float | list["_Wanted"] | dict[str, "_Wanted"]
"""A condition as a policy has it."""
_When = dict[str, list[_Wanted]]
"""Attribute -> conditions that must hold together."""


class _Test(NamedTuple):
    attribute: str
    condition: _Wanted


class _Fixed(NamedTuple):
    value: bool


class _Not(NamedTuple):
    part: _Node


class _Joined(NamedTuple):
    any_of: bool
    parts: list[_Node]


_Node = _Test | _Fixed | _Not | _Joined


def _alternatives(node: _Node, wanted: bool) -> list[_When]:
    """Return the alternatives (disjunctive normal form) under which an expression is ``wanted``."""
    match node:
        case _Test(attribute, condition):
            return [{attribute: [condition if wanted else {"not": condition}]}]
        case _Fixed(value):
            return [{}] if value == wanted else []
        case _Not(negated):
            return _alternatives(negated, not wanted)
        case _Joined(any_of, joined):
            parts = [_alternatives(one, wanted) for one in joined]
    if any_of == wanted:
        return _bounded(_merged([when for part in parts for when in part]))
    found: list[_When] = [{}]
    for part in parts:
        _bounded(found, len(part))
        found = [_both(one, other) for one, other in product(found, part)]
    return found


def _bounded(found: list[_When], times: int = 1) -> list[_When]:
    if len(found) * times > _MOST_ALTERNATIVES:
        raise PolicyError(f"it has more than {_MOST_ALTERNATIVES} alternatives")
    return found


def _both(one: _When, other: _When) -> _When:
    return {name: one.get(name, []) + other.get(name, []) for name in (*one, *(set(other) - set(one)))}


def _merged(found: list[_When]) -> list[_When]:
    """Join alternatives that look at one and the same attribute."""
    names = {name for when in found for name in when}
    if len(names) != 1 or len(found) == 1 or not all(found):
        return found
    (name,) = names
    joined: list[_Wanted] = []
    for conditions in (when[name] for when in found):
        first = conditions[0]
        if len(conditions) > 1:
            joined.append({"all": conditions})
        else:
            joined += first if isinstance(first, list) else [first]
    return [{name: [joined]}]


_BLANK: Final = re.compile(r"\s+|//[^\n]*")


class _Expression:
    """The expression of a signature: ``+`` or, ``*`` and, ``!`` not, parentheses, and tests: ``Rows.equals("1")``.

    ``//`` begins a comment, to the end of the line.
    """

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0

    def whole(self) -> _Node:
        node = self._either(0)
        if self._next():
            raise PolicyError(f"{shown(self._text[self._at :])} does not belong there")
        return node

    def _next(self) -> str:
        while blank := _BLANK.match(self._text, self._at):
            self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _either(self, depth: int) -> _Node:
        return self._joined("+", self._together, depth)

    def _together(self, depth: int) -> _Node:
        return self._joined("*", self._single, depth)

    def _joined(self, operator: str, part: Callable[[int], _Node], depth: int) -> _Node:
        parts = [part(depth)]
        while self._next() == operator:
            self._at += 1
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else _Joined(operator == "+", parts)

    def _single(self, depth: int) -> _Node:
        letter = self._next()
        if letter == "[" or letter.isalpha():
            return self._test()
        if letter not in ("!", "(") or depth == _DEEPEST:
            raise PolicyError(f"{shown(self._text[self._at :])} is not understood" if letter else "it ends too early")
        self._at += 1
        if letter == "!":
            if self._next() == "!":
                raise PolicyError("CTP takes !! for one !; write one or none")
            return _Not(self._single(depth + 1))
        node = self._either(depth + 1)
        if self._next() != ")":
            raise PolicyError("a parenthesis in it has no counterpart")
        self._at += 1
        return node

    def _test(self) -> _Node:
        identifier = self._field(".")
        if identifier in ("true", "false"):
            return _Fixed(identifier == "true")
        method, argument = self._field("("), self._field(")")
        if not re.fullmatch('"[^"]*"', argument):
            raise PolicyError(f"the argument of {shown(method)} must be one text in quotes")
        name, vr = _attribute(identifier)
        return _Test(name, _condition(method, argument[1:-1], vr))

    def _field(self, end: str) -> str:
        """Return what stands before the next ``end`` that is not in quotes."""
        found = re.compile(rf'((?:[^"{re.escape(end)}]|"[^"]*")*){re.escape(end)}').match(self._text, self._at)
        if not found:
            raise PolicyError(f"{shown(self._text[self._at :])} lacks {end!r}")
        self._at = found.end()
        return found[1].strip()


_TEXT: Final = frozenset("AE CS DA DS DT IS LO LT SH ST TM UC UI UT".split())
"""Without those that CTP pads in a way of its own: PN, which loses carets, AS, and UR, which it does not know."""
_INTEGERS: Final = frozenset({"US", "SS", "UL", "SL"})


def _attribute(identifier: str) -> tuple[str, str]:
    """Return how a policy names an attribute, and its VR."""
    if "::" in identifier:
        raise PolicyError(f"{shown(identifier)} lies in a sequence; a mask looks at the top level only")
    digits = re.fullmatch(r"\[\s*(?:([0-9A-Fa-f]{1,4})\s*,\s*([0-9A-Fa-f]{1,4})|([0-9A-Fa-f]{1,8}))\s*\]", identifier)
    if digits:
        group, element, both = digits.groups()
        tag = int(both, 16) if both else int(group, 16) << 16 | int(element, 16)
    elif "[" in identifier:
        raise PolicyError(f"{shown(identifier)} names its private creator, which no mask can")
    else:
        tag = tables.parse_tag(identifier)
    vr, known = comparable(tag), tables.attribute(tag)
    if vr not in _TEXT | _INTEGERS:
        raise PolicyError(f"{shown(identifier)} is not known to hold text or whole numbers; CTP may read it otherwise")
    keyword = known.keyword if known else ""
    return (keyword if tables.keywords().get(keyword) == tag else f"({tag >> 16:04X},{tag & 0xFFFF:04X})"), vr


_AROUND: Final = MappingProxyType(
    {"equals": ("", ""), "contains": ("*", "*"), "startsWith": ("", "*"), "endsWith": ("*", "")}
)
_COMPARED: Final = MappingProxyType({"isLessThan": "below", "isGreaterThan": "above"})


def _condition(method: str, text: str, vr: str) -> _Wanted:
    if not text.isascii():
        raise PolicyError(f"{shown(text)} is beyond ASCII, and masks compare values as they are encoded")
    plain = method.removesuffix("IgnoreCase")
    if plain in _AROUND:
        return _likeness(text, *_AROUND[plain], any_case=plain != method, integer=vr in _INTEGERS)
    if method == "matches":
        pattern = _translated(text)
        # a missing value is empty in CTP, and a mask's positive conditions hold for values only
        return ["", {"matches": pattern}] if re.fullmatch(pattern, "") else {"matches": pattern}
    if method in _COMPARED:
        return {"digits": {_COMPARED[method]: _compared(text)}}
    methods = [*_AROUND, *(f"{name}IgnoreCase" for name in _AROUND), "matches", *_COMPARED]
    raise PolicyError(f"there is no method {shown(method)}" + did_you_mean(method, methods))


def _likeness(text: str, before: str, after: str, *, any_case: bool, integer: bool) -> _Wanted:
    if not text:
        return ["", "*"] if before or after else ""
    if integer and not (before or after) and re.fullmatch("0|[1-9][0-9]{0,8}", text):
        return int(text)
    if not set("*?") & set(text) and (any_case or text.upper() == text.lower()):
        return before + text + after
    flags = ("i" if any_case else "") + ("s" if before or after else "")
    body = before.replace("*", ".*") + re.escape(text) + after.replace("*", ".*")
    return {"matches": f"(?{flags}){body}" if flags else body}


def _compared(text: str) -> int | float:
    """Read a number as CTP does, from its digits and points alone."""
    digits = re.sub("[^0-9.]", "", text)
    if not re.fullmatch(r"[0-9]+\.?[0-9]*|\.[0-9]+", digits) or len(digits) > 15:
        raise PolicyError(f"{shown(text)} is no number to compare with")
    return int(digits) if digits.isdigit() else float(digits)


_ESCAPE: Final = r"\\[dDwWsS]|\\[^A-Za-z0-9]"
_CLASS: Final = rf"\[\^?(?:{_ESCAPE}|(?!--)[^\[\]\\&~|])+\]"
_PIECE: Final = re.compile(rf"(?P<dot>\.)|{_CLASS}|{_ESCAPE}|\(\?:|\((?!\?)|[^\[\]\\^$.({{}}]")


def _translated(java: str) -> str:
    """Return a regular expression for Python that means the same; both match the whole value.

    Only the part of the two languages is accepted that they share, but for the dot: in Java it stands for no end of
    line of any kind.
    """
    flag, body = ("(?i)", java[4:]) if java.startswith("(?i)") else ("", java)
    body = body.removeprefix("^")
    if body.endswith("$") and not body.endswith("\\$"):
        body = body[:-1]
    pieces, at = [flag], 0
    while at < len(body):
        piece = _PIECE.match(body, at)
        if not piece:
            raise PolicyError(f"{shown(body[at:])} in a regular expression of Java may mean something else here")
        pieces.append(r"[^\n\r\x85]" if piece["dot"] else piece[0])
        at = piece.end()
    pattern = "".join(pieces)
    try:
        re.compile(pattern, re.ASCII)
    except (re.error, RecursionError, OverflowError):
        raise PolicyError(f"{shown(java)} is no regular expression") from None
    return pattern


def _toml(value: object) -> str:
    match value:
        case str():
            return _quoted(value)
        case list():
            return f"[{', '.join(_toml(one) for one in value)}]"
        case dict():
            pairs = [f"{key if key.isalnum() else _quoted(key)} = {_toml(one)}" for key, one in value.items()]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return repr(value)


def _quoted(text: str) -> str:
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text).replace("\x7f", "\\u007f")

"""Read a site's policy file; docs/policy.md describes its keys."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from .errors import PolicyError, did_you_mean, shown
from .pixels import rules
from .profile import DATE_RANGE, MARKERS, PRESETS, TEMPORAL, Action, Option, Profile, TextSearch
from .standard import tables

__all__ = ["read"]

_OVERRIDES: Final = MappingProxyType(
    {
        "keep": Action.KEEP,
        "remove": Action.REMOVE,
        "empty": Action.EMPTY,
        "dummy": Action.DUMMY,
        "uid": Action.UID,
        "shift": Action.SHIFT,
    }
)


def read(path: str | os.PathLike[str]) -> Profile:
    """Read a policy file.

    Raises
    ------
    PolicyError
        For anything unknown in it, with the names that come close.
    """
    try:
        policy = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise PolicyError(f"the policy cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"the policy is not TOML: {error}") from None
    return _profile(policy)


_KEYS: Final = (
    "options", "attributes", "private", "sop_classes", "date_range", "pixels", "unlisted_patients", "issuer", "mask",
    "text",
)  # fmt: skip


def _profile(policy: dict[str, Any]) -> Profile:
    for key in policy:
        if key not in _KEYS:
            raise PolicyError(f"the policy has no key {shown(key)}" + did_you_mean(key, _KEYS))
    options = frozenset(Option.parse(name) for name in _strings(policy, "options"))
    accepted = None
    if "sop_classes" in policy:
        accepted = frozenset(_sop_class(name) for name in _strings(policy, "sop_classes"))
    dates = policy.get("date_range", list(DATE_RANGE))
    if not (isinstance(dates, list) and len(dates) == 2 and all(type(day) is int for day in dates)):
        raise PolicyError("date_range must be two whole numbers of days, such as [-3653, -366]")
    return Profile(
        options=options,
        overrides=dict(_override(name, action) for name, action in _section(policy, "attributes").items()),
        private_overrides=_private(_section(policy, "private")),
        accepted=accepted,
        date_range=(dates[0], dates[1]),
        trust_pixels=_choice(policy, "pixels", ("quarantine", "trust")) == "trust",
        only_listed=_choice(policy, "unlisted_patients", ("pseudonymize", "quarantine")) == "quarantine",
        ignore_issuer=_choice(policy, "issuer", ("use", "ignore")) == "ignore",
        masks=rules.read(policy.get("mask", [])),
        text=_text_search(_section(policy, "text")),
    )


def _text_search(wanted: dict[str, Any]) -> TextSearch:
    """Read ``[text]``: how text in pixels is looked for."""
    for key in wanted:
        if key not in _TEXT_KEYS:
            raise PolicyError(f"[text] has no key {shown(key)}" + did_you_mean(key, _TEXT_KEYS))
    return TextSearch(
        preset=_choice(wanted, "preset", PRESETS, "default"),
        only_suspect=_choice(wanted, "images", ("all", "suspect")) == "suspect",
        keep_harmless=_choice(wanted, "keep", ("nothing", "harmless")) == "harmless",
    )


_TEXT_KEYS: Final = ("preset", "images", "keep")


def _strings(policy: dict[str, Any], key: str) -> list[str]:
    value = policy.get(key, [])
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PolicyError(f"{key} must be a list of names")
    return value


def _section(policy: dict[str, Any], key: str) -> dict[str, Any]:
    value = policy.get(key, {})
    if not isinstance(value, dict):
        raise PolicyError(f"{key} must be a table: [{key}]")
    return value


def _choice(policy: dict[str, Any], key: str, choices: tuple[str, ...], default: str = "") -> str:
    value = policy.get(key, default or choices[0])
    if value not in choices:
        raise PolicyError(f"{key} must be {' or '.join(choices)}" + did_you_mean(str(value), choices))
    return str(value)


def _action(name: str, action: object) -> Action:
    if not isinstance(action, str) or action not in _OVERRIDES:
        raise PolicyError(
            f"the action of {shown(name)} must be one of {', '.join(_OVERRIDES)}"
            + did_you_mean(str(action), _OVERRIDES)
        )
    return _OVERRIDES[action]


_ESSENTIAL: Final = frozenset(
    {0x00080005, 0x00080016, 0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011}
    | {0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x7FE00008, 0x7FE00009, 0x7FE00010}
)
_INSTANCE: Final = frozenset({0x00080018, 0x0020000D, 0x0020000E})
_NEEDS_VR: Final = MappingProxyType({Action.UID: {"UI"}, Action.SHIFT: TEMPORAL})


def _override(name: str, wanted: object) -> tuple[int, Action]:
    """Read one line of ``[attributes]``; refuse what would break the object or do nothing."""
    tag, action = tables.parse_tag(name), _action(name, wanted)
    group, known = tag >> 16, tables.attribute(tag)
    problem = ""
    if group & 1:
        problem = 'is private: write it under [private."its creator"]'
    elif group < 8 or tag & 0xFFFF == 0 or tag == 0xFFFCFFFC or tag in MARKERS:
        problem = "is always written anew or removed"
    elif tag in _ESSENTIAL or (tag in _INSTANCE and action not in (Action.KEEP, Action.UID)):
        problem = "is needed to read or to tell objects apart, so it stays as the profile has it"
    elif action in _NEEDS_VR and not (known and known.vr in _NEEDS_VR[action]):
        problem = f"is no {'UID' if action is Action.UID else 'date or time'}"
    if problem:
        raise PolicyError(f"{shown(name)} {problem}")
    return tag, action


def _private(creators: dict[str, Any]) -> dict[tuple[int, str, int], Action]:
    """Read ``[private."CREATOR"]`` with keys ``ggggxxee``, or ``ggggxx*`` for a whole block."""
    found = {}
    for creator, elements in creators.items():
        if not isinstance(elements, dict):
            raise PolicyError(f'private attributes are written [private.{shown(creator)}] then "0019xx0C" = "keep"')
        for pattern, action in elements.items():
            group, _, low = pattern.lower().partition("xx")
            try:
                key = (int(group, 16), creator.strip(), -1 if low == "*" else int(low, 16))
            except ValueError:
                key = (0, "", 0)
            if not key[0] & 1 or len(group) != 4:
                raise PolicyError(f'{shown(pattern)} is no private attribute: write it as "0019xx0C" or "0019xx*"')
            found[key] = _action(pattern, action)
    return found


def _sop_class(name: str) -> str:
    classes = tables.sop_classes()
    if name in classes:
        return name
    by_name = {_squeezed(title): uid for uid, title in classes.items()}
    if _squeezed(name) not in by_name:
        raise PolicyError(f"no Storage SOP class is called {shown(name)}" + did_you_mean(name, classes.values()))
    return by_name[_squeezed(name)]


def _squeezed(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())

"""Character sets of text values (PS3.5 6.1, PS3.3 C.12.1.1.2), for reading names; never for writing."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

__all__ = ["codecs_of", "decodings"]

_CODECS: Final = {
    "ISO_IR 6": "latin-1",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 166": "tis-620",
    "ISO_IR 203": "iso8859-15",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
    "ISO 2022 IR 87": "iso2022_jp_2",
    "ISO 2022 IR 159": "iso2022_jp_2",
    "ISO 2022 IR 149": "euc_kr",
    "ISO 2022 IR 58": "gb2312",
}


@lru_cache(maxsize=256)
def codecs_of(specific_character_set: bytes) -> tuple[str, ...]:
    """Return the Python codecs that may have written values under this (0008,0005), likeliest first."""
    found = []
    for term in specific_character_set.decode("latin-1").split("\\"):
        name = term.strip(" \0").upper().replace("ISO-IR", "ISO_IR")
        codec = _CODECS.get(name) or _CODECS.get(name.replace("ISO 2022 IR", "ISO_IR"))
        if codec and codec not in found:
            found.append(codec)
    # multi-byte sets first: in a single-byte set anything can be read, so it proves nothing
    found.sort(key=lambda codec: codec in ("latin-1", "shift_jis") or codec.startswith("iso8859"))
    return (*found, *(codec for codec in ("utf-8", "latin-1") if codec not in found))


def decodings(raw: bytes, specific_character_set: bytes) -> list[str]:
    """Read a text value in every way its declared character sets and UTF-8 allow.

    Wrong declarations are common, so each reading that works is returned; a check that looks for a
    name must know all of them.
    """
    if raw.isascii() and b"\x1b" not in raw:
        return [raw.decode("ascii")]
    texts: list[str] = []
    for codec in codecs_of(specific_character_set):
        data = raw
        if codec in ("euc_kr", "gb2312"):
            # PS3.5 6.1.2.5: the escape only designates G1; the bytes after it are those of the codec
            data = raw.replace(b"\x1b$)C", b"").replace(b"\x1b$)A", b"")
        try:
            text = data.decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
        if text not in texts:
            texts.append(text)
    return texts

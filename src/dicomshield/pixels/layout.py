"""How long native pixel data are by what the header says of them."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["native_length"]


def native_length(header: Mapping[int, bytes], stored: int) -> int | None:
    """Return the bytes of all frames of native Pixel Data, without padding (PS3.5 8.1.1, 8.2).

    Parameters
    ----------
    header : mapping
        tag -> value as encoded, little endian.
    stored : int
        Bytes there are. Some writers say YBR_FULL_422 and store every sample; what is there decides.

    Returns
    -------
    int or None
        ``None`` if an attribute it takes is missing or no number.
    """

    def short(tag: int, default: int | None = None) -> int:
        value = header.get(tag)
        if value is None or len(value) < 2:
            if default is None:
                raise KeyError(tag)
            return default
        return int.from_bytes(value[:2], "little")

    try:
        rows, columns, allocated = short(0x00280010), short(0x00280011), short(0x00280100)
        frames = int(header.get(0x00280008, b"1").strip(b" \0") or b"1")
    except (KeyError, ValueError):
        return None
    bits = rows * columns * short(0x00280002, 1) * allocated * frames
    subsampled = header.get(0x00280004, b"").strip(b" \0") in (b"YBR_FULL_422", b"YBR_PARTIAL_422")
    if subsampled and stored < bits // 8:
        # two chrominance samples are shared by two pixels: C.7.6.3.1.2
        bits = bits * 2 // 3
    return (bits + 7) // 8

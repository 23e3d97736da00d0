"""Run a loop over bytes as machine code where numba is installed, and as it stands where it is not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["fast", "machine_code"]


@functools.cache
def machine_code(function: Callable[..., Any]) -> Callable[..., Any] | None:
    """Compile a function on its first call, once for each machine; ``None`` if numba is not installed."""
    try:
        import numba
    except ImportError:
        return None
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # no folder to cache in
        compiled = numba.njit(nogil=True)(function)
    return compiled


def fast(function: Callable[..., int]) -> Callable[..., int]:
    """Compile a function of whole numbers and arrays on its first call, if numba is there.

    The function must call nothing but built-ins, index its arrays by whole numbers only, and stay within 63 bits;
    then both ways give the same, and one is the check of the other. Without numba arrays are passed as memoryviews,
    whose items are plain numbers.
    """

    def interpreted(*arguments: object) -> int:
        return function(*[one.data if isinstance(one, np.ndarray) else one for one in arguments])

    @functools.wraps(function)
    def either(*arguments: object) -> int:
        return (machine_code(function) or interpreted)(*arguments)

    either.interpreted = interpreted  # type: ignore[attr-defined]
    return either

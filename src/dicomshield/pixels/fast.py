"""Run a loop over bytes as machine code where numba is installed, and as it stands where it is not."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

__all__ = ["fast"]


def fast(function: Callable[..., int]) -> Callable[..., int]:
    """Compile a function of whole numbers and arrays on its first call, if numba is there.

    The function must call nothing but built-ins, index its arrays by whole numbers only, and stay within 63 bits;
    then both ways give the same, and one is the check of the other. Without numba arrays are passed as memoryviews,
    whose items are plain numbers.
    """

    @functools.cache
    def compiled() -> Callable[..., int]:
        try:
            import numba
        except ImportError:
            return interpreted
        try:
            machine: Callable[..., int] = numba.njit(cache=True, nogil=True)(function)
        except RuntimeError:
            # no folder to cache in
            machine = numba.njit(nogil=True)(function)
        return machine

    def interpreted(*arguments: object) -> int:
        return function(*[one.data if isinstance(one, np.ndarray) else one for one in arguments])

    @functools.wraps(function)
    def either(*arguments: object) -> int:
        return compiled()(*arguments)

    either.interpreted = interpreted  # type: ignore[attr-defined]
    return either

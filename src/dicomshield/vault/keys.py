"""The key that a patient's objects and crosswalk rows are encrypted with."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["DataKey"]


class DataKey(NamedTuple):
    """A data key of one patient and one writer session.

    Attributes
    ----------
    kid : bytes
        16 random bytes that name it.
    secret : bytes
        32 random bytes.
    patient : str
        Pseudonym.
    """

    kid: bytes
    secret: bytes
    patient: str

    def __repr__(self) -> str:
        return f"DataKey(kid={self.kid.hex()})"

"""Identifiers that follow from what they name: the same record gives the same messages, wherever they are made."""

from functools import lru_cache
from uuid import UUID, uuid5

__all__ = ["NAMESPACE", "of_record"]

NAMESPACE = UUID("6a1d2f0e-7c53-5a0b-9a55-1f5e0c0ffee5")  # drawn once; another one would send every message anew


@lru_cache(maxsize=16)  # asked for each measurement of a board
def of_record(record: str) -> UUID:
    """The work transaction of a record, and the namespace of everything within it."""
    return uuid5(NAMESPACE, record)

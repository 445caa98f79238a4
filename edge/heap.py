"""Gives memory that was freed back to the system.

glibc keeps what lies below the top of its heaps: an edge node that had been stopped while a hundred
updates came stayed 6 MiB larger for good.
"""

from __future__ import annotations

import ctypes

EVERY_S = 30.0


class Heap:
    """Trims the C library's heaps now and then; does nothing where the library cannot."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        self._trimmed_at = 0.0

    def turn(self, steady: float) -> None:
        """Trim, if `EVERY_S` have passed on the steady clock; takes some milliseconds."""
        if self._trim is not None and steady - self._trimmed_at >= EVERY_S:
            self._trimmed_at = steady
            self._trim(0)

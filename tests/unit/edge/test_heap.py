"""Freed memory goes back to the system."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from edge.heap import EVERY_S, Heap

MIB = 1 << 20
UPDATE_BYTES = 48_000


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def leave_holes(num: int) -> list[bytes]:
    """Free every second of `num` updates and return the others, which keep the heap's top up."""
    held = [bytes(UPDATE_BYTES) for _ in range(num)]
    return held[::2]


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is no glibc"
)
def test_holes_in_the_heap_are_given_back_when_it_is_time() -> None:
    heap = Heap()
    heap.turn(1000.0)
    kept = leave_holes(1000)
    full = rss_bytes()
    heap.turn(1000.0 + EVERY_S / 2)
    assert rss_bytes() > full - MIB
    heap.turn(1000.0 + EVERY_S)
    assert rss_bytes() < full - 15 * MIB
    assert len(kept) == 500

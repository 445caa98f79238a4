"""A real rank that starts to add at the same moment as all others: ``python -m benchmarks.ring_rank``.

`edge.rank` as it is, between reading its files and writing the sums: it says when it is ready to
pack its aggregate, waits for the moment, and says when it had unpacked the sums.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import ParamSpec, TextIO, TypeVar

from edge import rank, ring_sum

Given = ParamSpec("Given")
Made = TypeVar("Made")
BARRIER = "PULSERING_BENCH_BARRIER"  # a UNIX socket of the benchmark


def main() -> None:
    """Be a rank."""
    barrier = socket.socket(socket.AF_UNIX)
    barrier.connect(os.environ[BARRIER])
    gate = _Gate(barrier.makefile("rw"))
    ring_sum.flatten = gate.before(ring_sum.flatten)
    ring_sum.unflatten = gate.after(ring_sum.unflatten)
    rank.main()


class _Gate:
    """Holds the rank before it packs, and tells when it had packed, summed and unpacked."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = lines
        self._packed_at = 0.0

    def before(self, pack: Callable[Given, Made]) -> Callable[Given, Made]:
        def wait_and_pack(*given: Given.args, **named: Given.kwargs) -> Made:
            self._say("ready")
            time.sleep(max(0.0, float(self._lines.readline()) - time.monotonic()))
            packed = pack(*given, **named)
            self._packed_at = time.monotonic()
            return packed

        return wait_and_pack

    def after(self, unpack: Callable[Given, Made]) -> Callable[Given, Made]:
        def unpack_and_tell(*given: Given.args, **named: Given.kwargs) -> Made:
            summed_at = time.monotonic()
            sums = unpack(*given, **named)
            self._say(f"{self._packed_at!r} {summed_at!r} {time.monotonic()!r}")
            return sums

        return unpack_and_tell

    def _say(self, text: str) -> None:
        self._lines.write(text + "\n")
        self._lines.flush()


if __name__ == "__main__":
    main()

"""The figure of a soak: memory and descriptors of one edge node that is never ended."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from benchmarks import process_memory
from common.errors import QuorumError

EVERY_S = 5.0
NUM_QUARTERS = 4
BOUND = 0.05


@dataclass(frozen=True)
class Reading:
    """One process at `at_s` seconds after the soak began; memory in MiB."""

    at_s: float
    rss_mib: float
    pss_mib: float
    num_fds: int
    num_threads: int
    cpu_s: float

    def as_row(self) -> list[float]:
        """Its values, in the order of the fields."""
        return list(vars(self).values())


def read(pid: int, at_s: float) -> Reading | None:
    """What the process with that id has now; None when it has ended."""
    sizes = process_memory.of_process(pid)
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        with process.oneshot():
            cpu = process.cpu_times()
            return Reading(
                at_s=round(at_s, 1),
                rss_mib=sizes["rss_mib"],
                pss_mib=sizes["pss_mib"],
                num_fds=process.num_fds(),
                num_threads=process.num_threads(),
                cpu_s=round(cpu.user + cpu.system, 2),
            )
    return None


def quarters(readings: Sequence[Reading], seconds: float) -> list[dict[str, Any]]:
    """Medians and extremes of each quarter of the time.

    Raises
    ------
    QuorumError
        When a quarter has no reading.
    """
    found = []
    for number in range(NUM_QUARTERS):
        start, end = (seconds * n / NUM_QUARTERS for n in (number, number + 1))
        those = [reading for reading in readings if start <= reading.at_s < end]
        if not those:
            raise QuorumError(f"quarter {number + 1} of the soak has no reading of its edge node")
        fds = [reading.num_fds for reading in those]
        found.append(
            {
                "rss_mib": round(median(r.rss_mib for r in those), 2),
                "pss_mib": round(median(r.pss_mib for r in those), 2),
                "rss_max_mib": round(max(r.rss_mib for r in those), 2),
                "fds": median(fds),
                "fds_least": min(fds),
                "fds_most": max(fds),
                "threads": median(r.num_threads for r in those),
            }
        )
    return found


def verdict(of_quarters: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Whether the last quarter is as the second: memory within `BOUND`, no more descriptors.

    Descriptors by their median: while a broker or rank is away there are fewer for a while.
    """
    second, last = of_quarters[1], of_quarters[-1]
    growth = last["rss_mib"] / second["rss_mib"] - 1
    return {
        "rss_growth": round(growth, 4),
        "rss_bound": BOUND,
        "memory_is_flat": abs(growth) <= BOUND,
        "descriptors_are_flat": last["fds"] <= second["fds"],
    }

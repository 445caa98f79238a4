"""Memory, descriptors and children of a region's processes, and what is left when it has ended."""

from __future__ import annotations

import socket
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
import psutil

from simulators.local_region import LocalRegion

END_TIMEOUT_S = 10.0
MIB = float(1 << 20)


@dataclass(frozen=True)
class Measured:
    """One process at one time; `pid` tells whether it is still the same."""

    pid: int
    rss_mib: float
    num_fds: int
    num_threads: int
    num_children: int
    num_listening: int


@dataclass(frozen=True)
class Sample:
    """All processes after so many rounds."""

    num_rounds: int
    processes: dict[str, Measured]


@dataclass
class Seen:
    """Every process that the region had, by its id and the time it began."""

    processes: set[tuple[int, float]] = field(default_factory=set)

    def note(self, region: LocalRegion) -> None:
        """Take in those that run now, with their children."""
        for name in ("broker", *region.processes):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(region.supervisor[name].pid)
                family = [process, *process.children(recursive=True)]
                self.processes |= {(p.pid, p.create_time()) for p in family}


def sample(region: LocalRegion, num_rounds: int) -> Sample:
    """Measure every process of the region that runs."""
    found = {}
    for name in ("broker", *region.processes):
        pid = region.supervisor[name].pid
        if pid:
            with suppress(psutil.NoSuchProcess):
                found[name] = _measured(psutil.Process(pid))
    return Sample(num_rounds, found)


def _measured(process: psutil.Process) -> Measured:
    with process.oneshot():
        return Measured(
            pid=process.pid,
            rss_mib=process.memory_info().rss / MIB,
            num_fds=process.num_fds(),
            num_threads=process.num_threads(),
            num_children=len(process.children(recursive=True)),
            num_listening=sum(c.status == psutil.CONN_LISTEN for c in process.net_connections()),
        )


@dataclass(frozen=True)
class Trend:
    """How a process grew in the longest time in which it was one and the same.

    Attributes
    ----------
    slope_kib_a_round : float or None
        Of a straight line through its memory after the first sample, which still has what starts;
        None with fewer than three samples.
    """

    TITLES: ClassVar[Sequence[str]] = (
        "lives",
        "samples",
        "RSS max MiB",
        "KiB a round",
        "descriptors",
        "threads",
        "children",
        "open ports",
    )
    process: str
    num_lives: int
    num_samples: int
    max_rss_mib: float
    slope_kib_a_round: float | None
    fds: str
    threads: str
    max_children: int
    max_listening: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def trends(samples: Sequence[Sample]) -> list[Trend]:
    """One trend for each process that was ever sampled."""
    lives: dict[str, dict[int, list[tuple[int, Measured]]]] = defaultdict(lambda: defaultdict(list))
    for one in samples:
        for name, measured in one.processes.items():
            lives[name][measured.pid].append((one.num_rounds, measured))
    return [_trend(name, list(of_pid.values())) for name, of_pid in lives.items()]


def _trend(name: str, lives: Sequence[Sequence[tuple[int, Measured]]]) -> Trend:
    longest = max(lives, key=len)
    every = [measured for life in lives for _, measured in life]
    return Trend(
        process=name,
        num_lives=len(lives),
        num_samples=len(longest),
        max_rss_mib=round(max(m.rss_mib for m in every), 1),
        slope_kib_a_round=_slope(longest[1:]),
        fds=_range([m.num_fds for _, m in longest]),
        threads=_range([m.num_threads for _, m in longest]),
        max_children=max(m.num_children for m in every),
        max_listening=max(m.num_listening for m in every),
    )


def _slope(life: Sequence[tuple[int, Measured]]) -> float | None:
    if len(life) < 3:
        return None
    rounds = [num_rounds for num_rounds, _ in life]
    kib = [measured.rss_mib * 1024 for _, measured in life]
    return round(float(np.polyfit(rounds, kib, 1)[0]), 2)


def _range(values: Sequence[int]) -> str:
    return f"{min(values)}–{max(values)}"


def left_behind(seen: Seen, region: LocalRegion) -> list[str]:
    """Processes that outlived an ended region, and its ports that somebody still listens on."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while (alive := _alive(seen)) and time.monotonic() < deadline:
        time.sleep(0.2)
    urls = (region.broker_url, *region.health_urls.values())
    ports = [int(url.rpartition(":")[2]) for url in urls]
    return [*alive, *(f"port {port} is still open" for port in ports if _is_open(port))]


def _alive(seen: Seen) -> list[str]:
    found = []
    for pid, created in sorted(seen.processes):
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"process {pid}: {' '.join(process.cmdline())[:120]}")
    return found


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0

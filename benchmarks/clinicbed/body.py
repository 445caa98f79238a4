"""Memory and processor time of a clinic's edge node, keeper and rank."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.process_memory import KIB, MIB

_MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ ([0-9a-f]+) (\S+) (\d+)")
ROLES = ("edge node", "keeper", "rank")
Segment = tuple[str, str, str]
"""A part of a file: its offset, device and inode."""


@dataclass(frozen=True)
class Body:
    """What a group of processes has at one time.

    Attributes
    ----------
    rss_mib : dict of str to float
        By role; pages that processes share count in each.
    together_mib : float
        Of all, as on a machine of their own: what they share counts once, and what they share with
        other processes of this machine counts as theirs.
    cpu_s : float
        Of all since their start, those that have ended included.
    """

    rss_mib: dict[str, float] = field(default_factory=dict)
    together_mib: float = 0.0
    cpu_s: float = 0.0


def body_of(edge_pid: int, pids: Iterable[int]) -> Body:
    """Measure the processes `pids`, of which one is the edge node."""
    rss: dict[str, float] = {}
    own, files, cpu_s = 0, dict[Segment, int](), 0.0
    for pid in pids:
        with suppress(psutil.NoSuchProcess, OSError):
            process = psutil.Process(pid)
            times = process.cpu_times()
            cpu_s += times.user + times.system + times.children_user + times.children_system
            rss[_role(process, edge_pid)] = round(process.memory_info().rss / MIB, 1)
            own += _anonymous(pid)
            for segment, size in _files(Path(f"/proc/{pid}/smaps").read_text()).items():
                files[segment] = max(size, files.get(segment, 0))
    return Body(rss, round((own + sum(files.values())) / MIB, 1), round(cpu_s, 2))


def largest(bodies: Iterable[Body]) -> Mapping[str, float]:
    """The largest of each figure, by role and of all together."""
    seen = list(bodies)
    found = {role: max((b.rss_mib.get(role, 0.0) for b in seen), default=0.0) for role in ROLES}
    return found | {"together": max((body.together_mib for body in seen), default=0.0)}


def _role(process: psutil.Process, edge_pid: int) -> str:
    if process.pid == edge_pid:
        return ROLES[0]
    return ROLES[1] if process.ppid() == edge_pid else ROLES[2]


def _anonymous(pid: int) -> int:
    """Bytes that are no file's; what forks share is divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1]) * KIB
    return 0


def _files(smaps: str) -> dict[Segment, int]:
    """Bytes of files in memory, by part of a file, from the text of ``/proc/PID/smaps``."""
    found: dict[Segment, int] = {}
    segment: Segment | None = None
    for line in smaps.splitlines():
        if head := _MAPPING.match(line):
            segment = (head[1], head[2], head[3]) if head[3] != "0" else None
        elif segment and line.startswith("Rss:"):
            found[segment] = found.get(segment, 0) + int(line.split()[1]) * KIB
        elif segment and line.startswith("Anonymous:"):
            found[segment] -= int(line.split()[1]) * KIB
    return found

"""Memory of what a hospital runs, read from ``/proc``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

KIB, MIB = 1024, 1024 * 1024


def of_sessions(leaders: Iterable[int]) -> dict[str, float]:
    """MiB of all processes in the sessions led by `leaders`: proportional and resident set sizes.

    A page that processes share counts once in all in `pss`, and in each of them in `rss`.
    """
    wanted = set(leaders)
    totals = {"pss": 0, "rss": 0}
    for pid in _pids():
        if _session(pid) in wanted:
            for name, num_bytes in _sizes(pid).items():
                totals[name] += num_bytes
    return {f"{name}_mib": round(total / MIB, 1) for name, total in totals.items()}


def of_process(pid: int) -> dict[str, float]:
    """MiB of one process, as `of_sessions` tells them; empty when it has ended."""
    return {f"{name}_mib": round(num / MIB, 3) for name, num in _sizes(pid).items()}


def largest(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """The largest of each figure."""
    return {name: max(sample[name] for sample in samples) for name in samples[0]}


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return 0
    return int(fields[3])


def _sizes(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return {}
    sizes = {line.split(":")[0].lower(): line.split() for line in lines[1:]}
    return {name: int(sizes[name][1]) * KIB for name in ("pss", "rss") if name in sizes}

"""Processor time of other processes, read from ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def of_process(pid: int) -> float:
    """Seconds that a process and its threads have used; 0 when it has ended."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def of_session(leader: int) -> float:
    """Seconds of all living processes of the session that `leader` leads."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sum(
        of_process(pid) for pid in pids if (fields := _fields(pid)) and int(fields[3]) == leader
    )


def _fields(pid: int) -> list[str]:
    """Of ``/proc/PID/stat``, from the third on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []

"""How full the disk under a node's state is, and when intake must wait: before it is full.

What is kept free is the reserve from which rounds go on with what is stored: aggregates, fates and
joins take a few hundred kilobytes a round.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.ledger import FILE_NAME

DiskState = Literal["ok", "low", "full"]
MB = 1 << 20
LOW_OF_QUOTA = 0.8
BACK_OF_QUOTA = 0.95  # what was full is so until this much is used, so that it does not flicker
BACK_OF_RESERVE = 1.1
LOW_OF_RESERVE = 2.0


@dataclass(frozen=True)
class Usage:
    """Bytes of a state directory and of its filesystem.

    `reusable_bytes` lie free within the ledger's file, which never shrinks by itself; they count
    neither as used nor as free.
    """

    used_bytes: int
    free_bytes: int
    ledger_bytes: int = 0
    reusable_bytes: int = 0


@dataclass(frozen=True)
class Limits:
    """`quota_bytes` that the state may take, 0 for any; `reserve_bytes` to stay free beside it."""

    quota_bytes: int
    reserve_bytes: int


@dataclass(frozen=True)
class Room:
    """Whether intake may go on; `why` names measure, key and remedy, empty when all is well."""

    state: DiskState = "ok"
    why: str = ""


def measure(state_dir: Path, reusable_bytes: int = 0) -> Usage:
    """Add up the files of `state_dir` and ask its filesystem what is free for this user."""
    sizes = dict(_files(state_dir))
    ledger = sum(size for path, size in sizes.items() if Path(path).name.startswith(FILE_NAME))
    system = os.statvfs(state_dir)
    return Usage(
        used_bytes=max(sum(sizes.values()) - reusable_bytes, 0),
        free_bytes=system.f_bavail * system.f_frsize,
        ledger_bytes=ledger,
        reusable_bytes=reusable_bytes,
    )


def judge(usage: Usage, limits: Limits, before: DiskState) -> Room:
    """Hold what was measured against the limits; a state that was full stays so a little longer."""
    was_full = before == "full"
    used, quota = usage.used_bytes, limits.quota_bytes
    free, reserve = usage.free_bytes, limits.reserve_bytes
    over_quota = f"state_dir takes {_mb(used)} of disk_quota_mb = {quota // MB}"
    under_reserve = f"{_mb(free)} free on the disk of state_dir, min_free_mb = {reserve // MB}"
    if quota and used >= quota * (BACK_OF_QUOTA if was_full else 1):
        return Room("full", f"{over_quota}: intake waits; {_MORE_QUOTA}")
    if reserve and free < reserve * (BACK_OF_RESERVE if was_full else 1):
        return Room("full", f"{under_reserve}: intake waits; {_MORE_DISK}")
    if quota and used >= quota * LOW_OF_QUOTA:
        return Room("low", f"{over_quota}; {_MORE_QUOTA}")
    if reserve and free < reserve * LOW_OF_RESERVE:
        return Room("low", f"{under_reserve}; {_MORE_DISK}")
    return Room()


_MORE_QUOTA = "raise the quota, or lower keep_rounds"
_MORE_DISK = "make room on that disk, or move state_dir to a larger one"


def _mb(num_bytes: int) -> str:
    return f"{num_bytes / MB:.0f} MiB"


def _files(folder: Path) -> list[tuple[str, int]]:
    found, folders = [], [str(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        found.append((entry.path, entry.stat(follow_symlinks=False).st_size))
                except FileNotFoundError:  # renamed or deleted meanwhile
                    continue
    return found

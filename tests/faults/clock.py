"""A wall clock that can be set, by a file, for one process: ``time.time`` and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

LOOK_EVERY_S = 0.05


def set_up(folder: Path, process: str) -> None:
    """Let this process's ``time.time`` be ahead by what the file of its name says."""
    path, real = _path(folder, process), time.time
    offset_s, looked_at = 0.0, float("-inf")

    def shifted() -> float:
        nonlocal offset_s, looked_at
        steady = time.monotonic()
        if steady > looked_at + LOOK_EVERY_S:
            looked_at = steady
            offset_s = _read(path)
        return real() + offset_s

    time.time = shifted


def shift(folder: Path, process: str, offset_s: float) -> None:
    """Set the clock of a running process ahead, or back with a negative offset; 0 is right."""
    path = _path(folder, process)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(repr(offset_s))
    scratch.replace(path)


def _path(folder: Path, process: str) -> Path:
    return folder / "clock" / process


def _read(path: Path) -> float:
    try:
        return float(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0.0

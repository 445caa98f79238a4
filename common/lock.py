"""One process for one state directory."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from common.errors import ConfigError

NAME = "lock"
PATIENCE_S = 0.5  # a look by `is_held` takes the lock for some microseconds
POLL_S = 0.05


def hold(state_dir: Path, who: str) -> int:
    """Hold `state_dir` for this process; the system lets go of it when the process ends.

    Parameters
    ----------
    who : str
        What would be there twice, such as ``"edge node"``.

    Returns
    -------
    int
        A descriptor to keep open.

    Raises
    ------
    ConfigError
        When another process holds it, or the directory cannot be written.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        handle = os.open(state_dir / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise ConfigError(f"state_dir {state_dir} cannot be used: {fault.strerror}") from fault
    deadline = time.monotonic() + PATIENCE_S
    while not _lock(handle, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            os.close(handle)
            raise ConfigError(f"state_dir {state_dir}: another {who} is running there")
        time.sleep(POLL_S)
    return handle


def is_held(state_dir: Path) -> bool:
    """Whether a process holds `state_dir` now.

    Raises
    ------
    OSError
        When its lock cannot be looked at, such as for lack of permission.
    """
    try:
        handle = os.open(state_dir / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return not _lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

"""One process for one state directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from common.errors import ConfigError


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
        handle = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise ConfigError(f"state_dir {state_dir} cannot be used: {fault.strerror}") from fault
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as fault:
        os.close(handle)
        raise ConfigError(f"state_dir {state_dir}: another {who} is running there") from fault
    return handle

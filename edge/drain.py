"""An operator asks the running node to end its round, begin no further one, and go.

The order is a file in the state directory: it needs no room in the ledger, outlives a crash, and
the node deletes it when it has drained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import structlog

from common.errors import PulseRingError
from common.lock import is_held
from edge.sight import look

ORDER = "drain"
POLL_S = 0.25

log = structlog.get_logger()


class Drainable(Protocol):
    """What a node lets itself be told."""

    draining: bool

    @property
    def drained(self) -> bool:
        """Whether it was told to drain and has."""


class Drain:
    """The running node's side: looks for the order at every turn.

    Parameters
    ----------
    stop : callable
        Ends the service in good order.
    """

    def __init__(self, state_dir: Path, node: Drainable, stop: Callable[[], None]) -> None:
        self._order = state_dir / ORDER
        self._node = node
        self._stop = stop

    def turn(self) -> None:
        """Follow the order, or its withdrawal."""
        asked = self._order.exists()
        if asked != self._node.draining:
            log.info("draining" if asked else "drain_withdrawn")
        self._node.draining = asked
        if self._node.drained:
            self._order.unlink(missing_ok=True)
            log.info("drained")
            self._stop()


def ask(state_dir: Path) -> None:
    """Leave the order.

    Raises
    ------
    PulseRingError
        When no node runs there.
    """
    if not is_held(state_dir):
        raise PulseRingError(
            f"no edge node runs with state_dir {state_dir}: there is nothing to drain"
        )
    (state_dir / ORDER).touch()


def withdraw(state_dir: Path) -> bool:
    """Take the order back; whether there was one."""
    asked = (state_dir / ORDER).exists()
    (state_dir / ORDER).unlink(missing_ok=True)
    return asked


def wait(state_dir: Path, timeout_s: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Wait until the node has drained and ended; `tell` hears where it stands.

    Returns
    -------
    dict
        Seconds waited, and what the node said of itself last.

    Raises
    ------
    PulseRingError
        When it ended otherwise or has not drained within `timeout_s`; the order then stands.
    """
    began = time.monotonic()
    last: dict[str, Any] = {}
    while is_held(state_dir):
        last = look(state_dir).health or last
        tell(_standing(last))
        if time.monotonic() - began >= timeout_s:
            raise PulseRingError(
                f"not drained within {timeout_s:g} s ({_standing(last)}); the order stands and the "
                "node will end with its round: wait on, or withdraw it with --cancel"
            )
        time.sleep(POLL_S)
    if (state_dir / ORDER).exists():
        raise PulseRingError(
            "the node ended before it had drained; the order stands: started again, it drains"
        )
    return {"seconds": round(time.monotonic() - began, 3), "last": last}


def _standing(health: dict[str, Any]) -> str:
    if not health:
        return "the node does not answer"
    phase = {
        "idle": "no round is open",
        "collecting": "takes updates until the round closes",
        "ready": "its aggregate waits for the region's ring",
    }
    what = phase.get(str(health.get("phase")), str(health.get("phase")))
    return f"round {health.get('round_id', 0)}: {what}"

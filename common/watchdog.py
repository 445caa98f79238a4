"""Ends a process whose loop stands still, so that whoever keeps it alive can start it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event, Thread

import structlog

PERIOD_S = 1.0

log = structlog.get_logger()


def end_process() -> None:
    """End this process at once, with code 1: a loop that hangs cannot be asked to."""
    os._exit(1)


class Watchdog:
    """Looks once a period whether the loop has gone round since the last look.

    Time is counted in looks and not on a clock, so that a process that was stopped and goes on, or
    a machine that slept, is not taken for a loop that hangs.

    Parameters
    ----------
    loop : str
        Name of the loop, for the log.
    limit_s : float
        How long it may stand still.
    end : callable
        What to do then.
    """

    def __init__(
        self,
        loop: str,
        limit_s: float,
        end: Callable[[], None] = end_process,
        period_s: float = PERIOD_S,
    ) -> None:
        self._loop = loop
        self._limit_s = limit_s
        self._end = end
        self._period_s = period_s
        self._went_round = Event()
        self._stopping = Event()
        self._thread = Thread(target=self._watch, name=f"watchdog-{loop}", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()

    def beat(self) -> None:
        """Say that the loop has gone round."""
        self._went_round.set()

    def _watch(self) -> None:
        still_s = 0.0
        while not self._stopping.wait(self._period_s):
            still_s = 0.0 if self._went_round.is_set() else still_s + self._period_s
            self._went_round.clear()
            if still_s >= self._limit_s:
                log.critical("loop_hangs", loop=self._loop, for_s=round(still_s, 3))
                self._end()
                return

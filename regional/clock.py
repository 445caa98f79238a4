"""Notices when the wall clock is set: what was timed by it must begin anew."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_S = 2.0


class Clock:
    """Wall time, held against a clock that nobody sets.

    Rounds close at a wall time that hospitals and wristbands know too, so the coordinator must
    follow its wall clock when that is set, and still end every wait.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._steady = wall, steady
        self._offset = wall() - steady()

    def stepped_s(self) -> float:
        """Seconds by which the wall clock was set since the last look; 0.0 below 2 s."""
        offset = self._wall() - self._steady()
        step = offset - self._offset
        self._offset = offset
        return step if abs(step) >= STEP_S else 0.0

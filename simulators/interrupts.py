"""Ctrl-C that is not lost.

Python drops a KeyboardInterrupt that is raised in a destructor or a weak reference's callback, such
as those of the import system; who waits for long looks again at whether one came.
"""

from __future__ import annotations

import signal
from types import FrameType


class Interrupts:
    """Notes SIGINT from now on, and raises as Python does; made in the main thread."""

    def __init__(self) -> None:
        self._came = False
        signal.signal(signal.SIGINT, self._note)

    def look(self) -> None:
        """Raise KeyboardInterrupt if one ever came."""
        if self._came:
            raise KeyboardInterrupt

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt

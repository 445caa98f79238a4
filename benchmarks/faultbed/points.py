"""Points at which a process stands still or dies: files in one folder, seen from both sides.

A point is ``{process}.{moment}``, such as ``rank-harbour.mid-allreduce``.  The benchmark arms it;
the first process that comes by takes it, says so, and waits there until it is released, or kills
itself.  A process that is killed there and started again finds nothing armed.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

VARIABLE = "PULSERING_FAULTBED"
PROCESS_VARIABLE = "PULSERING_FAULTBED_PROCESS"
POLL_S = 0.005
ENTER_TIMEOUT_S = 10.0
DEADLY = "SIGKILL"


class Points:
    """The points that lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = self._folder = folder
        for name in ("armed", "reached", "released", "entered"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    # ------------------------------------------------------------ the benchmark's side

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find the folder."""
        return {VARIABLE: str(self._folder)}

    def arm(self, point: str, *, deadly: bool = False) -> None:
        """Let the next process that comes by stand still, or with `deadly` send itself SIGKILL."""
        for state in ("reached", "released"):
            (self._folder / state / point).unlink(missing_ok=True)
        scratch = self._folder / f"{point}.part"
        scratch.write_text(DEADLY if deadly else "")
        scratch.replace(self._folder / "armed" / point)

    def reached(self, point: str) -> bool:
        """Whether a process stands, or stood, at `point` since it was armed."""
        return (self._folder / "reached" / point).exists()

    def release(self, point: str) -> None:
        """Let it go on; harmless when nobody stands there."""
        (self._folder / "armed" / point).unlink(missing_ok=True)
        (self._folder / "released" / point).touch()

    def fatten(self, round_id: int, num_values: int) -> None:
        """Let every rank's vector of that round be longer by `num_values` zeros."""
        scratch = self._folder / "fat.part"
        scratch.write_text(f"{round_id} {num_values}")
        scratch.replace(self._folder / "fat")

    # ------------------------------------------------------------ the process's side

    def come_by(self, point: str) -> None:
        """Stand still, or die, here if it is armed."""
        if not self.take(point):
            return
        if (self._folder / "reached" / point).read_text() == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        while not (self._folder / "released" / point).exists():
            time.sleep(POLL_S)

    def is_armed(self, point: str) -> bool:
        """Whether a process is to stand still here."""
        return (self._folder / "armed" / point).exists()

    def take(self, point: str) -> bool:
        """Say that this process is here, if it is armed, and go on."""
        armed = self._folder / "armed" / point
        if not armed.exists():
            return False
        try:
            armed.rename(self._folder / "reached" / point)
        except FileNotFoundError:  # another process was faster
            return False
        return True

    def enter(self, collective: str, member: str) -> None:
        """Note that `member` is about to enter a collective."""
        (self._folder / "entered" / f"{collective}-{member}").touch()

    def await_others(self, collective: str, members: tuple[str, ...]) -> None:
        """Wait, not for ever, until all of `members` are in the collective."""
        files = [self._folder / "entered" / f"{collective}-{member}" for member in members]
        deadline = time.monotonic() + ENTER_TIMEOUT_S
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        time.sleep(0.1)  # from the note to the first byte on the wire

    def fat_values(self, round_id: int) -> int:
        """By how many values the vectors of that round are to be longer."""
        try:
            fat_round, num_values = (self._folder / "fat").read_text().split()
        except FileNotFoundError:
            return 0
        return int(num_values) if int(fat_round) == round_id else 0


def points_of_this_process() -> Points:
    """Those that the environment names."""
    return Points(Path(os.environ[VARIABLE]))

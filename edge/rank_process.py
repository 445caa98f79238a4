"""The edge node's side of its rank: spawn, watch, kill, spawn again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

import structlog

from common.config import environment_without_secrets
from common.errors import ContractError
from edge.rank_protocol import MAX_LINE, Event, Join, Joined, Warm, line, parse_event

ROOT = Path(__file__).resolve().parent.parent
FIRST_BACKOFF_S = 1.0
MAX_BACKOFF_S = 30.0
RankState = Literal["starting", "warm", "joined", "lost"]

log = structlog.get_logger()


@dataclass(frozen=True)
class Said:
    """What the rank with that process id said."""

    pid: int
    event: Event


@dataclass(frozen=True)
class Died:
    """The rank with that process id is gone; `code` as `subprocess` tells it."""

    pid: int
    code: int


class RankProcess:
    """One rank at a time, as a child process that may be lost at any moment.

    One that says what is no event is killed: what it computes is not to be relied on.

    Parameters
    ----------
    python : str
        Interpreter that has torch and Horovod.
    hear : callable
        Called with `Said` and `Died` from the reading thread; hand them to `heard` in the owner's.
    """

    def __init__(self, python: str, hear: Callable[[Said | Died], None]) -> None:
        self._python = python
        self._hear = hear
        self._child: subprocess.Popen[str] | None = None
        self._backoff_s = 0.0
        self._lost_at = 0.0
        self.state: RankState = "lost"
        self.generation = 0
        self.num_starts = 0

    @property
    def pid(self) -> int:
        """Process id; 0 while there is none."""
        return self._child.pid if self._child else 0

    def tick(self, now: float) -> None:
        """Spawn when there is no rank and it is time."""
        if self._child is None and not 0 <= now - self._lost_at < self._backoff_s:
            self._start(now)

    def heard(self, news: Said | Died, now: float) -> bool:
        """Follow the rank's state; false for news of an earlier rank."""
        if self._child is None or news.pid != self._child.pid:
            return False
        if isinstance(news, Died):
            self._lose(now)
        elif isinstance(news.event, Warm):
            self.state, self._backoff_s = "warm", 0.0
        elif isinstance(news.event, Joined):
            self.state = "joined"
        return True

    def join(self, command: Join) -> None:
        """Send the rank into a ring, or around the one it is in."""
        if self._child is None or self._child.stdin is None:
            return
        self.generation = command.plan.generation
        try:
            self._child.stdin.write(line(command))
            self._child.stdin.flush()
        except OSError as fault:  # it died; the reading thread says so
            log.warning("rank_deaf", error=str(fault))

    def kill(self) -> None:
        """Kill the rank and wait for its end; the next `tick` spawns another."""
        child, self._child = self._child, None
        self.state, self.generation, self._backoff_s = "lost", 0, 0.0
        if child is not None:
            child.kill()
            child.wait(timeout=10)

    def _spawn(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = environment_without_secrets() | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        # A process group of its own: Ctrl-C in a terminal is for the edge node, which ends its rank.
        return subprocess.Popen(
            [self._python, "-m", "edge.rank"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            errors="replace",
            env=environment,
            process_group=0,
        )

    def _start(self, now: float) -> None:
        try:
            child = self._spawn()
        except OSError as fault:  # no such interpreter, or no process to be had
            log.error("rank_not_started", python=self._python, error=str(fault))
            self.state = "starting"
            self._lose(now)
            return
        self._child, self.state, self.generation = child, "starting", 0
        self.num_starts += 1
        Thread(target=self._listen, args=(child,), name="rank-reader", daemon=True).start()
        log.info("rank_started", pid=child.pid)

    def _listen(self, child: subprocess.Popen[str]) -> None:
        with child:  # closes its pipes and waits for its end
            try:
                while child.stdout and (text := child.stdout.readline(MAX_LINE)):
                    self._hear(Said(child.pid, parse_event(text)))
            except ContractError as fault:
                log.error("rank_unintelligible", error=fault.message)
                child.kill()
        self._hear(Died(child.pid, child.returncode))

    def _lose(self, now: float) -> None:
        if self.state == "starting":
            self._backoff_s = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, 2 * self._backoff_s))
        self._child, self.state, self.generation = None, "lost", 0
        self._lost_at = now

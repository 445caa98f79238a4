"""The edge node's side of its rank: the keeper that forks it, what both say, their ends."""

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
from edge.rank_protocol import (
    MAX_LINE,
    Event,
    Join,
    Joined,
    Lost,
    Renew,
    Warm,
    line,
    parse_event,
)

ROOT = Path(__file__).resolve().parent.parent
FIRST_BACKOFF_S = 1.0
RENEWAL_S = 5.0
MAX_BACKOFF_S = 30.0
# glibc gives large arrays back to the system when they are freed; to have their pages
# anew in each round takes a rank longer than packing and unpacking.  What is kept is one round's.
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 << 30)}
RankState = Literal["starting", "warm", "joined", "lost"]

log = structlog.get_logger()


@dataclass(frozen=True)
class Said:
    """What the keeper with that process id, or a rank of its, said."""

    pid: int
    event: Event


@dataclass(frozen=True)
class Died:
    """The keeper with that process id is gone; `code` as `subprocess` tells it."""

    pid: int
    code: int


class RankProcess:
    """One rank at a time, which may be lost at any moment, and the keeper that forks it.

    A keeper that says what is no event, or does not renew its rank in time, is killed, and its rank
    with it: what it computes is not to be relied on.

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
        self._renewed_at: float | None = None
        self.state: RankState = "lost"
        self.pid = 0
        self.generation = 0
        self.num_starts = 0

    @property
    def keeper_pid(self) -> int:
        """Process id of the keeper; 0 while there is none."""
        return self._child.pid if self._child else 0

    def tick(self, now: float) -> None:
        """Spawn a keeper when there is none and it is time; end one that does not obey."""
        since = self._renewed_at
        if since is not None and not 0 <= now - since < RENEWAL_S:
            log.warning("keeper_deaf", pid=self.keeper_pid)
            self.kill()
        if self._child is None and not 0 <= now - self._lost_at < self._backoff_s:
            self._start(now)

    def heard(self, news: Said | Died, now: float) -> bool:
        """Follow the rank's state; false for news of an earlier keeper."""
        if self._child is None or news.pid != self._child.pid:
            return False
        if isinstance(news, Died):
            self._lose(now)
            return True
        match news.event:
            case Warm(pid=pid):
                self.num_starts += self.pid != 0
                self.state, self.pid, self.generation = "warm", pid, 0
                self._backoff_s, self._renewed_at = 0.0, None
            case Lost():
                self.state, self.generation = "lost", 0
            case Joined():
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

    def renew(self, now: float) -> None:
        """Have the rank killed and another one started, with its generation given up."""
        if self._child is None or self._child.stdin is None or self._renewed_at is not None:
            return
        self.state, self.generation, self._renewed_at = "starting", 0, now
        try:
            self._child.stdin.write(line(Renew(pid=self.pid)))
            self._child.stdin.flush()
        except OSError as fault:  # it died; the reading thread says so
            log.warning("keeper_deaf", error=str(fault))

    def kill(self) -> None:
        """Kill keeper and rank, wait for the keeper's end; the next `tick` spawns another."""
        child, self._child = self._child, None
        self.state, self.pid, self.generation, self._backoff_s = "lost", 0, 0, 0.0
        self._renewed_at = None
        if child is not None:
            child.kill()
            child.wait(timeout=10)

    def _spawn(self) -> subprocess.Popen[str]:
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = environment_without_secrets() | {
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
            **KEEP_MEMORY,
        }
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
            self._lose(now)
            return
        self._child, self.state, self.pid, self.generation = child, "starting", 0, 0
        self.num_starts += 1
        Thread(target=self._listen, args=(child,), name="rank-reader", daemon=True).start()
        log.info("keeper_started", pid=child.pid)

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
        if self.pid == 0:
            self._backoff_s = min(MAX_BACKOFF_S, max(FIRST_BACKOFF_S, 2 * self._backoff_s))
        self._child, self.state, self.pid, self.generation = None, "lost", 0, 0
        self._lost_at, self._renewed_at = now, None

"""What is done to a soaked region: a fault each time, in an order that a seed decides."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.faultbed.region import send
from benchmarks.soakbed.bed import FLEET, MORTAL, STEADY, Bed
from common.errors import PulseRingError
from simulators.local_region import edge_name, fetch_json
from simulators.supervisor import one_thread, python_module

ALWAYS = (
    "kill edge node",
    "stop edge node",
    "kill rank",
    "stop rank",
    "kill coordinator",
    "stop coordinator",
    "kill broker",
    "repeat messages",
    "malformed messages",
    "revoke wristbands",
)
WITH_CABLE = ("cut wristbands",)
AWAY_S = (3.0, 15.0)
NUM_LETTERS = 400
NUM_REVOKED = 5
REVOKED_S = (10.0, 50.0)
HARMLESS_STARTS = 1


@dataclass(frozen=True)
class Done:
    """A fault at `at` (seconds of the steady clock), to be undone at `undo_at`."""

    what: str
    whom: str
    at: float
    undo_at: float = 0.0
    undo: Callable[[], None] = lambda: None


def kinds(*, can_cut: bool) -> tuple[str, ...]:
    """What can be done here."""
    return ALWAYS + (WITH_CABLE if can_cut else ())


def deck(among: Sequence[str], rng: np.random.Generator) -> Iterator[str]:
    """Kinds in random order, each once before any comes again."""
    while True:
        yield from (among[i] for i in rng.permutation(len(among)))


class Harm:
    """Brings faults about, one at a time."""

    def __init__(self, bed: Bed, rng: np.random.Generator) -> None:
        self._bed = bed
        self._rng = rng
        self._deck = deck(kinds(can_cut=bed.cable is not None), rng)

    def strike(self) -> Done:
        """Do the next fault of the deck."""
        self._forget_deaths()
        what = next(self._deck)
        verb, _, victim = what.partition(" ")
        match victim:
            case "edge node":
                whom = self._one_of(MORTAL if verb == "kill" else (*MORTAL, STEADY))
                return self._signal(what, whom, self._bed.region.supervisor[edge_name(whom)].pid)
            case "rank":
                whom = self._one_of((*MORTAL, STEADY))
                return self._signal(what, whom, self._rank_pid(whom))
            case "coordinator":
                return self._signal(what, "", self._bed.region.supervisor["region"].pid)
            case "broker":
                return self._end_broker(what)
            case "wristbands":
                return self._revoke(what) if verb == "revoke" else self._cut(what)
            case _:
                return self._speak(what)

    def _one_of(self, names: Sequence[str]) -> str:
        return names[int(self._rng.integers(len(names)))]

    def _away_s(self, bounds: tuple[float, float] = AWAY_S) -> float:
        return float(self._rng.uniform(*bounds))

    def _rank_pid(self, hospital: str) -> int:
        report = fetch_json(f"{self._bed.region.health_urls[hospital]}/healthz") or {}
        return int(report.get("rank", {}).get("pid", 0))

    def _signal(self, what: str, whom: str, pid: int) -> Done:
        now = time.monotonic()
        if what.startswith("kill"):
            send(pid, signal.SIGKILL)
            return Done(what, whom, now)
        send(pid, signal.SIGSTOP)
        return Done(what, whom, now, now + self._away_s(), partial(send, pid, signal.SIGCONT))

    def _end_broker(self, what: str) -> Done:
        """End it with its child, as mosquitto is one; who keeps the processes starts it again."""
        pid = self._bed.region.supervisor["broker"].pid
        if pid:
            os.killpg(pid, signal.SIGKILL)
        return Done(what, "", time.monotonic())

    def _cut(self, what: str) -> Done:
        cable, now = self._bed.cable, time.monotonic()
        if cable is None:
            return Done(what, "nobody", now)
        cable.cut(FLEET)
        return Done(what, "", now, now + self._away_s(), partial(cable.mend, FLEET))

    def _revoke(self, what: str) -> Done:
        """Withdraw the consent of some wristbands of a hospital, and give it again later."""
        hospital = self._one_of((*MORTAL, STEADY))
        roster = self._bed.region.plan.roster[hospital]
        chosen = self._rng.choice(len(roster), size=min(NUM_REVOKED, len(roster)), replace=False)
        devices = [roster[int(number)][0] for number in chosen]
        self._order(hospital, "revoke", devices)
        undo_at = time.monotonic() + self._away_s(REVOKED_S)
        undo = partial(self._order, hospital, "readmit", devices)
        return Done(what, hospital, time.monotonic(), undo_at, undo)

    def _order(self, hospital: str, command: str, devices: Sequence[str]) -> None:
        config = str(self._bed.region.config_path(edge_name(hospital)))
        line = python_module("edge", command, *devices, "--config", config)
        done = subprocess.run(line, capture_output=True, text=True, env=one_thread(), check=False)
        if done.returncode:
            raise PulseRingError(f"edge {command}: {done.stderr.strip()[-500:]}")

    def _speak(self, what: str) -> Done:
        crowd, now = self._bed.crowd, time.monotonic()
        say = crowd.repeat if what.startswith("repeat") else crowd.babble
        return Done(what, f"{say(NUM_LETTERS, self._rng)} of them", now)

    def _forget_deaths(self) -> None:
        """Let the supervisor count starts anew: deaths are the purpose here."""
        for name in ("broker", *self._bed.region.processes):
            self._bed.region.supervisor[name].starts = HARMLESS_STARTS

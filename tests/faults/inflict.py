"""Brings a schedule's faults about in a running region, and undoes them."""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import psutil

from benchmarks.faultbed.region import send
from common.errors import ConfigError
from edge.ledger import Consent, Ledger
from simulators.local_region import edge_name
from tests.faults.proxy import Weather
from tests.faults.region import FaultRegion
from tests.faults.schedule import Fault, Schedule
from tests.faults.wristbands import CALM, Wristbands

FILLER = "filler"
BLOCKS = (1 << 20, 1 << 12)
Undo = Callable[[], None]


class Inflictor:
    """Carries schedules out, one after the other.

    Attributes
    ----------
    counts : Counter of str
        What was brought about so far, by kind; a point only if somebody died there.
    """

    def __init__(self, region: FaultRegion, bands: Wristbands) -> None:
        self.counts: Counter[str] = Counter()
        self._region = region
        self._bands = bands

    def carry_out(self, schedule: Schedule) -> float:
        """Do all of it, undo all of it, and say when all was well again, in seconds since 1970."""
        began, order = time.monotonic(), itertools.count()
        self._bands.behave(schedule.habits)
        armed = [f"{f.target}.{f.value}" for f in schedule.faults if f.kind == "point"]
        due = [(f.at_s, next(order), self._starter(f)) for f in schedule.faults]
        heapq.heapify(due)
        while due:
            if due[0][0] <= time.monotonic() - began:
                at_s, _, deed = heapq.heappop(due)
                lasting = deed()
                if lasting:
                    heapq.heappush(due, (at_s + lasting[0], next(order), lasting[1]))
            self._region.supervisor.revive()
            time.sleep(self._region.POLL_S)
        self._bands.behave(CALM)
        self.counts["point"] += sum(self._region.points.reached(name) for name in armed)
        for name in armed:
            self._region.points.release(name)
        return time.time()

    def _starter(self, fault: Fault) -> Callable[[], tuple[float, Undo] | None]:
        def start() -> tuple[float, Undo] | None:
            self.counts[fault.kind] += fault.kind != "point"
            undo = self._begin(fault)
            return (fault.for_s, undo) if undo else None

        return start

    def _begin(self, fault: Fault) -> Undo | None:
        region, value = self._region, fault.value
        match fault.kind:
            case "kill":
                return self._kill(fault)
            case "point":
                region.points.arm(f"{fault.target}.{value}", deadly=True)
            case "stop":
                return self._stop(fault.target)
            case "clock":
                region.set_clock(fault.target, float(value))
                return lambda: region.set_clock(fault.target, 0.0)
            case "storm":
                self._bands.storm(fault.target, int(value))
            case "rubbish":
                self._bands.send_rubbish(fault.target)
            case "overflow":
                undo = self._stop(edge_name(fault.target))
                self._bands.storm(fault.target, int(value))
                return undo
            case "fill disk":
                return fill(region.state_dir(fault.target))
            case "revoke":
                return self._revoke(region.state_dir(edge_name(fault.target)), str(value))
            case _:
                return self._weather(fault)
        return None

    def _weather(self, fault: Fault) -> Undo | None:
        link, value = self._region.links[fault.target], fault.value
        match fault.kind:
            case "cut":
                link.cut()
            case "reset":
                link.reset()
                return None
            case "half-close":
                link.half_close(towards_broker=value == "to broker")
                return None
            case "stall":
                link.weather = Weather(stalled=True)
            case "delay":
                link.weather = Weather(delay_s=float(value))
            case "throttle":
                link.weather = Weather(bytes_per_s=float(value))
        return link.clear

    def _kill(self, fault: Fault) -> Undo | None:
        supervisor, target = self._region.supervisor, fault.target
        if target.startswith(("rank-", "keeper-")):
            send(self._pid(target), signal.SIGKILL)
            return None
        supervisor.kill(target, hold=fault.for_s > 0)
        return (lambda: supervisor.release(target)) if fault.for_s else None

    def _revoke(self, state_dir: Path, device: str) -> Undo:
        """Withdraw a wearer's consent as an operator's command does, and give it again."""
        decide(state_dir, device, "revoked")
        return lambda: decide(state_dir, device, "given")

    def _stop(self, target: str) -> Undo:
        pid = self._pid(target)
        send(pid, signal.SIGSTOP)
        return lambda: send(pid, signal.SIGCONT)

    def _pid(self, target: str) -> int:
        """Of a process of the region, or the keeper or rank below an edge node; 0 for none."""
        kind, _, hospital = target.partition("-")
        if kind not in ("rank", "keeper"):
            return self._region.supervisor[target].pid
        edge = self._region.supervisor[edge_name(hospital)].pid
        with suppress(psutil.Error):
            keepers = psutil.Process(edge).children() if edge else []
            found = [r for k in keepers for r in k.children()] if kind == "rank" else keepers
            return found[0].pid if found else 0
        return 0


def decide(state_dir: Path, device: str, consent: Consent) -> None:
    """Write an operator's word into an edge node's ledger, beside it; a full disk takes none."""
    with (
        suppress(sqlite3.Error, ConfigError),
        closing(Ledger(state_dir)) as ledger,
        ledger.transaction(),
    ):
        ledger.decide(device, consent, "fault rig", time.time())


def fill(folder: Path) -> Undo:
    """Fill the disk that `folder` lies on, to the last block."""
    path = folder / FILLER
    handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for block in BLOCKS:
            with suppress(OSError):
                while True:
                    os.write(handle, bytes(block))
    finally:
        os.close(handle)
    return lambda: path.unlink(missing_ok=True)

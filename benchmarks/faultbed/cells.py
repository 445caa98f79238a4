"""The cells of the fault table, and how one is brought about."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from benchmarks.faultbed.region import BedRegion, process_of, send
from common.errors import ConfigError

VICTIMS = ("rank", "edge node", "coordinator")
MOMENTS = (
    "before-init",
    "mid-allreduce",
    "before-prepare",
    "after-prepare",
    "before-commit",
    "after-commit",
)
FAULTS = ("kill", "stop", "hang", "cut")
MORE = (("rank", "mid-transfer"), ("keeper", "mid-allreduce"), ("keeper", "after-commit"))
AWAY_S = 10.0
STAND_TIMEOUT_S = 60.0
FAT_VALUES = 8 << 20
ROUNDS_AHEAD = 3
INTO_TRANSFER_S = 0.1
_OF_COORDINATOR = ("after-prepare", "before-commit", "after-commit")


@dataclass(frozen=True)
class Cell:
    """One fault, of one process, at one moment.

    A rank shares its edge node's cable, so that there is no cut of a rank alone.
    """

    fault: str
    victim: str
    moment: str

    @property
    def name(self) -> str:
        """Such as ``kill of a rank, mid-allreduce``."""
        return f"{self.fault} of {self.victim}, {self.moment}"


def all_cells(*, can_cut: bool) -> list[Cell]:
    """The whole table; then a rank lost in the midst of 64 MiB, and the keeper that forks ranks."""
    cells = [
        Cell(fault, victim, moment)
        for fault, victim, moment in product(FAULTS, VICTIMS, MOMENTS)
        if fault != "cut" or (can_cut and victim != "rank")
    ]
    more = product(("kill", "stop"), MORE)
    return [*cells, *(Cell(fault, victim, moment) for fault, (victim, moment) in more)]


@dataclass(frozen=True)
class Stage:
    """Who is harmed in a region, and who stands still so that it happens at the right moment."""

    region: BedRegion
    hospital: str
    other: str

    def own_point(self, cell: Cell) -> str | None:
        """Where the victim itself passes at that moment."""
        if cell.victim == "rank":
            own = cell.moment not in _OF_COORDINATOR
            return f"rank-{self.hospital}.{cell.moment}" if own else None
        if cell.victim == "edge node":
            own = cell.moment in ("before-init", "before-prepare")
            return f"edge-{self.hospital}.{cell.moment}" if own else None
        own = cell.victim == "coordinator" and cell.moment in ("before-init", *_OF_COORDINATOR)
        return f"region.{cell.moment}" if own else None

    def holding_point(self, cell: Cell) -> str:
        """Where another process is held, so that the region is at that moment."""
        if cell.moment in _OF_COORDINATOR:
            return f"region.{cell.moment}"
        hospital = self.hospital if cell.victim in ("edge node", "keeper") else self.other
        return f"rank-{hospital}.{cell.moment}"

    def turn_of(self, cell: Cell) -> str:
        """Where the victim passes at any moment."""
        names = {"rank": f"rank-{self.hospital}", "edge node": f"edge-{self.hospital}"}
        return f"{names.get(cell.victim, 'region')}.turn"

    def pid(self, cell: Cell) -> int:
        """The victim's process id."""
        if cell.victim in ("rank", "keeper"):
            which = "pid" if cell.victim == "rank" else "keeper_pid"
            return self.region.rank_pid(self.hospital, which)
        return self.region.supervisor[process_of(cell.victim, self.hospital)].pid


@dataclass(frozen=True)
class Struck:
    """A fault that was brought about at `at` and is to be undone at `undo_at`.

    `hung` is the point at which the victim stands for ever.
    """

    at: float
    undo_at: float = 0.0
    undo: Callable[[], None] = lambda: None
    hung: str | None = None


def strike(stage: Stage, cell: Cell) -> Struck:
    """Bring the region to the cell's moment and harm the victim there.

    Raises
    ------
    QuorumError
        When the moment does not come.
    """
    region = stage.region
    point = stage.own_point(cell) or stage.holding_point(cell)
    if cell.moment == "mid-transfer":
        region.points.fatten(region.status()["round_id"] + ROUNDS_AHEAD, FAT_VALUES)
    region.points.arm(point)
    if cell.moment == "before-init":  # no round needs a new ring while the old one lives
        send(region.rank_pid(stage.other), signal.SIGKILL)
    _await_point(region, point)
    if cell.moment == "mid-transfer":  # nobody stands here
        time.sleep(INTO_TRANSFER_S)
    if cell.fault == "hang":
        return _hang(stage, cell, point)
    struck = _cut(stage, cell) if cell.fault == "cut" else _signal(stage, cell)
    region.points.release(point)
    return struck


def _signal(stage: Stage, cell: Cell) -> Struck:
    pid, at = stage.pid(cell), time.time()
    if cell.fault == "kill":
        send(pid, signal.SIGKILL)
        return Struck(at)
    send(pid, signal.SIGSTOP)
    return Struck(at, at + AWAY_S, lambda: send(pid, signal.SIGCONT))


def _cut(stage: Stage, cell: Cell) -> Struck:
    network, at = stage.region.network, time.time()
    if network is None:
        raise ConfigError("without namespaces no network can be cut")
    name = "region" if cell.victim == "coordinator" else stage.hospital
    network.cut(name)
    return Struck(at, at + AWAY_S, lambda: network.mend(name))


def _hang(stage: Stage, cell: Cell, point: str) -> Struck:
    """Let the victim's working thread stand for ever; all its other threads go on."""
    if point == stage.own_point(cell):
        return Struck(time.time(), hung=point)
    points, turn = stage.region.points, stage.turn_of(cell)
    points.arm(turn)
    if cell.victim == "rank":  # its next turn is the next round's
        points.release(point)
    _await_point(stage.region, turn)
    at = time.time()
    points.release(point)
    return Struck(at, hung=turn)


def _await_point(region: BedRegion, point: str) -> None:
    region.wait(lambda: region.points.reached(point), STAND_TIMEOUT_S, point)

"""Kills a process at one numbered point, bringing it there first."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass

from benchmarks.faultbed.region import send
from edge.ledger import Consent
from simulators.local_region import edge_name
from tests.faults.inflict import decide
from tests.faults.region import FaultRegion
from tests.faults.table import Point
from tests.faults.wristbands import Wristbands

COME_BY_S = 40.0
POKE_S = 8.0
NUM_NONSENSE = 6


@dataclass(frozen=True)
class Struck:
    """A process that died at a point at `at`, seconds since 1970."""

    process: str
    at: float


class Striker:
    """Brings processes to points."""

    def __init__(self, region: FaultRegion, bands: Wristbands) -> None:
        self._region = region
        self._bands = bands

    def kill_at(self, point: Point, hospital: str) -> Struck:
        """Arm a point, do what it needs, and wait until the process has died there.

        Parameters
        ----------
        hospital : str
            Whose edge node or rank; the ring's first when the point asks for that.

        Raises
        ------
        QuorumError
            When nobody comes by within `COME_BY_S`.
        """
        region = self._region
        if point.first:
            hospital = region.hospitals[0]
        name = self.arm(point, hospital)
        poked_at = float("-inf")

        def come_by() -> bool:
            nonlocal poked_at
            if not region.points.reached(name) and time.monotonic() > poked_at + POKE_S:
                self.provoke(point, hospital)
                poked_at = time.monotonic()
            return region.points.reached(name)

        try:
            region.wait(come_by, COME_BY_S, f"a process at {name}")
        finally:
            region.points.release(name)
            if point.needs == "revocation":
                self._decide(hospital, "given")
        return Struck(name, time.time())

    def arm(self, point: Point, hospital: str) -> str:
        """Let the next process that comes by die; its name among the armed points."""
        process = {"edge": edge_name(hospital), "rank": f"rank-{hospital}", "coordinator": "region"}
        name = f"{process[point.process]}.{point.name}"
        self._region.points.arm(name, deadly=True)
        return name

    def provoke(self, point: Point, hospital: str) -> None:
        """Do once what a process needs to come by; called again when that was not enough."""
        region = self._region
        process = "region" if point.process == "coordinator" else edge_name(hospital)
        match point.needs:
            case "bad message":
                self._bands.send_rubbish(hospital)
            case "nonsense":
                for _ in range(NUM_NONSENSE):
                    self._bands.send_rubbish(hospital)
            case "revocation":
                self._decide(hospital, "revoked")
            case "restart":
                region.supervisor.kill(process)
            case "order to end":
                send(region.supervisor[process].pid, signal.SIGTERM)
            case "new ring":
                send(region.rank_pid(self._other(hospital)), signal.SIGKILL)
            case "absence":
                self._absence(hospital)
            case "failed round":
                self._failed_round(hospital)

    def _decide(self, hospital: str, consent: Consent) -> None:
        device, _ = self._region.plan.roster[hospital][0]
        decide(self._region.state_dir(edge_name(hospital)), device, consent)

    def _other(self, hospital: str) -> str:
        return next(name for name in region_order(self._region, hospital) if name != hospital)

    def _absence(self, hospital: str) -> None:
        """Keep an edge node away, with updates that wait, until rounds were committed without it."""
        region, process = self._region, edge_name(hospital)
        region.supervisor[process].held = True
        at = time.time()
        try:
            self._let_die(f"{process}.freeze.told")
            region.wait(
                lambda: len(region.book.read().committed(at)) >= 3, COME_BY_S, "rounds without it"
            )
        finally:
            region.supervisor.kill(process)
            region.supervisor.release(process)

    def _failed_round(self, hospital: str) -> None:
        """Break rings until a round ends without a commit, so that its updates wait on."""
        region, at = self._region, time.time()
        for _ in range(region.plan.rounds["max_generations"]):
            self._let_die(f"rank-{self._other(hospital)}.rank.unsummed")
        region.wait(
            lambda: len(region.book.read().ended(at)) > len(region.book.committed(at)),
            COME_BY_S,
            "a failed round",
        )

    def _let_die(self, name: str) -> None:
        self._region.points.arm(name, deadly=True)
        self._region.wait(lambda: self._region.points.reached(name), COME_BY_S, name)


def region_order(region: FaultRegion, first: str) -> list[str]:
    """Hospitals, beginning after `first`."""
    names = list(region.hospitals)
    start = names.index(first) + 1
    return names[start:] + names[:start]

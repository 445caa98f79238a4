"""The region of a soak: three hospitals, a whole fleet, and a cable to the fleet that can be cut."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.faultbed.bed import can_cut
from benchmarks.faultbed.ear import Ear
from benchmarks.faultbed.network import Network
from benchmarks.soakbed.crowd import Crowd
from common.ecg.sources import data_root, open_source
from simulators.local_region import LocalRegion, RegionPlan, Roster, edge_name

STEADY = "valley"
"""The hospital whose edge node is never ended: its memory is the figure."""
MORTAL = ("harbour", "north")
SHARES = {STEADY: 0.4, MORTAL[0]: 0.3, MORTAL[1]: 0.3}
FLEET = "fleet"
LEARNING = {"num_steps": 1, "batch_size": 8, "simulated": False}
ROUNDS = {
    "rounds_per_day": 30,
    "quorum": 2,
    "deadline_s": 60.0,
    "rejoin_s": 30.0,
    "round_pause_s": 5.0,
    "max_failed_rounds": 1000,
}
AWAY_AFTER_S = 15.0
MUTE_S = 90.0  # nonsense is sent in wristbands' names: they are heard again within the soak


@dataclass(frozen=True)
class Bed:
    """What runs: `cable` can be cut where this user may make network namespaces."""

    region: LocalRegion
    ear: Ear
    crowd: Crowd
    cable: Network | None

    @property
    def ledgers(self) -> dict[str, Path]:
        """Each hospital's ledger."""
        hospitals = self.region.plan.roster
        return {h: self.region.state_dir(edge_name(h)) / "ledger.sqlite" for h in hospitals}

    @property
    def book(self) -> Path:
        """The coordinator's ledger."""
        return self.region.state_dir("region") / "ledger.sqlite"


class SoakRegion(LocalRegion):
    """A `LocalRegion` whose edge nodes mute for a short time only."""

    def _edge_config(self, hospital: str, devices: Sequence[str]) -> dict[str, Any]:
        return super()._edge_config(hospital, devices) | {"mute_s": MUTE_S}


@contextmanager
def bed(num_wristbands: int, broker: str, seed: int, root: Path | None = None) -> Iterator[Bed]:
    """A running region; everything of it is gone afterwards, but for what lies in a given `root`.

    Parameters
    ----------
    num_wristbands : int
        At least 10.
    broker : str
        ``mosquitto``, ``iotcore`` or ``auto``.
    """
    with ExitStack() as stack:
        home = root or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        cable = Network([FLEET]) if can_cut() else None
        if cable:
            stack.callback(cable.close)
        region = SoakRegion(_plan(home, num_wristbands, broker, seed, cable))
        stack.callback(region.stop)
        region.start()
        ear = stack.enter_context(Ear(region.broker_url, region.plan.region))
        crowd = stack.enter_context(Crowd(region.broker_url, region.plan.region))
        yield Bed(region, ear, crowd, cable)


def roster_of(num_wristbands: int, wearers: Sequence[str]) -> Roster:
    """`num_wristbands` by `SHARES`, wearers dealt out again and again."""
    sizes = {hospital: round(share * num_wristbands) for hospital, share in SHARES.items()}
    sizes[STEADY] += num_wristbands - sum(sizes.values())
    numbers = iter(range(num_wristbands))
    return {
        hospital: [(f"wb-{n + 1:03d}", wearers[n % len(wearers)]) for n in islice(numbers, size)]
        for hospital, size in sizes.items()
    }


def _plan(
    root: Path, num_wristbands: int, broker: str, seed: int, cable: Network | None
) -> RegionPlan:
    source = open_source(data_root(None, os.environ))
    place: dict[str, Any] = {}
    if cable:
        place = {"before": {FLEET: cable.command(FLEET, [])}, "broker_host": cable.address}
    return RegionPlan(
        root=root,
        roster=roster_of(num_wristbands, source.train_names),
        data=data_root(None, os.environ),
        data_source=source.kind,
        seed=seed,
        workers=1,
        learning=LEARNING,
        rounds=ROUNDS,
        coordinator={"away_after_s": AWAY_AFTER_S},
        heartbeat_s=5.0,
        broker_kind=broker,
        **place,
    )

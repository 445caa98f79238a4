"""A region over several links: ``python -m benchmarks.groups_region``, its order as JSON on stdin.

It runs in the switch's namespace with broker, coordinator and wristbands; each edge node runs at
its site.  When all rounds are over it says what the coordinator recorded of them, as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.netns import INTERFACE, Place
from benchmarks.rounds_trail import Trail
from benchmarks.rounds_wristbands import Wristband, start_around, start_broker
from common.digest import Tensors
from common.errors import PulseRingError
from common.tasks.registry import get_task
from simulators.local_region import LocalRegion, RegionPlan, edge_name

TASK = "beats"
UPDATE_SCALE = 1e-3


@dataclass(frozen=True)
class Order:
    """What to run: a hospital at each of `sites`, `num_rounds` training rounds of one day.

    Everything that the processes leave lies in `folder`, which exists.
    """

    folder: str
    hub: str
    sites: tuple[str, ...]
    num_rounds: int
    with_groups: bool
    slow_factor: float
    min_gain_s: float
    timeout_s: float

    def encoded(self) -> str:
        """As `run` reads it."""
        return json.dumps(asdict(self))


def run(order: Order) -> list[dict[str, Any]]:
    """Go through the rounds and report them, as ``/rounds`` of the coordinator does.

    Raises
    ------
    PulseRingError
        When a process ends or the rounds are not over within ``timeout_s``.
    """
    with ExitStack() as stack:
        region = LocalRegion(_plan(order, Path(order.folder)))
        stack.callback(region.stop)
        region.configure()
        start_broker(region)
        wristbands = _wristbands(region)
        start_around(region, wristbands, stack)
        region.wait(
            partial(_is_over, region, order.num_rounds), order.timeout_s, "the end of all rounds"
        )
        faults = [fault for wristband in wristbands for fault in wristband.faults]
        if faults:
            raise PulseRingError(f"updates did not arrive as they were made: {faults[:3]}")
        return region.rounds()


def hospital(number: int) -> str:
    """Name of the hospital at a site."""
    return f"hospital-{number:02d}"


def _plan(order: Order, root: Path) -> RegionPlan:
    names = [hospital(number) for number in range(len(order.sites))]
    places = dict(zip(names, order.sites, strict=True))
    return RegionPlan(
        root=root,
        roster={name: [(f"wb-{name[-2:]}", name)] for name in names},
        task=TASK,
        rounds={"rounds_per_day": order.num_rounds, "num_days": 1, "round_pause_s": 0.0},
        groups={
            "enabled": order.with_groups,
            "slow_factor": order.slow_factor,
            "min_gain_s": order.min_gain_s,
        },
        coordinator={"rendezvous_host": order.hub, "interface": INTERFACE},
        before={edge_name(n): Place(place, "").command([]) for n, place in places.items()},
        broker_host=order.hub,
        heartbeat_s=5.0,
    )


def _wristbands(region: LocalRegion) -> list[Wristband]:
    initial = get_task(TASK).initial(0)
    return [
        Wristband(
            region.broker_url,
            region.plan.region,
            name,
            devices[0][0],
            partial(_update, initial, number),
            Trail(),
        )
        for number, (name, devices) in enumerate(region.plan.roster.items())
    ]


def _update(like: Tensors, number: int, round_id: int) -> Tensors:
    """Numbers as large as training makes them; what they say is of no account here."""
    rng = np.random.default_rng([number, round_id])
    return {
        name: rng.normal(0.0, UPDATE_SCALE, np.shape(tensor)).astype(np.float32)
        for name, tensor in like.items()
    }


def trained(report: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Committed training rounds of all that were in no slow group."""
    return [
        one
        for one in report
        if one["end"] == "committed" and one["purpose"] == "train" and not one["group"]
    ]


def _is_over(region: LocalRegion, num_rounds: int) -> bool:
    return len(trained(region.rounds())) >= num_rounds


def _ordered(text: str) -> Order:
    values: dict[str, Any] = json.loads(text)
    sites: Sequence[str] = values.pop("sites")
    return Order(**values, sites=tuple(sites))


if __name__ == "__main__":
    json.dump(run(_ordered(sys.stdin.read())), sys.stdout)

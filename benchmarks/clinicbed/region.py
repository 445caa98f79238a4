"""The region that a clinic is in: processes placed, rounds run, an idle time, all measured.

``python -m benchmarks.clinicbed.region`` reads its `Order` as JSON on stdin and writes what it
measured as JSON to stdout.  It runs in the switch's network, where broker, coordinator, object store
and the other hospitals' wristbands are; the clinic's own broker and wristbands are at its site.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.clinicbed import link
from benchmarks.clinicbed.cgroup import Group
from benchmarks.clinicbed.gauge import Gauge, Spoken
from benchmarks.clinicbed.store import Store
from benchmarks.netns import INTERFACE, Place
from benchmarks.rounds_wristbands import BROKER_TIMEOUT_S
from common import logs
from common.ecg.sources import data_root, open_source
from common.link import BrokerAddress
from simulators.broker import accepts_sessions
from simulators.local_region import LocalRegion, RegionPlan, Roster, edge_name
from simulators.supervisor import Managed

CLINIC = "clinic"
OTHERS = ("harbour", "north")
NUM_WRISTBANDS, NUM_OTHERS = 50, 3
OWN_BROKER = "mqtt://127.0.0.1:1883"
OWN_FLEET = f"fleet-{CLINIC}"
LEARNING = {"num_steps": 2, "batch_size": 16}
WAIT_FOR_EVER_S = 7 * 24 * 3600.0
START_TIMEOUT_S, ROUNDS_TIMEOUT_S = 240.0, 420.0
SETTLE_S = 10.0
PAUSE_S = 3.0


@dataclass(frozen=True)
class Order:
    """What to run; everything that the processes leave lies in `folder`, which exists.

    Attributes
    ----------
    sites : sequence of str
        Namespaces of the clinic and of the other hospitals.
    address : str
        Of the clinic's site.
    group, group_version : str, int
        The clinic's control group.
    cores : str
        Of edge node and rank, as ``taskset --cpu-list`` reads them.
    """

    folder: str
    hub: str
    sites: tuple[str, ...]
    address: str
    group: str
    group_version: int
    cores: str
    heartbeat_s: float
    ring_idle_s: float
    num_rounds: int
    idle_s: float

    def encoded(self) -> str:
        """As `ordered` reads it."""
        return json.dumps(asdict(self))


def ordered(text: str) -> Order:
    """An order from its JSON."""
    values: dict[str, Any] = json.loads(text)
    sites: Sequence[str] = values.pop("sites")
    return Order(**values, sites=tuple(sites))


class ClinicRegion(LocalRegion):
    """A region of a clinic and two other hospitals, whose mailbox is an object store over HTTP."""

    def __init__(self, order: Order, store: Store) -> None:
        self._mailbox = f"http://{order.hub}:{store.port}"
        super().__init__(_plan(order))

    @property
    def processes(self) -> tuple[str, ...]:
        """With the clinic's own fleet."""
        return (*super().processes, OWN_FLEET)

    def configure(self) -> None:
        """Write two fleets, each for its own broker."""
        super().configure()
        roster = self.plan.roster
        self.write_fleet("fleet", {name: roster[name] for name in OTHERS})
        self.write_fleet(OWN_FLEET, {CLINIC: roster[CLINIC]})

    def start_own_broker(self) -> Managed:
        """Start the clinic's own broker at its site."""
        host, _, port = OWN_BROKER.removeprefix("mqtt://").rpartition(":")
        place = ("--host", host, "--port", port, "--kind", self.plan.broker_kind)
        return self._run(f"broker-{CLINIC}", "simulators", "broker", *place)

    def fleet_config(self, roster: Roster) -> dict[str, Any]:
        """The clinic's wristbands speak with its own broker."""
        config = super().fleet_config(roster)
        if CLINIC in roster:
            config["hospitals"][CLINIC]["broker"] = OWN_BROKER
        return config

    def _edge_config(self, hospital: str, devices: Sequence[str]) -> dict[str, Any]:
        config = super()._edge_config(hospital, devices) | {"mailbox": self._mailbox}
        return config | ({"hospital_broker": OWN_BROKER} if hospital == CLINIC else {})


def run(order: Order) -> dict[str, Any]:
    """Go through the rounds and an idle time; return what was measured.

    Raises
    ------
    PulseRingError
        When a process ends, or the rounds are not over in time.
    """
    folder, site = Path(order.folder), Place(order.sites[0], order.address)
    with ExitStack() as stack:
        store = Store(order.hub, folder / "mailbox")
        stack.callback(store.stop)
        region = ClinicRegion(order, store)
        stack.callback(region.stop)
        region.configure()
        ports = {"broker": BrokerAddress.parse(region.broker_url).port, "mailbox": store.port}
        link.count_at(site, ports, folder / "link.nft")
        _start(region)
        edge_pid = region.supervisor[edge_name(CLINIC)].pid
        group = Group(Path(order.group), order.group_version)
        gauge = stack.enter_context(Gauge(edge_pid, group, site))
        spoken = stack.enter_context(Spoken(region.broker_url, region.plan.region, CLINIC))
        _go_through(region, order.num_rounds)
        return {
            "rounds": region.rounds(),
            "idle": _idle(region, gauge, spoken, order.idle_s),
            "course": gauge.course(),
            "peak_bytes": group.peak_bytes(),
            "num_killed": group.num_killed(),
        }


def _start(region: ClinicRegion) -> None:
    region.start_broker()
    region.start_own_broker()
    broker = BrokerAddress.parse(region.broker_url)
    region.wait(
        lambda: accepts_sessions(broker.host, broker.port), BROKER_TIMEOUT_S, "the broker's start"
    )
    for name in region.processes:
        region.start_process(name)


def _go_through(region: ClinicRegion, num_rounds: int) -> None:
    region.wait(region.rounds, START_TIMEOUT_S, "the first round")
    region.wait(
        lambda: region.status().get("phase") == "waiting_for_release",
        ROUNDS_TIMEOUT_S,
        f"{num_rounds} rounds and their seal",
    )


def _idle(region: ClinicRegion, gauge: Gauge, spoken: Spoken, seconds: float) -> dict[str, Any]:
    """Let nothing happen, and say from when to when and what was said on the region broker."""
    time.sleep(SETTLE_S)
    began, said_before = time.time(), spoken.so_far()
    region.wait(lambda: time.time() > began + seconds, seconds + 60.0, "the idle time's end")
    said = spoken.so_far()
    return {
        "began": began,
        "ended": time.time(),
        "said": {name: said[name] - num for name, num in said_before.items()},
    }


def _plan(order: Order) -> RegionPlan:
    source = open_source(data_root(None, os.environ))
    sites = dict(zip((CLINIC, *OTHERS), order.sites, strict=True))
    return RegionPlan(
        root=Path(order.folder),
        roster=_roster(source.train_names),
        data=data_root(None, os.environ),
        data_source=source.kind,
        workers=1,
        learning=LEARNING,
        rounds={
            "rounds_per_day": order.num_rounds,
            "num_days": 2,
            "quorum": len(sites),
            "round_pause_s": PAUSE_S,
            "ring_idle_s": order.ring_idle_s,
            "deadline_s": 120.0,
        },
        seal={"wait_for_release_s": WAIT_FOR_EVER_S},
        coordinator={
            "rendezvous_host": order.hub,
            "interface": INTERFACE,
            "away_after_s": max(60.0, 3 * order.heartbeat_s),
        },
        before=_places(order, sites),
        broker_host=order.hub,
        heartbeat_s=order.heartbeat_s,
    )


def _roster(wearers: Sequence[str]) -> Roster:
    sizes = {CLINIC: NUM_WRISTBANDS} | dict.fromkeys(OTHERS, NUM_OTHERS)
    return {
        hospital: [
            (f"wb-{hospital}-{n:02d}", wearers[n % len(wearers)]) for n in range(1, size + 1)
        ]
        for hospital, size in sizes.items()
    }


def _places(order: Order, sites: Mapping[str, str]) -> dict[str, list[str]]:
    """What comes before each process's command: its site, and the clinic's core and memory."""
    at = {hospital: Place(namespace, "").command([]) for hospital, namespace in sites.items()}
    group = Group(Path(order.group), order.group_version)
    places = {edge_name(hospital): command for hospital, command in at.items()}
    pinned = ["taskset", "--cpu-list", order.cores, *at[CLINIC]]
    return places | {
        edge_name(CLINIC): group.command(pinned),
        f"broker-{CLINIC}": at[CLINIC],
        OWN_FLEET: at[CLINIC],
    }


if __name__ == "__main__":
    logs.set_up("error", "console")  # stdout is for what was measured
    json.dump(run(ordered(sys.stdin.read())), sys.stdout)

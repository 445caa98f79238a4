"""A running region in which everything can be harmed: processes, links, clocks, broker, disk."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.faultbed.bed import ROSTER
from benchmarks.faultbed.books import RegionBook
from benchmarks.faultbed.region import BedRegion
from common.errors import ConfigError
from simulators.local_region import edge_name, fetch_json
from simulators.supervisor import Death, Managed, Supervisor, how_it_ended, one_thread
from tests.faults import brokers, clock
from tests.faults.brokers import IOTCORE, Broker
from tests.faults.proxy import Proxies, Proxy
from tests.faults.wristbands import Wristbands

HEARTBEAT_S = 0.5
AWAY_AFTER_S = 2.0
RESTART_S = 0.1
"""Before a process that ended by itself is started again, as systemd's RestartSec would."""
ROUNDS = {
    "rounds_per_day": 6,
    "num_days": 0,
    "deadline_s": 5.0,
    "grace_s": 0.5,
    "rejoin_s": 4.0,
    "ring_timeout_s": 6.0,
    "min_ring_timeout_s": 3.0,
    "round_pause_s": 0.15,
    "max_generations": 2,
    "max_failed_rounds": 1000,
}
WHOLE_S = 90.0
ANSWER_S = 10.0
MUTE_S = 2.0
KEEP_ROUNDS = 60
DISK_BYTES = 64 << 20
"""More than the write-ahead log of a ledger grows to: 1000 pages of 16 KiB."""


@dataclass(frozen=True)
class Surroundings:
    """What a region runs in and by which rules.

    Attributes
    ----------
    small_disk : str
        The hospital whose edge node has its state on a small disk; empty for none.
    """

    broker: Broker = IOTCORE
    small_disk: str = ""
    rounds: Mapping[str, Any] = field(default_factory=dict)
    learning: Mapping[str, Any] = field(default_factory=dict)


class Restarter(Supervisor):
    """Starts again whatever ended, whatever it died of, after `RESTART_S`: as systemd would.

    Attributes
    ----------
    odd_deaths : list of str
        Processes that ended by a fault of their own.
    """

    def __init__(self, log_dir: Path) -> None:
        super().__init__(log_dir)
        self.odd_deaths: list[str] = []

    def revive(self) -> list[Death]:
        """Start again what died since the last call."""
        deaths = []
        for managed in self._managed.values():
            ended = managed.process is not None and managed.process.poll() is not None
            if managed.held or not ended or time.monotonic() < managed.started_at + RESTART_S:
                continue
            code = managed.process.returncode if managed.process else 0
            if code > 0:
                self.odd_deaths.append(f"{managed.name} ended with {code}: {managed.tail(3)}")
            deaths.append(Death(managed.name, how_it_ended(code)))
            managed.start()
        return deaths


class FaultRegion(BedRegion):
    """A region of the dummy task behind proxies.

    Attributes
    ----------
    links : dict of str to Proxy
        ``region`` (coordinator to broker), ``edge-{hospital}-up`` (to the region broker),
        ``edge-{hospital}-down`` (to the hospital broker) and ``bands-{hospital}``.
    """

    STARTER = "tests.faults.process"

    def __init__(
        self, root: Path, proxies: Proxies, surroundings: Surroundings, seed: int = 0
    ) -> None:
        super().__init__(
            root, ROSTER, ROUNDS | dict(surroundings.rounds), away_after_s=AWAY_AFTER_S, seed=seed
        )
        learning = {**self.plan.learning, **surroundings.learning}
        self.plan = replace(self.plan, heartbeat_s=HEARTBEAT_S, learning=learning)
        self.surroundings = surroundings
        self.supervisor: Restarter = Restarter(root / "logs")
        self.book = RegionBook(self.state_dir("region") / "ledger.sqlite")
        names = ["region", *(f"bands-{h}" for h in ROSTER)]
        names += [f"{edge_name(h)}-{way}" for h in ROSTER for way in ("up", "down")]
        port = int(self.broker_url.rpartition(":")[2])
        self.links: dict[str, Proxy] = {name: proxies.add(port) for name in names}

    @property
    def processes(self) -> tuple[str, ...]:
        """Coordinator and edge nodes: the wristbands are this process's own."""
        return tuple(name for name in super().processes if name != "fleet")

    @property
    def hospitals(self) -> tuple[str, ...]:
        """Their names, in the order of the ring's ranks."""
        return tuple(sorted(self.plan.roster))

    def start_broker(self) -> Managed:
        """Start the broker of these surroundings."""
        kind = self.surroundings.broker
        if kind is IOTCORE:
            return super().start_broker()
        port = int(self.broker_url.rpartition(":")[2])
        order = brokers.command(kind, "127.0.0.1", port, self.plan.root / "broker")
        return self.supervisor.start("broker", order, one_thread())

    def await_whole_round(self, since: float, within_s: float = WHOLE_S) -> float:
        """Wait for a round of all hospitals that opened and was committed after `since`.

        Returns
        -------
        float
            When it was committed.

        Raises
        ------
        QuorumError
            When none comes.
        """
        everyone = set(self.plan.roster)

        def found() -> float:
            for entry in reversed(self.book.read().committed(since)):
                outcome = entry.body["outcome"]
                if entry.body["opened_at"] > since and set(outcome["aggregates"]) == everyone:
                    return entry.at
            return 0.0

        return float(self.wait(found, within_s, "a round of all hospitals"))

    def set_clock(self, process: str, offset_s: float) -> None:
        """Set a process's wall clock ahead of the true one."""
        clock.shift(self.points.folder, process, offset_s)

    def write_last_day(self) -> None:
        """Write a configuration by which the coordinator's current day is its last."""
        self.plan = replace(self.plan, rounds={**self.plan.rounds, "num_days": 1})
        self._write("region", self._region_config())

    def answers(self) -> list[str]:
        """Processes that do not say on ``/healthz``, within `ANSWER_S`, that they are well."""
        deadline = time.monotonic() + ANSWER_S
        while (silent := self._unwell()) and time.monotonic() < deadline:
            self.supervisor.revive()
            time.sleep(self.POLL_S)
        return silent

    def _unwell(self) -> list[str]:
        reports = {name: fetch_json(f"{url}/healthz") for name, url in self.health_urls.items()}
        return [f"{name}: {said}" for name, said in reports.items() if not (said or {}).get("ok")]

    def _region_config(self) -> dict[str, Any]:
        return super()._region_config() | {"broker": self.links["region"].url}

    def _edge_config(self, hospital: str, devices: Any) -> dict[str, Any]:
        name = edge_name(hospital)
        return super()._edge_config(hospital, devices) | {
            "region_broker": self.links[f"{name}-up"].url,
            "hospital_broker": self.links[f"{name}-down"].url,
            "min_free_mb": 0,
            "mute_s": MUTE_S,
            "keep_rounds": KEEP_ROUNDS,
        }


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """Put a disk of `DISK_BYTES` under `folder`.

    Raises
    ------
    ConfigError
        When this user may not mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    order = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    done = subprocess.run(order, capture_output=True, text=True)
    if done.returncode:
        raise ConfigError(f"no small disk: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


@contextmanager
def running(
    root: Path, surroundings: Surroundings | None = None, seed: int = 0
) -> Iterator[tuple[FaultRegion, Wristbands]]:
    """A region and its wristbands; everything of them is gone afterwards."""
    surroundings = surroundings or Surroundings()
    with ExitStack() as stack:
        proxies = stack.enter_context(Proxies())
        region = FaultRegion(root, proxies, surroundings, seed)
        if surroundings.small_disk:
            folder = region.state_dir(edge_name(surroundings.small_disk))
            stack.enter_context(small_disk(folder))
        stack.callback(region.stop)
        urls = {h: region.links[f"bands-{h}"].url for h in ROSTER}
        bands = Wristbands(region.plan.region, ROSTER, urls, seed)
        region.start()
        stack.enter_context(bands)
        yield region, bands

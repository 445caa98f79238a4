"""A region of the dummy task whose processes have points, each in its own network if asked for."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.faultbed.network import INTERFACE, Network
from benchmarks.faultbed.points import PROCESS_VARIABLE, Points
from simulators.local_region import LocalRegion, RegionPlan, Roster, edge_name, fetch_json
from simulators.supervisor import Managed, one_thread, python_module

LEARNING = {"lr_start": 0.05, "lr_end": 0.01, "num_steps": 2, "batch_size": 16, "clip_norm": 1.0}
ROUNDS = {"rounds_per_day": 10_000, "num_days": 1, "quorum": 2, "round_pause_s": 0.2}
ROUNDS_OF_A_BED = {"deadline_s": 60.0, "rejoin_s": 30.0, "max_failed_rounds": 1000}
HARMLESS_STARTS = 1
WATCHDOG_S = 10.0


class BedRegion(LocalRegion):
    """A `LocalRegion` that is started with points in coordinator, edge nodes and ranks.

    Parameters
    ----------
    rounds : mapping
        Over `ROUNDS`, such as ``ring_timeout_s``.
    network : Network, optional
        With a namespace for ``region`` and for each hospital.

    Attributes
    ----------
    STARTER : str
        Module that runs a process of the product with points in it.
    """

    POLL_S = 0.02
    STARTER = "benchmarks.faultbed"

    def __init__(
        self,
        root: Path,
        roster: Roster,
        rounds: Mapping[str, Any],
        *,
        away_after_s: float = 15.0,
        network: Network | None = None,
        seed: int = 0,
    ) -> None:
        coordinator: dict[str, Any] = {"away_after_s": away_after_s, "watchdog_s": WATCHDOG_S}
        if network:
            place = {"rendezvous_host": network.address_of("region"), "interface": INTERFACE}
            coordinator |= place
        super().__init__(
            RegionPlan(
                root=root,
                roster=roster,
                task="dummy",
                seed=seed,
                workers=1,
                learning=LEARNING,
                rounds=ROUNDS | ROUNDS_OF_A_BED | dict(rounds),
                coordinator=coordinator,
                broker_host=network.address if network else "127.0.0.1",
            )
        )
        self.points = Points(root / "points")
        self.network = network

    def health_host(self, name: str) -> str:
        """Address of its namespace, if it has one."""
        return self.network.address_of(name) if self.network else super().health_host(name)

    def rank_pid(self, hospital: str, which: str = "pid") -> int:
        """Process id of a hospital's rank, or its ``keeper_pid``; 0 while there is none."""
        report = fetch_json(f"{self.health_urls[hospital]}/healthz") or {}
        return int(report.get("rank", {}).get(which, 0))

    def forget_deaths(self) -> None:
        """Let the supervisor count starts anew: deaths are the purpose here."""
        for name in self.processes:
            self.supervisor[name].starts = HARMLESS_STARTS

    def _run(self, name: str, module: str, *arguments: str, output: Path | None = None) -> Managed:
        command = python_module(module, *arguments)
        if module in ("regional", "edge"):
            command = python_module(self.STARTER, module, *arguments)
        home = name.removeprefix("edge-")
        if self.network and (home == "region" or home in self.plan.roster):
            command = self.network.command(home, command)
        environment = one_thread() | self.points.environment | {PROCESS_VARIABLE: name}
        return self.supervisor.start(name, command, environment, output)

    def _edge_config(self, hospital: str, devices: Any) -> dict[str, Any]:  # noqa: ANN401 -- as the parent's
        config = super()._edge_config(hospital, devices)
        return config | {"rank_python": str(self._rank_starter()), "watchdog_s": WATCHDOG_S}

    def _rank_starter(self) -> Path:
        """A program that is called as ``python -m edge.rank`` would be."""
        path = self.plan.root / "rank.sh"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -m {self.STARTER} "$@"\n')
        path.chmod(0o755)
        return path


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def process_of(victim: str, hospital: str) -> str:
    """Name of the victim's process among the region's."""
    return "region" if victim == "coordinator" else edge_name(hospital)

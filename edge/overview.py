"""Looks every two seconds at what a node's state takes and holds: disk and ledger.

It has a thread and a reading connection of its own, so that no look delays a message.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from threading import Event, Thread

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from edge.disk import DiskState, Limits, Room, Usage, judge, measure
from edge.tallies import Gain, Tallies

PERIOD_S = 2.0
_STATES: tuple[DiskState, ...] = ("ok", "low", "full")

log = structlog.get_logger()


class OverviewMeters:
    """Metrics of the disk and of what the ledger holds."""

    def __init__(self, registry: CollectorRegistry, limits: Limits) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"pulsering_edge_{name}", text, labels, registry=registry)

        self._used = gauge("disk_used_bytes", "Bytes that state_dir takes.")
        self._free = gauge("disk_free_bytes", "Bytes free on the disk of state_dir.")
        gauge("disk_quota_bytes", "disk_quota_mb; 0 for none.").set(limits.quota_bytes)
        gauge("disk_reserve_bytes", "min_free_mb.").set(limits.reserve_bytes)
        self._state = gauge("disk_state", "1 for the state that the disk is in.", "state")
        self._ledger = gauge("ledger_bytes", "Bytes of the ledger's files.")
        self._reusable = gauge("ledger_reusable_bytes", "Of these, free within the file.")
        self._waiting = gauge("waiting_updates", "Stored updates that have no fate yet.")
        self._fates = Counter(
            "pulsering_edge_fates", "Fates that updates got.", ["fate"], registry=registry
        )
        self._ends = Counter(
            "pulsering_edge_rounds", "Rounds whose end was heard.", ["end"], registry=registry
        )
        self._rings = Counter(
            "pulsering_edge_rings",
            "Ring generations that a rank was sent into.",
            registry=registry,
        )

    def tell(self, gain: Gain, usage: Usage, room: Room) -> None:
        """Set gauges and raise counters."""
        self._used.set(usage.used_bytes)
        self._free.set(usage.free_bytes)
        self._ledger.set(usage.ledger_bytes)
        self._reusable.set(usage.reusable_bytes)
        self._waiting.set(gain.num_waiting)
        for state in _STATES:
            self._state.labels(state).set(state == room.state)
        for fate, num in gain.fates.items():
            self._fates.labels(fate).inc(num)
        for end, num in gain.ends.items():
            self._ends.labels(end).inc(num)
        self._rings.inc(gain.num_rings)


class Overview:
    """The looks and what the last one saw.

    Parameters
    ----------
    state_dir : Path
        It must hold a ledger.
    """

    def __init__(self, state_dir: Path, limits: Limits, registry: CollectorRegistry) -> None:
        self._state_dir = state_dir
        self._limits = limits
        self._meters = OverviewMeters(registry, limits)
        self._tallies = Tallies(state_dir)
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="edge-overview", daemon=True)
        self.room = Room()
        self.look()

    @property
    def held(self) -> str:
        """Why intake must wait; empty when it need not."""
        return self.room.why if self.room.state == "full" else ""

    def start(self) -> None:
        """Begin to look again and again."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=PERIOD_S)
        self._tallies.close()

    def look(self) -> None:
        """One look.

        Raises
        ------
        OSError, sqlite3.Error
            When disk or ledger cannot be read.
        """
        gain = self._tallies.look()
        usage = measure(self._state_dir, gain.reusable_bytes)
        before = self.room.state
        self.usage, self.room = usage, judge(usage, self._limits, before)
        self.num_waiting = gain.num_waiting
        self._meters.tell(gain, usage, self.room)
        self._tell_change(before)

    def _tell_change(self, before: DiskState) -> None:
        state, why = self.room.state, self.room.why
        if state == before:
            return
        if state == "ok":
            log.info("disk_ok")
        else:
            (log.error if state == "full" else log.warning)(f"disk_{state}", why=why)

    def _run(self) -> None:
        while not self._stopping.wait(PERIOD_S):
            try:
                self.look()
            except (OSError, sqlite3.Error) as fault:
                log.warning("overview_failed", error=str(fault))

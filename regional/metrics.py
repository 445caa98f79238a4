"""Prometheus metrics of the coordinator."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from regional.config import RegionConfig
from regional.membership import is_present
from regional.records import Record, RingDied, RingPlanned, RoundEnded
from regional.region import Region


class Metrics:
    """What ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter(
            "pulsering_rounds", "Ended rounds", ["end", "purpose"], registry=self.registry
        )
        self._rings = Counter("pulsering_rings_planned", "Planned rings", registry=self.registry)
        self._dead = Counter("pulsering_rings_died", "Dead rings", registry=self.registry)
        self._seconds = Histogram(
            "pulsering_round_seconds",
            "Seconds from opening to end",
            buckets=(1, 3, 10, 30, 100, 300, 1000, 3000),
            registry=self.registry,
        )
        self._ring_seconds = Histogram(
            "pulsering_ring_seconds",
            "Seconds from plan to commit",
            buckets=(0.1, 0.3, 1, 3, 10, 30, 100),
            registry=self.registry,
        )
        self._day = Gauge("pulsering_day", "Current day", registry=self.registry)
        self._round = Gauge("pulsering_round", "Last opened round", registry=self.registry)
        self._present = Gauge(
            "pulsering_hospitals_present", "Hospitals online", registry=self.registry
        )
        self.rejected = Counter(
            "pulsering_statuses_rejected", "Refused statuses", ["reason"], registry=self.registry
        )
        self.faults = Counter(
            "pulsering_effect_faults", "Effects that failed", registry=self.registry
        )

    def saw_record(self, record: Record) -> None:
        """Count what was just recorded."""
        match record:
            case RoundEnded(outcome=outcome):
                self._rounds.labels(outcome.end, outcome.purpose).inc()
                self._seconds.observe(outcome.seconds)
                if outcome.end == "committed":
                    self._ring_seconds.observe(record.ring_seconds)
            case RingPlanned():
                self._rings.inc()
            case RingDied():
                self._dead.inc()
            case _:
                pass

    def saw_region(self, region: Region, config: RegionConfig, now: float) -> None:
        """Set the gauges."""
        self._day.set(region.progress.day)
        self._round.set(region.progress.last_round)
        present = [is_present(e, now, config.away_after_s) for e in region.statuses.values()]
        self._present.set(sum(present))

"""Prometheus metrics of an edge node."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.messages import HospitalStatus


class Meters:
    """Counters and gauges in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "pulsering_edge_messages",
            "Messages of wristbands, by subject and result (stored, repeated, or the reason).",
            ["subject", "result"],
            registry=self.registry,
        )
        self.passed_over = Counter(
            "pulsering_edge_passed_over",
            "Messages on topics that are no wristband's; nobody can be answered.",
            registry=self.registry,
        )
        self.quarantined = Counter(
            "pulsering_edge_quarantined",
            "Stored updates that a round's screen set aside, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.region_faults = Counter(
            "pulsering_edge_region_faults",
            "Messages on the region's topic that broke the contract.",
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "pulsering_edge_commit_seconds",
            "Seconds to judge a batch and commit it to disk.",
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
            registry=self.registry,
        )
        self.receipt_seconds = Histogram(
            "pulsering_edge_receipt_seconds",
            "Seconds from a message's arrival to its receipt on the way.",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.inbox_messages = Gauge(
            "pulsering_edge_inbox_messages",
            "Messages read from the broker that are not committed yet.",
            registry=self.registry,
        )
        self.inbox_bytes = Gauge(
            "pulsering_edge_inbox_bytes", "Their payloads' bytes.", registry=self.registry
        )
        self.inbox_withheld_seconds = Counter(
            "pulsering_edge_inbox_withheld_seconds",
            "Seconds in which the inbox was full: nothing was read, the broker kept what it had.",
            registry=self.registry,
        )
        self.rank_starts = Gauge(
            "pulsering_edge_rank_starts", "Starts of the rank process.", registry=self.registry
        )
        self.link_up = Gauge(
            "pulsering_edge_link_up",
            "1 while the session with that broker is connected.",
            ["broker"],
            registry=self.registry,
        )
        self._told = {
            name: Gauge(f"pulsering_edge_{name}", text, registry=self.registry)
            for name, text in (
                ("round_id", "The round this hospital is in."),
                ("generation", "The ring generation its rank is a member of; 0 for none."),
                ("num_invited", "Wristbands invited in this round."),
                ("num_stored", "Stored updates that wait for this round's base."),
                ("num_evaluated", "Stored evaluations of this round."),
                ("num_rejected", "Messages refused in this round."),
            )
        }

    def tell(self, status: HospitalStatus) -> None:
        """Set the gauges from the hospital's status."""
        for name, gauge in self._told.items():
            gauge.set(getattr(status, name))

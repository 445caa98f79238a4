"""Bytes that wristbands sent and received, by device and round."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

COUNTED = (
    "MQTT payload bytes plus topic bytes of every message, re-sends included; "
    "without MQTT, TCP and IP headers and acknowledgements"
)


@dataclass
class Count:
    """Bytes of one device in one round."""

    bytes_up: int = 0
    bytes_down: int = 0
    num_up: int = 0
    num_down: int = 0


@dataclass
class Traffic:
    """Counts by device and round; round 0 is what came before the first invite."""

    counts: dict[tuple[str, int], Count] = field(default_factory=lambda: defaultdict(Count))

    def sent(self, device: str, round_id: int, topic: str, payload: bytes) -> None:
        """Count a message from a wristband."""
        count = self.counts[device, round_id]
        count.bytes_up += len(topic.encode()) + len(payload)
        count.num_up += 1

    def received(self, device: str, round_id: int, topic: str, payload: bytes) -> None:
        """Count a message to a wristband."""
        count = self.counts[device, round_id]
        count.bytes_down += len(topic.encode()) + len(payload)
        count.num_down += 1

    def report(self) -> dict[str, Any]:
        """Totals and per-round means and maxima per device, ready for JSON."""
        rounds = sorted({round_id for _, round_id in self.counts})
        return {
            "counted": COUNTED,
            "bytes_up": sum(count.bytes_up for count in self.counts.values()),
            "bytes_down": sum(count.bytes_down for count in self.counts.values()),
            "rounds": [self._round(round_id) for round_id in rounds],
            "devices": self._devices(),
        }

    def _round(self, round_id: int) -> dict[str, Any]:
        counts = [count for (_, of), count in self.counts.items() if of == round_id]
        up = [count.bytes_up for count in counts]
        down = [count.bytes_down for count in counts]
        return {
            "round_id": round_id,
            "num_devices": len(counts),
            "mean_bytes_up": sum(up) / len(up),
            "mean_bytes_down": sum(down) / len(down),
            "max_bytes_up": max(up),
            "max_bytes_down": max(down),
        }

    def _devices(self) -> dict[str, dict[str, dict[str, int]]]:
        devices: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        for (device, round_id), count in sorted(self.counts.items()):
            devices[device][str(round_id)] = {
                "bytes_up": count.bytes_up,
                "bytes_down": count.bytes_down,
            }
        return dict(devices)

"""Whole regions of the dummy task, and a witness that hears what wristbands send."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt.client import MQTTMessage

from common import topics, wire
from common.digest import tensors_digest
from common.link import Link
from common.messages import ModelHeader, UpdateHeader
from simulators.local_region import LocalRegion, RegionPlan, Roster

ROSTER: Roster = {
    "north": [("wb-01", "1"), ("wb-02", "2"), ("wb-03", "3")],
    "harbour": [("wb-04", "4"), ("wb-05", "5")],
    "valley": [("wb-06", "6"), ("wb-07", "7")],
}
LEARNING = {"lr_start": 0.05, "lr_end": 0.01, "num_steps": 5, "batch_size": 16, "clip_norm": 1.0}

Update = tuple[UpdateHeader, dict[str, np.ndarray]]


def make_region(root: Path, roster: Roster = ROSTER, **changes: Any) -> LocalRegion:
    """A region of three hospitals and seven wristbands that learns the dummy task."""
    rounds = {
        "rounds_per_day": 3,
        "num_days": 1,
        "quorum": 2,
        "ring_timeout_s": 10.0,
        "deadline_s": 120,
    }
    plan = {
        "root": root,
        "roster": roster,
        "task": "dummy",
        "learning": LEARNING | changes.pop("learning", {}),
        "rounds": rounds | changes.pop("rounds", {}),
        "heartbeat_s": 0.5,
        **changes,
    }
    return LocalRegion(RegionPlan(**plan))


@contextmanager
def running(region: LocalRegion) -> Iterator[LocalRegion]:
    """Start a region, end it whatever happens."""
    try:
        region.start()
        yield region
    finally:
        region.stop()


class Witness:
    """Hears every update on its way to the hospitals, and every model on its way back."""

    def __init__(self, region: LocalRegion) -> None:
        self.updates: dict[int, dict[str, Update]] = defaultdict(dict)
        self.models: dict[str, dict[str, np.ndarray]] = {}
        name = region.plan.region
        self._link = Link(
            region.broker_url,
            "witness",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.device(name, "+", "+", "update"), topics.model(name, "+", "+")],
        )

    def __enter__(self) -> Witness:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        if not payload:
            return
        if topic.endswith("/update"):
            header, integers = wire.decode(payload, UpdateHeader)
            self.updates[header.round_id][header.device] = (header, integers)
        else:
            _, tensors = wire.decode(payload, ModelHeader)
            self.models[tensors_digest(tensors)] = tensors


def federated_average(
    base: dict[str, np.ndarray],
    updates: list[Update],
    exponents: dict[str, int],
    weighting: str,
    max_weight: int,
) -> dict[str, np.ndarray]:
    """FedAvg in one process, in Python's own integers: shares no code with `common.fold`."""
    weights = [1 if weighting == "uniform" else min(h.num_examples, max_weight) for h, _ in updates]
    following = {}
    for name, parameter in base.items():
        total = [0] * parameter.size
        for weight, (_, integers) in zip(weights, updates, strict=True):
            for i, value in enumerate(integers[name].ravel().tolist()):
                total[i] += weight * value
        mean = np.array([float(t) for t in total]) * 2.0 ** exponents[name] / float(sum(weights))
        flat = (parameter.ravel().astype(np.float64) + mean).astype(np.float32)
        following[name] = flat.reshape(parameter.shape)
    return following

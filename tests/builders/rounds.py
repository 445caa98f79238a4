"""Builders of rounds with sensible defaults."""

from __future__ import annotations

from typing import Any

from common.messages import FixedPoint, LocalRule, RoundSpec, ServerRule

BASE = "0" * 64
STATE = "e" * 64


def make_spec(**changes: Any) -> RoundSpec:
    """A training round of the dummy task's shape, with `changes` laid over it."""
    fields: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": 1,
        "task": "dummy",
        "base_digest": BASE,
        "state_digest": STATE,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.01, num_steps=2, batch_size=8),
        "fixed_point": FixedPoint(clip_norm=1.0, exponents={"w": -14}),
        "locations": {BASE: f"county/ring/000000/{BASE}.safetensors"},
        "opened_at": 1000.0,
        "closes_at": 1060.0,
    }
    return RoundSpec(**(fields | changes))

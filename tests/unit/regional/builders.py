"""Configuration, statuses and results of a small region, with sensible defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.messages import RankResult, RingPlan, RoundSpec
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.messages import RepeatStep

HOSPITALS = ("east", "north", "west")
SHAPES: dict[str, tuple[int, ...]] = {"confusion": (2, 2)}


def digest(number: int) -> str:
    return f"{number:064x}"


def make_config(**rounds: Any) -> RegionConfig:
    settings: dict[str, Any] = {
        "rounds_per_day": 2,
        "num_days": 2,
        "deadline_s": 60.0,
        "grace_s": 5.0,
        "rejoin_s": 10.0,
        "ring_timeout_s": 20.0,
        "round_pause_s": 0.0,
        "max_generations": 3,
        "quorum": 2,
    }
    return RegionConfig.model_validate(
        {
            "region": "county",
            "broker": "mqtt://127.0.0.1:1",
            "state_dir": Path("unused"),
            "mailbox": "unused",
            "hospitals": {name: {"key": Path(name)} for name in HOSPITALS},
            "cloud_key": Path("cloud"),
            "task": "dummy",
            "away_after_s": 1e5,
            "rounds": {**settings, **rounds},
            "seal": {"wait_for_release_s": 30.0},
        }
    )


def ready(name: str, spec: RoundSpec) -> dict[str, Any]:
    return {
        "round_id": spec.round_id,
        "phase": "ready",
        "aggregate_digest": digest(7000 + spec.round_id * 10 + HOSPITALS.index(name)),
        "weight": 5 if spec.purpose == "train" else 0,
        "num_invited": 3,
        "num_stored": 3 if spec.purpose == "train" else 0,
        "num_evaluated": 3,
        "complete": True,
    }


def make_result(spec: RoundSpec, plan: RingPlan, *, odd: bool = False) -> RankResult:
    trained = spec.purpose == "train"
    model = digest(int(spec.base_digest, 16) * 3) if trained else spec.base_digest
    return RankResult(
        round_id=spec.round_id,
        generation=plan.generation,
        sums_digest=digest(9000 + spec.round_id),
        model_digest=digest(666) if odd else model,
        state_digest=spec.state_digest,
        weight=5 * len(plan.members) if trained else 0,
        num_updates=9 if trained else 0,
        num_evaluations=9,
        num_saturated=0,
    )


def repeated(effect: RepeatStep, **changes: Any) -> Repeated:
    result = effect.result
    trained = effect.spec.purpose == "train"
    values: dict[str, Any] = {
        "model": {},
        "state": {},
        "model_digest": result.model_digest,
        "state_digest": result.state_digest,
        "sums_digest": result.sums_digest,
        "weight": result.weight,
        "num_updates": 9 if trained else 0,
        "num_evaluations": 9,
        "num_saturated": 0,
        "exponents": {"w": -11} if trained else None,
        "evaluation": {d: {"confusion": [[1, 0], [0, 1]]} for d in effect.spec.evaluate},
    }
    return Repeated(**{**values, **changes})

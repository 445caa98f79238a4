"""What the wristbands of a fault rig send: made-up updates and evaluations of the dummy task."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common import wire
from common.messages import EvaluationHeader, RoundSpec, UpdateHeader
from simulators.encoding import encode
from tests.faults.book import Made

SHAPES: Mapping[str, tuple[int, ...]] = {"weight": (2, 4), "bias": (2,)}
UPDATE_SIZE = 0.05
NUM_SCORED = 100


def made_update(hospital: str, device: str, spec: RoundSpec, rng: np.random.Generator) -> Made:
    """An update for the round's base, clipped and turned into integers as a wristband does."""
    delta = {name: rng.normal(0, UPDATE_SIZE, SHAPES[name]) for name in spec.fixed_point.exponents}
    integers = encode(spec.fixed_point, delta, None)
    return Made(
        hospital,
        (device, "update", spec.base_digest),
        int(rng.integers(1, 200)),
        integers.tensors,
        integers.num_saturated,
        spec.fixed_point,
    )


def made_evaluation(hospital: str, device: str, spec: RoundSpec, rng: np.random.Generator) -> Made:
    """Counts for every model and name that the round asks for."""
    tensors = {
        f"{digest}/{name}": rng.integers(0, 3, shape)
        for digest in spec.evaluate
        for name, shape in spec.evaluation_shapes.items()
    }
    return Made(hospital, (device, "evaluation", str(spec.round_id)), NUM_SCORED, tensors)


def encoded(region: str, made: Made, spec: RoundSpec) -> bytes:
    """The message that says `made` in a round, which may be later than its own."""
    who = {"region": region, "hospital": made.hospital, "device": made.device}
    header: UpdateHeader | EvaluationHeader
    if made.subject == "update":
        header = UpdateHeader(
            **who,
            round_id=spec.round_id,
            base_digest=made.key[2],
            num_examples=made.num_examples,
            num_saturated=made.num_saturated,
        )
    else:
        header = EvaluationHeader(
            **who, round_id=spec.round_id, models=spec.evaluate, num_examples=made.num_examples
        )
    return wire.encode(header, made.tensors)

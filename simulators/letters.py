"""The bytes that a wristband sends in a round: its update and its evaluation."""

from __future__ import annotations

from common import wire
from common.messages import EvaluationHeader, RoundSpec, UpdateHeader
from simulators.jobs import Identity, LocalEvaluation, LocalUpdate


def update_message(who: Identity, spec: RoundSpec, update: LocalUpdate) -> bytes:
    """The update, said in the round of `spec`; it may have been made in one before."""
    header = UpdateHeader(
        region=who.region,
        hospital=who.hospital,
        device=who.device,
        round_id=spec.round_id,
        base_digest=update.base_digest,
        num_examples=update.num_examples,
        num_saturated=update.num_saturated,
    )
    return wire.encode(header, update.tensors)


def evaluation_message(who: Identity, spec: RoundSpec, evaluation: LocalEvaluation) -> bytes:
    """The counts of every model of ``spec.evaluate`` on the held-out examples."""
    header = EvaluationHeader(
        region=who.region,
        hospital=who.hospital,
        device=who.device,
        round_id=spec.round_id,
        models=spec.evaluate,
        num_examples=evaluation.num_examples,
    )
    return wire.encode(header, evaluation.tensors)

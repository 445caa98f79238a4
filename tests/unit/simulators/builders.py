"""Invites, models and receipts for one wristband, with sensible defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from common import topics, wire
from common.digest import bytes_digest, tensors_digest
from common.messages import (
    FixedPoint,
    Invite,
    LocalRule,
    ModelHeader,
    Reason,
    Receipt,
    RoundSpec,
    ServerRule,
)
from simulators.actions import Action, Publish, Work
from simulators.jobs import Identity, Job, Learned, LocalEvaluation, LocalUpdate, Model
from simulators.wristband import Wristband

WHO = Identity("county", "north", "wb-101")
NOW = 1000.0
INVITE = topics.device("county", "north", "wb-101", "invite")
RECEIPT = topics.device("county", "north", "wb-101", "receipt")
UPDATE = topics.device("county", "north", "wb-101", "update")
EVALUATION = topics.device("county", "north", "wb-101", "evaluation")


def make_model(value: float = 0.0) -> Model:
    return {"w": np.full(3, value, dtype=np.float32)}


BASE, LATER = make_model(0.0), make_model(1.0)


def make_spec(base: Model = BASE, round_id: int = 1, **changes: Any) -> RoundSpec:
    digest = tensors_digest(base)
    values: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": round_id,
        "task": "dummy",
        "base_digest": digest,
        "state_digest": "0" * 64,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        "fixed_point": FixedPoint(clip_norm=1.0, exponents={"w": -14}),
        "evaluate": (digest,),
        "evaluation_shapes": {"confusion": (2, 2)},
        "locations": {digest: "ring/0/model.safetensors"},
        "opened_at": NOW + round_id,
        "closes_at": NOW + 500,
    }
    return RoundSpec(**(values | changes))


def invite(spec: RoundSpec, hospital: str = "north", device: str = "wb-101") -> bytes:
    return wire.encode_json(Invite(hospital=hospital, device=device, spec=spec))


def model_topic(model: Model) -> str:
    return topics.model("county", "north", tensors_digest(model))


def model_bytes(model: Model, digest: str = "") -> bytes:
    header = ModelHeader(
        region="county", task="dummy", digest=digest or tensors_digest(model), made_by_round=0
    )
    return wire.encode(header, model)


def receipt(payload: bytes, subject: str, reason: Reason | None = None) -> bytes:
    return wire.encode_json(
        Receipt.model_validate(
            {
                "device": "wb-101",
                "subject": subject,
                "round_id": 1,
                "content_digest": bytes_digest(payload),
                "status": "rejected" if reason else "stored",
                "reason": reason,
            }
        )
    )


def learned(spec: RoundSpec, train: bool = True) -> Learned:
    integers = {"w": np.array([1, 2, 3], dtype=np.int16)}
    counts = {f"{d}/confusion": np.eye(2, dtype=np.int64) for d in spec.evaluate}
    return Learned(
        spec,
        LocalUpdate(spec.base_digest, 10, 0, integers) if train else None,
        LocalEvaluation(2, counts) if spec.evaluate else None,
    )


def make_wristband(connected: bool = True) -> Wristband:
    band = Wristband(WHO, "dummy", np.random.default_rng(0))
    if connected:
        band.connected(NOW)
    return band


def only(kind: type[Any], actions: Sequence[Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def start_job(band: Wristband, spec: RoundSpec, model: Model = BASE, now: float = NOW) -> Job:
    actions = band.received(INVITE, invite(spec), now)
    actions += band.received(model_topic(model), model_bytes(model), now)
    [work] = only(Work, actions)
    job: Job = work.job
    return job


def deliver(band: Wristband, spec: RoundSpec, model: Model = BASE) -> dict[str, bytes]:
    """Invite, model, work: the payloads published, by topic."""
    job = start_job(band, spec, model)
    sent = only(Publish, band.worked(learned(job.spec), NOW))
    return {message.topic: message.payload for message in sent}

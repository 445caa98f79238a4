"""Bytes of every contract, kept: a change here is a change of the protocol.

Run with ``PULSERING_WRITE_GOLDEN=1`` to write the files anew, and say why in CHANGELOG.md.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from common.contract import Contract
from common.digest import tensors_digest
from common.messages import (
    AggregateHeader,
    DeviceStatus,
    EvaluationHeader,
    FixedPoint,
    GroupState,
    HospitalStatus,
    Invite,
    LateHeader,
    LatePlan,
    ModelHeader,
    RankFailure,
    RankResult,
    Reason,
    Receipt,
    RegionState,
    ReleaseHeader,
    RingPlan,
    RingSumHeader,
    RobustRule,
    RoundOutcome,
    ScreenRule,
    SealedHeader,
    ServerStateHeader,
    UpdateHeader,
)
from common.parts import take, to_wire
from common.wire import decode, decode_json, encode, encode_json
from tests.builders.rounds import BASE, STATE, make_spec

GOLDEN = Path(__file__).parent / "golden"
MODEL = {"b": np.array([0.5, -0.25], np.float32), "w": np.array([[1.0, 2.0]], np.float32)}
OTHER = "a" * 64
SPEC = make_spec()
SPARSE = FixedPoint(clip_norm=1.0, bits=8, exponents={"b": -7, "w": -7}, parts=64, part=3, order=5)
DELTA = {
    "b": np.array([1, -2], np.int8),
    "w": (np.arange(512) % 251 - 125).reshape(2, 256).astype(np.int8),
}
PLAN = RingPlan(
    round_id=1,
    generation=2,
    members=("north", "valley"),
    rendezvous_host="127.0.0.1",
    rendezvous_port=40000,
    interface="lo",
    timeout_s=30,
    total_weight=9,
    late=LatePlan(digest=OTHER, path=f"county/ring/1/late-{OTHER}.safetensors", rounds=(4,)),
)
OUTCOME = RoundOutcome(
    region="county",
    day=1,
    round_id=1,
    end="committed",
    reason="all members agree",
    base_digest=BASE,
    model_digest=OTHER,
    state_digest=STATE,
    sums_digest=OTHER,
    generation=2,
    aggregates={"north": OTHER},
)

JSON_MESSAGES: dict[str, Contract] = {
    "round": SPEC,
    "round-late": make_spec(max_staleness=2, late_bases=(OTHER,)),
    "round-screened": make_spec(
        robust=RobustRule(rule="trimmed_mean", trim=0.25),
        screen=ScreenRule(
            max_distance=1.5, min_cosine=-0.5, min_updates=4, max_share=0.25, reference=OTHER
        ),
        locations={name: f"county/ring/000000/{name}.safetensors" for name in (BASE, OTHER)},
    ),
    "ring_plan": PLAN,
    "outcome": OUTCOME,
    "region_state": RegionState(
        region="county",
        revision=7,
        phase="ring",
        spec=SPEC,
        plan=PLAN,
        min_generation=2,
        groups=(GroupState(hospitals=("coast",), phase="open", spec=SPEC, min_generation=3),),
    ),
    "hospital_status": HospitalStatus(
        region="county",
        hospital="north",
        revision=3,
        rank="joined",
        result=RankResult(
            round_id=1,
            generation=2,
            sums_digest=OTHER,
            model_digest=OTHER,
            state_digest=STATE,
            weight=3,
            num_updates=3,
            num_evaluations=2,
            num_saturated=0,
        ),
        timings={"allreduce_s": 0.002},
        failure=RankFailure(round_id=1, generation=1, reason="a peer left"),
    ),
    "invite": Invite(hospital="north", device="wb-101", spec=SPEC),
    "receipt": Receipt(
        device="wb-101",
        subject="update",
        round_id=1,
        content_digest=OTHER,
        status="rejected",
        reason=Reason.NORM,
    ),
    "device_status": DeviceStatus(device="wb-101", online=True),
}

TENSOR_MESSAGES: dict[str, tuple[Contract, dict[str, np.ndarray]]] = {
    "model": (
        ModelHeader(region="county", task="dummy", digest=tensors_digest(MODEL), made_by_round=1),
        MODEL,
    ),
    "server_state": (
        ServerStateHeader(region="county", digest=tensors_digest({}), made_by_round=1),
        {},
    ),
    "update": (
        UpdateHeader(
            region="county",
            hospital="north",
            device="wb-101",
            round_id=1,
            base_digest=BASE,
            num_examples=9,
            num_saturated=0,
        ),
        {"b": np.array([1, -2], np.int16), "w": np.array([[3, 4]], np.int16)},
    ),
    "update-part": (
        UpdateHeader(
            region="county",
            hospital="north",
            device="wb-101",
            round_id=2,
            base_digest=BASE,
            num_examples=9,
            num_saturated=1,
        ),
        to_wire(SPARSE, take(SPARSE, DELTA)),
    ),
    "evaluation": (
        EvaluationHeader(
            region="county",
            hospital="north",
            device="wb-101",
            round_id=1,
            models=(BASE,),
            num_examples=3,
        ),
        {f"{BASE}/confusion": np.array([[2, 0], [1, 0]], np.int64)},
    ),
    "aggregate": (
        AggregateHeader(
            region="county",
            hospital="north",
            round_id=1,
            base_digest=BASE,
            weight=2,
            num_updates=2,
            num_evaluations=2,
            num_saturated=0,
        ),
        {"update/b": np.array([5, 6], np.int64), "counts": np.array([2, 2, 2, 0], np.int64)},
    ),
    "aggregate-robust": (
        AggregateHeader(
            region="county",
            hospital="north",
            round_id=1,
            base_digest=BASE,
            weight=3,
            num_updates=5,
            num_evaluations=6,
            num_saturated=0,
            rule="trimmed_mean",
            num_quarantined=1,
        ),
        {"update/b": np.array([5, 6], np.int64), "counts": np.array([3, 5, 6, 0], np.int64)},
    ),
    "ring_sum": (
        RingSumHeader(
            region="county",
            round_id=1,
            generation=2,
            base_digest=BASE,
            members=("north", "valley"),
            weight=4,
            num_updates=4,
            num_evaluations=4,
            num_saturated=0,
        ),
        {"update/b": np.array([7, 8], np.int64), "counts": np.array([4, 4, 4, 0], np.int64)},
    ),
    "late_sums": (
        LateHeader(
            region="county", round_id=1, rounds=(4,), weight=362, exponents={"b": -12, "w": -12}
        ),
        {"update/b": np.array([905, 1086], np.int64), "update/w": np.array([[1, 2]], np.int64)},
    ),
    "sealed": (
        SealedHeader(
            region="county",
            day=1,
            cycle=1,
            task="dummy",
            model_digest=tensors_digest(MODEL),
            mean_of=(tensors_digest(MODEL),),
            rounds=(1, 2),
            hospitals={"north": 2},
            num_updates=4,
            num_evaluated_devices=2,
            server=SPEC.server,
            local=SPEC.local,
            fixed_point_bits=16,
            clip_norm=1.0,
            weighting="uniform",
        ),
        {f"model/{n}": t for n, t in MODEL.items()},
    ),
    "release": (
        ReleaseHeader(
            region="county",
            day=1,
            decision="released",
            release="county-d0001-aaaaaaaa",
            rule="every rule holds",
            task="dummy",
            sealed_digest=OTHER,
            model_digest=tensors_digest(MODEL),
        ),
        MODEL,
    ),
}


def golden(name: str, data: bytes) -> bytes:
    path = GOLDEN / name
    if os.environ.get("PULSERING_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    return path.read_bytes()


@pytest.mark.parametrize("kind", JSON_MESSAGES)
def test_json_messages_keep_their_bytes(kind: str) -> None:
    message = JSON_MESSAGES[kind]
    data = encode_json(message)
    assert golden(f"{kind}.json", data) == data
    assert decode_json(data, type(message)) == message


@pytest.mark.parametrize("kind", TENSOR_MESSAGES)
def test_tensor_messages_keep_their_bytes(kind: str) -> None:
    message, tensors = TENSOR_MESSAGES[kind]
    data = encode(message, tensors)
    assert golden(f"{kind}.safetensors", data) == data
    header, back = decode(data, type(message))
    assert header == message
    assert tensors_digest(back) == tensors_digest(tensors)


def test_every_kind_of_message_has_golden_bytes() -> None:
    kept = {path.stem.partition("-")[0] for path in GOLDEN.iterdir() if path.suffix != ".sql"}
    kinds = {
        cls.model_fields["kind"].default
        for cls in Contract.__subclasses__()
        if cls.__module__ == "common.messages" and "kind" in cls.model_fields
    }
    assert kept == kinds

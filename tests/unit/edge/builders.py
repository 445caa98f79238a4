"""Builders with defaults for the edge node's unit tests; bytes are real wire bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, topics, wire
from common.digest import bytes_digest, tensors_digest
from common.mailbox import Mailbox, message_path
from common.messages import (
    EvaluationHeader,
    ModelHeader,
    RegionState,
    RingPlan,
    RoundOutcome,
    RoundSpec,
    UpdateHeader,
)
from common.signing import Keyring, Signer
from edge.desk import Incoming
from edge.intake import Station, Subject
from edge.rank_process import Died, RankState, Said
from edge.rank_protocol import Join

REGION, HOSPITAL = "county", "north"
ROSTER = frozenset({"band-a", "band-b", "band-c"})
SHAPES = {"bias": (3,), "weight": (4, 3)}
STATION = Station(REGION, HOSPITAL, ROSTER)


def make_model(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}


BASE = tensors_digest(make_model())


def make_integers(seed: int = 0) -> dict[str, npt.NDArray[np.int16]]:
    rng = np.random.default_rng(seed)
    return {name: rng.integers(-900, 900, s).astype(np.int16) for name, s in SHAPES.items()}


def make_spec(round_id: int = 1, base: str = BASE, **changes: object) -> RoundSpec:
    evaluate = changes.get("evaluate", ())
    assert isinstance(evaluate, tuple)
    fields: dict[str, object] = {
        "region": REGION,
        "day": 1,
        "cycle": 1,
        "round_id": round_id,
        "task": "dummy",
        "base_digest": base,
        "state_digest": tensors_digest({}),
        "server": {},
        "local": {"learning_rate": 0.1, "num_steps": 1, "batch_size": 1},
        "fixed_point": {
            "clip_norm": 1.0,
            "exponents": fixedpoint.first_exponents(make_model(), 1.0, 16),
        },
        "evaluation_shapes": {"confusion": (2, 2)},
        "locations": {digest: location(digest) for digest in (base, *evaluate)},
        "opened_at": 0.0,
        "closes_at": 100.0,
    }
    return RoundSpec.model_validate(fields | changes)


SPARSE_SHAPES = {"bias": (3,), "weight": (20, 30)}
SPARSE = {"parts": 4, "part": 2, "order": 5, "bits": 8}


def make_sparse_spec(**changes: object) -> RoundSpec:
    """A round that carries the third of four parts, in 8 bits."""
    exponents = dict.fromkeys(SPARSE_SHAPES, -6)  # 127 * 2**-7 is just below the clip norm
    fields = {"fixed_point": {"clip_norm": 1.0, "exponents": exponents, **SPARSE}} | changes
    return make_spec(**fields)  # type: ignore[arg-type]  # a builder's keywords


def make_part(seed: int = 0) -> npt.NDArray[np.int8]:
    """What an update carries in that round: three numbers of `bias`, 150 of `weight`."""
    return np.random.default_rng(seed).integers(-9, 9, 3 + 150).astype(np.int8)


def make_sparse_update(device: str = "band-a", seed: int = 0, **header: object) -> bytes:
    return make_update(device, seed, {"part": make_part(seed)}, **header)


def location(digest: str) -> str:
    return message_path(REGION, "ring", 0, f"{digest}.safetensors")


def make_update(
    device: str = "band-a",
    seed: int = 0,
    tensors: dict[str, npt.NDArray[Any]] | None = None,
    **header: object,
) -> bytes:
    fields: dict[str, object] = {
        "region": REGION,
        "hospital": HOSPITAL,
        "device": device,
        "round_id": 1,
        "base_digest": BASE,
        "num_examples": 5,
        "num_saturated": 0,
    }
    stated = UpdateHeader.model_validate(fields | header)
    return wire.encode(stated, make_integers(seed) if tensors is None else tensors)


def make_evaluation(
    device: str = "band-a",
    counts: npt.NDArray[Any] | None = None,
    **header: object,
) -> bytes:
    fields: dict[str, object] = {
        "region": REGION,
        "hospital": HOSPITAL,
        "device": device,
        "round_id": 1,
        "models": (BASE,),
        "num_examples": 4,
    }
    values = np.array([[1, 2], [0, 1]], np.int64) if counts is None else counts
    stated = EvaluationHeader.model_validate(fields | header)
    return wire.encode(stated, {f"{BASE}/confusion": values})


def make_incoming(
    data: bytes | None,
    device: str = "band-a",
    leaf: Subject = "update",
    acks: list[str] | None = None,
) -> Incoming:
    topic = topics.device(REGION, HOSPITAL, device, leaf)
    noted: list[str] = [] if acks is None else acks
    return Incoming(topic, data, bytes_digest(data or b""), lambda: noted.append(device))


def make_outcome(round_id: int = 1, **changes: object) -> RoundOutcome:
    fields: dict[str, object] = {
        "region": REGION,
        "day": 1,
        "round_id": round_id,
        "end": "committed",
        "reason": "all digests equal",
        "base_digest": BASE,
        "model_digest": "1" * 64,
        "state_digest": tensors_digest({}),
    }
    return RoundOutcome.model_validate(fields | changes)


def make_plan(round_id: int = 1, generation: int = 1, **changes: object) -> RingPlan:
    fields: dict[str, object] = {
        "round_id": round_id,
        "generation": generation,
        "members": (HOSPITAL, "south"),
        "rendezvous_host": "127.0.0.1",
        "rendezvous_port": 4000,
        "interface": "lo",
        "timeout_s": 30.0,
        "total_weight": 100,
    }
    return RingPlan.model_validate(fields | changes)


def make_state(phase: str = "open", revision: int = 1, **fields: object) -> RegionState:
    return RegionState.model_validate(
        {"region": REGION, "revision": revision, "phase": phase, **fields}
    )


class FakeRank:
    """A rank that notes what it is told and is in the state a test puts it in."""

    def __init__(self) -> None:
        self.state: RankState = "warm"
        self.generation = 0
        self.pid = 100
        self.joins: list[Join] = []
        self.num_killed = 0

    def tick(self, now: float) -> None: ...

    def heard(self, news: Said | Died, now: float) -> bool:
        if isinstance(news, Died):
            self.state, self.generation = "lost", 0
        return True

    def join(self, command: Join) -> None:
        self.joins.append(command)
        self.state, self.generation = "joined", command.plan.generation

    def renew(self, now: float) -> None:
        self.num_killed += 1
        self.state, self.generation = "lost", 0


class FakeBroker:
    """Takes what is published, unless it is offline."""

    def __init__(self) -> None:
        self.online = True
        self.retained: dict[str, bytes] = {}
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        if not self.online:
            return False
        self.sent.append((topic, payload))
        if retain:
            self.retained[topic] = payload
        return True


def make_mailboxes(folder: Path) -> tuple[Mailbox, Mailbox]:
    """The coordinator's mailbox with the base model in it, and the hospital's."""
    url = str(folder / "mailbox")
    region = Signer.at("region", folder / "region")
    hospital = Signer.at(HOSPITAL, folder / HOSPITAL)
    keys = Keyring(
        {
            "region": folder / "region" / "signing.pub",
            HOSPITAL: folder / HOSPITAL / "signing.pub",
        }
    )
    coordinators = Mailbox(url, region, keys)
    put_model(coordinators, 0)
    return coordinators, Mailbox(url, hospital, keys)


def put_model(mailbox: Mailbox, seed: int) -> str:
    """Put a model into the mailbox and return its digest."""
    model = make_model(seed)
    digest = tensors_digest(model)
    header = ModelHeader(region=REGION, task="dummy", digest=digest, made_by_round=seed)
    mailbox.put(location(digest), wire.encode(header, model))
    return digest

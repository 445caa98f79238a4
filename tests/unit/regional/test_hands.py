"""Effects on a real ledger and mailbox, carried out once and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.digest import tensors_digest
from common.errors import ContractError
from common.mailbox import Mailbox, message_path
from common.messages import RankResult, RingSumHeader, RoundSpec, SealedHeader
from common.signing import Keyring, Signer
from common.wire import decode, encode, without_prefix
from regional.commit import repeat_step
from regional.config import RegionConfig
from regional.first_start import open_store, start
from regional.hands import Hands
from regional.learning import round_spec
from regional.ledger import Ledger
from regional.messages import (
    CandidateMade,
    DayStored,
    MakeCandidate,
    PutModels,
    RepeatStep,
    SealDay,
    StepRefused,
    StepRepeated,
)
from regional.outcomes import committed
from regional.progress import Progress, after
from regional.records import RingPlanned, RoundOpened
from regional.region import restore

COUNTS = {"num_updates": 1, "num_evaluations": 1, "num_saturated": 0}


class World:
    def __init__(self, folder: Path, mean_of: int = 2) -> None:
        self.east = Signer.at("east", folder / "east")
        self.config = RegionConfig.model_validate(
            {
                "region": "county",
                "broker": "mqtt://127.0.0.1:1",
                "state_dir": folder / "region",
                "mailbox": str(folder / "mailbox"),
                "hospitals": {"east": {"key": folder / "east" / "signing.pub"}},
                "task": "dummy",
                "seal": {"mean_of": mean_of},
            }
        )
        self.ledger = Ledger(self.config.ledger_path)
        self.store = open_store(self.config)
        self.progress = start(self.config, self.ledger, self.store, now=1.0)
        self.hands = Hands(self.config, self.ledger, self.store)
        self.theirs = Mailbox(str(folder / "mailbox"), self.east, Keyring({}))

    def open(self) -> RoundSpec:
        spec = round_spec(self.config, self.progress, "train", [self.progress.model], now=1.0)
        self.progress = after(self.progress, RoundOpened(spec=spec))
        return spec

    def put_sums(self, spec: RoundSpec, **changes: Any) -> RankResult:
        rng = np.random.default_rng(spec.round_id)
        base, _ = self.store.base_of(spec)
        sums: dict[str, Any] = {
            f"update/{name}": rng.integers(-999, 999, tensor.shape) for name, tensor in base.items()
        }
        for name, shape in spec.evaluation_shapes.items():
            sums[f"evaluation/{spec.base_digest}/{name}"] = np.ones(shape, np.int64)
        sums["counts"] = np.array([1, 1, 1, 0], np.int64)
        header = RingSumHeader.model_validate(
            {
                "region": "county",
                "round_id": spec.round_id,
                "generation": 1,
                "base_digest": spec.base_digest,
                "members": ("east",),
                "weight": 1,
                "num_updates": 1,
                "num_evaluations": 1,
                "num_saturated": 0,
                **changes,
            }
        )
        name = f"{tensors_digest(sums)}.safetensors"
        path = message_path("county", "ring", spec.round_id, name)
        self.theirs.put(path, encode(header, sums))
        done = repeat_step(spec, sums, base, {}, 16)
        digests = {"sums_digest": done.sums_digest, "model_digest": done.model_digest}
        return RankResult.model_validate(
            {**digests, "round_id": 1, "generation": 1, "weight": 1, **COUNTS}
            | {"state_digest": done.state_digest}
        )

    def commit(self, ring: RingPlanned) -> None:
        spec = self.open()
        answer = self.hands.carry_out(RepeatStep(spec, self.put_sums(spec)))
        assert isinstance(answer, StepRepeated)
        self.hands.carry_out(PutModels(spec, answer.repeated))
        region = restore(self.progress, now=1.0)
        ended = committed(region, ring, spec, answer.repeated, 2.0, self.config)
        self.progress = after(self.progress, ended)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def ring() -> RingPlanned:
    plan = {
        "round_id": 1,
        "generation": 1,
        "members": ("east",),
        "rendezvous_host": "127.0.0.1",
        "rendezvous_port": 1,
        "interface": "lo",
        "timeout_s": 1,
        "total_weight": 1,
    }
    held = {"pids": {"east": 1}, "aggregates": {"east": "a" * 64}, "weights": {"east": 1}}
    return RingPlanned.model_validate(
        {"plan": plan, **held, "num_stored": {"east": 6}, "planned_at": 1.0}
    )


def test_sums_that_are_not_there_yet_have_no_answer(world: World) -> None:
    spec = world.open()
    result = RankResult.model_validate(
        {"round_id": 1, "generation": 1, "weight": 1, **COUNTS, "sums_digest": "a" * 64}
        | {"model_digest": "a" * 64, "state_digest": "a" * 64}
    )
    assert world.hands.carry_out(RepeatStep(spec, result)) is None


def test_repeats_the_step_that_the_ranks_took(world: World) -> None:
    spec = world.open()
    result = world.put_sums(spec)
    answer = world.hands.carry_out(RepeatStep(spec, result))
    assert isinstance(answer, StepRepeated)
    assert answer.repeated.differs_from(result) == ""


def test_sums_of_another_round_are_refused(world: World) -> None:
    spec = world.open()
    answer = world.hands.carry_out(RepeatStep(spec, world.put_sums(spec, round_id=2)))
    assert isinstance(answer, StepRefused)


def test_putting_models_again_is_no_fault_and_other_bytes_are(world: World) -> None:
    spec = world.open()
    answer = world.hands.carry_out(RepeatStep(spec, world.put_sums(spec)))
    assert isinstance(answer, StepRepeated)
    world.hands.carry_out(PutModels(spec, answer.repeated))
    world.hands.carry_out(PutModels(spec, answer.repeated))
    with pytest.raises(ContractError):
        world.store.mailbox.put(next(iter(spec.locations.values())), b"other")


def sealed(world: World, digest: str) -> tuple[SealedHeader, dict[str, Any]]:
    path = message_path("county", "to-cloud", 1, f"{digest}.safetensors")
    return decode(world.store.mailbox.get(path, signer="region"), SealedHeader)


def test_seals_the_mean_of_the_last_models_with_where_they_come_from(
    world: World, ring: RingPlanned
) -> None:
    for _ in range(3):
        world.commit(ring)
    answer = world.hands.carry_out(SealDay(world.progress))
    assert isinstance(answer, DayStored)
    header, tensors = sealed(world, answer.digest)
    last = [world.store.model(stored) for stored in world.progress.cycle_models[-2:]]
    for name, tensor in without_prefix("model", tensors).items():
        expected = (np.float64(last[0][name]) + np.float64(last[1][name])) / 2
        np.testing.assert_array_equal(tensor, expected.astype(np.float32))
    assert header.mean_of == tuple(m.digest for m in world.progress.cycle_models[-2:])
    assert (header.rounds, header.hospitals, header.num_updates) == ((1, 2, 3), {"east": 18}, 3)
    assert header.in_service_digest is None
    assert not any(name.startswith("in_service/") for name in tensors)


def test_sealing_again_gives_the_same_file(world: World, ring: RingPlanned) -> None:
    world.commit(ring)
    first = world.hands.carry_out(SealDay(world.progress))
    assert world.hands.carry_out(SealDay(world.progress)) == first


def test_the_candidate_is_the_model_that_will_be_sealed(world: World, ring: RingPlanned) -> None:
    for _ in range(2):
        world.commit(ring)
    models = world.progress.cycle_models
    candidate = world.hands.carry_out(MakeCandidate(models, made_by_round=2))
    assert isinstance(candidate, CandidateMade)
    day = world.hands.carry_out(SealDay(world.progress))
    assert isinstance(day, DayStored)
    assert candidate.stored.digest == day.digest
    assert world.store.model(candidate.stored)


def test_nothing_committed_cannot_be_sealed(world: World) -> None:
    with pytest.raises(ContractError):
        world.hands.carry_out(SealDay(Progress()))

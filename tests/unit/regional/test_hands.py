"""Effects on a real ledger and mailbox, carried out once and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ContractError
from common.mailbox import message_path
from common.messages import RankResult, SealedHeader
from common.wire import decode, without_prefix
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
from regional.progress import Progress
from regional.records import RingPlanned
from tests.unit.regional.disk import COUNTS, Disk, make_ring


@pytest.fixture
def world(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


@pytest.fixture
def ring() -> RingPlanned:
    return make_ring()


def test_sums_that_are_not_there_yet_have_no_answer(world: Disk) -> None:
    spec = world.open()
    result = RankResult.model_validate(
        {"round_id": 1, "generation": 1, "weight": 1, **COUNTS, "sums_digest": "a" * 64}
        | {"model_digest": "a" * 64, "state_digest": "a" * 64}
    )
    assert world.hands.carry_out(RepeatStep(spec, result)) is None


def test_repeats_the_step_that_the_ranks_took(world: Disk) -> None:
    spec = world.open()
    result = world.put_sums(spec)
    answer = world.hands.carry_out(RepeatStep(spec, result))
    assert isinstance(answer, StepRepeated)
    assert answer.repeated.differs_from(result) == ""


def test_sums_of_another_round_are_refused(world: Disk) -> None:
    spec = world.open()
    answer = world.hands.carry_out(RepeatStep(spec, world.put_sums(spec, round_id=2)))
    assert isinstance(answer, StepRefused)


def test_putting_models_again_is_no_fault_and_other_bytes_are(world: Disk) -> None:
    spec = world.open()
    answer = world.hands.carry_out(RepeatStep(spec, world.put_sums(spec)))
    assert isinstance(answer, StepRepeated)
    world.hands.carry_out(PutModels(spec, answer.repeated))
    world.hands.carry_out(PutModels(spec, answer.repeated))
    with pytest.raises(ContractError):
        world.store.mailbox.put(next(iter(spec.locations.values())), b"other")


def sealed(world: Disk, digest: str) -> tuple[SealedHeader, dict[str, Any]]:
    path = message_path("county", "to-cloud", 1, f"{digest}.safetensors")
    return decode(world.store.mailbox.get(path, signer="region"), SealedHeader)


def test_seals_the_mean_of_the_last_models_with_where_they_come_from(
    world: Disk, ring: RingPlanned
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


def test_sealing_again_gives_the_same_file(world: Disk, ring: RingPlanned) -> None:
    world.commit(ring)
    first = world.hands.carry_out(SealDay(world.progress))
    assert world.hands.carry_out(SealDay(world.progress)) == first


def test_the_candidate_is_the_model_that_will_be_sealed(world: Disk, ring: RingPlanned) -> None:
    for _ in range(2):
        world.commit(ring)
    models = world.progress.cycle_models
    candidate = world.hands.carry_out(MakeCandidate(models, made_by_round=2))
    assert isinstance(candidate, CandidateMade)
    day = world.hands.carry_out(SealDay(world.progress))
    assert isinstance(day, DayStored)
    assert candidate.stored.digest == day.digest
    assert world.store.model(candidate.stored)


def test_nothing_committed_cannot_be_sealed(world: Disk) -> None:
    with pytest.raises(ContractError):
        world.hands.carry_out(SealDay(Progress()))

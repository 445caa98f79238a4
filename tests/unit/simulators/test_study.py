"""Studies in one process: rounds, sampling, and what the engine passes on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.digest import tensors_digest
from common.errors import ConfigError, QuorumError
from common.tasks.dummy import dummy_examples
from common.tasks.task import Examples
from regional.config import LearningConfig
from simulators.local_region import Roster
from simulators.study import Committed, Study, run_study, sampled, sealed

ROSTER: Roster = {
    "north": [("wb-01", "1"), ("wb-02", "2")],
    "valley": [("wb-03", "3"), ("wb-04", "4")],
}
WEARERS = {str(i): dummy_examples(i, 100) for i in range(1, 5)}


def study(num_rounds: int = 2, fraction: float = 1.0, **learning: Any) -> list[Committed]:
    rule = {"lr_start": 0.05, "lr_end": 0.01, "num_steps": 4, "batch_size": 16, "clip_norm": 1.0}
    plan = Study(ROSTER, LearningConfig(**(rule | learning)), num_rounds, "dummy", fraction)
    return list(run_study(plan, WEARERS))


def accuracy(committed: Committed, examples: Examples) -> float:
    logits = examples.inputs["features"] @ committed.model["weight"].T + committed.model["bias"]
    return float(np.mean(logits.argmax(axis=1) == examples.labels))


def test_rounds_learn() -> None:
    unseen = dummy_examples(99, 500)
    first, *_, last = study(num_rounds=30, num_steps=10)
    assert accuracy(last, unseen) > max(0.9, accuracy(first, unseen))


def test_same_seed_same_models_and_another_seed_others() -> None:
    digests = [[c.model_digest for c in study(seed=seed)] for seed in (3, 3, 4)]
    assert digests[0] == digests[1]
    assert digests[0] != digests[2]


def test_hospitals_do_not_change_the_sum() -> None:
    everyone = [pair for pairs in ROSTER.values() for pair in pairs]
    rule = LearningConfig(num_steps=4, batch_size=16)
    apart, together = (
        [c.model_digest for c in run_study(Study(roster, rule, 2, "dummy"), WEARERS)]
        for roster in (ROSTER, {"north": everyone})
    )
    assert apart == together


@pytest.mark.parametrize(("fraction", "expected"), [(1.0, 4), (0.5, 2), (0.01, 1)])
def test_a_share_of_the_wristbands_takes_part(fraction: float, expected: int) -> None:
    assert [c.num_updates for c in study(fraction=fraction)] == [expected, expected]


def test_rounds_sample_other_wristbands() -> None:
    rng = np.random.default_rng(0)
    draws = {str(sampled(ROSTER, 0.5, rng)) for _ in range(20)}
    assert len(draws) > 2


def test_updates_of_eight_bits_are_smaller_than_of_sixteen() -> None:
    wide, narrow = study(bits=16)[1], study(bits=8)[1]
    assert 4 * 10 * 2 < narrow.bytes_up < wide.bytes_up  # ten parameters of four wristbands


def test_sealed_model_is_the_mean_of_the_last_ones() -> None:
    models = [c.model for c in study(num_rounds=3)]
    for name, value in sealed(models, 2).items():
        expected = (models[1][name].astype(np.float64) + models[2][name]) / 2
        np.testing.assert_array_equal(value, expected.astype(np.float32))
    assert tensors_digest(sealed(models, 1)) == tensors_digest(models[-1])


def test_an_empty_roster_has_no_quorum() -> None:
    with pytest.raises(QuorumError, match="no wristband"):
        sampled({"north": []}, 1.0, np.random.default_rng(0))


def test_a_wearer_without_beats_is_an_error() -> None:
    nobody = WEARERS["1"].take(slice(0, 0))
    with pytest.raises(ConfigError, match="without labelled beats"):
        list(run_study(Study(ROSTER, LearningConfig(), 1, "dummy"), {**WEARERS, "1": nobody}))


def test_sparse_rounds_learn_and_are_smaller_than_dense_ones() -> None:
    dense, *_, last = study(num_rounds=30, num_steps=10, bits=8, parts=4)
    assert accuracy(last, dummy_examples(99, 500)) > 0.9
    assert last.bytes_up < dense.bytes_up  # one tensor of 8 bits instead of two of 16


def with_slow(num_rounds: int, slow_commits: int, **learning: Any) -> list[Committed]:
    rule = LearningConfig(lr_start=0.05, lr_end=0.01, num_steps=10, clip_norm=1.0, **learning)
    plan = Study(ROSTER, rule, num_rounds, "dummy", slow=("valley",), slow_commits=slow_commits)
    return list(run_study(plan, WEARERS))


def test_slow_hospitals_count_late_and_all_are_together_at_the_end() -> None:
    rounds = [committed.round_id for committed in with_slow(6, slow_commits=2)]
    assert rounds == [2, 3, 4, 6, 7, 8]  # 1 and 5 are the slow ones' own
    assert [c.num_updates for c in with_slow(4, slow_commits=2)] == [2, 2, 2, 4]


@pytest.mark.parametrize("parts", [1, 4])
def test_rounds_with_a_slow_group_learn(parts: int) -> None:
    unseen = dummy_examples(99, 500)
    assert accuracy(with_slow(30, slow_commits=5, parts=parts)[-1], unseen) > 0.9


def test_late_sums_change_the_model() -> None:
    alone = [c.model_digest for c in with_slow(3, slow_commits=9)]
    late = [c.model_digest for c in with_slow(3, slow_commits=1)]
    assert alone[0] == late[0]
    assert alone[1] != late[1]

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from common.ecg.labels import AAMI
from common.errors import ConfigError
from common.tasks.beats import BeatTask
from common.tasks.calibration import RHYTHM_BIAS, RHYTHM_SCALE
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import Examples, Parameters, score
from simulators.personal import (
    CERTAIN,
    S_BIAS,
    first_minutes,
    personal_training,
    personalise,
    scored_beats,
    self_labelled,
)

TASK = BeatTask()
PLAN = replace(personal_training(3), num_steps=2, batch_size=8)
N, S, V = (AAMI.index(name) for name in "NSV")


def make_beats(labels: Sequence[int], seed: int = 0) -> Examples:
    """Beats of noise, which the model of a fresh region cannot tell apart."""
    rng = np.random.default_rng(seed)
    return Examples(
        {
            name: (0.1 * rng.standard_normal((len(labels), *shape))).astype(np.float32)
            for name, shape in TASK.input_shapes.items()
        },
        np.array(labels, dtype=np.int64),
    )


def changed(params: Parameters, base: Parameters) -> set[str]:
    return {name for name in base if not np.array_equal(params[name], base[name])}


def s_log_odds(params: Parameters, beats: Examples) -> np.ndarray:
    scores = score(TASK, params, beats.inputs)
    return np.asarray(np.log(scores[:, S] / scores[:, N]))


def test_fine_tuning_learns_what_sets_a_wearer_apart() -> None:
    task, own = DummyTask(), dummy_examples(0, 200)
    other = Examples(own.inputs, 1 - own.labels)  # this wearer's classes are swapped
    base = task.initial(0)
    plan = replace(personal_training(1), learning_rate=0.05, mu=0.0)
    scores = score(task, personalise(task, base, other, plan), other.inputs)
    assert np.mean(scores.argmax(axis=1) == other.labels) > 0.9


def test_the_result_depends_on_the_arguments_alone() -> None:
    own, base = make_beats([N] * 30 + [S, V]), TASK.initial(0)
    first, again = (personalise(TASK, base, own, PLAN) for _ in range(2))
    assert not changed(first, again)
    assert changed(personalise(TASK, base, own, replace(PLAN, seed=4)), first)


def test_the_regional_model_is_left_alone() -> None:
    base = TASK.initial(0)
    personalise(TASK, base, make_beats([N] * 30 + [S, V]), PLAN)
    assert not changed(base, TASK.initial(0))


@pytest.mark.parametrize("labels", [[], [N] * 30, [S] * 5, [V] * 5], ids=["none", "N", "S", "V"])
def test_beats_of_fewer_than_two_classes_leave_the_model_as_it_is(labels: list[int]) -> None:
    base = TASK.initial(0)
    personal = personalise(TASK, base, make_beats(labels), PLAN)
    assert not changed(personal, base)
    assert all(personal[name] is not base[name] for name in base)


def test_a_wearer_without_v_keeps_what_the_region_knows_of_v() -> None:
    base = TASK.initial(0)
    names = changed(personalise(TASK, base, make_beats([N] * 30 + [S] * 3), PLAN), base)
    assert names
    assert all(name.startswith("rhythm") for name in names)


def test_a_wearer_without_n_keeps_what_the_region_knows_of_rhythm() -> None:
    base = TASK.initial(0)
    names = changed(personalise(TASK, base, make_beats([S] * 3 + [V] * 3), PLAN), base)
    assert names
    assert all(name.startswith("form") for name in names)


def test_the_pull_to_the_regional_model_keeps_the_personal_one_closer() -> None:
    own, base = make_beats([N] * 30 + [V] * 3), TASK.initial(0)
    far, near = (
        personalise(TASK, base, own, replace(PLAN, num_steps=20, mu=mu)) for mu in (0.0, 100.0)
    )
    lengths = [sum(float(((p[k] - base[k]) ** 2).sum()) for k in base) for p in (far, near)]
    assert lengths[0] > lengths[1] > 0


def test_the_threshold_of_s_moves_to_where_the_wearers_n_beats_end() -> None:
    own, base = make_beats([N] * 60 + [S] * 5), TASK.initial(0, simulated=False)
    still = replace(PLAN, num_steps=1, learning_rate=1e-9)
    base[S_BIAS] = base[S_BIAS] - s_log_odds(base, own).max() - 1  # every beat says N, by 1 or more
    personal = personalise(TASK, base, own, still)
    log_odds = s_log_odds(personal, own)[own.labels == N]
    assert 0.95 < np.mean(log_odds < 0) <= 1
    assert log_odds.max() > -0.5


def test_the_threshold_of_s_stays_near_the_regions() -> None:
    own, base = make_beats([N] * 60 + [S] * 5), TASK.initial(0, simulated=False)
    still = replace(PLAN, num_steps=1, learning_rate=1e-9)
    for offset, expected in ((-8.0, 2.0), (8.0, -1.0)):
        shifted = {**base, S_BIAS: base[S_BIAS] + np.float32(offset)}
        moved = personalise(TASK, shifted, own, still)[S_BIAS] - shifted[S_BIAS]
        assert RHYTHM_SCALE * moved == pytest.approx(expected, abs=1e-5)


def test_simulated_examples_take_part_when_given() -> None:
    own, base = make_beats([N] * 30 + [S, V]), TASK.initial(0)
    public = make_beats([N] * 20 + [S] * 20, seed=1)
    alone = personalise(TASK, base, own, PLAN)
    assert changed(personalise(TASK, base, own, PLAN, public), alone)


def test_a_plan_that_cannot_be_trained_is_refused_even_with_nothing_to_learn() -> None:
    with pytest.raises(ConfigError):
        personalise(TASK, TASK.initial(0), make_beats([]), replace(PLAN, num_steps=0))


def test_a_sure_model_labels_the_beats_it_is_sure_of() -> None:
    beats, sure = make_beats([N] * 20), TASK.initial(0)
    sure["form_head.2.bias"] = np.array([20, 0, 0, 0], dtype=np.float32)
    sure[S_BIAS] = np.array([20], dtype=np.float32)
    labelled = self_labelled(TASK, sure, beats.inputs)
    scores = score(TASK, sure, labelled.inputs)
    np.testing.assert_array_equal(labelled.labels, np.full(20, S))
    assert scores.max(axis=1).min() >= CERTAIN


def test_an_unsure_model_labels_nothing() -> None:
    base = TASK.initial(0)
    even = np.full(1, -RHYTHM_BIAS / RHYTHM_SCALE, dtype=np.float32)  # S as likely as N
    undecided = {**base, S_BIAS: even}
    assert len(self_labelled(TASK, undecided, make_beats([N] * 20).inputs)) == 0


def test_no_beats_give_no_labels() -> None:
    assert len(self_labelled(TASK, TASK.initial(0), make_beats([]).inputs)) == 0


@pytest.mark.parametrize("fs_hz", [120.0, 360.0])
def test_minutes_are_told_from_positions_and_their_rate(fs_hz: float) -> None:
    r_idx = np.round(np.array([0.0, 59.9, 60.0, 299.9, 300.0, 1000.0]) * fs_hz).astype(np.int64)
    assert first_minutes(r_idx, fs_hz, 1).tolist() == [True, True, False, False, False, False]
    assert first_minutes(r_idx, fs_hz, 5).tolist() == [True] * 4 + [False] * 2
    assert scored_beats(r_idx, fs_hz).tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("minutes", [0.0, -1.0, 5.1, float("nan")])
def test_labelled_minutes_never_reach_into_the_scored_ones(minutes: float) -> None:
    with pytest.raises(ConfigError, match="minutes"):
        first_minutes(np.array([0]), 360.0, minutes)


@pytest.mark.parametrize("fs_hz", [0.0, -360.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(fs_hz: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        scored_beats(np.array([0]), fs_hz)

from __future__ import annotations

import numpy as np
import pytest

from simulators.rhythm_base import Series
from simulators.rhythm_ectopy import Ectopy, Labels, N, Pattern, S, V, expand, overlay

BASE_S = 0.8
NUM_RECORDS = 40


def lay(
    ectopy: Ectopy, seed: int = 0, num: int = 300, base_s: float = BASE_S
) -> tuple[Series, Labels]:
    return overlay(np.random.default_rng(seed), np.full(num, base_s), ectopy)


def lay_many(ectopy: Ectopy, base_s: float = BASE_S) -> list[tuple[Series, Labels]]:
    return [lay(ectopy, seed, base_s=base_s) for seed in range(NUM_RECORDS)]


def onsets(labels: Labels, label: int) -> Labels:
    """Places of first beats of events that end before the last beat, without the first beat."""
    return np.flatnonzero((labels[1:-1] == label) & (labels[:-2] == N)) + 1


def run_lengths(labels: Labels, label: int) -> list[int]:
    marks = "".join("x" if beat == label else " " for beat in labels)
    return [len(run) for run in marks.split()]


def test_without_ectopy_the_base_rhythm_is_untouched() -> None:
    base_s = np.linspace(0.6, 1.0, 50)
    intervals_s, labels = overlay(np.random.default_rng(0), base_s, Ectopy())
    np.testing.assert_array_equal(intervals_s, base_s)
    assert (labels == N).all()


@pytest.mark.parametrize("num", [1, 2, 5, 300])
def test_the_number_of_beats_is_that_of_the_base(num: int) -> None:
    intervals_s, labels = lay(Ectopy(p_s=0.3, p_v=0.3, run=0.5, long_run=0.3), num=num)
    assert intervals_s.shape == labels.shape == (num,)


@pytest.mark.parametrize("base_s", [0.25, 0.5, 0.8, 2.0])
@pytest.mark.parametrize("label", [S, V])
def test_ectopic_beats_are_premature_against_their_base(label: int, base_s: float) -> None:
    ectopy = Ectopy(p_s=0.1) if label == S else Ectopy(p_v=0.1)
    for intervals_s, labels in lay_many(ectopy, base_s):
        early = intervals_s[onsets(labels, label)]
        assert (early < 0.98 * base_s).all()
        assert (early >= min(0.28, 0.9 * base_s)).all()


def test_s_beats_stay_single_unless_couplets_or_runs_are_asked_for() -> None:
    for _, labels in lay_many(Ectopy(p_s=0.2)):
        assert max(run_lengths(labels, S), default=1) == 1


def test_runs_are_longer_than_couplets_and_long_runs_longer_still() -> None:
    def mean_length(ectopy: Ectopy) -> float:
        lengths = [run_lengths(labels, S) for _, labels in lay_many(ectopy)]
        return float(np.mean(np.concatenate(lengths)))

    single, couplet = mean_length(Ectopy(p_s=0.05)), mean_length(Ectopy(p_s=0.05, couplet=1))
    run, long = mean_length(Ectopy(p_s=0.05, run=1)), mean_length(Ectopy(p_s=0.05, long_run=1))
    assert single < couplet < 3 < run < 10 < long


def test_most_pauses_after_v_complete_two_base_intervals() -> None:
    sums = []
    for intervals_s, labels in lay_many(Ectopy(p_v=0.05)):
        single = onsets(labels, V)
        single = single[labels[single + 1] == N]
        sums.append(intervals_s[single] + intervals_s[single + 1])
    compensatory = np.isclose(np.concatenate(sums), 2 * BASE_S)
    assert 0.5 < compensatory.mean() < 0.75  # three in four, less those that are interpolated


def test_some_v_beats_are_interpolated() -> None:
    between = [
        np.mean((intervals_s[at] + intervals_s[at + 1]) < 1.3 * BASE_S)
        for intervals_s, labels in lay_many(Ectopy(p_v=0.1))
        if len(at := onsets(labels, V))
    ]
    assert max(between) > 0.5
    assert np.median(between) < 0.25


def test_pauses_after_s_reset_the_sinus_node() -> None:
    pauses = []
    for intervals_s, labels in lay_many(Ectopy(p_s=0.1)):
        pauses.append(intervals_s[onsets(labels, S) + 1] / BASE_S)
    ratio = np.concatenate(pauses)
    assert ratio.min() >= 0.85
    assert 1.0 < np.median(ratio) < 1.4


@pytest.mark.parametrize("every", [1, 2, 3, 4])
@pytest.mark.parametrize("label", [S, V])
def test_a_sure_pattern_repeats_without_a_miss(label: int, every: int) -> None:
    _, labels = lay(Ectopy(pattern=Pattern(label, every, chance=1.0)))
    assert set(run_lengths(labels, N)[1:-1]) == {every}


def test_a_pattern_with_misses_has_longer_gaps() -> None:
    _, labels = lay(Ectopy(pattern=Pattern(S, every=1, chance=0.6)))
    assert max(run_lengths(labels, N)) > 1


def test_groups_are_laid_end_to_end_and_cut() -> None:
    owner, place = expand(np.array([1, 3, 2, 9]), 5)
    assert owner.tolist() == [0, 1, 1, 1, 2]
    assert place.tolist() == [0, 0, 1, 2, 0]

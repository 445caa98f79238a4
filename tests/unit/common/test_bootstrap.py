from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import ContractError
from common.metrics.bootstrap import patient_interval, resampled_figures
from common.metrics.ec57 import veb
from common.metrics.figures import Confusion, accuracy, macro_f1


def patients(num_patients: int, seed: int = 0, side: int = 3) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, 50, size=(num_patients, side, side))


def v_sensitivity(confusion: Confusion) -> float | None:
    return veb(confusion).sensitivity


def test_equals_a_plain_loop_over_drawn_patients() -> None:
    confusions = patients(7)
    draws = np.random.default_rng(3).multinomial(7, np.full(7, 1 / 7), size=50)
    by_hand = [
        accuracy(sum(np.repeat(confusions, draw, axis=0), start=np.zeros((3, 3), dtype=np.int64)))
        for draw in draws
    ]
    values = resampled_figures(confusions, accuracy, np.random.default_rng(3), 50)
    np.testing.assert_allclose(values, np.array(by_hand, dtype=float))


def test_the_interval_is_the_middle_of_the_resampled_figures() -> None:
    confusions = patients(9)
    interval = patient_interval(confusions, accuracy, np.random.default_rng(5), 400)
    values = resampled_figures(confusions, accuracy, np.random.default_rng(5), 400)
    assert interval.estimate == accuracy(confusions.sum(axis=0))
    assert interval.low == pytest.approx(np.percentile(values, 2.5))
    assert interval.high == pytest.approx(np.percentile(values, 97.5))
    assert (interval.num_resamples, interval.num_undefined) == (400, 0)


def test_two_thousand_resamples_unless_told_otherwise() -> None:
    interval = patient_interval(patients(3), accuracy, np.random.default_rng(0))
    assert interval.num_resamples == 2000


def test_the_interval_of_a_share_is_as_wide_as_theory_says() -> None:
    # patients of one beat each: the bootstrap of a binomial share
    right = np.arange(400) % 10 < 7
    confusions = np.zeros((400, 2, 2), dtype=np.int64)
    confusions[np.arange(400), 0, (~right).astype(int)] = 1
    interval = patient_interval(confusions, accuracy, np.random.default_rng(1))
    half = 1.96 * np.sqrt(0.7 * 0.3 / 400)
    assert interval.low == pytest.approx(0.7 - half, abs=0.01)
    assert interval.high == pytest.approx(0.7 + half, abs=0.01)


def test_seeds_are_averaged_within_each_draw() -> None:
    one, two = patients(6, seed=1), patients(6, seed=2)
    both = resampled_figures(np.stack([one, two]), accuracy, np.random.default_rng(7), 30)
    each = [resampled_figures(c, accuracy, np.random.default_rng(7), 30) for c in (one, two)]
    np.testing.assert_allclose(both, np.mean(each, axis=0))


def test_draws_without_such_beats_are_left_out_and_counted() -> None:
    confusions = np.zeros((3, 5, 5), dtype=np.int64)
    confusions[:, 0, 0] = 10
    confusions[0, 2, 2], confusions[0, 2, 0] = 3, 1  # one patient holds all V beats
    interval = patient_interval(confusions, v_sensitivity, np.random.default_rng(2), 1000)
    draws = np.random.default_rng(2).multinomial(3, np.full(3, 1 / 3), size=1000)
    assert interval.num_undefined == (draws[:, 0] == 0).sum() > 0
    assert (interval.estimate, interval.low, interval.high) == (0.75, 0.75, 0.75)


def test_a_figure_that_nobody_knows_has_no_interval() -> None:
    nothing = np.zeros((4, 5, 5), dtype=np.int64)
    interval = patient_interval(nothing, accuracy, np.random.default_rng(0), 20)
    assert (interval.estimate, interval.low, interval.high) == (None, None, None)
    assert interval.num_undefined == 20


def test_a_figure_may_say_nan_for_undefined() -> None:
    interval = patient_interval(patients(2), lambda _: float("nan"), np.random.default_rng(0), 5)
    assert interval.num_undefined == 5


def test_one_patient_has_an_interval_without_width() -> None:
    interval = patient_interval(patients(1), accuracy, np.random.default_rng(0), 50)
    assert interval.low == interval.high == interval.estimate


def test_the_order_of_magnitude_of_counts_does_not_matter() -> None:
    small, huge = patients(5), patients(5) * 10**13
    of = [
        resampled_figures(c, lambda m: macro_f1(m, (0, 1, 2)), np.random.default_rng(4), 20)
        for c in (small, huge)
    ]
    np.testing.assert_allclose(of[0], of[1])


@pytest.mark.parametrize(
    "confusions",
    [
        np.zeros((3, 3), dtype=np.int64),
        np.zeros((0, 3, 3), dtype=np.int64),
        np.zeros((2, 3, 4), dtype=np.int64),
        np.full((2, 3, 3), np.nan),
        np.full((2, 3, 3), -1),
    ],
    ids=["one matrix", "no patient", "not square", "nan", "negative"],
)
def test_refuses_what_is_no_stack_of_counts(confusions: NDArray[np.int64]) -> None:
    with pytest.raises(ContractError):
        patient_interval(confusions, accuracy, np.random.default_rng(0), 5)


@pytest.mark.parametrize(("num_resamples", "level"), [(0, 0.95), (5, 0.0), (5, 1.0)])
def test_refuses_an_interval_that_cannot_be(num_resamples: int, level: float) -> None:
    with pytest.raises(ContractError):
        patient_interval(patients(2), accuracy, np.random.default_rng(0), num_resamples, level)

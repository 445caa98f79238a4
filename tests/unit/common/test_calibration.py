from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.errors import ContractError
from common.metrics.calibration import (
    area_under,
    brier,
    coverage_curve,
    point_for_error,
    reliability_bins,
    top_label_ece,
)

NO_SCORES, NO_LABELS = np.empty((0, 3)), np.empty(0, dtype=np.int64)


def beats(num_beats: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(3, 0.5), size=num_beats), rng.integers(3, size=num_beats)


def binary(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, NDArray[np.int64]]:
    """Scores of two classes of which the first is always decided."""
    top = np.array(confidence)
    return np.stack([top, 1 - top], axis=1), np.where(right, 0, 1)


def test_ece_equals_that_of_a_plain_loop_over_bins() -> None:
    scores, labels = beats(500)
    top, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    gap = 0.0
    for low in range(15):
        inside = (top > low / 15) & (top <= (low + 1) / 15)
        if inside.any():
            gap += inside.sum() / 500 * abs(right[inside].mean() - top[inside].mean())
    assert top_label_ece(scores, labels) == pytest.approx(gap)


def test_ece_of_a_case_counted_by_hand() -> None:
    scores, labels = binary([0.9, 0.9, 0.9, 0.9, 0.6, 0.6], [True, True, True, False, True, False])
    # 0.9 holds 3 of 4, 0.6 holds 1 of 2
    assert top_label_ece(scores, labels) == pytest.approx((4 * 0.15 + 2 * 0.1) / 6)


def test_certain_and_right_is_calibrated_and_certain_and_wrong_is_not() -> None:
    scores, labels = np.eye(3), np.arange(3)
    assert (top_label_ece(scores, labels), brier(scores, labels)) == (0, 0)
    assert (top_label_ece(scores, (labels + 1) % 3), brier(scores, (labels + 1) % 3)) == (1, 2)


def test_bins_hold_their_upper_edge_and_empty_ones_say_nothing() -> None:
    bins = reliability_bins(*binary([0.6, 0.8, 0.81, 1.0], [True, False, True, True]), num_bins=5)
    assert bins.num_beats.tolist() == [0, 0, 1, 1, 2]
    assert np.isnan(bins.confidence[:2]).all()
    assert bins.share_right[2:].tolist() == [1, 0, 1]
    np.testing.assert_allclose(bins.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])


def test_brier_equals_that_of_a_plain_loop() -> None:
    scores, labels = beats(200)
    by_hand = np.mean(
        [
            sum((row[c] - (c == label)) ** 2 for c in range(3))
            for row, label in zip(scores, labels, strict=True)
        ]
    )
    assert brier(scores, labels) == pytest.approx(by_hand)


def test_scores_drawn_from_their_own_probabilities_are_calibrated() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(3), size=100_000)
    labels = (rng.random((100_000, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(0, 2)
    ece = top_label_ece(scores, labels)
    assert ece is not None
    assert ece < 0.01


def test_error_at_each_coverage_equals_that_of_a_plain_loop() -> None:
    scores, labels = beats(60)
    order = np.argsort(1 - scores.max(axis=1))
    wrong = (scores.argmax(axis=1) != labels)[order]
    curve = coverage_curve(scores, labels)
    np.testing.assert_allclose(curve.coverage, np.arange(1, 61) / 60)
    np.testing.assert_allclose(curve.error, [wrong[: i + 1].mean() for i in range(60)])
    assert area_under(curve) == pytest.approx(np.mean([wrong[: i + 1].mean() for i in range(60)]))


def test_full_coverage_has_the_error_of_all_beats() -> None:
    scores, labels = beats(100)
    curve = coverage_curve(scores, labels)
    assert curve.coverage[-1] == 1
    assert curve.error[-1] == pytest.approx((scores.argmax(axis=1) != labels).mean())


@settings(deadline=None)
@given(st.permutations(range(8)))
def test_tied_beats_are_answered_together_in_any_order(order: list[int]) -> None:
    scores, labels = binary(
        [0.9, 0.9, 0.9, 0.7, 0.7, 0.6, 0.6, 0.6],
        [True, True, False, True, False, False, True, False],
    )
    curve = coverage_curve(scores[order], labels[order])
    np.testing.assert_allclose(curve.threshold, [0.1, 0.3, 0.4])
    np.testing.assert_allclose(curve.coverage, [3 / 8, 5 / 8, 1])
    np.testing.assert_allclose(curve.error, [1 / 3, 2 / 5, 4 / 8])
    assert area_under(curve) == pytest.approx((3 * 1 / 3 + 2 * 2 / 5 + 3 * 4 / 8) / 8)


def test_answers_as_many_beats_as_the_wanted_error_allows() -> None:
    scores, labels = binary([0.99, 0.9, 0.8, 0.7, 0.6], [False, True, True, True, False])
    curve = coverage_curve(scores, labels)
    point = point_for_error(curve, 0.25)
    assert point is not None
    assert (point.coverage, point.error) == (0.8, 0.25)
    answered = 1 - scores.max(axis=1) <= point.threshold
    assert answered.sum() == 4
    assert (labels[answered] != 0).mean() == point.error


def test_no_threshold_reaches_an_error_that_even_the_surest_beats_miss() -> None:
    assert point_for_error(coverage_curve(*binary([0.9], [False])), 0.5) is None


def test_no_beats_have_no_figures() -> None:
    curve = coverage_curve(NO_SCORES, NO_LABELS)
    assert top_label_ece(NO_SCORES, NO_LABELS) is None
    assert brier(NO_SCORES, NO_LABELS) is None
    assert not reliability_bins(NO_SCORES, NO_LABELS).num_beats.any()
    assert (len(curve.coverage), area_under(curve), point_for_error(curve, 1)) == (0, None, None)


def test_scores_of_float32_may_pass_one_by_rounding() -> None:
    scores = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0]], dtype=np.float32)
    assert top_label_ece(scores, np.array([0])) == 0
    assert coverage_curve(scores, np.array([0])).threshold[0] == 0


@pytest.mark.parametrize(
    ("scores", "labels"),
    [
        (np.array([[np.nan, 0.5]]), np.array([0])),
        (np.array([[1.2, -0.2]]), np.array([0])),
        (np.array([[0.5, 0.5]]), np.array([2])),
        (np.array([[0.5, 0.5]]), np.array([-1])),
        (np.array([[0.5, 0.5]]), np.array([0.0])),
        (np.array([[0.5, 0.5]]), np.array([0, 1])),
        (np.array([0.5]), np.array([0])),
        (np.empty((1, 0)), np.array([0])),
    ],
    ids=["nan", "range", "label", "negative", "not whole", "length", "one row", "no class"],
)
def test_refuses_what_are_no_scores_of_labelled_beats(
    scores: NDArray[np.float64], labels: NDArray[np.int64]
) -> None:
    for figure in (reliability_bins, top_label_ece, brier, coverage_curve):
        with pytest.raises(ContractError):
            figure(scores, labels)

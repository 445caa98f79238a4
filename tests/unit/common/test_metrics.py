from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from common.errors import ContractError
from common.metrics.counts import NUM_BINS, count_scores, count_shapes
from common.metrics.ec57 import sveb, veb
from common.metrics.figures import accuracy, class_figures, macro_f1
from common.metrics.report import beat_report

# A record made by hand: rows are what the beats are, columns what was said; N S V F Q.
BY_HAND = np.array(
    [
        [90, 4, 3, 2, 1],
        [2, 6, 2, 0, 0],
        [1, 0, 8, 1, 0],
        [1, 0, 3, 1, 0],
        [0, 1, 1, 0, 0],
    ]
)
EMPTY = np.zeros((5, 5), dtype=np.int64)


def test_counts_equal_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet(np.ones(5), size=400)
    labels = rng.integers(5, size=400)
    confusion = np.zeros((5, 5), dtype=np.int64)
    histogram = np.zeros((5, 2, NUM_BINS), dtype=np.int64)
    for row, label in zip(scores, labels, strict=True):
        confusion[label, row.argmax()] += 1
        for c in range(5):
            histogram[c, int(label == c), min(int(row[c] * NUM_BINS), NUM_BINS - 1)] += 1
    counts = count_scores(scores, labels)
    np.testing.assert_array_equal(counts["confusion"], confusion)
    np.testing.assert_array_equal(counts["histogram"], histogram)


def test_counts_of_two_wristbands_add_up() -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.dirichlet(np.ones(5), size=50), rng.integers(5, size=50)
    whole = count_scores(scores, labels)
    parts = [count_scores(scores[s], labels[s]) for s in (slice(0, 20), slice(20, 50))]
    for name, value in whole.items():
        np.testing.assert_array_equal(parts[0][name] + parts[1][name], value)


@pytest.mark.parametrize(("value", "bin_idx"), [(0.0, 0), (1.0, 31), (0.5, 16), (1.0000001, 31)])
def test_a_score_falls_into_its_bin(value: float, bin_idx: int) -> None:
    histogram = count_scores(np.array([[value, 1 - value]]), np.array([0]))["histogram"]
    assert histogram[0, 1, bin_idx] == 1


def test_no_beats_count_as_zeros_of_the_announced_shape() -> None:
    counts = count_scores(np.empty((0, 5)), np.empty(0, dtype=np.int64))
    assert {name: value.shape for name, value in counts.items()} == count_shapes(5)
    assert not any(value.any() for value in counts.values())


def test_figures_of_a_record_counted_by_hand() -> None:
    n, s, v, _, q = class_figures(BY_HAND)
    assert (n.num_beats, s.num_beats) == (100, 10)
    assert n.sensitivity == pytest.approx(90 / 100)
    assert n.positive_predictivity == pytest.approx(90 / 94)
    assert s.f1 == pytest.approx(12 / 21)
    assert v.f1 == pytest.approx(16 / 27)
    assert q.f1 == 0
    assert accuracy(BY_HAND) == pytest.approx(105 / 127)
    assert macro_f1(BY_HAND, (0, 1, 2)) == pytest.approx((180 / 194 + 12 / 21 + 16 / 27) / 3)


def test_a_class_without_beats_has_no_figures() -> None:
    figures = class_figures(np.array([[5, 0], [0, 0]]))[1]
    assert (figures.sensitivity, figures.positive_predictivity, figures.f1) == (None, None, None)
    assert macro_f1(np.array([[5, 0], [0, 0]]), (0, 1)) == 1


def test_nothing_counted_has_no_figures() -> None:
    assert accuracy(EMPTY) is None
    assert macro_f1(EMPTY, (0, 1, 2)) is None


def test_fusion_and_unclassifiable_beats_called_v_are_forgiven() -> None:
    figures = veb(BY_HAND)
    assert figures.sensitivity == pytest.approx(8 / 10)
    assert figures.positive_predictivity == pytest.approx(8 / (8 + 3 + 2))
    assert figures.false_positive_rate == pytest.approx(5 / (5 + 117 - 9))


def test_unclassifiable_beats_called_s_are_forgiven() -> None:
    figures = sveb(BY_HAND)
    assert figures.sensitivity == pytest.approx(6 / 10)
    assert figures.positive_predictivity == pytest.approx(6 / (6 + 4))
    assert figures.false_positive_rate == pytest.approx(4 / (4 + 117 - 5))


def record(s_right: int, s_missed: int) -> NDArray[np.int64]:
    confusion = EMPTY.copy()
    confusion[0, 0] = 100
    confusion[1, 1], confusion[1, 0] = s_right, s_missed
    return confusion


def test_s_is_told_with_and_without_record_232() -> None:
    report = beat_report({"232": record(90, 10), "100": record(1, 3)}).to_dict()
    assert report["classes"]["S"]["f1"] == pytest.approx(182 / (104 + 91))
    assert report["classes"]["S"]["f1_without_232"] == pytest.approx(2 / 5)


def test_averages_leave_out_records_without_such_beats() -> None:
    report = beat_report({"100": record(1, 3), "101": record(0, 0), "103": record(3, 1)})
    assert report.sveb_average.sensitivity == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert report.sveb.sensitivity == pytest.approx(4 / 8)
    assert report.veb_average.sensitivity is None


def test_a_report_is_plain_json() -> None:
    report = beat_report({"100": BY_HAND}).to_dict()
    again = json.loads(json.dumps(report, allow_nan=False))
    assert again["confusion"] == BY_HAND.tolist()
    assert again["num_beats"] == 127


@pytest.mark.parametrize(
    "confusions",
    [{}, {"100": np.zeros((4, 4), int)}, {"100": EMPTY - 1}, {"100": np.full((5, 5), np.nan)}],
    ids=["none", "shape", "negative", "nan"],
)
def test_refuses_what_are_not_counts(confusions: dict[str, NDArray[np.int64]]) -> None:
    with pytest.raises(ContractError):
        beat_report(confusions)

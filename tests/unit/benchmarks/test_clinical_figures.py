from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from benchmarks import clinical_figures as figures
from benchmarks.clinical_figures import FIGURES, N, S, Spread, V
from benchmarks.clinical_table import ROWS, cell, figures_table
from common.ecg.labels import AAMI
from common.metrics.bootstrap import patient_interval
from common.metrics.figures import Confusion, accuracy
from common.metrics.report import DOMINANT_S_RECORD

F, Q = AAMI.index("F"), AAMI.index("Q")


def make_counts(
    hits: int = 90, misses: int = 10, classes: tuple[int, ...] = (N, S, V)
) -> Confusion:
    """Of each class `hits` beats are right and `misses` are taken for the next of N, S, V."""
    counts = np.zeros((len(AAMI), len(AAMI)), dtype=np.int64)
    for c in classes:
        counts[c, c] += hits
        counts[c, (c + 1) % 3] += misses
    return counts


def figure(name: str, counts: Confusion) -> float | None:
    return FIGURES[name](counts)


def make_spread(*values: float | None) -> Spread:
    return figures.seeds(values)


@cache
def spreads_of(*hits: int) -> dict[str, Spread]:
    """Two records a seed, as good as its `hits` of 100; the dominant one has V beats only."""
    return figures.spreads(
        [
            {"100": make_counts(h, 100 - h), DOMINANT_S_RECORD: make_counts(h, 100 - h, (V,))}
            for h in hits
        ]
    )


def test_seeds_give_the_mean_and_the_sample_standard_deviation() -> None:
    found = figures.seeds([1.0, 2.0, 4.0])
    assert found["mean"] == pytest.approx(7 / 3)
    assert found["sd"] == pytest.approx(float(np.std([1.0, 2.0, 4.0], ddof=1)))
    assert found["values"] == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("values", "mean", "sd"),
    [([], None, None), ([None], None, None), ([0.5], 0.5, None), ([0.5, None], 0.5, None)],
)
def test_seeds_do_not_invent_what_nobody_can_know(
    values: list[float | None], mean: float | None, sd: float | None
) -> None:
    unknown = (None, None)
    assert figures.seeds(values) == {"mean": mean, "sd": sd, "ci95": unknown, "values": values}


def test_the_interval_is_the_bootstrap_over_patients() -> None:
    stack = np.array([[make_counts(50 + 5 * k, 10) for k in range(6)]] * 2)
    found = figures.spread(stack, accuracy)
    rng = np.random.default_rng(figures.RESAMPLING_SEED)
    expected = patient_interval(stack, accuracy, rng)
    assert found["ci95"] == (expected.low, expected.high)
    low, high = found["ci95"]
    assert low is not None
    assert high is not None
    assert found["mean"] is not None
    assert low < found["mean"] < high


def test_patients_who_are_alike_leave_nothing_to_chance() -> None:
    found = figures.spread(np.array([[make_counts(80, 20)] * 4]), accuracy)
    assert found["mean"] == pytest.approx(0.8)
    assert found["ci95"] == pytest.approx((0.8, 0.8))


def test_the_same_counts_give_the_same_interval_again() -> None:
    stack = np.array([[make_counts(50 + 5 * k, 10) for k in range(4)]])
    assert figures.spread(stack, accuracy) == figures.spread(stack, accuracy)


@pytest.mark.parametrize("name", ["accuracy", "macro_f1", "s_f1", "v_f1"])
def test_a_figure_among_n_s_and_v_does_not_know_reference_f_and_q(name: str) -> None:
    counts = make_counts()
    others = counts.copy()
    others[F, [N, V, F]] = 30
    others[Q, [S, Q]] = 50
    assert figure(name, others) == figure(name, counts)


@pytest.mark.parametrize("name", ["accuracy_five_classes", "macro_f1_counting_f_and_q"])
def test_a_figure_among_all_five_classes_counts_them(name: str) -> None:
    others = make_counts()
    others[F, V] = others[Q, N] = 30
    found, without = figure(name, others), figure(name, make_counts())
    assert found is not None
    assert without is not None
    assert found < without


def test_to_say_f_of_an_n_beat_is_wrong_among_n_s_and_v_too() -> None:
    counts = make_counts(100, 0)
    counts[N, N], counts[N, F] = 70, 30
    assert figure("accuracy", counts) == pytest.approx(270 / 300)


def test_four_classes_count_the_f1_of_f() -> None:
    counts = make_counts(100, 0)
    counts[F, N] = 100
    three = figure("macro_f1_counting_f_and_q", counts)
    assert three is not None
    assert figure("macro_f1_four_classes", counts) == pytest.approx(3 * three / 4)


def test_sensitivities_are_by_class_and_predictivities_leave_f_out_of_the_false_v() -> None:
    counts = make_counts(90, 10)
    counts[F, V] = 500  # EC57: F taken for V is neither right nor wrong
    assert figure("v_sensitivity", counts) == pytest.approx(0.9)
    assert figure("v_positive_predictivity", counts) == pytest.approx(0.9)
    assert figure("s_sensitivity", counts) == pytest.approx(0.9)


def test_spreads_have_every_figure_over_all_seeds() -> None:
    found = spreads_of(90, 80)
    assert found.keys() == FIGURES.keys()
    assert found["accuracy"]["values"] == pytest.approx([0.9, 0.8])
    assert found["v_sensitivity"]["values"] == pytest.approx([0.9, 0.8])


def test_without_232_that_record_is_left_out() -> None:
    good, bad = make_counts(100, 0), make_counts(0, 100)
    found = figures.spreads([{"100": good, DOMINANT_S_RECORD: bad}])
    assert found["s_f1_without_232"]["values"] == [1.0]
    assert found["s_f1"]["values"] == pytest.approx([0.5])


def test_differences_are_taken_seed_by_seed() -> None:
    found = figures.differences(spreads_of(90, 80), spreads_of(80, 80))["accuracy"]
    assert found["values"] == pytest.approx([0.1, 0.0])
    assert found["mean"] == pytest.approx(0.05)
    assert found["sd"] == pytest.approx(0.1 / math.sqrt(2))


def test_a_difference_to_an_unknown_figure_is_unknown() -> None:
    ours, peers = {"s_f1": make_spread(0.5, 0.25)}, {"s_f1": make_spread(None, 0.25)}
    assert figures.differences(ours, peers)["s_f1"]["values"] == [None, 0.0]


def test_only_figures_and_seeds_that_both_have_are_compared() -> None:
    ours = {"s_f1": make_spread(0.5, 0.25), "ours": make_spread(1.0)}
    found = figures.differences(ours, {"s_f1": make_spread(0.25), "theirs": make_spread(1.0)})
    assert {name: spread["values"] for name, spread in found.items()} == {"s_f1": [0.25]}


def test_the_table_has_a_row_for_each_figure_and_a_column_for_each_model_there_is() -> None:
    ours = spreads_of(90, 80)
    document = {"federated": ours, "federated_minus_centralised": figures.differences(ours, ours)}
    table = figures_table(document)
    assert table.row_count == len(ROWS)
    assert [column.header for column in table.columns] == ["", "federated (ours)", "difference"]
    assert "+0.000 ± 0.000" in list(table.columns[2].cells)


@pytest.mark.parametrize(
    ("values", "text"),
    [([], "n/a"), ([None], "n/a"), ([0.5], "0.500"), ([0.5, 0.5], "0.500 ± 0.000")],
)
def test_a_cell_says_what_is_unknown_and_shows_no_sd_of_one_seed(
    values: list[float | None], text: str
) -> None:
    assert cell(make_spread(*values)) == text


def test_a_difference_has_its_sign() -> None:
    assert cell(make_spread(0.25), signed=True) == "+0.250"
    assert cell(make_spread(-0.25), signed=True) == "-0.250"

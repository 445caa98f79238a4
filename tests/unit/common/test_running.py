from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.running import (
    running_max,
    running_mean,
    running_median,
    running_min,
    running_percentiles,
    running_sum,
)

REACHES = [(0, 0), (3, 0), (0, 4), (9, 2), (63, 0), (40, 30), (300, 15)]


def one_by_one(
    series: NDArray[np.float64], past: int, ahead: int, of: Callable[[list[float]], float]
) -> list[float]:
    """The definition, value by value."""
    values = series.tolist()
    return [of(values[max(0, at - past) : at + ahead + 1]) for at in range(len(values))]


def ranked(percent: int) -> Callable[[list[float]], float]:
    return lambda known: sorted(known)[len(known) * percent // 100]


def draw(count: int) -> NDArray[np.float64]:
    return np.random.default_rng(count).integers(0, 50, count).astype(np.float64)


@pytest.mark.parametrize(("past", "ahead"), REACHES)
@pytest.mark.parametrize("count", [1, 2, 20, 500])
def test_percentiles_are_those_of_the_values_known(count: int, past: int, ahead: int) -> None:
    series = draw(count)
    found = running_percentiles(series, [0, 15, 50, 99], past, ahead)
    for values, percent in zip(found, [0, 15, 50, 99], strict=True):
        assert values.tolist() == one_by_one(series, past, ahead, ranked(percent))
    assert running_median(series, past, ahead).tolist() == found[2].tolist()


@pytest.mark.parametrize(("past", "ahead"), REACHES)
@pytest.mark.parametrize("count", [1, 2, 20, 500])
def test_sums_means_and_extremes_are_those_of_the_values_known(
    count: int, past: int, ahead: int
) -> None:
    series = draw(count)
    assert running_sum(series, past, ahead).tolist() == one_by_one(series, past, ahead, sum)
    assert running_max(series, past, ahead).tolist() == one_by_one(series, past, ahead, max)
    assert running_min(series, past, ahead).tolist() == one_by_one(series, past, ahead, min)
    means = one_by_one(series, past, ahead, lambda known: sum(known) / len(known))
    np.testing.assert_allclose(running_mean(series, past, ahead), means)


def test_equal_values_leave_the_window_one_at_a_time() -> None:
    series = np.array([5.0, 5.0, 5.0, 1.0, 1.0, *[9.0] * 80])
    found = running_median(series, 70, 0)
    assert found.tolist() == one_by_one(series, 70, 0, ranked(50))

from __future__ import annotations

import numpy as np
import pytest

from common.tasks.calibration import MAX_EXPECTED_ERROR, is_inconclusive

LEAST = 1 - MAX_EXPECTED_ERROR  # greatest score that a beat needs


def scores(greatest: float, num_others: int = 4) -> list[float]:
    return [greatest, *[(1 - greatest) / num_others] * num_others]


@pytest.mark.parametrize(
    ("greatest", "expected"),
    [(1.0, False), (LEAST + 0.01, False), (LEAST - 0.01, True), (0.2, True)],
)
def test_a_beat_that_is_wrong_too_often_is_inconclusive(greatest: float, expected: bool) -> None:
    assert is_inconclusive(np.array([scores(greatest)])).tolist() == [expected]


def test_the_place_of_the_greatest_score_does_not_matter() -> None:
    rows = np.array([np.roll(scores(g), place) for g in (0.9, 0.5) for place in range(5)])
    assert is_inconclusive(rows).tolist() == [False] * 5 + [True] * 5


def test_each_beat_is_judged_alone() -> None:
    rows = np.array([scores(0.9), scores(0.3)], dtype=np.float32)
    assert is_inconclusive(rows).tolist() == [False, True]
    assert is_inconclusive(rows[::-1]).tolist() == [True, False]


def test_no_beats_have_no_verdict() -> None:
    found = is_inconclusive(np.empty((0, 5), dtype=np.float32))
    assert found.shape == (0,)
    assert found.dtype == np.bool_

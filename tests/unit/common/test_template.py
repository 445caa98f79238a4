from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.rr import LOOK_AHEAD_BEATS
from common.ecg.template import HOP, regular_beats

PAST = 196  # beats, as documented


def windows(num: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(num, 5)).astype(np.float32)


def positions(num: int, seed: int = 0) -> NDArray[np.float64]:
    steps = np.random.default_rng(seed).choice([70, 96, 97, 100, 140], num)
    return np.cumsum(steps).astype(np.float64)


def evenly(num: int) -> NDArray[np.float64]:
    return 96 * np.arange(num, dtype=np.float64)


def test_is_the_median_of_the_regular_beats() -> None:
    at = evenly(40)
    at[9::10] -= 30
    beats = np.zeros((40, 3), dtype=np.float32)
    beats[9::10] = 5
    beats[10::10] = 5  # after the pause
    template, spread = regular_beats(beats, at)
    np.testing.assert_array_equal(template, 0)
    np.testing.assert_array_equal(spread, 0)


def test_is_the_median_of_all_beats_where_few_are_regular() -> None:
    at = np.cumsum(np.resize([50.0, 150.0], 30)).astype(np.float64)
    beats = np.arange(30, dtype=np.float32)[:, None]
    expected = [np.median(beats[:16]), np.median(beats)]
    np.testing.assert_array_equal(regular_beats(beats, at)[0][:, 0], np.repeat(expected, [16, 14]))


def test_follows_a_wearer_whose_beat_changes() -> None:
    beats = np.repeat(np.array([1, 2], dtype=np.float32), 400)[:, None]
    usual = regular_beats(beats, evenly(800))[0][:, 0]
    np.testing.assert_array_equal(usual[:400], 1)
    np.testing.assert_array_equal(usual[500:], 2)


@pytest.mark.parametrize("num", [18, 100, 233, 400])
def test_depends_on_no_more_beats_ahead_than_stated(num: int) -> None:
    beats, at = windows(500), positions(500)
    known = num - LOOK_AHEAD_BEATS
    for early, late in zip(
        regular_beats(beats[:num], at[:num]), regular_beats(beats, at), strict=True
    ):
        np.testing.assert_array_equal(early[:known], late[:known])


def test_depends_on_no_more_beats_behind_than_stated() -> None:
    beats, at = windows(600), positions(600)
    start = 9 * HOP
    for late, whole in zip(
        regular_beats(beats[start:], at[start:]), regular_beats(beats, at), strict=True
    ):
        np.testing.assert_array_equal(late[PAST:], whole[start + PAST :])


@pytest.mark.parametrize("num", [0, 1, 2, 7])
def test_few_beats_have_a_template(num: int) -> None:
    for rows in regular_beats(windows(num), positions(num)):
        assert rows.shape == (num, 5)
        assert np.isfinite(rows).all()


def test_spread_is_the_median_distance_of_all_beats() -> None:
    beats = np.zeros((16, 2), dtype=np.float32)
    beats[:, 1] = np.resize([-1, 1, 3, -3], 16)
    template, spread = regular_beats(beats, evenly(16))
    np.testing.assert_array_equal(template, 0)
    np.testing.assert_array_equal(spread, np.tile([0, 2], (16, 1)))

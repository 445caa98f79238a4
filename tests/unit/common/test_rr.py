from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.rr import (
    LOOK_AHEAD_BEATS,
    NUM_FEATURES,
    PAST_BEATS,
    SEQUENCE,
    SEQUENCE_PAST,
    rhythm_sequence,
    rr_features,
)

POST = 8  # column of the interval after the beat against the wearer's past

Describe = Callable[[NDArray[np.float64]], NDArray[np.float32]]
both = pytest.mark.parametrize("describe", [rr_features, rhythm_sequence])


def regular(num: int, rr_s: float = 0.8) -> NDArray[np.float64]:
    return np.asarray(0.5 + rr_s * np.arange(num))


def with_one_early(num: int, rr_s: float, early: int) -> NDArray[np.float64]:
    times = regular(num, rr_s)
    times[early] -= 0.3 * rr_s
    return times


def erratic(num: int, seed: int = 0) -> NDArray[np.float64]:
    """Fibrillation with pauses: every feature moves at every beat."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(rng.normal(0, 0.02, num))
    return np.asarray(np.cumsum(np.exp(rng.normal(-0.3, 0.25, num) + drift).clip(0.2, 3.5)))


@both
def test_the_heart_rate_is_not_told(describe: Describe) -> None:
    slow, fast = (describe(with_one_early(60, rr_s, 30)) for rr_s in (1.2, 0.5))
    np.testing.assert_allclose(slow, fast, atol=1e-5)


@both
def test_a_steady_rhythm_is_all_zero(describe: Describe) -> None:
    np.testing.assert_allclose(describe(regular(50)), 0, atol=1e-6)


def test_features_tell_an_early_beat() -> None:
    features = rr_features(with_one_early(60, 0.8, 30))
    assert features[30, 0] == pytest.approx(np.log(0.7), abs=1e-5)
    assert features[30, POST] == pytest.approx(np.log(1.3), abs=1e-5)


def test_the_sequence_holds_the_intervals_around_each_beat_relative_to_its_own() -> None:
    times = erratic(200)
    intervals = np.log(np.diff(times, prepend=2 * times[0] - times[1]))  # each ends at its beat
    sequence = rhythm_sequence(times)
    np.testing.assert_array_equal(sequence[:, SEQUENCE_PAST], 0)
    np.testing.assert_allclose(
        sequence[100], intervals[100 - SEQUENCE_PAST : 116] - intervals[100], atol=1e-6
    )


def test_beyond_the_strip_its_first_or_last_interval_goes_on() -> None:
    times = with_one_early(20, 0.8, 1)
    sequence = rhythm_sequence(times)
    np.testing.assert_allclose(sequence[5, :SEQUENCE_PAST][:-4], np.log(0.7), atol=1e-6)
    np.testing.assert_allclose(sequence[19, SEQUENCE_PAST:], 0, atol=1e-6)


@both
def test_a_beat_depends_on_no_more_beats_ahead_than_stated(describe: Describe) -> None:
    times = erratic(700)
    whole = describe(times)
    for num in (20, 90, 333, 500):
        known = num - LOOK_AHEAD_BEATS
        np.testing.assert_allclose(describe(times[:num])[:known], whole[:known], atol=1e-6)


@both
def test_a_beat_depends_on_no_more_beats_behind_than_stated(describe: Describe) -> None:
    times = erratic(900)
    whole, late = describe(times), describe(times[200:])
    np.testing.assert_allclose(late[PAST_BEATS:], whole[200 + PAST_BEATS :], atol=1e-5)


@pytest.mark.parametrize("num", [0, 1, 2])
def test_fewer_than_three_beats_have_no_rhythm(num: int) -> None:
    features, sequence = rr_features(regular(num)), rhythm_sequence(regular(num))
    assert features.shape == (num, NUM_FEATURES)
    assert sequence.shape == (num, SEQUENCE)
    assert not features.any()
    assert not sequence.any()


@both
@pytest.mark.parametrize("times", [[0, 0, 0, 0], [0, 1e-9, 1e5, 2e5], [1, 2, 3]], ids=str)
def test_no_intervals_make_a_number_that_is_not_finite(
    describe: Describe, times: list[float]
) -> None:
    described = describe(np.array(times, dtype=np.float64))
    assert described.dtype == np.float32
    assert np.isfinite(described).all()

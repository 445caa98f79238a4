from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.ecg.beats import BEFORE, INPUT_SHAPES
from common.tasks.beat_augment import LOUD_SHARE, MAX_SHIFT, varied

NUM = 400


def windows() -> NDArray[np.float32]:
    """NUM equal examples (NUM, 5, 128): a spike of 1 mV at the R peak, a spread of 0.02 mV."""
    beat_mv = np.zeros((NUM, *INPUT_SHAPES["beat_mv"]), dtype=np.float32)
    beat_mv[:, :4, BEFORE] = 1
    beat_mv[:, 4] = 0.02
    return beat_mv


def make_varied(seed: int = 0) -> NDArray[np.float32]:
    return varied(windows(), np.random.default_rng(seed))


def test_all_windows_of_an_example_are_shifted_alike() -> None:
    place = make_varied()[:, 1:4].argmax(axis=2)
    assert (place == place[:, :1]).all()
    assert np.abs(place - BEFORE).max() == MAX_SHIFT


def test_only_the_beat_gets_noise() -> None:
    others = make_varied()[:, 1:]
    np.testing.assert_array_equal(others.sum(axis=(1, 2)), windows()[:, 1:].sum(axis=(1, 2)))


def test_some_beats_get_much_noise_and_most_get_little() -> None:
    flat = make_varied()[:, 0, :20]  # before P there is nothing but noise
    size = np.diff(flat, axis=1).std(axis=1)
    assert np.median(size) < 0.06
    assert abs((size > 0.06).mean() - LOUD_SHARE) < 0.15
    assert size.max() < 1


def test_a_simulated_rhythm_stays_without_ecg() -> None:
    assert not varied(np.zeros_like(windows()), np.random.default_rng(0)).any()


def test_the_same_seed_gives_the_same_beats() -> None:
    np.testing.assert_array_equal(make_varied(3), make_varied(3))
    assert (make_varied(3) != make_varied(4)).any()

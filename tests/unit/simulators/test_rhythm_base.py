from __future__ import annotations

import numpy as np
import pytest

from simulators.rhythm_base import (
    SHORTEST_CONDUCTED_S,
    SINUS_LOG_RANGE,
    Series,
    dropped_beats,
    fibrillation,
    flutter,
    sinus,
    stretches,
    two_to_one,
    wenckebach,
)

NUM_RECORDS = 60


def make_rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def irregularity(intervals_s: Series) -> float:
    return float(np.median(np.abs(np.diff(np.log(intervals_s)))))


def serial_correlation(series: Series) -> float:
    return float(np.corrcoef(series[1:], series[:-1])[0, 1])


@pytest.mark.parametrize("base", [sinus, fibrillation, flutter, dropped_beats, two_to_one])
@pytest.mark.parametrize("num_beats", [1, 2, 7, 300])
def test_every_base_rhythm_has_the_length_asked_for(base: object, num_beats: int) -> None:
    assert callable(base)
    intervals = base(make_rng(), num_beats)
    assert intervals.shape == (num_beats,)
    assert (intervals > 0).all()


def test_sinus_stays_around_its_mean() -> None:
    for seed in range(NUM_RECORDS):
        log_ratio = np.log(sinus(make_rng(seed), 300, mean_s=0.8) / 0.8)
        assert np.abs(log_ratio).max() <= SINUS_LOG_RANGE + 1e-9
        assert abs(np.median(log_ratio)) < 0.6


def test_sinus_without_a_mean_draws_one_of_46_to_120_a_minute() -> None:
    typical_s = [np.median(sinus(make_rng(seed), 300)) for seed in range(NUM_RECORDS)]
    assert 0.6 < np.median(typical_s) < 1.0
    assert min(typical_s) < 0.6
    assert max(typical_s) > 1.1


def test_some_sinus_rhythms_swing_with_a_breath_of_3_to_7_beats() -> None:
    shares = []
    for seed in range(NUM_RECORDS):
        log_s = np.log(sinus(make_rng(seed), 512))
        power = np.abs(np.fft.rfft(np.diff(log_s))) ** 2
        cycles_a_beat = np.fft.rfftfreq(511)
        breath = (cycles_a_beat > 1 / 8) & (cycles_a_beat < 1 / 2.8)
        shares.append(power[breath].sum() / power.sum())
    flat = 2 * (1 / 2.8 - 1 / 8)  # of white noise
    assert np.quantile(shares, 0.75) > 1.25 * flat


def test_fibrillation_is_irregular_and_sinus_is_not() -> None:
    wild = [irregularity(fibrillation(make_rng(seed), 300)) for seed in range(NUM_RECORDS)]
    calm = [irregularity(sinus(make_rng(seed), 300)) for seed in range(NUM_RECORDS)]
    assert np.median(wild) > 0.2
    assert np.median(calm) < 0.05
    assert np.quantile(wild, 0.1) > np.quantile(calm, 0.9)


def test_intervals_of_fibrillation_hardly_know_their_neighbours() -> None:
    wild = [serial_correlation(fibrillation(make_rng(seed), 300)) for seed in range(NUM_RECORDS)]
    assert np.median(np.abs(wild)) < 0.15


def test_no_conducted_beat_comes_before_the_av_node_recovers() -> None:
    for seed in range(NUM_RECORDS):
        assert fibrillation(make_rng(seed), 300).min() >= SHORTEST_CONDUCTED_S
        assert flutter(make_rng(seed), 300).min() >= SHORTEST_CONDUCTED_S


def test_intervals_of_flutter_are_whole_numbers_of_one_cycle() -> None:
    for seed in range(NUM_RECORDS):
        log_s = np.log(flutter(make_rng(seed), 300))
        cycles_s = np.linspace(0.17, 0.28, 221)[:, None, None]
        cycles = np.log(cycles_s * np.array([2, 3, 4, 5]))  # (cycle, ratio)
        distance = np.abs(log_s[:, None] - cycles).min(axis=2)
        assert np.median(distance, axis=1).min() < 0.03


def test_conduction_of_flutter_stays_in_some_records_and_changes_in_others() -> None:
    def stays(intervals_s: Series) -> float:
        return float(np.mean(np.abs(np.diff(np.log(intervals_s))) < 0.15))

    steady = [stays(flutter(make_rng(seed), 300)) for seed in range(NUM_RECORDS)]
    assert np.quantile(steady, 0.1) < 0.6
    assert np.median(steady) > 0.7


def test_two_to_one_block_doubles_the_interval_exactly() -> None:
    factors = np.concatenate([two_to_one(make_rng(seed), 300) for seed in range(NUM_RECORDS)])
    blocked = factors > 1.5
    assert 0.3 < blocked.mean() < 0.7
    assert np.median(factors[blocked]) / np.median(factors[~blocked]) == pytest.approx(2, abs=0.002)
    assert np.abs(np.log(factors[blocked] / 2)).max() < 0.06


def test_a_dropped_beat_leaves_about_twice_the_interval() -> None:
    factors = np.concatenate([dropped_beats(make_rng(seed), 300) for seed in range(NUM_RECORDS)])
    dropped = factors[factors != 1]
    assert 1.7 <= dropped.min() <= dropped.max() <= 2.1
    assert 0.05 < len(dropped) / len(factors) < 0.3


def test_intervals_of_wenckebach_shorten_until_a_pause_below_two_cycles() -> None:
    for seed in range(NUM_RECORDS):
        factors = wenckebach(make_rng(seed), 100)
        pauses = np.flatnonzero(factors >= 1.5)
        [size] = set(np.diff(pauses))
        assert 3 <= size <= 7
        assert factors.max() < 2
        group = factors[pauses[0] + 1 : pauses[1]]
        assert (np.diff(group) < 0).all()


def test_stretches_alternate_and_either_may_be_first() -> None:
    lengths = np.array([2, 3, 4])
    first = [tuple(stretches(make_rng(seed), lengths, 7)) for seed in range(20)]
    assert set(first) == {
        (True,) * 2 + (False,) * 3 + (True,) * 2,
        (False,) * 2 + (True,) * 3 + (False,) * 2,
    }

from __future__ import annotations

import functools

import numpy as np
import pytest

from simulators.rhythm import INTERVAL_RANGE_S, KINDS, RhythmRecord, simulate
from simulators.rhythm_ectopy import N, S, V
from simulators.rhythm_kinds import PLAYERS

NUM_RECORDS = 80

# Shares of S and V among the beats of many records: lowest and highest.
SHARES = {
    "sinus": ((0, 0), (0.01, 0.05)),
    "isolated": ((0.02, 0.08), (0.01, 0.08)),
    "runs": ((0.1, 0.28), (0.01, 0.08)),
    "dense": ((0.38, 0.52), (0, 0)),
    "sick": ((0.6, 0.78), (0, 0)),
    "vgeminy": ((0, 0.01), (0.28, 0.4)),
    "af": ((0, 0), (0.04, 0.14)),
    "flutter": ((0, 0), (0, 0)),
    "mix": ((0.01, 0.05), (0, 0.02)),
    "block": ((0.003, 0.02), (0, 0)),
}


@functools.cache
def make_records(kind: str, num_beats: int = 300) -> tuple[RhythmRecord, ...]:
    rngs = (np.random.default_rng([7, i]) for i in range(NUM_RECORDS))
    return tuple(simulate(rng, num_beats, kind) for rng in rngs)


def share(kind: str, label: int) -> float:
    return float(np.mean([record.labels == label for record in make_records(kind)]))


def irregularity(record: RhythmRecord) -> float:
    return float(np.median(np.abs(np.diff(np.log(np.diff(record.r_s))))))


def test_every_kind_has_a_weight_a_player_and_a_test() -> None:
    assert set(KINDS) == set(PLAYERS) == set(SHARES)


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_are_those_of_a_living_heart(kind: str) -> None:
    for record in make_records(kind):
        intervals_s = np.diff(record.r_s, prepend=0)
        assert (intervals_s >= INTERVAL_RANGE_S[0] - 1e-9).all()
        assert (intervals_s <= INTERVAL_RANGE_S[1] + 1e-9).all()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_n_s_or_v_in_the_shares_of_the_kind(kind: str) -> None:
    (low_s, high_s), (low_v, high_v) = SHARES[kind]
    assert low_s <= share(kind, S) <= high_s
    assert low_v <= share(kind, V) <= high_v
    assert share(kind, N) + share(kind, S) + share(kind, V) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["sinus", "af", "flutter"])
def test_no_beat_is_s_where_nothing_is_atrial_ectopic(kind: str) -> None:
    assert share(kind, S) == 0


def test_fibrillation_is_far_more_irregular_than_sinus_rhythm() -> None:
    wild, calm = ([irregularity(r) for r in make_records(kind)] for kind in ("af", "sinus"))
    assert np.median(wild) > 0.2
    assert np.median(calm) < 0.05


def test_s_beats_come_early_in_every_kind_that_has_many() -> None:
    for kind in ("isolated", "runs", "dense", "sick"):
        premature = []
        for record in make_records(kind):
            intervals_s = np.diff(record.r_s)
            onset = (record.labels[1:] == S) & (record.labels[:-1] == N)
            typical_s = np.median(intervals_s[record.labels[1:] == N])
            premature.append(intervals_s[onset] < typical_s)
        assert np.mean(np.concatenate(premature)) > 0.9, kind


def test_sick_sinus_alternates_runs_of_s_with_pauses() -> None:
    ratios, lengths = [], []
    for record in make_records("sick"):
        intervals_s, labels = np.diff(record.r_s), record.labels[1:]
        after = (labels[1:] == N) & (labels[:-1] == S)
        ratios.append(np.median(intervals_s[1:][after]) / np.median(intervals_s[labels == S]))
        lengths.append((labels == S).sum() / max(after.sum(), 1))
    assert min(ratios) > 1
    assert np.median(ratios) > 2
    assert np.quantile(lengths, 0.1) < 2.5 < 8 < np.quantile(lengths, 0.9)


def test_dense_rhythms_hold_bigeminy() -> None:
    def alternates(record: RhythmRecord) -> bool:
        return bool(np.mean(record.labels[2:] == record.labels[:-2]) > 0.8)

    assert any(alternates(record) for record in make_records("dense"))


def test_mix_holds_calm_and_irregular_stretches_in_one_record() -> None:
    def spread(record: RhythmRecord) -> float:
        steps = np.abs(np.diff(np.log(np.diff(record.r_s))))[:297]
        return float(np.ptp(np.median(steps.reshape(27, 11), axis=1)))

    mixed, calm = ([spread(r) for r in make_records(kind)] for kind in ("mix", "sinus"))
    assert np.median(mixed) > 3 * np.median(calm)


def test_some_blocks_double_the_interval() -> None:
    def doubled(record: RhythmRecord) -> bool:
        intervals_s = np.diff(record.r_s)
        steps = np.abs(np.diff(np.log(intervals_s)))
        return (
            bool(np.abs(steps[steps > 0.5] - np.log(2)).mean() < 0.05)
            if (steps > 0.5).any()
            else False
        )

    assert sum(doubled(record) for record in make_records("block")) >= NUM_RECORDS // 10


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_beats", [2, 3, 16])
def test_short_records_work_in_every_kind(kind: str, num_beats: int) -> None:
    for record in make_records(kind, num_beats):
        assert record.r_s.shape == record.labels.shape == (num_beats,)
        assert (np.diff(record.r_s) > 0).all()

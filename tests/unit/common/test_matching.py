from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from common.ecg.records import read_record
from common.errors import ContractError
from common.metrics.matching import NO_DETECTION, BeatMatch, match_beats
from tests.real_data import mitdb_root

FS_HZ = 360.0
WINDOW = 54  # 150 ms at 360 Hz
START = 108_000  # 5 minutes at 360 Hz


def match(reference: list[float], detected: list[float], window: float = WINDOW) -> BeatMatch:
    """Match without a learning period, the window in samples."""
    return match_beats(reference, detected, 1.0, window_s=window, start_s=0)


def pairs(found: BeatMatch) -> list[tuple[int, int]]:
    return list(zip(found.reference.tolist(), found.detected.tolist(), strict=True))


@pytest.mark.parametrize("shift", [-WINDOW, -1, 0, 1, WINDOW])
def test_pairs_beats_up_to_the_window_apart(shift: int) -> None:
    found = match([1000, 1300], [1000 + shift, 1300 + shift])
    assert pairs(found) == [(0, 0), (1, 1)]
    assert not found.extra.size


@pytest.mark.parametrize("shift", [-WINDOW - 1, WINDOW + 1])
def test_a_detection_beyond_the_window_is_a_miss_and_an_extra(shift: int) -> None:
    found = match([1000], [1000 + shift])
    assert pairs(found) == [(0, NO_DETECTION)]
    assert found.extra.tolist() == [0]


def test_of_two_detections_the_nearer_one_wins() -> None:
    assert pairs(match([1000], [990, 1004])) == [(0, 1)]
    assert match([1000], [990, 1004]).extra.tolist() == [0]
    assert pairs(match([1000], [996, 1010])) == [(0, 0)]


def test_of_two_beats_the_nearer_one_wins() -> None:
    assert pairs(match([1000, 1040], [1030])) == [(0, NO_DETECTION), (1, 0)]
    assert pairs(match([1000, 1040], [1010])) == [(0, 0), (1, NO_DETECTION)]


def test_a_fast_rhythm_pairs_as_the_revision_of_bxb_says() -> None:
    # the example in the notes to its revision of November 2002: the first rule alone pairs neither
    found = match([96, 160], [128, 185], window=37)
    assert pairs(found) == [(0, 0), (1, 1)]
    assert not found.extra.size


def test_of_two_equally_near_detections_the_later_one_wins() -> None:
    assert pairs(match([1000], [990, 1010])) == [(0, 1)]


@pytest.mark.parametrize(
    ("reference", "detected", "num_missed", "num_extra"),
    [([], [], 0, 0), ([1000, 1300], [], 2, 0), ([], [1000, 1300], 0, 2)],
    ids=["nothing", "no detections", "no beats"],
)
def test_no_beats_match_nothing(
    reference: list[float], detected: list[float], num_missed: int, num_extra: int
) -> None:
    found = match(reference, detected)
    assert (found.detected == NO_DETECTION).sum() == num_missed
    assert len(found.extra) == num_extra


def test_the_learning_period_does_not_count() -> None:
    found = match_beats(
        [1000, START - 1, START, START + 300], [1000, START - 3, START + 299], FS_HZ
    )
    assert pairs(found) == [(2, 1), (3, 2)]
    assert not found.extra.size


def test_a_detection_just_before_the_start_may_be_the_first_beat_after_it() -> None:
    found = match_beats([START + 5], [START - 10, START + 400], FS_HZ)
    assert pairs(found) == [(0, 0)]
    assert found.extra.tolist() == [1]


def test_a_detection_just_after_the_start_may_be_that_of_a_beat_before_it() -> None:
    found = match_beats([START - 5, START + 300], [START + 10, START + 302], FS_HZ)
    assert pairs(found) == [(1, 1)]
    assert not found.extra.size


def test_a_detection_between_beats_after_the_start_is_extra() -> None:
    found = match_beats([START - 5, START + 300], [START + 60, START + 302], FS_HZ)
    assert found.extra.tolist() == [0]


def test_flutter_does_not_count() -> None:
    found = match_beats(
        [1000, 2000, 5000],
        [1000, 1500, 1999, 2500, 3500, 5000],
        FS_HZ,
        start_s=0,
        flutter_idx=[(1500, 2500)],
    )
    assert pairs(found) == [(0, 0), (2, 5)]
    assert found.extra.tolist() == [4]


@pytest.mark.parametrize(
    "positions",
    [[2.0, 1.0], [np.nan], [np.inf], [[1.0]]],
    ids=["out of order", "nan", "infinite", "two-dimensional"],
)
@pytest.mark.parametrize("kind", ["reference", "detected"])
def test_refuses_what_are_not_positions_in_order(kind: str, positions: list[float]) -> None:
    reference, detected = ([1.0], positions) if kind == "detected" else (positions, [1.0])
    with pytest.raises(ContractError, match=kind):
        match_beats(reference, detected, FS_HZ)


@pytest.mark.parametrize(
    "times",
    [{"fs_hz": 0}, {"fs_hz": 360, "window_s": -1}, {"fs_hz": 360, "start_s": float("nan")}],
    ids=["rate", "window", "start"],
)
def test_refuses_times_that_cannot_be(times: dict[str, float]) -> None:
    with pytest.raises(ContractError, match="negative"):
        match_beats([1], [1], **times)


positions = st.lists(st.integers(0, 1500), max_size=40).map(sorted)


@settings(deadline=None)
@given(positions, positions, st.integers(0, 60))
def test_each_beat_has_one_fate(reference: list[int], detected: list[int], window: int) -> None:
    found = match(list(reference), list(detected), window)
    hit = found.detected != NO_DETECTION
    used = found.detected[hit]
    assert found.reference.tolist() == list(range(len(reference)))
    assert sorted([*used, *found.extra]) == list(range(len(detected)))
    assert (np.diff(used) > 0).all()
    apart = np.abs(np.array(reference)[hit] - np.array(detected)[used])
    assert (apart <= window).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_well_spaced_beats_pair_as_in_the_best_assignment(seed: int) -> None:
    rng = np.random.default_rng(seed)
    reference = np.cumsum(rng.integers(4 * WINDOW, 400, size=20))
    heard = rng.random(20) < 0.8
    jitter = rng.integers(-80, 81, size=20)
    strays = rng.integers(0, reference[-1], size=4)
    detected = np.unique(np.concatenate([(reference + jitter)[heard], strays]).clip(0))
    distance = np.abs(reference[:, None] - detected).astype(float)
    cost = np.where(distance <= WINDOW, distance - 1e6, 0.0)  # as many pairs, as near as can be
    rows, columns = linear_sum_assignment(cost)
    best = distance[rows, columns] <= WINDOW
    found = match(reference.tolist(), detected.tolist())
    hit = found.detected != NO_DETECTION
    assert hit.sum() == best.sum()
    assert distance[found.reference[hit], found.detected[hit]].sum() == (
        distance[rows, columns][best].sum()
    )


def perturbed(r_idx: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Beats shifted by up to 100 ms, a twentieth dropped, and a few made up."""
    kept = r_idx[rng.random(len(r_idx)) > 0.05]
    shifted = kept + rng.integers(-36, 37, size=len(kept))
    return np.unique(np.concatenate([shifted, rng.integers(0, r_idx[-1], size=60)]).clip(0))


@pytest.mark.parametrize("name", ["100", "119", "203", "232"])
def test_counts_of_real_records_are_those_of_the_comparison_in_wfdb(name: str) -> None:
    from wfdb.processing import compare_annotations

    record = read_record(mitdb_root(), name)
    detected = perturbed(record.r_idx, np.random.default_rng(int(name)))
    peer = compare_annotations(record.r_idx, detected, WINDOW)
    found = match_beats(record.r_idx, detected, record.fs_hz, start_s=0)
    assert (found.detected != NO_DETECTION).sum() == peer.tp
    assert (found.detected == NO_DETECTION).sum() == peer.fn
    assert len(found.extra) == peer.fp


@pytest.mark.timeout(30)
def test_a_day_of_beats_is_matched_in_a_moment() -> None:
    rng = np.random.default_rng(0)
    reference = np.sort(rng.integers(0, 24 * 3600 * 360, size=140_000))
    found = match_beats(reference, np.sort(reference + rng.integers(-9, 10, 140_000)), FS_HZ)
    assert len(found.reference) > 139_000


def test_flutter_of_record_207_costs_a_detector_nothing() -> None:
    record = read_record(mitdb_root(), "207")
    flutter = [(554_682, 589_926)]  # its longest one, from [ to ]
    waves = np.arange(flutter[0][0], flutter[0][1], 70)
    detected = np.union1d(record.r_idx, waves)
    blamed = match_beats(record.r_idx, detected, record.fs_hz)
    spared = match_beats(record.r_idx, detected, record.fs_hz, flutter_idx=flutter)
    assert len(blamed.extra) == len(waves)
    assert not spared.extra.size
    assert (spared.detected != NO_DETECTION).all()

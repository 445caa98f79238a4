from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloud.inference.analysis import Analysis, analyze, heart_rate_bpm
from common.ecg.synthetic import synthesize
from common.errors import SignalError
from common.tasks.calibration import MAX_EXPECTED_ERROR
from tests.builders.serving import make_model


def make_analysis(readable_seconds: list[bool], duration_s: float) -> Analysis:
    return Analysis(
        r_idx=np.array([10, 20, 30, 40]),
        label_idx=np.array([0, 2, 2, 2]),
        scores=np.full((4, 5), 0.2, np.float32),
        readable=np.array([True, True, False, True]),
        inconclusive=np.array([False, False, False, True]),
        readable_seconds=np.array(readable_seconds),
        heart_rate_bpm=None,
        duration_s=duration_s,
    )


def test_finds_the_beats_of_a_synthetic_strip() -> None:
    record = synthesize("syn03", duration_s=60)
    analysis = analyze(make_model(), record.ecg_mv, record.fs_hz)
    distance_s = np.abs(analysis.r_idx[:, None] - record.r_idx).min(axis=0) / record.fs_hz
    assert (distance_s < 0.15).mean() > 0.99
    assert analysis.duration_s == pytest.approx(60)
    assert analysis.readable_fraction == 1


def test_the_label_is_the_one_of_the_greatest_score() -> None:
    record = synthesize("syn03", duration_s=30)
    analysis = analyze(make_model(), record.ecg_mv, record.fs_hz)
    assert (analysis.scores[np.arange(len(analysis.r_idx)), analysis.label_idx] >= 0.2).all()
    np.testing.assert_allclose(analysis.scores.sum(axis=1), 1, atol=1e-5)


def test_beats_whose_expected_error_is_too_great_are_inconclusive() -> None:
    record = synthesize("syn03", duration_s=60)
    analysis = analyze(make_model(), record.ecg_mv, record.fs_hz)
    expected = 1 - analysis.scores.max(axis=1) > MAX_EXPECTED_ERROR
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(analysis.inconclusive, expected)


def test_counts_only_conclusive_beats_that_can_be_read() -> None:
    assert make_analysis([True], 1).counts(5).tolist() == [1, 0, 1, 0, 0]


@pytest.mark.parametrize(
    ("flags", "duration_s", "expected"),
    [
        ([True, True], 2, []),
        ([False, True, True], 3, [(0, 1)]),
        ([True, False, False, True, False], 4.5, [(1, 3), (4, 4.5)]),
        ([False, False], 1.2, [(0, 1.2)]),
    ],
)
def test_joins_unreadable_seconds_into_stretches(
    flags: list[bool], duration_s: float, expected: list[tuple[float, float]]
) -> None:
    assert make_analysis(flags, duration_s).unreadable_stretches() == expected


def test_heart_rate_is_that_of_the_median_interval() -> None:
    r_s = np.array([0.0, 0.8, 1.6, 1.9, 3.2, 4.0])
    assert heart_rate_bpm(r_s, np.ones(6, bool)) == pytest.approx(75)


@pytest.mark.parametrize(
    ("r_s", "readable"),
    [
        ([], []),
        ([0.0, 0.8, 1.6], [True] * 3),
        ([0.0, 0.8, 1.6, 2.4, 3.2], [True, True, False, True, True]),
        ([0.0, 4.0, 8.0, 12.0], [True] * 4),
    ],
)
def test_heart_rate_is_not_told_from_too_little(r_s: list[float], readable: list[bool]) -> None:
    assert heart_rate_bpm(np.array(r_s), np.array(readable, bool)) is None


def test_gain_and_sampling_rate_do_not_move_beats() -> None:
    record = synthesize("syn01", duration_s=30)
    plain = analyze(make_model(), record.ecg_mv, record.fs_hz)
    louder = analyze(make_model(), record.ecg_mv * 1.5, record.fs_hz)
    np.testing.assert_array_equal(plain.r_idx, louder.r_idx)
    slower = analyze(make_model(), record.ecg_mv[::2], record.fs_hz / 2)
    assert len(slower.r_idx) == len(plain.r_idx)
    np.testing.assert_allclose(slower.r_idx * 2, plain.r_idx, atol=0.06 * record.fs_hz)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    fs_hz=st.floats(100, 1000),
    seconds=st.floats(0, 12),
    kind=st.sampled_from(["noise", "steps", "spikes", "huge", "ramp", "tiny"]),
)
def test_any_finite_strip_gives_beats_or_a_signal_error(
    seed: int, fs_hz: float, seconds: float, kind: str
) -> None:
    rng = np.random.default_rng(seed)
    num = int(seconds * fs_hz)
    ecg_mv = {
        "noise": rng.standard_normal(num),
        "steps": np.sign(rng.standard_normal(num)),
        "spikes": (rng.random(num) < 0.01) * 5.0,
        "huge": rng.standard_normal(num) * 1e300,
        "ramp": np.linspace(-5000, 5000, num),
        "tiny": rng.standard_normal(num) * 1e-300,
    }[kind]
    try:
        analysis = analyze(make_model(), ecg_mv, fs_hz)
    except SignalError:
        return
    assert np.isfinite(analysis.scores).all()
    assert ((analysis.r_idx >= 0) & (analysis.r_idx < num)).all()

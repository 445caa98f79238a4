from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from common.ecg.beats import INPUT_SHAPES, PreparedBeats, prepare
from common.ecg.synthetic import synthesize
from common.errors import SignalError

FS_HZ = 250


def strip(
    r_s: NDArray[np.floating], duration_s: float, fs_hz: float = FS_HZ, height_mv: float = 1.0
) -> NDArray[np.float32]:
    """Draw a QRS and a T wave at each time."""
    time = np.arange(int(duration_s * fs_hz)) / fs_hz
    ecg_mv = np.zeros(len(time))
    for beat in r_s:
        ecg_mv += height_mv * np.exp(-0.5 * ((time - beat) / 0.012) ** 2)
        ecg_mv += 0.2 * height_mv * np.exp(-0.5 * ((time - beat - 0.25) / 0.04) ** 2)
    return ecg_mv.astype(np.float32)


def regular(num: int, rr_s: float = 0.8) -> NDArray[np.float64]:
    return np.asarray(0.5 + rr_s * np.arange(num))


def with_one_early(num: int, rr_s: float, early: int) -> NDArray[np.float64]:
    times = regular(num, rr_s)
    times[early] -= 0.3 * rr_s
    return times


def at(r_s: NDArray[np.floating], fs_hz: float = FS_HZ) -> NDArray[np.int64]:
    return np.asarray(np.rint(r_s * fs_hz), dtype=np.int64)


def prepare_regular(num: int, r_idx: NDArray[np.int64] | None = None) -> PreparedBeats:
    return prepare(strip(regular(num), 0.8 * num + 1), FS_HZ, r_idx)


def test_every_annotated_peak_yields_one_beat_even_at_the_borders() -> None:
    r_idx = np.array([0, *at(regular(10)), int(9 * FS_HZ) - 1])
    prepared = prepare(strip(regular(10), 9), FS_HZ, r_idx)
    np.testing.assert_array_equal(prepared.r_idx, r_idx)
    assert prepared.peaks == "annotated"
    for name, shape in INPUT_SHAPES.items():
        assert prepared.inputs[name].shape == (len(r_idx), *shape)
        assert prepared.inputs[name].dtype == np.float32
        assert np.isfinite(prepared.inputs[name]).all()


def test_finds_the_peaks_itself_and_says_so() -> None:
    prepared = prepare_regular(30)
    assert prepared.peaks == "detected"
    np.testing.assert_allclose(prepared.r_idx, at(regular(30)), atol=2)


@pytest.mark.parametrize("fs_hz", [128, 360, 500, 1000])
def test_the_sampling_rate_hardly_changes_the_inputs(fs_hz: float) -> None:
    times = with_one_early(30, 0.8, 12)
    reference = prepare(strip(times, 25), FS_HZ, at(times))
    other = prepare(strip(times, 25, fs_hz), fs_hz, at(times, fs_hz))
    np.testing.assert_allclose(other.inputs["rr"], reference.inputs["rr"], atol=0.03)
    # windows snap to whole samples of 120 Hz, so compare the template's size, not its phase
    ours, theirs = (np.ptp(p.inputs["beat_mv"][:, 1], axis=1) for p in (reference, other))
    np.testing.assert_allclose(ours, theirs, rtol=0.1)


def test_the_template_is_the_wearers_regular_beat_and_not_the_odd_one() -> None:
    times = with_one_early(40, 0.8, 20)
    ecg_mv = strip(times, 33)
    odd = at(times)[20]
    ecg_mv[odd - 20 : odd + 20] *= -1
    pair = prepare(ecg_mv, FS_HZ, at(times)).inputs["beat_mv"]
    assert np.abs(pair[5, 0] - pair[5, 1]).max() < 0.15
    assert np.abs(pair[20, 0] - pair[20, 1]).max() > 1.0


def test_a_beat_comes_with_the_beats_beside_it() -> None:
    windows = prepare_regular(30, at(regular(30))).inputs["beat_mv"]
    np.testing.assert_array_equal(windows[1:, 2], windows[:-1, 0])
    np.testing.assert_array_equal(windows[:-1, 3], windows[1:, 0])


def test_at_the_ends_the_beat_itself_stands_in_for_its_neighbour() -> None:
    windows = prepare_regular(30, at(regular(30))).inputs["beat_mv"]
    np.testing.assert_array_equal(windows[0, 2], windows[0, 0])
    np.testing.assert_array_equal(windows[-1, 3], windows[-1, 0])


@pytest.mark.parametrize("fs_hz", [100, 125, 250, 500, 1000])
def test_a_record_at_another_rate_has_the_same_inputs(fs_hz: int) -> None:
    record = synthesize("syn06", duration_s=120)
    reference = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    ecg_mv = signal.resample_poly(record.ecg_mv, fs_hz, 360, padtype="line")
    other = prepare(ecg_mv, fs_hz, at(record.r_idx / 360, fs_hz))
    for name, rows in reference.inputs.items():
        difference = np.abs(other.inputs[name] - rows)[1:-1]  # the ends are padded differently
        assert np.quantile(difference, 0.99) < 0.01, name
        assert difference.mean() < 0.001, name
    assert (other.readable == reference.readable).all()


def test_an_inverted_strip_has_the_same_peaks() -> None:
    record = synthesize("syn06", duration_s=120)
    upright, inverted = (prepare(sign * record.ecg_mv, record.fs_hz) for sign in (1, -1))
    np.testing.assert_array_equal(inverted.r_idx, upright.r_idx)
    np.testing.assert_array_equal(inverted.inputs["rr"], upright.inputs["rr"])


@pytest.mark.parametrize("off_mv", [0.0, 5.0, -5.0, 300.0])
@pytest.mark.parametrize("name", ["syn01", "syn03", "syn08"])
def test_a_lead_that_falls_off_costs_no_beat_on_either_side(name: str, off_mv: float) -> None:
    record = synthesize(name, duration_s=120)
    fs = int(record.fs_hz)
    middle = (record.r_idx[1:] + record.r_idx[:-1]) // 2  # the lead is pulled between two beats
    start = middle[np.searchsorted(middle, 50 * fs)]
    ecg_mv = record.ecg_mv.copy()
    ecg_mv[start : start + 10 * fs] = off_mv
    whole, prepared = prepare(record.ecg_mv, fs), prepare(ecg_mv, fs)
    dead = (prepared.r_idx >= start) & (prepared.r_idx < start + 10 * fs)
    beside = (whole.r_idx < start) | (whole.r_idx >= start + 10.2 * fs)
    assert not dead.any()
    assert np.isin(whole.r_idx[beside], prepared.r_idx).all()
    inside = slice(start // fs + 1, start // fs + 10)
    assert not prepared.readable_seconds[inside].any()
    assert prepared.readable_seconds[: start // fs].all()
    assert prepared.readable_seconds[start // fs + 11 :].all()


def test_beats_beside_a_gap_keep_their_form() -> None:
    ecg_mv = strip(regular(60), 49)
    expected = prepare(ecg_mv, FS_HZ, at(regular(60))).inputs["beat_mv"][:, 0]
    start = at(regular(60))[30] + int(0.55 * FS_HZ)
    ecg_mv[start : start + 10 * FS_HZ] = 5.0
    beats = prepare(ecg_mv, FS_HZ, at(regular(60))).inputs["beat_mv"][:, 0]
    np.testing.assert_allclose(beats[29], expected[29], atol=0.1)
    np.testing.assert_allclose(beats[45], expected[45], atol=0.1)


@pytest.mark.parametrize("where", [slice(0, 2500), slice(5000, None)], ids=["start", "end"])
def test_a_strip_may_start_or_end_with_the_lead_off(where: slice) -> None:
    ecg_mv = strip(regular(37), 30)
    ecg_mv[where] = -5.0
    prepared = prepare(ecg_mv, FS_HZ)
    dead = np.zeros(len(ecg_mv), dtype=bool)
    dead[where] = True
    assert not dead[prepared.r_idx].any()
    assert len(prepared.r_idx) > 20


@pytest.mark.parametrize("duration_s", [3, 4, 10])
def test_a_short_strip_can_be_prepared(duration_s: float) -> None:
    prepared = prepare(strip(regular(12), duration_s), FS_HZ)
    assert len(prepared.r_idx) == len(prepared.inputs["rr"]) == len(prepared.readable) > 0


def test_a_strip_without_beats_gives_none() -> None:
    prepared = prepare(np.linspace(0, 1, 10 * FS_HZ), FS_HZ, np.empty(0, dtype=np.int64))
    assert prepared.inputs["beat_mv"].shape == (0, *INPUT_SHAPES["beat_mv"])


@pytest.mark.parametrize("r_idx", [[-1], [2500], [5, 5], [9, 4], [0.5, 1.5], [[1, 2]]], ids=str)
def test_refuses_peaks_that_do_not_lie_in_the_strip(r_idx: list[float]) -> None:
    with pytest.raises(SignalError, match="R peaks"):
        prepare(strip(regular(12), 10), FS_HZ, np.array(r_idx))


def test_refuses_falling_peaks_of_unsigned_type() -> None:
    with pytest.raises(SignalError, match="R peaks"):
        prepare(strip(regular(12), 10), FS_HZ, np.array([9, 4], np.uint64))


def test_marks_beats_in_unreadable_seconds() -> None:
    ecg_mv = strip(regular(40), 33)
    ecg_mv[10 * FS_HZ : 15 * FS_HZ] += np.random.default_rng(0).normal(0, 0.5, 5 * FS_HZ)
    prepared = prepare(ecg_mv, FS_HZ, at(regular(40)))
    noisy = (prepared.r_idx >= 10 * FS_HZ) & (prepared.r_idx < 15 * FS_HZ)
    np.testing.assert_array_equal(prepared.readable, ~noisy)
    assert (~prepared.readable_seconds).nonzero()[0].tolist() == [10, 11, 12, 13, 14]

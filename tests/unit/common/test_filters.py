from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

from common.ecg.filters import BAND_HZ, FILTER_DELAY_S, MODEL_FS_HZ, condition
from common.errors import SignalError


def tone(freq_hz: float, fs_hz: float, duration_s: float = 20.0) -> NDArray[np.float64]:
    return np.asarray(np.sin(2 * np.pi * freq_hz * np.arange(int(duration_s * fs_hz)) / fs_hz))


def middle(samples: NDArray[np.floating]) -> NDArray[np.floating]:
    return samples[4 * MODEL_FS_HZ : -4 * MODEL_FS_HZ]


@pytest.mark.parametrize("fs_hz", [100, 125, 128, 250, 257.3, 360, 500, 512, 1000])
def test_keeps_a_10_hz_tone_in_place_and_size_at_any_rate(fs_hz: float) -> None:
    strip = condition(tone(10, fs_hz), fs_hz)
    times_s = np.arange(len(strip.ecg_mv)) * float(strip.samples_per_sample) / fs_hz
    expected = np.sin(2 * np.pi * 10 * times_s)
    np.testing.assert_allclose(middle(strip.ecg_mv), middle(expected), atol=0.01)


@pytest.mark.parametrize("freq_hz", [0.05, 55.0])
def test_removes_what_lies_outside_the_band(freq_hz: float) -> None:
    strip = condition(tone(freq_hz, 360, 60), 360)
    assert np.abs(middle(strip.ecg_mv)).max() < 0.1


@pytest.mark.parametrize("freq_hz", [1, 2, 5, 10, 20, 35])
def test_passes_tones_as_a_zero_phase_butterworth_does(freq_hz: float) -> None:
    ecg_mv = tone(freq_hz, MODEL_FS_HZ)
    sos = signal.butter(3, BAND_HZ, "bandpass", fs=MODEL_FS_HZ, output="sos")
    expected = signal.sosfiltfilt(sos, ecg_mv)
    np.testing.assert_allclose(
        middle(condition(ecg_mv, MODEL_FS_HZ).ecg_mv), middle(expected), atol=0.02
    )


@pytest.mark.parametrize("fs_hz", [100, 257.3, 360, 1000])
def test_a_sample_depends_on_no_ecg_later_than_the_stated_delay(fs_hz: float) -> None:
    ecg_mv = np.random.default_rng(0).standard_normal(int(20 * fs_hz)).cumsum() / 50
    whole, early = condition(ecg_mv, fs_hz), condition(ecg_mv[: int(12 * fs_hz)], fs_hz)
    known = int((12 - FILTER_DELAY_S) * MODEL_FS_HZ)
    np.testing.assert_allclose(early.ecg_mv[:known], whole.ecg_mv[:known], atol=1e-6)
    assert FILTER_DELAY_S < 3


def test_a_sample_depends_on_no_ecg_earlier_than_the_stated_delay() -> None:
    ecg_mv = np.random.default_rng(0).standard_normal(7200)
    other = ecg_mv.copy()
    other[360:1800] = 5
    changed = condition(other, 360).ecg_mv != condition(ecg_mv, 360).ecg_mv
    assert changed.nonzero()[0].max() < (5 + FILTER_DELAY_S) * MODEL_FS_HZ


def test_removes_an_offset_wholly() -> None:
    ecg_mv = np.full(10 * MODEL_FS_HZ, 50.0)
    ecg_mv[0] = 50.1  # a strip that is flat is refused
    settled = condition(ecg_mv, MODEL_FS_HZ).ecg_mv[3 * MODEL_FS_HZ :]
    np.testing.assert_allclose(settled, 0, atol=1e-6)


@pytest.mark.parametrize("fs_hz", [250, 257.3, 360])
def test_gives_the_same_in_pieces_as_in_one(fs_hz: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ecg_mv = np.random.default_rng(0).standard_normal(int(200 * fs_hz)).cumsum() / 50
    whole = condition(ecg_mv, fs_hz)
    monkeypatch.setattr("common.ecg.filters.PIECE_S", 30)
    pieces = condition(ecg_mv, fs_hz)
    np.testing.assert_allclose(pieces.ecg_mv, whole.ecg_mv, atol=1e-6)


def test_an_offset_changes_nothing() -> None:
    ecg_mv = tone(7, 250)
    np.testing.assert_allclose(
        condition(ecg_mv + 300, 250).ecg_mv, condition(ecg_mv, 250).ecg_mv, atol=1e-4
    )


@pytest.mark.parametrize("off_mv", [-5.0, 0.0, 300.0])
def test_a_lead_off_does_not_ring(off_mv: float) -> None:
    ecg_mv = tone(1, 250)
    ecg_mv[1750:2750] = off_mv  # whole cycles of the tone, which is zero at both ends
    strip = condition(ecg_mv, 250).ecg_mv
    expected = condition(tone(1, 250), 250).ecg_mv
    gap = slice(int(7 * MODEL_FS_HZ), int(11 * MODEL_FS_HZ))
    assert np.abs(strip[gap][MODEL_FS_HZ:-MODEL_FS_HZ]).max() < 0.2
    np.testing.assert_allclose(strip[: gap.start - 20], expected[: gap.start - 20], atol=0.3)
    np.testing.assert_array_less(np.abs(strip), 1.5)


def test_takes_integers_and_lists() -> None:
    samples = [0, 1, 0, -1] * 100
    assert condition(samples, 100).ecg_mv.dtype == np.float32


@pytest.mark.parametrize(
    ("ecg_mv", "fs_hz", "reason"),
    [
        ([], 250, "empty"),
        ([0.1, 0.2, 0.3], 250, "too short"),
        (np.zeros(2500), 250, "flat"),
        (np.full(2500, 3.0), 250, "flat"),
        (np.append(tone(5, 250), np.nan), 250, "not finite"),
        (np.append(tone(5, 250), np.inf), 250, "not finite"),
        (1e30 * tone(5, 250), 250, "millivolts"),
        (np.zeros((2, 2500)), 250, "one lead"),
        (np.float64(1), 250, "one lead"),
        (["a", "b"], 250, "not a series of numbers"),
        (["1", "2"], 250, "not a series of numbers"),
        (1j * tone(5, 250), 250, "not a series of numbers"),
        ([10**400] * 2500, 250, "not a series of numbers"),
        ([[1.0], [1.0, 2.0]], 250, "not a series of numbers"),
        ([None] * 2500, 250, "not finite"),
        (tone(5, 250), 99.9, "rate"),
        (tone(5, 250), 1000.1, "rate"),
        (tone(5, 250), float("nan"), "rate"),
        (tone(5, 250), 0, "rate"),
        (tone(5, 250), -250, "rate"),
        (tone(5, 250), 1e12, "rate"),
    ],
)
def test_names_what_is_wrong_with_a_strip(ecg_mv: Any, fs_hz: float, reason: str) -> None:
    with pytest.raises(SignalError, match=reason):
        condition(ecg_mv, fs_hz)

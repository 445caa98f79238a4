from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.quality import AHEAD_S, PAST_S, readable_at, readable_seconds
from common.ecg.records import read_record
from tests.real_data import mitdb_root


def clean(fs_hz: float = 250, duration_s: float = 10.5) -> NDArray[np.float64]:
    time = np.arange(int(fs_hz * duration_s)) / fs_hz
    return np.asarray(np.exp(-0.5 * ((time % 0.8 - 0.4) / 0.012) ** 2) + 0.1 * np.sin(2 * time))


@pytest.mark.parametrize("fs_hz", [100, 250, 257.3, 1000])
def test_a_clean_strip_is_readable_at_any_rate(fs_hz: float) -> None:
    assert readable_seconds(clean(fs_hz), fs_hz).tolist() == [True] * 11


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_noise_is_judged_against_the_size_of_the_beats(scale: float) -> None:
    ecg_mv = scale * clean()
    ecg_mv[500:750] += scale * np.random.default_rng(0).normal(0, 0.4, 250)
    assert readable_seconds(ecg_mv, 250).tolist() == [s != 2 for s in range(11)]


def test_a_flat_second_is_not_readable() -> None:
    ecg_mv = clean()
    ecg_mv[1000:1250] = ecg_mv[1000]
    assert readable_seconds(ecg_mv, 250).tolist() == [s != 4 for s in range(11)]


def test_a_saturated_second_is_not_readable() -> None:
    ecg_mv = clean()
    ecg_mv[1000:1100] = 5.0
    assert readable_seconds(ecg_mv, 250).tolist() == [s != 4 for s in range(11)]


def one_by_one(ecg_mv: NDArray[np.floating], fs_hz: float) -> list[bool]:
    """The definition, second by second."""
    width = int(fs_hz)
    bounds = np.rint(np.arange(0, len(ecg_mv) / fs_hz) * fs_hz).astype(int)
    starts = np.minimum(bounds, len(ecg_mv) - width)
    seconds = [ecg_mv[start : start + width] for start in starts]
    lag = max(1, round(fs_hz / 120))
    flags = []
    for place, second in enumerate(seconds):
        around = seconds[max(0, place - PAST_S) : place + AHEAD_S + 1]
        extremes = np.min(around), np.max(around)
        typical = np.sort([float(np.ptp(other)) for other in around])[len(around) // 2]
        saturated = max(np.mean(second == value) for value in extremes)
        step = np.median(np.abs(second[lag:] - second[:-lag]))
        is_quiet = step < 0.06 * max(np.ptp(second), typical)
        flags.append(bool(np.ptp(second) >= 0.02 and saturated <= 0.15 and is_quiet))
    return flags


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fs_hz", [100, 250, 257.3, 360])
@pytest.mark.parametrize("duration_s", [3.1, 3.7, 1500.2])
def test_flags_are_those_of_the_definition(dtype: type, fs_hz: float, duration_s: float) -> None:
    rng = np.random.default_rng(0)
    ecg_mv = clean(fs_hz, duration_s)
    noise_mv = rng.choice([0, 0.02, 0.05, 0.5], int(duration_s) + 1)
    ecg_mv += np.repeat(noise_mv, int(fs_hz) + 1)[: len(ecg_mv)] * rng.normal(size=len(ecg_mv))
    ecg_mv = ecg_mv.clip(-0.8, 0.8).astype(dtype)
    ecg_mv[int(1.2 * fs_hz) : int(2.5 * fs_hz)] = 0
    expected = one_by_one(ecg_mv, fs_hz)
    assert len(set(expected)) == 2
    assert readable_seconds(ecg_mv, fs_hz).tolist() == expected


def test_a_second_depends_on_nothing_but_the_stated_stretch_around_it() -> None:
    ecg_mv = clean(duration_s=200)
    ecg_mv[100 * 250 : 110 * 250] *= 50
    ecg_mv[104 * 250 : 106 * 250] = 1.0
    whole = readable_seconds(ecg_mv, 250)
    early = readable_seconds(ecg_mv[: 120 * 250], 250)
    assert early[: 120 - AHEAD_S].tolist() == whole[: 120 - AHEAD_S].tolist()
    late = readable_seconds(ecg_mv[80 * 250 :], 250)
    assert late[PAST_S:].tolist() == whole[80 + PAST_S :].tolist()


def test_an_artefact_of_volts_hides_no_later_minute() -> None:
    ecg_mv = clean(duration_s=200)
    ecg_mv[20 * 250 : 90 * 250] += np.random.default_rng(0).normal(0, 5, 70 * 250)
    expected = [not 20 <= second < 90 for second in range(200)]
    assert readable_seconds(ecg_mv, 250).tolist() == expected


def test_a_peak_is_as_readable_as_its_second() -> None:
    flags = np.array([True, False, True])
    r_idx = np.array([0, 249, 250, 499, 500, 749, 750])
    expected = [True, True, False, False, True, True, True]
    assert readable_at(flags, 250, r_idx).tolist() == expected


def test_most_of_a_real_record_is_readable() -> None:
    record = read_record(mitdb_root(), "100")
    assert readable_seconds(record.ecg_mv, record.fs_hz).mean() > 0.99

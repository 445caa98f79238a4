from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.quality import readable_seconds
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


def test_most_of_a_real_record_is_readable() -> None:
    record = read_record(mitdb_root(), "100")
    assert readable_seconds(record.ecg_mv, record.fs_hz).mean() > 0.99

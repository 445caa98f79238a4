from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.filters import MODEL_FS_HZ, condition
from common.ecg.peaks import detect, refine
from common.ecg.records import read_record
from tests.real_data import mitdb_root


def spikes(
    at: NDArray[np.floating], num_samples: int, height_mv: float = 1.0
) -> NDArray[np.float32]:
    """Put a QRS-like bump of 20 ms at each position, in samples at 120 Hz."""
    time = np.arange(num_samples)[:, None]
    bumps = np.exp(-0.5 * ((time - at) / (0.02 * MODEL_FS_HZ)) ** 2)
    return np.asarray(height_mv * bumps.sum(axis=1), dtype=np.float32)


@pytest.mark.parametrize("height_mv", [1.0, -1.0, 0.2])
def test_moves_a_position_to_the_summit_between_the_samples(height_mv: float) -> None:
    at = np.array([100.3, 221.75])
    found = refine(spikes(at, 400, height_mv), at + np.array([4, -5]))
    np.testing.assert_allclose(found, at, atol=0.05)


@pytest.mark.parametrize("position", [0, 1, 399])
def test_keeps_positions_at_the_border_inside(position: int) -> None:
    found = refine(np.linspace(0, 1, 400, dtype=np.float32), np.array([position]))
    assert 0 <= found[0] < 400


def test_finds_every_beat_of_a_regular_rhythm() -> None:
    at = np.arange(80, 60 * MODEL_FS_HZ - 80, 96.4)
    found = detect(spikes(at, 60 * MODEL_FS_HZ))
    np.testing.assert_allclose(found, at, atol=0.1)


def test_finds_the_same_in_pieces_as_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ecg_mv = spikes(np.arange(80, 100 * MODEL_FS_HZ - 80, 96.4), 100 * MODEL_FS_HZ)
    whole = detect(ecg_mv)
    monkeypatch.setattr("common.ecg.peaks.PIECE", 30 * MODEL_FS_HZ)
    np.testing.assert_array_equal(detect(ecg_mv), whole)


def test_finds_no_beats_where_the_electrode_is_dead() -> None:
    alive = spikes(np.arange(80, 20 * MODEL_FS_HZ - 80, 96.4), 20 * MODEL_FS_HZ)
    dead = np.random.default_rng(0).normal(0, 1e-3, 60 * MODEL_FS_HZ).astype(np.float32)
    assert detect(np.concatenate([alive, dead])).max() < len(alive)


def test_finds_nothing_on_a_flat_line() -> None:
    assert len(detect(np.zeros(1200, dtype=np.float32))) == 0


def test_finds_the_annotated_beats_of_record_100() -> None:
    record = read_record(mitdb_root(), "100")
    strip = condition(record.ecg_mv, record.fs_hz)
    found = detect(strip.ecg_mv) * float(strip.samples_per_sample)
    distance = np.abs(found[:, None] - record.r_idx).min(axis=0)
    assert np.mean(distance <= 0.15 * record.fs_hz) >= 0.999
    assert abs(len(found) - len(record.r_idx)) <= 2

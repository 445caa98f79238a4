from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray
from sleepecg.heartbeats import detect_heartbeats

from common.ecg.filters import MODEL_FS_HZ, condition
from common.ecg.noise import mix, noise_power, read_noise
from common.ecg.peaks import detect, refine
from common.ecg.records import read_record
from common.ecg.synthetic import synthesize
from common.metrics.matching import match_beats
from tests.real_data import mitdb_root, nstdb_root


def spikes(at: NDArray[np.number], num_samples: int, height_mv: float = 1.0) -> NDArray[np.float32]:
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


def test_finds_the_beats_after_a_dead_start() -> None:
    at = np.arange(80, 20 * MODEL_FS_HZ - 80, 96.4)
    alive = spikes(at, 20 * MODEL_FS_HZ)
    found = detect(np.concatenate([np.zeros(1200, dtype=np.float32), alive]))
    np.testing.assert_allclose(found, 1200 + at, atol=0.1)


def test_leaves_a_position_where_the_electrode_is_dead() -> None:
    dust = np.random.default_rng(0).normal(0, 1e-9, 400).astype(np.float32)
    assert refine(dust, np.array([100.25, 200])).tolist() == [100.25, 200]


def test_finds_nothing_on_a_flat_line() -> None:
    assert len(detect(np.zeros(1200, dtype=np.float32))) == 0


def test_polarity_does_not_matter() -> None:
    record = synthesize("syn03", duration_s=60)
    ecg_mv = condition(record.ecg_mv, record.fs_hz).ecg_mv
    np.testing.assert_array_equal(detect(ecg_mv), detect(-ecg_mv))


def test_p_and_t_waves_are_no_beats_even_in_a_pause_or_at_the_start() -> None:
    at = np.cumsum([60, *[54, 159, 108] * 8])  # an early beat, its pause, a beat in time
    waves = np.concatenate([at - 20, at + 38])
    num_samples = int(at[-1]) + 100
    small = np.exp(-0.5 * ((np.arange(num_samples)[:, None] - waves) / 7) ** 2).sum(axis=1)
    ecg_mv = (spikes(at, num_samples) + 0.4 * small).astype(np.float32)
    for start in range(0, 400, 23):
        expected = at[at > start + 30] - start
        found = detect(ecg_mv[start:])
        np.testing.assert_allclose(found[found > 30], expected, atol=1)


@pytest.mark.parametrize(("height", "width"), [(1.5, 7), (0.9, 6)])
def test_finds_a_beat_that_is_wide_and_not_small(height: float, width: float) -> None:
    at = np.arange(80, 60 * MODEL_FS_HZ - 80, 96)
    wide = at[5::7] - 30
    narrow = np.setdiff1d(at, at[5::7])
    time = np.arange(60 * MODEL_FS_HZ)[:, None]
    bumps = np.exp(-0.5 * ((time - wide) / width) ** 2).sum(axis=1)
    found = detect((spikes(narrow, len(time)) - height * bumps).astype(np.float32))
    np.testing.assert_allclose(found, np.union1d(narrow, wide), atol=2)


@pytest.mark.parametrize("num_live", [1, 3, 12, 30, 121])
def test_a_strip_that_is_dead_but_for_its_end_can_be_searched(num_live: int) -> None:
    live = np.sin(np.arange(num_live))
    found = detect(np.concatenate([np.zeros(1200), live]).astype(np.float32))
    assert (found > 1190).all()


@pytest.mark.parametrize("num_samples", [365, 371, 383])
@pytest.mark.parametrize("period", [12.5, 25 / 3, 6.25])
def test_no_tone_makes_sleepecg_write_past_its_table(
    monkeypatch: pytest.MonkeyPatch, num_samples: int, period: float
) -> None:
    # its Python code does what its C code does, and raises IndexError where that corrupts memory
    in_python = partial(detect_heartbeats, backend="python")
    monkeypatch.setattr("common.ecg.peaks.detect_heartbeats", in_python)
    for phase in np.linspace(0, 2 * np.pi, 13):
        detect(np.sin(2 * np.pi * np.arange(num_samples) / period + phase).astype(np.float32))


@pytest.mark.parametrize("start_s", [0, 400, 1000])
def test_finds_the_annotated_beats_of_short_strips_of_record_119(start_s: int) -> None:
    record = read_record(mitdb_root(), "119")
    first, last = (round(s * record.fs_hz) for s in (start_s, start_s + 40))
    strip = condition(record.ecg_mv[first:last], record.fs_hz)
    found = detect(strip.ecg_mv) * float(strip.samples_per_sample) + first
    annotated = record.r_idx[(record.r_idx >= first) & (record.r_idx < last)]
    assert len(found) == len(annotated)
    assert (np.abs(found - annotated) <= 0.15 * record.fs_hz).all()


def test_finds_the_annotated_beats_of_record_100() -> None:
    record = read_record(mitdb_root(), "100")
    strip = condition(record.ecg_mv, record.fs_hz)
    found = detect(strip.ecg_mv) * float(strip.samples_per_sample)
    distance = np.abs(found[:, None] - record.r_idx).min(axis=0)
    assert np.mean(distance <= 0.15 * record.fs_hz) >= 0.999
    assert abs(len(found) - len(record.r_idx)) <= 2


def test_muscle_noise_between_beats_is_no_beat() -> None:
    record = read_record(mitdb_root(), "112")
    noises = [read_noise(nstdb_root(), name) for name in ("bw", "ma")]
    channels = [n.noise_mv[0] / np.sqrt(noise_power(n.noise_mv[0], n.fs_hz)) for n in noises]
    rng, fs_hz = np.random.default_rng(0), record.fs_hz
    ecg_mv = mix(
        record.ecg_mv, fs_hz, record.r_idx, np.sum(channels, axis=0), noises[0].fs_hz, 12.0, rng
    )
    strip = condition(ecg_mv, record.fs_hz)
    found = np.rint(detect(strip.ecg_mv) * float(strip.samples_per_sample)).astype(np.int64)
    match = match_beats(record.r_idx, found, record.fs_hz)
    assert np.mean(match.detected >= 0) >= 0.995
    assert len(match.extra) <= 20  # without the rule 39


def test_an_early_beat_of_little_voltage_is_a_beat_where_nothing_follows_too_soon() -> None:
    at = np.cumsum([60, *[96] * 20, 60, 132, *[96] * 20])
    small = at[21]
    ecg_mv = spikes(np.setdiff1d(at, small), int(at[-1]) + 100)
    ecg_mv += spikes(np.array([small]), len(ecg_mv), 0.5)
    np.testing.assert_allclose(detect(ecg_mv), at, atol=1)

"""Noise mixed into an ECG at a stated SNR, by the definition of WFDB's ``nst``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from common.ecg.noise import RECORDS, mix, noise_power, qrs_power, read_noise
from common.ecg.synthetic import synthesize
from common.errors import SignalError
from tests.real_data import nstdb_root

FS_HZ = 360.0
Array = NDArray[np.float64]


def make_ecg(fs_hz: float = FS_HZ, num_beats: int = 40) -> tuple[Array, NDArray[np.int64]]:
    """A triangle of 1 mV and 80 ms each second, so that every QRS has 1 mV peak to peak."""
    r_idx = np.arange(1, num_beats + 1) * round(fs_hz)
    time_s = np.arange(round((num_beats + 1) * fs_hz)) / fs_hz
    from_beat_s = np.abs(time_s - np.rint(time_s))
    triangle = np.clip(1 - from_beat_s / 0.04, 0, None)
    triangle[: round(0.5 * fs_hz)] = 0.0
    triangle[-round(0.5 * fs_hz) :] = 0.0
    return triangle, r_idx


def make_noise(num: int = 40_000, seed: int = 1) -> Array:
    """Wander and muscle noise whose power changes along the record."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.standard_normal(num)) / 50 + rng.standard_normal(num)
    return np.asarray(noise * np.linspace(0.5, 2.0, num))


def mixed(
    ecg_mv: Array, r_idx: NDArray[np.int64], noise_mv: Array, snr_db: float = 6.0, seed: int = 0
) -> NDArray[np.float32]:
    return mix(ecg_mv, FS_HZ, r_idx, noise_mv, FS_HZ, snr_db, np.random.default_rng(seed))


def snr_of(ecg_mv: Array, r_idx: NDArray[np.int64], noisy_mv: Array, fs_hz: float) -> float:
    """The SNR written down anew, from clean and noisy ECG."""
    half = round(0.05 * fs_hz)
    sizes = sorted(np.ptp(ecg_mv[r - half : r + half + 1]) for r in r_idx)
    added = np.asarray(noisy_mv, np.float64) - ecg_mv
    width = round(fs_hz)
    rms = sorted(
        np.sqrt(np.mean((piece - piece.mean()) ** 2))
        for piece in (added[i : i + width] for i in range(0, len(added) - width + 1, width))
    )
    size, level = (np.mean(x[len(x) // 20 : len(x) - len(x) // 20]) for x in (sizes, rms))
    return float(10 * np.log10(size**2 / 8 / level**2))


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 12.0, 24.0])
@pytest.mark.parametrize(("fs_hz", "noise_fs_hz"), [(360, 360), (250, 360), (512, 360), (125, 500)])
def test_the_mixed_ecg_has_the_snr_asked_for(
    snr_db: float, fs_hz: float, noise_fs_hz: float
) -> None:
    ecg_mv, r_idx = make_ecg(fs_hz)
    rng = np.random.default_rng(3)
    noisy_mv = mix(ecg_mv, fs_hz, r_idx, make_noise(), noise_fs_hz, snr_db, rng)
    assert noisy_mv.shape == ecg_mv.shape
    assert noisy_mv.dtype == np.float32
    found = snr_of(ecg_mv, r_idx, np.asarray(noisy_mv, np.float64), fs_hz)
    assert found == pytest.approx(snr_db, abs=0.1)


def test_power_of_the_ecg_is_that_of_a_sine_of_the_qrs_amplitude() -> None:
    ecg_mv, r_idx = make_ecg()
    assert qrs_power(ecg_mv, FS_HZ, r_idx) == pytest.approx(1 / 8)
    assert qrs_power(2 * ecg_mv + 5, FS_HZ, r_idx) == pytest.approx(4 / 8)


def test_power_of_a_sine_is_half_its_squared_amplitude() -> None:
    sine = 3 * np.sin(2 * np.pi * 10 * np.arange(7200) / FS_HZ)
    assert noise_power(sine + 100, FS_HZ) == pytest.approx(9 / 2)


def test_a_step_between_seconds_is_no_noise() -> None:
    sine = np.sin(2 * np.pi * 10 * np.arange(7200) / FS_HZ)
    assert noise_power(sine + np.arange(7200) // 360, FS_HZ) == pytest.approx(1 / 2)


def test_a_few_giant_beats_and_seconds_do_not_count() -> None:
    ecg_mv, r_idx = make_ecg(num_beats=40)
    ecg_mv[r_idx[3]] = ecg_mv[r_idx[20]] = 50.0
    assert qrs_power(ecg_mv, FS_HZ, r_idx) == pytest.approx(1 / 8)
    sine = np.sin(2 * np.pi * 10 * np.arange(40 * 360) / FS_HZ)
    sine[360:720] *= 1000
    assert noise_power(sine, FS_HZ) == pytest.approx(1 / 2)


def test_beats_at_the_border_are_left_out() -> None:
    ecg_mv, r_idx = make_ecg()
    with_border = np.array([0, *r_idx, len(ecg_mv) - 1])
    assert qrs_power(ecg_mv, FS_HZ, with_border) == qrs_power(ecg_mv, FS_HZ, r_idx)


def test_scale_and_offset_of_the_noise_do_not_matter() -> None:
    ecg_mv, r_idx = make_ecg()
    noise_mv = make_noise()
    expected = mixed(ecg_mv, r_idx, noise_mv)
    np.testing.assert_allclose(mixed(ecg_mv, r_idx, 1000 * noise_mv + 7), expected, atol=1e-5)


def test_an_ecg_twice_as_large_gets_twice_the_noise() -> None:
    ecg_mv, r_idx = make_ecg()
    expected = 2 * mixed(ecg_mv, r_idx, make_noise())
    np.testing.assert_allclose(mixed(2 * ecg_mv, r_idx, make_noise()), expected, rtol=1e-6)


def test_six_decibels_less_is_noise_twice_as_large() -> None:
    ecg_mv, r_idx = make_ecg()
    strong, weak = (mixed(ecg_mv, r_idx, make_noise(), snr_db) - ecg_mv for snr_db in (0, 6.0206))
    np.testing.assert_allclose(strong, 2 * weak, atol=1e-5)


def test_the_generator_alone_draws_the_place_in_the_noise() -> None:
    ecg_mv, r_idx = make_ecg()
    first, again, other = (mixed(ecg_mv, r_idx, make_noise(), seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_the_inputs_stay_as_they_are() -> None:
    ecg_mv, r_idx = make_ecg()
    noise_mv = make_noise()
    mixed(ecg_mv, r_idx, noise_mv)
    np.testing.assert_array_equal(ecg_mv, make_ecg()[0])
    np.testing.assert_array_equal(noise_mv, make_noise())


def test_short_noise_starts_again_without_a_step() -> None:
    ecg_mv, r_idx = make_ecg()
    ramp = np.linspace(0.0, 1.0, 1000)  # a second pass from 0 on would be a step of 1
    added = mixed(ecg_mv, r_idx, ramp) - ecg_mv
    steps = np.abs(np.diff(added))
    assert np.median(steps) > 1e-4
    assert steps.max() < 2 * np.median(steps)


def test_synthetic_ecg_at_a_wrist_s_rate_is_mixed() -> None:
    record = synthesize("syn06", duration_s=60.0)
    noisy_mv = mix(
        record.ecg_mv, FS_HZ, record.r_idx, make_noise(), 257.3, 6.0, np.random.default_rng(0)
    )
    assert np.isfinite(noisy_mv).all()


@pytest.mark.parametrize("snr_db", [float("nan"), float("inf"), -float("inf"), 61.0, -300.0])
def test_refuses_an_absurd_snr(snr_db: float) -> None:
    ecg_mv, r_idx = make_ecg()
    with pytest.raises(SignalError, match="SNR"):
        mixed(ecg_mv, r_idx, make_noise(), snr_db)


@pytest.mark.parametrize(
    ("noise_mv", "reason"),
    [
        (np.zeros(0), "the noise is empty"),
        (np.full(5000, np.nan), "noise holds samples that are not finite"),
        (np.ones(5000), "the noise is flat"),
        (np.ones((2, 5000)), "one channel"),
    ],
)
def test_refuses_noise_that_cannot_be_used(noise_mv: Array, reason: str) -> None:
    ecg_mv, r_idx = make_ecg()
    with pytest.raises(SignalError, match=reason):
        mixed(ecg_mv, r_idx, noise_mv)


def test_refuses_noise_under_a_second() -> None:
    with pytest.raises(SignalError, match="at least 1 s"):
        noise_power(make_noise(359), FS_HZ)


@pytest.mark.parametrize("r_idx", [[], [3], [-400], [10**9]])
def test_refuses_an_ecg_without_a_whole_beat(r_idx: list[int]) -> None:
    ecg_mv, _ = make_ecg()
    with pytest.raises(SignalError, match="no whole beat"):
        mixed(ecg_mv, np.array(r_idx, dtype=np.int64), make_noise())


def test_refuses_peaks_that_are_no_positions() -> None:
    ecg_mv, r_idx = make_ecg()
    with pytest.raises(SignalError, match="sample positions"):
        qrs_power(ecg_mv, FS_HZ, r_idx / 1.0)  # type: ignore[arg-type]  # floats, on purpose


def test_refuses_beats_where_the_ecg_is_flat() -> None:
    ecg_mv, r_idx = make_ecg()
    with pytest.raises(SignalError, match="flat at its beats"):
        mixed(ecg_mv, r_idx + 180, make_noise())


def test_refuses_an_ecg_that_is_not_finite() -> None:
    ecg_mv, r_idx = make_ecg()
    ecg_mv[100] = np.nan
    with pytest.raises(SignalError, match="not finite"):
        mixed(ecg_mv, r_idx, make_noise())


@pytest.mark.parametrize("noise_fs_hz", [0.0, -360.0, float("nan"), 1e6])
def test_refuses_noise_at_an_absurd_rate(noise_fs_hz: float) -> None:
    ecg_mv, r_idx = make_ecg()
    rng = np.random.default_rng(0)
    with pytest.raises(SignalError, match="sampling rate"):
        mix(ecg_mv, FS_HZ, r_idx, make_noise(), noise_fs_hz, 6.0, rng)


def write_noise(root: Path, name: str = "ma") -> Array:
    """A noise record as PhysioNet's, of 20 s; returns its (T, 2) millivolts."""
    folder = root / "nstdb"
    folder.mkdir()
    noise_mv = np.stack([make_noise(7200, seed) for seed in (1, 2)], axis=1) / 10
    wfdb.wrsamp(
        name,
        fs=360,
        units=["mV", "mV"],
        sig_name=["noise1", "noise2"],
        p_signal=noise_mv,
        fmt=["212", "212"],
        write_dir=str(folder),
    )
    return noise_mv


def test_reads_both_channels_of_a_record(tmp_path: Path) -> None:
    written_mv = write_noise(tmp_path)
    record = read_noise(tmp_path, "ma")
    assert (record.name, record.fs_hz) == ("ma", 360.0)
    assert record.noise_mv.dtype == np.float32
    np.testing.assert_allclose(record.noise_mv, written_mv.T, atol=1e-2)


@pytest.mark.parametrize("extension", ["hea", "dat"])
def test_names_a_missing_file_and_the_remedy(tmp_path: Path, extension: str) -> None:
    write_noise(tmp_path)
    (tmp_path / "nstdb" / f"ma.{extension}").unlink()
    with pytest.raises(SignalError, match=rf"ma\.{extension} is missing: put .*physionet\.org"):
        read_noise(tmp_path, "ma")


@pytest.mark.parametrize("extension", ["hea", "dat"])
@pytest.mark.parametrize("num_bytes", [0, 1, 7, 30])
def test_refuses_a_truncated_record(tmp_path: Path, extension: str, num_bytes: int) -> None:
    write_noise(tmp_path)
    path = tmp_path / "nstdb" / f"ma.{extension}"
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(SignalError, match="truncated or damaged"):
        read_noise(tmp_path, "ma")


@pytest.mark.parametrize("extension", ["hea", "dat"])
def test_random_bytes_never_raise_anything_of_wfdb(tmp_path: Path, extension: str) -> None:
    write_noise(tmp_path)
    rng = np.random.default_rng(7)
    for size in (3, 100, 3000):
        (tmp_path / "nstdb" / f"ma.{extension}").write_bytes(rng.bytes(size))
        with pytest.raises(SignalError, match="truncated or damaged"):
            read_noise(tmp_path, "ma")


@pytest.mark.parametrize("name", ["em", "100", "../ma", ""])
def test_refuses_a_record_that_is_not_there_to_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(SignalError, match="there are bw, ma"):
        read_noise(tmp_path, name)


@pytest.mark.parametrize("name", RECORDS)
def test_real_noise_has_the_snr_asked_for_at_the_rate_of_a_wristband(name: str) -> None:
    noise = read_noise(nstdb_root(), name)
    assert (noise.noise_mv.shape, noise.fs_hz) == ((2, 650_000), 360.0)
    ecg_mv, r_idx = make_ecg(250.0, num_beats=120)
    for channel_mv in noise.noise_mv:
        noisy_mv = mix(ecg_mv, 250.0, r_idx, channel_mv, 360.0, 6.0, np.random.default_rng(5))
        found = snr_of(ecg_mv, r_idx, np.asarray(noisy_mv, np.float64), 250.0)
        assert found == pytest.approx(6.0, abs=0.1)

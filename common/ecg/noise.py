"""Recorded noise of electrodes and muscles, mixed into an ECG at a stated signal-to-noise ratio.

The ratio is the one of WFDB's ``nst`` (Moody, Muldrow, Mark: A noise stress test for arrhythmia
detectors, Computers in Cardiology 11:381-384, 1984), SNR = 10 log10(S / N) in dB:

- S = (mean QRS amplitude)² / 8, the power of a sine of that peak-to-peak amplitude;
- N = (mean RMS of one-second pieces about their own mean)².

Each mean leaves out the smallest and the largest 5 %. What differs: ``nst`` measures the first 300
N beats and the first 300 s of the noise record; here it is all beats given and the noise that is
added, so that every mixed strip has the SNR that was asked for.

The Noise Stress Test Database has three records: ``bw`` (baseline wander), ``ma`` (muscle) and
``em`` (electrode motion). ``em`` is not covered, as that record isn't there: it is the worst noise
of a wrist, looks like beats and cannot be filtered out, so figures from here are too good for one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from common.ecg.filters import FS_RANGE_HZ, checked
from common.ecg.records import WFDB_FAULTS
from common.errors import SignalError

DATABASE = "nstdb"
RECORDS = ("bw", "ma")
REMEDY = "put its .hea and .dat of https://physionet.org/content/nstdb/1.0.0/ there"

QRS_HALF_S = 0.05
NOISE_PIECE_S = 1.0
TRIMMED = 0.05
SNR_RANGE_DB = (-60.0, 60.0)  # beyond, noise or ECG is below the other's last bit


@dataclass(frozen=True)
class NoiseRecord:
    """One record of the Noise Stress Test Database.

    Attributes
    ----------
    name : str
        ``"bw"`` or ``"ma"``.
    noise_mv : np.ndarray
        (L, T) float32, its two channels, in mV at WFDB's default gain of 200 per mV: the header
        states none. `mix` does not depend on it.
    fs_hz : float
        360.
    """

    name: str
    noise_mv: NDArray[np.float32]
    fs_hz: float


def read_noise(data_root: Path, name: str) -> NoiseRecord:
    """Read the noise record `name` from the folder ``nstdb`` of `data_root`.

    Raises
    ------
    SignalError
        If there is no such record, or it is missing, truncated or damaged.
    """
    if name not in RECORDS:
        raise SignalError(f"{name!r} is not a noise record; there are {', '.join(RECORDS)}")
    base = data_root / DATABASE / name
    for path in (base.with_suffix(".hea"), base.with_suffix(".dat")):
        if not path.is_file():
            raise SignalError(f"{path} is missing: {REMEDY}", path=str(path))
    import wfdb  # pandas comes with it: 0.7 s that only readers of real records pay

    try:
        read = wfdb.rdrecord(str(base), physical=False)
        whole = all((np.subtract(read.calc_checksum(), read.checksum) % 2**16) == 0)
        noise_mv = np.ascontiguousarray(read.dac().T, dtype=np.float32)
    except WFDB_FAULTS as fault:
        raise SignalError(f"{base} is truncated or damaged: {REMEDY}", path=str(base)) from fault
    if not whole or not np.isfinite(noise_mv).all():
        raise SignalError(f"{base} is truncated or damaged: {REMEDY}", path=str(base))
    return NoiseRecord(name, noise_mv, float(read.fs))


def qrs_power(ecg_mv: ArrayLike, fs_hz: float, r_idx: NDArray[np.int64]) -> float:
    """Return S of the definition above, in mV².

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples in mV.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.
    r_idx : ndarray
        (B,) R peaks in samples; the amplitude is taken from 50 ms before to 50 ms after each, and
        a beat whose window is not whole is left out.

    Raises
    ------
    SignalError
        If the ECG cannot be analysed, no beat is left, or the QRS is flat.
    """
    samples = checked(ecg_mv, fs_hz)
    half = round(QRS_HALF_S * fs_hz)
    peaks = np.asarray(r_idx)
    if peaks.ndim != 1 or (len(peaks) and peaks.dtype.kind not in "iu"):
        raise SignalError("R peaks must be a series of sample positions")
    peaks = peaks.astype(np.int64)
    peaks = peaks[(peaks >= half) & (peaks < len(samples) - half)]
    if not len(peaks):
        raise SignalError("the ECG has no whole beat to measure its power by")
    windows = samples[peaks[:, None] + np.arange(-half, half + 1)]
    power = _trimmed_mean(np.ptp(windows.astype(np.float64), axis=1)) ** 2 / 8
    if not power > 0:
        raise SignalError("the ECG is flat at its beats; are the R peaks those of this ECG?")
    return power


def noise_power(noise_mv: ArrayLike, fs_hz: float) -> float:
    """Return N of the definition above, in mV².

    Parameters
    ----------
    noise_mv : array_like
        (T,) samples in mV, at least one second; what is left over after whole seconds is not
        measured.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.

    Raises
    ------
    SignalError
        If the noise is no series of finite numbers, shorter than a second, or flat.
    """
    samples = _checked_noise(noise_mv, fs_hz)
    width = round(NOISE_PIECE_S * fs_hz)
    if len(samples) < width:
        raise SignalError(f"noise of {len(samples) / fs_hz:.2f} s is too short; at least 1 s")
    pieces = samples[: len(samples) // width * width].reshape(-1, width)
    power = _trimmed_mean(pieces.std(axis=1)) ** 2
    if not power > 0:
        raise SignalError("the noise is flat, so no gain gives it a power")
    return power


def mix(
    ecg_mv: ArrayLike,
    fs_hz: float,
    r_idx: NDArray[np.int64],
    noise_mv: ArrayLike,
    noise_fs_hz: float,
    snr_db: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Add noise, from a place in it drawn by `rng`, so that the ECG has the SNR `snr_db`.

    The noise starts again at its end, without a step, and is resampled to `fs_hz`. Its gain is
    sqrt(S / N · 10^(−SNR / 10)).

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples in mV, at least 3 s.
    fs_hz, noise_fs_hz : float
        Sampling rates of ECG and noise, 100 to 1000 Hz.
    r_idx : ndarray
        (B,) R peaks in samples of the ECG.
    noise_mv : array_like
        (T',) one channel of noise, of any scale; no electrode motion, see the head of this file.
    snr_db : float
        -60 to 60; ``nst`` is commonly run at 24, 18, 12, 6, 0 and -6.
    rng : np.random.Generator
        Draws where in the noise the piece begins, and nothing else.

    Returns
    -------
    ndarray
        (T,) float32, mV.

    Raises
    ------
    SignalError
        If ECG, noise, beats or SNR cannot be used.
    """
    low, high = SNR_RANGE_DB
    if not low <= snr_db <= high:
        raise SignalError(f"an SNR of {snr_db} dB is outside {low:.0f} to {high:.0f} dB")
    samples = checked(ecg_mv, fs_hz)
    noise = _checked_noise(noise_mv, noise_fs_hz)
    ratio = Fraction(fs_hz / noise_fs_hz).limit_denominator(1000)
    piece = _piece(noise, int(rng.integers(len(noise))), ceil(len(samples) / ratio) + 1)
    added = signal.resample_poly(piece, ratio.numerator, ratio.denominator, padtype="line")
    added = added[: len(samples)]
    power_ratio = qrs_power(samples, fs_hz, r_idx) / noise_power(added, fs_hz)
    gain = np.sqrt(power_ratio * 10 ** (-snr_db / 10))
    return np.asarray(samples + gain * added, dtype=np.float32)


def _checked_noise(noise_mv: ArrayLike, fs_hz: float) -> NDArray[np.float64]:
    low, high = FS_RANGE_HZ
    if not low <= fs_hz <= high:
        raise SignalError(f"sampling rate {fs_hz} Hz is outside {low:.0f} to {high:.0f} Hz")
    try:
        noise = np.asarray(noise_mv, dtype=np.float64)
    except (TypeError, ValueError) as fault:
        raise SignalError("the noise is not a series of numbers") from fault
    if noise.ndim != 1:
        raise SignalError(f"the noise must be one channel; got {noise.ndim} axes")
    if not len(noise):
        raise SignalError("the noise is empty")
    if not np.isfinite(noise).all():
        raise SignalError("the noise holds samples that are not finite")
    return noise


def _piece(noise: NDArray[np.float64], start: int, num: int) -> NDArray[np.float64]:
    """Cut `num` samples from `start` on; each further pass is offset to begin where one ended."""
    passes, idx = np.divmod(start + np.arange(num), len(noise))
    piece = noise[idx] + passes * (noise[-1] - noise[0])
    return np.asarray(piece - piece.mean())


def _trimmed_mean(values: NDArray[np.float64]) -> float:
    """Mean without the smallest and the largest 5 %, counts rounded down."""
    cut = int(TRIMMED * len(values))
    return float(np.sort(values)[cut : len(values) - cut].mean())

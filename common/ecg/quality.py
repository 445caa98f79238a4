"""Which seconds of a strip can be read at all: a plain check, not a diagnosis of the electrode."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.ecg.filters import FLAT_MV, checked

SATURATED_SHARE = 0.15  # of a second at one extreme value of the strip
NOISE_LAG_S = 1 / 120
BLOCK = 600  # seconds at once: bounds the memory of the copies
MAX_ROUGHNESS = 0.06  # median step over peak-to-peak; 99.5 % of the seconds of DS1 lie below 0.055


def readable_seconds(ecg_mv: ArrayLike, fs_hz: float) -> NDArray[np.bool_]:
    """Flag each second of a strip that is neither flat, saturated nor drowned in noise.

    Noise is judged by the median step over 1/120 s relative to the peak-to-peak of the second, or
    of the strip's median second in a pause: in ECG most of a beat is smooth and the steep QRS is
    short, in muscle artefact every step is large.

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples in mV, not yet filtered.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.

    Returns
    -------
    ndarray
        (S,) bool, one for each started second.

    Raises
    ------
    SignalError
        As `common.ecg.filters.checked`.
    """
    samples = checked(ecg_mv, fs_hz)
    extremes = (samples.min(), samples.max())
    lag = max(1, round(NOISE_LAG_S * fs_hz))
    starts = _starts(len(samples), fs_hz)
    seconds = np.lib.stride_tricks.sliding_window_view(samples, int(fs_hz))
    blocks = [
        _measured(seconds[starts[first : first + BLOCK]], extremes, lag)
        for first in range(0, len(starts), BLOCK)
    ]
    spread, saturated, step = (np.concatenate(column) for column in zip(*blocks, strict=True))
    is_quiet = step < MAX_ROUGHNESS * np.maximum(spread, np.median(spread))
    return np.asarray((spread >= FLAT_MV) & (saturated <= SATURATED_SHARE) & is_quiet)


def readable_at(
    flags: NDArray[np.bool_], fs_hz: float, r_idx: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Tell whether the second that holds each R peak is readable.

    Parameters
    ----------
    flags : ndarray
        (S,) bool from `readable_seconds`.
    fs_hz : float
        Sampling rate of the strip.
    r_idx : ndarray
        (B,) R peaks in samples of the strip.

    Returns
    -------
    ndarray
        (B,) bool.
    """
    return flags[np.minimum((r_idx / fs_hz).astype(np.int64), len(flags) - 1)]


def _starts(num_samples: int, fs_hz: float) -> NDArray[np.int64]:
    """First sample of each started second; the last one is moved back to be whole."""
    bounds = np.rint(np.arange(0, num_samples / fs_hz) * fs_hz).astype(np.int64)
    return np.minimum(bounds, num_samples - int(fs_hz))


def _measured(
    seconds: NDArray[np.floating], extremes: tuple[np.floating, np.floating], lag: int
) -> tuple[NDArray[np.floating], NDArray[np.float64], NDArray[np.floating]]:
    """Peak-to-peak, share at an extreme value and median step of each second."""
    saturated = np.max([np.mean(seconds == value, axis=1) for value in extremes], axis=0)
    steps = np.abs(seconds[:, lag:] - seconds[:, :-lag])
    return np.ptp(seconds, axis=1), saturated, np.median(steps, axis=1, overwrite_input=True)

"""Which seconds of a strip can be read at all: a plain check, not a diagnosis of the electrode."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.ecg.filters import FLAT_MV, checked

SATURATED_SHARE = 0.15  # of a second at one extreme value of the strip
NOISE_LAG_S = 1 / 120
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
    bounds = np.rint(np.arange(0, len(samples) / fs_hz) * fs_hz).astype(np.int64)
    width = int(fs_hz)
    starts = np.minimum(bounds, len(samples) - width)
    seconds = [samples[start : start + width] for start in starts]
    typical = np.median([np.ptp(second) for second in seconds])
    extremes = (samples.min(), samples.max())
    lag = max(1, round(NOISE_LAG_S * fs_hz))
    return np.array([_is_readable(second, typical, extremes, lag) for second in seconds])


def readable_at(ecg_mv: ArrayLike, fs_hz: float, r_idx: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (B,) bool: whether the second that holds each R peak is readable."""
    flags = readable_seconds(ecg_mv, fs_hz)
    return flags[np.minimum((r_idx / fs_hz).astype(np.int64), len(flags) - 1)]


def _is_readable(
    second: NDArray[np.floating],
    typical: np.floating,
    extremes: tuple[np.floating, np.floating],
    lag: int,
) -> bool:
    spread = np.ptp(second)
    if spread < FLAT_MV:
        return False
    if max(np.mean(second == value) for value in extremes) > SATURATED_SHARE:
        return False
    step = np.median(np.abs(second[lag:] - second[:-lag]))
    return bool(step < MAX_ROUGHNESS * max(spread, typical))

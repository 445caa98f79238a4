"""Which seconds of a strip can be read at all: a plain check, not a diagnosis of the electrode.

A second is compared with the `PAST_S` before it and the `AHEAD_S` after it, so the flags are the
same while the ECG is still coming in.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.ecg.filters import FLAT_MV, checked
from common.ecg.running import Series, running_max, running_median, running_min

PAST_S = 60  # a second is judged against those around it
AHEAD_S = 15
SATURATED_SHARE = 0.15  # of a second at one extreme value of those around it
NOISE_LAG_S = 1 / 120
BLOCK = 600  # seconds at once: bounds the memory of the copies
MAX_ROUGHNESS = 0.06  # median step over peak-to-peak; 99.5 % of the seconds of DS1 lie below 0.045
# With these limits 99.85 % of the seconds of DS1 are readable; least, 98.67 %, of record 108.


def readable_seconds(ecg_mv: ArrayLike, fs_hz: float) -> NDArray[np.bool_]:
    """Flag each second of a strip that is neither flat, saturated nor drowned in noise.

    Saturated is a second that stays at the highest or lowest value of the seconds around it. Noise
    is judged by the median step over 1/120 s relative to the peak-to-peak of the second, or of the
    median second around it in a pause: in ECG most of a beat is smooth and the steep QRS is short,
    in muscle artefact every step is large. Around means from 60 s before to 15 s after, as far as
    the strip goes.

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
    starts = _starts(len(samples), fs_hz)
    seconds = np.lib.stride_tricks.sliding_window_view(samples, int(fs_hz))
    blocks = [slice(first, first + BLOCK) for first in range(0, len(starts), BLOCK)]
    low, high, step = _joined(_measured(seconds[starts[block]], fs_hz) for block in blocks)
    lowest, highest = running_min(low, PAST_S, AHEAD_S), running_max(high, PAST_S, AHEAD_S)
    (saturated,) = _joined(
        (_saturated(seconds[starts[block]], lowest[block], highest[block]),) for block in blocks
    )
    spread = high - low
    typical = np.maximum(spread, running_median(spread, PAST_S, AHEAD_S))
    is_quiet = step < MAX_ROUGHNESS * typical
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


def _joined(blocks: Iterable[tuple[Series, ...]]) -> list[Series]:
    return [np.concatenate(column) for column in zip(*blocks, strict=True)]


def _measured(seconds: NDArray[np.floating], fs_hz: float) -> tuple[Series, Series, Series]:
    """Lowest and highest value and median step of each second."""
    lag = max(1, round(NOISE_LAG_S * fs_hz))
    steps = np.abs(seconds[:, lag:] - seconds[:, :-lag])
    step = np.median(steps, axis=1, overwrite_input=True)
    low, high = seconds.min(axis=1), seconds.max(axis=1)
    return low.astype(np.float64), high.astype(np.float64), step.astype(np.float64)


def _saturated(seconds: NDArray[np.floating], lowest: Series, highest: Series) -> Series:
    """Share of each second at one of its two extreme values."""
    shares = [np.mean(seconds == value[:, None], axis=1) for value in (lowest, highest)]
    return np.asarray(np.maximum(*shares))

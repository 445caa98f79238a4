"""From a strip of ECG to the inputs of the beat model, one row a beat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from common.ecg.filters import MODEL_FS_HZ, condition
from common.ecg.peaks import detect, refine
from common.ecg.quality import readable_at, readable_seconds
from common.ecg.rr import NUM_FEATURES, rr_features
from common.errors import SignalError

BEFORE = 60  # samples at 120 Hz: 0.5 s before the R peak, to hold the P wave
AFTER = 68
WINDOW = BEFORE + AFTER

TEMPLATE_REACH = 175  # beats on either side
TEMPLATE_HOP = 50
REGULAR = 0.15  # deviation of RR from its local median, as a fraction
MIN_REGULAR = 5

INPUT_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"beat_mv": (2, WINDOW), "rr": (NUM_FEATURES,)}
)


@dataclass(frozen=True)
class PreparedBeats:
    """Beats of one strip, ready for the model.

    Attributes
    ----------
    r_idx : ndarray
        (B,) int64 R peaks, in samples of the original strip.
    inputs : dict[str, ndarray]
        ``beat_mv`` (B, 2, 128) float32, the beat and its wearer's regular beat in mV around the R
        peak; ``rr`` (B, 29) float32, from `common.ecg.rr`.
    readable : ndarray
        (B,) bool, whether the second that holds the beat can be read.
    readable_seconds : ndarray
        (S,) bool, one for each started second, from `common.ecg.quality`.
    peaks : {"annotated", "detected"}
        Where the R peaks come from.
    """

    r_idx: NDArray[np.int64]
    inputs: dict[str, NDArray[np.float32]]
    readable: NDArray[np.bool_]
    readable_seconds: NDArray[np.bool_]
    peaks: Literal["annotated", "detected"]


def prepare(
    ecg_mv: ArrayLike, fs_hz: float, r_idx: NDArray[np.int64] | None = None
) -> PreparedBeats:
    """Turn a strip into model inputs; every R peak yields one beat.

    Parameters
    ----------
    ecg_mv : array_like
        (T,) samples of one lead in mV, at least 3 s.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.
    r_idx : ndarray, optional
        (B,) rising reference R peaks in samples of the strip; detected when not given.

    Raises
    ------
    SignalError
        If the strip cannot be analysed or `r_idx` does not lie in it.
    """
    strip = condition(ecg_mv, fs_hz)
    num_samples = np.size(ecg_mv)
    scale = float(strip.samples_per_sample)
    if r_idx is None:
        positions = detect(strip.ecg_mv)
        original = np.clip(np.rint(positions * scale), 0, num_samples - 1).astype(np.int64)
    else:
        original = _checked_peaks(r_idx, num_samples)
        positions = refine(strip.ecg_mv, original / scale)
    seconds = readable_seconds(ecg_mv, fs_hz)
    return PreparedBeats(
        r_idx=original,
        inputs={
            "beat_mv": _with_template(_windows(strip.ecg_mv, positions), positions),
            "rr": rr_features(positions / MODEL_FS_HZ),
        },
        readable=readable_at(seconds, fs_hz, original),
        readable_seconds=seconds,
        peaks="detected" if r_idx is None else "annotated",
    )


def _checked_peaks(r_idx: NDArray[np.int64], num_samples: int) -> NDArray[np.int64]:
    peaks = np.asarray(r_idx)
    if peaks.ndim != 1 or (len(peaks) and not np.issubdtype(peaks.dtype, np.integer)):
        raise SignalError("R peaks must be a series of sample positions")
    peaks = peaks.astype(np.int64)  # differences of unsigned positions would wrap
    if len(peaks) and (peaks[0] < 0 or peaks[-1] >= num_samples or (np.diff(peaks) <= 0).any()):
        raise SignalError("R peaks must rise and lie within the ECG")
    return peaks


def _windows(ecg_mv: NDArray[np.float32], positions: NDArray[np.float64]) -> NDArray[np.float32]:
    """Cut (B, 128) windows; beyond the strip its first or last sample goes on."""
    idx = np.rint(positions).astype(np.int64)[:, None] + np.arange(-BEFORE, AFTER)
    return np.take(ecg_mv, idx, mode="clip")


def _with_template(
    windows: NDArray[np.float32], positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Pair each beat with the pointwise median of the regular beats around it: (B, 2, 128)."""
    pairs = np.empty((len(windows), 2, WINDOW), dtype=np.float32)
    pairs[:, 0] = windows
    regular = _regular(positions)
    for start in range(0, len(windows), TEMPLATE_HOP):
        stop = start + TEMPLATE_HOP
        around = slice(max(0, start - TEMPLATE_REACH), stop + TEMPLATE_REACH)
        chosen = windows[around][regular[around]]
        if len(chosen) < MIN_REGULAR:
            chosen = windows[around]
        pairs[start:stop, 1] = np.median(chosen, axis=0)
    return pairs


def _regular(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Mark beats whose intervals on both sides are close to the local median."""
    if len(positions) < MIN_REGULAR:
        return np.ones(len(positions), dtype=bool)
    deviation = np.abs(np.diff(positions) / _local_median(np.diff(positions)) - 1)
    pre = np.concatenate([deviation[:1], deviation])
    post = np.concatenate([deviation, deviation[-1:]])
    return np.asarray((pre < REGULAR) & (post < REGULAR))


def _local_median(intervals: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndimage.median_filter(intervals, size=61, mode="nearest")).clip(min=1)

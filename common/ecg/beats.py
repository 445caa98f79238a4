"""From a strip of ECG to the inputs of the beat model, one row a beat.

Inputs are streaming: a beat's row depends on nothing later than 16 beats and `FILTER_DELAY_S` after
it, and on at most 361 beats before it, so a wristband that listens and a server that reads the
whole strip compute the same numbers, given the same R peaks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.ecg.filters import MODEL_FS_HZ, condition
from common.ecg.peaks import detect, refine
from common.ecg.quality import readable_at, readable_seconds
from common.ecg.rr import NUM_FEATURES, SEQUENCE, rhythm_sequence, rr_features
from common.ecg.template import regular_beats
from common.errors import SignalError

BEFORE = 60  # samples at 120 Hz: 0.5 s before the R peak, to hold the P wave
AFTER = 68
WINDOW = BEFORE + AFTER

INPUT_SHAPES: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"beat_mv": (5, WINDOW), "rr": (NUM_FEATURES,), "rhythm": (SEQUENCE,)}
)


@dataclass(frozen=True)
class PreparedBeats:
    """Beats of one strip, ready for the model.

    Attributes
    ----------
    r_idx : ndarray
        (B,) int64 R peaks, in samples of the original strip.
    inputs : dict[str, ndarray]
        ``beat_mv`` (B, 5, 128) float32, mV from 0.5 s before the R peak to 0.56 s after it: the
        beat, its wearer's regular beat (`common.ecg.template`, 16 beats ahead and 196 back), the
        previous and the next beat, for which at the ends of the strip the beat itself stands in,
        and how far beats usually lie from the regular one;
        ``rr`` (B, 42) float32 log ratios (`common.ecg.rr.rr_features`, 15 beats ahead and 361
        back); ``rhythm`` (B, 80) float32 log ratios (`common.ecg.rr.rhythm_sequence`, 15 beats
        ahead and 65 back).
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
    r_s = positions / MODEL_FS_HZ
    return PreparedBeats(
        r_idx=original,
        inputs={
            "beat_mv": _beside_others(_windows(strip.ecg_mv, positions), positions),
            "rr": rr_features(r_s),
            "rhythm": rhythm_sequence(r_s),
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


def _beside_others(
    windows: NDArray[np.float32], positions: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Stack beat, regular beat, previous and next beat, and spread: (B, 5, 128)."""
    if not len(windows):
        return np.empty((0, *INPUT_SHAPES["beat_mv"]), dtype=np.float32)
    before = np.concatenate([windows[:1], windows[:-1]])
    after = np.concatenate([windows[1:], windows[-1:]])
    usual, spread = regular_beats(windows, positions)
    return np.stack([windows, usual, before, after, spread], axis=1)

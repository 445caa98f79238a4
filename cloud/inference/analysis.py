"""What a model says about one strip: beats, heart rate, and where the strip can be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cloud.inference.model import ServedModel
from common.ecg.beats import prepare
from common.tasks.calibration import is_inconclusive

MIN_INTERVALS = 3
RATE_RANGE_BPM = (20.0, 300.0)


@dataclass(frozen=True)
class Analysis:
    """Beats of one strip.

    Attributes
    ----------
    r_idx : ndarray
        (B,) int64 R peaks in samples of the strip.
    label_idx : ndarray
        (B,) int64, index into the labels of the release.
    scores : ndarray
        (B, C) float32, probability of each label.
    readable : ndarray
        (B,) bool, whether the second around the beat can be read.
    inconclusive : ndarray
        (B,) bool, whether the label would be wrong too often to be a finding
        (`common.tasks.calibration`).
    readable_seconds : ndarray
        (S,) bool, one for each started second of the strip.
    heart_rate_bpm : float or None
        None when it cannot be told.
    duration_s : float
        Length of the strip.
    """

    r_idx: NDArray[np.int64]
    label_idx: NDArray[np.int64]
    scores: NDArray[np.float32]
    readable: NDArray[np.bool_]
    inconclusive: NDArray[np.bool_]
    readable_seconds: NDArray[np.bool_]
    heart_rate_bpm: float | None
    duration_s: float

    @property
    def readable_fraction(self) -> float:
        """Share of the strip's seconds that can be read."""
        return float(self.readable_seconds.mean())

    def unreadable_stretches(self) -> list[tuple[float, float]]:
        """Start and end in seconds of each run of unreadable seconds."""
        edges = np.flatnonzero(np.diff(~self.readable_seconds, prepend=False, append=False))
        return [
            (float(start), min(float(end), self.duration_s)) for start, end in edges.reshape(-1, 2)
        ]

    def counts(self, num_labels: int) -> NDArray[np.int64]:
        """(C,) readable and conclusive beats of each label."""
        counted = self.readable & ~self.inconclusive
        return np.bincount(self.label_idx[counted], minlength=num_labels)


def analyze(model: ServedModel, ecg_mv: NDArray[np.floating], fs_hz: float) -> Analysis:
    """Find and classify the beats of a strip.

    Parameters
    ----------
    model : ServedModel
        A model of the beat task.
    ecg_mv : ndarray
        (T,) samples of one lead in mV.
    fs_hz : float
        Sampling rate, 100 to 1000 Hz.

    Raises
    ------
    SignalError
        If the strip cannot be analysed.
    ContractError
        If the model does not take the inputs of the beat task.
    """
    beats = prepare(ecg_mv, fs_hz)
    scores = model.scores(beats.inputs)
    return Analysis(
        r_idx=beats.r_idx,
        label_idx=scores.argmax(axis=1),
        scores=scores,
        readable=beats.readable,
        inconclusive=is_inconclusive(scores),
        readable_seconds=beats.readable_seconds,
        heart_rate_bpm=heart_rate_bpm(beats.r_idx / fs_hz, beats.readable),
        duration_s=len(ecg_mv) / fs_hz,
    )


def heart_rate_bpm(r_s: NDArray[np.float64], readable: NDArray[np.bool_]) -> float | None:
    """Heart rate from the median RR interval between readable neighbours.

    Parameters
    ----------
    r_s : ndarray
        (B,) rising times of the R peaks in seconds.
    readable : ndarray
        (B,) bool.

    Returns
    -------
    float or None
        Beats a minute; None with fewer than three such intervals or outside 20 to 300.
    """
    intervals = np.diff(r_s)[readable[1:] & readable[:-1]]
    if len(intervals) < MIN_INTERVALS:
        return None
    rate = 60 / float(np.median(intervals))
    low, high = RATE_RANGE_BPM
    return rate if low <= rate <= high else None

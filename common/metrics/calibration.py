"""Whether scores mean what they say: calibration, and error against coverage.

A beat's confidence is its largest score, its expected error 1 minus that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ContractError

NUM_BINS = 15
_ROUNDING = 1e-6  # float32 softmax may pass 1 by a little

Scores = NDArray[np.floating]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class ReliabilityBins:
    """Confidence against share of right decisions in M equal bins of (0, 1].

    Attributes
    ----------
    edges : ndarray
        (M+1,); bin m holds confidences in (edges[m], edges[m+1]], the first one 0 too.
    num_beats : ndarray
        (M,) int64.
    confidence, share_right : ndarray
        (M,) means over the beats of a bin, NaN where it is empty.
    """

    edges: NDArray[np.float64]
    num_beats: NDArray[np.int64]
    confidence: NDArray[np.float64]
    share_right: NDArray[np.float64]


@dataclass(frozen=True)
class CoverageCurve:
    """Error among the beats that are answered, as ever less certain ones are.

    Attributes
    ----------
    threshold : ndarray
        (P,) increasing: beats whose expected error is at most this are answered.
    coverage, error : ndarray
        (P,) share of beats answered, and share of these decided wrongly.
    """

    threshold: NDArray[np.float64]
    coverage: NDArray[np.float64]
    error: NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """One point of a `CoverageCurve`."""

    threshold: float
    coverage: float
    error: float


def reliability_bins(scores: Scores, labels: Labels, num_bins: int = NUM_BINS) -> ReliabilityBins:
    """Return the reliability diagram of the decisions (first argmax).

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

    Parameters
    ----------
    scores : ndarray
        (B, C) in [0, 1].
    labels : ndarray
        (B,) int64 in [0, C).

    Raises
    ------
    ContractError
        If scores are not finite or not in [0, 1], or labels are not classes.
    """
    confidence, right = _decisions(scores, labels)
    edges = np.linspace(0, 1, num_bins + 1)
    bins = np.clip(np.searchsorted(edges, confidence) - 1, 0, num_bins - 1)
    num_beats = np.bincount(bins, minlength=num_bins)
    divisor = np.where(num_beats > 0, num_beats, np.nan)
    return ReliabilityBins(
        edges=edges,
        num_beats=num_beats,
        confidence=np.bincount(bins, weights=confidence, minlength=num_bins) / divisor,
        share_right=np.bincount(bins, weights=right, minlength=num_bins) / divisor,
    )


def top_label_ece(scores: Scores, labels: Labels, num_bins: int = NUM_BINS) -> float | None:
    """Return the expected calibration error of `reliability_bins`, in [0, 1]; None for no beats."""
    bins = reliability_bins(scores, labels, num_bins)
    filled = bins.num_beats > 0
    if not filled.any():
        return None
    gaps = np.abs(bins.share_right - bins.confidence)[filled]
    return float(np.average(gaps, weights=bins.num_beats[filled]))


def brier(scores: Scores, labels: Labels) -> float | None:
    """Return the mean over beats of the squared error summed over classes; None for no beats.

    In [0, 2] for scores that sum to 1. Source: Brier, Monthly Weather Review 78(1), 1950.
    Parameters and errors as in `reliability_bins`.
    """
    _decisions(scores, labels)
    if not len(labels):
        return None
    truth = np.eye(scores.shape[1])[labels]
    return float(np.square(scores - truth).sum(axis=1).mean())


def coverage_curve(scores: Scores, labels: Labels) -> CoverageCurve:
    """Return error against coverage, one point for each distinct expected error.

    Beats of one expected error are answered together, so their order does not matter. Source:
    El-Yaniv and Wiener, JMLR 11, 2010 (risk and coverage). Parameters and errors as in
    `reliability_bins`; no beats give no points.
    """
    confidence, right = _decisions(scores, labels)
    expected_error, place = np.unique(1 - confidence, return_inverse=True)
    answered = np.bincount(place, minlength=len(expected_error)).cumsum()
    wrong = np.bincount(place, weights=~right, minlength=len(expected_error)).cumsum()
    return CoverageCurve(
        threshold=expected_error,
        coverage=answered / max(len(right), 1),
        error=wrong / answered,
    )


def area_under(curve: CoverageCurve) -> float | None:
    """Return the error averaged over coverage, in [0, 1]; None for no beats.

    Without ties this is AURC, the mean error of the first 1, 2, … B beats (Geifman et al., ICLR
    2019); tied beats share the error of their point.
    """
    if not len(curve.coverage):
        return None
    return float(np.sum(np.diff(curve.coverage, prepend=0) * curve.error))


def point_for_error(curve: CoverageCurve, wanted_error: float) -> OperatingPoint | None:
    """Return the point of greatest coverage whose error is at most the wanted one, None without."""
    reached = np.flatnonzero(curve.error <= wanted_error)
    if not reached.size:
        return None
    at = reached[-1]
    return OperatingPoint(*(float(c[at]) for c in (curve.threshold, curve.coverage, curve.error)))


def _decisions(scores: Scores, labels: Labels) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """(B,) confidence and whether the decision is right."""
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.shape[1]:
        raise ContractError(f"scores {scores.shape} and labels {labels.shape} do not fit")
    if not ((scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)).all():
        raise ContractError("scores are not finite numbers between 0 and 1")
    if labels.dtype.kind not in "iu" or ((labels < 0) | (labels >= scores.shape[1])).any():
        raise ContractError(f"a beat's label is none of {scores.shape[1]} classes")
    confidence = scores.max(axis=1).astype(np.float64).clip(0, 1)
    return confidence, scores.argmax(axis=1) == labels

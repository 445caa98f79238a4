"""Detected beats paired one to one with reference beats.

Source: the beat-by-beat comparison of ANSI/AAMI EC57 as WFDB's `bxb` carries it out (G. Moody, WFDB
Applications Guide, bxb(1); the rule for fast rhythms is that of its revision of November 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.errors import ContractError

WINDOW_S = 0.15
LEARNING_S = 300.0
NO_DETECTION = -1
NO_FLUTTER: NDArray[np.int64] = np.empty((0, 2), dtype=np.int64)
_FAR = 2.0**50  # samples; stands for the beat after the last one


@dataclass(frozen=True)
class BeatMatch:
    """Which detection belongs to which reference beat, as indices into what was matched.

    Attributes
    ----------
    reference : ndarray
        (R,) int64, the reference beats that count, in order.
    detected : ndarray
        (R,) int64, the detection of each, or `NO_DETECTION` where the beat was missed.
    extra : ndarray
        (E,) int64, the detections that count and belong to no reference beat.
    """

    reference: NDArray[np.int64]
    detected: NDArray[np.int64]
    extra: NDArray[np.int64]


def match_beats(
    reference_idx: ArrayLike,
    detected_idx: ArrayLike,
    fs_hz: float,
    *,
    window_s: float = WINDOW_S,
    start_s: float = LEARNING_S,
    flutter_idx: ArrayLike = NO_FLUTTER,
) -> BeatMatch:
    """Pair detections with reference beats that lie at most a window apart.

    Beats are taken in the order of time. Of the next reference beat and the next detection, the
    earlier loses the later to its own successor if that is as near or nearer, unless the successor
    has a nearer partner itself; then it is missed, or extra. Linear in the number of beats.

    Parameters
    ----------
    reference_idx, detected_idx : array_like
        (R,) and (D,) sample positions in order, of one signal at `fs_hz`. `bxb` knows whole samples
        only: round detections to compare with it.
    fs_hz : float
        Sampling rate, Hz.
    window_s, start_s : float
        Match window and learning period, seconds, rounded to whole samples. Reference beats before
        `start_s` do not count. A detection just before it may still be the first one's; a detection
        at most a window after it that another detection is nearer to the first one than is taken
        for that of a beat before, and does not count.
    flutter_idx : array_like
        (K, 2) first and last samples of ventricular flutter or fibrillation: reference beats and
        extra detections in it do not count.

    Raises
    ------
    ContractError
        If positions are not finite, not in order or not one-dimensional, or a time is negative.
    """
    if not (np.isfinite([fs_hz, window_s, start_s]).all() and fs_hz > 0 <= min(window_s, start_s)):
        raise ContractError("rate, window and start of a beat comparison cannot be negative")
    window, start = (float(np.floor(time_s * fs_hz + 0.5)) for time_s in (window_s, start_s))
    reference, detected = (
        _positions("reference", reference_idx),
        _positions("detected", detected_idx),
    )
    flutter = np.asarray(flutter_idx, dtype=np.float64).reshape(-1, 2)
    counted = np.flatnonzero((reference >= start) & ~_inside(reference, flutter))
    first = _first_detection(reference[counted], detected, window, start)
    partners, extra = _pair(reference[counted].tolist(), detected[first:].tolist(), window)
    found = np.array(partners, dtype=np.int64)
    extras = np.array(extra, dtype=np.int64) + first
    return BeatMatch(
        reference=counted,
        detected=np.where(found == NO_DETECTION, NO_DETECTION, found + first),
        extra=extras[~_inside(detected[extras], flutter)],
    )


def _first_detection(
    reference: NDArray[np.float64], detected: NDArray[np.float64], window: float, start: float
) -> int:
    """Index of the first detection that takes part."""
    first = int(np.searchsorted(detected, start))
    beat = reference[0] if len(reference) else _FAR
    before = detected[first - 1] if first else -_FAR
    now, after = [*detected[first : first + 2], _FAR, _FAR][:2]
    if beat - before <= window and beat - before < abs(beat - now):
        return first - 1
    belongs_before = now - start <= window and abs(beat - after) < abs(beat - now)
    return first + 1 if start > 0 and belongs_before else first


def _pair(
    reference: list[float], detected: list[float], window: float
) -> tuple[list[int], list[int]]:
    """Partner of each reference beat, and the detections without one."""
    partners, extra = [NO_DETECTION] * len(reference), []
    num_beats, num_detections = len(reference), len(detected)
    reference, detected = [*reference, _FAR, _FAR], [*detected, _FAR, _FAR]
    i = j = 0
    while i < num_beats or j < num_detections:
        beat, detection = reference[i], detected[j]
        early = detection < beat
        gap = abs(beat - detection)
        # the successor of the earlier one competes with it for the later one
        rival = abs(beat - detected[j + 1]) if early else abs(detection - reference[i + 1])
        rival_is_taken = abs(reference[i + 1] - detected[j + 1]) < rival
        if gap <= window and (gap < rival or rival_is_taken):
            partners[i] = j
            i, j = i + 1, j + 1
        elif early:
            extra.append(j)
            j += 1
        else:
            i += 1
    return partners, extra


def _positions(kind: str, idx: ArrayLike) -> NDArray[np.float64]:
    positions = np.asarray(idx, dtype=np.float64)
    if positions.ndim != 1 or not (np.abs(positions) < _FAR).all():
        raise ContractError(f"the {kind} beats are not a row of sample positions")
    if (np.diff(positions) < 0).any():
        raise ContractError(f"the {kind} beats are not in the order of time")
    return positions


def _inside(positions: NDArray[np.float64], spans: NDArray[np.float64]) -> NDArray[np.bool_]:
    inside = np.zeros(len(positions), dtype=bool)
    for first, last in spans:
        inside |= (first <= positions) & (positions <= last)
    return inside

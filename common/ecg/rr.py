"""The rhythm around each beat, as numbers without a unit, from a bounded stretch of beats.

Only ratios of RR intervals: absolute RR or heart rate makes a model know patients instead of
rhythms (supraventricular F1 in cross-validation fell from 65 to 27).  What is said of a beat
depends on at most `PAST_BEATS` beats before it and `LOOK_AHEAD_BEATS` after it, so it can be
computed while the ECG is still coming in; early beats of a strip have less of a past.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.ecg.running import (
    Series,
    num_known,
    running_max,
    running_mean,
    running_median,
    running_min,
    running_percentiles,
    running_sum,
    stretches,
)

LOOK_AHEAD_BEATS = 16
PAST_BEATS = 361  # a share over 60 beats, each judged by 300 intervals before it

LONG = 300  # intervals that are the wearer's past

RR_RANGE_S = (0.15, 4.0)
AHEAD = LOOK_AHEAD_BEATS - 1  # one beat to spare, for the interval after the last one
NEIGHBOURS = tuple(k for k in range(-4, 6) if k)
PREMATURE = -0.15  # log ratio: 14 % earlier than the median
PAUSE = 0.22  # log ratio: 25 % later than the median
STEADY = 0.03  # log ratio that is added to a spread, so that a metronome has none to divide by
NUM_FEATURES = 42

SEQUENCE_PAST = 64
SEQUENCE = SEQUENCE_PAST + 1 + AHEAD
MIN_BEATS = 3  # below this there is no ratio to speak of


def rr_features(r_s: Series) -> NDArray[np.float32]:
    """Describe the rhythm around each beat by logarithms of ratios of RR intervals.

    Parameters
    ----------
    r_s : ndarray
        (B,) float64 times of the R peaks in seconds, rising.

    Returns
    -------
    ndarray
        (B, 42) float32: the intervals before (8) and after (7) the beat against the wearer's past
        and local references, both together, local spread, robust z-scores, irregularity, share of
        premature beats, local percentiles (10 in all), the nine intervals around, and how the
        interval before stands among pauses and steps of the rhythm (8).  Looks at most 15 beats
        ahead and 361 back.  Zero throughout when there are fewer than three beats.
    """
    if len(r_s) < MIN_BEATS:
        return np.zeros((len(r_s), NUM_FEATURES), dtype=np.float32)
    pre, post = _log_intervals(r_s)
    local = running_median(pre, 30, AHEAD)
    past, past_80, past_95 = running_percentiles(pre, [50, 80, 95], LONG, AHEAD)
    long = [past, running_mean(pre, LONG, AHEAD), past_80]
    columns = [
        *_against_references(pre, post, long, local),
        *_variability(pre, post, local, past),
        *_neighbours(pre, local),
        *_extremes(pre, local, past, past_95),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def rhythm_sequence(r_s: Series) -> NDArray[np.float32]:
    """Intervals around each beat relative to its own: ``log(RR_j) - log(RR_i)``.

    Parameters
    ----------
    r_s : ndarray
        (B,) float64 times of the R peaks in seconds, rising.

    Returns
    -------
    ndarray
        (B, 80) float32 for j from i - 64 to i + 15, where RR_j ends at beat j; beyond the strip
        its first or last interval goes on.  Looks 15 beats ahead and 65 back.  Zero throughout
        when there are fewer than three beats.
    """
    if len(r_s) < MIN_BEATS:
        return np.zeros((len(r_s), SEQUENCE), dtype=np.float32)
    pre, _ = _log_intervals(r_s)
    padded = np.pad(pre.astype(np.float32), (SEQUENCE_PAST, AHEAD), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, SEQUENCE)
    return np.asarray(around - around[:, SEQUENCE_PAST, None])


def _log_intervals(r_s: Series) -> tuple[Series, Series]:
    """Logarithms of the intervals in seconds before and after each beat: (B,), (B,)."""
    intervals = np.log(np.clip(np.diff(r_s), *RR_RANGE_S))
    return np.concatenate([intervals[:1], intervals]), np.concatenate([intervals, intervals[-1:]])


def _against_references(
    pre: Series, post: Series, long: list[Series], local: Series
) -> list[Series]:
    before = np.concatenate([pre[:1], pre[:-1]])
    recent, recent_max = running_percentiles(before, [50, 99], 9, 0)
    references = [*long, running_mean(pre, 10, 10), local, recent_max, recent]
    return [*(pre - r for r in references), pre - post, *(post - r for r in references)]


def _variability(pre: Series, post: Series, local: Series, past: Series) -> list[Series]:
    mean, square = running_mean(pre, 10, 10), running_mean(pre**2, 10, 10)
    centre = running_median(pre, 20, AHEAD)
    spread = 8 * (running_median(np.abs(pre - centre), 20, 0) + STEADY)
    step = np.abs(_steps(pre))
    upper, lower = running_percentiles(pre, [85, 15], 15, AHEAD)
    return [
        np.logaddexp(pre, post) - np.log(2) - local,
        np.sqrt(np.maximum(square - mean**2, 0)),
        (pre - centre) / spread,
        (post - centre) / spread,
        running_median(step, 15, AHEAD),
        running_mean(step, 15, AHEAD),
        running_mean((pre - local < PREMATURE).astype(np.float64), 15, 0),
        running_mean((pre - past < PREMATURE).astype(np.float64), 60, 0),
        upper - local,
        lower - local,
    ]


def _neighbours(pre: Series, local: Series) -> list[Series]:
    last = len(pre) - 1
    return [pre[np.clip(np.arange(len(pre)) + k, 0, last)] - local for k in NEIGHBOURS]


def _extremes(pre: Series, local: Series, past: Series, past_95: Series) -> list[Series]:
    """Against the longest and shortest intervals, the greatest steps, and the share of pauses."""
    step = _steps(pre)
    return [
        pre - past_95,
        pre - running_max(pre, 30, 0),
        pre - running_max(pre, 0, AHEAD),
        running_min(step, 60, 0) / 2,
        running_max(step, 0, AHEAD) / 2,
        _share_of_pauses(pre, past, 60),
        _share_of_pauses(pre, local, 15),
        pre - running_min(pre, 30, AHEAD),
    ]


def _share_of_pauses(pre: Series, usual: Series, past: int) -> Series:
    """Share of pauses among the intervals from `past` before to 15 after.

    Those after are judged by the beat's own median: theirs would know 30 beats ahead.
    """
    before = running_sum((pre - usual > PAUSE).astype(np.float64), past, 0)
    after = stretches(pre, 0, AHEAD, -np.inf)[:, 1:] - usual[:, None] > PAUSE
    return np.asarray((before + after.sum(axis=1)) / num_known(len(pre), past, AHEAD))


def _steps(pre: Series) -> Series:
    return np.diff(pre, prepend=pre[:1])

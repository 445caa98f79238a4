"""The wearer's regular beat and how much beats differ from it, from what is known at the time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.ecg.rr import LOOK_AHEAD_BEATS
from common.ecg.running import running_median

PAST_BEATS = 150
HOP = LOOK_AHEAD_BEATS  # beats that share a template
NEAR_PAST, NEAR_AHEAD = 30, 14  # intervals around one that say whether it is regular
REGULAR = 0.15  # deviation of RR from their median, as a fraction
MIN_REGULAR = 8


def regular_beats(
    windows: NDArray[np.float32], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Pointwise median of the regular beats around each beat and the usual distance from it.

    Both are renewed every 16 beats.  Beat i takes part in a block of 16 that starts at s <= i.  Its
    template is the median of the regular ones among beats s - 150 to s + 15, or of all of them if
    fewer than eight are.  A beat is regular if the intervals on both sides lie within 15 % of the
    median of 30 intervals before and 14 after, of which only those up to beat s + 16 are known.  So
    a template looks at most 16 beats ahead and 196 back.  The spread is the pointwise median of the
    distances of all beats s - 150 to s + 15 from the template (the MAD, a robust deviation).

    Parameters
    ----------
    windows : ndarray
        (B, T) float32, the beats in mV, aligned at their R peaks.
    positions : ndarray
        (B,) float64 R peaks in samples, rising.

    Returns
    -------
    template, spread : ndarray
        (B, T) float32 in mV, both.
    """
    usual, spread = np.empty_like(windows), np.empty_like(windows)
    for start in range(0, len(windows), HOP):
        first, stop = max(0, start - PAST_BEATS), start + HOP
        judged = max(0, first - 1 - NEAR_PAST)
        is_regular = _is_regular(positions[judged : stop + 1])[first - judged : stop - judged]
        known = windows[first:stop]
        chosen = known[is_regular]
        template = np.median(chosen if len(chosen) >= MIN_REGULAR else known, axis=0)
        usual[start:stop] = template
        spread[start:stop] = np.median(np.abs(known - template), axis=0)
    return usual, spread


def _is_regular(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(B,) whether the intervals on both sides are close to their local median."""
    intervals = np.diff(positions)
    if not len(intervals):
        return np.ones(len(positions), dtype=bool)
    usual = running_median(intervals, NEAR_PAST, NEAR_AHEAD).clip(min=1)
    is_near = np.abs(intervals / usual - 1) < REGULAR
    return np.asarray(np.append(is_near[:1], is_near) & np.append(is_near, is_near[-1:]))

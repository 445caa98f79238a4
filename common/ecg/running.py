"""Statistics over a bounded stretch of a series around each value.

A value depends on at most `past` values before it and `ahead` after it, so that it is the same
while the series is still coming in.  At the ends the stretch is what is known of it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Series = NDArray[np.float64]

NARROW = 64  # up to this width sorting each window is faster than keeping one sorted


def running_percentiles(
    series: Series, percents: Sequence[int], past: int, ahead: int
) -> list[Series]:
    """Order statistics of the values from `past` before to `ahead` after each one.

    Parameters
    ----------
    series : ndarray
        (B,) float64, not empty.
    percents : sequence of int
        Each in [0, 100): of the m values known, the one of rank ``m * percent // 100``.
    past, ahead : int
        Reach, in values.

    Returns
    -------
    list of ndarray
        (B,) float64 for each percent.
    """
    if past + ahead < NARROW:
        return _by_sorting(series, percents, past, ahead)
    return _by_insertion(series, percents, past, ahead)


def running_median(series: Series, past: int, ahead: int) -> Series:
    """`running_percentiles` at 50 percent: (B,)."""
    return running_percentiles(series, [50], past, ahead)[0]


def running_mean(series: Series, past: int, ahead: int) -> Series:
    """Mean of the values from `past` before to `ahead` after each one: (B,)."""
    return running_sum(series, past, ahead) / num_known(len(series), past, ahead)


def running_sum(series: Series, past: int, ahead: int) -> Series:
    """Sum of the values from `past` before to `ahead` after each one: (B,)."""
    total = np.concatenate([[0.0], np.cumsum(series)])
    first, last = _bounds(len(series), past, ahead)
    return np.asarray(total[last] - total[first])


def num_known(count: int, past: int, ahead: int) -> NDArray[np.int64]:
    """How many of the places from `past` before to `ahead` after each of `count` there are."""
    first, last = _bounds(count, past, ahead)
    return last - first


def running_max(series: Series, past: int, ahead: int) -> Series:
    """Greatest of the values from `past` before to `ahead` after each one: (B,)."""
    return np.asarray(stretches(series, past, ahead, -np.inf).max(axis=1))


def running_min(series: Series, past: int, ahead: int) -> Series:
    """Least of the values from `past` before to `ahead` after each one: (B,)."""
    return np.asarray(stretches(series, past, ahead, np.inf).min(axis=1))


def stretches(series: Series, past: int, ahead: int, beyond: float) -> Series:
    """(B, past + 1 + ahead) values around each one; places beyond the series hold `beyond`."""
    padded = np.concatenate([np.full(past, beyond), series, np.full(ahead, beyond)])
    return sliding_window_view(padded, past + ahead + 1)


def _by_sorting(series: Series, percents: Sequence[int], past: int, ahead: int) -> list[Series]:
    ranked = np.sort(stretches(series, past, ahead, np.inf), axis=1)
    known = num_known(len(series), past, ahead)
    at = np.arange(len(series))
    return [ranked[at, known * percent // 100] for percent in percents]


def _by_insertion(series: Series, percents: Sequence[int], past: int, ahead: int) -> list[Series]:
    values = series.tolist()
    window = sorted(values[:ahead])
    chosen = []
    for place in range(len(values)):
        if place + ahead < len(values):
            insort(window, values[place + ahead])
        if place > past:
            del window[bisect_left(window, values[place - past - 1])]
        chosen.append([window[len(window) * percent // 100] for percent in percents])
    return list(np.array(chosen, dtype=np.float64).reshape(-1, len(percents)).T)


def _bounds(count: int, past: int, ahead: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    at = np.arange(count)
    return np.maximum(at - past, 0), np.minimum(at + ahead + 1, count)

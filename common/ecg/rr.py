"""The rhythm around each beat, as numbers without a unit.

Only ratios of RR intervals: absolute RR or heart rate makes a model know patients instead of
rhythms (`facts/beat-recipe.md`: supraventricular F1 falls from 65 to 27).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

RR_RANGE_S = (0.15, 4.0)
NEIGHBOURS = range(-4, 6)
PREMATURE = -0.15  # log ratio: 14 % earlier than the local median
NUM_FEATURES = 29

Series = NDArray[np.float64]


def rr_features(r_s: Series) -> NDArray[np.float32]:
    """Describe the rhythm around each beat by logarithms of ratios of RR intervals.

    Parameters
    ----------
    r_s : ndarray
        (B,) float64 times of the R peaks in seconds, rising.

    Returns
    -------
    ndarray
        (B, 29) float32: the intervals before and after the beat against local and recent
        references, their spread and irregularity, and the ten intervals around. Zero throughout
        when there are fewer than three beats.
    """
    if len(r_s) < 3:
        return np.zeros((len(r_s), NUM_FEATURES), dtype=np.float32)
    intervals = np.log(np.clip(np.diff(r_s), *RR_RANGE_S))
    pre = np.concatenate([intervals[:1], intervals])
    post = np.concatenate([intervals, intervals[-1:]])
    columns = [*_against_references(pre, post), *_variability(pre), *_neighbours(pre)]
    return np.stack(columns, axis=1).astype(np.float32)


def _against_references(pre: Series, post: Series) -> list[Series]:
    local = _median(pre, 61)
    mean = ndimage.uniform_filter1d(pre, 21, mode="nearest")
    upper = _percentile(pre, 80, 301)
    spread = _median(np.abs(pre - _median(pre, 41)), 41) + 0.03
    both = np.logaddexp(pre, post) - np.log(2)
    return [
        pre - local,
        post - local,
        pre - mean,
        post - mean,
        pre - upper,
        post - upper,
        pre - _median(pre, 301),
        pre - post,
        both - local,
        pre - _recent(pre, 100),
        pre - _recent(pre, 50),
        (pre - _median(pre, 41)) / (8 * spread),
        (post - _median(pre, 41)) / (8 * spread),
    ]


def _variability(pre: Series) -> list[Series]:
    step = np.abs(np.diff(pre, prepend=pre[:1]))
    local = _median(pre, 61)
    mean = ndimage.uniform_filter1d(pre, 21, mode="nearest")
    square = ndimage.uniform_filter1d(pre**2, 21, mode="nearest")
    return [
        np.sqrt(np.maximum(square - mean**2, 0)),
        _median(step, 31),
        ndimage.uniform_filter1d(step, 31, mode="nearest"),
        ndimage.uniform_filter1d((pre - local < PREMATURE).astype(np.float64), 31, mode="nearest"),
        _percentile(pre, 85, 31) - local,
        _percentile(pre, 15, 31) - local,
    ]


def _neighbours(pre: Series) -> list[Series]:
    local = _median(pre, 61)
    last = len(pre) - 1
    return [pre[np.clip(np.arange(len(pre)) + k, 0, last)] - local for k in NEIGHBOURS]


def _median(series: Series, size: int) -> Series:
    return _percentile(series, 50, size)


def _percentile(series: Series, percent: int, size: int) -> Series:
    return np.asarray(ndimage.percentile_filter(series, percent, size=size, mode="nearest"))


def _recent(series: Series, percent: int, size: int = 10) -> Series:
    """Take a percentile of the `size` values before each one."""
    padded = np.concatenate([np.full(size, series[0]), series])
    return _percentile(padded, percent, size)[size // 2 : size // 2 + len(series)]

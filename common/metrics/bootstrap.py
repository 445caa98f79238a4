"""How far a figure would move with other patients of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ContractError
from common.metrics.figures import Confusion

NUM_RESAMPLES = 2000
LEVEL = 0.95

Figure = Callable[[Confusion], float | None]
"""A figure of (C, C) counts [true, said]; None or NaN where it is undefined."""


@dataclass(frozen=True)
class Interval:
    """A figure with its percentile interval over resampled patients.

    Attributes
    ----------
    estimate, low, high : float or None
        The figure of all patients, and the bounds; None where it is undefined.
    num_resamples, num_undefined : int
        Resamples drawn, and those among them that had to be left out.
    """

    estimate: float | None
    low: float | None
    high: float | None
    num_resamples: int
    num_undefined: int


def patient_interval(
    confusions: NDArray[np.int64],
    figure: Figure,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Return a gross figure's percentile interval over patients drawn with replacement.

    Patients, not beats, are the sampling unit, since beats of one patient are alike. Source: Efron
    and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Parameters
    ----------
    confusions : ndarray
        (K, C, C) int64 counts of K patients, or (seeds, K, C, C) of the same patients under
        several seeds. Then the figure is the mean over the seeds, each with the same draw.
    figure : callable
        Figure of the sum over patients; undefined for a seed, it is undefined for the draw.
    rng : numpy.random.Generator
        The same state gives the same draws, so differences of two models can be paired.

    Raises
    ------
    ContractError
        If there is no patient, no resample or no such stack, or `level` is not in (0, 1).
    """
    if num_resamples < 1 or not 0 < level < 1:
        raise ContractError("an interval needs resamples and a level between 0 and 1")
    values = resampled_figures(confusions, figure, rng, num_resamples)
    known = values[np.isfinite(values)]
    tail = 50 * (1 - level)
    low, high = np.percentile(known, [tail, 100 - tail]) if known.size else (np.nan, np.nan)
    estimate = _mean_over_seeds(_stack(confusions).sum(axis=1), figure)
    return Interval(
        estimate=_known(estimate),
        low=_known(low),
        high=_known(high),
        num_resamples=num_resamples,
        num_undefined=num_resamples - known.size,
    )


def resampled_figures(
    confusions: NDArray[np.int64],
    figure: Figure,
    rng: np.random.Generator,
    num_resamples: int = NUM_RESAMPLES,
) -> NDArray[np.float64]:
    """Return (num_resamples,) values of a figure, NaN where undefined; see `patient_interval`."""
    stack = _stack(confusions)
    seeds, patients, side, _ = stack.shape
    weights = rng.multinomial(patients, np.full(patients, 1 / patients), size=num_resamples)
    flat = stack.transpose(1, 0, 2, 3).reshape(patients, -1)
    sums = (weights @ flat).reshape(num_resamples, seeds, side, side)
    return np.array([_mean_over_seeds(draw, figure) for draw in sums])


def _mean_over_seeds(confusions: NDArray[np.int64], figure: Figure) -> float:
    values = [figure(confusion) for confusion in confusions]
    return float(np.mean([np.nan if value is None else value for value in values]))


def _stack(confusions: NDArray[np.int64]) -> NDArray[np.int64]:
    """(seeds, K, C, C) counts, checked."""
    counts = np.asarray(confusions)
    stack = counts[None] if counts.ndim == 3 else counts
    if stack.ndim != 4 or stack.shape[2] != stack.shape[3] or 0 in stack.shape:
        raise ContractError(f"{counts.shape} is no stack of patients' confusion counts")
    if stack.dtype.kind not in "iu" or (stack < 0).any():
        raise ContractError("confusion counts are whole numbers from 0 on")
    return stack.astype(np.int64)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None

"""Scores reduced to integer counts, the only form in which an evaluation leaves a wristband."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 32


def count_shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of what `count_scores` returns for C classes."""
    return {
        "confusion": (num_classes, num_classes),
        "histogram": (num_classes, 2, NUM_BINS),
    }


def count_scores(
    scores: NDArray[np.floating], labels: NDArray[np.int64]
) -> dict[str, NDArray[np.int64]]:
    """Count decisions and scores.

    Parameters
    ----------
    scores : ndarray
        (B, C) in [0, 1]; the decision is the first argmax.
    labels : ndarray
        (B,) int64 in [0, C).

    Returns
    -------
    dict
        ``confusion`` (C, C) int64 [true, said] and ``histogram`` (C, 2, 32) int64: the scores of
        class c among the beats not of that class (row 0) and of it (row 1), in equal bins of
        [0, 1], the last one closed. Sums of either over wristbands are those of all beats.
    """
    num_classes = scores.shape[1]
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(confusion, (labels, scores.argmax(axis=1)), 1)
    bins = np.clip((scores * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    histogram = np.zeros((num_classes, 2, NUM_BINS), dtype=np.int64)
    classes = np.broadcast_to(np.arange(num_classes), scores.shape)
    is_class = (labels[:, None] == classes).astype(np.int64)
    np.add.at(histogram, (classes, is_class, bins), 1)
    return {"confusion": confusion, "histogram": histogram}

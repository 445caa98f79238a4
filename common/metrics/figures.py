"""Figures of a classifier from its confusion counts [true, said]; a figure nobody can know is None."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Confusion = NDArray[np.int64]


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class, each in [0, 1], or None where its denominator is zero.

    Attributes
    ----------
    num_beats : int
        Reference beats of the class.
    sensitivity, positive_predictivity, f1 : float or None
        TP/(TP+FN), TP/(TP+FP), 2TP/(2TP+FP+FN).
    """

    num_beats: int
    sensitivity: float | None
    positive_predictivity: float | None
    f1: float | None


def class_figures(confusion: Confusion) -> tuple[ClassFigures, ...]:
    """Return the figures of each class of a (C, C) confusion matrix [true, said]."""
    hits = np.diagonal(confusion)
    beats, said = confusion.sum(axis=1), confusion.sum(axis=0)
    return tuple(
        ClassFigures(
            num_beats=int(beats[c]),
            sensitivity=ratio(hits[c], beats[c]),
            positive_predictivity=ratio(hits[c], said[c]),
            f1=ratio(2 * hits[c], beats[c] + said[c]),
        )
        for c in range(len(confusion))
    )


def of_reference(confusion: Confusion, classes: Iterable[int]) -> Confusion:
    """Leave out the beats whose reference is none of `classes`; what was said stays as it is."""
    kept = np.zeros_like(confusion)
    rows = list(classes)
    kept[rows] = confusion[rows]
    return kept


def accuracy(confusion: Confusion) -> float | None:
    """Return the share of all beats, of every class, whose class was said."""
    return ratio(np.trace(confusion), confusion.sum())


def macro_f1(confusion: Confusion, classes: Iterable[int]) -> float | None:
    """Return the mean F1 of some classes; those with neither beats nor claims are left out."""
    figures = class_figures(confusion)
    return mean(figures[c].f1 for c in classes)


def mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the known values, None when there are none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def ratio(part: int | np.integer, whole: int | np.integer) -> float | None:
    """Return part/whole, None for 0/0."""
    return float(part) / float(whole) if whole else None

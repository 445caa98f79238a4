"""Beats, ventricular and supraventricular ectopic beats by EC57 counting rules.

Source: ANSI/AAMI EC57, as applied by de Chazal et al., IEEE TBME 51(7), 2004, and by WFDB's `bxb`.
Counting rules only: a report by the standard needs more records and databases.

Confusion counts are (5, 5) [true, said] where beats are given, or (6, 6) where they were detected:
the last row then holds detections that are no beat, the last column beats that were missed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from common.ecg.labels import AAMI
from common.metrics.figures import Confusion, ratio

N, S, V, F, Q = range(len(AAMI))


@dataclass(frozen=True)
class EctopyFigures:
    """Detection of one kind of ectopic beat; figures are None where the denominator is zero.

    Attributes
    ----------
    sensitivity, positive_predictivity, false_positive_rate : float or None
        TP/(TP+FN), TP/(TP+FP), FP/(FP+TN), each in [0, 1].
    """

    sensitivity: float | None
    positive_predictivity: float | None
    false_positive_rate: float | None


@dataclass(frozen=True)
class QrsFigures:
    """Detection of beats, whatever their class; None where the denominator is zero.

    Attributes
    ----------
    sensitivity, positive_predictivity : float or None
        TP/(TP+FN), TP/(TP+FP), each in [0, 1].
    """

    sensitivity: float | None
    positive_predictivity: float | None


def qrs(confusion: Confusion) -> QrsFigures:
    """Count detected beats of (6, 6) counts; what class was said does not matter."""
    beats = len(AAMI)
    found = confusion[:beats, :beats].sum()
    return QrsFigures(
        sensitivity=ratio(found, confusion[:beats].sum()),
        positive_predictivity=ratio(found, confusion[:, :beats].sum()),
    )


def veb(confusion: Confusion) -> EctopyFigures:
    """Count ventricular ectopic beats; F or Q called V is no false positive."""
    return _detection(confusion, V, forgiven=(F, Q))


def sveb(confusion: Confusion) -> EctopyFigures:
    """Count supraventricular ectopic beats; Q called S is no false positive."""
    return _detection(confusion, S, forgiven=(Q,))


def _detection(confusion: Confusion, target: int, forgiven: Collection[int]) -> EctopyFigures:
    others = [c for c in range(len(confusion)) if c != target]
    said_other = [c for c in range(len(AAMI)) if c != target]  # a missed beat is no true negative
    blamed = [c for c in others if c not in forgiven]
    hits, beats = confusion[target, target], confusion[target].sum()
    false_alarms = confusion[blamed, target].sum()
    spared = confusion[np.ix_(others, said_other)].sum()
    return EctopyFigures(
        sensitivity=ratio(hits, beats),
        positive_predictivity=ratio(hits, hits + false_alarms),
        false_positive_rate=ratio(false_alarms, false_alarms + spared),
    )

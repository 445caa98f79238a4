"""Ventricular and supraventricular ectopic beats by EC57 counting rules.

Source: ANSI/AAMI EC57, as applied by de Chazal et al., IEEE TBME 51(7), 2004. Counting rules only:
a report by the standard needs more records and databases.
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


def veb(confusion: Confusion) -> EctopyFigures:
    """Count ventricular ectopic beats; F or Q called V is no false positive."""
    return _detection(confusion, V, forgiven=(F, Q))


def sveb(confusion: Confusion) -> EctopyFigures:
    """Count supraventricular ectopic beats; Q called S is no false positive."""
    return _detection(confusion, S, forgiven=(Q,))


def _detection(confusion: Confusion, target: int, forgiven: Collection[int]) -> EctopyFigures:
    others = [c for c in range(len(confusion)) if c != target]
    blamed = [c for c in others if c not in forgiven]
    hits, beats = confusion[target, target], confusion[target].sum()
    false_alarms = confusion[blamed, target].sum()
    spared = confusion[np.ix_(others, others)].sum()
    return EctopyFigures(
        sensitivity=ratio(hits, beats),
        positive_predictivity=ratio(hits, hits + false_alarms),
        false_positive_rate=ratio(false_alarms, false_alarms + spared),
    )

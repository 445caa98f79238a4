"""What the clinical benchmark says about models over several seeds and resampled patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean, stdev
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from common.ecg.labels import AAMI
from common.metrics import ec57
from common.metrics.bootstrap import patient_interval
from common.metrics.figures import Confusion, accuracy, class_figures, macro_f1, of_reference
from common.metrics.report import DOMINANT_S_RECORD, SCORED

N, S, V = SCORED
RESAMPLING_SEED = 20


class Spread(TypedDict):
    """One figure: mean and sample standard deviation over seeds, 95 % interval over patients."""

    mean: float | None
    sd: float | None
    ci95: tuple[float | None, float | None]
    values: list[float | None]


Figure = Callable[[Confusion], float | None]


def _nsv(figure: Figure) -> Figure:
    """The figure among beats whose reference is N, S or V, as single-lead papers give it."""
    return lambda confusion: figure(of_reference(confusion, SCORED))


FIGURES: Mapping[str, Figure] = {
    "accuracy": _nsv(accuracy),
    "macro_f1": _nsv(lambda c: macro_f1(c, SCORED)),
    "s_f1": _nsv(lambda c: class_figures(c)[S].f1),
    "s_f1_without_232": _nsv(lambda c: class_figures(c)[S].f1),
    "s_sensitivity": lambda c: ec57.sveb(c).sensitivity,
    "s_positive_predictivity": lambda c: ec57.sveb(c).positive_predictivity,
    "v_f1": _nsv(lambda c: class_figures(c)[V].f1),
    "v_sensitivity": lambda c: ec57.veb(c).sensitivity,
    "v_positive_predictivity": lambda c: ec57.veb(c).positive_predictivity,
    "accuracy_five_classes": accuracy,
    "macro_f1_counting_f_and_q": lambda c: macro_f1(c, SCORED),
    "macro_f1_four_classes": lambda c: macro_f1(c, (*SCORED, AAMI.index("F"))),
}
"""Figures of (5, 5) counts [true, said]; Se and +P by EC57 counting rules."""

ByRecord = Mapping[str, Confusion]


def spreads(by_seed: Sequence[ByRecord]) -> dict[str, Spread]:
    """Each of `FIGURES` over seeds, from (5, 5) counts by record; all seeds scored the same."""
    names = list(by_seed[0])
    stack = np.array([[records[name] for name in names] for records in by_seed])
    return {name: spread(_patients(name, names, stack), figure) for name, figure in FIGURES.items()}


def spread(stack: NDArray[np.int64], figure: Figure) -> Spread:
    """One figure of (seeds, K, 5, 5) counts."""
    values = [figure(total) for total in stack.sum(axis=1)]
    interval = patient_interval(stack, figure, np.random.default_rng(RESAMPLING_SEED))
    return {**seeds(values), "ci95": (interval.low, interval.high)}


def seeds(values: Sequence[float | None]) -> Spread:
    """Mean and sample standard deviation (n - 1) of the known values; no interval."""
    known = [value for value in values if value is not None]
    return {
        "mean": fmean(known) if known else None,
        "sd": stdev(known) if len(known) > 1 else None,
        "ci95": (None, None),
        "values": list(values),
    }


def differences(ours: Mapping[str, Spread], peers: Mapping[str, Spread]) -> dict[str, Spread]:
    """Ours minus peer, seed by seed, of the seeds that both have; unknown where either is."""
    return {
        name: seeds(
            [
                None if a is None or b is None else a - b
                for a, b in zip(ours[name]["values"], peers[name]["values"], strict=False)
            ]
        )
        for name in ours
        if name in peers
    }


def _patients(figure: str, names: Sequence[str], stack: NDArray[np.int64]) -> NDArray[np.int64]:
    """All patients, or those without the one that holds most S beats."""
    if not figure.endswith("_without_232"):
        return stack
    return stack[:, [name != DOMINANT_S_RECORD for name in names]]

"""What is said about a beat model on a set of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from common.ecg.labels import AAMI
from common.errors import ContractError
from common.metrics import ec57
from common.metrics.figures import (
    ClassFigures,
    Confusion,
    accuracy,
    class_figures,
    macro_f1,
    mean,
)

DOMINANT_S_RECORD = "232"  # holds 1382 of the 1837 S beats of DS2
SCORED = tuple(AAMI.index(name) for name in ("N", "S", "V"))


@dataclass(frozen=True)
class SupraventricularFigures(ClassFigures):
    """Figures of S, whose F1 is never told without the F1 that leaves out record 232."""

    f1_without_232: float | None


@dataclass(frozen=True)
class BeatReport:
    """Figures of a beat model over some records, gross unless they are called averages.

    Attributes
    ----------
    records : tuple[str, ...]
        Names of the records scored.
    num_beats : int
        Beats of all classes.
    confusion : tuple[tuple[int, ...], ...]
        (5, 5) counts [true, said] in the order of `AAMI`.
    accuracy, macro_f1_nsv : float or None
        Over all five classes; mean F1 over N, S, V.
    classes : Mapping[str, ClassFigures]
        By class name; S is `SupraventricularFigures`.
    veb, sveb, veb_average, sveb_average : EctopyFigures
        By EC57 counting rules, gross and averaged over the records that have them.
    """

    records: tuple[str, ...]
    num_beats: int
    confusion: tuple[tuple[int, ...], ...]
    accuracy: float | None
    macro_f1_nsv: float | None
    classes: Mapping[str, ClassFigures]
    veb: ec57.EctopyFigures
    sveb: ec57.EctopyFigures
    veb_average: ec57.EctopyFigures
    sveb_average: ec57.EctopyFigures

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def beat_report(confusion_by_record: Mapping[str, Confusion]) -> BeatReport:
    """Sum up the confusion counts of the beat task, (5, 5) [true, said] by record name.

    Raises
    ------
    ContractError
        If there are no records or a matrix is not (5, 5).
    """
    matrices = {name: _checked(name, matrix) for name, matrix in confusion_by_record.items()}
    if not matrices:
        raise ContractError("no record was scored")
    total = _total(matrices.values())
    return BeatReport(
        records=tuple(matrices),
        num_beats=int(total.sum()),
        confusion=tuple(tuple(map(int, row)) for row in total),
        accuracy=accuracy(total),
        macro_f1_nsv=macro_f1(total, SCORED),
        classes=_classes(total, matrices),
        veb=ec57.veb(total),
        sveb=ec57.sveb(total),
        veb_average=_average([ec57.veb(m) for m in matrices.values()]),
        sveb_average=_average([ec57.sveb(m) for m in matrices.values()]),
    )


def _classes(total: Confusion, matrices: Mapping[str, Confusion]) -> dict[str, ClassFigures]:
    without = _total(m for name, m in matrices.items() if name != DOMINANT_S_RECORD)
    classes = dict(zip(AAMI, class_figures(total), strict=True))
    f1_without_232 = class_figures(without)[AAMI.index("S")].f1
    classes["S"] = SupraventricularFigures(**asdict(classes["S"]), f1_without_232=f1_without_232)
    return classes


def _checked(name: str, confusion: Confusion) -> Confusion:
    matrix = np.asarray(confusion)
    side = len(AAMI)
    if matrix.shape != (side, side) or matrix.dtype.kind not in "iu" or (matrix < 0).any():
        raise ContractError(f"the confusion of {name} is not {side} x {side} counts", record=name)
    return matrix.astype(np.int64)


def _total(matrices: Iterable[Confusion]) -> Confusion:
    return sum(matrices, start=np.zeros((len(AAMI), len(AAMI)), dtype=np.int64))


def _average(figures: list[ec57.EctopyFigures]) -> ec57.EctopyFigures:
    return ec57.EctopyFigures(
        sensitivity=mean(f.sensitivity for f in figures),
        positive_predictivity=mean(f.positive_predictivity for f in figures),
        false_positive_rate=mean(f.false_positive_rate for f in figures),
    )

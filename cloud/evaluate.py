"""Figures of a model from the counts that its region's wristbands summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from common.metrics.figures import ClassFigures, accuracy, class_figures, macro_f1

SCORED_CLASSES = {"beats": ("N", "S", "V")}
"""Classes of a task's macro-F1: F comes from one patient in each half of MIT-BIH, Q from none."""


@dataclass(frozen=True)
class Evaluation:
    """What wristbands' held-out examples say about one model.

    Attributes
    ----------
    num_examples : int
        Examples of all classes.
    accuracy, macro_f1 : float or None
        In [0, 1]; None when nothing can be said.
    scored : tuple of str
        Classes that `macro_f1` is the mean over.
    classes : dict
        Figures by label.
    confusion : tuple
        (C, C) counts [true, said], in label order.
    """

    num_examples: int
    accuracy: float | None
    macro_f1: float | None
    scored: tuple[str, ...]
    classes: dict[str, ClassFigures]
    confusion: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as plain JSON values."""
        document: dict[str, Any] = to_jsonable_python(asdict(self))
        return document


def evaluate(
    task: str, labels: Sequence[str], confusion: NDArray[np.int64], min_class_examples: int = 1
) -> Evaluation:
    """Derive figures from a (C, C) confusion matrix [true, said] in the order of `labels`.

    A class with fewer than `min_class_examples` examples is left out of macro-F1.
    """
    eligible = SCORED_CLASSES.get(task, tuple(labels))
    num_by_class = confusion.sum(axis=1)
    scored = [
        idx
        for idx, label in enumerate(labels)
        if label in eligible and num_by_class[idx] >= min_class_examples
    ]
    return Evaluation(
        num_examples=int(confusion.sum()),
        accuracy=accuracy(confusion),
        macro_f1=macro_f1(confusion, scored),
        scored=tuple(labels[idx] for idx in scored),
        classes=dict(zip(labels, class_figures(confusion), strict=True)),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )

"""The patients of the clinical studies: beats to learn from, beats to score, under each condition."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.ecg.beats import PreparedBeats, prepare
from common.ecg.labels import AAMI
from common.ecg.records import Record
from common.ecg.sources import EcgSource
from common.tasks.beat_form import QRS
from common.tasks.task import Examples
from simulators.patients import split_last_fifth, wearer

FOLDS: tuple[tuple[str, ...], ...] = (
    ("209", "106", "112", "122"),
    ("201", "119", "230", "108", "115"),
    ("207", "220", "116", "205"),
    ("223", "124", "114", "215", "101"),
    ("118", "203", "208", "109"),
)
"""Five held-out groups of DS1 records; the two with atrial fibrillation, 201 and 203, are apart."""

ROSTER: Mapping[str, tuple[str, ...]] = {
    "student-clinic": ("106", "115", "208", "230"),
    "rhythm-centre": ("118", "201", "203", "207", "209"),
    "geriatrics": ("101", "108", "114", "124", "215", "220"),
    "county": ("109", "112", "116", "119", "122", "205", "223"),
}
"""DS1 as four deliberately unequal hospitals: patients of at most 39 years; atrial fibrillation,
flutter and dense atrial ectopy; patients of 72 to 87 years; middle age with few S beats."""

Labels = Literal["expert", "own"]
Share = Literal["all", "four_fifths"]

EARLY = 0.85  # of the local median interval
ALIKE = 0.75  # correlation of QRS and template

_LOCAL = 4  # column of `rr`: log ratio of the interval before the beat to its local median


def learners(
    source: EcgSource, names: Iterable[str], labels: Labels, share: Share
) -> dict[str, Examples]:
    """What each patient's wristband learns from.

    Parameters
    ----------
    labels : {"expert", "own"}
        Annotated beats, or detected beats labelled by the device's own rule.
    share : {"all", "four_fifths"}
        Every beat, or those that a product leaves when it keeps the last fifth.
    """
    beats = {name: _labelled(source.read(name), labels) for name in names}
    if share == "all":
        return beats
    return {name: split_last_fifth(examples)[0] for name, examples in beats.items()}


def own_labels(prepared: PreparedBeats) -> NDArray[np.int64]:
    """Label beats as a device without a model could: early and unlike the template is V, early S.

    Returns
    -------
    ndarray
        (B,) int64, index into `AAMI`; thresholds are `EARLY` and `ALIKE`.
    """
    beat, template = (prepared.inputs["beat_mv"][:, row, QRS] for row in (0, 1))
    beat, template = (w - w.mean(axis=1, keepdims=True) for w in (beat, template))
    energy = np.sqrt((beat**2).sum(axis=1) * (template**2).sum(axis=1))
    alike = (beat * template).sum(axis=1) >= ALIKE * energy
    early = prepared.inputs["rr"][:, _LOCAL] < np.log(EARLY)
    names = np.select([early & ~alike, early], ["V", "S"], "N")
    return np.array([AAMI.index(name) for name in names], dtype=np.int64)


def _labelled(record: Record, labels: Labels) -> Examples:
    if labels == "expert":
        return wearer(record)
    prepared = prepare(record.ecg_mv, record.fs_hz)
    return Examples(prepared.inputs, own_labels(prepared))

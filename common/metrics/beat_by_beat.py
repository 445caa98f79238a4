"""What a detector and a classifier together said, counted with the beats missed and made up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.ecg.labels import AAMI
from common.errors import ContractError
from common.metrics import ec57
from common.metrics.figures import Confusion
from common.metrics.matching import NO_DETECTION, BeatMatch

NO_BEAT = len(AAMI)
"""Row and column of "no beat", the O of EC57: made-up beats in the row, missed ones in the column."""


@dataclass(frozen=True)
class BeatByBeat:
    """Beats of one or more records, compared end to end.

    Attributes
    ----------
    counts : ndarray
        (C+1, C+1) int64 [true, said] in the order of `AAMI`, then `NO_BEAT`; its corner is 0.
    """

    counts: Confusion

    @property
    def qrs(self) -> ec57.QrsFigures:
        """Detection of beats, whatever their class."""
        return ec57.qrs(self.counts)

    @property
    def veb(self) -> ec57.EctopyFigures:
        """Ventricular ectopic beats; a missed one is a false negative, a made-up one a false alarm."""
        return ec57.veb(self.counts)

    @property
    def sveb(self) -> ec57.EctopyFigures:
        """Supraventricular ectopic beats, likewise."""
        return ec57.sveb(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Return counts and figures as plain JSON values."""
        figures = {name: asdict(getattr(self, name)) for name in ("qrs", "veb", "sveb")}
        return {"counts": self.counts.tolist(), **figures}


def compare_beats(
    match: BeatMatch, reference_labels: NDArray[np.int64], detected_labels: NDArray[np.int64]
) -> BeatByBeat:
    """Count what was said about each beat.

    Parameters
    ----------
    match : BeatMatch
        Of the positions that the labels belong to.
    reference_labels, detected_labels : ndarray
        (R,) and (D,) int64 in [0, C), of all beats, those that do not count included.

    Raises
    ------
    ContractError
        If there are fewer labels than beats, or a label is no class.
    """
    _check(reference_labels, match.reference)
    _check(detected_labels, np.concatenate([match.detected, match.extra]))
    found = match.detected != NO_DETECTION
    said = np.full(len(found), NO_BEAT)
    said[found] = detected_labels[match.detected[found]]
    counts = np.zeros((NO_BEAT + 1, NO_BEAT + 1), dtype=np.int64)
    np.add.at(counts, (reference_labels[match.reference], said), 1)
    np.add.at(counts[NO_BEAT], detected_labels[match.extra], 1)
    return BeatByBeat(counts)


def gross(comparisons: Iterable[BeatByBeat]) -> BeatByBeat:
    """Add up comparisons, such as those of several records."""
    empty = np.zeros((NO_BEAT + 1, NO_BEAT + 1), dtype=np.int64)
    return BeatByBeat(sum((c.counts for c in comparisons), start=empty))


def _check(labels: NDArray[np.int64], beats: NDArray[np.int64]) -> None:
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or beats.max(initial=-1) >= len(labels):
        raise ContractError(f"{labels.shape} labels do not belong to the matched beats")
    if ((labels < 0) | (labels >= len(AAMI))).any():
        raise ContractError(f"a beat's label is none of the {len(AAMI)} classes")

"""Which strips stand for a model: where it did best and worst, by a rule and not by taste."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.strip_plots import Strip
from common.ecg.labels import AAMI
from common.ecg.records import Record

LENGTH_S = 10.0
N, S, V = (AAMI.index(letter) for letter in "NSV")
SHOWN = ((V, V), (S, S), (S, N), (N, S), (V, N), (N, V))
"""(true, said): each is shown by the ten seconds that hold most of it."""

Answers = Mapping[str, tuple[NDArray[np.float32], NDArray[np.int64]]]


def examples(answers: Answers, read: Callable[[str], Record]) -> list[Strip]:
    """Choose a strip for each of `SHOWN`, no two of one record.

    Parameters
    ----------
    answers : mapping
        Record to scores (B, 5) and labels (B,) at its reference R peaks.
    read : callable
        Returns a record by its name.

    Returns
    -------
    list of Strip
        At most six; none for what did not occur.
    """
    records = {name: read(name) for name in answers}
    chosen: list[Strip] = []
    for true, said in SHOWN:
        used = {strip["record"] for strip in chosen}
        found = [
            (*_densest(records[name], _is(answers[name], true, said)), name)
            for name in answers
            if name not in used
        ]
        if found and (best := max(found, key=lambda f: f[0]))[0]:
            chosen.append(_strip(records[best[2]], best[1], answers[best[2]]))
    return chosen


def _is(
    answer: tuple[NDArray[np.float32], NDArray[np.int64]], true: int, said: int
) -> NDArray[np.bool_]:
    scores, labels = answer
    return np.asarray((labels == true) & (scores.argmax(axis=1) == said))


def _densest(record: Record, wanted: NDArray[np.bool_]) -> tuple[int, int]:
    """Most wanted beats in ten seconds, and the sample where these begin, a second before one."""
    at = record.r_idx[wanted]
    if not len(at):
        return 0, 0
    length = round(LENGTH_S * record.fs_hz)
    last = max(0, len(record.ecg_mv) - length)
    starts = np.clip(at - round(record.fs_hz), 0, last)
    inside = np.searchsorted(at, starts + length) - np.searchsorted(at, starts)
    return int(inside.max()), int(starts[inside.argmax()])


def _strip(
    record: Record, start: int, answer: tuple[NDArray[np.float32], NDArray[np.int64]]
) -> Strip:
    scores, labels = answer
    stop = start + round(LENGTH_S * record.fs_hz)
    shown = (record.r_idx >= start) & (record.r_idx < min(stop, len(record.ecg_mv)))
    return {
        "record": record.name,
        "lead": record.lead,
        "start_s": start / record.fs_hz,
        "ecg_mv": record.ecg_mv[start:stop],
        "fs_hz": record.fs_hz,
        "r_idx": record.r_idx[shown] - start,
        "reference": [AAMI[label] for label in labels[shown]],
        "said": [AAMI[said] for said in scores[shown].argmax(axis=1)],
        "confidences": scores[shown].max(axis=1).tolist(),
    }

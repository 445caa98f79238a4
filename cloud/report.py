"""Beats that no wristband holds, scored after the decision: for the card, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from cloud.export import Rows, onnx_scores
from common.ecg.beats import prepare
from common.ecg.demographics import SAME_PERSON
from common.ecg.labels import aami
from common.ecg.sources import EcgSource
from common.metrics.counts import count_scores
from common.metrics.report import beat_report
from common.notice import SYNTHETIC_NOTICE
from common.tasks.beats import BeatTask
from common.tasks.task import Parameters, score

USE = "Report only: scored after the decision, which never saw it."

Track = Callable[[Iterable[str]], Iterable[str]]
"""Passes names on, showing progress."""


def score_test_set(
    params: Parameters, onnx_bytes: bytes, source: EcgSource, look: int, track: Track
) -> dict[str, Any]:
    """Score the beat model on the patients that only reports may see, at reference R peaks.

    Parameters
    ----------
    params : dict
        The released parameters.
    onnx_bytes : bytes
        The released ONNX file; the figures are its own.
    source : EcgSource
        MIT-BIH, whose test split is DS2, or its synthetic stand-in.
    look : int
        How often the test split has been looked at in this pool, this time included.
    track : callable
        Shows progress over the records.

    Returns
    -------
    dict
        JSON values; ``parity`` is the largest difference to torch over all beats.

    Raises
    ------
    SignalError, ContractError
        When a record cannot be read.
    """
    confusions: dict[str, NDArray[np.int64]] = {}
    parity = 0.0
    for name in track(source.test_names):
        inputs, labels = _beats(source, name)
        scores = onnx_scores(onnx_bytes, inputs)
        confusions[name] = count_scores(scores, labels)["confusion"]
        expected = score(BeatTask(), params, inputs)
        parity = max(parity, float(np.abs(scores - expected).max(initial=0.0)))
    report: dict[str, Any] = to_jsonable_python(
        {
            "use": USE,
            "source": source.kind,
            "notice": SYNTHETIC_NOTICE if source.kind == "synthetic" else _source_notice(source),
            "look": look,
            "peaks": "reference",
            "parity": parity,
            "figures": beat_report(confusions).to_dict(),
            "without_202": _without_same_person(confusions),
        }
    )
    return report


def _source_notice(source: EcgSource) -> str:
    """What the figures stand on, without the path of this machine."""
    return (
        f"MIT-BIH Arrhythmia Database, DS2 ({len(source.test_names)} records), lead MLII, "
        "expert labels."
    )


def _beats(source: EcgSource, name: str) -> tuple[Rows, NDArray[np.int64]]:
    record = source.read(name)
    prepared = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    return prepared.inputs, aami(record.symbols)


def _without_same_person(confusions: dict[str, NDArray[np.int64]]) -> dict[str, Any]:
    others = {name: counts for name, counts in confusions.items() if name not in SAME_PERSON}
    figures = beat_report(others)
    return {"accuracy": figures.accuracy, "macro_f1_nsv": figures.macro_f1_nsv}

"""One run of the clinical benchmark: train an arm with a seed, score its models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import clinical_scores as scores
from benchmarks.clinical_arms import Arm, kept_or_trained
from benchmarks.clinical_personal import personalised
from benchmarks.cohorts import Labels, Share, learners
from common.ecg.noise import RECORDS, read_noise
from common.ecg.records import Record
from common.ecg.sources import EcgSource, data_root
from common.errors import SignalError
from common.metrics.figures import Confusion
from common.tasks.task import Examples, Parameters
from simulators.trainer import pin_to_one_thread

ByRecord = dict[str, Confusion]


@dataclass
class Ran:
    """What one run gave.

    Attributes
    ----------
    confusions : dict
        Condition to record to counts [true, said]: (5, 5) at reference peaks, (6, 6) end to end.
    scores : dict
        At reference peaks, by record: scores (B, 5) and labels (B,); of runs under all conditions.
    facts : dict
        Further JSON values, such as the size of the int8 file.
    """

    arm: Arm
    seed: int
    confusions: dict[str, ByRecord] = field(default_factory=dict)
    scores: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


def run(arm: Arm, seed: int, source: EcgSource, folder: Path) -> Ran:
    """Train or fetch the models of a run and score them; the body of a worker process."""
    pin_to_one_thread()
    models = kept_or_trained(
        arm, seed, _learners(source, arm.labels, arm.share), folder, lambda _: None
    )
    ran = Ran(arm, seed)
    for name, params in models.items():
        answers = scores.answers(scores.float_scorer(params), _asked(source, "reference"))
        condition = "reference" if name == "model" else name
        ran.confusions[condition] = {record: a.confusion for record, a in answers.items()}
        if arm.under_all_conditions(seed):
            _under_all_conditions(ran, params, answers, source)
    return ran


def _under_all_conditions(
    ran: Ran, params: Parameters, known: Mapping[str, scores.Answered], source: EcgSource
) -> None:
    ran.scores = {name: (a.scores, a.asked.labels) for name, a in known.items()}
    ran.confusions["reference_from_5_min"] = {name: a.end_to_end() for name, a in known.items()}
    ran.confusions["bxb_map"] = {name: a.by_bxb_map for name, a in known.items()}
    small, ran.facts["int8_bytes"] = scores.int8_scorer(params)
    exact = scores.answers(small, _asked(source, "reference"))
    ran.confusions["int8"] = {name: a.confusion for name, a in exact.items()}
    found = scores.answers(scores.float_scorer(params), _asked(source, "detected"))
    ran.confusions["end_to_end"] = {name: a.end_to_end() for name, a in found.items()}
    _in_noise(ran, scores.answers(scores.float_scorer(params), _asked(source, "noisy")))
    ran.confusions |= personalised(params, _asked(source, "reference"), ran.seed)


def _in_noise(ran: Ran, heard: Mapping[str, scores.Answered]) -> None:
    if not heard:
        return
    answered = {name: a.is_answered for name, a in heard.items()}
    ran.confusions["noisy"] = {name: a.confusion for name, a in heard.items()}
    ran.confusions["noisy_answered"] = {
        name: a.confusion_of(answered[name]) for name, a in heard.items()
    }
    ran.facts["noisy_coverage"] = float(np.mean(np.concatenate(list(answered.values()))))


@cache
def _learners(source: EcgSource, labels: Labels, share: Share) -> Mapping[str, Examples]:
    return learners(source, source.train_names, labels, share)


@cache
def _asked(source: EcgSource, condition: str) -> Mapping[str, scores.Asked]:
    """The test split under a condition; empty for noise where the noise records lack."""
    records = [source.read(name) for name in source.test_names]
    match condition:
        case "reference":
            return {r.name: scores.at_reference_peaks(r) for r in records}
        case "detected":
            return {r.name: scores.at_detected_peaks(r) for r in records}
        case _:
            return _noisy(records)


def _noisy(records: Sequence[Record]) -> Mapping[str, scores.Asked]:
    root = data_root(None, os.environ)
    try:
        noises = [read_noise(root, name) for name in RECORDS]
    except SignalError:
        return {}
    return {record.name: scores.in_noise(record, noises) for record in records}

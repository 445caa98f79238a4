"""Each test patient with a model of their own, fine-tuned on their first minutes."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.clinical_scores import Asked
from common.metrics.counts import count_scores
from common.metrics.figures import Confusion
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters, Task, score
from simulators.personal import (
    first_minutes,
    personal_training,
    personalise,
    scored_beats,
    self_labelled,
)
from simulators.trainer import device_seed

MINUTES = (1, 3, 5)
PREFIX = "minutes_5_to_30"


def personalised(
    params: Parameters, asked: Mapping[str, Asked], seed: int
) -> dict[str, dict[str, Confusion]]:
    """Confusions of minutes 5 to 30 by record, for each way to personalise.

    ``…_0_minutes`` is the regional model itself, ``…_label_free`` what it teaches itself in the
    first five minutes. Every patient starts from a fresh copy.
    """
    task = get_task("beats")
    ways: dict[str, dict[str, Confusion]] = {}
    for name, patient in asked.items():
        plan = personal_training(device_seed(seed, name, 0))
        for way, own in _ways(task, params, patient).items():
            tuned = personalise(task, params, own, plan)
            ways.setdefault(f"{PREFIX}_{way}", {})[name] = _scored(task, tuned, patient)
    return ways


def _ways(task: Task, params: Parameters, patient: Asked) -> dict[str, Examples]:
    examples = Examples(patient.prepared.inputs, patient.labels)
    r_idx, fs_hz = patient.prepared.r_idx, patient.record.fs_hz
    labelled = {
        f"{minutes}_minutes": examples.take(first_minutes(r_idx, fs_hz, minutes))
        for minutes in MINUTES
    }
    first = examples.take(first_minutes(r_idx, fs_hz, MINUTES[-1]))
    return {
        "0_minutes": examples.take(slice(0, 0)),
        **labelled,
        "label_free": self_labelled(task, params, first.inputs),
    }


def _scored(task: Task, params: Parameters, patient: Asked) -> Confusion:
    later = scored_beats(patient.prepared.r_idx, patient.record.fs_hz)
    examples = Examples(patient.prepared.inputs, patient.labels).take(later)
    return count_scores(score(task, params, examples.inputs), examples.labels)["confusion"]

"""What must not leak: labels through anything but learning, DS2 into anything at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.clinical_arms import ARMS, train_arm
from benchmarks.cohorts import FOLDS, learners
from common.ecg.labels import AAMI
from common.ecg.records import DS2, Record
from common.ecg.sources import EcgSource, open_source
from common.metrics.counts import count_scores
from common.metrics.figures import class_figures
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters, score
from tests.real_data import mitdb_root

V = AAMI.index("V")
TRAINED_ON = ("106", "119", "208", "223", "101", "215")
SCORED_ON = ("116", "205", "207", "124")


def trained(wearers: dict[str, Examples]) -> Parameters:
    return train_arm(ARMS[0].shortened(6), 0, wearers, lambda _: None)["model"]


def v_f1(params: Parameters, patients: dict[str, Examples]) -> float:
    counts = np.zeros((len(AAMI), len(AAMI)), dtype=np.int64)
    for examples in patients.values():
        scores = score(get_task("beats"), params, examples.inputs)
        counts += count_scores(scores, examples.labels)["confusion"]
    return class_figures(counts)[V].f1 or 0.0


def shuffled(examples: Examples, seed: int) -> Examples:
    return Examples(examples.inputs, np.random.default_rng(seed).permutation(examples.labels))


@pytest.mark.slow
def test_shuffled_labels_teach_nothing_about_other_patients() -> None:
    source = open_source(mitdb_root())
    wearers = learners(source, TRAINED_ON, "expert", "all")
    others = learners(source, SCORED_ON, "expert", "all")
    share_of_v = np.mean(np.concatenate([e.labels for e in others.values()]) == V)
    confused = {name: shuffled(e, seed) for seed, (name, e) in enumerate(wearers.items())}
    assert v_f1(trained(wearers), others) > 0.6
    assert v_f1(trained(confused), others) < 3 * share_of_v


def test_training_reads_no_patient_of_the_test_split() -> None:
    source = open_source(mitdb_root())
    read: list[str] = []

    def watched(name: str) -> Record:
        read.append(name)
        if name in DS2:
            raise AssertionError(f"{name} of DS2 was read while training")
        return source.read(name)

    watching: EcgSource = replace(source, read=watched)
    names = FOLDS[0][:2]
    for arm in ARMS:
        trained_on = learners(watching, names, arm.labels, arm.share)
        train_arm(
            replace(arm.shortened(1), learning={**arm.learning, "num_steps": 1}),
            0,
            trained_on,
            print,
        )
    assert set(read) == set(names)


def test_no_state_is_fitted_to_data_outside_the_parameters() -> None:
    module = get_task("beats").build()
    assert not list(module.buffers())

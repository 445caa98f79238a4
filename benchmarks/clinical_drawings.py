"""The figures of `docs/clinical/`, from the runs of the clinical benchmark."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import results_file
from benchmarks.calibration_plots import coverage, reliability
from benchmarks.clinical_plots import PatientF1, confusion, per_patient
from benchmarks.clinical_run import ByRecord, Ran
from benchmarks.clinical_strips import examples
from benchmarks.personal_plots import Change, gain_and_harm
from benchmarks.strip_plots import strips
from common.ecg.labels import AAMI
from common.ecg.sources import data_root, open_source
from common.metrics.calibration import coverage_curve, reliability_bins
from common.metrics.figures import Confusion, class_figures, macro_f1, of_reference
from common.metrics.report import SCORED
from common.tasks.calibration import MAX_EXPECTED_ERROR

FOLDER = results_file.REPOSITORY / "docs" / "clinical"
MODEL = "federated, seed 0"
_, S, V = SCORED


def draw(document: Mapping[str, Any], runs: Sequence[Ran], folder: Path = FOLDER) -> Iterator[Path]:
    """Draw everything the first federated run can tell; yields each path."""
    first = next((ran for ran in runs if ran.arm.name == "federated" and ran.scores), None)
    if first is None:
        return
    scores = np.concatenate([s for s, _ in first.scores.values()])
    labels = np.concatenate([labels for _, labels in first.scores.values()])
    reference = first.confusions["reference"]
    reliability({MODEL: reliability_bins(scores, labels)}, path := folder / "reliability.svg")
    yield path
    curves, thresholds = {MODEL: coverage_curve(scores, labels)}, {MODEL: MAX_EXPECTED_ERROR}
    coverage(curves, thresholds, path := folder / "coverage.svg")
    yield path
    title = f"DS2 at reference R peaks, {MODEL}"
    total = np.sum(list(reference.values()), axis=0)
    confusion(total, AAMI, title, path := folder / "confusion.svg")
    yield path
    per_patient(_by_patient(reference), path := folder / "per-patient.svg")
    yield path
    source = open_source(data_root(None, os.environ))
    strips(examples(first.scores, source.read), path := folder / "strips.png")
    yield path
    before, after = (first.confusions.get(name) for name in PERSONAL)
    if before and after:
        gain_and_harm(_changes(before, after), path := folder / "personalised.svg")
        yield path


PERSONAL = ("minutes_5_to_30_0_minutes", "minutes_5_to_30_5_minutes")


def _by_patient(records: ByRecord) -> dict[str, PatientF1]:
    rows: dict[str, PatientF1] = {}
    for name, counts in records.items():
        figures = class_figures(of_reference(counts, SCORED))
        rows[name] = {
            "S": figures[S].f1,
            "V": figures[V].f1,
            "num_s": figures[S].num_beats,
            "num_v": figures[V].num_beats,
        }
    return rows


def _changes(before: ByRecord, after: ByRecord) -> list[Change]:
    return [
        {"record": name, "before": _macro(before[name]), "after": _macro(after[name])}
        for name in before
    ]


def _macro(counts: Confusion) -> float:
    return macro_f1(of_reference(counts, SCORED), SCORED) or 0.0

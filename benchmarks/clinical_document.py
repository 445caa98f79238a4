"""The results file of the clinical benchmark, from its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks import clinical_figures as figures
from benchmarks.clinical_arms import ARMS, NUM_ROUNDS, roster_of
from benchmarks.clinical_run import Ran
from common.ecg.demographics import read_demographics
from common.ecg.labels import AAMI
from common.ecg.sources import EcgSource, data_root
from common.metrics import ec57
from common.metrics.calibration import brier, coverage_curve, top_label_ece
from common.metrics.figures import class_figures
from common.metrics.subgroups import subgroups
from common.notice import NOTICE, SYNTHETIC_NOTICE
from common.tasks.calibration import MAX_EXPECTED_ERROR
from common.tasks.registry import get_task

PROTOCOL = (
    "docs/clinical/protocol.md: trained on DS1, scored on DS2 at reference R peaks unless said, "
    "lead MLII, expert labels unless said, de Chazal's map unless said, figures among beats whose "
    "reference is N, S or V unless said, EC57 counting rules; sd over seeds, ci95 over patients."
)
COMPARED = {
    "federated_minus_centralised": ("federated", "centralised"),
    "federated_minus_centralised_no_simulator": (
        "federated_no_simulator",
        "centralised_no_simulator",
    ),
    "federated_minus_four_fifths": ("federated", "federated_four_fifths"),
}
CONDITIONS = {
    "int8": "federated_int8",
    "noisy": "federated_noise_12db",
    "noisy_answered": "federated_noise_12db_answered",
    "bxb_map": "federated_bxb_map",
}
Document = dict[str, Any]


def summarise(runs: Sequence[Ran], source: EcgSource) -> Document:
    """The figures of all runs as JSON values, without machine, versions, commit and command."""
    synthetic = source.kind == "synthetic"
    by_arm = {arm.name: [ran for ran in runs if ran.arm.name == arm.name] for arm in ARMS}
    document: Document = {
        "data_source": source.kind,
        "notice": SYNTHETIC_NOTICE if synthetic else NOTICE,
        "protocol": SYNTHETIC_NOTICE if synthetic else PROTOCOL,
        "params": sum(value.size for value in get_task("beats").initial(0).values()),
        "rounds": NUM_ROUNDS,
        "hospitals": {h: len(p) for h, p in roster_of(source.train_names).items()},
    }
    for name, ran in by_arm.items():
        if ran:
            document |= _arm(name, ran)
    for name, (ours, peer) in COMPARED.items():
        if ours in document and peer in document:
            document[name] = figures.differences(document[ours], document[peer])
    if federated := by_arm["federated"]:
        asked = [ran for ran in federated if ran.arm.under_all_conditions(ran.seed)]
        document |= _conditions(asked, document["federated"])
        if not synthetic:
            document["subgroups"] = _subgroups(federated)
    document["runs"] = [_described(ran) for ran in runs]
    return document


def _arm(name: str, runs: Sequence[Ran]) -> Document:
    if "reference" in runs[0].confusions:
        return {name: figures.spreads([ran.confusions["reference"] for ran in runs])}
    return {
        f"{name}_{hospital}": figures.spreads([ran.confusions[hospital] for ran in runs])
        for hospital in runs[0].confusions
    }


def _conditions(runs: Sequence[Ran], reference: Mapping[str, Any]) -> Document:
    made: Document = {}
    for condition, name in CONDITIONS.items():
        if condition in runs[0].confusions:
            made[name] = figures.spreads([ran.confusions[condition] for ran in runs])
            made[f"{name}_minus_federated"] = figures.differences(made[name], reference)
    for condition in runs[0].confusions:
        if condition.startswith("minutes_5_to_30"):
            made[condition.replace("minutes_5_to_30", "personalised", 1)] = figures.spreads(
                [ran.confusions[condition] for ran in runs]
            )
    made["end_to_end"] = _end_to_end(runs)
    made["records"] = _records(runs)
    made["calibration"] = _calibration(runs[0])
    made["facts"] = runs[0].facts
    return made


def _end_to_end(runs: Sequence[Ran]) -> Document:
    """Detected against reference peaks, both from 5:00 on, (6, 6) counts."""
    stacks = {
        peaks: np.array([list(ran.confusions[condition].values()) for ran in runs])
        for peaks, condition in (("detected", "end_to_end"), ("reference", "reference_from_5_min"))
    }
    rows: Document = {
        peaks: {name: figures.spread(stack, figure) for name, figure in END_TO_END.items()}
        for peaks, stack in stacks.items()
    }
    rows["detected_minus_reference"] = figures.differences(rows["detected"], rows["reference"])
    return rows


def _f1(target: int) -> figures.Figure:
    return lambda confusion: class_figures(confusion)[target].f1


END_TO_END: Mapping[str, figures.Figure] = {
    "qrs_sensitivity": lambda c: ec57.qrs(c).sensitivity,
    "qrs_positive_predictivity": lambda c: ec57.qrs(c).positive_predictivity,
    "s_f1": _f1(AAMI.index("S")),
    "v_f1": _f1(AAMI.index("V")),
    "veb_sensitivity": lambda c: ec57.veb(c).sensitivity,
    "veb_positive_predictivity": lambda c: ec57.veb(c).positive_predictivity,
    "sveb_sensitivity": lambda c: ec57.sveb(c).sensitivity,
    "sveb_positive_predictivity": lambda c: ec57.sveb(c).positive_predictivity,
}


def _records(runs: Sequence[Ran]) -> Document:
    """Per record: counts of the first seed and the figures of S and V over all seeds."""
    records = runs[0].confusions["reference"]
    return {
        name: {
            "confusion_seed_0": counts.tolist(),
            "s_f1": figures.seeds([_f1(figures.S)(r.confusions["reference"][name]) for r in runs]),
            "v_f1": figures.seeds([_f1(figures.V)(r.confusions["reference"][name]) for r in runs]),
        }
        for name, counts in records.items()
    }


def _subgroups(runs: Sequence[Ran]) -> Document:
    """Figures of parts of the patients: without 202 or 232, by sex and by age."""
    names = tuple(runs[0].confusions["reference"])
    root = data_root(None, os.environ)
    people = {name: read_demographics(root, name) for name in names}
    return {
        group: {"num_records": len(members)}
        | figures.spreads(
            [{name: ran.confusions["reference"][name] for name in members} for ran in runs]
        )
        for group, members in subgroups(names, people).items()
    }


def _calibration(ran: Ran) -> Document:
    scores = np.concatenate([s for s, _ in ran.scores.values()])
    labels = np.concatenate([labels for _, labels in ran.scores.values()])
    curve = coverage_curve(scores, labels)
    at = int(np.searchsorted(curve.threshold, MAX_EXPECTED_ERROR, side="right")) - 1
    return {
        "seed": ran.seed,
        "ece_15_bins": top_label_ece(scores, labels),
        "brier": brier(scores, labels),
        "error_of_all": float(curve.error[-1]),
        "max_expected_error": MAX_EXPECTED_ERROR,
        "coverage": float(curve.coverage[at]),
        "error_of_answered": float(curve.error[at]),
    }


def _described(ran: Ran) -> Document:
    return {"arm": asdict(ran.arm), "seed": ran.seed, "facts": ran.facts}

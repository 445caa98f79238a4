from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import clinical_report, results_file


@pytest.fixture
def document() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((results_file.RESULTS / "clinical.json").read_text())
    return loaded


def test_the_report_in_docs_is_that_of_the_results_file(document: dict[str, Any]) -> None:
    written = clinical_report.PATH.read_text(encoding="utf-8")
    assert written == clinical_report.report(document), "run `python -m benchmarks.clinical_report`"


def test_a_missed_floor_is_said(document: dict[str, Any]) -> None:
    document["federated"]["v_f1"]["mean"] = 0.9399
    assert "| 0.94 | no | 0.96 |" in clinical_report.report(document)
    document["federated"]["v_f1"]["mean"] = 0.9401
    assert "| 0.94 | yes | 0.96 |" in clinical_report.report(document)


def test_a_figure_that_nobody_could_compute_is_said_to_lack(document: dict[str, Any]) -> None:
    for key in ("mean", "sd"):
        document["federated"]["s_f1_without_232"][key] = None
    assert "| S: F1 without record 232 | n/a " in clinical_report.report(document)


def test_arms_that_were_not_run_are_left_out(document: dict[str, Any]) -> None:
    del document["federated_own_labels"]
    assert "| own labels |" not in clinical_report.report(document)

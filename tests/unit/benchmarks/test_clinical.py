from __future__ import annotations

from typing import Any

import pytest
import typer

from benchmarks import clinical, clinical_report, results_file
from benchmarks.clinical_arms import ARMS


def test_all_arms_run_unless_some_are_named() -> None:
    assert clinical._arms(None, quick=False) == list(ARMS)
    named = clinical._arms(["local_only", "federated"], quick=False)
    assert [arm.name for arm in named] == ["local_only", "federated"]


def test_an_unknown_arm_is_named_beside_those_there_are() -> None:
    with pytest.raises(typer.BadParameter, match=r"no arm fedrated; there are federated, .*local"):
        clinical._arms(["federated", "fedrated"], quick=False)


def test_quick_shortens_every_arm_and_its_learning_rate_falls_as_fast() -> None:
    for arm in clinical._arms(None, quick=True):
        assert arm.num_rounds == clinical.QUICK_ROUNDS
        assert arm.rule(seed=0).lr_rounds == clinical.QUICK_ROUNDS


def test_synthetic_figures_never_take_the_name_of_clinical_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []

    def write(name: str, document: object) -> Any:
        written.append(name)
        return results_file.RESULTS / f"{name}.json"

    monkeypatch.setattr(results_file, "write", write)
    monkeypatch.setattr(clinical_report, "write", lambda _: results_file.RESULTS / "report.md")
    clinical._keep({"data_source": "synthetic"}, [], whole=True)
    clinical._keep({"data_source": "mitdb"}, [], whole=True)
    clinical._keep({"data_source": "mitdb"}, [], whole=False)
    assert written == ["clinical-synthetic", "clinical"]

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import clinical, results_file
from common.ecg.sources import synthetic_source
from common.errors import PulseRingError


def make_summary(**values: Any) -> dict[str, Any]:
    return {"data_source": "synthetic", "releases": {"1": "r-1", "2": "r-2"}} | values


def test_a_demo_on_other_ecg_than_the_peer_is_not_compared() -> None:
    with pytest.raises(PulseRingError, match="the demo ran on mitdb"):
        clinical._check_comparable(make_summary(data_source="mitdb"), synthetic_source())


def test_a_release_of_an_earlier_day_is_not_compared() -> None:
    with pytest.raises(PulseRingError, match="refused day 2"):
        clinical._check_comparable(
            make_summary(releases={"1": "r-1", "2": None}), synthetic_source()
        )


def test_synthetic_figures_never_take_the_name_of_clinical_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []

    def write(name: str, document: object) -> Any:
        written.append(name)
        return results_file.RESULTS / f"{name}.json"

    monkeypatch.setattr(results_file, "write", write)
    clinical._keep({"data_source": "synthetic"}, quick=False)
    clinical._keep({"data_source": "mitdb"}, quick=False)
    clinical._keep({"data_source": "mitdb"}, quick=True)
    assert written == ["clinical-synthetic", "clinical"]

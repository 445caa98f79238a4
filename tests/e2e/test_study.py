"""The in-process engine of studies commits the digests of a region of real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from common.digest import tensors_digest
from common.tasks.task import Examples
from edge import reports
from regional.config import LearningConfig, ScreeningConfig
from simulators.attackers import Attack
from simulators.local_region import Roster
from simulators.study import Study, run_study, sealed
from simulators.workers import ExampleSource
from tests.builders.regions import LEARNING, ROSTER, make_region, running

BEATS_ROSTER: Roster = {
    "north": [("wb-01", "syn01"), ("wb-02", "syn02")],
    "harbour": [("wb-03", "syn03")],
}


def training_of(source: ExampleSource, roster: Roster) -> dict[str, Examples]:
    wearers = [wearer for pairs in roster.values() for _, wearer in pairs]
    return {wearer: source.split(wearer)[0] for wearer in wearers}


@pytest.mark.parametrize(
    "learning",
    [
        {},
        {"algorithm": "fedprox", "mu": 0.1, "bits": 8},
        {"algorithm": "fedadam", "weighting": "examples"},
        {"bits": 8, "parts": 4, "seed": 3},
    ],
    ids=["fedavg", "fedprox-8-bit", "fedadam-by-examples", "8-bit-parts"],
)
def test_study_commits_the_digests_of_a_region(tmp_path: Path, learning: dict[str, Any]) -> None:
    region = make_region(tmp_path, learning=learning, seal={"mean_of": 2})
    with running(region):
        region.wait(lambda: region.status().get("phase") == "finished", 120, "the end of the day")
        rounds = region.rounds()
    study = Study(ROSTER, LearningConfig(**(LEARNING | learning)), num_rounds=3, task="dummy")
    wearers = training_of(ExampleSource("dummy", tmp_path), ROSTER)
    committed = list(run_study(study, wearers))
    trained = [ended["model_digest"] for ended in rounds if ended["purpose"] == "train"]
    assert [c.model_digest for c in committed] == trained
    day_end = next(ended for ended in rounds if ended["purpose"] == "evaluate")
    mean = sealed([c.model for c in committed], mean_of=2)
    assert tensors_digest(mean) in day_end["evaluation"]


SIX: Roster = {
    "north": [(f"wb-{i}", str(i)) for i in range(6)],
    "harbour": [(f"wb-{i}", str(i)) for i in range(6, 12)],
}


def test_a_region_under_attack_commits_the_digests_of_its_study(tmp_path: Path) -> None:
    """Screened, trimmed, and two wristbands hostile: set aside by their edge nodes."""
    learning = {"hospital_rule": "trimmed_mean"}
    screening = {"enabled": True, "max_distance": 6.0, "min_cosine": -0.9, "way_commits": 1}
    attackers = {"wb-0": "flipped_loud", "wb-7": "noise"}
    region = make_region(
        tmp_path,
        SIX,
        learning=learning,
        coordinator={"screening": screening},
        attackers=attackers,
    )
    with running(region):
        region.wait(lambda: region.status().get("phase") == "finished", 120, "the end of the day")
        trained = [r["model_digest"] for r in region.rounds() if r["purpose"] == "train"]
        ledgers = [reports.updates(region.state_dir(f"edge-{name}")) for name in SIX]
    study = Study(
        SIX,
        LearningConfig(**(LEARNING | learning)),
        num_rounds=3,
        task="dummy",
        screening=ScreeningConfig.model_validate(screening),
        attackers={name: Attack(attack) for name, attack in attackers.items()},
    )
    committed = list(run_study(study, training_of(ExampleSource("dummy", tmp_path), SIX)))
    assert [c.model_digest for c in committed] == trained
    quarantined = [u["device"] for rows in ledgers for u in rows if u["fate"] == "quarantined"]
    assert sorted(quarantined) == sorted(d for c in committed for d in c.quarantined)
    assert {"wb-0", "wb-7"} <= set(quarantined)


@pytest.mark.slow
@pytest.mark.parametrize("codec", [{}, {"bits": 8, "parts": 4}], ids=["16-bit", "8-bit-parts"])
def test_study_commits_the_digests_of_a_region_that_learns_beats(
    tmp_path: Path, codec: dict[str, Any]
) -> None:
    """Of sparse rounds only these split tensors: the dummy task's are too small."""
    learning = {"num_steps": 3, "batch_size": 16, **codec}
    region = make_region(tmp_path, BEATS_ROSTER, task="beats", learning=learning, data=tmp_path)
    with running(region):
        region.wait(lambda: region.status().get("phase") == "finished", 240, "the end of the day")
        trained = [r["model_digest"] for r in region.rounds() if r["purpose"] == "train"]
    study = Study(BEATS_ROSTER, LearningConfig(**(LEARNING | learning)), num_rounds=3)
    wearers = training_of(ExampleSource("beats", tmp_path), BEATS_ROSTER)
    assert [c.model_digest for c in run_study(study, wearers)] == trained

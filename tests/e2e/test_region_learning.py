"""A region of real processes learns what one process would have learnt from the same updates."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from common.digest import tensors_digest
from simulators.local_region import LocalRegion, edge_name
from tests.builders.regions import ROSTER, Witness, federated_average, make_region, running

DEVICES = {device for wristbands in ROSTER.values() for device, _ in wristbands}


def run_to_the_end(region: LocalRegion) -> list[dict[str, Any]]:
    region.wait(lambda: region.status().get("phase") == "finished", 120, "the end of the day")
    return region.rounds()


def specs_of(region: LocalRegion) -> dict[int, dict[str, Any]]:
    path = region.state_dir(edge_name("north")) / "ledger.sqlite"
    with sqlite3.connect(path) as ledger:
        rows = ledger.execute("SELECT round_id, spec FROM rounds").fetchall()
    return {round_id: json.loads(spec) for round_id, spec in rows}


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_region_commits_the_digests_of_a_plain_single_process_fedavg(
    tmp_path: Path, weighting: str
) -> None:
    region = make_region(tmp_path, learning={"weighting": weighting, "max_weight": 90})
    with running(region), Witness(region) as witness:
        rounds = run_to_the_end(region)
        specs = specs_of(region)
    trained = [r for r in rounds if r["purpose"] == "train"]
    assert [r["end"] for r in trained] == ["committed"] * 3
    for ended in trained:
        heard = witness.updates[ended["round_id"]]
        assert set(heard) == DEVICES
        expected = federated_average(
            witness.models[ended["base_digest"]],
            list(heard.values()),
            specs[ended["round_id"]]["fixed_point"]["exponents"],
            weighting,
            90,
        )
        assert tensors_digest(expected) == ended["model_digest"]


def test_same_seed_gives_the_same_model_with_one_worker_or_two(tmp_path: Path) -> None:
    digests = []
    for workers in (1, 2):
        region = make_region(tmp_path / str(workers), workers=workers, seed=5)
        with running(region):
            digests.append([r["model_digest"] for r in run_to_the_end(region)])
    assert digests[0] == digests[1]
    assert len(set(digests[0])) == 3


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    digests = []
    for seed in (1, 2):
        region = make_region(tmp_path / str(seed), seed=seed, rounds={"rounds_per_day": 1})
        with running(region):
            digests.append(run_to_the_end(region)[0]["model_digest"])
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "learning",
    [
        {"algorithm": "fedprox", "mu": 0.1},
        {"algorithm": "fedadam", "weighting": "examples", "bits": 8},
    ],
    ids=["fedprox", "fedadam"],
)
def test_other_algorithms_commit_every_round(tmp_path: Path, learning: dict[str, Any]) -> None:
    region = make_region(tmp_path, learning=learning)
    with running(region):
        rounds = run_to_the_end(region)
    assert [r["end"] for r in rounds] == ["committed"] * 4
    assert len({r["model_digest"] for r in rounds}) == 3

"""A hospital behind a slow link, in network namespaces: real processes, real rings, real links."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.groups_region import Order, hospital, trained
from benchmarks.netns import lan

ROOT = Path(__file__).resolve().parents[2]
NUM_SITES, SLOW, NUM_ROUNDS = 4, 2, 10
QUICK_KBIT, SLOW_KBIT, BURST_BYTES = 4000, 200, 16 << 10

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("region")


@pytest.fixture(scope="module")
def report(folder: Path) -> list[dict[str, Any]]:
    """Ended rounds of a day, as the coordinator reports them."""
    with lan(NUM_SITES) as made:
        for number in range(NUM_SITES):
            made.shape_site(number, SLOW_KBIT if number == SLOW else QUICK_KBIT, BURST_BYTES)
        order = Order(
            folder=str(folder),
            hub=made.hub.address,
            sites=tuple(site.namespace for site in made.sites),
            num_rounds=NUM_ROUNDS,
            with_groups=True,
            slow_factor=3.0,
            min_gain_s=1.0,
            timeout_s=200.0,
        )
        done = subprocess.run(
            made.hub.command([sys.executable, "-m", "benchmarks.groups_region"]),
            cwd=ROOT,
            input=order.encoded(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    rounds: list[dict[str, Any]] = json.loads(done.stdout)
    return rounds


def test_hospital_behind_a_slow_link_is_found_and_holds_back_nobody(
    report: list[dict[str, Any]],
) -> None:
    rounds = trained(report)
    without = [one for one in rounds if hospital(SLOW) not in one["aggregates"]]
    assert {one["round_id"] for one in rounds[:2]}.isdisjoint(one["round_id"] for one in without)
    assert len(without) >= NUM_ROUNDS // 2
    assert all(len(one["aggregates"]) == NUM_SITES - 1 for one in without)


def test_its_sums_count_later(report: list[dict[str, Any]]) -> None:
    own = [one for one in report if one["group"]]
    assert own
    assert all(one["group"] == [hospital(SLOW)] and one["end"] == "committed" for one in own)
    counting = {one["round_id"] for one in report if not one["group"]}
    for one in own:
        assert any(f"counted in round {round_id}, " in one["reason"] for round_id in counting)


def test_every_model_is_what_the_sums_say(folder: Path, report: list[dict[str, Any]]) -> None:
    config = str(folder / "config" / "region.toml")
    done = subprocess.run(
        [sys.executable, "-m", "regional", "replay", "--config", config, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(report) >= NUM_ROUNDS


def test_every_update_of_the_slow_hospital_is_counted(
    folder: Path, report: list[dict[str, Any]]
) -> None:
    config = str(folder / "config" / f"edge-{hospital(SLOW)}.toml")
    done = subprocess.run(
        [sys.executable, "-m", "edge", "ledger", "--config", config, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    fates = [update["fate"] for update in json.loads(done.stdout)]
    took_part = [one for one in report if hospital(SLOW) in one["aggregates"]]
    assert set(fates) <= {
        "counted",
        "waiting",
    }  # one may wait for the round that was open at the end
    assert len(took_part) - 1 <= fates.count("counted") <= len(took_part)

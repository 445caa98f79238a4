"""An operator takes a hospital out of a running region and lets it in again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from simulators.local_region import LocalRegion, edge_name, fetch_json
from tests.builders.regions import ROSTER, make_region, running

ROOT = Path(__file__).resolve().parents[2]


def hospitals(region: LocalRegion, *arguments: str) -> str:
    config = str(region.config_path("region"))
    done = subprocess.run(
        [sys.executable, "-m", "regional", "hospitals", *arguments, "--config", config],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def wait_for_a_round_of(region: LocalRegion, members: set[str]) -> None:
    """In a round that is still to end."""
    before = len(region.rounds())
    region.wait(
        lambda: any(set(ended["aggregates"]) == members for ended in region.rounds()[before:]),
        60,
        f"a round of {sorted(members)}",
    )


def test_a_hospital_leaves_a_running_region_and_comes_back(tmp_path: Path) -> None:
    region = make_region(tmp_path, rounds={"rounds_per_day": 1000, "round_pause_s": 0.2})
    with running(region):
        wait_for_a_round_of(region, set(ROSTER))
        coordinator = region.supervisor["region"].pid
        assert "no more" in hospitals(region, "remove", "valley", "--reason", "moved")
        wait_for_a_round_of(region, {"north", "harbour"})
        told = fetch_json(f"{region.health_urls['valley']}/status")
        assert "valley does not belong to region county" in told["error"]
        assert "moved" in hospitals(region, "list")
        key = region.state_dir(edge_name("valley")) / "signing.pub"
        hospitals(region, "add", "valley", "--key", str(key))
        wait_for_a_round_of(region, set(ROSTER))
        assert fetch_json(f"{region.health_urls['valley']}/status")["error"] == ""
        assert region.supervisor["region"].pid == coordinator

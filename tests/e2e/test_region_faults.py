"""Processes of a running region are killed; every stored update counts exactly once."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from simulators.local_region import LocalRegion, edge_name
from tests.builders.regions import ROSTER, make_region, running

STEADY = {hospital: [w for w in bands if w[0] != "wb-07"] for hospital, bands in ROSTER.items()}
LATE = {"valley": [("wb-07", "7")]}
NUM_DEVICES = 7
NUM_ROUNDS = 4
OUTAGE_S = 20.0


@pytest.fixture
def region(tmp_path: Path) -> Iterator[LocalRegion]:
    """A region whose wristband wb-07 is a fleet of its own, so that it can hold a round open."""
    region = make_region(tmp_path, rounds={"rounds_per_day": NUM_ROUNDS, "rejoin_s": 60.0})
    region.configure()
    region.write_fleet("fleet", STEADY)
    region.write_fleet("late", LATE)
    try:
        region.start_broker()
        for name in (*region.processes, "late"):
            region.start_process(name)
        yield region
    finally:
        region.stop()


def num_committed(region: LocalRegion) -> int:
    return sum(r["end"] == "committed" and r["purpose"] == "train" for r in region.rounds())


def statuses(region: LocalRegion) -> dict[str, dict[str, Any]]:
    hospitals = region.status().get("hospitals", {})
    return {name: status for name, status in hospitals.items() if status}


def hold_a_round_open(region: LocalRegion) -> int:
    """Commit a round, then stop at one in which all but wb-07 have their receipts."""
    region.wait(lambda: num_committed(region) >= 1, 90, "the first round")
    region.supervisor.kill("late", hold=True)

    def all_but_one_stored() -> int:
        now = statuses(region)
        rounds = {status["round_id"] for status in now.values()}
        stored = sum(status["num_stored"] for status in now.values())
        waiting = any(status["phase"] == "collecting" for status in now.values())
        return rounds.pop() if len(rounds) == 1 and waiting and stored == NUM_DEVICES - 1 else 0

    return int(region.wait(all_but_one_stored, 60, "a round that waits for wb-07"))


def finish(region: LocalRegion) -> list[dict[str, Any]]:
    region.wait(lambda: region.status().get("phase") == "finished", 180, "the end of the day")
    return region.rounds()


def fates(region: LocalRegion) -> Counter[str]:
    """Fates by name over all hospitals; a stored update without one is ``none``."""
    found: Counter[str] = Counter()
    for hospital in ROSTER:
        path = region.state_dir(edge_name(hospital)) / "ledger.sqlite"
        with closing(sqlite3.connect(path)) as ledger:
            found.update(fate for (fate,) in ledger.execute("SELECT fate FROM fates"))
            (without,) = ledger.execute("SELECT COUNT(*) FROM waiting").fetchone()
            found.update({"none": without})
    return +found


def all_counted(region: LocalRegion, rounds: list[dict[str, Any]]) -> None:
    trained = [r for r in rounds if r["purpose"] == "train" and r["end"] == "committed"]
    assert len(trained) == NUM_ROUNDS
    region.wait(lambda: "none" not in fates(region), 15, "a fate for every stored update")
    assert fates(region) == {"counted": sum(r["num_updates"] for r in trained)}
    assert all(r["num_stored"] == NUM_DEVICES for r in trained)


def test_killed_rank_is_respawned_and_the_ring_forms_again_with_it(region: LocalRegion) -> None:
    round_id = hold_a_round_open(region)
    before = statuses(region)
    ranks = {name: status["rank_pid"] for name, status in before.items()}
    edges = {name: region.supervisor[edge_name(name)].pid for name in ROSTER}
    assert len(set(ranks.values())) == 3
    assert {name: parent_of(parent_of(pid)) for name, pid in ranks.items()} == edges
    os.kill(ranks["harbour"], signal.SIGKILL)
    region.wait(
        lambda: statuses(region).get("harbour", {}).get("rank_pid") not in (0, ranks["harbour"]),
        30,
        "another rank of harbour",
    )
    region.supervisor.release("late")
    rounds = finish(region)
    held = next(r for r in rounds if r["round_id"] == round_id)
    assert held["end"] == "committed"
    assert held["generation"] > before["harbour"]["generation"]
    assert set(held["aggregates"]) == set(ROSTER)
    assert {name: region.supervisor[edge_name(name)].pid for name in ROSTER} == edges
    all_counted(region, rounds)


def test_edge_node_killed_after_receipts_counts_every_stored_update_once(
    region: LocalRegion,
) -> None:
    round_id = hold_a_round_open(region)
    region.supervisor.kill(edge_name("north"))
    region.wait(
        lambda: statuses(region).get("north", {}).get("num_stored") == len(ROSTER["north"]),
        30,
        "north with what it had stored",
    )
    region.supervisor.release("late")
    rounds = finish(region)
    held = next(r for r in rounds if r["round_id"] == round_id)
    assert (held["end"], held["complete"]) == ("committed", True)
    assert set(held["aggregates"]) == set(ROSTER)
    all_counted(region, rounds)


@pytest.mark.slow
@pytest.mark.parametrize("process", ["region", "broker"])
def test_run_goes_on_after_an_outage_of_20_seconds(region: LocalRegion, process: str) -> None:
    hold_a_round_open(region)
    region.supervisor.kill(process, hold=True)
    time.sleep(OUTAGE_S)
    region.supervisor.release(process)
    region.supervisor.release("late")
    all_counted(region, finish(region))


@pytest.mark.slow
def test_hospital_that_stays_away_is_left_out_and_its_updates_have_a_fate(tmp_path: Path) -> None:
    region = make_region(tmp_path, rounds={"rounds_per_day": 3, "rejoin_s": 5.0, "deadline_s": 30})
    with running(region):
        region.wait(lambda: num_committed(region) >= 1, 90, "the first round")
        region.supervisor.kill(edge_name("valley"), hold=True)
        rounds = finish(region)
        region.supervisor.release(edge_name("valley"))
        region.wait(lambda: "none" not in fates(region), 30, "a fate for every stored update")
        assert set(fates(region)) <= {"counted", "left_out"}
    trained = [r for r in rounds if r["purpose"] == "train" and r["end"] == "committed"]
    assert len(trained) == 3
    assert set(trained[-1]["aggregates"]) == {"north", "harbour"}


def parent_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])

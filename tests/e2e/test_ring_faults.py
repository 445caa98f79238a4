"""The most telling cells of the fault table, with bounds; `make bench-faults` measures all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faultbed.bed import bench
from benchmarks.faultbed.cells import AWAY_S, Cell
from benchmarks.faultbed.trial import Bench, Trial

pytestmark = pytest.mark.slow

RING_TIMEOUT_S = 10.0
AFTER_TIMEOUT_S = 5.0
RESTART_S = 15.0  # a process that imports Horovod starts in 2 s on an idle machine


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One region for all cells: each starts from a round of all hospitals."""
    root: Path = tmp_path_factory.mktemp("bed")
    with bench({"ring_timeout_s": RING_TIMEOUT_S}, root=root) as here:
        yield here


def tried(region: Bench, cell: Cell) -> Trial:
    trial = region.run(cell)
    assert (trial.num_lost, trial.num_doubled) == (0, 0)
    assert trial.end == "committed"
    assert trial.whole_s is not None
    return trial


@pytest.mark.parametrize("moment", ["before-init", "mid-allreduce", "before-prepare"])
def test_killed_rank_costs_one_timeout_at_most(region: Bench, moment: str) -> None:
    trial = tried(region, Cell("kill", "rank", moment))
    assert trial.num_generations > 1
    assert trial.num_left_out == 0
    assert trial.commit_s is not None
    assert trial.commit_s <= trial.timeout_s + AFTER_TIMEOUT_S


@pytest.mark.parametrize("fault", ["stop", "hang"])
def test_rank_that_says_nothing_is_given_up_and_started_again(region: Bench, fault: str) -> None:
    trial = tried(region, Cell(fault, "rank", "mid-allreduce"))
    assert trial.commit_s is not None
    assert trial.commit_s <= max(trial.timeout_s, AWAY_S) + AFTER_TIMEOUT_S
    assert trial.num_left_out == 0


def test_coordinator_killed_between_the_results_and_the_commit_commits_them(region: Bench) -> None:
    trial = tried(region, Cell("kill", "coordinator", "before-commit"))
    assert trial.num_generations == 1
    assert trial.commit_s is not None
    assert trial.commit_s <= RESTART_S


def test_commit_that_was_not_told_is_told_after_the_restart(region: Bench) -> None:
    trial = tried(region, Cell("kill", "coordinator", "after-commit"))
    assert trial.commit_s is not None
    assert trial.commit_s <= RESTART_S


def test_edge_node_killed_after_its_result_learns_what_became_of_its_updates(
    region: Bench,
) -> None:
    trial = tried(region, Cell("kill", "edge node", "after-prepare"))
    assert (trial.num_generations, trial.num_left_out) == (1, 0)
    assert trial.whole_s is not None
    assert trial.whole_s <= 2 * RESTART_S


def test_rank_killed_in_the_midst_of_64_mib_costs_one_timeout_at_most(region: Bench) -> None:
    trial = tried(region, Cell("kill", "rank", "mid-transfer"))
    assert trial.num_generations > 1
    assert trial.commit_s is not None
    assert trial.commit_s <= trial.timeout_s + AFTER_TIMEOUT_S

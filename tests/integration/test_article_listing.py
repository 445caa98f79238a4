"""Step-by-step data parallelism on two real ranks, corrected and as it is usually listed."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from common.messages import RingPlan
from edge.rank_protocol import Join
from edge.world import environment
from regional.rendezvous import Rendezvous

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "per_step.py"
BROADCAST = "hvd.broadcast_parameters("
HOSPITALS = ("north", "harbour")
WAIT_S = 30.0
HANGS_S = 5.0


@dataclass
class Rank:
    """One rank, as an operating system's process, with what it wrote."""

    process: subprocess.Popen[bytes]
    folder: Path

    def said(self, what: str) -> str:
        return (self.folder / what).read_text()


StartRanks = Callable[..., list[Rank]]


@pytest.fixture
def start_ranks(tmp_path: Path) -> Iterator[StartRanks]:
    """Start a script as one rank for each hospital; none outlives the test."""
    rendezvous = Rendezvous("127.0.0.1")
    ranks: list[Rank] = []

    def start(script: Path, **more: str) -> list[Rank]:
        plan = RingPlan(
            round_id=1,
            generation=1,
            members=HOSPITALS,
            rendezvous_host="127.0.0.1",
            rendezvous_port=rendezvous.start(HOSPITALS),
            interface="lo",
            timeout_s=20,
            total_weight=1,
        )
        ranks.extend(
            start_rank(script, tmp_path / hospital, rank_environment(plan, hospital) | more)
            for hospital in HOSPITALS
        )
        return ranks

    yield start
    for rank in ranks:
        rank.process.kill()
        rank.process.wait(timeout=10)
    rendezvous.stop()


def rank_environment(plan: RingPlan, hospital: str) -> dict[str, str]:
    """What the product's own ranks get; they need no more of a `Join` than this."""
    needed: dict[str, Any] = {
        "plan": plan,
        "hospital": hospital,
        "rank": plan.members.index(hospital),
        "interface": plan.interface,
        "cycle_ms": 1.0,
    }
    join = Join.model_construct(**needed)
    return environment(join) | {"OMP_NUM_THREADS": "1"}


def start_rank(script: Path, folder: Path, more: dict[str, str]) -> Rank:
    folder.mkdir()
    with (folder / "out").open("wb") as out, (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(script)], stdout=out, stderr=log, env=os.environ | more
        )
    return Rank(process, folder)


def broadcast_by_rank_0_only(folder: Path) -> Path:
    """The example with the one line as it is usually listed."""
    text = EXAMPLE.read_text()
    assert text.count(BROADCAST) == 1
    script = folder / "usual.py"
    script.write_text(text.replace(BROADCAST, f"if hvd.rank() == 0: {BROADCAST}"))
    return script


def one_process() -> dict[str, torch.Tensor]:
    """Weights after the same steps by plain torch, on one batch of both hospitals' examples."""
    example = runpy.run_path(str(EXAMPLE))
    torch.manual_seed(0)  # rank 0's start is what the broadcast gives to all
    model: torch.nn.Module = example["new_model"]()
    for step in range(example["NUM_STEPS"]):
        both = [example["batch"](hospital, step) for hospital in range(len(HOSPITALS))]
        inputs, classes = (torch.cat(parts) for parts in zip(*both, strict=True))
        model.zero_grad()
        cross_entropy(model(inputs), classes).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        with torch.no_grad():
            for weights in model.parameters():
                assert weights.grad is not None
                weights.sub_(example["learning_rate"](step, len(HOSPITALS)) * weights.grad)
    return model.state_dict()


def test_two_ranks_end_as_one_process_with_the_double_batch(start_ranks: StartRanks) -> None:
    ranks = start_ranks(EXAMPLE)
    for rank in ranks:
        assert rank.process.wait(timeout=WAIT_S) == 0, rank.said("log")
    results: list[dict[str, Any]] = [json.loads(rank.said("out")) for rank in ranks]
    assert [(result["rank"], result["size"]) for result in results] == [(0, 2), (1, 2)]
    assert results[0]["weights"] == results[1]["weights"]
    for name, expected in one_process().items():
        torch.testing.assert_close(torch.tensor(results[0]["weights"][name]), expected)
    for result in results:
        assert sum(result["losses"][-5:]) < 0.7 * sum(result["losses"][:5])


def test_broadcast_by_rank_0_only_leaves_each_rank_waiting_for_the_other(
    start_ranks: StartRanks, tmp_path: Path
) -> None:
    # Horovod 0.28.1 does not end it either: with Gloo its stall check knows of no rank that could
    # be missing (gloo_controller.cc reserves `global_ranks_` and leaves its size at 0).
    north, harbour = start_ranks(
        broadcast_by_rank_0_only(tmp_path),
        HOROVOD_LOG_LEVEL="trace",
        HOROVOD_STALL_CHECK_TIME_SECONDS="1",
        HOROVOD_STALL_SHUTDOWN_TIME_SECONDS="2",
    )
    wait_until_said(north, "Enqueued broadcast.0.weight")
    wait_until_said(harbour, "Enqueued allreduce.0.weight")
    with pytest.raises(subprocess.TimeoutExpired):
        north.process.wait(timeout=HANGS_S)
    assert [rank.process.poll() for rank in (north, harbour)] == [None, None]


def wait_until_said(rank: Rank, what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while what not in rank.said("out"):
        assert rank.process.poll() is None, rank.said("log")
        assert time.monotonic() < deadline, rank.said("out")
        time.sleep(0.05)

"""The rank's parent against ranks that misbehave; a rank here is a short shell script."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue

import pytest

from edge.rank_process import FIRST_BACKOFF_S, Died, RankProcess, Said

WAIT_S = 10.0


def make_rank(folder: Path, script: str) -> tuple[RankProcess, SimpleQueue[Said | Died]]:
    program = folder / "rank"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    news: SimpleQueue[Said | Died] = SimpleQueue()
    return RankProcess(str(program), news.put), news


@pytest.mark.parametrize(
    "script",
    [
        'echo \'{"event": "warm", "more": 1}\'; sleep 60',
        "echo garbage; sleep 60",
        "printf '\\377\\376\\n'; sleep 60",
        "exec cat /dev/zero",  # a line that never ends
        "exec yes",
    ],
)
def test_rank_that_says_what_is_no_event_is_killed(tmp_path: Path, script: str) -> None:
    rank, news = make_rank(tmp_path, script)
    rank.tick(1.0)
    died = news.get(timeout=WAIT_S)
    assert died == Died(rank.pid, -9)
    assert rank.heard(died, 1.0)
    assert (rank.state, rank.pid) == ("lost", 0)


def test_rank_that_dies_at_its_start_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    rank, news = make_rank(tmp_path, "exit 3")
    for now, starts in ((0.0, 1), (0.5, 1), (1.0, 2), (2.5, 2), (3.0, 3)):
        rank.tick(now)
        if rank.pid:
            assert rank.heard(news.get(timeout=WAIT_S), now)
        assert rank.num_starts == starts


def test_missing_interpreter_is_tried_again_and_ends_nothing(tmp_path: Path) -> None:
    rank = RankProcess(str(tmp_path / "nowhere"), lambda _news: None)
    rank.tick(1.0)
    assert (rank.state, rank.pid, rank.num_starts) == ("lost", 0, 0)
    program = tmp_path / "nowhere"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o700)
    rank.tick(1.0)
    assert rank.pid == 0
    rank.tick(1.0 + FIRST_BACKOFF_S)
    assert rank.state == "starting"
    rank.kill()

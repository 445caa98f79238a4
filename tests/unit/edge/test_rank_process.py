"""The rank's parent against ranks that misbehave; a rank here is a short shell script."""

from __future__ import annotations

import json
import time
from pathlib import Path
from queue import SimpleQueue

import pytest

from edge.rank_process import FIRST_BACKOFF_S, RENEWAL_S, Died, RankProcess, Said

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
        'echo \'{"event": "warm", "pid": 7, "more": 1}\'; sleep 60',
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
    assert died == Died(rank.keeper_pid, -9)
    assert rank.heard(died, 1.0)
    assert (rank.state, rank.keeper_pid) == ("lost", 0)


def test_rank_that_dies_at_its_start_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    rank, news = make_rank(tmp_path, "exit 3")
    for now, starts in ((0.0, 1), (0.5, 1), (1.0, 2), (2.5, 2), (3.0, 3)):
        rank.tick(now)
        if rank.keeper_pid:
            assert rank.heard(news.get(timeout=WAIT_S), now)
        assert rank.num_starts == starts


def test_missing_interpreter_is_tried_again_and_ends_nothing(tmp_path: Path) -> None:
    rank = RankProcess(str(tmp_path / "nowhere"), lambda _news: None)
    rank.tick(1.0)
    assert (rank.state, rank.keeper_pid, rank.num_starts) == ("lost", 0, 0)
    program = tmp_path / "nowhere"
    program.write_text("#!/bin/sh\nsleep 60\n")
    program.chmod(0o700)
    rank.tick(1.0)
    assert rank.keeper_pid == 0
    rank.tick(1.0 + FIRST_BACKOFF_S)
    assert rank.state == "starting"
    rank.kill()


WARM = 'echo \'{"event": "warm", "pid": 4000000}\''


def hear_until(rank: RankProcess, news: SimpleQueue[Said | Died], state: str, now: float) -> None:
    deadline = time.monotonic() + WAIT_S
    while rank.state != state:
        rank.heard(news.get(timeout=max(0.0, deadline - time.monotonic())), now)


def test_renewed_rank_is_warm_with_another_process_id(tmp_path: Path) -> None:
    script = f'{WARM}; read command; echo "$command" > {tmp_path}/heard; echo ' + (
        '\'{"event": "warm", "pid": 4000001}\'; sleep 60'
    )
    rank, news = make_rank(tmp_path, script)
    rank.tick(1.0)
    hear_until(rank, news, "warm", 1.0)
    keeper = rank.keeper_pid
    assert rank.pid == 4000000
    rank.renew(2.0)
    assert (rank.state, rank.generation) == ("starting", 0)
    hear_until(rank, news, "warm", 2.0)
    assert (rank.pid, rank.keeper_pid, rank.num_starts) == (4000001, keeper, 2)
    assert json.loads((tmp_path / "heard").read_text())["pid"] == 4000000
    rank.tick(2.0 + 2 * RENEWAL_S)
    assert rank.keeper_pid == keeper
    rank.kill()


def test_keeper_that_does_not_renew_its_rank_in_time_is_killed(tmp_path: Path) -> None:
    rank, news = make_rank(tmp_path, f"{WARM}; sleep 60")
    rank.tick(1.0)
    hear_until(rank, news, "warm", 1.0)
    keeper = rank.keeper_pid
    rank.renew(2.0)
    rank.tick(2.0 + RENEWAL_S / 2)
    assert rank.keeper_pid == keeper
    rank.tick(2.0 + RENEWAL_S)
    assert rank.keeper_pid not in (0, keeper)
    rank.kill()


def test_lost_rank_is_not_warm_until_the_next_one_says_so(tmp_path: Path) -> None:
    lost = 'echo \'{"event": "lost", "pid": 4000000, "code": -9}\''
    rank, news = make_rank(tmp_path, f"{WARM}; {lost}; sleep 60")
    rank.tick(1.0)
    hear_until(rank, news, "warm", 1.0)
    hear_until(rank, news, "lost", 1.0)
    assert rank.keeper_pid != 0
    rank.kill()

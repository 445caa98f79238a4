"""The seconds of a round's ring, as recorded when it was committed."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from common.errors import ConfigError, QuorumError
from regional.records import Record, RoundEnded
from regional.timeline import bars, headline, timeline
from tests.unit.regional.world import World, num_ended

EAST = {"read_s": 0.01, "pack_s": 0.01, "allreduce_s": 0.06, "send_busy_s": 0.02}
EAST |= {"unpack_s": 0.01, "step_s": 0.005, "write_s": 0.005}
WEST = {"read_s": 0.025, "allreduce_s": 0.025}


@pytest.fixture
def records() -> list[Record]:
    world = World()
    world.run(num_ended(2))
    first, second = world.ended
    timed = {"timings": {"west": WEST, "east": EAST}, "lags": {"east": 1.25}}
    return [first.model_copy(update={"timings": {}}), second.model_copy(update=timed)]


def test_last_committed_round_is_shown_with_what_each_rank_measured(records: list[Record]) -> None:
    report = timeline(records)
    assert (report["round_id"], list(report["hospitals"])) == (2, ["east", "west"])
    east, west = report["hospitals"].values()
    assert (east["total_s"], east["ready_s"], east["send_busy_s"]) == (0.1, 1.25, 0.02)
    assert list(east["parts"]) == [
        "read_s",
        "pack_s",
        "allreduce_s",
        "unpack_s",
        "step_s",
        "write_s",
    ]
    assert (west["total_s"], west["ready_s"], west["send_busy_s"]) == (0.05, None, None)
    assert headline(report).startswith("round 2 of day 1, ring ")


def test_bars_share_one_scale(records: list[Record]) -> None:
    screen = Console(file=io.StringIO(), width=120)
    screen.print(bars(timeline(records), width=20))
    assert isinstance(screen.file, io.StringIO)
    east, west = (line.split()[-1] for line in screen.file.getvalue().splitlines()[1:])
    assert east == "rrpp" + "a" * 12 + "uusw"
    assert west == "rrrrraaaaa"


def test_rounds_without_timings_say_why(records: list[Record]) -> None:
    with pytest.raises(QuorumError, match="an earlier version recorded it"):
        timeline(records, 1)
    with pytest.raises(ConfigError, match="round 9 has not ended; the last one that has: 2"):
        timeline(records, 9)
    with pytest.raises(QuorumError, match="no round is committed yet"):
        timeline([])


def test_ledgers_from_before_the_timings_can_be_read(records: list[Record]) -> None:
    old = records[0].model_dump(mode="json")
    for key in ("timings", "lags", "group"):
        old.pop(key)
    assert RoundEnded.model_validate(old).timings == {}

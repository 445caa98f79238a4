"""What an operator sees of a region, made from the coordinator's own reports."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from common.errors import ConfigError
from common.health import announce
from common.messages import RankFailure
from regional.records import RankExcluded, Record, RingDied, RoundEnded
from regional.reports import round_reports, status_report
from regional.sight import Sight, address
from regional.watch_view import render
from tests.unit.regional.builders import make_config
from tests.unit.regional.test_groups import slow_world
from tests.unit.regional.world import World, num_ended


def seen(world: World, **changes: Any) -> Sight:
    """A sight of `world` as its JSON reports give it."""
    dead = [record for record in world.ledger if isinstance(record, RingDied)]
    ended: list[Record] = [record for record in world.ledger if isinstance(record, RoundEnded)]
    status = status_report(world.region, world.config, world.now, dead)
    return Sight(
        "http://127.0.0.1:1",
        json.loads(json.dumps(status)),
        json.loads(json.dumps(round_reports(ended))),
        **{"seen_at": world.now, **changes},
    )


def shown(sight: Sight, now: float, width: int = 80) -> str:
    screen = Console(file=io.StringIO(), width=width, height=60)
    screen.print(render(sight, now, width))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue()


def running() -> World:
    world = World(config=make_config(rounds_per_day=50))
    world.run(num_ended(12))
    world.run(lambda w: w.region.progress.is_open)
    return world


@pytest.mark.parametrize("width", [80, 120])
def test_screen_has_region_hospitals_last_rounds_and_rings(width: int) -> None:
    world = running()
    world.say("east", timings={"read_s": 0.0004, "allreduce_s": 0.1339})
    text = shown(seen(world), world.now, width)
    assert max(map(len, text.splitlines())) <= width
    assert "day 1, round 13 (learn)" in text
    assert "s left" in text
    assert all(name in text for name in ("east", "north", "west", "0.4", "134"))
    assert "all hospitals took part" in text
    assert text.count("committed ") >= 10
    assert "1–12" in text
    assert ("process" in text) == (width == 120)


def test_errors_failures_and_exclusions_stand_above_the_rounds() -> None:
    world = running()
    failure = RankFailure(round_id=12, generation=3, reason="broken pipe")
    world.say("east", error="ledger: disk is full", failure=failure)
    world.operator_writes(
        RankExcluded(hospital="north", round_id=12, until_round=21, reason="odd digest")
    )
    text = shown(seen(world), world.now)
    above, _, below = text.partition("day round")
    assert "east: ledger: disk is full" in above
    assert "east: its rank failed in ring 3 (round 12): broken pipe" in above
    assert "north: in no ring up to round 21: odd digest" in above
    assert "all hospitals took part" in below


def test_hospitals_that_are_away_or_were_never_heard_are_said_so() -> None:
    world = World(silent={"west"})
    world.run(lambda w: w.phase == "open")
    world.say("north", online=False)
    world.now += 7
    text = shown(seen(world), world.now)
    assert "never heard" in text
    assert "away 7 s" in text


def test_dead_rings_say_why() -> None:
    world = World()
    world.run(num_ended(1))
    world.failing = {"east"}
    world.run(lambda w: w.region.progress.last_generation >= 3)
    text = shown(seen(world), world.now)
    assert "east: broken pipe" in text
    assert "none" in text


def test_slow_groups_have_a_line() -> None:
    world = slow_world()
    world.run(lambda w: any(own.is_open for own in w.region.progress.groups.values()))
    assert "slow group west: round " in shown(seen(world), world.now)


def test_terminal_is_not_steered_by_what_hospitals_write() -> None:
    world = running()
    world.say("east", error="\x1b[2Jgone\r\n\x07")
    text = shown(seen(world), world.now)
    assert not set(text) & {"\x1b", "\r", "\x07"}
    assert "[2Jgone" in text


def test_silence_is_said_first_and_what_was_seen_stays() -> None:
    world = running()
    text = shown(seen(world, fault="Connection refused"), world.now + 9)
    assert text.startswith("http://127.0.0.1:1 does not answer: Connection refused.")
    assert "9 s ago" in " ".join(text.split())
    assert "all hospitals took part" in text
    never = shown(Sight("http://127.0.0.1:1", fault="Connection refused"), 1.0)
    assert "regional run" in never


def test_before_the_first_round_there_is_a_screen_too() -> None:
    world = World()
    assert "no round has ended yet" in shown(seen(world), world.now)


def test_address_is_the_configured_one_or_the_one_that_was_told(tmp_path: Path) -> None:
    config = make_config().model_copy(update={"state_dir": tmp_path})
    fixed = config.model_copy(update={"health_listen": "0.0.0.0:81"})
    assert address(fixed) == "http://127.0.0.1:81"
    assert address(fixed, "http://there:9/") == "http://there:9"
    with pytest.raises(ConfigError, match=r"health_listen.*--url"):
        address(config)
    announce(tmp_path, "http://127.0.0.1:4711")
    assert address(config) == "http://127.0.0.1:4711"

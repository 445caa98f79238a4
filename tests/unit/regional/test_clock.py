"""A wall clock that is set neither ends a round at once nor makes a wait endless."""

from __future__ import annotations

import pytest

from regional.clock import Clock
from tests.unit.regional.builders import make_config
from tests.unit.regional.world import World, finished, num_ended

HOUR_S = 3600.0


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S, -20 * 365 * 24 * HOUR_S])
@pytest.mark.parametrize("at", range(0, 60, 3))
def test_every_wait_ends_within_its_time_however_the_clock_is_set(by_s: float, at: int) -> None:
    world = World(now=1e9, silent={"west"}, config=make_config(rounds_per_day=1, deadline_s=15.0))
    for _ in range(at):
        world.turn()
    world.set_clock(by_s)
    world.run(finished, turns=400)
    assert world.region.progress.num_trained == 2


def test_a_clock_set_forward_leaves_hospitals_their_time_to_answer() -> None:
    world = World(silent={"west"})
    world.run(lambda w: w.phase == "open")
    world.say("west")
    world.set_clock(HOUR_S)
    world.silent.clear()
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "committed"
    assert world.ended[0].outcome.reason == "all hospitals took part"


def test_a_round_opened_in_what_is_the_future_now_still_lasts_its_own_time_only() -> None:
    world = World(silent={"east", "north", "west"})
    world.run(lambda w: w.phase == "open")
    for name in ("east", "north", "west"):
        world.say(name)
    world.set_clock(-HOUR_S)
    began = world.now
    world.run(num_ended(1))
    assert 65.0 <= world.now - began < 70.0
    assert world.ended[0].outcome.seconds == 0.0


def test_notices_a_step_of_the_wall_clock_once_and_no_drift() -> None:
    wall, steady = [1000.0], [5.0]
    clock = Clock(lambda: wall[0], lambda: steady[0])
    steady[0], wall[0] = 15.0, 1010.5
    assert clock.stepped_s() == 0.0
    wall[0] -= HOUR_S
    assert clock.stepped_s() == -HOUR_S
    assert clock.stepped_s() == 0.0

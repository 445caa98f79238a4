"""Statements that no honest hospital makes: the round ends, with a reason, and the model stays."""

from __future__ import annotations

from typing import Any

import pytest

from common.messages import MAX_WEIGHT, HospitalStatus
from regional.messages import StatusHeard
from tests.unit.regional.builders import HOSPITALS, digest, make_result, ready
from tests.unit.regional.world import World, num_ended

MOST = 1 << 53


@pytest.mark.parametrize(
    "lie",
    [
        {"weight": MAX_WEIGHT},
        {"num_stored": MOST, "num_invited": MOST, "num_rejected": MOST},
        {"aggregate_digest": digest(7010)},  # east's
        {"weight": 0},
    ],
)
def test_a_round_ends_whatever_hospitals_claim_of_themselves(lie: dict[str, Any]) -> None:
    world = World()
    world.run(lambda w: w.phase == "open")
    assert world.state.spec is not None
    for name in ("north", "west"):
        world.say(name, **{**ready(name, world.state.spec), **lie})
    world.run(num_ended(1))
    outcome = world.ended[0].outcome
    assert outcome.end == "committed" if "weight" not in lie else outcome.end == "aborted"
    assert outcome.reason


def test_a_result_told_before_the_ring_commits_nothing_by_itself() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    world.silent = set(HOSPITALS)
    assert world.state.spec is not None
    assert world.state.plan is not None
    world.say("east", result=make_result(world.state.spec, world.state.plan))
    world.turn()
    assert not world.ended


def test_a_status_of_a_round_to_come_is_not_ready_for_this_one() -> None:
    world = World(silent={"west"})
    world.run(lambda w: w.phase == "open")
    assert world.state.spec is not None
    ahead = {**ready("west", world.state.spec), "round_id": 99}
    world.send(StatusHeard(HospitalStatus(region="county", hospital="west", rank="warm", **ahead)))
    world.run(num_ended(1))
    assert world.ended[0].outcome.reason == "without west"

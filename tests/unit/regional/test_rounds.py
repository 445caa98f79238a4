"""How a round opens, collects and ends."""

from __future__ import annotations

from regional.messages import (
    Tick,
)
from tests.unit.regional.builders import HOSPITALS, digest, make_config, ready
from tests.unit.regional.world import World, finished, num_ended


def test_commits_a_round_with_all_hospitals_in_one_ring() -> None:
    world = World()
    world.run(num_ended(1))
    (first,) = world.ended
    assert first.outcome.end == "committed"
    assert set(first.outcome.aggregates) == set(HOSPITALS)
    assert first.outcome.complete
    assert (first.outcome.num_invited, first.outcome.num_stored) == (9, 9)
    assert first.outcome.generation == 1
    assert world.region.progress.model.made_by_round == 1
    assert world.region.progress.exponents == {"w": -11}


def test_a_second_round_uses_the_living_ring_again() -> None:
    world = World()
    world.run(num_ended(2))
    assert [ended.outcome.generation for ended in world.ended] == [1, 1]
    assert world.kinds().count("StartRendezvous") == 1


def test_training_rounds_also_score_the_model_they_start_from() -> None:
    world = World()
    world.run(lambda w: w.phase == "open")
    assert world.state.spec is not None
    assert world.state.spec.evaluate == (world.state.spec.base_digest,)


def test_rendezvous_stops_once_all_members_have_joined() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    for name in HOSPITALS:
        world.say(name, rank="joined", generation=1)
        world.send(Tick())
    assert world.kinds().count("StopRendezvous") == 1


def test_without_any_hospital_rounds_are_skipped_and_nothing_hangs() -> None:
    world = World(silent=set(HOSPITALS))
    world.run(finished)
    assert {ended.outcome.end for ended in world.ended} == {"skipped"}
    assert "0 hospitals were ready; the quorum is 2" in world.ended[0].outcome.reason
    assert world.region.progress.model.digest == digest(1)
    assert world.region.progress.sealed is not None
    assert world.region.progress.sealed.model_digest is None


def test_one_hospital_of_a_quorum_of_two_is_skipped_at_deadline_and_grace() -> None:
    world = World(silent={"north", "west"})
    opened = world.now
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "skipped"
    assert world.now - opened >= 65.0


def test_a_hospital_that_never_came_is_left_out_after_rejoin() -> None:
    world = World(silent={"west"})
    opened = world.now
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "committed"
    assert world.ended[0].outcome.reason == "without west"
    assert not world.ended[0].outcome.complete
    assert set(world.ended[0].outcome.aggregates) == {"east", "north"}
    assert 10.0 <= world.now - opened < 20.0


def test_a_hospital_with_too_few_devices_stays_outside_the_ring() -> None:
    world = World(config=make_config(min_devices=4))
    opened = world.now
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "skipped"
    assert 60.0 <= world.now - opened < 65.0, "all are ready: nothing is left to wait for"
    assert "east, north, west had fewer devices" in world.ended[0].outcome.reason


def test_what_keeps_a_hospital_back_is_in_the_reason() -> None:
    world = World(silent=set(HOSPITALS))
    world.turn()
    world.say("north", error="no such model")
    world.run(num_ended(1))
    assert "north: no such model" in world.ended[0].outcome.reason


def test_a_total_weight_of_zero_is_skipped() -> None:
    world = World(silent=set(HOSPITALS))
    world.turn()
    assert world.state.spec is not None
    for name in HOSPITALS:
        world.say(name, **{**ready(name, world.state.spec), "weight": 0})
    world.run(num_ended(1), turns=3)
    assert world.ended[0].outcome.reason == "the total weight is 0"

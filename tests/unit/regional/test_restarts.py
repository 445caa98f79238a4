"""A process that dies anywhere goes on to the same models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from regional.messages import Append, PutOutcome, StatusHeard, Tick
from regional.records import RoundEnded, RoundOpened
from tests.unit.regional.builders import make_config, ready
from tests.unit.regional.world import CrashError, World, finished, num_ended


def final_models(world: World) -> Mapping[str, Any]:
    committed = [ended.outcome for ended in world.ended if ended.outcome.end == "committed"]
    return {
        "models": [outcome.model_digest for outcome in committed],
        "purposes": [outcome.purpose for outcome in committed],
        "sealed": world.region.progress.sealed and world.region.progress.sealed.model_digest,
    }


def assert_outcomes_are_put_before_the_next_round(world: World) -> None:
    """A hospital takes a past round without ``outcome.json`` for one that was not committed."""
    missing: set[int] = set()
    for effect in world.done:
        match effect:
            case Append(records):
                opened = any(isinstance(record, RoundOpened) for record in records)
                assert not (opened and missing), f"round {missing} has no outcome in the mailbox"
                ended = (record for record in records if isinstance(record, RoundEnded))
                missing |= {record.outcome.round_id for record in ended}
            case PutOutcome(outcome):
                missing.discard(outcome.round_id)


def num_effects() -> int:
    world = World()
    world.run(finished)
    return len(world.done)


@pytest.mark.parametrize("crash_at", range(num_effects()))
def test_a_crash_before_any_effect_resumes_to_the_same_models(crash_at: int) -> None:
    untouched = World()
    untouched.run(finished)
    world = World(crash_at=crash_at)
    try:
        world.run(finished)
    except CrashError:
        world.crash_at = -1
        world.now += 20.0
        before = world.state.revision
        world.restart()
        assert world.state.revision > before
        for status in world.status.values():
            world.send(StatusHeard(status))
    world.run(finished)
    assert final_models(world) == final_models(untouched)
    put = [effect.outcome for effect in world.done if isinstance(effect, PutOutcome)]
    recorded = [ended.outcome for ended in world.ended]
    assert all(outcome in recorded for outcome in put)
    assert all(outcome in put for outcome in recorded)
    assert_outcomes_are_put_before_the_next_round(world)


def test_models_are_in_the_mailbox_before_the_commit_and_the_outcome_after() -> None:
    world = World()
    world.run(num_ended(1))
    assert world.kinds()[-3:] == ["PutModels", "Append", "PutOutcome"]


def test_a_ring_that_was_forming_at_a_restart_is_formed_anew_at_once() -> None:
    world = World(silent={"west"})
    world.say("west")
    world.run(lambda w: w.phase == "open")
    assert world.state.spec is not None
    world.say("west", **ready("west", world.state.spec))
    world.run(lambda w: w.phase == "ring")
    world.restart()
    world.say("west")
    world.send(Tick())
    assert world.state.min_generation == 2


def test_results_given_before_a_restart_are_committed_after_it() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: all(s.result for s in w.status.values()) and w.phase == "ring")
    world.restart()
    world.repeat = None
    for status in world.status.values():
        world.send(StatusHeard(status))
    world.send(Tick())
    assert world.ended[0].outcome.generation == 1


def test_an_open_round_keeps_its_spec_over_a_restart_and_waits_for_statuses() -> None:
    world = World(silent={"west"})
    world.run(lambda w: w.phase == "open")
    spec = world.state.spec
    world.now += 500.0
    world.restart()
    world.send(Tick())
    assert world.phase == "open"
    assert world.state.spec == spec


def test_generations_never_repeat_over_restarts() -> None:
    world = World(repeat=lambda _: None)
    seen = []
    for _ in range(3):
        world.run(lambda w: w.phase == "ring")
        assert world.state.plan is not None
        seen.append(world.state.plan.generation)
        world.say("east", rank="lost", rank_pid=0)
        world.send(Tick())
        world.restart()
        world.say("east", rank="warm", rank_pid=900 + len(seen))
    assert seen == sorted(set(seen))


def test_a_ring_outlives_a_restart_between_rounds() -> None:
    world = World(config=make_config(round_pause_s=5.0))
    world.run(num_ended(1))
    world.restart()
    world.run(num_ended(2))
    assert [ended.outcome.generation for ended in world.ended] == [1, 1]


def test_a_raised_number_of_days_goes_on_from_a_finished_region() -> None:
    world = World()
    world.run(finished)
    world.config = make_config(num_days=3)
    world.restart()
    world.run(finished)
    assert world.region.progress.day == 3
    assert world.region.progress.num_trained == 6

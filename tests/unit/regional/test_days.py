"""Rounds make a day; a day is sealed, decided on, and followed by the next."""

from __future__ import annotations

from regional.records import RoundOpened
from tests.unit.regional.builders import HOSPITALS, digest, make_config
from tests.unit.regional.world import World, decide, finished, num_ended


def test_a_day_is_its_training_rounds_then_one_evaluation_then_a_seal() -> None:
    world = World()
    world.run(lambda w: w.region.progress.sealed)
    assert [ended.outcome.purpose for ended in world.ended] == ["train", "train", "evaluate"]
    assert world.ended[2].outcome.model_digest == world.ended[1].outcome.model_digest
    assert world.region.progress.num_trained == 2


def test_a_released_model_in_time_starts_a_new_cycle() -> None:
    world = World()
    world.run(lambda w: w.phase == "waiting_for_release")
    decide(world, "released")
    world.run(lambda w: w.phase == "open")
    spec = world.state.spec
    assert spec is not None
    assert (spec.day, spec.cycle, spec.base_digest) == (2, 2, digest(77))
    assert spec.fixed_point.exponents == {"w": -10}
    assert spec.locations[digest(77)] == f"county/ring/000003/{digest(77)}.safetensors"


def test_a_refused_model_leaves_the_region_on_its_own_model_and_cycle() -> None:
    world = World()
    world.run(lambda w: w.phase == "waiting_for_release")
    last = world.region.progress.model.digest
    decide(world, "refused")
    world.run(lambda w: w.phase == "open")
    assert world.state.spec is not None
    assert (world.state.spec.cycle, world.state.spec.base_digest) == (1, last)


def test_a_late_release_is_not_the_base_but_is_scored_as_in_service() -> None:
    world = World()
    world.run(lambda w: w.phase == "waiting_for_release")
    since = world.now
    world.run(lambda w: w.phase == "open")
    assert world.now - since >= 30.0
    decide(world, "released")
    world.run(lambda w: w.state.spec is not None and w.state.spec.purpose == "evaluate"
              and w.state.spec.day == 2)  # fmt: skip
    assert world.state.spec is not None
    assert world.state.spec.cycle == 1
    assert world.state.spec.evaluate == (world.region.progress.model.digest, digest(77))


def test_a_second_decision_on_a_day_changes_nothing() -> None:
    world = World()
    world.run(lambda w: w.phase == "waiting_for_release")
    decide(world, "refused")
    before = list(world.ledger)
    decide(world, "released")
    assert world.ledger == before


def test_after_the_last_day_the_region_is_finished_and_stays_so() -> None:
    world = World()
    world.run(finished)
    before = len(world.ledger)
    for _ in range(50):
        world.turn()
    assert len(world.ledger) == before
    assert world.region.progress.day == 2


def test_a_day_that_fails_midway_is_sealed_with_what_there_is() -> None:
    world = World(config=make_config(max_failed_rounds=2))
    world.run(num_ended(1))
    world.failing = set(HOSPITALS)
    world.run(lambda w: w.region.progress.sealed)
    sealed = world.region.progress.sealed
    assert sealed is not None
    assert sealed.model_digest == world.ended[0].outcome.model_digest
    assert sealed.reason.startswith("2 rounds in a row failed: 3 rings died")


def test_a_repeated_round_has_a_new_id_and_the_same_base_and_rate() -> None:
    world = World(failing=set(HOSPITALS))
    world.run(num_ended(1))
    world.failing = set()
    world.run(num_ended(2))
    opened = [record.spec for record in world.ledger if isinstance(record, RoundOpened)]
    assert [spec.round_id for spec in opened[:2]] == [1, 2]
    assert opened[0].base_digest == opened[1].base_digest
    assert opened[0].local == opened[1].local

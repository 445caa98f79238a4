"""How rings are formed, lost, formed again and believed."""

from __future__ import annotations

from dataclasses import replace

from common.messages import RankFailure
from regional.messages import (
    Event,
    RepeatStep,
    StepRefused,
    StepRepeated,
    Tick,
)
from regional.progress import Progress, ring_timeout_s
from regional.records import ExclusionLifted, HospitalAdmitted, HospitalDismissed
from tests.unit.regional.builders import (
    HOSPITALS,
    digest,
    make_config,
    make_result,
    ready,
    repeated,
)
from tests.unit.regional.world import World, num_ended


def test_a_lost_rank_is_waited_for_and_the_next_generation_has_it_again() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    world.silent = set(HOSPITALS)
    world.say("north", rank="lost")
    world.send(Tick())
    assert world.phase == "open"
    assert world.state.min_generation == 2
    world.say("north", rank="warm", rank_pid=101)
    world.silent, world.repeat = set(), None
    world.run(num_ended(1))
    assert world.ended[0].outcome.generation == 2
    assert set(world.ended[0].outcome.aggregates) == set(HOSPITALS)


def test_a_rank_respawned_unseen_kills_its_generation() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    world.say("east", rank_pid=555)
    world.send(Tick())
    assert world.state.min_generation == 2


def test_a_hospital_that_goes_away_is_left_out_after_rejoin() -> None:
    world = World(config=make_config(rounds_per_day=1), repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    world.silent.add("west")
    world.say("west", online=False)
    gone = world.now
    world.run(lambda w: w.phase == "ring" and w.state.min_generation == 2)
    assert world.state.plan is not None
    assert world.state.plan.members == ("east", "north")
    assert world.now - gone >= 10.0


def test_a_failure_counts_only_for_its_own_generation() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    old = RankFailure(round_id=1, generation=9, reason="old")
    world.say("east", failure=old)
    world.send(Tick())
    assert world.phase == "ring"
    world.say("east", failure=RankFailure(round_id=1, generation=1, reason="broken pipe"))
    world.send(Tick())
    assert world.phase == "open"


def test_a_rank_that_never_warms_is_left_out_after_rejoin() -> None:
    world = World(cold={"west"})
    began = world.now
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "committed"
    assert world.ended[0].outcome.reason == "without west"
    assert 10.0 <= world.now - began < 15.0


def test_a_rank_past_hope_neither_delays_later_rounds_nor_breaks_their_ring() -> None:
    world = World(cold={"west"})
    world.run(num_ended(1))
    began = world.now
    world.run(num_ended(2))
    assert world.now - began < 5.0
    assert [ended.outcome.generation for ended in world.ended] == [1, 1]


def test_a_rank_that_warms_at_last_is_in_the_next_ring() -> None:
    world = World(cold={"west"})
    world.run(num_ended(1))
    world.cold.clear()
    world.say("west", rank="warm")
    world.run(num_ended(2))
    assert set(world.ended[1].outcome.aggregates) == set(HOSPITALS)
    assert world.ended[1].outcome.generation == 2


def test_without_a_quorum_of_warm_ranks_the_round_is_aborted_after_rejoin() -> None:
    world = World(cold={"west", "north"})
    began = world.now
    world.run(num_ended(2))
    assert {ended.outcome.end for ended in world.ended} == {"aborted"}
    assert world.ended[0].outcome.reason == "1 of 3 hospitals had a warm rank within rejoin_s"
    assert world.now - began >= 20.0


def test_ranks_that_fail_in_every_ring_end_in_an_abort_with_their_reason() -> None:
    world = World(failing=set(HOSPITALS))
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert world.ended[0].outcome.reason == "3 rings died, the last one: east: broken pipe"
    assert world.state.min_generation == 4


def test_rings_that_keep_dying_end_in_an_abort_with_the_last_reason() -> None:
    world = World(repeat=lambda _: None, silent=set())
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert "3 rings died" in world.ended[0].outcome.reason
    assert "not in the mailbox" in world.ended[0].outcome.reason


def test_a_rank_that_computes_something_else_is_named_and_left_out_of_the_same_round() -> None:
    world = World(odd={"north"})
    world.run(num_ended(1))
    outcome = world.ended[0].outcome
    assert (outcome.end, outcome.generation) == ("committed", 2)
    assert set(outcome.aggregates) == {"east", "west"}
    assert outcome.reason.startswith("without north (excluded up to round 10: results differ")
    assert world.state.min_generation == 2


def test_an_excluded_hospital_is_back_after_its_rounds() -> None:
    world = World(config=make_config(rounds_per_day=4, exclusion_rounds=2), odd={"north"})
    world.run(num_ended(1))
    world.odd.clear()
    world.run(num_ended(3))
    took_part = [set(ended.outcome.aggregates) for ended in world.ended]
    assert took_part == [{"east", "west"}, {"east", "west"}, set(HOSPITALS)]


def test_an_operator_lets_an_excluded_hospital_back() -> None:
    world = World(config=make_config(rounds_per_day=4), odd={"north"})
    world.run(num_ended(1))
    world.odd.clear()
    world.operator_writes(ExclusionLifted(hospital="north", reason="a new disk"))
    world.run(num_ended(2))
    assert set(world.ended[1].outcome.aggregates) == set(HOSPITALS)


def test_an_exclusion_outlives_a_restart() -> None:
    world = World(odd={"north"})
    world.run(lambda w: w.state.min_generation == 2)
    world.restart()
    world.odd.clear()
    world.run(num_ended(2))
    assert all("north" not in ended.outcome.aggregates for ended in world.ended)


def test_without_a_quorum_of_agreeing_ranks_the_round_is_aborted_and_names_the_odd_one() -> None:
    world = World(config=make_config(quorum=3), odd={"north"})
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert world.ended[0].outcome.reason.startswith("results differ")
    assert world.ended[0].outcome.reason.endswith(": north")
    assert world.region.progress.model.digest == digest(1)


def test_a_rank_whose_step_differs_from_the_coordinators_own_is_left_out() -> None:
    def own(effect: RepeatStep) -> Event:
        model = make_result(effect.spec, world.region.progress.ring.plan).model_digest  # type: ignore[union-attr]  # a ring is planned when its step is repeated
        return StepRepeated(repeated(effect, model_digest=model))

    world = World(config=make_config(quorum=1), odd={"north"}, silent={"west"}, repeat=own)
    world.region = replace(world.region, started_at=world.now - 100)
    world.run(num_ended(1))
    outcome = world.ended[0].outcome
    assert (outcome.end, set(outcome.aggregates)) == ("committed", {"east"})


def test_a_hospital_admitted_while_the_region_runs_is_in_the_next_ring() -> None:
    world = World(config=make_config(rounds_per_day=3))
    world.run(num_ended(1))
    world.say("hill", rank="warm", rank_pid=9)
    assert "hill" not in world.region.statuses
    world.operator_writes(HospitalAdmitted(hospital="hill"))
    world.say("hill", rank="warm", rank_pid=9)
    assert "hill" in world.region.statuses
    assert "hill" in world.region.progress.hospitals


def test_a_dismissed_member_kills_its_ring_which_forms_again_without_it() -> None:
    world = World(repeat=lambda _: None)
    world.run(lambda w: w.phase == "ring")
    world.operator_writes(HospitalDismissed(hospital="west", reason="moved"))
    world.silent, world.repeat = {"west"}, None
    began = world.now
    world.run(num_ended(1))
    outcome = world.ended[0].outcome
    assert (outcome.end, set(outcome.aggregates)) == ("committed", {"east", "north"})
    assert outcome.reason == "all hospitals took part"
    assert world.now - began < 5.0
    assert world.state.min_generation == 2


def test_the_coordinators_own_repeat_must_agree() -> None:
    def other(effect: RepeatStep) -> Event:
        return StepRepeated(repeated(effect, model_digest=digest(5)))

    world = World(repeat=other)
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert "results differ from the coordinator's: model_digest" in world.ended[0].outcome.reason


def test_sums_that_weigh_other_than_stated_abort() -> None:
    world = World()
    world.run(lambda w: w.phase == "open")
    world.silent = {"east"}
    assert world.state.spec is not None
    world.say("east", **{**ready("east", world.state.spec), "weight": 4})
    world.silent = set()
    world.run(num_ended(1))
    assert "the sums weigh 15, the hospitals stated 14" in world.ended[0].outcome.reason


def test_unusable_sums_abort_with_the_reason() -> None:
    world = World(repeat=lambda _: StepRefused("not int64"))
    world.run(num_ended(1))
    assert world.ended[0].outcome.reason == "not int64"


def test_time_limit_follows_what_the_last_rings_took() -> None:
    rounds = make_config(ring_timeout_s=60.0, min_ring_timeout_s=5.0).rounds
    assert ring_timeout_s(Progress(), rounds) == 60.0
    assert ring_timeout_s(Progress(ring_seconds=(0.1, 0.2)), rounds) == 5.0
    assert ring_timeout_s(Progress(ring_seconds=(2.0, 0.1, 2.0)), rounds) == 20.0
    assert ring_timeout_s(Progress(ring_seconds=(0.1, 50.0, 0.1)), rounds) == 5.0
    assert ring_timeout_s(Progress(ring_seconds=(9.0,)), rounds) == 60.0


def test_an_idle_ring_is_given_up_and_the_next_round_forms_another() -> None:
    world = World(config=make_config(round_pause_s=100.0, ring_idle_s=20.0))
    world.run(num_ended(1))
    assert world.state.min_generation == 1
    ended = world.now
    world.run(lambda w: w.state.min_generation == 2)
    assert 19.0 < world.now - ended < 22.0
    world.run(num_ended(2))
    assert [ended.outcome.end for ended in world.ended] == ["committed", "committed"]
    assert [ended.outcome.generation for ended in world.ended] == [1, 2]


def test_a_ring_that_rounds_use_is_kept() -> None:
    world = World(config=make_config(rounds_per_day=8, round_pause_s=5.0, ring_idle_s=20.0))
    world.run(num_ended(8))
    assert {ended.outcome.generation for ended in world.ended} == {1}


def test_a_ring_is_not_given_up_while_it_computes() -> None:
    world = World(
        config=make_config(ring_idle_s=2.0, min_ring_timeout_s=30.0), repeat=lambda _: None
    )
    world.run(lambda w: w.phase == "ring")
    world.silent = set(HOSPITALS)
    for _ in range(80):
        world.now += 0.1
        world.send(Tick())
    assert (world.phase, world.state.min_generation) == ("ring", 1)

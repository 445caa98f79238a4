from __future__ import annotations

from itertools import pairwise

import pytest

from regional.config import RegionConfig
from regional.groups import seen_by
from regional.records import (
    DaySealed,
    GroupsPlanned,
    HospitalDismissed,
    RingPlanned,
    RingSummed,
    RoundEnded,
    RoundOpened,
)
from regional.region import Collecting, Forming, Ringing
from tests.unit.regional.builders import HOSPITALS, make_config
from tests.unit.regional.world import CrashError, World, finished

SLOW = ("west",)


def is_summed(world: World) -> bool:
    return any(own.summed for own in world.region.progress.groups.values())


def late_rounds(world: World) -> tuple[int, ...]:
    """Slow rounds that the ring of the others is to count."""
    stage, ring = world.region.stage, world.region.progress.ring
    if isinstance(stage, Forming):
        return stage.late.rounds if stage.late else ()
    return ring.plan.late.rounds if isinstance(stage, Ringing) and ring and ring.plan.late else ()


def committed_rounds(world: World) -> set[int]:
    return {end.outcome.round_id for end in world.ended if end.outcome.end == "committed"}


def grouping(**rounds: object) -> RegionConfig:
    """Three hospitals, of which a slow one gets rounds of its own."""
    settings = {"rounds_per_day": 12, "num_days": 1, "rejoin_s": 60.0, "quorum": 1, **rounds}
    config = make_config(**settings)
    groups = config.groups.model_copy(update={"enabled": True})
    return config.model_copy(update={"groups": groups})


def slow_world(config: RegionConfig | None = None) -> World:
    return World(config=config or grouping(), lag_s={"west": 15.0})


def lead_rounds(world: World) -> list[RoundEnded]:
    return [end for end in world.ended if not end.group]


def group_rounds(world: World) -> list[RoundEnded]:
    return [end for end in world.ended if end.group]


def planned(world: World) -> list[tuple[tuple[str, ...], ...]]:
    return [record.groups for record in world.ledger if isinstance(record, GroupsPlanned)]


def test_slow_hospital_gets_rounds_of_its_own_and_holds_back_nobody() -> None:
    world = slow_world()
    world.run(until=finished)
    assert planned(world)[0] == (SLOW,)
    seconds = [end.outcome.seconds for end in lead_rounds(world) if end.outcome.purpose == "train"]
    assert min(seconds[:2]) >= 15  # waited for until it was measured twice
    assert max(seconds[2:-1]) < 5


def test_hospital_behind_a_slow_link_gets_a_ring_of_its_own() -> None:
    world = World(config=grouping(), link_s={"north": 12.0})
    world.run(until=finished)
    assert planned(world)[0] == (("north",),)
    trained = [end for end in lead_rounds(world) if end.outcome.purpose == "train"]
    assert max(end.ring_seconds for end in trained[2:-1]) < 5


def test_sums_of_a_slow_group_count_once_in_a_later_round() -> None:
    world = slow_world()
    world.run(until=finished)
    sums = {record.round_id for record in world.ledger if isinstance(record, RingSummed)}
    ends = group_rounds(world)
    assert sums
    assert {end.outcome.round_id for end in ends} == sums
    assert all(end.outcome.end == "committed" and end.outcome.group == SLOW for end in ends)
    counting = [end for end in lead_rounds(world) if "counted in round" in end.outcome.reason]
    assert len(counting) == len(ends)
    assert all(end.hospitals["west"] == 3 for end in counting)


def test_round_of_a_group_says_where_it_counted_and_how_much() -> None:
    world = slow_world()
    world.run(until=finished)
    first = group_rounds(world)[0].outcome
    assert first.reason.startswith(f"round {first.round_id} of west counted in round ")
    assert first.reason.endswith("/256")
    assert set(first.aggregates) == {"west"}


def test_last_round_of_a_day_waits_for_groups_and_all_evaluate_together() -> None:
    world = slow_world()
    world.run(until=finished)
    assert planned(world)[-1] == ()
    last = next(end for end in world.ended if end.outcome.purpose == "evaluate")
    assert "without" not in last.outcome.reason
    assert not any(own.is_open for own in world.region.progress.groups.values())
    sealed = [record for record in world.ledger if isinstance(record, DaySealed)]
    assert [record.model_digest is not None for record in sealed] == [True]


def test_rounds_and_generations_stay_unique_over_all_groups() -> None:
    world = slow_world()
    world.run(until=finished)
    opened = [record.spec.round_id for record in world.ledger if isinstance(record, RoundOpened)]
    assert opened == sorted(set(opened))
    assert sorted(end.outcome.round_id for end in world.ended) == opened


def test_hospitals_of_a_group_are_shown_their_own_round_and_the_others_theirs() -> None:
    world = slow_world()
    world.run(until=lambda w: bool(w.state.groups) and w.state.groups[0].phase == "open")
    state = world.state
    own, other = state.seen_by("west"), state.seen_by("east")
    assert own.spec is not None
    assert other.spec is not None
    assert own.spec.round_id != other.spec.round_id
    assert own.spec.base_digest == other.spec.base_digest
    assert other == state


@pytest.mark.parametrize("crash_at", range(10, 400, 7))
def test_crash_between_any_two_effects_loses_and_doubles_no_sum(crash_at: int) -> None:
    world = slow_world()
    world.crash_at = crash_at
    for _ in range(3000):
        if finished(world):
            break
        try:
            world.turn()
        except CrashError:
            world.crash_at = -1
            world.restart()
    assert finished(world)
    sums = [record.round_id for record in world.ledger if isinstance(record, RingSummed)]
    counted = [end.outcome.round_id for end in group_rounds(world)]
    assert sorted(counted) == sorted(set(counted))
    assert set(sums) <= set(counted)
    opened = [record.spec.round_id for record in world.ledger if isinstance(record, RoundOpened)]
    assert sorted(end.outcome.round_id for end in world.ended) == sorted(opened)


def test_sums_wait_while_rounds_of_the_others_fail() -> None:
    world = slow_world(grouping(max_failed_rounds=50))
    world.run(until=lambda w: any(own.summed for own in w.region.progress.groups.values()))
    world.failing = {"east", "north"}
    num_before = len(group_rounds(world))
    world.run(until=lambda w: w.region.progress.num_failed >= 2)
    assert len(group_rounds(world)) == num_before
    world.failing = set()
    world.run(until=lambda w: len(group_rounds(w)) > num_before)
    assert group_rounds(world)[-1].outcome.end == "committed"


def test_sums_that_cannot_be_counted_end_their_round_with_the_reason() -> None:
    world = slow_world()
    world.late_fault = "leaves 62 bits"
    world.run(until=lambda w: bool(group_rounds(w)))
    outcome = group_rounds(world)[0].outcome
    assert (outcome.end, outcome.reason) == ("aborted", "leaves 62 bits")
    world.run(until=finished)


def test_group_whose_rank_keeps_dying_ends_aborted_and_the_others_go_on() -> None:
    world = slow_world()
    world.run(until=lambda w: bool(w.state.groups))
    world.failing = {"west"}
    world.run(until=lambda w: bool(group_rounds(w)))
    assert group_rounds(world)[0].outcome.end == "aborted"
    assert all(end.outcome.end == "committed" for end in lead_rounds(world))


def test_hospital_that_became_quick_is_with_the_others_again() -> None:
    world = slow_world(grouping(rounds_per_day=40))
    world.run(until=lambda w: bool(group_rounds(w)))
    world.lag_s.clear()
    world.run(until=lambda w: not w.region.progress.groups)
    assert "evaluate" not in [end.outcome.purpose for end in world.ended]


def test_dismissed_member_ends_its_group() -> None:
    world = slow_world()
    world.run(until=lambda w: bool(w.state.groups))
    world.operator_writes(HospitalDismissed(hospital="west", reason="closed"))
    assert not any(own.is_open for own in world.region.progress.groups.values())
    world.run(until=finished)
    assert all(end.outcome.end == "aborted" for end in group_rounds(world))


def test_rank_that_dies_while_its_sums_wait_takes_nothing_with_it() -> None:
    world = slow_world()
    world.run(until=is_summed)
    world.say("west", rank="lost", generation=0)
    world.silent.add("west")
    world.run(until=lambda w: bool(group_rounds(w)))
    assert group_rounds(world)[0].outcome.end == "committed"
    world.restart()
    world.silent.clear()
    world.say("west", rank="warm", rank_pid=999)
    world.run(until=finished)


@pytest.mark.parametrize("stage", [Forming, Ringing])
def test_member_dismissed_when_its_sums_are_in_the_plan_is_not_counted(
    stage: type[Forming | Ringing],
) -> None:
    world = slow_world()
    world.run(until=is_summed)
    world.silent = {"east"}  # so that the others' ring waits
    world.run(until=lambda w: isinstance(w.region.stage, Collecting))
    world.silent = set()
    world.run(until=lambda w: isinstance(w.region.stage, stage) and late_rounds(w) != ())
    world.operator_writes(HospitalDismissed(hospital="west", reason="closed"))
    assert late_rounds(world) == ()
    aborted = group_rounds(world)[-1].outcome
    assert aborted.end == "aborted"
    world.run(until=finished)
    plans = [record.plan for record in world.ledger if isinstance(record, RingPlanned)]
    last_of_round = {plan.round_id: plan for plan in plans}
    for round_id in committed_rounds(world):
        late = last_of_round[round_id].late
        assert late is None or aborted.round_id not in late.rounds


def test_hospital_with_a_slow_link_gets_all_the_time_when_it_is_back() -> None:
    world = World(config=grouping(rounds_per_day=20, num_days=2), link_s={"west": 15.0})
    world.config = world.config.model_copy(
        update={"seal": world.config.seal.model_copy(update={"wait_for_release_s": 0.0})}
    )
    world.run(until=finished, turns=6000)
    assert [end.outcome.end for end in lead_rounds(world)] == ["committed"] * 42


def test_ring_that_was_overdue_is_followed_by_one_with_all_the_time() -> None:
    world = World(config=grouping(rounds_per_day=20))
    world.run(until=lambda w: len(w.ended) >= 8)
    world.link_s = {"west": 15.0}  # where ten times the usual is 10 s, the least that there is
    world.run(until=lambda w: len(w.ended) >= 10)
    assert {end.outcome.end for end in world.ended} == {"committed"}


def test_hospital_much_slower_than_the_others_rounds_stays_known_as_slow() -> None:
    world = World(config=grouping(rounds_per_day=150), lag_s={"west": 50.0})
    world.run(until=finished, turns=6000)
    assert len(planned(world)) == 2  # once apart, once together for the day's end
    assert len(group_rounds(world)) >= 3


def test_hospital_of_a_group_that_is_away_delays_nobody() -> None:
    world = slow_world(grouping(deadline_s=600.0, rejoin_s=20.0))
    world.run(until=lambda w: bool(w.region.progress.groups))
    world.silent.add("west")
    world.say("west", online=False, rank="lost")
    world.run(until=finished, turns=8000)
    assert max(end.outcome.seconds for end in lead_rounds(world)[2:]) < 30
    assert group_rounds(world)[0].outcome.end == "skipped"


def test_no_group_leaves_the_others_below_the_quorum() -> None:
    world = slow_world(grouping(quorum=3))
    world.run(until=finished)
    assert planned(world) == []


def test_group_smaller_than_allowed_is_waited_for() -> None:
    config = grouping()
    groups = config.groups.model_copy(update={"min_hospitals": 2})
    world = slow_world(config.model_copy(update={"groups": groups}))
    world.run(until=finished)
    assert planned(world) == []


def test_without_groups_everybody_is_waited_for() -> None:
    config = grouping()
    groups = config.groups.model_copy(update={"enabled": False})
    world = slow_world(config.model_copy(update={"groups": groups}))
    world.run(until=finished)
    assert planned(world) == []
    assert all("all hospitals" in end.outcome.reason for end in world.ended)


def test_group_is_a_region_of_its_own_to_the_steps_of_a_round() -> None:
    world = slow_world()
    world.run(until=lambda w: bool(w.state.groups))
    alone = seen_by(world.region, SLOW)
    assert set(alone.progress.hospitals) == set(SLOW)
    assert set(world.region.progress.hospitals) == set(HOSPITALS)


def test_rings_of_two_groups_live_side_by_side() -> None:
    world = slow_world()
    world.run(until=finished)
    generations = [end.outcome.generation for end in lead_rounds(world)]
    of_group = [end.outcome.generation for end in group_rounds(world)]
    assert len(set(of_group)) == 1
    reused = [before == after for before, after in pairwise(generations)]
    assert sum(reused) >= len(reused) - 3  # a new ring when the group splits off and comes back

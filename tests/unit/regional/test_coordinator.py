"""The state machine, driven with hand-written statuses and a clock that is a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from common.digest import tensors_digest
from common.messages import (
    HospitalStatus,
    RankFailure,
    RankResult,
    RegionState,
    ReleaseHeader,
    RingPlan,
    RoundSpec,
)
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.coordinator import step
from regional.messages import (
    Append,
    CandidateMade,
    DayStored,
    Effect,
    Event,
    MakeCandidate,
    PutOutcome,
    ReleaseFound,
    RendezvousStarted,
    RepeatStep,
    SealDay,
    StartRendezvous,
    StatusHeard,
    StepRefused,
    StepRepeated,
    Tick,
)
from regional.progress import replay
from regional.records import CycleStarted, Record, RoundEnded, RoundOpened, Started
from regional.region import Region, recovery, restore, state_of

HOSPITALS = ("east", "north", "west")
EMPTY = tensors_digest({})
SHAPES: dict[str, tuple[int, ...]] = {"confusion": (2, 2)}


def digest(number: int) -> str:
    return f"{number:064x}"


def make_config(**rounds: Any) -> RegionConfig:
    settings: dict[str, Any] = {
        "rounds_per_day": 2,
        "num_days": 2,
        "deadline_s": 60.0,
        "grace_s": 5.0,
        "rejoin_s": 10.0,
        "ring_timeout_s": 20.0,
        "round_pause_s": 0.0,
        "max_generations": 3,
        "quorum": 2,
    }
    return RegionConfig.model_validate(
        {
            "region": "county",
            "broker": "mqtt://127.0.0.1:1",
            "state_dir": Path("unused"),
            "mailbox": "unused",
            "hospitals": {name: {"key": Path(name)} for name in HOSPITALS},
            "cloud_key": Path("cloud"),
            "task": "dummy",
            "away_after_s": 1e5,
            "rounds": {**settings, **rounds},
            "seal": {"wait_for_release_s": 30.0},
        }
    )


class CrashError(Exception):
    """The process dies before it carries an effect out."""


@dataclass
class World:
    """A coordinator with a ledger in memory, and hospitals that do what its state says."""

    config: RegionConfig = field(default_factory=make_config)
    now: float = 1000.0
    ledger: list[Record] = field(default_factory=list)
    done: list[Effect] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    odd: set[str] = field(default_factory=set)
    status: dict[str, HospitalStatus] = field(default_factory=dict)
    crash_at: int = -1
    repeat: Callable[[RepeatStep], Event | None] | None = None

    def __post_init__(self) -> None:
        initial = CycleStarted(
            cycle=1,
            task="dummy",
            model_digest=digest(1),
            made_by_round=0,
            exponents={"w": -10},
            evaluation_shapes=SHAPES,
        )
        self.ledger.append(initial)
        self.region = self.restart()

    def restart(self) -> Region:
        starts = sum(isinstance(record, Started) for record in self.ledger)
        self.ledger.append(Started(count=starts + 1))
        progress = replay(self.ledger)
        self.region = restore(progress, self.now)
        for effect in recovery(progress):
            self.carry_out(effect)
        return self.region

    @property
    def state(self) -> RegionState:
        return state_of(self.region, self.config, 1)

    @property
    def ended(self) -> list[RoundEnded]:
        return [record for record in self.ledger if isinstance(record, RoundEnded)]

    def send(self, event: Event) -> None:
        events = [event]
        while events:
            region, effects = step(self.region, events.pop(0), self.now, self.config)
            for effect in effects:
                answer = self.carry_out(effect)
                if answer:
                    events.append(answer)
            self.region = region

    def carry_out(self, effect: Effect) -> Event | None:
        if len(self.done) == self.crash_at:
            raise CrashError
        self.done.append(effect)
        match effect:
            case Append(records):
                self.ledger.extend(records)
            case StartRendezvous(generation, members):
                return RendezvousStarted(generation, members, 4000 + generation)
            case MakeCandidate(models):
                return CandidateMade(models[-1])
            case RepeatStep():
                return self.repeat(effect) if self.repeat else StepRepeated(repeated(effect))
            case SealDay(progress):
                return DayStored(progress.model.digest)
        return None

    def say(self, name: str, **changes: Any) -> None:
        before = self.status.get(name) or HospitalStatus(
            region="county", hospital=name, rank="warm", rank_pid=100
        )
        self.status[name] = before.model_copy(update=changes)
        self.send(StatusHeard(self.status[name]))

    def obey(self, name: str) -> None:
        """Do what an edge node does about the region's state."""
        state, own = self.state, self.status.get(name)
        if own is None or not own.online:
            self.say(name, online=True)
        elif own.rank == "joined" and own.generation < state.min_generation:
            self.say(name, rank="warm", rank_pid=own.rank_pid + 1, generation=0)
        elif state.phase == "open" and state.spec and own.round_id != state.spec.round_id:
            self.say(name, **ready(name, state.spec))
        elif state.phase == "ring" and state.plan and state.spec and name in state.plan.members:
            result = make_result(state.spec, state.plan, odd=name in self.odd)
            if own.result != result:
                self.say(name, rank="joined", generation=result.generation, result=result)

    def turn(self) -> None:
        for name in HOSPITALS:
            if name not in self.silent:
                self.obey(name)
        self.send(Tick())
        self.now += 0.5

    def run(self, until: Callable[[World], Any], turns: int = 2000) -> None:
        for _ in range(turns):
            if until(self):
                return
            self.turn()
        raise AssertionError("the coordinator hangs")

    @property
    def phase(self) -> str:
        return self.state.phase

    def kinds(self) -> list[str]:
        return [type(effect).__name__ for effect in self.done]


def ready(name: str, spec: RoundSpec) -> dict[str, Any]:
    return {
        "round_id": spec.round_id,
        "phase": "ready",
        "aggregate_digest": digest(7000 + spec.round_id * 10 + HOSPITALS.index(name)),
        "weight": 5 if spec.purpose == "train" else 0,
        "num_invited": 3,
        "num_stored": 3 if spec.purpose == "train" else 0,
        "num_evaluated": 3,
        "complete": True,
    }


def make_result(spec: RoundSpec, plan: RingPlan, *, odd: bool = False) -> RankResult:
    trained = spec.purpose == "train"
    model = digest(int(spec.base_digest, 16) * 3) if trained else spec.base_digest
    return RankResult(
        round_id=spec.round_id,
        generation=plan.generation,
        sums_digest=digest(9000 + spec.round_id),
        model_digest=digest(666) if odd else model,
        state_digest=spec.state_digest,
        weight=5 * len(plan.members) if trained else 0,
    )


def repeated(effect: RepeatStep, **changes: Any) -> Repeated:
    result = effect.result
    trained = effect.spec.purpose == "train"
    values: dict[str, Any] = {
        "model": {},
        "state": {},
        "model_digest": result.model_digest,
        "state_digest": result.state_digest,
        "sums_digest": result.sums_digest,
        "weight": result.weight,
        "num_updates": 9 if trained else 0,
        "num_evaluated": 9,
        "num_saturated": 0,
        "exponents": {"w": -11} if trained else None,
        "evaluation": {d: {"confusion": [[1, 0], [0, 1]]} for d in effect.spec.evaluate},
    }
    return Repeated(**{**values, **changes})


def finished(world: World) -> bool:
    return world.phase == "finished"


def num_ended(number: int) -> Callable[[World], bool]:
    return lambda world: len(world.ended) >= number


def decide(world: World, decision: str, day: int = 1) -> None:
    header = ReleaseHeader.model_validate(
        {
            "region": "county",
            "day": day,
            "decision": decision,
            "release": "r1" if decision == "released" else "",
            "rule": "why",
            "task": "dummy",
            "sealed_digest": world.region.progress.undecided.get(day, digest(0)),
            "model_digest": digest(77),
        }
    )
    world.send(ReleaseFound(header, made_by_round=3, exponents={"w": -10}))


# A round --------------------------------------------------------------------------------------


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
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "skipped"
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


def test_rings_that_keep_dying_end_in_an_abort_with_the_last_reason() -> None:
    world = World(repeat=lambda _: None, silent=set())
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert "3 rings died" in world.ended[0].outcome.reason
    assert "not in the mailbox" in world.ended[0].outcome.reason


def test_a_differing_digest_aborts_and_names_the_hospital() -> None:
    world = World(odd={"north"})
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert world.ended[0].outcome.reason == "digests differ: north"
    assert world.region.progress.model.digest == digest(1)
    assert world.state.min_generation == 2


def test_the_coordinators_own_repeat_must_agree() -> None:
    def other(effect: RepeatStep) -> Event:
        return StepRepeated(repeated(effect, model_digest=digest(5)))

    world = World(repeat=other)
    world.run(num_ended(1))
    assert world.ended[0].outcome.end == "aborted"
    assert "the ranks' result differs: model_digest" in world.ended[0].outcome.reason


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


# Days -----------------------------------------------------------------------------------------


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
    world.odd = {"west"}
    world.run(lambda w: w.region.progress.sealed)
    sealed = world.region.progress.sealed
    assert sealed is not None
    assert sealed.model_digest == world.ended[0].outcome.model_digest
    assert sealed.reason.startswith("2 rounds in a row failed: digests differ: west")


def test_a_repeated_round_has_a_new_id_and_the_same_base_and_rate() -> None:
    world = World(odd={"west"})
    world.run(num_ended(1))
    world.odd = set()
    world.run(num_ended(2))
    opened = [record.spec for record in world.ledger if isinstance(record, RoundOpened)]
    assert [spec.round_id for spec in opened[:2]] == [1, 2]
    assert opened[0].base_digest == opened[1].base_digest
    assert opened[0].local == opened[1].local


# Restarts -------------------------------------------------------------------------------------


def final_models(world: World) -> Mapping[str, Any]:
    committed = [ended.outcome for ended in world.ended if ended.outcome.end == "committed"]
    return {
        "models": [outcome.model_digest for outcome in committed],
        "purposes": [outcome.purpose for outcome in committed],
        "sealed": world.region.progress.sealed and world.region.progress.sealed.model_digest,
    }


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

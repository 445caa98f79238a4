"""A coordinator with a ledger in memory, hospitals that obey it, and a clock that is a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from common.messages import (
    HospitalStatus,
    LatePlan,
    RankFailure,
    RegionState,
    ReleaseHeader,
    RingPlan,
)
from regional.config import RegionConfig
from regional.coordinator import step
from regional.membership import heard_now
from regional.messages import (
    Append,
    CandidateMade,
    DayStored,
    Effect,
    Event,
    LateMade,
    LateRefused,
    MakeCandidate,
    MakeLate,
    ReleaseFound,
    RendezvousStarted,
    RepeatStep,
    RosterChanged,
    SealDay,
    StartRendezvous,
    StatusHeard,
    StepRepeated,
    Tick,
)
from regional.progress import replay
from regional.records import CycleStarted, HospitalAdmitted, Record, RoundEnded, Started
from regional.region import Region, recovery, restore, state_of
from tests.unit.regional.builders import (
    HOSPITALS,
    SHAPES,
    digest,
    make_config,
    make_result,
    ready,
    repeated,
)

MIN_TOLD = 3  # members of a ring in which each has two neighbours


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
    cold: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    status: dict[str, HospitalStatus] = field(default_factory=dict)
    lag_s: dict[str, float] = field(default_factory=dict)
    link_s: dict[str, float] = field(default_factory=dict)
    late_fault: str = ""
    heard_plans: dict[tuple[int, int], float] = field(default_factory=dict)
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
        self.ledger += [HospitalAdmitted(hospital=name) for name in HOSPITALS]
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
            case StartRendezvous(generation, members, group):
                return RendezvousStarted(generation, members, 4000 + generation, group)
            case MakeCandidate(models):
                return CandidateMade(models[-1])
            case RepeatStep():
                if self.repeat:
                    return self.repeat(effect)
                return StepRepeated(repeated(effect), effect.group)
            case MakeLate(spec, contributions):
                rounds = tuple(each.spec.round_id for each in contributions)
                if self.late_fault:
                    return LateRefused(rounds, self.late_fault)
                name = digest(5000 + spec.round_id)
                path = f"county/ring/{spec.round_id}/late-{name}.safetensors"
                return LateMade(LatePlan(digest=name, path=path, rounds=rounds))
            case SealDay(progress):
                return DayStored(progress.model.digest)
        return None

    def say(self, name: str, **changes: Any) -> None:
        rank: Any = "starting" if name in self.cold else "warm"
        before = self.status.get(name) or HospitalStatus(
            region="county", hospital=name, rank=rank, rank_pid=100
        )
        self.status[name] = before.model_copy(update=changes)
        self.send(StatusHeard(self.status[name]))

    def obey(self, name: str) -> None:
        """Do what an edge node does about the region's state."""
        state, own = self.state.seen_by(name), self.status.get(name)
        if own is None or not own.online:
            self.say(name, online=True)
        elif own.rank == "joined" and own.generation < state.min_generation:
            self.say(name, rank="warm", rank_pid=own.rank_pid + 1, generation=0)
        elif own.min_generation < state.min_generation:
            self.say(name, min_generation=state.min_generation)
        elif state.phase == "open" and state.spec and own.round_id != state.spec.round_id:
            if self.now >= state.spec.opened_at + self.lag_s.get(name, 0.0):
                self.say(name, **ready(name, state.spec))
        elif state.phase == "ring" and state.plan and state.spec and name in state.plan.members:
            result = make_result(state.spec, state.plan, odd=name in self.odd)
            if name in self.failing:
                self.fail(name, result.generation)
            elif own.result != result and self.is_summed(state.plan):
                self.say(
                    name,
                    rank="joined",
                    generation=result.generation,
                    result=result,
                    timings={"read_s": 0.1, **self.send_s(name, state.plan)},
                )

    def is_summed(self, plan: RingPlan) -> bool:
        """Whether the ring is done: it takes as long as its slowest link."""
        since = self.heard_plans.setdefault((plan.generation, plan.round_id), self.now)
        return self.now >= since + max(self.link_s.get(name, 0.0) for name in plan.members)

    def send_s(self, name: str, plan: RingPlan) -> dict[str, float]:
        """How long it took to send to the quicker of two neighbours, where there are two."""
        if len(plan.members) < MIN_TOLD:
            return {}
        return {"send_s": quicker_neighbour_s(name, plan.members, self.link_s)}

    def fail(self, name: str, generation: int) -> None:
        """Lose the rank in a ring; the next is warm with another process id."""
        own = self.status[name]
        if own.failure is None or own.failure.generation != generation:
            failure = RankFailure(
                round_id=own.round_id, generation=generation, reason="broken pipe"
            )
            self.say(name, rank="warm", rank_pid=own.rank_pid + 1, failure=failure)

    def set_clock(self, by_s: float) -> None:
        """Set the wall clock, as the service notices it."""
        self.now += by_s
        statuses = heard_now(self.region.statuses, self.now)
        self.region = restore(self.region.progress, self.now, statuses)

    def operator_writes(self, *records: Record) -> None:
        """What `python -m regional hospitals …` does, as the service notices it."""
        self.ledger.extend(records)
        self.send(RosterChanged(replay(self.ledger)))

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


def quicker_neighbour_s(name: str, members: tuple[str, ...], link_s: Mapping[str, float]) -> float:
    """Connections are as slow as their slower end."""
    place = members.index(name)
    beside = (members[place - 1], members[(place + 1) % len(members)])
    return min(max(link_s.get(name, 0.0), link_s.get(other, 0.0)) for other in beside)


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

"""The steps of one round: collect, form a ring, repeat its step, end.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Literal

from common.messages import RankResult, RingPlan, RoundSpec
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.membership import (
    fit_hospitals,
    has_enough_devices,
    is_awaited,
    is_past_hope,
    is_ready,
)
from regional.messages import (
    Effect,
    PutModels,
    PutOutcome,
    RendezvousStarted,
    RepeatStep,
    StartRendezvous,
    StopRendezvous,
)
from regional.outcomes import committed, not_committed
from regional.progress import Progress, is_excluded, ring_timeout_s
from regional.records import RankExcluded, RingDied, RingPlanned, RoundOpened
from regional.region import Collecting, Forming, Idle, Region, Ringing, Step, record
from regional.ring_plan import (
    can_reuse,
    is_formed,
    lost_member,
    plan_ring,
    results_of,
    warm_members,
    who_differs,
    why_broken,
)

NO_WEIGHT = "the total weight is 0"


def open_round(region: Region, spec: RoundSpec) -> Step:
    """Record the round, so that it is the same one after a restart."""
    region, append = record(region, RoundOpened(spec=spec))
    return region.in_stage(Collecting(not_before=spec.opened_at)), [append]


def collect(region: Region, stage: Collecting, now: float, config: RegionConfig) -> Step:
    """Wait for every awaited hospital to be ready, at most until deadline and grace.

    When the clock was set back to before the opening, the round lasts as long as it was to, from
    then on.
    """
    spec, rounds = open_spec(region), config.rounds
    awaited = [name for name in allowed(region) if _is_awaited(region, name, now, config)]
    ready = [name for name in awaited if is_ready(region.statuses.get(name), spec.round_id)]
    fit = _fit(region, now, config)
    if len(fit) >= rounds.quorum and len(ready) == len(awaited):
        return _to_forming(region, fit, now, config)
    closes_at = min(spec.closes_at, stage.not_before + spec.closes_at - spec.opened_at)
    if now < max(closes_at + rounds.grace_s, stage.not_before + rounds.rejoin_s):
        return region, []
    if len(fit) < rounds.quorum:
        reason = f"{_shortage(region, spec, fit)}; the quorum is {rounds.quorum}"
        return end_round(region, "skipped", reason, now, config)
    return _to_forming(region, fit, now, config)


def form(region: Region, stage: Forming, now: float, config: RegionConfig) -> Step:
    """Use the living ring again, or wait for warm ranks and ask for a rendezvous."""
    living, rounds = region.progress.ring, config.rounds
    fit = _fit(region, now, config)
    expected = (stage.expected | set(fit)) & set(allowed(region))
    hopeful = expected - _past_hope(region, expected, now, config)
    if living is not None:
        if hopeful <= set(fit) and can_reuse(living, hopeful, region.statuses):
            return _use_again(region, living, stage, now, config)
        return bury_ring(region, "a ring of other members is needed")
    warm = warm_members(fit, region.statuses, region.progress.min_generation)
    wanted = hopeful if len(warm) >= rounds.quorum else expected
    if not wanted <= set(warm) and now < stage.since + rounds.rejoin_s:
        return region, []
    if len(warm) < rounds.quorum:
        reason = f"{len(warm)} of {len(expected)} hospitals had a warm rank within rejoin_s"
        return end_round(region, "aborted", _with_fault(reason, stage.last_fault), now, config)
    if _is_weightless(region, warm):
        return end_round(region, "skipped", NO_WEIGHT, now, config)
    return region, [StartRendezvous(region.progress.last_generation + 1, warm)]


def plan(region: Region, event: RendezvousStarted, now: float, config: RegionConfig) -> Step:
    """Put the plan of a new generation out."""
    attempt = region.stage.attempt if isinstance(region.stage, Forming) else 0
    planned = RingPlan(
        round_id=open_spec(region).round_id,
        generation=event.generation,
        members=event.members,
        rendezvous_host=config.rendezvous_host,
        rendezvous_port=event.port,
        interface=config.interface,
        timeout_s=ring_timeout_s(region.progress, config.rounds),
        total_weight=_total_weight(region, event.members),
    )
    return _put_out(region, planned, attempt, now)


def ring(region: Region, stage: Ringing, now: float, config: RegionConfig) -> Step:
    """Watch a ring until all its members have a result, one is lost, or its time is over."""
    living = living_ring(region)
    results = results_of(living, region.statuses)
    overdue = now >= stage.since + living.plan.timeout_s
    if len(results) == len(living.plan.members):
        odd = who_differs(results)
        if odd:
            return _exclude(region, stage, odd, "digests differ", now, config)
        if not overdue:
            return region, [RepeatStep(open_spec(region), next(iter(results.values())))]
    fault = why_broken(
        living, region.statuses, now, config.away_after_s, can_join=not stage.resumed
    )
    if fault or overdue:
        return _try_again(region, stage, fault or _overdue(living, results), now, config)
    if not stage.formed and is_formed(living, region.statuses):
        return region.in_stage(replace(stage, formed=True)), [StopRendezvous()]
    return region, []


def commit(region: Region, repeated: Repeated, now: float, config: RegionConfig) -> Step:
    """Commit on equal digests: the mailbox's files, then the ledger, then ``outcome.json``."""
    living, spec = living_ring(region), open_spec(region)
    differences = {
        member: difference
        for member, result in sorted(results_of(living, region.statuses).items())
        if (difference := repeated.differs_from(result))
    }
    if differences and isinstance(region.stage, Ringing):
        why = f"results differ from the coordinator's: {next(iter(differences.values()))}"
        return _exclude(region, region.stage, tuple(differences), why, now, config)
    stated = sum(living.weights.values())
    if spec.purpose == "train" and repeated.weight != stated:
        reason = f"the sums weigh {repeated.weight}, the hospitals stated {stated}"
        return abort_ring(region, reason, now, config)
    ended = committed(region, living, spec, repeated, now, config)
    region, append = record(region, ended)
    effects: list[Effect] = [StopRendezvous(), PutModels(spec, repeated)]
    effects += [append, PutOutcome(ended.outcome)]
    return region.in_stage(Idle(now + config.rounds.round_pause_s)), effects


def end_round(
    region: Region,
    end: Literal["skipped", "aborted"],
    reason: str,
    now: float,
    config: RegionConfig,
) -> Step:
    """End a round without a commit: model and server state stay."""
    ended = not_committed(region, open_spec(region), end, reason, now)
    region, append = record(region, ended)
    region = region.in_stage(Idle(now + config.rounds.round_pause_s))
    return region, [StopRendezvous(), append, PutOutcome(ended.outcome)]


def abort_ring(region: Region, reason: str, now: float, config: RegionConfig) -> Step:
    """End a round whose ring cannot be believed; its ranks are started anew."""
    buried: list[Effect] = []
    if region.progress.ring is not None:
        region, buried = bury_ring(region, reason)
    region, effects = end_round(region, "aborted", reason, now, config)
    return region, [*buried, *effects]


def bury_ring(region: Region, reason: str) -> Step:
    """Declare the living ring dead."""
    generation = living_ring(region).plan.generation
    region, append = record(region, RingDied(generation=generation, reason=reason))
    return region, [append, StopRendezvous()]


def take_roster(region: Region, progress: Progress, now: float) -> Step:
    """Follow what an operator wrote to the ledger; a ring with a dismissed member is dead."""
    statuses = {n: heard for n, heard in region.statuses.items() if n in progress.hospitals}
    region = replace(region, progress=progress, statuses=statuses)
    members = set(progress.ring.plan.members) if progress.ring else set()
    gone = sorted(members - set(progress.hospitals))
    if not gone:
        return region, []
    reason = f"{', '.join(gone)} left the region"
    stage = region.stage
    region, effects = bury_ring(region, reason)
    if isinstance(stage, Ringing):
        region = region.in_stage(
            Forming(now, stage.attempt, frozenset(members - set(gone)), reason)
        )
    return region, effects


def bury_if_lost(region: Region) -> Step:
    """Declare a ring dead that a member has left, before the next round needs it."""
    living = region.progress.ring
    member = lost_member(living, region.statuses) if living else None
    return bury_ring(region, f"{member} left the ring") if member else (region, [])


def open_spec(region: Region) -> RoundSpec:
    """The open round's spec."""
    spec = region.progress.spec
    if spec is None:
        raise RuntimeError("no round was ever opened")
    return spec


def living_ring(region: Region) -> RingPlanned:
    """The ring that was planned last and is not known to be dead."""
    living = region.progress.ring
    if living is None:
        raise RuntimeError("no ring is alive")
    return living


def _to_forming(region: Region, fit: tuple[str, ...], now: float, config: RegionConfig) -> Step:
    if _is_weightless(region, fit):
        return end_round(region, "skipped", NO_WEIGHT, now, config)
    return region.in_stage(Forming(now, 0, frozenset(fit))), []


def _is_weightless(region: Region, members: tuple[str, ...]) -> bool:
    train = open_spec(region).purpose == "train"
    return train and not any(region.statuses[member].status.weight for member in members)


def _use_again(
    region: Region, living: RingPlanned, stage: Forming, now: float, config: RegionConfig
) -> Step:
    if _is_weightless(region, living.plan.members):
        return end_round(region, "skipped", NO_WEIGHT, now, config)
    changes = {
        "round_id": open_spec(region).round_id,
        "timeout_s": ring_timeout_s(region.progress, config.rounds),
        "total_weight": _total_weight(region, living.plan.members),
    }
    return _put_out(region, living.plan.model_copy(update=changes), stage.attempt, now)


def _total_weight(region: Region, members: Collection[str]) -> int:
    return sum(region.statuses[member].status.weight for member in members)


def allowed(region: Region) -> tuple[str, ...]:
    """Hospitals that may take part in the open round, in name order."""
    progress, round_id = region.progress, open_spec(region).round_id
    return tuple(
        name for name in sorted(progress.hospitals) if not is_excluded(progress, name, round_id)
    )


def _fit(region: Region, now: float, config: RegionConfig) -> tuple[str, ...]:
    fit = fit_hospitals(region.statuses, open_spec(region), now, config.away_after_s)
    return tuple(name for name in fit if name in allowed(region))


def _exclude(
    region: Region, stage: Ringing, odd: tuple[str, ...], why: str, now: float, config: RegionConfig
) -> Step:
    """Form the ring again without ranks that computed something else; abort when all did."""
    members = frozenset(living_ring(region).plan.members)
    named = f"{why}: {', '.join(odd)}"
    if set(odd) == members:
        return abort_ring(region, named, now, config)
    round_id = open_spec(region).round_id
    until = round_id + config.rounds.exclusion_rounds - 1
    excluded = [
        RankExcluded(hospital=name, round_id=round_id, until_round=until, reason=why[:500])
        for name in odd
    ]
    region, append = record(region, *excluded)
    region, effects = bury_ring(region, named[:500])
    if len(members) - len(odd) < config.rounds.quorum:
        region, ending = end_round(region, "aborted", named, now, config)
        return region, [append, *effects, *ending]
    forming = Forming(now, stage.attempt + 1, members - set(odd), named)
    return region.in_stage(forming), [append, *effects]


def _past_hope(
    region: Region, names: Collection[str], now: float, config: RegionConfig
) -> set[str]:
    rejoin_s = config.rounds.rejoin_s
    return {n for n in names if is_past_hope(region.statuses.get(n), now, rejoin_s)}


def _put_out(region: Region, planned: RingPlan, attempt: int, now: float) -> Step:
    region, append = record(region, plan_ring(planned, region.statuses, now))
    return region.in_stage(Ringing(now, attempt)), [append]


def _try_again(
    region: Region, stage: Ringing, reason: str, now: float, config: RegionConfig
) -> Step:
    members = frozenset(living_ring(region).plan.members)
    attempts = stage.attempt + 1
    if attempts >= config.rounds.max_generations:
        return abort_ring(region, f"{attempts} rings died, the last one: {reason}", now, config)
    region, effects = bury_ring(region, reason)
    return region.in_stage(Forming(now, attempts, members, reason)), effects


def _is_awaited(region: Region, name: str, now: float, config: RegionConfig) -> bool:
    return is_awaited(
        region.statuses.get(name),
        region.started_at,
        now,
        config.rounds.rejoin_s,
        config.away_after_s,
    )


def _shortage(region: Region, spec: RoundSpec, fit: tuple[str, ...]) -> str:
    ready = {n: e for n, e in region.statuses.items() if is_ready(e, spec.round_id)}
    few = sorted(name for name in ready if not has_enough_devices(ready[name].status, spec))
    notes = [f"{', '.join(few)} had fewer devices than min_devices"] if few else []
    notes += [f"{n}: {e.status.error[:120]}" for n, e in region.statuses.items() if e.status.error]
    reason = f"{len(fit)} hospitals were ready"
    return f"{reason} ({'; '.join(notes[:3])})" if notes else reason


def _overdue(living: RingPlanned, results: dict[str, RankResult]) -> str:
    silent = sorted(set(living.plan.members) - set(results))
    if not silent:
        return "all results are in but the sums are not in the mailbox"
    return f"no result within timeout_s from {', '.join(silent)}"


def _with_fault(reason: str, fault: str) -> str:
    return f"{reason}; before: {fault}" if fault else reason

"""The steps of a ring that was planned: watch it, believe it, commit, or try again.  Pure."""

from __future__ import annotations

from dataclasses import replace

from common.messages import RankResult
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.endings import abort_ring, bury_ring, end_round, living_ring, open_spec
from regional.messages import Effect, PutModels, PutOutcome, RepeatStep, StopRendezvous
from regional.outcomes import committed, counted_rounds, with_counted
from regional.records import RankExcluded, RingPlanned
from regional.region import Forming, Idle, Region, Ringing, Step, record
from regional.ring_plan import is_formed, results_of, who_differs, why_broken


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
            result = next(iter(results.values()))
            return region, [RepeatStep(open_spec(region), result, living.plan.late)]
    fault = why_broken(
        living, region.statuses, now, config.away_after_s, can_join=not stage.resumed
    )
    if fault or overdue:
        reason = fault or _overdue(living, results)
        return _try_again(region, stage, reason, now, config, overdue=not fault)
    if not stage.formed and is_formed(living, region.statuses):
        return region.in_stage(replace(stage, formed=True)), [StopRendezvous()]
    return region, []


def commit(region: Region, repeated: Repeated, now: float, config: RegionConfig) -> Step:
    """Commit on equal digests: the mailbox's files, then the ledger, then ``outcome.json``.

    The rounds of slow groups whose sums are in the step are committed with it.
    """
    doubted = doubt(region, repeated, now, config)
    if doubted is not None:
        return doubted
    living, spec = living_ring(region), open_spec(region)
    ended = committed(region, living, spec, repeated, now, config)
    late = living.plan.late
    counted = counted_rounds(region, ended, late, now)
    if {each.outcome.round_id for each in counted} != set(late.rounds if late else ()):
        reason = "the step counts slow rounds that wait no more"
        return abort_ring(region, reason, now, config)
    ended = with_counted(ended, counted)
    region, append = record(region, ended, *counted)
    effects: list[Effect] = [StopRendezvous(), PutModels(spec, repeated)]
    effects += [append, *(PutOutcome(each.outcome) for each in (ended, *counted))]
    closed = {each.group: Idle(now) for each in counted}
    region = replace(region, groups={**region.groups, **closed})
    return region.in_stage(Idle(now + config.rounds.round_pause_s)), effects


def form_without(region: Region, rounds: set[int], reason: str, now: float) -> Step:
    """Form the ring anew when it counts slow `rounds`, which have ended otherwise."""
    stage = region.stage
    if isinstance(stage, Forming) and stage.late and rounds & set(stage.late.rounds):
        return region.in_stage(replace(stage, late=None)), []
    if not isinstance(stage, Ringing):
        return region, []
    plan = living_ring(region).plan
    if plan.late is None or not rounds & set(plan.late.rounds):
        return region, []
    region, effects = bury_ring(region, reason)
    members = frozenset(plan.members) & set(region.progress.hospitals)
    return region.in_stage(Forming(now, stage.attempt, members, reason)), effects


def doubt(region: Region, repeated: Repeated, now: float, config: RegionConfig) -> Step | None:
    """What follows when results are not the coordinator's own, or not of what was stated."""
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
    return None


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


def _try_again(
    region: Region,
    stage: Ringing,
    reason: str,
    now: float,
    config: RegionConfig,
    *,
    overdue: bool,
) -> Step:
    members = frozenset(living_ring(region).plan.members)
    attempts = stage.attempt + 1
    if attempts >= config.rounds.max_generations:
        return abort_ring(region, f"{attempts} rings died, the last one: {reason}", now, config)
    region, effects = bury_ring(region, reason, overdue=overdue)
    return region.in_stage(Forming(now, attempts, members, reason)), effects


def _overdue(living: RingPlanned, results: dict[str, RankResult]) -> str:
    silent = sorted(set(living.plan.members) - set(results))
    if not silent:
        return "all results are in but the sums are not in the mailbox"
    return f"no result within timeout_s from {', '.join(silent)}"

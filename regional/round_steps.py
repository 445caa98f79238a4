"""The steps of one round up to its ring: open it, collect, form a ring, plan it.  Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from common.messages import LatePlan, RingPlan, RoundSpec
from regional.config import RegionConfig
from regional.endings import bury_ring, end_round, open_spec
from regional.groups import contributions, is_awaiting_groups
from regional.membership import (
    fit_hospitals,
    has_enough_devices,
    is_awaited,
    is_past_hope,
    is_ready,
)
from regional.messages import MakeLate, RendezvousStarted, StartRendezvous
from regional.progress import is_excluded, ring_timeout_s
from regional.records import RingPlanned, RoundOpened
from regional.region import Collecting, Forming, Region, Ringing, Step, record
from regional.ring_plan import can_reuse, plan_ring, warm_members

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
    awaited = awaited_hospitals(region, now, config)
    ready = [name for name in awaited if is_ready(region.statuses.get(name), spec.round_id)]
    fit = _fit(region, now, config)
    if is_awaiting_groups(region.progress, spec, rounds):
        return region, []
    if len(fit) >= rounds.quorum and len(ready) == len(awaited):
        return _to_forming(region, fit, now, config)
    closes_at = min(spec.closes_at, stage.not_before + spec.closes_at - spec.opened_at)
    until = max(closes_at + rounds.grace_s, stage.not_before + rounds.rejoin_s)
    if len(ready) == len(allowed(region)):  # sums never change: to wait makes no more of them fit
        until = closes_at
    if now < until:
        return region, []
    if len(fit) < rounds.quorum:
        reason = f"{_shortage(region, spec, fit)}; the quorum is {rounds.quorum}"
        return end_round(region, "skipped", reason, now, config)
    return _to_forming(region, fit, now, config)


def form(region: Region, stage: Forming, now: float, config: RegionConfig) -> Step:
    """Use the living ring again, or wait for warm ranks and ask for a rendezvous.

    Before that the sums of slow groups that wait to be counted are made ready.
    """
    if stage.late is None and (waiting := contributions(region.progress)):
        return region, [MakeLate(open_spec(region), waiting)]
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
    forming = region.stage if isinstance(region.stage, Forming) else None
    planned = RingPlan(
        round_id=open_spec(region).round_id,
        generation=event.generation,
        members=event.members,
        rendezvous_host=config.rendezvous_host,
        rendezvous_port=event.port,
        interface=config.interface,
        timeout_s=ring_timeout_s(region.progress, config.rounds),
        total_weight=_total_weight(region, event.members),
        late=forming.late if forming else None,
    )
    return _put_out(region, planned, forming.attempt if forming else 0, now)


def take_late(region: Region, late: LatePlan) -> Step:
    """Count these sums with the ring that is forming."""
    stage = region.stage
    return (
        region.in_stage(replace(stage, late=late)) if isinstance(stage, Forming) else region
    ), []


def allowed(region: Region) -> tuple[str, ...]:
    """Hospitals that may take part in the open round, in name order."""
    progress, round_id = region.progress, open_spec(region).round_id
    grouped = {name for group in progress.groups for name in group}
    return tuple(
        name
        for name in sorted(progress.hospitals)
        if name not in grouped and not is_excluded(progress, name, round_id)
    )


def awaited_hospitals(region: Region, now: float, config: RegionConfig) -> list[str]:
    """Hospitals that the open round waits for."""
    return [name for name in allowed(region) if _is_awaited(region, name, now, config)]


def _to_forming(region: Region, fit: tuple[str, ...], now: float, config: RegionConfig) -> Step:
    if _is_weightless(region, fit):
        return end_round(region, "skipped", NO_WEIGHT, now, config)
    return region.in_stage(Forming(now, 0, frozenset(fit))), []


def _use_again(
    region: Region, living: RingPlanned, stage: Forming, now: float, config: RegionConfig
) -> Step:
    if _is_weightless(region, living.plan.members):
        return end_round(region, "skipped", NO_WEIGHT, now, config)
    changes = {
        "round_id": open_spec(region).round_id,
        "timeout_s": ring_timeout_s(region.progress, config.rounds),
        "total_weight": _total_weight(region, living.plan.members),
        "late": stage.late,
    }
    return _put_out(region, living.plan.model_copy(update=changes), stage.attempt, now)


def _put_out(region: Region, planned: RingPlan, attempt: int, now: float) -> Step:
    region, append = record(region, plan_ring(planned, region.statuses, now))
    return region.in_stage(Ringing(now, attempt)), [append]


def _is_weightless(region: Region, members: tuple[str, ...]) -> bool:
    train = open_spec(region).purpose == "train"
    return train and not any(region.statuses[member].status.weight for member in members)


def _total_weight(region: Region, members: Collection[str]) -> int:
    return sum(region.statuses[member].status.weight for member in members)


def _fit(region: Region, now: float, config: RegionConfig) -> tuple[str, ...]:
    may = set(allowed(region))
    fit = fit_hospitals(region.statuses, open_spec(region), now, config.away_after_s)
    return tuple(name for name in fit if name in may)


def _past_hope(
    region: Region, names: Collection[str], now: float, config: RegionConfig
) -> set[str]:
    rejoin_s = config.rounds.rejoin_s
    return {n for n in names if is_past_hope(region.statuses.get(n), now, rejoin_s)}


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


def _with_fault(reason: str, fault: str) -> str:
    return f"{reason}; before: {fault}" if fault else reason

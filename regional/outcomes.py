"""How a round ended, as the ledger records it and the region tells it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from common.fold import FRESH, late_factor
from common.messages import LatePlan, RoundOutcome, RoundSpec
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.learning import form_after, form_of
from regional.membership import Statuses, lags, round_counts
from regional.progress import GroupProgress, Progress, is_excluded
from regional.records import RingPlanned, RingSummed, RoundEnded
from regional.region import Region


def committed(
    region: Region,
    ring: RingPlanned,
    spec: RoundSpec,
    repeated: Repeated,
    now: float,
    config: RegionConfig,
) -> RoundEnded:
    """The commit of a round: what `ring` summed and what came of it."""
    members = ring.plan.members
    outcome = RoundOutcome(
        region=spec.region,
        day=spec.day,
        round_id=spec.round_id,
        purpose=spec.purpose,
        end="committed",
        reason=_commit_reason(region.progress, spec.round_id, members),
        base_digest=spec.base_digest,
        model_digest=repeated.model_digest,
        state_digest=repeated.state_digest,
        sums_digest=repeated.sums_digest,
        generation=ring.plan.generation,
        aggregates=ring.aggregates,
        complete=_is_complete(region, members),
        seconds=max(0.0, now - spec.opened_at),
        **round_counts(region.statuses, spec.round_id),
    )
    trained = repeated.exponents is not None
    form = form_after(config.learning, region.progress.num_trained + 1)
    if not trained:
        form = form_of(spec.fixed_point)
    return RoundEnded(
        outcome=outcome,
        learning_rate=spec.local.learning_rate,
        opened_at=spec.opened_at,
        ring_seconds=max(0.0, now - ring.planned_at),
        num_updates=repeated.num_updates,
        num_evaluated=repeated.num_evaluations,
        num_saturated=repeated.num_saturated,
        hospitals=ring.num_stored if spec.purpose == "train" else {},
        evaluation=repeated.evaluation,
        exponents=repeated.exponents,
        next_bits=form.bits,
        next_parts=form.parts,
        next_order=form.order,
        lags=lags(region.statuses, members, spec.opened_at),
        timings=timings_of(region.statuses, members),
    )


def summed(region: Region, ring: RingPlanned, repeated: Repeated, now: float) -> RingSummed:
    """The sums of a slow group's ring, which wait to be counted."""
    members = ring.plan.members
    opened_at = region.progress.spec.opened_at if region.progress.spec else now
    return RingSummed(
        group=tuple(sorted(region.progress.hospitals)),
        round_id=ring.plan.round_id,
        sums_digest=repeated.sums_digest,
        ring_seconds=max(0.0, now - ring.planned_at),
        num_updates=repeated.num_updates,
        num_evaluated=repeated.num_evaluations,
        num_saturated=repeated.num_saturated,
        evaluation=repeated.evaluation,
        complete=_is_complete(region, members),
        lags=lags(region.statuses, members, opened_at),
        timings=timings_of(region.statuses, members),
    )


def counted_rounds(
    region: Region, ended: RoundEnded, late: LatePlan | None, now: float
) -> tuple[RoundEnded, ...]:
    """The ends of the slow groups' rounds whose sums were in the step that `ended` a round."""
    rounds = late.rounds if late else ()
    return tuple(
        _counted(region, group, own, own.summed, ended, now)
        for group, own in sorted(region.progress.groups.items())
        if own.summed is not None and own.summed.round_id in rounds
    )


def with_counted(ended: RoundEnded, counted: Sequence[RoundEnded]) -> RoundEnded:
    """The commit of a round with what slow groups' rounds added to it."""
    if not counted:
        return ended
    notes = [each.outcome.reason for each in counted]
    reason = "; ".join([ended.outcome.reason, *notes])[:500]
    hospitals = dict(ended.hospitals)
    for each in counted:
        for name, num in each.hospitals.items():
            hospitals[name] = hospitals.get(name, 0) + num
    changes = {
        "outcome": ended.outcome.model_copy(update={"reason": reason}),
        "hospitals": hospitals,
        "num_updates": ended.num_updates + sum(each.num_updates for each in counted),
        "num_saturated": ended.num_saturated + sum(each.num_saturated for each in counted),
    }
    return ended.model_copy(update=changes)


def timings_of(statuses: Statuses, members: Sequence[str]) -> dict[str, dict[str, float]]:
    """What each member's rank measured of its work."""
    return {name: dict(statuses[name].status.timings) for name in members if name in statuses}


def _counted(
    region: Region,
    group: tuple[str, ...],
    own: GroupProgress,
    sums: RingSummed,
    ended: RoundEnded,
    now: float,
) -> RoundEnded:
    if own.spec is None or own.summed_by is None:
        raise RuntimeError("a summed group has neither round nor ring")
    spec, ring, into = own.spec, own.summed_by, ended.outcome
    age = region.progress.num_trained - own.base_trained
    share = f"{late_factor(age)}/{FRESH}" if age else "whole"
    outcome = RoundOutcome(
        region=spec.region,
        day=spec.day,
        round_id=spec.round_id,
        end="committed",
        reason=f"round {spec.round_id} of {', '.join(group)} counted in round {into.round_id}, "
        f"{age} commits after its base, {share}"[:500],
        base_digest=spec.base_digest,
        model_digest=into.model_digest,
        state_digest=into.state_digest,
        sums_digest=sums.sums_digest,
        generation=ring.plan.generation,
        aggregates=ring.aggregates,
        group=group,
        complete=False,
        seconds=max(0.0, now - spec.opened_at),
        **round_counts(region.statuses, spec.round_id),
    )
    return RoundEnded(
        outcome=outcome,
        group=group,
        learning_rate=spec.local.learning_rate,
        opened_at=spec.opened_at,
        ring_seconds=sums.ring_seconds,
        num_updates=sums.num_updates,
        num_evaluated=sums.num_evaluated,
        num_saturated=sums.num_saturated,
        hospitals=ring.num_stored,
        evaluation=sums.evaluation,
        next_bits=spec.fixed_point.bits,
        next_parts=spec.fixed_point.parts,
        next_order=spec.fixed_point.order,
        lags=sums.lags,
        timings=sums.timings,
    )


def not_committed(
    region: Region,
    spec: RoundSpec,
    end: Literal["skipped", "aborted"],
    reason: str,
    now: float,
) -> RoundEnded:
    """The end of a round that leaves model and server state as they were."""
    outcome = RoundOutcome(
        region=spec.region,
        day=spec.day,
        round_id=spec.round_id,
        purpose=spec.purpose,
        end=end,
        reason=reason[:500],
        base_digest=spec.base_digest,
        model_digest=spec.base_digest,
        state_digest=spec.state_digest,
        generation=region.progress.last_generation if end == "aborted" else 0,
        complete=False,
        seconds=max(0.0, now - spec.opened_at),
        **round_counts(region.statuses, spec.round_id),
    )
    return RoundEnded(
        outcome=outcome, learning_rate=spec.local.learning_rate, opened_at=spec.opened_at
    )


def _commit_reason(progress: Progress, round_id: int, members: tuple[str, ...]) -> str:
    missing = sorted(set(progress.hospitals) - set(members))
    named = [_why_missing(progress, name, round_id) for name in missing]
    return f"without {', '.join(named)}"[:500] if named else "all hospitals took part"


def _why_missing(progress: Progress, name: str, round_id: int) -> str:
    if any(name in group for group in progress.groups):
        return f"{name} (slow: in rounds of its own)"
    if not is_excluded(progress, name, round_id):
        return name
    exclusion = progress.excluded[name]
    return f"{name} (excluded up to round {exclusion.until_round}: {exclusion.reason[:80]})"


def _is_complete(region: Region, members: tuple[str, ...]) -> bool:
    said = [region.statuses[m].status.complete for m in members if m in region.statuses]
    everyone = set(members) == set(region.progress.hospitals)
    return everyone and len(said) == len(members) and all(said)

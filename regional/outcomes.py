"""How a round ended, as the ledger records it and the region tells it: pure."""

from __future__ import annotations

from typing import Literal

from common.messages import RoundOutcome, RoundSpec
from regional.commit import Repeated
from regional.config import RegionConfig
from regional.membership import round_counts
from regional.progress import Progress, is_excluded
from regional.records import RingPlanned, RoundEnded
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
        next_bits=config.learning.bits if trained else spec.fixed_point.bits,
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
    if not is_excluded(progress, name, round_id):
        return name
    exclusion = progress.excluded[name]
    return f"{name} (excluded up to round {exclusion.until_round}: {exclusion.reason[:80]})"


def _is_complete(region: Region, members: tuple[str, ...]) -> bool:
    said = [region.statuses[m].status.complete for m in members if m in region.statuses]
    everyone = set(members) == set(region.progress.hospitals)
    return everyone and len(said) == len(members) and all(said)

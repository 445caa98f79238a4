"""Who forms a ring, whether a living one is used again, and when one is dead: pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from common.messages import HospitalStatus, RankResult, RingPlan
from regional.membership import Statuses, is_present
from regional.records import RingPlanned


def is_joined(statuses: Statuses, member: str, generation: int) -> bool:
    """Whether the member's rank says that it is in the ring of that generation."""
    entry = statuses.get(member)
    return (
        entry is not None
        and entry.status.online
        and entry.status.rank == "joined"
        and entry.status.generation == generation
    )


def is_formed(ring: RingPlanned, statuses: Statuses) -> bool:
    """Whether every member has joined, so that the rendezvous is needed no more."""
    return all(is_joined(statuses, member, ring.plan.generation) for member in ring.plan.members)


def can_reuse(ring: RingPlanned, members: Collection[str], statuses: Statuses) -> bool:
    """Whether a living ring has just these members, all of them still in it."""
    return set(ring.plan.members) == set(members) and is_formed(ring, statuses)


def lost_member(ring: RingPlanned, statuses: Statuses) -> str | None:
    """Name the first member that has left a formed ring; unheard members are not known to have."""
    heard = (member for member in ring.plan.members if member in statuses)
    generation = ring.plan.generation
    return next((member for member in heard if not is_joined(statuses, member, generation)), None)


def warm_members(
    hospitals: Sequence[str], statuses: Statuses, min_generation: int
) -> tuple[str, ...]:
    """Those of `hospitals` whose rank waits for a plan, in their order.

    A rank that was warm before the last ring died may be about to be killed with it: only what was
    said since counts.
    """
    said = {name: statuses[name].status for name in hospitals if name in statuses}
    return tuple(
        name
        for name, status in said.items()
        if status.rank == "warm" and status.min_generation >= min_generation
    )


def plan_ring(plan: RingPlan, statuses: Statuses, now: float) -> RingPlanned:
    """Record what the members of `plan` hold at this moment."""
    said = {member: statuses[member].status for member in plan.members}
    return RingPlanned(
        plan=plan,
        pids={member: status.rank_pid for member, status in said.items()},
        aggregates={m: status.aggregate_digest for m, status in said.items() if _has(status)},
        weights={member: status.weight for member, status in said.items()},
        num_stored={member: status.num_stored for member, status in said.items()},
        planned_at=now,
    )


def results_of(ring: RingPlanned, statuses: Statuses) -> dict[str, RankResult]:
    """Results that members have reported for just this plan."""
    plan = ring.plan
    found = {}
    for member in plan.members:
        result = statuses[member].status.result if member in statuses else None
        if result and (result.round_id, result.generation) == (plan.round_id, plan.generation):
            found[member] = result
    return found


def who_differs(results: dict[str, RankResult]) -> tuple[str, ...]:
    """Members whose sums are not those of most; all of them when no sums are held by most.

    What a rank makes of its sums is for the coordinator's own step to judge.
    """
    sums = {
        member: (r.sums_digest, r.weight, r.num_updates, r.num_evaluations, r.num_saturated)
        for member, r in sorted(results.items())
    }
    ranked = Counter(sums.values()).most_common()
    if len(ranked) == 1:
        return ()
    tied = ranked[0][1] == ranked[1][1]
    return tuple(member for member, own in sums.items() if tied or own != ranked[0][0])


def why_broken(
    ring: RingPlanned,
    statuses: Statuses,
    now: float,
    away_after_s: float,
    *,
    can_join: bool = True,
) -> str | None:
    """Name the first member without a result that can give none any more, and why.

    Parameters
    ----------
    can_join : bool
        Whether the ring's rendezvous may still be there for members that have not joined.
    """
    done = results_of(ring, statuses)
    for member in ring.plan.members:
        if member in done or member not in statuses:
            continue
        if not is_present(statuses[member], now, away_after_s):
            return f"{member} is away"
        fault = _rank_fault(statuses[member].status, ring)
        if fault:
            return f"{member}: {fault}"
        if not can_join and not is_joined(statuses, member, ring.plan.generation):
            return f"{member} had not joined when the coordinator started again"
    return None


def _rank_fault(status: HospitalStatus, ring: RingPlanned) -> str | None:
    plan, failure = ring.plan, status.failure
    if failure and (failure.round_id, failure.generation) == (plan.round_id, plan.generation):
        return failure.reason or "its rank failed"
    if status.rank in ("lost", "starting"):
        return "its rank was lost"
    if status.rank_pid != ring.pids[status.hospital]:
        return "its rank was started again"
    return None


def _has(status: HospitalStatus) -> bool:
    return status.aggregate_digest is not None

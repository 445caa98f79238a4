"""How a ring or a round ends without a commit, and what the open round is.  Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from common.messages import RoundSpec
from regional.config import RegionConfig
from regional.messages import Effect, PutOutcome, StopRendezvous
from regional.outcomes import not_committed
from regional.progress import Progress
from regional.records import RingDied, RingPlanned
from regional.region import Forming, Idle, Region, Ringing, Step, record
from regional.ring_plan import lost_member


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


def bury_ring(region: Region, reason: str, *, overdue: bool = False) -> Step:
    """Declare the living ring dead; after one that was overdue the next has all the time again."""
    generation = living_ring(region).plan.generation
    died = RingDied(generation=generation, reason=reason, overdue=overdue)
    region, append = record(region, died)
    return region, [append, StopRendezvous()]


def bury_if_spent(region: Region, now: float, config: RegionConfig) -> Step:
    """Declare a ring dead that a member has left, or that no round has used for `ring_idle_s`.

    Horovod's ranks talk to each other in every cycle as long as their ring lives: some 6 GB a day
    each way and rank at 5 ms.
    """
    living, idle_s = region.progress.ring, config.rounds.ring_idle_s
    if living is None:
        return region, []
    if member := lost_member(living, region.statuses):
        return bury_ring(region, f"{member} left the ring")
    if not isinstance(region.stage, Forming) and now - living.planned_at > idle_s:
        return bury_ring(region, f"no round used it for {idle_s:g} s")
    return region, []


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

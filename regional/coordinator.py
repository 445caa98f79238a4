"""The coordinator's state machine: pure; an event and the time in, a region and effects out.

The caller carries out the effects in their order and only then publishes the region's state.  When
one fails, or the process dies between two of them, `restore` from the ledger goes on rightly: an
effect may be carried out twice, the ledger's record is what counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from regional.config import RegionConfig
from regional.endings import abort_ring, bury_if_spent, take_roster
from regional.group_steps import abort_groups, hear, open_groups, refuse_late, tick_groups
from regional.groups import disband, regroup
from regional.learning import round_spec
from regional.membership import heard
from regional.messages import (
    CandidateMade,
    DayStored,
    Event,
    LateMade,
    LateRefused,
    MakeCandidate,
    ReleaseFound,
    RendezvousStarted,
    RosterChanged,
    SealDay,
    StatusHeard,
    StepRefused,
    StepRepeated,
    Tick,
)
from regional.progress import Progress, Stored, next_work
from regional.records import (
    CycleStarted,
    DayOpened,
    DaySealed,
    Record,
    ReleaseDecided,
)
from regional.region import (
    Collecting,
    Forming,
    Idle,
    Region,
    Ringing,
    Sealing,
    Step,
    Summed,
    Waiting,
    record,
)
from regional.ring_steps import commit, form_without, ring
from regional.round_steps import collect, form, open_round, plan, take_late


def step(region: Region, event: Event, now: float, config: RegionConfig) -> Step:
    """Act on one event.

    Parameters
    ----------
    now : float
        Seconds since the epoch.

    Returns
    -------
    region : Region
        Valid once all effects have been carried out.
    effects : list of Effect
        In the order in which they must happen.
    """
    match event:
        case Tick():
            region, effects = _tick(region, now, config)
            region, of_groups = tick_groups(region, now, config)
            return region, [*effects, *of_groups]
        case StatusHeard(status) if status.hospital not in region.progress.hospitals:
            return region, []
        case StatusHeard(status):
            return replace(region, statuses=heard(region.statuses, status, now)), []
        case RosterChanged(progress):
            return _take_roster(region, progress, now, config)
        case CandidateMade(stored):
            return _open_evaluation(region, stored, now, config)
        case RendezvousStarted() | StepRepeated() | StepRefused() if event.group:
            return hear(region, event, now, config)
        case RendezvousStarted():
            return plan(region, event, now, config)
        case StepRepeated(repeated):
            return commit(region, repeated, now, config)
        case StepRefused(reason):
            return abort_ring(region, reason, now, config)
        case LateMade(late):
            return take_late(region, late)
        case LateRefused():
            return refuse_late(region, event, now, config)
        case DayStored(digest):
            return _close_day(region, digest, _why_day_ended(region.progress), now)
        case ReleaseFound():
            return _take_decision(region, event)
    assert_never(event)


def candidate_models(progress: Progress, mean_of: int) -> tuple[Stored, ...]:
    """The models whose mean the day seals: the last committed ones of the cycle."""
    return progress.cycle_models[-mean_of:]


def _tick(region: Region, now: float, config: RegionConfig) -> Step:
    if not isinstance(region.stage, Ringing):
        region, effects = bury_if_spent(region, now, config)
        if effects:
            return region, effects
    match region.stage:
        case Idle(until):
            return _begin(region, now, config) if now >= until else (region, [])
        case Collecting() as stage:
            return collect(region, stage, now, config)
        case Forming() as stage:
            return form(region, stage, now, config)
        case Ringing() as stage:
            return ring(region, stage, now, config)
        case Sealing():
            return region, [SealDay(region.progress)]
        case Summed():
            raise RuntimeError("only a group's sums wait to be counted")
        case Waiting(since):
            return _wait(region, since, now, config)
    assert_never(region.stage)


def _begin(region: Region, now: float, config: RegionConfig) -> Step:
    progress = region.progress
    work = next_work(progress, config.rounds)
    if work == "train":
        return _open_training(region, now, config)
    if progress.groups:
        return _together(region, now, config)
    match work:
        case "evaluate":
            models = candidate_models(progress, config.seal.mean_of)
            return region, [MakeCandidate(models, progress.last_round)]
        case "seal":
            return region.in_stage(Sealing()), []
        case "close_unsealed":
            return _close_day(region, None, _why_day_ended(progress), now)
        case "wait":
            return region.in_stage(Waiting(now)), []


def _open_training(region: Region, now: float, config: RegionConfig) -> Step:
    """Open the next training round, and one for each slow group that is free."""
    region, effects = regroup(region, config)
    region, of_groups = open_groups(region, now, config)
    progress = region.progress
    spec = round_spec(config, progress, "train", [progress.model], now)
    region, opened = open_round(region, spec)
    return region, [*effects, *of_groups, *opened]


def _together(region: Region, now: float, config: RegionConfig) -> Step:
    """End what slow groups have open when a day's training is over; all are one again."""
    region, effects = abort_groups(region, "the day's training is over", now, config)
    region, planned = disband(region, "the day's training is over")
    return region, [*effects, *planned]


def _take_roster(region: Region, progress: Progress, now: float, config: RegionConfig) -> Step:
    """Follow the roster; the round of a slow group that a hospital has left ends."""
    region, effects = take_roster(region, progress, now)
    gone = {name for group in progress.groups for name in group} - set(progress.hospitals)
    left = [own for group, own in progress.groups.items() if gone & set(group)]
    rounds = {own.spec.round_id for own in left if own.is_open and own.spec}
    if not rounds:
        return region, effects
    reason = f"{', '.join(sorted(gone))} left the region"
    region, aborted = abort_groups(region, reason, now, config, rounds)
    region, formed = form_without(region, rounds, reason, now)
    return region, [*effects, *aborted, *formed]


def _open_evaluation(region: Region, candidate: Stored, now: float, config: RegionConfig) -> Step:
    serving = region.progress.in_service
    models = [candidate]
    if serving is not None and serving.model_digest != candidate.digest:
        models.append(Stored(serving.model_digest, serving.made_by_round))
    return open_round(region, round_spec(config, region.progress, "evaluate", models, now))


def _close_day(region: Region, digest: str | None, reason: str, now: float) -> Step:
    sealed = DaySealed(
        day=region.progress.day, model_digest=digest, reason=reason[:500], sealed_at=now
    )
    region, append = record(region, sealed)
    return region.in_stage(Waiting(now)), [append]


def _why_day_ended(progress: Progress) -> str:
    if not progress.num_failed or progress.outcome is None:
        asked = progress.closing
        return f"an operator asked for it: {asked.reason}" if asked else "its rounds are done"
    kept = f"{len(progress.trained)} training rounds were committed"
    return f"{progress.num_failed} rounds in a row failed: {progress.outcome.reason}; {kept}"


def _wait(region: Region, since: float, now: float, config: RegionConfig) -> Step:
    progress = region.progress
    sealed = progress.sealed
    if sealed is None:
        return region.in_stage(Idle(now)), []
    if config.rounds.is_last(progress.day):
        return region, []
    # `since` is the earlier one when the clock was set back after the seal.
    waited_s = now - min(sealed.sealed_at, since)
    reason = _why_wait_is_over(progress, sealed, waited_s, config.seal.wait_for_release_s)
    if not reason:
        return region, []
    region, append = record(region, DayOpened(day=progress.day + 1, reason=reason))
    return region.in_stage(Idle(now)), [append]


def _why_wait_is_over(progress: Progress, sealed: DaySealed, waited_s: float, wait_s: float) -> str:
    if progress.decision is not None:
        return f"{progress.decision.decision} {progress.decision.release}".strip()
    if sealed.model_digest is None:
        return "the day before was not sealed"
    if wait_s == 0:
        return "no release is waited for"
    return "no decision came in time" if waited_s >= wait_s else ""


def _take_decision(region: Region, found: ReleaseFound) -> Step:
    """Record a decision; a released model of the day just sealed is the base of a new cycle."""
    progress, header = region.progress, found.header
    if header.day not in progress.undecided:
        return region, []
    released = header.decision == "released"
    adopted = released and progress.sealed is not None and header.day == progress.day
    records: list[Record] = [
        ReleaseDecided(
            day=header.day,
            decision=header.decision,
            release=header.release,
            rule=header.rule,
            model_digest=header.model_digest,
            made_by_round=found.made_by_round,
            adopted=adopted,
        )
    ]
    if adopted:
        records.append(
            CycleStarted(
                cycle=progress.cycle + 1,
                task=progress.task,
                model_digest=header.model_digest,
                made_by_round=found.made_by_round,
                exponents=found.exponents,
                evaluation_shapes=dict(progress.evaluation_shapes),
            )
        )
    region, append = record(region, *records)
    return region, [append]

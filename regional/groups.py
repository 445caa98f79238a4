"""Slow groups: hospitals with rounds and rings of their own, beside those of all others.  Pure.

A group's round runs through the same steps as the region's, on a `Region` that shows the group
alone.  What these steps record is marked with the group; its sums then wait until a round of the
others counts them, and only that commit ends the group's round.
"""

from __future__ import annotations

from dataclasses import replace

from common.messages import RoundSpec
from regional.config import RegionConfig, RoundsConfig
from regional.late import Contribution
from regional.messages import (
    Append,
    Effect,
    PutOutcome,
    RepeatStep,
    StartRendezvous,
    StopRendezvous,
)
from regional.pace import Limits, round_seconds, slow_groups
from regional.progress import Progress, after
from regional.records import (
    Group,
    GroupsPlanned,
    Record,
    RingDied,
    RingPlanned,
    RoundEnded,
    RoundOpened,
)
from regional.region import Idle, Region, Step, record


def seen_by(region: Region, group: Group) -> Region:
    """The region as if it were this group only."""
    progress, own = region.progress, region.progress.groups[group]
    alone = replace(
        progress,
        hospitals={name: progress.hospitals.get(name, "") for name in group},
        spec=own.spec,
        is_open=own.is_open,
        ring=own.ring,
        min_generation=own.min_generation,
        ring_seconds=own.ring_seconds,
        outcome=own.outcome,
        groups={},
    )
    return Region(alone, region.groups[group], region.started_at, region.statuses)


def rules_of(config: RegionConfig, group: Group) -> RegionConfig:
    """The configuration for a group's rounds: its quorum is at most itself."""
    quorum = min(config.rounds.quorum, len(group))
    rounds = config.rounds.model_copy(update={"quorum": quorum})
    return config.model_copy(update={"rounds": rounds})


def absorbed(region: Region, group: Group, seen: Region, effects: list[Effect]) -> Step:
    """Take what happened to the group alone into the region, marked as the group's."""
    marked = [_marked(effect, group) for effect in effects]
    progress = region.progress
    for effect in marked:
        for each in effect.records if isinstance(effect, Append) else ():
            progress = after(progress, each)
    groups = {**region.groups, group: seen.stage}
    return replace(region, progress=progress, groups=groups), marked


def contributions(progress: Progress) -> tuple[Contribution, ...]:
    """The sums that wait to be counted, in the order of their rounds."""
    waiting = [
        Contribution(own.spec, own.summed.sums_digest, progress.num_trained - own.base_trained)
        for own in progress.groups.values()
        if own.summed is not None and own.spec is not None
    ]
    is_training = progress.spec is not None and progress.spec.purpose == "train"
    return tuple(sorted(waiting, key=lambda c: c.spec.round_id)) if is_training else ()


def is_last_of_day(progress: Progress, rounds: RoundsConfig) -> bool:
    """Whether the next committed training round is the day's last: no group stays behind it."""
    is_last = len(progress.trained) + 1 >= rounds.num_rounds(progress.day)
    return is_last or progress.closing is not None


def is_awaiting_groups(progress: Progress, spec: RoundSpec, rounds: RoundsConfig) -> bool:
    """Whether the day's last training round waits for a group's sums; each group's wait ends."""
    if spec.purpose != "train" or not is_last_of_day(progress, rounds):
        return False
    return any(own.is_open and own.summed is None for own in progress.groups.values())


def regroup(region: Region, config: RegionConfig) -> Step:
    """Plan the groups of the rounds that open next; a group whose round is open stays."""
    progress = region.progress
    busy = tuple(sorted(group for group, own in progress.groups.items() if own.is_open))
    taken = {name for group in busy for name in group}
    seconds = round_seconds(progress.paces, config.groups.min_gain_s)
    seconds = {n: s for n, s in seconds.items() if n in progress.hospitals}
    wanted: tuple[Group, ...] = ()
    if config.groups.enabled and not is_last_of_day(progress, config.rounds):
        wanted = _wanted(progress, seconds, config)
    kept = tuple(group for group in wanted if not taken & set(group))
    planned = tuple(sorted({*busy, *kept}))
    num_others = len(progress.hospitals) - sum(len(group) for group in planned)
    if num_others < config.rounds.quorum:
        planned = busy
    if set(planned) == set(progress.groups):
        return region, []
    return _plan(region, planned, _why(planned, seconds), seconds)


def disband(region: Region, reason: str) -> Step:
    """Let all hospitals be together again; groups have no open round."""
    return _plan(region, (), reason, {}) if region.progress.groups else (region, [])


def _wanted(
    progress: Progress, seconds: dict[str, float], config: RegionConfig
) -> tuple[Group, ...]:
    already = {name for group in progress.groups for name in group}
    limits = Limits(config.groups.slow_factor, config.groups.min_gain_s)
    return slow_groups(seconds, already, limits, config.groups.min_hospitals)


def _plan(
    region: Region, planned: tuple[Group, ...], reason: str, seconds: dict[str, float]
) -> Step:
    rounded = {name: round(value, 3) for name, value in seconds.items()}
    region, append = record(
        region, GroupsPlanned(groups=planned, reason=reason[:500], seconds=rounded)
    )
    stages = {group: region.groups.get(group, Idle(0.0)) for group in planned}
    return replace(region, groups=stages), [append]


def _why(planned: tuple[Group, ...], seconds: dict[str, float]) -> str:
    if not planned:
        return "all hospitals are together"
    told = [
        ", ".join(f"{name} ({seconds[name]:.1f} s)" if name in seconds else name for name in group)
        for group in planned
    ]
    return "slow: " + "; ".join(told)


def _marked(effect: Effect, group: Group) -> Effect:
    match effect:
        case Append(records):
            return Append(tuple(_of_group(each, group) for each in records))
        case PutOutcome(outcome):
            return PutOutcome(outcome.model_copy(update={"group": group}))
        case StartRendezvous() | StopRendezvous() | RepeatStep():
            return replace(effect, group=group)
    return effect


def _of_group(each: Record, group: Group) -> Record:
    if isinstance(each, RoundEnded):
        outcome = each.outcome.model_copy(update={"group": group})
        return each.model_copy(update={"group": group, "outcome": outcome})
    if isinstance(each, RoundOpened | RingPlanned | RingDied):
        return each.model_copy(update={"group": group})
    return each

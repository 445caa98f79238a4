"""The steps of slow groups' rounds, by those of the region's own.  Pure."""

from __future__ import annotations

from common.messages import RoundSpec
from regional.config import RegionConfig
from regional.endings import abort_ring, bury_if_spent, end_round, living_ring
from regional.groups import absorbed, rules_of, seen_by
from regional.learning import round_spec
from regional.membership import is_present
from regional.messages import (
    Effect,
    LateRefused,
    RendezvousStarted,
    StepRefused,
    StepRepeated,
    StopRendezvous,
)
from regional.outcomes import summed
from regional.region import Collecting, Forming, Region, Ringing, Step, Summed, record
from regional.ring_steps import doubt, ring
from regional.round_steps import awaited_hospitals, collect, form, open_round, plan


def tick_groups(region: Region, now: float, config: RegionConfig) -> Step:
    """Let time act on each group."""
    effects: list[Effect] = []
    for group in sorted(region.progress.groups):
        seen, done = _tick(seen_by(region, group), now, rules_of(config, group))
        region, marked = absorbed(region, group, seen, done)
        effects += marked
    return region, effects


def open_groups(region: Region, now: float, config: RegionConfig) -> Step:
    """Open a round for each group that has none, from the region's model as it is."""
    effects: list[Effect] = []
    for group, own in sorted(region.progress.groups.items()):
        if own.is_open or not any(
            is_present(region.statuses.get(n), now, config.away_after_s) for n in group
        ):
            continue
        spec = round_spec(config, region.progress, "train", [region.progress.model], now)
        seen, opened = open_round(seen_by(region, group), spec)
        region, marked = absorbed(region, group, seen, opened)
        effects += marked
    return region, effects


def hear(
    region: Region,
    event: RendezvousStarted | StepRepeated | StepRefused,
    now: float,
    config: RegionConfig,
) -> Step:
    """Act on an answer to what a group's step asked for; one that is no more is past."""
    group = event.group
    if group not in region.progress.groups or not region.progress.groups[group].is_open:
        return region, []
    seen, rules = seen_by(region, group), rules_of(config, group)
    match event:
        case RendezvousStarted():
            seen, effects = plan(seen, event, now, rules)
        case StepRepeated(repeated):
            doubted = doubt(seen, repeated, now, rules)
            seen, effects = doubted if doubted is not None else _take_sums(seen, event, now)
        case StepRefused(reason):
            seen, effects = abort_ring(seen, reason, now, rules)
    return absorbed(region, group, seen, effects)


def refuse_late(region: Region, event: LateRefused, now: float, config: RegionConfig) -> Step:
    """End groups' rounds whose sums cannot be counted, so that no other round waits for them."""
    return abort_groups(region, event.reason, now, config, set(event.rounds))


def abort_groups(
    region: Region,
    reason: str,
    now: float,
    config: RegionConfig,
    rounds: set[int] | None = None,
) -> Step:
    """End the open rounds of groups, of all or of those `rounds`."""
    effects: list[Effect] = []
    for group, own in sorted(region.progress.groups.items()):
        if not own.is_open or not _is_of(own.spec, rounds):
            continue
        rules = rules_of(config, group)
        seen, ended = end_round(seen_by(region, group), "aborted", reason, now, rules)
        region, marked = absorbed(region, group, seen, ended)
        effects += marked
    return region, effects


def _tick(seen: Region, now: float, config: RegionConfig) -> Step:
    match seen.stage:
        case Ringing() as stage:
            return ring(seen, stage, now, config)
        case Summed():
            return seen, []  # what it gave is safe: whoever is lost now is missed in the next round
    seen, buried = bury_if_spent(seen, now, config)
    return (seen, buried) if buried else _await(seen, now, config)


def _await(seen: Region, now: float, config: RegionConfig) -> Step:
    match seen.stage:
        case Collecting() as stage if _is_deserted(seen, stage, now, config):
            reason = "no hospital of the group is there"
            return end_round(seen, "skipped", reason, now, config)
        case Collecting() as stage:
            return collect(seen, stage, now, config)
        case Forming() as stage:
            return form(seen, stage, now, config)
    return seen, []


def _is_deserted(seen: Region, stage: Collecting, now: float, config: RegionConfig) -> bool:
    waited = now >= stage.not_before + config.rounds.rejoin_s
    return waited and not awaited_hospitals(seen, now, config)


def _take_sums(seen: Region, event: StepRepeated, now: float) -> Step:
    seen, append = record(seen, summed(seen, living_ring(seen), event.repeated, now))
    return seen.in_stage(Summed()), [append, StopRendezvous()]


def _is_of(spec: RoundSpec | None, rounds: set[int] | None) -> bool:
    return rounds is None or (spec is not None and spec.round_id in rounds)

"""The coordinator's state: what is recorded, what was heard, and the stage between the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from common.messages import GroupState, LatePlan, RegionPhase, RegionState
from regional.config import RegionConfig
from regional.membership import Heard
from regional.messages import Append, Effect, PutOutcome
from regional.progress import GroupProgress, Progress, after
from regional.records import Group, Record

REVISIONS_PER_START = 1 << 32


@dataclass(frozen=True)
class Idle:
    """No round is open; the next begins at `until`."""

    until: float


@dataclass(frozen=True)
class Collecting:
    """A round is open, and was at `not_before`: when it opened, or this process began later."""

    not_before: float


@dataclass(frozen=True)
class Forming:
    """Waiting for the ranks of `expected` to be warm; `attempt` rings were tried before.

    `late` are the slow groups' sums that this round will count.
    """

    since: float
    attempt: int
    expected: frozenset[str]
    last_fault: str = ""
    late: LatePlan | None = None


@dataclass(frozen=True)
class Ringing:
    """A plan is out; `formed` once every member was seen in the ring.

    `resumed` after a restart: the rendezvous is gone, so who has not joined never will.
    """

    since: float
    attempt: int
    formed: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class Summed:
    """A slow group's sums wait to be counted by a round of the others."""


@dataclass(frozen=True)
class Sealing:
    """The day's model goes into the mailbox."""


@dataclass(frozen=True)
class Waiting:
    """The day is over: the decision is awaited since `since`, or there is nothing more to do."""

    since: float


Stage = Idle | Collecting | Forming | Ringing | Summed | Sealing | Waiting


@dataclass(frozen=True)
class Region:
    """Everything that the state machine acts on.

    Attributes
    ----------
    started_at : float
        When this process began, in seconds since the epoch.
    statuses : mapping of str to Heard
        Last status of each hospital heard since then.
    groups : mapping of tuple of str to stage
        Where the round of each slow group is.
    """

    progress: Progress
    stage: Stage
    started_at: float
    statuses: Mapping[str, Heard] = field(default_factory=dict)
    groups: Mapping[Group, Stage] = field(default_factory=dict)

    def in_stage(self, stage: Stage) -> Region:
        """The same region in another stage."""
        return replace(self, stage=stage)


Step = tuple[Region, list[Effect]]


def restore(progress: Progress, now: float, statuses: Mapping[str, Heard] | None = None) -> Region:
    """Go on from what the ledger says: an open round with its last plan, or between rounds."""
    groups = {group: _restored_stage(own, now) for group, own in progress.groups.items()}
    return Region(progress, _restored_stage(progress, now), now, dict(statuses or {}), groups)


def recovery(progress: Progress) -> list[Effect]:
    """What may have been left undone when the process died: the last ``outcome.json`` of each."""
    last = [progress.outcome, *(own.outcome for own in progress.groups.values())]
    return [PutOutcome(outcome) for outcome in last if outcome]


def record(region: Region, *records: Record) -> tuple[Region, Append]:
    """Take `records` into the progress; the effect that writes them must come first."""
    progress = region.progress
    for each in records:
        progress = after(progress, each)
    return replace(region, progress=progress), Append(records)


def state_of(region: Region, config: RegionConfig, revision: int) -> RegionState:
    """What the region says of itself."""
    progress, phase = region.progress, phase_of(region, config)
    ringing = isinstance(region.stage, Ringing) and progress.ring is not None
    return RegionState(
        region=config.region,
        revision=progress.num_starts * REVISIONS_PER_START + revision,
        phase=phase,
        hospitals=tuple(sorted(progress.hospitals)),
        spec=progress.spec,
        plan=progress.ring.plan if ringing and progress.ring else None,
        min_generation=progress.min_generation,
        outcome=progress.outcome,
        groups=tuple(_group_state(region, group) for group in sorted(progress.groups)),
    )


def _group_state(region: Region, group: Group) -> GroupState:
    own, stage = region.progress.groups[group], region.groups[group]
    ringing = isinstance(stage, Ringing) and own.ring is not None
    open_ = isinstance(stage, Collecting | Forming)
    return GroupState(
        hospitals=group,
        phase="ring" if ringing else "open" if open_ else "closed",
        spec=own.spec,
        plan=own.ring.plan if ringing and own.ring else None,
        min_generation=own.min_generation,
        outcome=own.outcome,
    )


def phase_of(region: Region, config: RegionConfig) -> RegionPhase:
    """The phase of the protocol that a stage belongs to."""
    match region.stage:
        case Idle():
            return "closed"
        case Collecting() | Forming():
            return "open"
        case Ringing() | Summed():
            return "ring"
        case Sealing():
            return "sealing"
        case Waiting():
            is_last = config.rounds.is_last(region.progress.day)
            return "finished" if is_last else "waiting_for_release"


def _restored_stage(progress: Progress | GroupProgress, now: float) -> Stage:
    if not progress.is_open or progress.spec is None:
        return Idle(now)
    if isinstance(progress, GroupProgress) and progress.summed is not None:
        return Summed()
    ring = progress.ring
    if ring is not None and ring.plan.round_id == progress.spec.round_id:
        return Ringing(since=now, attempt=0, resumed=True)
    return Collecting(not_before=now)

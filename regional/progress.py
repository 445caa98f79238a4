"""Where the region stands: a pure fold over the ledger's records, and what comes next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from statistics import median
from typing import Literal, TypeVar

from common.digest import EMPTY_DIGEST
from common.messages import MAX_STALENESS, RoundOutcome, RoundSpec
from regional.config import MAX_MEAN_OF, RoundsConfig
from regional.pace import Pace, kept, pace_of
from regional.records import (
    CycleStarted,
    DayOpened,
    DaySealed,
    ExclusionLifted,
    Group,
    GroupsPlanned,
    HospitalAdmitted,
    HospitalDismissed,
    RankExcluded,
    Record,
    ReleaseDecided,
    RingDied,
    RingPlanned,
    RingSummed,
    RoundEnded,
    RoundOpened,
    SealAsked,
    Started,
)

V = TypeVar("V")
NUM_TIMED_RINGS = 8
RING_PATIENCE = 10.0
Work = Literal["train", "evaluate", "seal", "close_unsealed", "wait"]


@dataclass(frozen=True)
class Stored:
    """Tensors in the mailbox: ``ring/{made_by_round}/{digest}.safetensors``."""

    digest: str
    made_by_round: int


@dataclass(frozen=True)
class GroupProgress:
    """A slow group's own round and ring.

    Attributes
    ----------
    base_trained : int
        The region's `num_trained` when the group's round was opened.
    summed, summed_by : RingSummed, RingPlanned or None
        The open round's sums, which wait to be counted, and the ring that made them.
    outcome : RoundOutcome or None
        Of the group's last ended round.
    """

    spec: RoundSpec | None = None
    is_open: bool = False
    base_trained: int = 0
    ring: RingPlanned | None = None
    min_generation: int = 1
    ring_seconds: tuple[float, ...] = ()
    summed: RingSummed | None = None
    summed_by: RingPlanned | None = None
    outcome: RoundOutcome | None = None


@dataclass(frozen=True)
class Trained:
    """What a day's seal needs of a committed training round; `hospitals` is the updates of each."""

    round_id: int
    num_updates: int
    hospitals: Mapping[str, int]


@dataclass(frozen=True)
class Progress:
    """Everything that must survive a restart.

    Attributes
    ----------
    hospitals : mapping of str to str
        The region's hospitals with their public keys, "" for one that the configuration names.
    dismissed : mapping of str to str
        Hospitals that were in the region once, and why they are no more.
    excluded : mapping of str to RankExcluded
        The last exclusion of each hospital, over or not.
    ring_seconds : tuple of float
        How long the last rings took from plan to commit.
    groups : mapping of tuple of str to GroupProgress
        Slow groups; hospitals in none of them take part in the rounds that `spec` tells.
    paces : tuple of Pace
        How long the members of the last rings took.
    bits, parts, order : int
        Form of the next round's updates; the first of a cycle carries all in 16 bits.
    num_trained : int
        Committed training rounds of the region, over all days and cycles.
    num_failed : int
        Rounds in a row that were skipped or aborted.
    trained : tuple of Trained
        This day's committed training rounds.
    cycle_models : tuple of Stored
        The last models committed in this cycle, oldest first: as many as a seal may average.
    cycle_start : Stored
        The model that this cycle started from.
    past_bases : tuple of str
        Digests of the models that this cycle went on from last, newest first, apart from `model`.
    evaluated : RoundEnded or None
        This day's committed evaluation round.
    ring : RingPlanned or None
        The last planned ring, unless it is known to be dead.
    closing : SealAsked or None
        That an operator wants this day sealed with the rounds it has.
    undecided : mapping of int to str
        Sealed days without a decision, with the digest that was sealed.
    """

    num_starts: int = 0
    hospitals: Mapping[str, str] = field(default_factory=dict)
    dismissed: Mapping[str, str] = field(default_factory=dict)
    excluded: Mapping[str, RankExcluded] = field(default_factory=dict)
    ring_seconds: tuple[float, ...] = ()
    day: int = 1
    cycle: int = 0
    task: str = ""
    model: Stored = Stored(EMPTY_DIGEST, 0)
    state: Stored = Stored(EMPTY_DIGEST, 0)
    exponents: Mapping[str, int] = field(default_factory=dict)
    bits: Literal[8, 16] = 16
    parts: int = 1
    order: int = 0
    evaluation_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    last_round: int = 0
    last_generation: int = 0
    min_generation: int = 1
    num_trained: int = 0
    num_failed: int = 0
    spec: RoundSpec | None = None
    is_open: bool = False
    outcome: RoundOutcome | None = None
    trained: tuple[Trained, ...] = ()
    cycle_models: tuple[Stored, ...] = ()
    cycle_start: Stored = Stored(EMPTY_DIGEST, 0)
    past_bases: tuple[str, ...] = ()
    evaluated: RoundEnded | None = None
    last_training: RoundSpec | None = None
    ring: RingPlanned | None = None
    closing: SealAsked | None = None
    sealed: DaySealed | None = None
    decision: ReleaseDecided | None = None
    undecided: Mapping[int, str] = field(default_factory=dict)
    in_service: ReleaseDecided | None = None
    groups: Mapping[Group, GroupProgress] = field(default_factory=dict)
    paces: tuple[Pace, ...] = ()


def replay(records: Iterable[Record]) -> Progress:
    """Progress after all `records`, in their order."""
    return reduce(after, records, Progress())


def after(progress: Progress, record: Record) -> Progress:
    """Progress after one more record."""
    of_round = RoundOpened | RingPlanned | RingDied | RingSummed | RoundEnded
    if isinstance(record, of_round) and record.group:
        return _in_group(progress, record)
    match record:
        case Started(count=count):
            return replace(progress, num_starts=count)
        case HospitalAdmitted(hospital=name, public_key=key):
            hospitals = {**progress.hospitals, name: key}
            dismissed = _without(progress.dismissed, name)
            return replace(progress, hospitals=hospitals, dismissed=dismissed)
        case HospitalDismissed(hospital=name, reason=reason):
            hospitals = _without(progress.hospitals, name)
            dismissed = {**progress.dismissed, name: reason}
            return replace(progress, hospitals=hospitals, dismissed=dismissed)
        case RankExcluded(hospital=name):
            return replace(progress, excluded={**progress.excluded, name: record})
        case ExclusionLifted(hospital=name):
            return replace(progress, excluded=_without(progress.excluded, name))
        case CycleStarted():
            return _after_cycle(progress, record)
        case RoundOpened(spec=spec):
            return replace(progress, spec=spec, is_open=True, last_round=spec.round_id)
        case RingPlanned(plan=plan):
            last = max(progress.last_generation, plan.generation)
            return replace(progress, ring=record, last_generation=last)
        case RingDied(generation=generation):
            lowest = max(progress.min_generation, generation + 1)
            seconds = () if record.overdue else progress.ring_seconds
            return replace(progress, ring=None, min_generation=lowest, ring_seconds=seconds)
        case GroupsPlanned():
            return _regrouped(progress, record.groups)
        case RingSummed():
            return progress
        case RoundEnded():
            return _after_round(progress, record)
        case SealAsked(day=day):
            return replace(progress, closing=record) if day == progress.day else progress
        case DaySealed(day=day, model_digest=digest):
            undecided = {**progress.undecided, day: digest} if digest else progress.undecided
            return replace(progress, sealed=record, undecided=undecided)
        case ReleaseDecided():
            return _after_decision(progress, record)
        case DayOpened(day=day):
            return replace(
                progress,
                day=day,
                trained=(),
                evaluated=None,
                closing=None,
                sealed=None,
                decision=None,
                num_failed=0,
            )


def next_work(progress: Progress, rounds: RoundsConfig) -> Work:
    """What a region without an open round does now."""
    if progress.sealed is not None:
        return "wait"
    if progress.num_failed >= rounds.max_failed_rounds:
        return "seal" if progress.trained else "close_unsealed"
    closes_early = progress.closing is not None and progress.trained
    if len(progress.trained) < rounds.num_rounds(progress.day) and not closes_early:
        return "train"
    return "evaluate" if progress.evaluated is None else "seal"


def is_excluded(progress: Progress, hospital: str, round_id: int) -> bool:
    """Whether a hospital may be in no ring of that round."""
    exclusion = progress.excluded.get(hospital)
    return exclusion is not None and round_id <= exclusion.until_round


def ring_timeout_s(progress: Progress, rounds: RoundsConfig) -> float:
    """How long the next ring may take: ten times the median of the last ones, within limits."""
    if not progress.ring_seconds:
        return rounds.ring_timeout_s
    wanted = max(RING_PATIENCE * median(progress.ring_seconds), rounds.min_ring_timeout_s)
    return min(wanted, rounds.ring_timeout_s)


def _after_cycle(progress: Progress, record: CycleStarted) -> Progress:
    return replace(
        progress,
        cycle=record.cycle,
        task=record.task,
        model=Stored(record.model_digest, record.made_by_round),
        state=Stored(EMPTY_DIGEST, 0),
        exponents=record.exponents,
        bits=16,
        parts=1,
        order=0,
        evaluation_shapes=record.evaluation_shapes,
        cycle_models=(),
        cycle_start=Stored(record.model_digest, record.made_by_round),
        past_bases=(),
    )


def _in_group(
    progress: Progress, record: RoundOpened | RingPlanned | RingDied | RingSummed | RoundEnded
) -> Progress:
    own = progress.groups.get(record.group, GroupProgress())
    match record:
        case RoundOpened(spec=spec):
            own = replace(own, spec=spec, is_open=True, base_trained=progress.num_trained)
            progress = replace(progress, last_round=spec.round_id)
        case RingPlanned(plan=plan):
            own = replace(own, ring=record)
            last = max(progress.last_generation, plan.generation)
            progress = replace(progress, last_generation=last)
        case RingDied(generation=generation):
            lowest = max(own.min_generation, generation + 1)
            seconds = () if record.overdue else own.ring_seconds
            own = replace(own, ring=None, min_generation=lowest, ring_seconds=seconds)
        case RingSummed():
            seconds = (*own.ring_seconds, record.ring_seconds)[-NUM_TIMED_RINGS:]
            if own.ring is not None:
                progress = _paced(progress, own.ring, record)
            own = replace(own, summed=record, summed_by=own.ring, ring_seconds=seconds)
        case RoundEnded(outcome=outcome):
            own = replace(own, is_open=False, summed=None, summed_by=None, outcome=outcome)
    return replace(progress, groups={**progress.groups, record.group: own})


def _regrouped(progress: Progress, groups: tuple[Group, ...]) -> Progress:
    """Other groups: ranks that change theirs leave every ring there was."""
    fresh = GroupProgress(min_generation=progress.last_generation + 1)
    planned = {group: progress.groups.get(group, fresh) for group in groups}
    before, since = ({n for g in each for n in g} for each in (progress.groups, planned))
    progress = replace(progress, groups=planned)
    if before == since:
        return progress
    # What rings of other members took says nothing of the time that the next ones need.
    lowest = progress.last_generation + 1
    return replace(progress, ring=None, min_generation=lowest, ring_seconds=())


def _paced(progress: Progress, ring: RingPlanned, told: RingSummed | RoundEnded) -> Progress:
    pace = pace_of(ring.plan.members, told.lags, told.timings, in_group=bool(told.group))
    return replace(progress, paces=kept((*progress.paces, pace)))


def _after_round(progress: Progress, record: RoundEnded) -> Progress:
    outcome = record.outcome
    if progress.ring is not None and outcome.purpose == "train" and record.lags:
        progress = _paced(progress, progress.ring, record)
    ended = replace(progress, outcome=outcome, is_open=False)
    if outcome.end != "committed":
        return replace(ended, num_failed=progress.num_failed + 1)
    timed = (*progress.ring_seconds, record.ring_seconds)[-NUM_TIMED_RINGS:]
    ended = replace(ended, num_failed=0, ring_seconds=timed)
    if outcome.purpose == "evaluate":
        return replace(ended, evaluated=record)
    model = _moved(progress.model, outcome.model_digest, outcome.round_id)
    return replace(
        ended,
        model=model,
        state=_moved(progress.state, outcome.state_digest, outcome.round_id),
        exponents=record.exponents or progress.exponents,
        bits=record.next_bits,
        parts=record.next_parts,
        order=record.next_order,
        num_trained=progress.num_trained + 1,
        trained=(*progress.trained, _trained(record)),
        cycle_models=(*progress.cycle_models, model)[-MAX_MEAN_OF:],
        past_bases=_past_bases(progress, model.digest),
        last_training=progress.spec,
    )


def model_before(progress: Progress, num_commits: int) -> Stored | None:
    """The cycle's model of `num_commits` commits ago, or its first; None where that is `model`."""
    models = (progress.cycle_start, *progress.cycle_models)
    before = models[max(0, len(models) - 1 - num_commits)]
    return None if before.digest == progress.model.digest else before


def _past_bases(progress: Progress, digest: str) -> tuple[str, ...]:
    newest_first = dict.fromkeys((progress.model.digest, *progress.past_bases))
    return tuple(base for base in newest_first if base != digest)[:MAX_STALENESS]


def _trained(record: RoundEnded) -> Trained:
    return Trained(record.outcome.round_id, record.num_updates, record.hospitals)


def _after_decision(progress: Progress, record: ReleaseDecided) -> Progress:
    undecided = {day: d for day, d in progress.undecided.items() if day != record.day}
    released = record.decision == "released"
    return replace(
        progress,
        undecided=undecided,
        decision=record if record.day == progress.day else progress.decision,
        in_service=record if released else progress.in_service,
    )


def _without(mapping: Mapping[str, V], name: str) -> dict[str, V]:
    return {key: value for key, value in mapping.items() if key != name}


def _moved(old: Stored, digest: str, round_id: int) -> Stored:
    return old if old.digest == digest else Stored(digest, round_id)

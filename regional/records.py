"""What the ledger records: facts that are written once and never changed.

The coordinator's whole memory is the fold of these records (`regional.progress`), while it runs
and after a restart alike.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, JsonValue, NonNegativeInt, PositiveInt

from common.contract import Contract
from common.messages import (
    Count,
    Digest,
    RingPlan,
    RoundOutcome,
    RoundSpec,
    Shape,
    TensorName,
    Timestamp,
    Timings,
)
from common.topics import Name

MAX_COUNT = 1 << 53  # what `Count` holds
Counts = dict[Digest, dict[TensorName, JsonValue]]
"""Evaluation of each model as nested lists of integers, by name."""
Group = tuple[Name, ...]
"""Hospitals of a slow group, in name order; empty for all that are in none."""
Seconds = dict[Name, Annotated[FiniteFloat, Field(ge=0)]]


class Started(Contract):
    """The coordinator started for the `count`-th time."""

    kind: Literal["started"] = "started"
    count: PositiveInt


class CycleStarted(Contract):
    """The rounds of `cycle` start from this model: the initial one, or a release."""

    kind: Literal["cycle_started"] = "cycle_started"
    cycle: PositiveInt
    task: Name
    model_digest: Digest
    made_by_round: NonNegativeInt
    exponents: dict[TensorName, int]
    evaluation_shapes: dict[TensorName, Shape]


class HospitalAdmitted(Contract):
    """A hospital belongs to the region from now on.

    `public_key` is base64; empty for one whose key file the configuration names.
    """

    kind: Literal["hospital_admitted"] = "hospital_admitted"
    hospital: Name
    public_key: str = Field(default="", max_length=100)


class HospitalDismissed(Contract):
    """A hospital belongs to the region no more, whatever the configuration says."""

    kind: Literal["hospital_dismissed"] = "hospital_dismissed"
    hospital: Name
    reason: str = Field(max_length=500)


class RankExcluded(Contract):
    """A rank computed what the others did not: its hospital is in no ring up to `until_round`."""

    kind: Literal["rank_excluded"] = "rank_excluded"
    hospital: Name
    round_id: PositiveInt
    until_round: PositiveInt
    reason: str = Field(max_length=500)


class ExclusionLifted(Contract):
    """An operator lets a hospital back into rings."""

    kind: Literal["exclusion_lifted"] = "exclusion_lifted"
    hospital: Name
    reason: str = Field(max_length=500)


class RoundOpened(Contract):
    """A round was opened; it stays open, across restarts, until its `RoundEnded`."""

    kind: Literal["round_opened"] = "round_opened"
    spec: RoundSpec
    group: Group = ()


class RingPlanned(Contract):
    """A ring was asked for: what its members held and which processes they were then."""

    kind: Literal["ring_planned"] = "ring_planned"
    plan: RingPlan
    pids: dict[Name, NonNegativeInt]
    aggregates: dict[Name, Digest]
    weights: dict[Name, Count]
    num_stored: dict[Name, Count]
    planned_at: Timestamp
    group: Group = ()


class RingDied(Contract):
    """No rank of `generation` is to go on; `overdue` when its time was over."""

    kind: Literal["ring_died"] = "ring_died"
    generation: PositiveInt
    reason: str
    overdue: bool = False
    group: Group = ()


class GroupsPlanned(Contract):
    """From now on these hospitals have rounds and rings of their own; all others are together.

    `seconds` is what each hospital was measured to need for a round.
    """

    kind: Literal["groups_planned"] = "groups_planned"
    groups: tuple[Group, ...]
    reason: str = Field(max_length=500)
    seconds: Seconds = Field(default_factory=dict)


class RingSummed(Contract):
    """A slow group's ring gave sums that the coordinator's own step agrees with.

    They count in the next round that commits without the group.
    """

    kind: Literal["ring_summed"] = "ring_summed"
    group: Group
    round_id: PositiveInt
    sums_digest: Digest
    ring_seconds: float = 0.0
    num_updates: Count
    num_evaluated: Count
    num_saturated: Count
    evaluation: Counts = Field(default_factory=dict)
    complete: bool = False
    lags: Seconds = Field(default_factory=dict)
    timings: dict[Name, Timings] = Field(default_factory=dict)


class RoundEnded(Contract):
    """How a round ended; for a committed one this record is the commit.

    `exponents` are those of the next round; None leaves them as they were.  `next_bits` to
    `next_order` are the form of its updates: written here, because stored updates count in
    whichever round commits their base, whatever the configuration says by then.  `lags` are the
    seconds from opening to ready of each member, `timings` those of its rank's work.
    """

    kind: Literal["round_ended"] = "round_ended"
    outcome: RoundOutcome
    learning_rate: float
    opened_at: Timestamp
    ring_seconds: float = 0.0
    num_updates: Count = 0
    num_evaluated: Count = 0
    num_saturated: Count = 0
    hospitals: dict[Name, Count] = Field(default_factory=dict)
    evaluation: Counts = Field(default_factory=dict)
    exponents: dict[TensorName, int] | None = None
    next_bits: Literal[8, 16] = 16
    next_parts: PositiveInt = 1
    next_order: Count = 0
    group: Group = ()
    lags: Seconds = Field(default_factory=dict)
    timings: dict[Name, Timings] = Field(default_factory=dict)


class SealAsked(Contract):
    """An operator ends the day with the rounds that it has, once the open one has ended."""

    kind: Literal["seal_asked"] = "seal_asked"
    day: PositiveInt
    reason: str = Field(max_length=500)


class DaySealed(Contract):
    """A day's model lies in the mailbox; without `model_digest` there was nothing to seal."""

    kind: Literal["day_sealed"] = "day_sealed"
    day: PositiveInt
    model_digest: Digest | None = None
    reason: str
    sealed_at: Timestamp


class ReleaseDecided(Contract):
    """The cloud's decision on a sealed day, and whether its model became the next base."""

    kind: Literal["release_decided"] = "release_decided"
    day: PositiveInt
    decision: Literal["released", "refused"]
    release: str
    rule: str
    model_digest: Digest
    made_by_round: NonNegativeInt
    adopted: bool


class DayOpened(Contract):
    """The next day began, and why it began then."""

    kind: Literal["day_opened"] = "day_opened"
    day: PositiveInt
    reason: str


Record = Annotated[
    Started
    | HospitalAdmitted
    | HospitalDismissed
    | RankExcluded
    | ExclusionLifted
    | CycleStarted
    | RoundOpened
    | RingPlanned
    | RingDied
    | GroupsPlanned
    | RingSummed
    | RoundEnded
    | SealAsked
    | DaySealed
    | ReleaseDecided
    | DayOpened,
    Field(discriminator="kind"),
]


def key_of(record: Record) -> int | None:
    """What makes a record the only one of its kind; None where several may exist."""
    match record:
        case Started(count=number) | CycleStarted(cycle=number) | RingDied(generation=number):
            return number
        case RingSummed(round_id=number):
            return number
        case DaySealed(day=number) | ReleaseDecided(day=number) | DayOpened(day=number):
            return number
        case SealAsked(day=number):
            return number
        case RoundOpened(spec=spec):
            return spec.round_id
        case RoundEnded(outcome=outcome):
            return outcome.round_id
        case HospitalAdmitted() | HospitalDismissed() | RankExcluded() | ExclusionLifted():
            return None
        case RingPlanned() | GroupsPlanned():
            return None

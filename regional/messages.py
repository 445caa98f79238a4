"""What goes into the coordinator's state machine and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from common.messages import (
    HospitalStatus,
    LatePlan,
    RankResult,
    ReleaseHeader,
    RoundOutcome,
    RoundSpec,
)
from regional.commit import Repeated
from regional.late import Contribution
from regional.progress import Progress, Stored
from regional.records import Group, Record


@dataclass(frozen=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True)
class StatusHeard:
    """A hospital of the roster said how it stands."""

    status: HospitalStatus


@dataclass(frozen=True)
class RosterChanged:
    """An operator wrote to the ledger which hospitals belong to the region; `progress` has it."""

    progress: Progress


@dataclass(frozen=True)
class CandidateMade:
    """The model that this day will seal lies in the mailbox."""

    stored: Stored


@dataclass(frozen=True)
class RendezvousStarted:
    """A fresh rendezvous for `generation` listens on `port`."""

    generation: int
    members: tuple[str, ...]
    port: int
    group: Group = ()


@dataclass(frozen=True)
class StepRepeated:
    """The coordinator's own server step on the ring's sums."""

    repeated: Repeated
    group: Group = ()


@dataclass(frozen=True)
class StepRefused:
    """The ring's sums cannot be used."""

    reason: str
    group: Group = ()


@dataclass(frozen=True)
class LateMade:
    """The slow groups' sums lie in the mailbox, aged for the open round."""

    late: LatePlan


@dataclass(frozen=True)
class LateRefused:
    """The slow groups' sums of these rounds cannot be used."""

    rounds: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class DayStored:
    """The day's sealed model lies in the mailbox."""

    digest: str


@dataclass(frozen=True)
class ReleaseFound:
    """The cloud's decision; a released model lies in ``ring/{made_by_round}``.

    `exponents` are those of a cycle that starts from it; empty when it was refused.
    """

    header: ReleaseHeader
    made_by_round: int
    exponents: dict[str, int]


Event = (
    Tick
    | StatusHeard
    | RosterChanged
    | CandidateMade
    | RendezvousStarted
    | StepRepeated
    | StepRefused
    | LateMade
    | LateRefused
    | DayStored
    | ReleaseFound
)


@dataclass(frozen=True)
class Append:
    """Write these records to the ledger, all or none."""

    records: tuple[Record, ...]


@dataclass(frozen=True)
class MakeCandidate:
    """Put the mean of these models into the mailbox; answered by `CandidateMade`."""

    models: tuple[Stored, ...]
    made_by_round: int


@dataclass(frozen=True)
class StartRendezvous:
    """Open a fresh rendezvous; answered by `RendezvousStarted`."""

    generation: int
    members: tuple[str, ...]
    group: Group = ()


@dataclass(frozen=True)
class StopRendezvous:
    """Close the group's rendezvous, if one is open."""

    group: Group = ()


@dataclass(frozen=True)
class RepeatStep:
    """Read the ring's sums and repeat the step; answered once they lie in the mailbox."""

    spec: RoundSpec
    result: RankResult
    late: LatePlan | None = None
    group: Group = ()


@dataclass(frozen=True)
class MakeLate:
    """Put slow groups' sums into the mailbox, aged; answered by `LateMade` or `LateRefused`."""

    spec: RoundSpec
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True)
class PutModels:
    """Put a round's new model and server state into the mailbox."""

    spec: RoundSpec
    repeated: Repeated


@dataclass(frozen=True)
class PutOutcome:
    """Put ``outcome.json`` into the mailbox, beside the round's files."""

    outcome: RoundOutcome


@dataclass(frozen=True)
class SealDay:
    """Put the day's sealed model into the mailbox; answered by `DayStored`."""

    progress: Progress


Effect = (
    Append
    | MakeCandidate
    | StartRendezvous
    | StopRendezvous
    | RepeatStep
    | MakeLate
    | PutModels
    | PutOutcome
    | SealDay
)

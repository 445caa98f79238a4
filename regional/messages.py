"""What goes into the coordinator's state machine and what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from common.messages import HospitalStatus, RankResult, ReleaseHeader, RoundOutcome, RoundSpec
from regional.commit import Repeated
from regional.progress import Progress, Stored
from regional.records import Record


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


@dataclass(frozen=True)
class StepRepeated:
    """The coordinator's own server step on the ring's sums."""

    repeated: Repeated


@dataclass(frozen=True)
class StepRefused:
    """The ring's sums cannot be used."""

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


@dataclass(frozen=True)
class StopRendezvous:
    """Close the rendezvous, if one is open."""


@dataclass(frozen=True)
class RepeatStep:
    """Read the ring's sums and repeat the step; answered once they lie in the mailbox."""

    spec: RoundSpec
    result: RankResult


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
    | PutModels
    | PutOutcome
    | SealDay
)

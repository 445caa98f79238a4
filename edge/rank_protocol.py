"""What an edge node and its rank say to each other: one JSON object a line."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from common.contract import Contract
from common.errors import ContractError
from common.messages import RankResult, RingPlan, RoundSpec, Timings

MAX_LINE = 64 << 10  # characters of an event, far more than any has


class Join(Contract):
    """Take part in the ring of `plan`, or use it once more; paths are files of the edge node.

    `state` is ``None`` for an empty server state, `late` without sums of slow groups; the sums go to
    `out`.  With `trace`, Horovod's rank 0 writes its timeline of the generation there.
    """

    command: Literal["join"] = "join"
    plan: RingPlan
    spec: RoundSpec
    hospital: str
    rank: Annotated[int, Field(ge=0)]
    interface: str
    cycle_ms: float
    aggregate: str
    base: str
    state: str | None
    late: str | None = None
    out: str
    trace: str | None = None


class Renew(Contract):
    """Kill the rank of that process id, if it is still the one there is, and start another."""

    command: Literal["renew"] = "renew"
    pid: int


class Stop(Contract):
    """End."""

    command: Literal["stop"] = "stop"


class Warm(Contract):
    """A rank of that process id waits for a plan."""

    event: Literal["warm"] = "warm"
    pid: Annotated[int, Field(ge=1)]


class Lost(Contract):
    """The rank of that process id is gone; `code` as `subprocess` tells it."""

    event: Literal["lost"] = "lost"
    pid: int
    code: int


class Joined(Contract):
    """The ring of that generation has formed."""

    event: Literal["joined"] = "joined"
    generation: int


class Computed(RankResult):
    """A `RankResult`, where the sums were written, and the seconds of each part of the work."""

    event: Literal["result"] = "result"
    path: str
    timings: Timings = Field(default_factory=dict)

    def result(self) -> RankResult:
        """Without path and timings: what must be the same for all ranks."""
        return RankResult(**self.model_dump(include=set(RankResult.model_fields)))


class Failed(Contract):
    """The rank ends without a result."""

    event: Literal["error"] = "error"
    reason: Annotated[str, Field(max_length=500)]


Command = Annotated[Join | Renew | Stop, Field(discriminator="command")]
Event = Annotated[Warm | Lost | Joined | Computed | Failed, Field(discriminator="event")]
_COMMAND: TypeAdapter[Command] = TypeAdapter(Command)
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def line(message: Contract) -> str:
    """One line of JSON, with its end."""
    return message.model_dump_json() + "\n"


def parse_command(text: str) -> Command:
    """Parse what an edge node says.

    Raises
    ------
    ContractError
        When it is no command.
    """
    try:
        return _COMMAND.validate_json(text)
    except ValidationError as fault:
        raise ContractError(f"not a command: {text[:200]!r}") from fault


def parse_event(text: str) -> Event:
    """Parse what a rank says.

    Raises
    ------
    ContractError
        When it is no event.
    """
    try:
        return _EVENT.validate_json(text)
    except ValidationError as fault:
        raise ContractError(f"not an event: {text[:200]!r}") from fault

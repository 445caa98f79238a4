from __future__ import annotations

import pytest

from common.errors import ContractError
from edge.rank_protocol import (
    Computed,
    Failed,
    Join,
    Joined,
    Lost,
    Stop,
    Warm,
    line,
    parse_command,
    parse_event,
)
from tests.unit.edge.builders import HOSPITAL, make_plan, make_spec

JOIN = Join(
    plan=make_plan(),
    spec=make_spec(),
    hospital=HOSPITAL,
    rank=0,
    interface="lo",
    cycle_ms=10,
    aggregate="a",
    base="b",
    state=None,
    out="o",
)
COMPUTED = Computed(
    round_id=1,
    generation=2,
    sums_digest="1" * 64,
    model_digest="2" * 64,
    state_digest="3" * 64,
    weight=4,
    num_updates=4,
    num_evaluations=3,
    num_saturated=0,
    path="p",
)


@pytest.mark.parametrize(
    "event",
    [Warm(pid=7), Lost(pid=7, code=-9), Joined(generation=3), Failed(reason="why"), COMPUTED],
)
def test_events_come_back_as_said(event: Warm | Lost | Joined | Failed | Computed) -> None:
    assert line(event).count("\n") == 1
    assert parse_event(line(event)) == event


@pytest.mark.parametrize("command", [JOIN, Stop()])
def test_commands_come_back_as_said(command: Join | Stop) -> None:
    assert parse_command(line(command)) == command


@pytest.mark.parametrize("text", ["", "{}", "chatter of a library", '{"event":"other"}', "[1]"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        parse_event(text)
    with pytest.raises(ContractError):
        parse_command(text)


def test_result_of_a_rank_carries_no_path() -> None:
    assert "path" not in COMPUTED.result().model_dump()

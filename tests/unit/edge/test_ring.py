from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.digest import tensors_digest
from common.mailbox import message_path
from common.messages import LateHeader, LatePlan, RegionState
from common.wire import encode, encode_json
from edge.ledger import Ledger
from edge.models import Models
from edge.rank_process import Died, Said
from edge.rank_protocol import Computed, Failed
from edge.ring import Seat, decide
from edge.rounds import Frozen, Round
from tests.unit.edge.builders import (
    HOSPITAL,
    REGION,
    ROSTER,
    SHAPES,
    FakeRank,
    make_mailboxes,
    make_plan,
    make_spec,
    make_state,
)

PLAN = make_plan(generation=5)


@pytest.mark.parametrize(
    ("state", "generation", "sent", "sent_for_round", "action"),
    [
        ("warm", 0, False, False, "join"),
        ("starting", 0, False, False, "wait"),
        ("lost", 0, False, False, "wait"),
        ("joined", 5, True, True, "wait"),
        ("joined", 5, True, False, "join"),  # the same world, one more round
        ("warm", 5, True, False, "wait"),  # still joining
        ("joined", 4, False, False, "respawn"),
        ("warm", 0, True, True, "fail"),  # its rank died, or the edge node was restarted
        ("warm", 0, True, False, "fail"),  # the rank that was in this world is gone
    ],
)
def test_decision(
    state: str, generation: int, sent: bool, sent_for_round: bool, action: str
) -> None:
    rank = FakeRank()
    rank.state, rank.generation = state, generation  # type: ignore[assignment]  # from the table
    region = make_state("ring", plan=PLAN)
    assert decide(region, PLAN, rank, sent=sent, sent_for_round=sent_for_round) == action


def test_rank_in_a_dead_generation_is_respawned_in_any_phase() -> None:
    rank = FakeRank()
    rank.state, rank.generation = "joined", 4
    region = make_state("open", min_generation=5)
    assert decide(region, None, rank, sent=False, sent_for_round=False) == "respawn"


class Table:
    """A seat with its fakes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "rounds"
        self.folder.mkdir()
        self.ledger = Ledger(folder)
        self.coordinators, self.mailbox = make_mailboxes(folder)
        self.rank = FakeRank()
        self.current = Round(make_spec(), ROSTER, SHAPES)
        self.current.frozen = Frozen("a" * 64, 1, 1, 0, "aggregate", True)
        self.seat = self.new_seat()

    def new_seat(self) -> Seat:
        return Seat(
            REGION,
            HOSPITAL,
            self.rank,
            self.ledger,
            self.mailbox,
            Models(self.mailbox, self.folder),
            self.folder,
            None,
            10.0,
        )

    def step(self, region: RegionState) -> None:
        self.seat.step(region, self.current, now=1.0)

    def compute(self, generation: int = 1) -> Computed:
        (self.folder / "sums").write_bytes(b"the sums")
        done = Computed(
            round_id=1,
            generation=generation,
            sums_digest="5" * 64,
            model_digest="6" * 64,
            state_digest=tensors_digest({}),
            weight=1,
            num_updates=1,
            num_evaluations=0,
            num_saturated=0,
            path=str(self.folder / "sums"),
        )
        self.seat.hear(Said(self.rank.pid, done), now=1.0)
        return done


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    made = Table(tmp_path)
    yield made
    made.ledger.close()


def test_warm_rank_is_sent_once_into_a_planned_ring(table: Table) -> None:
    region = make_state("ring", plan=make_plan())
    for _ in range(3):
        table.step(region)
    (join,) = table.rank.joins
    assert (join.rank, join.interface, join.state) == (0, "lo", None)
    assert join.aggregate == str(table.folder / "aggregate")


@pytest.mark.parametrize(
    "region",
    [
        make_state("open", plan=make_plan()),
        make_state("ring", plan=make_plan(members=("south", "east"))),
        make_state("ring", plan=make_plan(), min_generation=2),
        make_state("ring", plan=make_plan(round_id=2)),
        make_state("ring"),
    ],
)
def test_plans_that_are_not_for_us_are_left_alone(table: Table, region: RegionState) -> None:
    table.step(region)
    assert table.rank.joins == []


def put_late(table: Table, signed: bytes | None = None) -> LatePlan:
    tensors = {"update/b": np.array([1, 2], np.int64)}
    header = LateHeader(region=REGION, round_id=1, rounds=(7,), weight=181, exponents={"b": -9})
    digest = tensors_digest(tensors)
    path = message_path(REGION, "ring", 1, f"late-{digest}.safetensors")
    table.coordinators.put(path, signed or encode(header, tensors))
    return LatePlan(digest=digest, path=path, rounds=(7,))


def test_late_sums_of_a_plan_are_fetched_before_the_rank_is_sent(table: Table) -> None:
    late = put_late(table)
    table.step(make_state("ring", plan=make_plan(late=late)))
    (join,) = table.rank.joins
    assert join.late is not None
    assert Path(join.late).read_bytes() == table.coordinators.get(late.path, signer="region")


@pytest.mark.parametrize("wrong", [b"", b"no tensors", encode_json(make_plan())])
def test_rank_is_not_sent_without_the_late_sums_of_its_plan(table: Table, wrong: bytes) -> None:
    late = put_late(table, wrong or b"0")
    table.step(make_state("ring", plan=make_plan(late=late)))
    assert table.rank.joins == []
    assert table.seat.error.startswith("late sums of round 1: ")


def test_missing_late_sums_are_said_and_tried_again(table: Table) -> None:
    late = LatePlan(digest="7" * 64, path="county/ring/1/late.safetensors", rounds=(7,))
    table.step(make_state("ring", plan=make_plan(late=late)))
    assert table.rank.joins == []
    assert "late sums" in table.seat.error
    table.step(make_state("ring", plan=make_plan(generation=2)))
    assert (len(table.rank.joins), table.seat.error) == (1, "")


def test_first_member_puts_the_sums_into_the_mailbox_before_it_tells(table: Table) -> None:
    table.step(make_state("ring", plan=make_plan()))
    done = table.compute()
    table.step(make_state("ring", plan=make_plan()))
    assert table.seat.result == done.result()
    path = message_path(REGION, "ring", 1, f"{'5' * 64}.safetensors")
    assert table.coordinators.get(path, signer=HOSPITAL) == b"the sums"


def test_other_members_tell_without_putting(table: Table) -> None:
    region = make_state("ring", plan=make_plan(members=("south", HOSPITAL)))
    table.step(region)
    table.compute()
    table.step(region)
    assert table.seat.result is not None
    assert table.mailbox.names(REGION, "ring", 1) == []


def test_sums_that_an_earlier_generation_put_there_are_no_fault(table: Table) -> None:
    path = message_path(REGION, "ring", 1, f"{'5' * 64}.safetensors")
    table.mailbox.put(path, b"the same sums under another header")
    table.step(make_state("ring", plan=make_plan()))
    table.compute()
    table.step(make_state("ring", plan=make_plan()))
    assert (table.seat.error, table.seat.result is not None) == ("", True)


def test_result_waits_while_the_mailbox_fails(table: Table) -> None:
    table.step(make_state("ring", plan=make_plan()))
    table.compute()
    (table.folder / "sums").unlink()
    table.step(make_state("ring", plan=make_plan()))
    assert table.seat.result is None
    assert "sums of round 1" in table.seat.error
    (table.folder / "sums").write_bytes(b"the sums")
    table.step(make_state("ring", plan=make_plan()))
    assert (table.seat.error, table.seat.result is not None) == ("", True)


def test_lost_rank_is_told_as_a_failure_with_its_last_words(table: Table) -> None:
    region = make_state("ring", plan=make_plan())
    table.step(region)
    table.seat.hear(Said(table.rank.pid, Failed(reason="a peer was lost")), now=1.0)
    table.seat.hear(Died(table.rank.pid, 1), now=1.0)
    table.rank.state = "warm"
    table.step(region)
    assert table.seat.failure is not None
    assert (table.seat.failure.generation, table.seat.failure.reason) == (1, "a peer was lost")
    table.step(make_state("ring", plan=make_plan(generation=2), min_generation=2))
    assert table.seat.failure is None
    assert [join.plan.generation for join in table.rank.joins] == [1, 2]


def test_after_a_restart_the_generation_entered_before_is_a_failure(table: Table) -> None:
    region = make_state("ring", plan=make_plan())
    table.step(region)
    table.rank.state, table.rank.generation = "warm", 0
    table.seat = table.new_seat()
    table.step(region)
    assert table.seat.failure is not None
    assert table.seat.failure.reason == "the edge node was restarted"
    assert len(table.rank.joins) == 1


def test_same_generation_serves_the_next_round(table: Table) -> None:
    table.step(make_state("ring", plan=make_plan()))
    table.current = Round(make_spec(2), ROSTER, SHAPES, frozen=table.current.frozen)
    table.step(make_state("ring", plan=make_plan(round_id=2)))
    assert [join.plan.round_id for join in table.rank.joins] == [1, 2]
    assert table.rank.num_killed == 0


def test_sums_of_dead_generations_are_deleted_before_the_next_ring(table: Table) -> None:
    left = [table.folder / "sums" / name for name in ("000001-1.safetensors", ".part.77.ab")]
    left[0].parent.mkdir()
    for path in left:
        path.write_bytes(b"of a rank that was killed")
    (table.folder / "aggregate").write_bytes(b"stays, since a replay needs it")
    table.step(make_state("ring", plan=make_plan(generation=2)))
    assert not any(path.exists() for path in left)
    assert (table.folder / "aggregate").exists()
    assert Path(table.rank.joins[0].out) == table.folder / "sums" / "000001-2.safetensors"

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common import topics
from common.digest import bytes_digest
from common.messages import Reason
from edge.desk import Answer, Desk, Incoming
from edge.ledger import Ledger
from edge.rounds import Round
from edge.standing import Standing
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    REGION,
    ROSTER,
    SHAPES,
    STATION,
    make_evaluation,
    make_incoming,
    make_spec,
    make_update,
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def take(ledger: Ledger, *batch: Incoming, current: Round | None) -> list[Answer]:
    return Desk(STATION, ledger, Standing(ledger)).take(batch, current, now=1.0)


def open_round() -> Round:
    return Round(make_spec(evaluate=(BASE,)), ROSTER, SHAPES)


def test_stored_messages_get_a_receipt_over_their_bytes(ledger: Ledger) -> None:
    current = open_round()
    evaluation = make_incoming(make_evaluation("band-b"), "band-b", "evaluation")
    update, second = take(ledger, make_incoming(make_update()), evaluation, current=current)
    assert update.receipt is not None
    assert (update.receipt.status, update.receipt.round_id) == ("stored", 1)
    assert update.receipt.content_digest == bytes_digest(make_update())
    assert second.receipt is not None
    assert second.receipt.subject == "evaluation"
    assert (current.updated, current.evaluated) == ({"band-a"}, {"band-b"})


def test_same_bytes_again_get_the_same_receipt_even_after_the_round(ledger: Ledger) -> None:
    current = open_round()
    (first,) = take(ledger, make_incoming(make_update()), current=current)
    current.ended = True
    (again,) = take(ledger, make_incoming(make_update()), current=current)
    (later,) = take(ledger, make_incoming(make_update()), current=None)
    assert first.receipt == again.receipt == later.receipt
    assert (first.fresh, again.fresh, later.fresh) == (True, False, False)


def test_same_update_sent_again_for_the_next_round_on_this_base_is_stored_already(
    ledger: Ledger,
) -> None:
    take(ledger, make_incoming(make_update()), current=open_round())
    following = Round(make_spec(round_id=2), ROSTER, SHAPES)
    (answer,) = take(ledger, make_incoming(make_update(round_id=2)), current=following)
    assert (answer.reason, answer.fresh) == (None, False)


@pytest.mark.parametrize("other", [make_update(seed=1), make_update(num_examples=6)])
def test_other_content_for_the_same_base_is_a_conflicting_duplicate(
    ledger: Ledger, other: bytes
) -> None:
    answers = take(ledger, make_incoming(make_update()), make_incoming(other), current=open_round())
    assert [answer.reason for answer in answers] == [None, Reason.CONFLICTING_DUPLICATE]


def test_duplicates_within_a_batch_are_stored_once(ledger: Ledger) -> None:
    answers = take(ledger, *[make_incoming(make_update())] * 3, current=open_round())
    assert [answer.fresh for answer in answers] == [True, False, False]
    assert len(list(ledger.updates([BASE]))) == 1


def test_oversize_is_refused_before_it_is_parsed(ledger: Ledger) -> None:
    current = open_round()
    huge = make_incoming(bytes(current.max_message_bytes + 1))
    dropped = make_incoming(None)
    answers = take(ledger, huge, dropped, current=current)
    assert [answer.reason for answer in answers] == [Reason.OVERSIZE] * 2
    assert current.num_rejected == ledger.num_refused(1) == 2


def test_without_a_round_nothing_is_taken(ledger: Ledger) -> None:
    (answer,) = take(ledger, make_incoming(make_update()), current=None)
    assert answer.reason == Reason.WRONG_ROUND


def test_topics_that_carry_no_message_are_passed_over(ledger: Ledger) -> None:
    topic = topics.device(REGION, HOSPITAL, "band-a", "status")
    odd = Incoming(topic, b"x", "0" * 64, lambda: None)
    assert take(ledger, odd, Incoming("other", b"", "0" * 64, lambda: None), current=None) == []


def test_a_sender_without_a_name_gets_no_receipt(ledger: Ledger) -> None:
    (answer,) = take(ledger, make_incoming(make_update(), device="Not A Name"), current=None)
    assert (answer.reason, answer.receipt) == (Reason.WRONG_IDENTITY, None)

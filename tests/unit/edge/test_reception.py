from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from edge.desk import Incoming
from edge.inbox import Inbox
from edge.reception import RETRY_S, Reception
from tests.unit.edge.builders import make_incoming

FULL = sqlite3.OperationalError("database or disk is full")


class FakeDesk:
    """Acknowledges what it takes; fails as a test wants it to."""

    def __init__(self) -> None:
        self.fault: sqlite3.Error | None = None
        self.poison = b"poison"
        self.calls: list[list[bytes | None]] = []
        self.num_calls = 0

    def take(self, batch: Sequence[Incoming], now: float) -> None:
        self.num_calls += 1
        if self.fault:
            raise self.fault
        if any(one.payload == self.poison for one in batch):
            raise ZeroDivisionError
        self.calls.append([one.payload for one in batch])
        for one in batch:
            one.acknowledge()


def make_reception(*payloads: bytes) -> tuple[Reception, FakeDesk, list[str]]:
    inbox, desk, acks = Inbox(), FakeDesk(), list[str]()
    for number, payload in enumerate(payloads):
        inbox.put_message(make_incoming(payload, device=f"band-{number}", acks=acks))
    return Reception(inbox, desk.take), desk, acks


def test_full_disk_keeps_the_batch_unacknowledged_until_there_is_room() -> None:
    reception, desk, acks = make_reception(b"one", b"two")
    desk.fault = FULL
    reception.turn(now=10.0)
    assert (reception.error, acks) == ("ledger: database or disk is full", [])
    desk.fault = None
    reception.turn(now=10.0 + RETRY_S)
    assert (reception.error, acks) == ("", ["band-0", "band-1"])
    assert desk.calls == [[b"one", b"two"]]


def test_full_disk_is_tried_once_a_second() -> None:
    reception, desk, _ = make_reception(b"one")
    desk.fault = FULL
    for tenth in range(10):
        reception.turn(now=10.0 + tenth / 10)
    assert desk.num_calls == 1


def test_clock_that_is_set_back_does_not_delay_the_next_attempt() -> None:
    reception, desk, acks = make_reception(b"one")
    desk.fault = FULL
    reception.turn(now=7200.0)
    desk.fault = None
    reception.turn(now=3600.0)
    assert acks == ["band-0"]


def test_message_that_nobody_can_judge_does_not_keep_the_others_from_the_ledger() -> None:
    reception, desk, acks = make_reception(b"one", b"poison", b"two")
    reception.turn(now=1.0)
    assert desk.calls == [[b"one"], [b"two"]]
    assert acks == ["band-0", "band-1", "band-2"]
    reception.turn(now=2.0)
    assert len(desk.calls) == 2

from __future__ import annotations

import time
from functools import partial
from threading import Thread

from edge.inbox import MAX_BATCH, MAX_BATCH_BYTES, MAX_MESSAGES, MAX_NEWS, Inbox
from tests.unit.edge.builders import make_incoming


def test_messages_stay_until_they_are_dropped() -> None:
    inbox = Inbox()
    messages = [make_incoming(bytes([n])) for n in range(MAX_BATCH + 1)]
    for message in messages:
        inbox.put_message(message)
    assert inbox.peek_messages() == inbox.peek_messages() == messages[:MAX_BATCH]
    inbox.drop_messages(MAX_BATCH)
    assert inbox.peek_messages() == messages[MAX_BATCH:]


def test_full_inbox_holds_the_sender_until_there_is_room() -> None:
    inbox = Inbox()
    for _ in range(MAX_MESSAGES):
        inbox.put_message(make_incoming(b""))
    sender = Thread(target=inbox.put_message, args=(make_incoming(b"last"),), daemon=True)
    sender.start()
    sender.join(timeout=0.05)
    assert sender.is_alive()
    inbox.drop_messages(1)
    sender.join(timeout=5)
    assert not sender.is_alive()


def test_closing_lets_a_waiting_sender_go() -> None:
    inbox = Inbox()
    for _ in range(MAX_MESSAGES):
        inbox.put_message(make_incoming(b""))
    sender = Thread(target=inbox.put_message, args=(make_incoming(b"last"),), daemon=True)
    sender.start()
    inbox.close()
    sender.join(timeout=5)
    assert not sender.is_alive()


def test_news_come_in_order_and_once() -> None:
    inbox = Inbox()
    said: list[int] = []
    for number in range(3):
        inbox.put_news(partial(said.append, number))
    for news in inbox.take_news(timeout_s=0):
        news()
    assert said == [0, 1, 2]
    assert inbox.take_news(timeout_s=0) == []


def test_too_much_news_holds_who_brings_it_until_the_worker_has_taken_it() -> None:
    inbox = Inbox()
    for _ in range(MAX_NEWS):
        inbox.put_news(lambda: None)
    sender = Thread(target=inbox.put_news, args=(lambda: None,), daemon=True)
    sender.start()
    sender.join(timeout=0.05)
    assert sender.is_alive()
    assert len(inbox.take_news(timeout_s=0)) == MAX_NEWS
    sender.join(timeout=5)
    assert not sender.is_alive()


def test_bytes_hold_the_sender_too_and_the_wait_is_told() -> None:
    waited: list[float] = []
    inbox = Inbox(max_bytes=100, withheld=waited.append)
    inbox.put_message(make_incoming(bytes(60)))
    sender = Thread(target=inbox.put_message, args=(make_incoming(bytes(41)),), daemon=True)
    sender.start()
    sender.join(timeout=0.05)
    assert sender.is_alive()
    assert (inbox.num_messages, inbox.num_bytes) == (1, 60)
    inbox.drop_messages(1)
    sender.join(timeout=5)
    assert (inbox.num_messages, inbox.num_bytes) == (1, 41)
    assert sum(waited) >= 0.05


def test_a_message_larger_than_the_bound_is_taken_alone() -> None:
    inbox = Inbox(max_bytes=100)
    inbox.put_message(make_incoming(bytes(1000)))
    assert inbox.num_bytes == 1000


def test_a_batch_is_bounded_in_bytes_but_never_empty() -> None:
    inbox = Inbox()
    for _ in range(3):
        inbox.put_message(make_incoming(bytes(MAX_BATCH_BYTES // 2 + 1)))
    assert len(inbox.peek_messages()) == 1
    inbox.drop_messages(3)
    inbox.put_message(make_incoming(bytes(MAX_BATCH_BYTES + 1)))
    assert len(inbox.peek_messages()) == 1


def test_the_first_of_a_batch_does_not_wait_long_for_others() -> None:
    inbox = Inbox()
    inbox.put_message(make_incoming(b"alone"))
    began = time.monotonic()
    assert inbox.take_news(timeout_s=5) == []
    assert time.monotonic() - began < 1

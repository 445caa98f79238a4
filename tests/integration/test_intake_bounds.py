"""What an edge node keeps in memory while it can neither commit nor send, with real brokers."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import get_args

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.intakebed import updates
from benchmarks.intakebed.site import Site
from common import wire
from common.link import MAX_QUEUED, Link
from common.messages import Receipt
from simulators.broker import EmbeddedBroker
from simulators.broker_process import Kind

MB = 1_000_000
NUM_MESSAGES, MESSAGE_BYTES, INBOX_MB = 100, MB, 8
GROWTH_MB = 40  # what Python and paho need around eight megabytes of messages


def wait_for(happened: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(size) * 1024 / MB


@contextmanager
def busy_ledger(path: Path) -> Iterator[None]:
    """Somebody else writes, so that no commit succeeds."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def flooding(port: int, receipts: dict[str, Receipt]) -> Iterator[None]:
    """As many wristbands publish a megabyte each, and hear what became of it."""

    def hear(_client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage) -> None:
        receipt = wire.decode_json(bytes(message.payload), Receipt)
        receipts[receipt.device] = receipt

    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.on_message = hear
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe(updates.topic(0, "receipt").replace(updates.device(0), "+"), qos=1)
    for number in range(NUM_MESSAGES):
        client.publish(updates.topic(number, "update"), bytes(MESSAGE_BYTES), qos=1)
    yield
    client.disconnect()
    client.loop_stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", get_args(Kind))
def test_memory_stays_bounded_while_nothing_can_be_committed(kind: Kind, tmp_path: Path) -> None:
    receipts: dict[str, Receipt] = {}
    with (
        EmbeddedBroker(kind=kind) as broker,
        Site(tmp_path, broker.url, NUM_MESSAGES, 20_000, inbox_mb=INBOX_MB) as site,
    ):
        before = resident_mb(site.pid)
        with busy_ledger(site.ledger), flooding(broker.port, receipts):
            wait_for(
                lambda: site.metric("pulsering_edge_inbox_withheld_seconds_total") > 3,
                "the inbox to be full",
            )
            held = site.metric("pulsering_edge_inbox_bytes")
            grown = resident_mb(site.pid) - before
        assert (INBOX_MB - 1) * MB < held <= INBOX_MB * MB
        assert grown < GROWTH_MB
        assert not receipts
        with flooding(broker.port, receipts):  # the same bytes again, as wristbands do
            wait_for(lambda: len(receipts) == NUM_MESSAGES, "a receipt for each")
        assert {receipt.reason for receipt in receipts.values()} == {"oversize"}
        wait_for(lambda: site.metric("pulsering_edge_inbox_bytes") == 0, "an empty inbox")
        assert resident_mb(site.pid) - before < GROWTH_MB


@pytest.mark.parametrize("kind", get_args(Kind))
def test_publishing_is_refused_when_a_broker_stops_reading(kind: Kind) -> None:
    with EmbeddedBroker(kind=kind) as broker:
        link = Link(
            broker.url,
            "stuck",
            on_connect=lambda: None,
            on_message=lambda *_: None,
            subscriptions=[],
        )
        link.start()
        wait_for(lambda: link.connected, "the broker")
        os.killpg(broker.pid, signal.SIGSTOP)
        try:
            taken = [link.publish("pulsering/v1/a/b/c/receipt", b"x" * 300) for _ in range(12_000)]
        finally:
            os.killpg(broker.pid, signal.SIGCONT)
        assert MAX_QUEUED <= sum(taken) < 12_000
        assert not taken[-1]
        wait_for(lambda: link.publish("pulsering/v1/a/b/c/receipt", b"x"), "room again")
        link.stop()

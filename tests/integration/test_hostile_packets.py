"""PUBLISH packets that brokers pass on and that must not end or stall the session of an edge node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import paho.mqtt.client as mqtt
import pytest

from common.link import Link
from simulators.broker import EmbeddedBroker
from simulators.broker_process import Kind, mosquitto_program
from tests.builders.raw_mqtt import RawPublisher, publish_packet, text, user_property

KINDS: list[Kind] = []
if find_spec("iotcore"):
    KINDS.append("iotcore")
if mosquitto_program():
    KINDS.append("mosquitto")

PROPERTIES = {
    "U+FEFF as a value": user_property("key", "\ufeff"),
    "U+FEFF as a key": user_property("\ufeff", "value"),
    "U+FEFF as content type": b"\x03" + text("\ufeff"),
    "U+FEFF as response topic": b"\x08" + text("\ufeff"),
    "NUL as a value": user_property("key", "\0"),
    "control characters": user_property("key", "\x01\x7f\ufffe"),
    "broken UTF-8": user_property("key", b"\xff\xfe"),
    "a surrogate": user_property("key", b"\xed\xa0\x80"),
    "two content types": b"\x03" + text("a") + b"\x03" + text("b"),
    "a format that is none": b"\x01\x02",
    "text that is none": b"\x01\x01",
    "a subscription of its own": b"\x0b\x05",
    "a topic alias": b"\x23\x00\x01",
    "expiry at once": b"\x02" + bytes(4),
    "a wildcard to respond to": b"\x08" + text("#"),
    "an unknown property": b"\x7f\x00",
    "100,000 properties": user_property("", "") * 100_000,
}
TOPICS: tuple[bytes, ...] = (
    b"t/\0/update",
    "t/\ufeff/update".encode(),
    b"t/\xff\xfe/update",
    b"t/\xed\xa0\x80/update",
    b"t/+/update",
    b"t/#/update",
    b"t/" + b"x" * 60_000 + b"/update",
    b"t//update",
)


def wait_for(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


class Ear:
    """An edge node's session: persistent, acknowledging by hand."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.heard: list[bytes] = []
        self.num_connects = 0
        self.link = Link(
            broker.url,
            "ear",
            on_connect=self.connected,
            on_message=self.hear,
            subscriptions=["t/+/update"],
            manual_ack=True,
        )
        self.link.start()
        wait_for(lambda: self.num_connects > 0, "the broker")

    def connected(self) -> None:
        self.num_connects += 1

    def hear(self, _topic: str, data: bytes, message: mqtt.MQTTMessage) -> None:
        self.heard.append(data)
        self.link.acknowledge(message.mid, message.qos)


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(kind=request.param) as running:
        yield running


@pytest.fixture
def ear(broker: EmbeddedBroker) -> Iterator[Ear]:
    made = Ear(broker)
    yield made
    made.link.stop()


def say(broker: EmbeddedBroker, packet: bytes) -> None:
    with RawPublisher(broker.host, broker.port, "stranger") as publisher:
        publisher.send(packet)


def say_and_hear(broker: EmbeddedBroker, ear: Ear, data: bytes) -> None:
    say(broker, publish_packet("t/good/update", data))
    wait_for(lambda: data in ear.heard, f"a good message after {data!r}")


def test_no_properties_end_the_session_or_keep_good_messages_from_it(
    broker: EmbeddedBroker, ear: Ear
) -> None:
    say_and_hear(broker, ear, b"first")
    for name, properties in PROPERTIES.items():
        say(broker, publish_packet("t/bad/update", b"bad", properties=properties))
        say_and_hear(broker, ear, name.encode())
    assert ear.num_connects == 1


def test_no_topic_ends_the_session_or_keeps_good_messages_from_it(
    broker: EmbeddedBroker, ear: Ear
) -> None:
    say_and_hear(broker, ear, b"first")
    for topic in TOPICS:
        say(broker, publish_packet(topic, b"bad"))
        say_and_hear(broker, ear, topic[:20])
    assert ear.num_connects == 1

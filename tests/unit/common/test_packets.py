"""A PUBLISH packet is read as paho reads it, but for its properties, whatever they are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish  # what `common.client` does without
from paho.mqtt.enums import MQTTProtocolVersion

from common.packets import Published, read_publish
from tests.builders.raw_mqtt import publish_packet, text, user_property


def body(packet: bytes) -> bytes:
    """Without the fixed header."""
    start = 1 + next(n for n, byte in enumerate(packet[1:], 1) if byte < 0x80)
    return packet[start:]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("num", [0, 1, 3, 20, 3000])
def test_topic_id_and_payload_are_read(qos: int, num: int) -> None:
    properties = user_property("key", "value") * num
    packet = body(publish_packet("a/b", b"payload", properties=properties, qos=qos, mid=7))
    assert read_publish(packet, qos) == Published(b"a/b", 7 if qos else 0, b"payload")


@given(st.text("ab/é", min_size=1), st.binary(max_size=300), st.integers(0, 1), st.integers(1, 9))
def test_it_is_what_paho_reads(topic: str, payload: bytes, qos: int, mid: int) -> None:
    packet = body(publish_packet(topic, payload, qos=qos, mid=mid))
    theirs = decode_publish(0x30 | qos << 1, bytearray(packet), MQTTProtocolVersion.MQTTv5)
    ours = read_publish(bytearray(packet), qos)
    assert ours == (theirs.topic, theirs.mid if qos else 0, theirs.payload)


def test_what_paho_would_have_ended_the_connection_for_is_read() -> None:
    packet = body(publish_packet("a", b"x", properties=user_property("key", "\ufeff")))
    assert read_publish(packet, 1) == (b"a", 1, b"x")


def test_properties_cost_nothing_however_many() -> None:
    packet = body(publish_packet("a", b"", properties=user_property("", "") * 400_000))
    began = time.perf_counter()
    read_publish(packet, 1)
    assert time.perf_counter() - began < 1  # paho takes minutes


@pytest.mark.parametrize("qos", [0, 1])
def test_packet_that_ends_before_its_payload_is_refused(qos: int) -> None:
    packet = body(publish_packet("a/b", b"", properties=b"\x03" + text("json"), qos=qos))
    for end in range(len(packet)):
        assert read_publish(packet[:end], qos) is None
    assert read_publish(b"\0\1a" + b"\xff" * 5, 0) is None


@given(st.binary(max_size=100), st.integers(0, 2))
def test_no_bytes_make_it_fail(packet: bytes, qos: int) -> None:
    read = read_publish(packet, qos)
    assert read is None or len(read.payload) < len(packet)

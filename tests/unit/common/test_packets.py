"""Properties of a PUBLISH are left out, whatever they are; all else stays as it was."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish  # what `common.link` keeps strangers' bytes from
from paho.mqtt.enums import MQTTProtocolVersion

from common.packets import without_properties
from tests.builders.raw_mqtt import publish_packet, text, user_property


def body(packet: bytes) -> bytes:
    """Without the fixed header."""
    start = 1 + next(n for n, byte in enumerate(packet[1:], 1) if byte < 0x80)
    return packet[start:]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("num", [0, 1, 3, 20, 3000])
def test_topic_id_and_payload_stay(qos: int, num: int) -> None:
    properties = user_property("key", "value") * num
    packet = publish_packet("a/b", b"payload", properties=properties, qos=qos, mid=7)
    bare = publish_packet("a/b", b"payload", qos=qos, mid=7)
    assert without_properties(body(packet), qos) == body(bare)


def test_paho_reads_what_it_would_have_ended_the_connection_for() -> None:
    packet = body(publish_packet("a", b"x", properties=user_property("key", "\ufeff")))
    read = decode_publish(0x32, without_properties(packet, 1), MQTTProtocolVersion.MQTTv5)
    assert (read.topic, read.mid, read.payload) == (b"a", 1, b"x")


def test_properties_cost_nothing_however_many() -> None:
    packet = body(publish_packet("a", b"", properties=user_property("", "") * 400_000))
    began = time.perf_counter()
    without_properties(packet, 1)
    assert time.perf_counter() - began < 1  # paho takes minutes


@pytest.mark.parametrize("qos", [0, 1])
def test_packet_that_ends_in_its_properties_is_left_for_paho_to_refuse(qos: int) -> None:
    packet = body(publish_packet("a/b", b"", properties=b"\x03" + text("json"), qos=qos))
    for end in range(len(packet)):
        assert without_properties(packet[:end], qos) == packet[:end]
    assert without_properties(b"\0\1a" + b"\xff" * 5, 0) == b"\0\1a" + b"\xff" * 5


@given(st.binary(max_size=100), st.integers(0, 2))
def test_no_bytes_make_it_fail(packet: bytes, qos: int) -> None:
    assert len(without_properties(packet, qos)) <= len(packet)

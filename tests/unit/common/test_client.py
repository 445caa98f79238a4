"""Paho's client that reads ahead and sends at once, over a socket pair that plays the broker."""

from __future__ import annotations

import socket
from collections.abc import Callable

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from common.client import READ_AHEAD, SEND_AT_ONCE, BusyClient
from tests.builders.raw_mqtt import publish_packet

CONNACK = b"\x20\x03\x00\x00\x00"


class Wire(BusyClient):
    """Its connection is one end of a socket pair."""

    def __init__(self) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id="x", protocol=mqtt.MQTTv5)
        self.heard: list[tuple[str, bytes]] = []
        self.num_receives = self.num_sends = 0
        self.on_message = lambda _client, _data, one: self.heard.append(
            (one.topic, bytes(one.payload))
        )

    def _create_socket(self) -> socket.socket:
        ours, self.broker = socket.socketpair()
        self.broker.setblocking(False)
        return ours

    def _read_ahead(self) -> int:
        self.num_receives += 1
        return super()._read_ahead()

    def _send_unsent(self) -> None:
        self.num_sends += bool(self._unsent)
        super()._send_unsent()


@pytest.fixture
def wire() -> Wire:
    client = Wire()
    client.connect("nowhere", 1)
    client.loop_write()
    assert client.broker.recv(1000)[0] == 0x10
    client.broker.sendall(CONNACK)
    client.loop_read()
    assert client.is_connected()
    return client


def drain(sock: socket.socket) -> bytes:
    got = b""
    while True:
        try:
            got += sock.recv(1 << 20)
        except BlockingIOError:
            return got


def test_many_packets_are_read_by_one_call(wire: Wire) -> None:
    wire.broker.sendall(b"".join(publish_packet("t", bytes([k])) for k in range(100)))
    before = wire.num_receives
    wire.loop_read()
    assert [payload for _, payload in wire.heard] == [bytes([k]) for k in range(100)]
    assert wire.num_receives <= before + 2


@pytest.mark.parametrize("size", [0, 127, 128, READ_AHEAD - 8, READ_AHEAD, 2 * READ_AHEAD + 7])
@pytest.mark.parametrize("piece", [1000, 77_777])
def test_packets_in_pieces_arrive_whole(wire: Wire, size: int, piece: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    stream = publish_packet("a/b", payload[:size]) + publish_packet("c", b"next")
    for start in range(0, len(stream), piece):
        wire.broker.setblocking(True)
        wire.broker.sendall(stream[start : start + piece])
        wire.loop_read()
    assert wire.heard == [("a/b", payload[:size]), ("c", b"next")]


def test_packets_that_wait_go_out_together_and_in_order(wire: Wire) -> None:
    wire.on_socket_register_write = lambda *_: None  # as if another thread published
    for number in range(50):
        wire.publish("t", b"%02d" % number, qos=0)
    before = wire.num_sends
    wire.loop_write()
    got = drain(wire.broker)
    assert [got[k : k + 8][-2:] for k in range(0, len(got), 8)] == [b"%02d" % k for k in range(50)]
    assert wire.num_sends == before + 1
    assert not wire.want_write()


def test_what_the_socket_does_not_take_waits_and_is_bounded(wire: Wire) -> None:
    wire.on_socket_register_write = lambda *_: None
    payloads = [bytes([k % 251]) * 5000 for k in range(400)]
    for payload in payloads:
        wire.publish("t", payload, qos=0)
    wire.loop_write()
    assert wire.want_write()
    assert len(wire._unsent) <= SEND_AT_ONCE
    got = b""
    while wire.want_write():
        got += drain(wire.broker)
        wire.loop_write()
    got += drain(wire.broker)
    assert got == b"".join(b"\x30\x8c\x27\x00\x01t\x00" + payload for payload in payloads)


def test_a_farewell_is_sent_before_the_socket_closes(wire: Wire) -> None:
    wire.disconnect()
    wire.loop_write()
    assert drain_to_end(wire.broker.recv) == b"\xe0\x00"


def test_a_connection_that_ended_is_noticed(wire: Wire) -> None:
    wire.broker.close()
    assert wire.loop_read() != mqtt.MQTT_ERR_SUCCESS
    assert not wire.is_connected()


def test_nothing_of_one_connection_is_left_in_the_next(wire: Wire) -> None:
    wire.broker.sendall(publish_packet("t", b"half a packet")[:9])
    wire.loop_read()
    wire.reconnect()
    wire.loop_write()
    wire.broker.sendall(CONNACK + publish_packet("t", b"whole"))
    wire.loop_read()
    assert wire.heard == [("t", b"whole")]


def test_an_acknowledged_publish_makes_room_for_the_next(wire: Wire) -> None:
    window = wire.max_inflight_messages
    infos = [wire.publish("t", b"%02d" % number, qos=1) for number in range(window + 1)]
    wire.loop_write()
    assert drain(wire.broker)[-2:] == b"%02d" % (window - 1)
    for mid in (999, infos[0].mid):  # the first is nobody's
        wire.broker.sendall(b"\x40\x02" + mid.to_bytes(2, "big"))
        wire.loop_read()
    assert [info.is_published() for info in infos] == [True, *[False] * window]
    wire.loop_write()
    assert drain(wire.broker)[-2:] == b"%02d" % window


def test_a_refused_publish_is_settled_too(wire: Wire) -> None:
    info = wire.publish("t", b"x", qos=1)
    wire.broker.sendall(b"\x40\x03" + info.mid.to_bytes(2, "big") + b"\x87")  # not authorized
    wire.loop_read()
    assert info.is_published()


@pytest.mark.parametrize("manual", [False, True])
def test_a_message_is_acknowledged_at_once_unless_by_hand(wire: Wire, manual: bool) -> None:
    wire.manual_ack_set(manual)
    wire.broker.sendall(publish_packet("t", b"x", mid=77))
    wire.loop_read()
    wire.loop_write()
    assert drain(wire.broker) == (b"" if manual else b"\x40\x02\x00\x4d")


def drain_to_end(receive: Callable[[int], bytes]) -> bytes:
    got = b""
    while part := receive(1 << 20):
        got += part
    return got

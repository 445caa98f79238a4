"""What edge nodes, coordinator and wristbands rely on, of every broker that this machine has."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from common.errors import ConfigError
from simulators.broker import EmbeddedBroker, accepts_sessions
from simulators.broker_process import Kind, mosquitto_program

REPOSITORY = Path(__file__).resolve().parents[2]
KINDS: list[Kind] = []
if find_spec("iotcore"):
    KINDS.append("iotcore")
if mosquitto_program():
    KINDS.append("mosquitto")


class Client:
    """A paho client on a thread of its own that keeps what it gets."""

    def __init__(
        self, broker: EmbeddedBroker, name: str, *topics: str, keep: bool = False, will: str = ""
    ) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.session_present = False
        self._ready = threading.Event()
        self._topics = topics
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5
        )
        if will:
            self._client.will_set(will, b"gone", qos=1, retain=True)
        self._client.on_connect = self._connected
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = lambda _c, _d, m: self.got.append((m.topic, bytes(m.payload)))
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's
        properties.SessionExpiryInterval = 3600 if keep else 0
        self._client.connect(broker.host, broker.port, clean_start=not keep, properties=properties)
        self._client.loop_start()
        assert self._ready.wait(5)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(5)

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def crash(self) -> None:
        self._client.reconnect_delay_set(60, 60)
        sock = self._client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)

    def _connected(
        self, client: mqtt.Client, _data: object, flags: mqtt.ConnectFlags, *_: object
    ) -> None:
        self.session_present = flags.session_present
        if self._topics:
            client.subscribe([(topic, 1) for topic in self._topics])
        else:
            self._ready.set()


def wait_until(reached: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(params=KINDS)
def broker(request: pytest.FixtureRequest) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(kind=request.param) as running:
        yield running


def test_wildcard_subscriber_gets_what_was_retained(broker: EmbeddedBroker) -> None:
    sender = Client(broker, "sender")
    expected = {(f"a/{i}/status", b"%d" % i) for i in range(100)}  # iotcore sends 100 at most
    for topic, payload in expected:
        sender.publish(topic, payload, retain=True)
    late = Client(broker, "late", "a/+/status")
    wait_until(lambda: set(late.got) == expected)


def test_empty_payload_clears_what_was_retained(broker: EmbeddedBroker) -> None:
    sender = Client(broker, "sender")
    sender.publish("a/1", b"old", retain=True)
    sender.publish("a/2", b"old", retain=True)
    sender.publish("a/2", b"new", retain=True)
    sender.publish("a/1", b"", retain=True)
    late = Client(broker, "late", "a/+")
    wait_until(lambda: late.got == [("a/2", b"new")])


def test_queue_of_a_persistent_session_waits_for_it(broker: EmbeddedBroker) -> None:
    sender = Client(broker, "sender")
    Client(broker, "edge", "q/+", keep=True).crash()
    for i in range(500):
        sender.publish(f"q/{i}", b"x" * 1000)
    again = Client(broker, "edge", "q/+", keep=True)
    assert again.session_present
    wait_until(lambda: len({topic for topic, _ in again.got}) == 500)


def test_will_comes_after_a_crash_and_not_after_a_farewell(broker: EmbeddedBroker) -> None:
    watcher = Client(broker, "watcher", "w/+")
    Client(broker, "polite", will="w/polite").leave()
    Client(broker, "crashing", will="w/crashing").crash()
    wait_until(lambda: bool(watcher.got))
    assert watcher.got == [("w/crashing", b"gone")]
    late = Client(broker, "late", "w/+")
    wait_until(lambda: late.got == [("w/crashing", b"gone")])


def test_takes_a_message_of_almost_2_mb(broker: EmbeddedBroker) -> None:
    receiver = Client(broker, "receiver", "big")
    Client(broker, "sender").publish("big", b"x" * 2_000_000)
    wait_until(lambda: bool(receiver.got))
    assert len(receiver.got[0][1]) == 2_000_000


def test_starts_again_on_its_port_after_a_crash(broker: EmbeddedBroker) -> None:
    url, pid = broker.url, broker.pid
    broker.kill()
    assert not accepts_sessions(broker.host, broker.port)
    broker.start()
    assert broker.url == url
    assert broker.pid not in (0, pid)


def test_second_broker_on_a_port_is_refused(broker: EmbeddedBroker) -> None:
    with pytest.raises(ConfigError, match=str(broker.port)):
        EmbeddedBroker(broker.port).start()


def test_command_names_a_port_in_use_and_exits_with_2(broker: EmbeddedBroker) -> None:
    command = [sys.executable, "-m", "simulators", "broker", "--port", str(broker.port)]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 2
    assert str(broker.port) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_broker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import time; from simulators.broker import EmbeddedBroker; "
        "print(EmbeddedBroker().start().port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        port = int(owner.stdout.readline())
        assert accepts_sessions("127.0.0.1", port)
        owner.kill()
    wait_until(lambda: not accepts_sessions("127.0.0.1", port))

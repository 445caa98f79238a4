"""The peer: a paho subscriber, QoS 1 with paho's own acknowledgements, that only counts.

``python -m benchmarks.intakebed.counter PORT NUM`` prints ``ready``, and at the end one JSON line.
It ends after NUM messages, or at the end of its stdin.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from benchmarks.intakebed.updates import HOSPITAL, REGION
from common import topics
from common.link import send_at_once


class Counter:
    """Counts what arrives and notes when the last did."""

    def __init__(self, port: int, num_awaited: int) -> None:
        self.num = 0
        self.last_at = 0.0
        self.ready, self.done = threading.Event(), threading.Event()
        self._num_awaited = num_awaited
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="counter", protocol=mqtt.MQTTv5
        )
        self._client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def stop(self) -> None:
        """Leave."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        client.subscribe(topics.device(REGION, HOSPITAL, "+", "update"), qos=1)

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, _message: mqtt.MQTTMessage
    ) -> None:
        self.num += 1
        self.last_at = time.monotonic()
        if self.num == self._num_awaited:
            self.done.set()


def _await_end(counter: Counter) -> None:
    sys.stdin.read()
    counter.done.set()


def main() -> None:
    """Count."""
    port, num_awaited = map(int, sys.argv[1:])
    counter = Counter(port, num_awaited)
    threading.Thread(target=_await_end, args=(counter,), daemon=True).start()
    counter.ready.wait()
    before = time.process_time()
    print("ready", flush=True)
    counter.done.wait()
    used = time.process_time() - before
    said = {"num": counter.num, "last_at": counter.last_at, "cpu_s": used}
    print(json.dumps(said), flush=True)
    counter.stop()


if __name__ == "__main__":
    main()

"""Wristbands without a wearer: one `selectors` loop of paho clients, as `simulators.swarm` has.

``python -m benchmarks.intakebed.publishers`` reads a `Publisher` as a JSON line, makes the updates,
connects, says ``ready``, publishes all of them at once when it is told ``go``, and ends with a JSON
line once each has its receipt (or, without `receipts`, its PUBACK).  Updates wait in the
wristbands' own `Outbox`; with `resend` it sends again what has no receipt after 5 s, 10 s, ….
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.intakebed import updates
from common import topics
from common.client import Client
from common.link import send_at_once
from simulators.outbox import Outbox

CONNECTS_AT_ONCE = 50
MAX_SUBSCRIPTIONS = 200
SWEEP_S = 0.5
COUNT_S = 0.5
STEP_S = 0.1


@dataclass
class Published:
    """What came of it; times are of the system's monotonic clock."""

    first_at: float = 0.0
    last_at: float = 0.0
    num_sent: int = 0
    num_receipted: int = 0
    num_receipted_unsent_again: int = 0
    num_refused: int = 0
    num_acknowledged: int = 0
    cpu_s: float = 0.0


class Session:
    """One connection and the updates that go through it."""

    def __init__(self, name: str, port: int, outboxes: dict[str, Outbox], loop: Loop) -> None:
        self.outboxes = outboxes
        self.ready = False
        self._loop = loop
        self._client = client = Client(
            CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5
        )
        client.on_connect = lambda *_: self._subscribe()
        client.on_subscribe = lambda *_: setattr(self, "ready", True)
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._watch_writing
        client.on_socket_unregister_write = self._watch_reading
        client.connect("127.0.0.1", port, keepalive=300)

    def publish_due(self, now: float) -> None:
        """Publish what was not, or not lately enough."""
        for name, outbox in self.outboxes.items():
            for _subject, payload in outbox.take_due(now):
                topic = topics.device(updates.REGION, updates.HOSPITAL, name, "update")
                self._loop.sent(name, self._client.publish(topic, payload, qos=1))

    def ready_for(self, events: int) -> None:
        """Let the client read and write what it can without waiting."""
        if events & selectors.EVENT_READ:
            self._client.loop_read()
        if events & selectors.EVENT_WRITE:
            self._client.loop_write()

    def _subscribe(self) -> None:
        names = self.outboxes if len(self.outboxes) <= MAX_SUBSCRIPTIONS else ("+",)
        wanted = [
            (topics.device(updates.REGION, updates.HOSPITAL, name, "receipt"), 1) for name in names
        ]
        self._client.subscribe(wanted)

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        receipt = json.loads(message.payload)
        outbox = self.outboxes.get(receipt["device"])  # one session may hear of all devices
        if outbox and outbox.settle("update", receipt["content_digest"]):
            self._loop.receipted(receipt["device"], stored=receipt["status"] == "stored")

    def _on_socket_open(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            send_at_once(sock)
            self._loop.selector.register(sock, selectors.EVENT_READ, self)

    def _on_socket_close(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._loop.selector.unregister(sock)

    def _watch_writing(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._loop.selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def _watch_reading(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._loop.selector.modify(sock, selectors.EVENT_READ, self)


class Loop:
    """All sessions in one thread."""

    def __init__(self, plan: updates.Publisher) -> None:
        self.selector = selectors.DefaultSelector()
        self.published = Published()
        self._plan = plan
        self._times_sent: dict[str, int] = {}
        self._unacknowledged: list[mqtt.MQTTMessageInfo] = []
        outboxes = _outboxes(plan)
        names = list(outboxes)
        self._sessions: list[Session] = []
        for k in range(plan.num_connections):
            own = {name: outboxes[name] for name in names[k :: plan.num_connections]}
            self._sessions.append(Session(f"publisher-{k}", plan.port, own, self))
            if k % CONNECTS_AT_ONCE == CONNECTS_AT_ONCE - 1:
                self._turn_until(lambda: all(session.ready for session in self._sessions))
        self._turn_until(lambda: all(session.ready for session in self._sessions))

    def run(self) -> Published:
        """Publish all at once, and again what has no receipt, until nothing is left."""
        told = self.published
        told.first_at, before = time.monotonic(), time.process_time()
        swept_at = counted_at = 0.0
        while not self._done():
            now = time.monotonic()
            if now > told.first_at + self._plan.deadline_s:
                break
            if now >= swept_at + SWEEP_S and (self._plan.resend or swept_at == 0.0):
                swept_at = now
                for session in self._sessions:
                    session.publish_due(now)
            self._turn()
            if now >= counted_at + COUNT_S:
                counted_at = now
                self._count_acknowledged()
        self._count_acknowledged()
        told.cpu_s = time.process_time() - before
        return told

    def sent(self, name: str, info: mqtt.MQTTMessageInfo) -> None:
        """An update was handed to paho."""
        self.published.num_sent += 1
        self._unacknowledged.append(info)
        self._times_sent[name] = self._times_sent.get(name, 0) + 1

    def receipted(self, name: str, *, stored: bool) -> None:
        """The edge node has an update, or wants none of it."""
        told = self.published
        told.last_at = time.monotonic()
        told.num_receipted += stored
        told.num_refused += not stored
        told.num_receipted_unsent_again += stored and self._times_sent[name] == 1

    def _count_acknowledged(self) -> None:
        self._unacknowledged = [one for one in self._unacknowledged if not one.is_published()]
        self.published.num_acknowledged = self.published.num_sent - len(self._unacknowledged)

    def _done(self) -> bool:
        told, num = self.published, self._plan.num_updates
        if self._plan.receipts:
            return told.num_receipted + told.num_refused >= num
        return told.num_acknowledged == told.num_sent == num

    def _turn_until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self._turn()

    def _turn(self) -> None:
        for key, events in self.selector.select(STEP_S):
            key.data.ready_for(events)


def _outboxes(plan: updates.Publisher) -> dict[str, Outbox]:
    rng = np.random.default_rng(0)
    kept = {}
    made = updates.make_updates(plan.num_updates, plan.update_bytes)
    for number, payload in enumerate(made):
        kept[updates.device(number)] = outbox = Outbox(rng)
        outbox.put("update", payload, now=0.0)
    return kept


def main() -> None:
    """Publish as the line on stdin says."""
    loop = Loop(updates.Publisher(**json.loads(sys.stdin.readline())))
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asdict(loop.run())), flush=True)


if __name__ == "__main__":
    main()

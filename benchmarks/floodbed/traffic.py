"""Good wristbands: each publishes one valid update, at a steady rate, and waits for its receipt."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from paho.mqtt.client import MQTTMessage

from benchmarks.floodbed.ward import HOSPITAL, REGION, Ward
from common import topics, wire
from common.errors import PulseRingError
from common.link import Link
from common.messages import Receipt
from tests.builders.raw_mqtt import RawPublisher, publish_packet

NUM_SESSIONS = 8
WINDOW = 16
CONNECT_TIMEOUT_S = 10.0
POLL_S = 0.02
RESEND_S, RESEND_PER_S = 5.0, 500.0


@dataclass(frozen=True)
class Delivered:
    """Receipts for `num` updates, `rate_per_s` from the first publish to the last receipt.

    `offered_per_s` is how fast they were published: a machine that is busy with other things slows
    those who publish, too.  `slowest_second` is how many receipts came in the poorest second between first and last publish.
    """

    num: int
    num_resent: int
    num_stored: int
    offered_per_s: float
    rate_per_s: float
    slowest_second: float
    median_ms: float
    p95_ms: float
    worst_ms: float


class GoodTraffic:
    """Publishes from this process; receipts come to a session of their own."""

    def __init__(self, ward: Ward) -> None:
        self._ward = ward
        self._received: dict[str, tuple[float, str]] = {}

    def deliver(self, names: Sequence[str], rate_per_s: float, timeout_s: float) -> Delivered:
        """Publish an update of each of `names` and wait for all receipts.

        Raises
        ------
        PulseRingError
            When one does not come within `timeout_s` after the last publish.
        """
        packets = {name: self._packet(name, number) for number, name in enumerate(names)}
        broker = self._ward.broker
        with ExitStack() as stack:
            link = self._listen(names)
            stack.callback(link.stop)
            sessions = [
                stack.enter_context(
                    RawPublisher(broker.host, broker.port, f"band-{names[0]}-{number}")
                )
                for number in range(NUM_SESSIONS)
            ]
            sent = _publish(sessions, packets, rate_per_s)
            num_resent = self._await_receipts(sessions, packets, timeout_s)
        return self._delivered(names, sent, num_resent)

    def _await_receipts(
        self, sessions: Sequence[RawPublisher], packets: Mapping[str, bytes], timeout_s: float
    ) -> int:
        """Wait, and send again every `RESEND_S` what has no receipt, as a wristband does."""
        began, num_resent = time.monotonic(), 0
        resend_at = began + RESEND_S
        while waiting := [name for name in packets if name not in self._received]:
            now = time.monotonic()
            if now > began + timeout_s:
                raise PulseRingError(f"no receipt for {len(waiting)} updates, such as {waiting[0]}")
            if now > resend_at:
                _publish(sessions, {name: packets[name] for name in waiting}, RESEND_PER_S)
                resend_at, num_resent = now + RESEND_S, num_resent + len(waiting)
            time.sleep(POLL_S)
        return num_resent

    def _packet(self, name: str, number: int) -> bytes:
        target = self._ward.target
        rng = np.random.default_rng(number)
        tensors: dict[str, Any] = {
            key: rng.integers(-60, 61, t.shape).astype(t.dtype)
            for key, t in target.integers.items()
        }
        data = target.update(name, tensors)
        return publish_packet(target.topic(name, "update"), data, mid=1 + number)

    def _listen(self, names: Sequence[str]) -> Link:
        link = Link(
            self._ward.broker.url,
            f"good-{names[0]}",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.device(REGION, HOSPITAL, name, "receipt") for name in names],
        )
        link.start()
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not link.connected:
            if time.monotonic() > deadline:
                raise PulseRingError(f"no session with {self._ward.broker.url}")
            time.sleep(POLL_S)
        time.sleep(0.5)  # until the broker has taken the subscriptions
        return link

    def _hear(self, _topic: str, data: bytes, _message: MQTTMessage) -> None:
        receipt = wire.decode_json(data, Receipt)
        self._received.setdefault(receipt.device, (time.monotonic(), receipt.status))

    def _delivered(
        self, names: Sequence[str], sent: dict[str, float], num_resent: int
    ) -> Delivered:
        came = np.array(sorted(self._received[name][0] for name in names))
        first, last_sent = min(sent.values()), max(sent.values())
        seconds = np.histogram(came, np.arange(first, last_sent, 1.0))[0]
        waits = [1000 * (self._received[name][0] - sent[name]) for name in names]
        return Delivered(
            num=len(names),
            num_resent=num_resent,
            num_stored=sum(self._received[name][1] == "stored" for name in names),
            offered_per_s=(len(names) - 1) / (last_sent - first),
            rate_per_s=len(names) / (came[-1] - first),
            slowest_second=float(seconds.min()) if seconds.size else 0.0,
            median_ms=float(np.median(waits)),
            p95_ms=float(np.percentile(waits, 95)),
            worst_ms=max(waits),
        )


def _publish(
    sessions: Sequence[RawPublisher], packets: Mapping[str, bytes], rate_per_s: float
) -> dict[str, float]:
    """Publish at a rate; when each was sent, in seconds of the steady clock."""
    began, sent = time.monotonic(), {}
    for number, (name, packet) in enumerate(packets.items()):
        time.sleep(max(0.0, began + number / rate_per_s - time.monotonic()))
        sent[name] = time.monotonic()
        sessions[number % len(sessions)].post(packet, WINDOW)
    for session in sessions:
        session.settle()
    return sent

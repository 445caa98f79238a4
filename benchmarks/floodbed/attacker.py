"""Attackers as a process: malformed messages through a broker, at a rate or as fast as it takes them.

``python -m benchmarks.floodbed.attacker`` reads an `Order` as JSON from stdin and says ``ready`` when
its packets are made; at each further line it publishes them all and says how it went, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from benchmarks.floodbed.ward import HOSPITAL, REGION
from common import topics
from common.messages import RoundSpec
from tests.builders.raw_mqtt import RawPublisher, publish_packet
from tests.faults import malformed
from tests.faults.attacked_desk import BEATS, DEVICES, UNINVITED
from tests.faults.hostile import Hostile, Target

NUM_SESSIONS = 8
WINDOW = 16
_HEARD = {"update", "evaluation"}


@dataclass(frozen=True)
class Order:
    """`num` messages at `rate_per_s`; 0 is as fast as the broker takes them."""

    host: str
    port: int
    spec: dict[str, Any]
    seed: int
    num: int
    rate_per_s: float

    def encoded(self) -> str:
        """As `run` reads it."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Attacked:
    """What was sent, and what the broker ended the connection for instead of passing it on."""

    num: int
    num_bytes: int
    num_ended: int
    seconds: float


def heard(target: Target, seed: int, num: int) -> Iterator[Hostile]:
    """`num` malformed messages that an edge node subscribes to."""
    endless = malformed.messages(target, seed, sys.maxsize)
    return islice((one for one in endless if _is_heard(one.topic)), num)


def run(order: Order) -> None:
    """Make the packets, say so, and publish them at each line until there is none."""
    spec = RoundSpec.model_validate(order.spec)
    target = Target(spec, BEATS, HOSPITAL, DEVICES, UNINVITED)
    packets = [
        publish_packet(one.topic, one.payload, properties=one.properties, mid=1 + number % 60_000)
        for number, one in enumerate(heard(target, order.seed, order.num))
    ]
    print("ready", flush=True)
    while sys.stdin.readline():
        began = time.monotonic()
        num_ended = _publish(order, packets)
        seconds = time.monotonic() - began
        attacked = Attacked(len(packets), sum(map(len, packets)), num_ended, seconds)
        print(json.dumps(asdict(attacked)), flush=True)


def _publish(order: Order, packets: list[bytes]) -> int:
    sessions = [_connect(order, number) for number in range(NUM_SESSIONS)]
    began, num_ended = time.monotonic(), 0
    for number, packet in enumerate(packets):
        if order.rate_per_s:
            time.sleep(max(0.0, began + number / order.rate_per_s - time.monotonic()))
        place = number % NUM_SESSIONS
        try:
            sessions[place].post(packet, WINDOW)
        except OSError:
            num_ended += 1
            sessions[place] = _connect(order, place)
    for session in sessions:
        session.settle()
        session.close()
    return num_ended


def _connect(order: Order, number: int) -> RawPublisher:
    return RawPublisher(order.host, order.port, f"attacker-{order.seed}-{number}")


def _is_heard(topic: str) -> bool:
    parts = topic.split("/")
    addressed = topic.startswith(f"{topics.PREFIX}/{REGION}/{HOSPITAL}/") and len(parts) == 6
    return addressed and parts[5] in _HEARD and not set("+#\0") & set(topic)


if __name__ == "__main__":
    run(Order(**json.loads(sys.stdin.readline())))

"""A client beside the wristbands that says again what they said, and says nonsense.

The broker of a soak has no access control, so that anyone may speak for any wristband.
"""

from __future__ import annotations

from collections import deque
from typing import Self

import numpy as np
from paho.mqtt.client import MQTTMessage

from common import topics
from common.link import Link
from edge import intake
from edge.intake import Received, Station

KEPT = 200
OVERSIZE_BYTES = 1 << 20
HUGE_HEADER = (1 << 62).to_bytes(8, "little")
Letter = tuple[str, bytes]


class Crowd:
    """Remembers the last `KEPT` good updates and evaluations that it heard, not its own nonsense."""

    def __init__(self, broker_url: str, region: str) -> None:
        self._region = region
        self._heard: deque[Letter] = deque(maxlen=KEPT)
        self._link = Link(
            broker_url,
            "soak-crowd",
            on_connect=lambda: None,
            on_message=self._hear,
            subscriptions=[topics.device(region, "+", "+", x) for x in ("update", "evaluation")],
        )

    def __enter__(self) -> Self:
        self._link.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.stop()

    def repeat(self, num: int, rng: np.random.Generator) -> int:
        """Send up to `num` heard messages again, and return how many were sent."""
        heard = list(self._heard)
        return self._send([heard[i] for i in rng.integers(len(heard), size=num)] if heard else [])

    def babble(self, num: int, rng: np.random.Generator) -> int:
        """Send up to `num` malformed messages, and return how many were sent."""
        heard = list(self._heard)
        if not heard:
            return 0
        return self._send(
            [malformed(heard[i], self._region, rng) for i in rng.integers(len(heard), size=num)]
        )

    def _send(self, letters: list[Letter]) -> int:
        return sum(self._link.publish(topic, payload) for topic, payload in letters)

    def _hear(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        if is_good(topic, payload):
            self._heard.append((topic, payload))


def is_good(topic: str, payload: bytes) -> bool:
    """Whether an update or evaluation can be read and is in the name of its topic's device."""
    at = topics.parse_device(topic)
    if at is None or at.leaf not in intake.SUBJECTS:
        return False
    station = Station(at.region, at.hospital, frozenset({at.device}))
    return isinstance(intake.read(payload, at, intake.SUBJECTS[at.leaf], station), Received)


def malformed(letter: Letter, region: str, rng: np.random.Generator) -> Letter:
    """A message that must be refused, made from a good one in one of seven ways."""
    topic, payload = letter
    at = topics.parse_device(topic)
    hospital = at.hospital if at else "nowhere"
    match int(rng.integers(7)):
        case 0:  # bytes that are nothing
            return topic, rng.bytes(int(rng.integers(1, 50_000)))
        case 1:  # cut off
            return topic, payload[: int(rng.integers(len(payload)))]
        case 2:  # a header longer than any memory
            return topic, HUGE_HEADER + payload[8:]
        case 3:  # a byte of the header is another
            where = int(rng.integers(8, min(400, len(payload))))
            return topic, payload[:where] + bytes([payload[where] ^ 0x15]) + payload[where + 1 :]
        case 4:  # too large
            return topic, payload + bytes(OVERSIZE_BYTES)
        case 5:  # in another's name
            return topics.device(region, hospital, "wb-nobody", "update"), payload
        case _:  # on the other leaf
            other = "evaluation" if topic.endswith("/update") else "update"
            return topic.rsplit("/", 1)[0] + f"/{other}", payload

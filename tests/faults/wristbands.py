"""Wristbands that speak the real protocol with real bytes, badly if asked to, and keep a book.

They answer invites with made-up updates of the dummy task, keep each until its receipt and send it
again; their habits make them send twice, late, in another order, or something else for the same
base.  One session for each hospital, one thread for all.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from common import topics, wire
from common.digest import bytes_digest
from common.errors import ContractError
from common.link import BrokerAddress
from common.messages import (
    Invite,
    Reason,
    Receipt,
    RoundSpec,
)
from simulators.local_region import Roster
from tests.faults import letters
from tests.faults.book import Book, Heard, Made

RESEND_S = (0.6, 1.2)
LATER_S = 4.0
TOO_LATE = frozenset({Reason.ROUND_CLOSED, Reason.WRONG_ROUND, Reason.NOT_INVITED})


@dataclass(frozen=True)
class Habits:
    """How often (0 to 1) a message is sent twice, late, out of order, otherwise, or not at all.

    Attributes
    ----------
    other : float
        Another update for the same base is sent as well; only one of them may be stored.
    old : float
        Something that was sent before is sent again.
    """

    twice: float = 0.0
    late: float = 0.0
    other: float = 0.0
    old: float = 0.0
    forgotten: float = 0.0


CALM = Habits()


@dataclass
class _Letter:
    """A message that waits for its receipt."""

    made: Made
    spec: RoundSpec
    payload: bytes
    settled: bool = False


@dataclass
class _Band:
    """One wristband."""

    hospital: str
    device: str
    spec: RoundSpec | None = None
    letters: dict[str, _Letter] = field(default_factory=dict)
    past: list[tuple[str, bytes]] = field(default_factory=list)


Deed = Callable[[], None]


class Wristbands:
    """All wristbands of a region.

    Parameters
    ----------
    urls : mapping of str to str
        Each hospital's broker, as its wristbands reach it.
    """

    def __init__(self, region: str, roster: Roster, urls: Mapping[str, str], seed: int) -> None:
        self.book = Book()
        self.habits = CALM
        self._region = region
        self._rng = np.random.default_rng(seed)
        self._bands = {
            device: _Band(hospital, device)
            for hospital, devices in roster.items()
            for device, _ in devices
        }
        self._clients = {hospital: self._client(hospital, url) for hospital, url in urls.items()}
        self._deeds: queue.SimpleQueue[Deed | None] = queue.SimpleQueue()
        self._due: list[tuple[float, int, Deed]] = []
        self._order = itertools.count()
        self._thread = threading.Thread(target=self._work, name="wristbands", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        for client in self._clients.values():
            client.loop_start()
        return self

    def __exit__(self, *_: object) -> None:
        self._deeds.put(None)
        self._thread.join()
        for client in self._clients.values():
            client.disconnect()
            client.loop_stop()

    def behave(self, habits: Habits) -> None:
        """Take on other habits."""
        self.habits = habits

    def send_rubbish(self, hospital: str) -> None:
        """Let one of a hospital's wristbands send bytes that are no message."""
        self._deeds.put(lambda: self._rubbish(hospital))

    def storm(self, hospital: str, num: int) -> None:
        """Let a hospital's wristbands send what they sent last again, `num` times in all."""
        self._deeds.put(lambda: self._storm(hospital, num))

    # ------------------------------------------------------------ the wristbands' thread

    def _work(self) -> None:
        while True:
            wait_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else 1.0
            try:
                deed = self._deeds.get(timeout=wait_s) if wait_s else None
                if deed is None and wait_s:
                    return
                if deed:
                    deed()
            except queue.Empty:
                pass
            while self._due and self._due[0][0] <= time.monotonic():
                heapq.heappop(self._due)[2]()

    def _later(self, seconds: float, deed: Deed) -> None:
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), deed))

    def _hear(self, topic: str, payload: bytes) -> None:
        place = topics.parse_device(topic)
        band = self._bands.get(place.device) if place else None
        if not payload or place is None or band is None:
            return
        try:
            if place.leaf == "invite":
                self._invited(band, wire.decode_json(payload, Invite).spec)
            elif place.leaf == "receipt":
                self._receipted(band, wire.decode_json(payload, Receipt))
        except ContractError:  # the books will tell
            return

    def _invited(self, band: _Band, spec: RoundSpec) -> None:
        if band.spec is not None and spec.round_id <= band.spec.round_id:
            return
        band.spec = spec
        band.letters.pop("evaluation", None)
        update = band.letters.get("update")
        if update and not _fits(update.spec, spec):
            del band.letters["update"]
            if not update.settled:
                self._missed(band, update, spec)
            update = None
        late = band.letters.get("late")
        if late and not late.settled:
            self._missed(band, late, spec)
        if spec.purpose == "train" and (update is None or not update.settled):
            made = (
                update.made
                if update
                else letters.made_update(band.hospital, band.device, spec, self._rng)
            )
            self._post(band, "update", made, spec)
        if spec.evaluate:
            self._post(
                band,
                "evaluation",
                letters.made_evaluation(band.hospital, band.device, spec, self._rng),
                spec,
            )

    def _missed(self, band: _Band, letter: _Letter, spec: RoundSpec) -> None:
        """Send an update for a base before: as a late one where the round takes it, or as it was."""
        if letter.made.key[2] in spec.late_bases and spec.purpose == "train":
            self._post(band, "late", letter.made, spec)
        elif self._rng.random() < self.habits.late:
            self._send(band, "update", letter.payload)

    def _post(self, band: _Band, slot: str, made: Made, spec: RoundSpec) -> None:
        """Send a message now or a little later, twice, not at all, as habits are.

        `slot` is ``update``, ``evaluation``, or ``late`` for an update of a base before.
        """
        letter = _Letter(made, spec, self._encoded(made, spec))
        band.letters[slot] = letter
        leaf = made.subject
        habits, chance = self.habits, self._rng.random
        delay_s = float(self._rng.uniform(0, 0.03))
        if chance() < habits.late:
            delay_s = float(self._rng.uniform(0, LATER_S))
        copies = 1 + (int(self._rng.integers(1, 4)) if chance() < habits.twice else 0)
        if chance() < habits.forgotten:
            copies = 0
        for _ in range(copies):
            self._later(delay_s, lambda: self._send(band, leaf, letter.payload))
            delay_s += float(self._rng.exponential(0.05))
        if chance() < habits.other and slot == "update":
            other = self._encoded(
                letters.made_update(band.hospital, band.device, spec, self._rng), spec
            )
            self._later(float(self._rng.uniform(0, 0.3)), lambda: self._send(band, leaf, other))
        if chance() < habits.old and band.past:
            old = band.past[int(self._rng.integers(len(band.past)))]
            self._later(float(self._rng.uniform(0, 0.5)), lambda: self._send(band, *old))
        self._later(self._resend_s(), lambda: self._remind(band, slot, letter))

    def _encoded(self, made: Made, spec: RoundSpec) -> bytes:
        payload = letters.encoded(self._region, made, spec)
        self.book.note(bytes_digest(payload), made)
        return payload

    def _remind(self, band: _Band, slot: str, letter: _Letter) -> None:
        if letter.settled or band.letters.get(slot) is not letter:
            return
        self._send(band, letter.made.subject, letter.payload)
        self._later(self._resend_s(), lambda: self._remind(band, slot, letter))

    def _resend_s(self) -> float:
        return float(self._rng.uniform(*RESEND_S))

    def _receipted(self, band: _Band, receipt: Receipt) -> None:
        reason = receipt.reason.value if receipt.reason else ""
        heard = Heard(receipt.content_digest, receipt.device, receipt.status, reason)
        self.book.receipts.append(heard)
        made = self.book.sent.get(receipt.content_digest)
        too_late = receipt.status == "rejected" and receipt.reason in TOO_LATE
        for letter in band.letters.values():
            if made is letter.made:
                letter.settled = letter.settled or not too_late

    def _send(self, band: _Band, leaf: str, payload: bytes) -> None:
        """Hand bytes to the network if there is one; what it loses is sent again."""
        client = self._clients[band.hospital]
        band.past = [*band.past[-7:], (leaf, payload)]
        if client.is_connected():
            topic = f"{topics.PREFIX}/{self._region}/{band.hospital}/{band.device}/{leaf}"
            self.book.num_messages += 1
            client.publish(topic, payload, qos=1)

    def _rubbish(self, hospital: str) -> None:
        band = next(b for b in self._bands.values() if b.hospital == hospital)
        payload = self._rng.bytes(100)
        self.book.rubbish[bytes_digest(payload)] = band.device
        self._send(band, "update", payload)
        band.past.pop()

    def _storm(self, hospital: str, num: int) -> None:
        bands = [b for b in self._bands.values() if b.hospital == hospital and b.past]
        for i in range(num if bands else 0):
            band = bands[i % len(bands)]
            self._send(band, *band.past[-1 - int(self._rng.integers(min(2, len(band.past))))])

    # ------------------------------------------------------------ the network's threads

    def _client(self, hospital: str, url: str) -> mqtt.Client:
        address = BrokerAddress.parse(url)
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=f"bands-{hospital}", protocol=mqtt.MQTTv5
        )
        client.reconnect_delay_set(1, 2)
        wanted = [
            (topics.device(self._region, hospital, "+", leaf), 1) for leaf in ("invite", "receipt")
        ]
        client.on_connect = lambda client, *_: _subscribe(client, wanted)
        client.on_message = lambda _client, _data, message: self._deeds.put(
            lambda: self._hear(message.topic, bytes(message.payload))
        )
        client.connect_async(address.host, address.port, keepalive=5, clean_start=True)
        return client


def _subscribe(client: mqtt.Client, wanted: list[tuple[str, int]]) -> None:
    client.subscribe(wanted)


def _fits(before: RoundSpec, now: RoundSpec) -> bool:
    same_base = before.base_digest == now.base_digest
    return same_base and before.fixed_point == now.fixed_point

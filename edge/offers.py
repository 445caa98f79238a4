"""What an edge node retains on the hospital broker: models and invites, said again when needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from common import topics, wire
from common.messages import Invite
from edge.ledger import Ledger
from edge.models import Models
from edge.rounds import Round


class Publisher(Protocol):
    """A broker session that refuses, rather than queues, what it cannot send."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Whether it was taken."""


class Offers:
    """Retained models and invites of the current round; `pump` sends what is still to be sent."""

    def __init__(
        self, region: str, hospital: str, broker: Publisher, ledger: Ledger, models: Models
    ) -> None:
        self._region, self._hospital = region, hospital
        self._broker = broker
        self._ledger = ledger
        self._models = models
        self._current: Round | None = None
        self._models_due: deque[str] = deque()
        self._invites_due: deque[str] = deque()
        self._clear_due: deque[str] = deque()
        self._retract_due: deque[str] = deque()

    def renew(self, current: Round | None) -> None:
        """Say everything again: the models before the invites, and clear models not needed."""
        self._current = current if current and not current.ended else None
        needed = _models_of(self._current) if self._current else set()
        self._ledger.note_offers(needed)
        self._clear_due = deque(sorted(self._ledger.offered() - needed))
        self._models_due = deque(sorted(needed))
        asked = self._current.invited - self._current.excused if self._current else ()
        self._invites_due = deque(sorted(asked))

    def retract(self, devices: Iterable[str]) -> None:
        """Take back the invites of devices that are asked no more."""
        self._invites_due = deque(name for name in self._invites_due if name not in set(devices))
        self._retract_due = deque(sorted(devices))

    def pump(self) -> None:
        """Publish as much as the broker takes; the rest stays due."""
        while self._models_due and self._publish_model(self._models_due[0]):
            self._models_due.popleft()
        while not self._models_due and self._invites_due and self._invite(self._invites_due[0]):
            self._invites_due.popleft()
        while self._clear_due and self._clear(self._clear_due[0]):
            self._ledger.forget_offer(self._clear_due.popleft())
        while self._retract_due and self._publish_invite(self._retract_due[0], b""):
            self._retract_due.popleft()

    def _publish_model(self, digest: str) -> bool:
        topic = topics.model(self._region, self._hospital, digest)
        return self._broker.publish(topic, self._models.encoded(digest), retain=True)

    def _clear(self, digest: str) -> bool:
        topic = topics.model(self._region, self._hospital, digest)
        return self._broker.publish(topic, b"", retain=True)

    def _invite(self, device: str) -> bool:
        if self._current is None:
            return True
        invite = Invite(hospital=self._hospital, device=device, spec=self._current.spec)
        return self._publish_invite(device, wire.encode_json(invite))

    def _publish_invite(self, device: str, payload: bytes) -> bool:
        topic = topics.device(self._region, self._hospital, device, "invite")
        return self._broker.publish(topic, payload, retain=True)


def _models_of(current: Round) -> set[str]:
    return {current.spec.base_digest, *current.spec.evaluate}

"""The intake desk: a batch of messages becomes one commit, and then receipts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import ValidationError

from common import topics
from common.messages import Reason, Receipt, UpdateHeader
from common.wire import MAX_TENSOR_MESSAGE_BYTES
from edge import intake
from edge.intake import Rejected, Station, Subject
from edge.ledger import Ledger
from edge.rounds import Round
from edge.standing import Standing


@dataclass(frozen=True)
class Incoming:
    """A message as the broker brought it; `payload` is ``None`` when it was too large to keep."""

    topic: str
    payload: bytes | None
    content_digest: str
    acknowledge: Callable[[], None]
    arrived_at: float = field(default_factory=time.monotonic)

    @property
    def num_bytes(self) -> int:
        """Of the payload."""
        return len(self.payload) if self.payload else 0


@dataclass(frozen=True)
class Answer:
    """What became of a message; `receipt` is ``None`` for a sender that cannot be named."""

    device: str
    subject: Subject
    reason: Reason | None
    fresh: bool
    receipt: Receipt | None
    base_digest: str | None = None
    arrived_at: float = 0.0


@dataclass(frozen=True)
class _Verdict:
    reason: Reason | None
    round_id: int = 0
    fresh: bool = False
    base_digest: str | None = None


class Desk:
    """Judges messages and writes what is accepted to the ledger."""

    def __init__(self, station: Station, ledger: Ledger, standing: Standing) -> None:
        self._station = station
        self._ledger = ledger
        self._standing = standing

    def take(self, batch: Sequence[Incoming], current: Round | None, now: float) -> list[Answer]:
        """Store a batch in one transaction; when this returns, all of it is on disk.

        Raises
        ------
        sqlite3.Error
            When the commit failed; then nothing of the batch is stored.
        """
        with self._standing.undone_on_failure(), self._ledger.transaction():
            answers = [answer for one in batch if (answer := self._answer(one, current, now))]
        if current:
            for answer in answers:
                current.num_rejected += answer.reason is not None
                if answer.fresh:
                    current.delivered(answer.subject, answer.device, answer.base_digest)
        return answers

    def _answer(self, one: Incoming, current: Round | None, now: float) -> Answer | None:
        topic = topics.parse_device(one.topic)
        subject = intake.SUBJECTS.get(topic.leaf) if topic else None
        if topic is None or subject is None:
            return None
        verdict = self._judge(one, topic, subject, current, now)
        if verdict.reason:
            known = topic.device if topic.device in self._station.roster else ""
            round_id = current.spec.round_id if current else 0
            self._ledger.refuse(round_id, known, verdict.reason, now)
            if known:
                self._standing.blame(known, verdict.reason, now)
        elif verdict.fresh:
            self._standing.praise(topic.device)
        receipt = _receipt(topic.device, subject, one.content_digest, verdict)
        return Answer(
            topic.device,
            subject,
            verdict.reason,
            verdict.fresh,
            receipt,
            verdict.base_digest,
            one.arrived_at,
        )

    def _judge(
        self,
        one: Incoming,
        topic: topics.DeviceTopic,
        subject: Subject,
        current: Round | None,
        now: float,
    ) -> _Verdict:
        barred = self._standing.refuses(topic.device, now)
        if barred:
            return _Verdict(barred)
        limit = current.max_message_bytes if current else MAX_TENSOR_MESSAGE_BYTES
        if one.payload is None or len(one.payload) > limit:
            return _Verdict(Reason.OVERSIZE)
        received = intake.read(one.payload, topic, subject, self._station, one.content_digest)
        if isinstance(received, Rejected):
            return _Verdict(received.reason, received.round_id)
        round_id = received.header.round_id
        known = self._ledger.stored(subject, received.device, received.key)
        if known and known.delivered_digest == received.delivered_digest:
            return _Verdict(None, round_id)
        reason = intake.check(received, current.intake) if current else Reason.WRONG_ROUND
        if reason is None and known:
            reason = Reason.CONFLICTING_DUPLICATE
        if reason is None:
            self._ledger.store(received, now)
        header = received.header
        base = header.base_digest if isinstance(header, UpdateHeader) else None
        return _Verdict(reason, round_id, fresh=reason is None, base_digest=base)


def _receipt(
    device: str, subject: Subject, content_digest: str, verdict: _Verdict
) -> Receipt | None:
    try:
        return Receipt(
            device=device,
            subject=subject,
            round_id=verdict.round_id,
            content_digest=content_digest,
            status="rejected" if verdict.reason else "stored",
            reason=verdict.reason,
        )
    except ValidationError:  # the topic's device is no name; nobody by that name listens
        return None

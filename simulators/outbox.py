"""Messages that a wristband keeps until their receipt, and when each is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.digest import bytes_digest

Subject = Literal["update", "evaluation"]

FIRST_RESEND_S = 5.0
LAST_RESEND_S = 60.0
RESEND_JITTER = 0.25  # of the delay, added
RECONNECT_SPREAD_S = 1.0


@dataclass
class _Kept:
    payload: bytes
    digests: set[str]
    due_at: float
    num_sent: int = 0


class Outbox:
    """At most one message of each subject, re-sent after 5 s, then 10 s, … at most 60 s (+ jitter).

    Parameters
    ----------
    rng : np.random.Generator
        For the jitter.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._kept: dict[Subject, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def next_due(self) -> float:
        """Earliest time at which `take_due` gives something; infinity when empty."""
        return min((kept.due_at for kept in self._kept.values()), default=float("inf"))

    def put(self, subject: Subject, payload: bytes, now: float) -> None:
        """Keep `payload`, due at once.

        It replaces an unreceipted message of its subject, whose receipt then counts for it too.
        """
        before = self._kept.get(subject)
        digests = {bytes_digest(payload)} | (before.digests if before else set())
        self._kept[subject] = _Kept(payload, digests, due_at=now)

    def discard(self, subject: Subject) -> None:
        """Forget a message without a receipt."""
        self._kept.pop(subject, None)

    def settle(self, subject: Subject, digest: str) -> bool:
        """Forget the message that the receipt names by its SHA-256; false when it is not kept."""
        kept = self._kept.get(subject)
        if kept is None or digest not in kept.digests:
            return False
        del self._kept[subject]
        return True

    def hurry(self, now: float) -> None:
        """Make all due within a second: the broker may have lost what was under way."""
        for kept in self._kept.values():
            kept.due_at = now + RECONNECT_SPREAD_S * float(self._rng.random())
            kept.num_sent = 0

    def take_due(self, now: float) -> Iterator[tuple[Subject, bytes]]:
        """Messages to send now; each is due again after its backoff."""
        for subject, kept in self._kept.items():
            if kept.due_at <= now:
                kept.num_sent += 1
                delay_s = min(FIRST_RESEND_S * 2.0 ** (kept.num_sent - 1), LAST_RESEND_S)
                kept.due_at = now + delay_s * (1 + RESEND_JITTER * float(self._rng.random()))
                yield subject, kept.payload

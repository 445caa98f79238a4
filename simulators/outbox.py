"""Messages that a wristband keeps until their receipt, and when each is sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from common.digest import bytes_digest

Subject = Literal["update", "evaluation"]
Slot = Literal["update", "late", "evaluation"]
SUBJECT: Mapping[Slot, Subject] = {"update": "update", "late": "update", "evaluation": "evaluation"}

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
    """At most one message in each slot, re-sent after 5 s, then 10 s, … at most 60 s (+ jitter).

    Parameters
    ----------
    rng : np.random.Generator
        For the jitter.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._kept: dict[Slot, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def next_due(self) -> float:
        """Earliest time at which `take_due` gives something; infinity when empty."""
        return min((kept.due_at for kept in self._kept.values()), default=float("inf"))

    def put(self, slot: Slot, payload: bytes, now: float) -> None:
        """Keep `payload`, due at once.

        It replaces an unreceipted message of its slot, whose receipt then counts for it too.
        """
        before = self._kept.get(slot)
        digests = {bytes_digest(payload)} | (before.digests if before else set())
        self._kept[slot] = _Kept(payload, digests, due_at=now)

    def discard(self, slot: Slot) -> None:
        """Forget a message without a receipt."""
        self._kept.pop(slot, None)

    def settle(self, subject: Subject, digest: str) -> Slot | None:
        """Forget the message that the receipt names by its SHA-256, and say where it was kept."""
        for slot, kept in self._kept.items():
            if SUBJECT[slot] == subject and digest in kept.digests:
                del self._kept[slot]
                return slot
        return None

    def hurry(self, now: float) -> None:
        """Make all due within a second: the broker may have lost what was under way."""
        for kept in self._kept.values():
            kept.due_at = now + RECONNECT_SPREAD_S * float(self._rng.random())
            kept.num_sent = 0

    def take_due(self, now: float) -> Iterator[tuple[Subject, bytes]]:
        """Messages to send now; each is due again after its backoff."""
        for slot, kept in self._kept.items():
            if kept.due_at <= now:
                kept.num_sent += 1
                delay_s = min(FIRST_RESEND_S * 2.0 ** (kept.num_sent - 1), LAST_RESEND_S)
                kept.due_at = now + delay_s * (1 + RESEND_JITTER * float(self._rng.random()))
                yield SUBJECT[slot], kept.payload

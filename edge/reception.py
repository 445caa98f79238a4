"""Brings waiting messages to the node, batch by batch, and keeps what could not be stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

import structlog

from edge.desk import Incoming
from edge.inbox import Inbox

RETRY_S = 1.0

log = structlog.get_logger()


class Reception:
    """Between the inbox and who judges, commits and acknowledges.

    Parameters
    ----------
    take : callable
        Takes a batch and the time, and raises ``sqlite3.Error`` when nothing of it was stored;
        called again with the same messages it must do no harm.
    """

    def __init__(self, inbox: Inbox, take: Callable[[Sequence[Incoming], float], None]) -> None:
        self._inbox = inbox
        self._take = take
        self._failed_at = -RETRY_S
        self.error = ""
        self.held = ""  # why nothing may be taken now; set from outside

    def waits(self, now: float) -> bool:
        """Whether it is too early for another attempt."""
        if self.held:
            return True
        return 0 <= now - self._failed_at < RETRY_S  # so that a clock set back delays nothing

    def turn(self, now: float) -> None:
        """Take the next batch, if there is one and it is time."""
        batch = self._inbox.peek_messages()
        if not batch or self.waits(now):
            return
        try:
            self._one_by_one_if_need_be(batch, now)
        except sqlite3.Error as fault:  # such as a full disk: keep the batch, and try it again
            self._fail(f"ledger: {fault}", now)
            return
        if self.error:
            log.info("commits_again")
        self.error = ""
        self._inbox.drop_messages(len(batch))

    def _one_by_one_if_need_be(self, batch: Sequence[Incoming], now: float) -> None:
        try:
            self._take(batch, now)
        except sqlite3.Error:
            raise
        except Exception:  # a fault of ours: one message must not keep the others from the ledger
            if len(batch) > 1:
                for one in batch:
                    self._one_by_one_if_need_be([one], now)
                return
            log.exception("message_failed", content_digest=batch[0].content_digest)
            batch[0].acknowledge()  # else the broker would bring it again for ever

    def _fail(self, error: str, now: float) -> None:
        if error != self.error:
            log.error("commit_failed", error=error)
        self.error, self._failed_at = error, now

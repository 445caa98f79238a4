"""Archives the ledger's old rounds, one at a time, so that a year of rounds does not pile up."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, Histogram

from edge.ledger import Ledger

PERIOD_S = 1.0
PAUSE_S = 60.0  # after a fault

log = structlog.get_logger()


class Archivist:
    """Called by the thread that writes the ledger, at every turn.

    Parameters
    ----------
    keep_rounds : int
        How many rounds stay as they are; 0 for all.
    folder : Path
        Where aggregates lie; an archived round's is deleted, its digest stays.
    """

    def __init__(
        self, ledger: Ledger, keep_rounds: int, folder: Path, registry: CollectorRegistry
    ) -> None:
        self._ledger = ledger
        self._keep_rounds = keep_rounds
        self._folder = folder
        self._due_at = 0.0
        self._seconds = Histogram(
            "pulsering_edge_archive_seconds",
            "Seconds to archive one round.",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1),
            registry=registry,
        )

    def turn(self, now: float) -> bool:
        """Archive one round if it is time and there is one; whether it did."""
        began = time.monotonic()
        if not self._keep_rounds or began < self._due_at:
            return False
        self._due_at = began + PERIOD_S
        try:
            done = self._ledger.archive_oldest(self._keep_rounds, now)
        except sqlite3.Error as fault:
            self._due_at = began + PAUSE_S
            log.warning("archive_failed", error=str(fault))
            return False
        if done is None:
            return False
        if done.aggregate:
            (self._folder / done.aggregate).unlink(missing_ok=True)
        self._seconds.observe(time.monotonic() - began)
        log.debug("round_archived", round_id=done.round_id)
        return True

"""What a running node's ledger gained since the last look, for metrics; it only reads.

Rows are followed by their row ids, so that a look costs what is new and counts whatever was
committed, by the node or by an operator's command beside it.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from edge.ledger import FILE_NAME

CACHE_KIB = 128
RECENT_ROUNDS = 1000


@dataclass(frozen=True)
class Gain:
    """What came since the last look, and what there is now (`num_waiting`, `reusable_bytes`)."""

    fates: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    num_rings: int = 0
    num_waiting: int = 0
    reusable_bytes: int = 0


class Tallies:
    """Follows the ledger of a state directory from now on; one thread at a time uses it."""

    def __init__(self, state_dir: Path) -> None:
        uri = f"{(state_dir / FILE_NAME).resolve().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        self._db.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
        self._last_fate = 0
        self._ended: set[int] = set()
        self._last_generation = 0
        self.look()

    def look(self) -> Gain:
        """Read on from where the last look ended.

        Raises
        ------
        sqlite3.Error
            When the file cannot be read.
        """
        return Gain(
            fates=self._new_fates(),
            ends=self._new_ends(),
            num_rings=self._new_rings(),
            num_waiting=self._number("SELECT COUNT(*) FROM waiting"),
            reusable_bytes=self._number("PRAGMA freelist_count") * self._number("PRAGMA page_size"),
        )

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._db.close()

    def _new_fates(self) -> Counter[str]:
        top = self._number("SELECT COALESCE(MAX(rowid), 0) FROM fates")
        # Archiving may have emptied the table, which then counts from 1 again.
        since, self._last_fate = min(self._last_fate, top), top
        query = "SELECT fate, COUNT(*) FROM fates WHERE rowid > ? AND rowid <= ? GROUP BY fate"
        return Counter(dict(self._db.execute(query, (since, top))))

    def _new_ends(self) -> Counter[str]:
        first = self._number("SELECT COALESCE(MAX(round_id), 0) FROM outcomes") - RECENT_ROUNDS
        query = "SELECT round_id FROM outcomes WHERE round_id > ?"
        recent = {number for (number,) in self._db.execute(query, (first,))}
        fresh, self._ended = recent - self._ended, recent
        ends: Counter[str] = Counter()
        for number in fresh:
            end = "SELECT json_extract(outcome, '$.end') FROM outcomes WHERE round_id = ?"
            ends.update(name for (name,) in self._db.execute(end, (number,)))
        return ends

    def _new_rings(self) -> int:
        query = "SELECT COUNT(DISTINCT generation), MAX(generation) FROM joins WHERE generation > ?"
        num, top = self._db.execute(query, (self._last_generation,)).fetchone()
        self._last_generation = top or self._last_generation
        return int(num)

    def _number(self, query: str) -> int:
        (number,) = self._db.execute(query).fetchone()
        return int(number)

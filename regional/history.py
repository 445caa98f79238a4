"""What a running coordinator remembers of its ledger for its reports: the last of each, no more.

The ledger holds the rest; ``python -m regional rounds`` and ``seals`` read it whole.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from regional.records import DaySealed, Record, ReleaseDecided, RingDied, RoundEnded
from regional.reports import round_report

MAX_ROUNDS = 200
MAX_DAYS = 200
MAX_DEAD_RINGS = 20


class History:
    """The last ended rounds, sealed days with what was decided on them, and dead rings.

    Rounds are kept as compressed reports: as records they take some 30 kB each.  Written by one
    thread; the reports of others are of one moment.
    """

    def __init__(self) -> None:
        self._rounds: deque[bytes] = deque(maxlen=MAX_ROUNDS)
        self._days: deque[DaySealed | ReleaseDecided] = deque(maxlen=2 * MAX_DAYS)
        self._dead: deque[RingDied] = deque(maxlen=MAX_DEAD_RINGS)

    def __len__(self) -> int:
        return len(self._rounds) + len(self._days) + len(self._dead)

    def note(self, record: Record) -> None:
        """Remember one more record, if a report needs it."""
        match record:
            case RoundEnded():
                self._rounds.append(zlib.compress(json.dumps(round_report(record)).encode()))
            case DaySealed() | ReleaseDecided():
                self._days.append(record)
            case RingDied():
                self._dead.append(record)
            case _:
                pass

    def noting(self, records: Iterable[Record]) -> Iterator[Record]:
        """Pass `records` on, remembering them on the way."""
        for record in records:
            self.note(record)
            yield record

    @property
    def rounds(self) -> list[dict[str, Any]]:
        """Reports of the last `MAX_ROUNDS` ended rounds, oldest first."""
        return [json.loads(zlib.decompress(kept)) for kept in list(self._rounds)]

    @property
    def days(self) -> list[Record]:
        """The last seals and decisions, oldest first."""
        return list(self._days)

    @property
    def dead_rings(self) -> list[Record]:
        """The last `MAX_DEAD_RINGS` rings that died, oldest first."""
        return list(self._dead)

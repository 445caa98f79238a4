"""What a running coordinator remembers of its ledger for its reports: the last of each, no more.

The ledger holds the rest; ``python -m regional rounds`` and ``seals`` read it whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from regional.records import DaySealed, Record, ReleaseDecided, RingDied, RoundEnded

MAX_ROUNDS = 200
MAX_DAYS = 200
MAX_DEAD_RINGS = 20


class History:
    """The last ended rounds, sealed days with what was decided on them, and dead rings.

    Written by one thread; the reports of others are of one moment.
    """

    def __init__(self) -> None:
        self._rounds: deque[RoundEnded] = deque(maxlen=MAX_ROUNDS)
        self._days: deque[DaySealed | ReleaseDecided] = deque(maxlen=2 * MAX_DAYS)
        self._dead: deque[RingDied] = deque(maxlen=MAX_DEAD_RINGS)

    def __len__(self) -> int:
        return len(self._rounds) + len(self._days) + len(self._dead)

    def note(self, record: Record) -> None:
        """Remember one more record, if a report needs it."""
        match record:
            case RoundEnded():
                self._rounds.append(record)
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
    def rounds(self) -> list[Record]:
        """The last `MAX_ROUNDS` ended rounds, oldest first."""
        return list(self._rounds)

    @property
    def days(self) -> list[Record]:
        """The last seals and decisions, oldest first."""
        return list(self._days)

    @property
    def dead_rings(self) -> list[Record]:
        """The last `MAX_DEAD_RINGS` rings that died, oldest first."""
        return list(self._dead)

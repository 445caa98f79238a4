"""When things happened in a round, by the machine's one monotonic clock."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

Marks = dict[str, list[float]]
"""Name of a mark to the moments of all who made it in one round, in seconds."""


class Trail:
    """Marks by round; threads append to it."""

    def __init__(self) -> None:
        self._rounds: defaultdict[int, defaultdict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def mark(self, name: str, round_id: int, at: float | None = None) -> None:
        """Note that something happened in `round_id`, now unless said otherwise."""
        self._rounds[round_id][name].append(time.monotonic() if at is None else at)

    def count(self, name: str, round_id: int) -> int:
        """How many made this mark in this round."""
        return len(self._rounds[round_id][name]) if round_id in self._rounds else 0

    def last(self, name: str, round_id: int) -> float:
        """When the last one made this mark.

        Raises
        ------
        ValueError
            When nobody did.
        """
        return max(self._rounds[round_id][name])

    def first(self, name: str, round_id: int) -> float:
        """When the first one made this mark."""
        return min(self._rounds[round_id][name])


def spread(values: Iterable[float]) -> dict[str, Any]:
    """Median, least, largest and all values, in seconds to the tenth of a millisecond."""
    every = [round(value, 4) for value in values]
    return {
        "median": round(statistics.median(every), 4),
        "least": min(every),
        "largest": max(every),
        "all": every,
    }


def medians(rounds: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Median of each stage over rounds, in the order of the first one's stages."""
    listed = list(rounds)
    return {
        name: round(statistics.median(stages[name] for stages in listed), 4) for name in listed[0]
    }

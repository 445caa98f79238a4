"""How long each hospital takes for a round, and who is slow: pure functions of measurements.

A hospital's own seconds are those until it is ready and those of its rank's work.  Its link shows
in how long it took to send to both its neighbours in a ring.  Between two hospitals with slow links
a quick one looks as slow as they do, so where both neighbours are slow nothing is known: once the
others have rounds of their own, it is seen beside quick ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from common.messages import Timings

NUM_RECENT = 3
NUM_UNSEEN = 30  # rings of a slow group after which a link that none of them showed is forgotten
MIN_OBSERVED = 2
STAY_SLOW = 0.7  # of both limits, for who is in a slow group already
SEND = "send_s"
NOT_OWN = frozenset({"allreduce_s", SEND})


@dataclass(frozen=True)
class Pace:
    """One ring: what its members, in rank order, needed themselves and to send to neighbours."""

    members: tuple[str, ...]
    own_s: Mapping[str, float]
    send_s: Mapping[str, float]
    in_group: bool = False


@dataclass(frozen=True)
class Limits:
    """Slow is who needs over `factor` times the median, and `gain_s` more than it."""

    factor: float
    gain_s: float


def pace_of(
    members: tuple[str, ...],
    lags: Mapping[str, float],
    timings: Mapping[str, Timings],
    *,
    in_group: bool = False,
) -> Pace:
    """The pace of a ring's members, in rank order, as far as they told."""
    own = {
        name: lags[name] + sum(s for part, s in timings[name].items() if part not in NOT_OWN)
        for name in members
        if name in lags and name in timings
    }
    send = {n: timings[n][SEND] for n in members if n in timings and SEND in timings[n]}
    return Pace(members, own, send, in_group)


def kept(paces: Sequence[Pace]) -> tuple[Pace, ...]:
    """What is still needed of `paces`, oldest first: the last rings of each hospital.

    Rings of a slow group may say nothing of its members' links, so they do not put those of all
    hospitals out; but `NUM_UNSEEN` of them do, and its members are tried with the others again.
    """
    seen: Counter[tuple[str, bool]] = Counter()
    needed: list[Pace] = []
    for pace in reversed(paces):
        places = [(name, pace.in_group) for name in pace.own_s]
        limit = {place: _num_kept(seen, place) for place in places}
        if any(seen[place] < limit[place] for place in places):
            needed.append(pace)
        seen.update(places)
    return tuple(reversed(needed))


def round_seconds(paces: Sequence[Pace], gain_s: float) -> dict[str, float]:
    """Seconds that each hospital needs for a round; only those seen in two rings or more.

    Parameters
    ----------
    gain_s : float
        Links that held a ring up for less are quick.
    """
    own, links = _Observed(), _Observed()
    for pace in paces:
        own.add(pace.own_s.items())
        links.add(link_seconds(pace, gain_s))
    return {
        name: seconds + links.recent(name)
        for name, seconds in own.medians()
        if own.count(name) >= MIN_OBSERVED
    }


def link_seconds(pace: Pace, limit_s: float) -> Iterator[tuple[str, float]]:
    """By how much each member's link held the ring up, for members of which that is known."""
    heavy = {name for name, seconds in pace.send_s.items() if seconds > limit_s}
    size = len(pace.members)
    for number, name in enumerate(pace.members):
        beside = {pace.members[number - 1], pace.members[(number + 1) % size]}
        if name not in pace.send_s or (name in heavy and beside <= heavy):
            continue
        yield name, pace.send_s[name] if name in heavy else 0.0


def slow_groups(
    seconds: Mapping[str, float], already: Collection[str], limits: Limits, min_hospitals: int
) -> tuple[tuple[str, ...], ...]:
    """Hospitals that get rounds of their own, the quicker groups first, each in name order.

    Parameters
    ----------
    seconds : mapping of str to float
        What each measured hospital needs.
    already : collection of str
        Those in a slow group now, which leave it only when they are clearly quicker.
    """
    if len(seconds) < 2:
        return ()
    middle = median(seconds.values())
    slow = [n for n, s in seconds.items() if _is_slow(s, middle, limits, n in already)]
    groups: list[list[str]] = []
    for name in sorted(slow, key=lambda n: (seconds[n], n)):
        if groups and seconds[name] <= limits.factor * seconds[groups[-1][0]]:
            groups[-1].append(name)
        else:
            groups.append([name])
    return tuple(tuple(sorted(group)) for group in groups if len(group) >= min_hospitals)


def _is_slow(seconds: float, middle: float, limits: Limits, already: bool) -> bool:
    ease = STAY_SLOW if already else 1.0
    return seconds > ease * limits.factor * middle and seconds > middle + ease * limits.gain_s


def _num_kept(newer: Counter[tuple[str, bool]], place: tuple[str, bool]) -> int:
    name, in_group = place
    is_forgotten = not in_group and newer[name, True] >= NUM_UNSEEN
    return 0 if is_forgotten else NUM_RECENT if not in_group else NUM_UNSEEN


class _Observed:
    """Measurements by hospital, oldest first."""

    def __init__(self) -> None:
        self._seen: dict[str, list[float]] = {}

    def add(self, measured: Collection[tuple[str, float]] | Iterator[tuple[str, float]]) -> None:
        for name, seconds in measured:
            self._seen.setdefault(name, []).append(seconds)

    def count(self, name: str) -> int:
        return len(self._seen.get(name, ()))

    def recent(self, name: str) -> float:
        """Median of the last ones, 0 when there is none."""
        return median(self._seen.get(name, [0.0])[-NUM_RECENT:])

    def medians(self) -> Iterator[tuple[str, float]]:
        return ((name, self.recent(name)) for name in sorted(self._seen))

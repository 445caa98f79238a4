"""How long each hospital takes for a round, and who is slow: pure functions of measurements.

A hospital's own seconds are those until it is ready and those of its rank's work.  Its link shows
only in how long connections between neighbours in a ring were busy: a connection is as slow as the
sender's way out or the receiver's way in, so what one neighbour did faster excuses the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from common.messages import Timings

NUM_RECENT = 3
MIN_OBSERVED = 2
STAY_SLOW = 0.7  # of both limits, for who is in a slow group already
NOT_OWN = frozenset({"allreduce_s", "send_busy_s"})


@dataclass(frozen=True)
class Pace:
    """One ring: what its members, in rank order, needed themselves and to send to the next."""

    members: tuple[str, ...]
    own_s: Mapping[str, float]
    send_s: Mapping[str, float]


@dataclass(frozen=True)
class Limits:
    """Slow is who needs over `factor` times the median, and `gain_s` more than it."""

    factor: float
    gain_s: float


def pace_of(
    members: tuple[str, ...], lags: Mapping[str, float], timings: Mapping[str, Timings]
) -> Pace:
    """The pace of a ring's members, in rank order, as far as they told."""
    own = {
        name: lags[name] + sum(s for part, s in timings[name].items() if part not in NOT_OWN)
        for name in members
        if name in lags and name in timings
    }
    send = {name: timings[name].get("send_busy_s", 0.0) for name in members if name in timings}
    return Pace(members, own, send)


def round_seconds(paces: Sequence[Pace], gain_s: float) -> dict[str, float]:
    """Seconds that each hospital needs for a round; only those seen in two rings or more.

    Parameters
    ----------
    gain_s : float
        Connections that were busy for less are nobody's fault.
    """
    own: dict[str, list[float]] = {}
    for pace in paces:
        for name, seconds in pace.own_s.items():
            own.setdefault(name, []).append(seconds)
    links = link_seconds(paces, gain_s)
    return {
        name: median(seen[-NUM_RECENT:]) + links.get(name, 0.0)
        for name, seen in sorted(own.items())
        if len(seen) >= MIN_OBSERVED
    }


def link_seconds(paces: Sequence[Pace], limit_s: float) -> dict[str, float]:
    """Seconds by which each hospital's link holds a ring up, for those to blame for any.

    Connections that were busy for more than `limit_s` are explained by as few hospitals as will
    do: again and again the one that most of them share, of two the sender.
    """
    edges = {edge: median(seen[-NUM_RECENT:]) for edge, seen in _edges(paces).items()}
    out = _best(edges, 0)
    into = _best(edges, 1)
    heavy = {edge for edge, seconds in edges.items() if seconds > limit_s}
    blamed: dict[str, float] = {}
    while suspects := _suspects(heavy, edges, out, into, limit_s):
        worst = max(
            suspects, key=lambda name: (len(suspects[name]), out.get(name, 0.0) > limit_s, name)
        )
        blamed[worst] = max(edges[edge] for edge in suspects[worst])
        heavy -= set(suspects[worst])
    return blamed


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


def _edges(paces: Iterable[Pace]) -> dict[tuple[str, str], list[float]]:
    seen: dict[tuple[str, str], list[float]] = {}
    for pace in paces:
        if len(pace.members) < 2:
            continue
        following = (*pace.members[1:], pace.members[0])
        for sender, receiver in zip(pace.members, following, strict=True):
            if sender in pace.send_s:
                seen.setdefault((sender, receiver), []).append(pace.send_s[sender])
    return seen


def _best(edges: Mapping[tuple[str, str], float], end: int) -> dict[str, float]:
    """The quickest connection of each hospital, as sender (0) or receiver (1)."""
    best: dict[str, float] = {}
    for edge, seconds in edges.items():
        best[edge[end]] = min(seconds, best.get(edge[end], seconds))
    return best


def _suspects(
    heavy: Collection[tuple[str, str]],
    edges: Mapping[tuple[str, str], float],
    out: Mapping[str, float],
    into: Mapping[str, float],
    limit_s: float,
) -> dict[str, list[tuple[str, str]]]:
    suspects: dict[str, list[tuple[str, str]]] = {}
    for edge in sorted(heavy, key=lambda e: (edges[e], e)):
        sender, receiver = edge
        if out[sender] > limit_s:
            suspects.setdefault(sender, []).append(edge)
        if into[receiver] > limit_s:
            suspects.setdefault(receiver, []).append(edge)
    return suspects

"""Which updates of a round a hospital sets aside before it adds them up: pure, on integers.

Two questions to each update.  Is it too far from the others?  The reference is the coordinate-wise
median of the hospital's updates of the round (Yin et al. 2018, arXiv:1803.01498), which fewer than
half of them cannot take out of the range of the others; the limit is ``max_distance`` times the
median of the distances from it.  Does it point against the way that the model went in its last
commits?  That way is the sum of hundreds of updates of all hospitals; how an update compares with
the few others of one round says little, since those of unlike wearers are nearly at right angles
(`docs/algorithms.md`).  Before there is a way, the median stands in for it.

Every comparison is of exact integers or of their correctly rounded roots, so each machine decides
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from common import parts
from common.digest import Tensors
from common.messages import FixedPoint, ScreenRule
from edge import exact
from edge.contributions import Contribution
from edge.exact import Exponents, Integers

Key = tuple[str, str]
"""Device and base digest."""


@dataclass(frozen=True)
class Way:
    """A direction: integers in steps of ``2**exponents``."""

    integers: Integers
    exponents: Exponents


class Suspicion(StrEnum):
    """Why an update was set aside."""

    DISTANCE = "distance"
    DIRECTION = "direction"


@dataclass(frozen=True)
class SetAside:
    """An update that is not counted: how far it is, or which way it points, and what is allowed.

    `score` and `limit` are distances in units of the median distance, or cosines.
    """

    suspicion: Suspicion
    score: float
    limit: float

    @property
    def excess(self) -> float:
        """By how much it misses the limit; orders those of one kind."""
        return abs(self.score - self.limit)


def way_between(before: Tensors, base: Tensors, rule: FixedPoint) -> Way:
    """How a model went, in the coordinates that the updates of a round carry."""
    step = {name: np.asarray(base[name], np.float64) - before[name] for name in base}
    return Way(*exact.whole(parts.take(rule, step)))


def screen(
    contributions: Sequence[Contribution],
    rule: ScreenRule,
    exponents: Exponents,
    way: Way | None = None,
) -> dict[Key, SetAside]:
    """Updates to set aside, by (device, base digest); weights do not matter.

    With fewer than ``rule.min_updates`` none is, and never more than ``rule.max_share`` of them:
    then those that are too far go first, the furthest before the others.

    Parameters
    ----------
    exponents : mapping of str to int
        Of the round's integers.
    way : Way, optional
        From ``rule.reference`` to the round's base.
    """
    num = len(contributions)
    if num < rule.min_updates:
        return {}
    updates = [each.integers for each in contributions]
    doubled = exact.doubled_median(updates)
    ahead = way or Way(doubled, exponents)
    cosines = [exact.cosine(u, ahead.integers, exponents, ahead.exponents) for u in updates]
    far = _distances(updates, doubled, exponents)
    found = {
        each.key: verdict
        for each, distance, cosine in zip(contributions, far, cosines, strict=True)
        if (verdict := _verdict(distance, cosine, rule)) is not None
    }
    worst_first = sorted(found, key=lambda key: _order(key, found[key]))
    return {key: found[key] for key in sorted(worst_first[: int(rule.max_share * num)])}


def _verdict(distance: float, cosine: float, rule: ScreenRule) -> SetAside | None:
    if distance > rule.max_distance:
        return SetAside(Suspicion.DISTANCE, distance, rule.max_distance)
    if cosine < rule.min_cosine:
        return SetAside(Suspicion.DIRECTION, cosine, rule.min_cosine)
    return None


def _order(key: Key, verdict: SetAside) -> tuple[bool, float, Key]:
    return verdict.suspicion is not Suspicion.DISTANCE, -verdict.excess, key


def _distances(updates: Sequence[Integers], doubled: Integers, exponents: Exponents) -> list[float]:
    """Distance of each from the median, divided by the (lower) median of these distances."""
    apart = [exact.difference(update, doubled, times=2) for update in updates]
    lengths = [exact.length(each, exponents) for each in apart]
    middle = sorted(lengths)[(len(lengths) - 1) // 2]
    if middle == 0.0:
        return [0.0 if each == 0.0 else float("inf") for each in lengths]
    return [each / middle for each in lengths]

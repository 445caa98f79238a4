"""How a hospital adds its updates up when some may be hostile: equal weights, integers out.

Each rule gives integer sums and an integer weight with ``|sum| <= weight * peak``, so that what
comes out is a sum like any other: the ring adds it, the fold divides it once.  All hospitals of a
round use the same rule, and each counts about as much as it has updates.

- ``trimmed_mean``: in each coordinate the lowest and the highest numbers are left out, as many of
  each as `num_cut` says; the sum of the kept ones has their common count as weight (Yin et al.
  2018, arXiv:1803.01498).
- ``geometric_median``: the point with the least sum of distances to the updates, as a weighted sum
  of them (Weiszfeld 1937, Tohoku Mathematical Journal 43; smoothed as in RFA, Pillutla, Kakade and
  Harchaoui 2022, arXiv:1912.13445).  Weights are multiples of 1/`UNIT` of an update's.

A hospital with fewer than `MIN_UPDATES` has no majority to go by: it contributes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fold
from common.errors import ContractError
from common.fold import Sums
from common.messages import RobustRule
from common.parts import Shapes
from edge import exact
from edge.contributions import Contribution
from edge.exact import Exponents

Floats = npt.NDArray[np.float64]
MIN_UPDATES = 3
UNIT = 1024
MAX_ITERATIONS = 256
STILL = 0.05  # a change of weights by less, in 1/`UNIT`, ends the iteration
NEAREST = 1e-3  # of the mean distance: no update counts as if it were nearer to the median


def combine(
    contributions: Sequence[Contribution],
    rule: RobustRule,
    shapes: Shapes,
    peak: int,
    exponents: Exponents,
) -> Sums:
    """Add updates up by `rule`; with fewer than `MIN_UPDATES` the sum is that of none.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes of the updates' tensors.
    peak : int
        Largest magnitude of any integer in them, for the overflow bound.

    Raises
    ------
    ContractError
        When names or shapes differ, weights differ, or the sum could leave 62 bits.
    """
    weighted = ((each.weight, each.integers) for each in contributions)
    if rule.rule == "sum":
        return fold.fold(shapes, weighted, peak)
    if len({each.weight for each in contributions}) > 1:
        raise ContractError(f"{rule.rule} counts updates alike, and these have several weights")
    if len(contributions) < MIN_UPDATES:
        return fold.zeros(shapes)
    if rule.rule == "geometric_median":
        weights = weiszfeld(exact.gram([each.integers for each in contributions], exponents))
        heavy = zip(weights, (each.integers for each in contributions), strict=True)
        return fold.fold(shapes, heavy, peak)
    return _trimmed(contributions, rule.trim, shapes, peak)


def num_cut(num: int, trim: float) -> int:
    """How many of `num` numbers are left out at either end: ``floor(trim * num)``, at least 1.

    >>> [num_cut(num, 0.2) for num in (3, 7, 10, 22)]
    [1, 1, 2, 4]
    """
    return min(max(1, math.floor(trim * num)), (num - 1) // 2)


def weiszfeld(gram: npt.NDArray[np.object_]) -> list[int]:
    """Weights of the updates in their geometric median, adding up to about `UNIT` each.

    Parameters
    ----------
    gram : (num, num) of int
        Inner products of all pairs; the iteration needs nothing else, and each of its sums is
        rounded once (`math.fsum`), so that weights are the same everywhere.
    """
    num = len(gram)
    scale = max(gram.diagonal()) or 1
    inner = (gram / scale).astype(np.float64)
    shares = np.full(num, 1.0 / num)
    nearest = NEAREST * math.fsum(_distances(inner, shares)) / num
    if nearest == 0.0:
        return [UNIT] * num
    for _ in range(MAX_ITERATIONS):
        pull = [1.0 / max(distance, nearest) for distance in _distances(inner, shares)]
        total, before = math.fsum(pull), shares
        shares = np.array([each / total for each in pull])
        if float(np.abs(shares - before).max()) * num * UNIT < STILL:
            break
    return [round(UNIT * num * float(share)) for share in shares]


def _distances(inner: Floats, shares: Floats) -> list[float]:
    """Distance of each update from the weighted mean of all, from inner products."""
    along = [math.fsum(row) for row in (inner * shares).tolist()]
    centre = math.fsum(a * s for a, s in zip(along, shares.tolist(), strict=True))
    own = inner.diagonal().tolist()
    return [math.sqrt(max(0.0, mine - 2 * a + centre)) for mine, a in zip(own, along, strict=True)]


def _trimmed(contributions: Sequence[Contribution], trim: float, shapes: Shapes, peak: int) -> Sums:
    """Sums of what is neither among the lowest nor the highest of its coordinate."""
    updates: list[Mapping[str, Any]] = [each.integers for each in contributions]
    num, each_weight = len(updates), contributions[0].weight
    cut = num_cut(num, trim)
    weight = (num - 2 * cut) * each_weight
    fold.check_bound(weight, peak)
    for update in updates:
        fold.check_names(shapes, update)
    tensors = {
        name: each_weight * exact.in_order(updates, name)[cut : num - cut].sum(0, dtype=np.int64)
        for name in sorted(shapes)
    }
    return Sums(tensors, weight)

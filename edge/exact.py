"""Lengths, distances and cosines of integer updates, the same on every machine.

A number of tensor ``t`` stands for ``k * 2**exponents[t]``.  Sums of squares are whole numbers in
units of ``4**(least exponent)``: they are added as integers, so that no order of additions, no BLAS
and no width of a vector unit shows in what a rule decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from common.digest import Tensors

Int64 = npt.NDArray[np.int64]
Array = npt.NDArray[Any]
Integers = Mapping[str, Array]
"""Arrays of whole numbers by name."""
Exponents = Mapping[str, int]
EXACT = 1 << 62
WHOLE_BITS = 15
EXACT_FLOAT = 1 << 53


def doubled_median(updates: Sequence[Integers]) -> dict[str, Int64]:
    """Twice the coordinate-wise median: the sum of the two middle numbers, a whole number.

    Parameters
    ----------
    updates : sequence of mappings
        At least one, all with the same names and shapes.
    """
    low, high = (len(updates) - 1) // 2, len(updates) // 2
    return {
        name: ordered[low].astype(np.int64) + ordered[high]
        for name, ordered in ((name, in_order(updates, name)) for name in sorted(updates[0]))
    }


def in_order(updates: Sequence[Integers], name: str) -> Array:
    """Each coordinate's numbers over all updates, ascending: (num, …)."""
    stack = np.stack([update[name] for update in updates])
    stack.sort(axis=0)
    return stack


def dot(a: Integers, b: Integers, of_a: Exponents, of_b: Exponents) -> int:
    """Inner product over all tensors, exact, in units of the least ``2**(of_a + of_b)``."""
    steps = {name: of_a[name] + of_b[name] for name in a}
    least = min(steps.values())
    return sum(_dot(a[name], b[name]) << (steps[name] - least) for name in a)


def length(a: Integers, exponents: Exponents) -> float:
    """Length over all tensors, in units of ``2**(least exponent)``."""
    return math.sqrt(dot(a, a, exponents, exponents))


def cosine(a: Integers, b: Integers, of_a: Exponents, of_b: Exponents) -> float:
    """Cosine of the angle between them; 0 where one of them is nothing."""
    lengths = length(a, of_a) * length(b, of_b)
    if lengths == 0.0:
        return 0.0
    # Units of the product and of both lengths differ by a power of two, which is exact.
    least = min(of_a[name] + of_b[name] for name in a)
    shift = least - min(of_a[name] for name in a) - min(of_b[name] for name in a)
    return math.ldexp(float(dot(a, b, of_a, of_b)), shift) / lengths


def difference(a: Integers, b: Integers, times: int) -> dict[str, Int64]:
    """``times * a - b``."""
    return {name: times * a[name].astype(np.int64) - b[name] for name in a}


def whole(tensors: Tensors) -> tuple[dict[str, Int64], dict[str, int]]:
    """Integers and exponents of real tensors, each in steps of about 2**-15 of its peak."""
    exponents, integers = {}, {}
    for name in sorted(tensors):
        values = np.asarray(tensors[name], np.float64)
        exponents[name] = math.frexp(float(np.max(np.abs(values), initial=0.0)))[1] - WHOLE_BITS
        integers[name] = np.rint(np.ldexp(values, -exponents[name])).astype(np.int64)
    return integers, exponents


def gram(updates: Sequence[Integers], exponents: Exponents) -> npt.NDArray[np.object_]:
    """Inner products of all pairs, (num, num) of int, in units of ``4**(least exponent)``.

    Float64 matrix products are exact, in whatever order they are added, as long as every partial
    sum is a whole number below 2**53; where one might not be, integers are multiplied.
    """
    least = min(exponents[name] for name in updates[0])
    total = np.zeros((len(updates), len(updates)), object)
    for exponent in sorted({exponents[name] for name in updates[0]}):
        names = [name for name in updates[0] if exponents[name] == exponent]
        flat = [np.concatenate([update[name].ravel() for name in names]) for update in updates]
        total += _products(flat) * (1 << 2 * (exponent - least))
    return total


def _products(flat: Sequence[Array]) -> npt.NDArray[np.object_]:
    peak = max(_peak(each) for each in flat)
    if peak * peak * flat[0].size >= EXACT_FLOAT:
        products = [[_dot(a, b) for b in flat] for a in flat]
        return np.array(products, object)
    stack = np.stack(flat).astype(np.float64)
    return (stack @ stack.T).astype(np.int64).astype(object)


def _dot(a: Array, b: Array) -> int:
    if _peak(a) * _peak(b) * a.size < EXACT:
        return int(np.sum(a.astype(np.int64) * b.astype(np.int64)))
    return sum(int(x) * int(y) for x, y in zip(a.ravel(), b.ravel(), strict=True))


def _peak(array: Array) -> int:
    return max(int(array.max()), -int(array.min())) if array.size else 0

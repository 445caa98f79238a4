"""The fold: updates to aggregates, aggregates to sums, sums to the next model.

Integers are summed, floats are not: the result depends neither on the order of updates nor on the
number of ranks, and folding the stored aggregates again gives the model bit for bit.  Numpy only.

Sources: FedAvg (McMahan et al. 2017, arXiv:1602.05629); FedProx (Li et al. 2020,
arXiv:1812.06127), whose server step is FedAvg's; FedAdam (Reddi et al. 2021, arXiv:2003.00295,
algorithm 2); late sums are counted as differences to their own base, the less the older they are:
FedBuff (Nguyen et al. 2022, arXiv:2106.06639).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.digest import Tensors
from common.errors import ContractError, QuorumError
from common.fixedpoint import dequantize
from common.messages import ServerRule

Int64 = npt.NDArray[np.int64]
Weighting = Literal["uniform", "examples"]
SUM_BOUND = 1 << 62
FRESH = 256  # the factor of a sum that is not late


@dataclass(frozen=True)
class Sums:
    """Weighted integer sums of updates and the total weight in them."""

    tensors: dict[str, Int64]
    weight: int


def update_weight(num_examples: int, weighting: Weighting, max_weight: int) -> int:
    """Weight of one update: 1, or its examples up to `max_weight`.

    Raises
    ------
    ContractError
        When `num_examples` is below 1.
    """
    if num_examples < 1:
        raise ContractError(f"an update needs at least 1 example, not {num_examples}")
    return 1 if weighting == "uniform" else min(num_examples, max_weight)


def zeros(shapes: Mapping[str, tuple[int, ...]]) -> Sums:
    """The sum of no update."""
    return Sums({name: np.zeros(shape, np.int64) for name, shape in sorted(shapes.items())}, 0)


def fold(
    shapes: Mapping[str, tuple[int, ...]], contributions: Iterable[tuple[int, Tensors]], peak: int
) -> Sums:
    """Add weighted integer updates.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes of the model's tensors.
    contributions : iterable of (int, mapping of str to integer array)
        Weight (>= 0) and integers of each update.
    peak : int
        Largest magnitude of any integer in them, for the overflow bound.

    Raises
    ------
    ContractError
        When names or shapes differ, or the sum could leave 62 bits.
    """
    total = zeros(shapes)
    weight = 0
    for update_weight_, integers in contributions:
        check_names(shapes, integers)
        weight += update_weight_
        check_bound(weight, peak)
        for name, into in total.tensors.items():
            into += update_weight_ * np.asarray(integers[name], dtype=np.int64)
    return Sums(total.tensors, weight)


def check_bound(weight: int, peak: int) -> None:
    """Refuse a sum that could leave 62 bits.

    Raises
    ------
    ContractError
        When `weight` times `peak` exceeds 2**62, or `weight` is negative.
    """
    if weight < 0 or weight * peak > SUM_BOUND:
        raise ContractError(f"total weight {weight} times {peak} leaves 62 bits", weight=weight)


def late_factor(age: int) -> int:
    """``floor(256 / sqrt(1 + age))``: what a sum counts, in 256ths, `age` commits after its base.

    FedBuff's polynomial staleness with exponent one half.

    >>> [late_factor(age) for age in (0, 1, 3, 15)]
    [256, 181, 128, 64]
    """
    return math.isqrt(FRESH * FRESH // (1 + age))


def late_weight(weight: int, age: int) -> int:
    """``floor(256 * weight / sqrt(1 + age))``: what one update weighs, in 256ths, at that age.

    >>> [late_weight(3, age) for age in (0, 1, 3)]
    [768, 543, 384]
    """
    return math.isqrt(FRESH * FRESH * weight * weight // (1 + age))


@dataclass(frozen=True)
class Scaled:
    """Sums in steps of ``2**exponents[name]``, to be counted `factor` times."""

    sums: Sums
    exponents: Mapping[str, int]
    factor: int = 1


def combine(parts: Sequence[Scaled]) -> Scaled:
    """Add sums of different scales, exactly: each tensor in the finest of its scales.

    Raises
    ------
    ContractError
        When names or shapes differ, or a sum could leave 62 bits.
    """
    shapes = {name: np.shape(tensor) for name, tensor in parts[0].sums.tensors.items()}
    finest = {name: min(part.exponents[name] for part in parts) for name in shapes}
    total = zeros(shapes)
    reached = dict.fromkeys(shapes, 0)
    for part in parts:
        check_names(shapes, part.sums.tensors)
        for name, into in total.tensors.items():
            peak = _peak(part.sums.tensors[name])
            if peak == 0:
                continue
            times = part.factor << (part.exponents[name] - finest[name])
            reached[name] += times * peak
            check_bound(1, reached[name])
            into += times * part.sums.tensors[name]
    weight = sum(part.factor * part.sums.weight for part in parts)
    check_bound(weight, 1)
    return Scaled(Sums(total.tensors, weight), finest)


def mean_update(sums: Sums, exponents: Mapping[str, int]) -> dict[str, npt.NDArray[np.float64]]:
    """Weighted mean of the updates: ``float64(S) * 2**e / float64(sum of weights)``.

    Raises
    ------
    QuorumError
        When the total weight is zero.
    """
    if sums.weight <= 0:
        raise QuorumError("no update was summed: the total weight is zero")
    scaled = dequantize(sums.tensors, exponents)
    return {name: scaled[name] / np.float64(sums.weight) for name in scaled}


def server_step(
    base: Tensors,
    state: Tensors,
    mean: Tensors,
    rule: ServerRule,
) -> tuple[dict[str, npt.NDArray[np.float32]], dict[str, npt.NDArray[Any]]]:
    """The one server step that every rank and the coordinator take.

    FedAvg and FedProx: ``next = float32(float64(base) + mean)``.  FedAdam, in float64 with
    + - * / and square root only: ``m = b1*m + (1-b1)*mean``, ``v = b2*v + (1-b2)*mean**2``,
    ``next = float32(float64(base) + lr * m / (sqrt(v) + tau))``.

    Parameters
    ----------
    base : mapping of str to float32 array
    state : mapping
        Server state: empty, or FedAdam's ``m.*``, ``v.*`` and ``t``.
    mean : mapping of str to float64 array
    rule : ServerRule

    Returns
    -------
    next : dict of str to float32 array
    state : dict
        The next server state.

    Raises
    ------
    ContractError
        When names or shapes of `base` and `mean` differ, or the result is not finite.
    """
    check_names({name: np.shape(base[name]) for name in base}, mean)
    if rule.algorithm == "fedadam":
        step, new_state = _adam(mean, state, rule)
    else:
        step, new_state = dict(mean), {}
    with np.errstate(over="ignore"):
        following = {
            name: (np.asarray(base[name], np.float64) + step[name]).astype(np.float32)
            for name in sorted(base)
        }
    if not all(np.isfinite(value).all() for value in following.values()):
        raise ContractError("the server step gave a value that is not finite")
    return following, new_state


def _adam(
    mean: Tensors, state: Tensors, rule: ServerRule
) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, npt.NDArray[Any]]]:
    new_state: dict[str, npt.NDArray[Any]] = {
        "t": np.asarray(int(state["t"]) + 1 if "t" in state else 1, dtype=np.int64)
    }
    step: dict[str, npt.NDArray[np.float64]] = {}
    for name in sorted(mean):
        value = np.asarray(mean[name], np.float64)
        m = np.asarray(state.get(f"m.{name}", np.zeros_like(value)), np.float64)
        v = np.asarray(state.get(f"v.{name}", np.zeros_like(value)), np.float64)
        m = rule.beta1 * m + (1.0 - rule.beta1) * value
        v = rule.beta2 * v + (1.0 - rule.beta2) * (value * value)
        new_state[f"m.{name}"], new_state[f"v.{name}"] = m, v
        step[name] = rule.learning_rate * m / (np.sqrt(v) + rule.tau)
    return step, new_state


def _peak(tensor: Int64) -> int:
    return max(int(tensor.max()), -int(tensor.min())) if tensor.size else 0


def check_names(shapes: Mapping[str, tuple[int, ...]], tensors: Tensors) -> None:
    """Refuse tensors of another model.

    Raises
    ------
    ContractError
        When names or shapes are not those of `shapes`.
    """
    if set(shapes) != set(tensors):
        odd = sorted(set(shapes) ^ set(tensors))
        raise ContractError(f"tensor names differ: {', '.join(odd[:5])}")
    for name, shape in shapes.items():
        if np.shape(tensors[name]) != tuple(shape):
            raise ContractError(f"tensor {name} has shape {np.shape(tensors[name])}, not {shape}")

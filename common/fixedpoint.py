"""Updates as integers: clipping, power-of-two scales, saturation.

A tensor with exponent ``e`` carries integers ``k`` that stand for ``k * 2**e``.  Scales are powers
of two so that turning integers back into float64 is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.digest import Tensors
from common.errors import ContractError

Bits = Literal[8, 16]
DTYPES: Mapping[int, type[np.signedinteger[Any]]] = {8: np.int8, 16: np.int16}
HEADROOM = 8.0
MIN_EXPONENT, MAX_EXPONENT = -60, 30
CLIP_NORM_BITS = 45


@dataclass(frozen=True)
class Quantized:
    """Integers of one update and how many coordinates saturated."""

    tensors: dict[str, npt.NDArray[np.signedinteger[Any]]]
    num_saturated: int


def largest(bits: Bits) -> int:
    """Largest magnitude that `bits` carry, symmetric: 127 or 32767."""
    return int((1 << (bits - 1)) - 1)


def first_exponents(names: Tensors, clip_norm: float, bits: Bits) -> dict[str, int]:
    """Exponents of a first round: ``ceil(log2(C / largest))`` for every tensor.

    No coordinate of an update clipped to L2 norm `clip_norm` can saturate.

    Raises
    ------
    ContractError
        When `clip_norm` is not a number that exponents can serve, 2**-45 to 2**45.
    """
    if not 2.0**-CLIP_NORM_BITS <= clip_norm <= 2.0**CLIP_NORM_BITS:
        raise ContractError(f"clip_norm must lie within 2**-45 and 2**45, not {clip_norm}")
    return dict.fromkeys(sorted(names), _exponent(clip_norm, bits))


def next_exponents(mean: Tensors, exponents: Mapping[str, int], bits: Bits) -> dict[str, int]:
    """Exponents after a committed aggregate: its max-abs times 8, never growing.

    Parameters
    ----------
    mean : mapping of str to float64 array
        The committed mean update.
    exponents : mapping of str to int
        The exponents that this aggregate was made with.
    """
    return {
        name: min(exponents[name], _exponent(HEADROOM * peak, bits))
        if peak > 0
        else exponents[name]
        for name, peak in ((name, float(np.max(np.abs(mean[name]), initial=0.0))) for name in mean)
    }


def clip(delta: Tensors, clip_norm: float) -> dict[str, npt.NDArray[np.float64]]:
    """Scale `delta` so that its L2 norm over all tensors is at most `clip_norm`.

    Raises
    ------
    ContractError
        When `delta` holds a value that is not finite.
    """
    norm = l2_norm(delta)
    if not math.isfinite(norm):
        raise ContractError("the update holds a value that is not finite")
    factor = min(1.0, clip_norm / norm) if norm > 0 else 1.0
    return {name: np.asarray(delta[name], dtype=np.float64) * factor for name in sorted(delta)}


def l2_norm(tensors: Tensors) -> float:
    """L2 norm over all tensors, in float64."""
    return math.sqrt(
        sum(float(np.sum(np.square(np.asarray(t, dtype=np.float64)))) for t in tensors.values())
    )


def quantize(delta: Tensors, exponents: Mapping[str, int], bits: Bits) -> Quantized:
    """Round `delta` to integers of `bits`, half to even; values beyond range saturate.

    Parameters
    ----------
    delta : mapping of str to array
        Finite values, already clipped.
    exponents : mapping of str to int
        One for each tensor of `delta`.
    """
    top = largest(bits)
    num_saturated = 0
    integers: dict[str, npt.NDArray[np.signedinteger[Any]]] = {}
    for name in sorted(delta):
        scaled = np.rint(np.ldexp(np.asarray(delta[name], dtype=np.float64), -exponents[name]))
        num_saturated += int(np.count_nonzero(np.abs(scaled) > top))
        integers[name] = np.clip(scaled, -top, top).astype(DTYPES[bits])
    return Quantized(integers, num_saturated)


def dequantize(
    integers: Tensors, exponents: Mapping[str, int]
) -> dict[str, npt.NDArray[np.float64]]:
    """Float64 values of integers: ``k * 2**e``, exact below 2**53."""
    return {
        name: np.ldexp(np.asarray(integers[name], dtype=np.float64), exponents[name])
        for name in sorted(integers)
    }


def rescale(
    integers: Tensors, exponents: Mapping[str, int], to: Mapping[str, int], bits: Bits
) -> Quantized:
    """The same numbers in steps of ``2**to``, which are no coarser; beyond `bits` they saturate.

    Exact but for what saturates: scales never grow within a cycle.

    Raises
    ------
    ContractError
        When a tensor's new step is coarser than its old one.
    """
    coarser = sorted(name for name in integers if to[name] > exponents[name])
    if coarser:
        raise ContractError(f"the scales of {', '.join(coarser[:5])} have grown")
    return quantize(dequantize(integers, exponents), to, bits)


class IntegerNorm:
    """L2 norm of the numbers that integers stand for, whose scales are known beforehand.

    Squares of 16-bit integers and sums of 2**23 of them are exact in float64, whatever their
    order, so only the sum over scales and the root are rounded: to one part in 10**14, where
    `norm_limit` allows one in 10**9.

    Parameters
    ----------
    runs : sequence of (int, int)
        How many integers follow one another with which exponent.
    """

    def __init__(self, runs: Sequence[tuple[int, int]]) -> None:
        starts: list[int] = []
        exponents: list[int] = []
        size = 0
        for num, exponent in runs:
            if num and (not exponents or exponent != exponents[-1]):
                starts.append(size)
                exponents.append(exponent)
            size += num
        self._starts = np.array(starts, np.intp)
        self._weights = np.ldexp(1.0, 2 * np.array(exponents, np.int64))

    def __call__(self, integers: npt.NDArray[np.signedinteger[Any]]) -> float:
        """Of a flat array of int8 or int16, as long as the runs."""
        if len(self._starts) == 0:
            return 0.0
        values = integers.astype(np.float64)
        # Not `np.dot`: BLAS would share so little work out among threads, and wait for them.
        sums = np.add.reduceat(np.square(values, out=values), self._starts)
        return math.sqrt(float(np.sum(sums * self._weights)))


def norm_limit(integers: Tensors, exponents: Mapping[str, int], clip_norm: float) -> float:
    """Largest L2 norm that an honest, clipped, rounded update can have.

    Rounding moves each coordinate by at most half a step, so the norm by at most
    ``sqrt(sum(size * 4**e)) / 2``.
    """
    sizes = {name: np.asarray(integers[name]).size for name in integers}
    return norm_limit_of(sizes, exponents, clip_norm)


def norm_limit_of(
    sizes: Mapping[str, int], exponents: Mapping[str, int], clip_norm: float
) -> float:
    """`norm_limit` of tensors with that many coordinates."""
    rounding = math.sqrt(sum(size * 4.0 ** exponents[name] for name, size in sizes.items()))
    return clip_norm + 0.5 * rounding + 1e-9 * clip_norm


def _exponent(peak: float, bits: Bits) -> int:
    # Limited before the logarithm, which has none of a denormal's zero or an overflow's infinity.
    step = min(max(peak / largest(bits), 2.0**MIN_EXPONENT), 2.0**MAX_EXPONENT)
    return math.ceil(math.log2(step))

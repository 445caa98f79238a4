"""Sparse rounds: which coordinates an update carries, known to everybody from the round alone.

A round of `parts` > 1 carries one part of each tensor of `SPLIT_FROM` elements or more.  Its flat
indices are put into a pseudo-random order that only the round's `order` and the tensor's name
decide; part ``p`` of ``P`` are the places ``p, p + P, p + 2P, …`` of it, sorted.  Parts 0 to P - 1
of one order hold each coordinate once.  Smaller tensors travel whole with every part.

All wristbands of a round send the same coordinates, so no index travels, the sums stay dense and
exact, and the ring carries only the part.

The order is that of ``h(i) = mix(key + (i + 1) * GAMMA)`` modulo 2**64, the outputs of SplitMix64
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) for a seed
``key``: the first 8 bytes, little-endian, of the SHA-256 of ``{order}/{name}``.  `mix` and the
step by an odd number are bijections, so no two indices share a hash.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from common.digest import Tensors
from common.errors import ContractError
from common.messages import FixedPoint

SPLIT_FROM = 32
PART = "part"
"""Name of the one tensor of a sparse update."""

GAMMA = 0x9E3779B97F4A7C15
FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
MASK = (1 << 64) - 1
JSON_BITS = 53  # whole numbers that every JSON reader keeps

Shapes = Mapping[str, tuple[int, ...]]
Named = dict[str, npt.NDArray[Any]]


def pass_order(seed: int, number: int) -> int:
    """The order of pass `number` (0, 1, …) through the parts: SplitMix64's output, its upper 53 bits.

    >>> pass_order(0, 0), pass_order(0, 1)
    (7956156453446585, 3886858653415212)
    """
    state = np.array([(seed + (number + 1) * GAMMA) & MASK], dtype=np.uint64)
    return int(_mix(state)[0]) >> (64 - JSON_BITS)


def part_shapes(rule: FixedPoint, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Shape of the part of each tensor: its own when it travels whole, else ``(num,)``."""
    return {
        name: (len(range(rule.part, math.prod(shape), rule.parts)),)
        if _is_split(rule, math.prod(shape))
        else tuple(shape)
        for name, shape in shapes.items()
    }


def wire_shapes(rule: FixedPoint, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an update's tensors: the base's, or one flat `PART` in a sparse round."""
    if rule.parts == 1:
        return part_shapes(rule, shapes)
    return {PART: (sum(math.prod(s) for s in part_shapes(rule, shapes).values()),)}


def take(rule: FixedPoint, tensors: Tensors) -> Named:
    """The round's part of each tensor, in the shapes of `part_shapes`."""
    return {
        name: value.ravel()[part_indices(rule, name, value.size)]
        if _is_split(rule, value.size)
        else value
        for name, value in ((name, np.asarray(tensors[name])) for name in sorted(tensors))
    }


def spread(rule: FixedPoint, shapes: Shapes, part: Tensors) -> Named:
    """Whole tensors with the values of a part in their places and zeros elsewhere.

    Raises
    ------
    ContractError
        When names or shapes are not those of `part_shapes`.
    """
    _check(part_shapes(rule, shapes), part)
    return {
        name: _spread(rule, name, shapes[name], np.asarray(part[name])) for name in sorted(part)
    }


def to_wire(rule: FixedPoint, part: Tensors) -> Named:
    """Tensors of an update message: as they are, or joined in name order in a sparse round.

    Each tensor of a safetensors file costs some 70 bytes of header, more than many a part weighs.
    """
    named = {name: np.asarray(part[name]) for name in sorted(part)}
    if rule.parts == 1:
        return named
    return {PART: np.concatenate([value.ravel() for value in named.values()])}


def from_wire(rule: FixedPoint, shapes: Shapes, tensors: Tensors) -> Named:
    """The inverse of `to_wire`; `shapes` are the base model's.

    Raises
    ------
    ContractError
        When names or shapes are not those of `wire_shapes`.
    """
    _check(wire_shapes(rule, shapes), tensors)
    if rule.parts == 1:
        return {name: np.asarray(tensors[name]) for name in sorted(tensors)}
    flat, start, named = np.asarray(tensors[PART]), 0, {}
    for name, shape in sorted(part_shapes(rule, shapes).items()):
        size = math.prod(shape)
        named[name] = flat[start : start + size].reshape(shape)
        start += size
    return named


def part_indices(rule: FixedPoint, name: str, size: int) -> npt.NDArray[np.intp]:
    """Flat indices, ascending, of the round's part of a tensor of `size` elements that is split."""
    return _indices(rule.order, name, size, rule.parts, rule.part)


@lru_cache(maxsize=64)  # wristbands of one process, edge node and rank ask for the same few
def _indices(order: int, name: str, size: int, parts: int, part: int) -> npt.NDArray[np.intp]:
    key = int.from_bytes(hashlib.sha256(f"{order}/{name}".encode()).digest()[:8], "little")
    steps = np.arange(1, size + 1, dtype=np.uint64) * np.uint64(GAMMA)
    chosen = np.sort(np.argsort(_mix(steps + np.uint64(key)), kind="stable")[part::parts])
    chosen.setflags(write=False)
    return chosen


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function (Stafford's variant 13); arrays wrap modulo 2**64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(FACTORS[0])
    state = (state ^ (state >> np.uint64(27))) * np.uint64(FACTORS[1])
    return state ^ (state >> np.uint64(31))


def _is_split(rule: FixedPoint, size: int) -> bool:
    return rule.parts > 1 and size >= SPLIT_FROM


def _spread(
    rule: FixedPoint, name: str, shape: tuple[int, ...], part: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    size = math.prod(shape)
    if not _is_split(rule, size):
        return part
    whole = np.zeros(size, part.dtype)
    whole[part_indices(rule, name, size)] = part
    return whole.reshape(shape)


def _check(shapes: Shapes, tensors: Tensors) -> None:
    if {name: np.shape(tensor) for name, tensor in tensors.items()} != dict(shapes):
        raise ContractError("an update's tensors are not those of the round's part")

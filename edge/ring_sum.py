"""What a rank computes, without Horovod: one flat vector in, sums and next model out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common import fixedpoint, wire
from common.digest import Tensors, tensors_digest
from common.errors import ContractError
from common.fold import Scaled
from common.messages import RankResult, RingPlan, RingSumHeader, RoundSpec
from common.round_sums import COUNTS, Counts, Shapes, take_step
from edge import packing

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RingResult:
    """Digests to report and the bytes of the sums file."""

    report: RankResult
    sums_file: bytes


def width_of(spec: RoundSpec, plan: RingPlan) -> int:
    """Bits of an update's number in the ring: what `plan.total_weight` updates can sum up to."""
    return packing.width_for(plan.total_weight * fixedpoint.largest(spec.fixed_point.bits))


def flatten(tensors: Tensors, shapes: Shapes, spec: RoundSpec, width: int) -> Int64:
    """One vector of lanes: the updates packed by `width`, then the other counts as they are.

    Raises
    ------
    ContractError
        When names, shapes or dtype are not those of the round (every rank must bring a vector of
        the same length), or a number exceeds what the aggregate's own weight allows.
    """
    stated = {name: (np.shape(tensor), tensor.dtype) for name, tensor in tensors.items()}
    if stated != {name: (tuple(s), np.dtype(np.int64)) for name, s in shapes.items()}:
        raise ContractError("the aggregate's tensors are not those of the round")
    updates, rest = _split(shapes)
    parts = [tensors[name].ravel() for name in updates]
    weight = Counts.of(tensors).weight
    packing.check_range(parts, weight * fixedpoint.largest(spec.fixed_point.bits))
    lanes = packing.num_lanes(_size(shapes, updates), width)
    vector = np.empty(lanes + _size(shapes, rest), np.int64)
    packing.pack(parts, width, vector[:lanes])
    np.concatenate([tensors[name].ravel() for name in rest], out=vector[lanes:])
    return vector


def unflatten(vector: Int64, shapes: Shapes, width: int) -> dict[str, Int64]:
    """The inverse of `flatten`, after any number of vectors were added."""
    updates, rest = _split(shapes)
    size = _size(shapes, updates)
    lanes = packing.num_lanes(size, width)
    numbers = packing.unpack(vector[:lanes], size, width)
    return _cut(numbers, shapes, updates) | _cut(vector[lanes:], shapes, rest)


def finish(
    spec: RoundSpec,
    plan: RingPlan,
    base: Tensors,
    state: Tensors,
    sums: dict[str, Int64],
    late: Scaled | None = None,
) -> RingResult:
    """Take the server step, with `late` sums if there are any; put digests and file together.

    Raises
    ------
    ContractError
        When the sums weigh more than was planned for, so that fields may have overflowed, or the
        step gives a value that is not finite.
    """
    counts = Counts.of(sums)
    if not 0 <= counts.weight <= plan.total_weight:
        raise ContractError(f"the sums weigh {counts.weight}, planned were {plan.total_weight}")
    step = take_step(spec, sums, base, state, late)
    header = RingSumHeader(
        region=spec.region,
        round_id=spec.round_id,
        generation=plan.generation,
        base_digest=spec.base_digest,
        members=plan.members,
        **counts._asdict(),
    )
    report = RankResult(
        round_id=spec.round_id,
        generation=plan.generation,
        sums_digest=tensors_digest(sums),
        model_digest=tensors_digest(step.model),
        state_digest=tensors_digest(step.state),
        **counts._asdict(),
    )
    return RingResult(report, wire.encode(header, sums))


def _split(shapes: Shapes) -> tuple[list[str], list[str]]:
    """Names of the updates, and of all others with ``counts`` last; both in order."""
    updates = sorted(name for name in shapes if name.startswith("update/"))
    others = sorted(name for name in shapes if not name.startswith("update/") and name != COUNTS)
    return updates, [*others, COUNTS]


def _size(shapes: Shapes, names: list[str]) -> int:
    return sum(math.prod(shapes[name]) for name in names)


def _cut(vector: Int64, shapes: Shapes, names: list[str]) -> dict[str, Int64]:
    tensors: dict[str, Int64] = {}
    start = 0
    for name in names:
        size = math.prod(shapes[name])
        tensors[name] = vector[start : start + size].reshape(shapes[name])
        start += size
    return tensors

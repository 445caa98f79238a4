"""What a rank computes, without Horovod: one flat vector in, sums and next model out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, fold, wire
from common.digest import Tensors, tensors_digest
from common.errors import ContractError
from common.messages import RankResult, RingPlan, RingSumHeader, RoundSpec
from common.round_sums import COUNTS, Counts, Shapes, take_step

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RingResult:
    """Digests to report and the bytes of the sums file."""

    report: RankResult
    sums_file: bytes


def flatten(tensors: Mapping[str, npt.NDArray[Any]], shapes: Shapes) -> Int64:
    """All tensors in name order, ``counts`` last, as one int64 vector.

    Raises
    ------
    ContractError
        When names, shapes or dtype are not those of the round: every rank must bring a vector of
        the same length.
    """
    stated = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if stated != {name: (tuple(s), np.dtype(np.int64)) for name, s in shapes.items()}:
        raise ContractError("the aggregate's tensors are not those of the round")
    return np.concatenate([tensors[name].ravel() for name in _order(shapes)])


def unflatten(vector: Int64, shapes: Shapes) -> dict[str, Int64]:
    """The inverse of `flatten`."""
    tensors: dict[str, Int64] = {}
    start = 0
    for name in _order(shapes):
        size = int(np.prod(shapes[name], dtype=np.int64))
        tensors[name] = vector[start : start + size].reshape(shapes[name])
        start += size
    return tensors


def finish(
    spec: RoundSpec, plan: RingPlan, base: Tensors, state: Tensors, sums: dict[str, Int64]
) -> RingResult:
    """Take the server step and put digests and the sums file together.

    Raises
    ------
    ContractError
        When the sums could have left 62 bits, or the step gives a value that is not finite.
    """
    counts = Counts.of(sums)
    fold.check_bound(counts.weight, fixedpoint.largest(spec.fixed_point.bits))
    step = take_step(spec, sums, base, state)
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
        weight=counts.weight,
    )
    return RingResult(report, wire.encode(header, sums))


def _order(shapes: Shapes) -> list[str]:
    return [*sorted(name for name in shapes if name != COUNTS), COUNTS]

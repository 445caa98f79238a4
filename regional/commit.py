"""The coordinator's own repeat of the server step, from the ring's sums: pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from common.digest import Tensors, tensors_digest
from common.errors import ContractError
from common.fixedpoint import Bits, next_exponents
from common.fold import Scaled
from common.messages import RankResult, RoundSpec
from common.round_sums import Counts as SumCounts
from common.round_sums import sum_shapes, take_step
from common.wire import shapes_of
from regional.records import MAX_COUNT, Counts

COMPARED = (
    "sums_digest",
    "model_digest",
    "state_digest",
    "weight",
    "num_updates",
    "num_evaluations",
    "num_saturated",
)


@dataclass(frozen=True)
class Repeated:
    """What the sums of a ring give.

    Attributes
    ----------
    model, state : dict of str to array
        The next model (float32) and server state; those of the base when nothing was trained.
    exponents : dict of str to int or None
        For the next round; None when nothing was trained.
    evaluation : dict
        Summed counts of each evaluated model, as nested lists.
    """

    model: dict[str, npt.NDArray[Any]]
    state: dict[str, npt.NDArray[Any]]
    model_digest: str
    state_digest: str
    sums_digest: str
    weight: int
    num_updates: int
    num_evaluations: int
    num_saturated: int
    exponents: dict[str, int] | None = None
    evaluation: Counts = field(default_factory=dict)

    def differs_from(self, result: RankResult) -> str:
        """Say in what the ranks' result differs from this one; empty when in nothing."""
        return ", ".join(
            f"{name} {str(getattr(result, name))[:12]} here {str(getattr(self, name))[:12]}"
            for name in COMPARED
            if getattr(result, name) != getattr(self, name)
        )


def repeat_step(
    spec: RoundSpec,
    sums: Tensors,
    base: Tensors,
    state: Tensors,
    next_bits: Bits,
    late: Scaled | None = None,
) -> Repeated:
    """Check a ring's sums against the round and take the server step on them.

    Parameters
    ----------
    sums : mapping of str to int64 array
        ``update/{name}``, ``evaluation/{digest}/{name}`` and ``counts``.
    next_bits : 8 or 16
        Width that the next round's exponents are for.
    late : Scaled, optional
        Sums of slow groups that count with the ring's.

    Raises
    ------
    ContractError
        When names, shapes or dtypes are not those of the round, counts are negative or beyond
        2^53, or the step gives a value that is not finite.
    """
    _check_sums(spec, sums, base)
    counts = SumCounts.of(sums)
    step = take_step(spec, sums, base, state, late)
    exponents = None
    if step.mean is not None:
        exponents = next_exponents(step.mean, _ceiling(spec, next_bits), next_bits)
    return Repeated(
        model=step.model,
        state=step.state,
        model_digest=tensors_digest(step.model),
        state_digest=tensors_digest(step.state),
        sums_digest=tensors_digest(sums),
        weight=counts.weight,
        num_updates=counts.num_updates,
        num_evaluations=counts.num_evaluations,
        num_saturated=counts.num_saturated,
        exponents=exponents,
        evaluation={digest: _lists(spec, digest, sums) for digest in spec.evaluate},
    )


def _ceiling(spec: RoundSpec, next_bits: Bits) -> dict[str, int]:
    """Exponents that the next may not exceed: the same range, told with `next_bits`."""
    shift = spec.fixed_point.bits - next_bits
    return {name: exponent + shift for name, exponent in spec.fixed_point.exponents.items()}


def _check_sums(spec: RoundSpec, sums: Tensors, base: Tensors) -> None:
    expected = sum_shapes(spec, shapes_of(base))
    if shapes_of(sums) != expected:
        odd = sorted(set(sums) ^ set(expected)) or ["shapes differ"]
        raise ContractError(f"the ring's sums are not those of the round: {', '.join(odd[:5])}")
    for name, tensor in sums.items():
        if tensor.dtype != np.int64:
            raise ContractError(f"the ring's sum {name} is {tensor.dtype}, not int64")
        if name.startswith("update/"):
            continue
        if bool((tensor < 0).any()) or bool((tensor > MAX_COUNT).any()):
            raise ContractError(f"the ring's sum {name} has counts outside 0 to 2^53")


def _lists(spec: RoundSpec, digest: str, sums: Tensors) -> dict[str, Any]:
    return {name: sums[f"evaluation/{digest}/{name}"].tolist() for name in spec.evaluation_shapes}

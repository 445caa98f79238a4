"""Stored updates as an aggregate takes them: in the round's integers, each with its weight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, fold, parts, wire
from common.digest import Tensors
from common.messages import FixedPoint, RoundSpec, UpdateHeader
from common.round_sums import Shapes, unit

Forms = Mapping[str, FixedPoint]
"""How updates for a round's late bases were made into integers, by base."""


@dataclass(frozen=True)
class Contribution:
    """One update of a round: `integers` named and shaped as the round's part of the model."""

    device: str
    base_digest: str
    weight: int
    integers: Mapping[str, npt.NDArray[Any]]
    num_saturated: int

    @property
    def key(self) -> tuple[str, str]:
        """What a ledger knows it by: device and base."""
        return self.device, self.base_digest


def contributions(
    spec: RoundSpec, shapes: Shapes, forms: Forms, updates: Iterable[bytes]
) -> Iterator[Contribution]:
    """Decode stored updates, in their order.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes of the base model's tensors.
    forms : Forms
        For every late base that an update was made for.

    Raises
    ------
    ContractError
        When bytes are no update, or a late one's scales are finer than the round's.
    """
    for data in updates:
        header, tensors = wire.decode(data, UpdateHeader, max_bytes=len(data))
        if header.base_digest == spec.base_digest:
            yield _fresh(header, parts.from_wire(spec.fixed_point, shapes, tensors), spec)
        else:
            form = forms[header.base_digest]
            yield _late(header, parts.from_wire(form, shapes, tensors), spec, form)


def _fresh(header: UpdateHeader, named: Tensors, spec: RoundSpec) -> Contribution:
    weight = fold.update_weight(header.num_examples, spec.weighting, spec.max_weight) * unit(spec)
    integers = {name: np.asarray(tensor) for name, tensor in named.items()}
    return Contribution(header.device, header.base_digest, weight, integers, header.num_saturated)


def _late(header: UpdateHeader, named: Tensors, spec: RoundSpec, form: FixedPoint) -> Contribution:
    rule = spec.fixed_point
    moved = fixedpoint.rescale(named, form.exponents, rule.exponents, rule.bits)
    weight = fold.update_weight(header.num_examples, spec.weighting, spec.max_weight)
    age = 1 + spec.late_bases.index(header.base_digest)
    return Contribution(
        header.device,
        header.base_digest,
        fold.late_weight(weight, age),
        moved.tensors,
        header.num_saturated + moved.num_saturated,
    )

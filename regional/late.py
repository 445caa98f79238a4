"""What slow groups add to a later round: their sums, each counted by its age.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.digest import Tensors
from common.fold import Scaled, Sums, check_bound, combine, late_factor, zeros
from common.messages import RoundSpec
from common.parts import Shapes, spread
from common.round_sums import Counts
from common.wire import without_prefix


@dataclass(frozen=True)
class Contribution:
    """A slow group's round whose sums wait to be counted, `age` commits after its base."""

    spec: RoundSpec
    sums_digest: str
    age: int


def late_sums(shapes: Shapes, contributions: Iterable[tuple[Contribution, Tensors]]) -> Scaled:
    """Add rings' sums, each `late_factor` times, as integers of the finest scale among them.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of the model's tensors; what a sparse round did not carry is 0.

    Raises
    ------
    ContractError
        When the sums of several do not belong to one model, or could leave 62 bits.
    """
    return combine([_aged(shapes, each, tensors) for each, tensors in contributions])


def check_fits(late: Scaled, spec: RoundSpec) -> None:
    """Refuse sums that would leave a round no room for its own, in the finest of both scales.

    Raises
    ------
    ContractError
        When they take more than half of what 62 bits hold.
    """
    none = zeros({name: tensor.shape for name, tensor in late.sums.tensors.items()})
    scaled = combine([Scaled(none, spec.fixed_point.exponents), late])
    for tensor in scaled.sums.tensors.values():
        if tensor.size:
            check_bound(2, max(int(tensor.max()), -int(tensor.min())))


def _aged(shapes: Shapes, contribution: Contribution, tensors: Tensors) -> Scaled:
    rule = contribution.spec.fixed_point
    updates = spread(rule, shapes, without_prefix("update", tensors))
    sums = Sums(updates, Counts.of(tensors).weight)
    return Scaled(sums, rule.exponents, late_factor(contribution.age))

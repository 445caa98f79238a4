"""What slow groups add to a later round: their sums, each counted by its age.  Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from common.digest import Tensors
from common.fold import Scaled, Sums, combine, late_factor
from common.messages import RoundSpec
from common.round_sums import Counts
from common.wire import without_prefix


@dataclass(frozen=True)
class Contribution:
    """A slow group's round whose sums wait to be counted, `age` commits after its base."""

    spec: RoundSpec
    sums_digest: str
    age: int


def late_sums(contributions: Iterable[tuple[Contribution, Tensors]]) -> Scaled:
    """Add rings' sums, each `late_factor` times, as integers of the finest scale among them.

    Raises
    ------
    ContractError
        When the sums of several do not belong to one model, or could leave 62 bits.
    """
    return combine([_aged(each, tensors) for each, tensors in contributions])


def _aged(contribution: Contribution, tensors: Tensors) -> Scaled:
    updates = without_prefix("update", tensors)
    sums = Sums(updates, Counts.of(tensors).weight)
    exponents = contribution.spec.fixed_point.exponents
    return Scaled(sums, exponents, late_factor(contribution.age))

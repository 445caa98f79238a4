"""One hospital's aggregate: the exact integer sum of its stored updates and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, fold, parts, wire
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import MAX_WEIGHT, AggregateHeader, EvaluationHeader, RoundSpec, UpdateHeader
from common.round_sums import COUNTS, Counts, Shapes, evaluation_shapes


@dataclass(frozen=True)
class Aggregate:
    """A hospital's sums in a round: tensors ``update/…``, ``evaluation/…`` and ``counts``."""

    header: AggregateHeader
    tensors: dict[str, npt.NDArray[np.int64]]
    members: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Digest over all tensors, ``counts`` among them."""
        return tensors_digest(self.tensors)

    def encoded(self) -> bytes:
        """Bytes of the aggregate's file."""
        return wire.encode(self.header, self.tensors)


def aggregate(
    hospital: str,
    spec: RoundSpec,
    shapes: Shapes,
    updates: Iterable[bytes],
    evaluations: Iterable[bytes],
) -> Aggregate:
    """Fold stored messages, in any order.

    With fewer than ``spec.min_devices`` updates (or evaluations) theirs stay out of the sum, since
    a sum over so few tells too much of each; they remain stored.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes of the base model's tensors.
    updates, evaluations : iterable of bytes
        Messages as they were accepted.

    Raises
    ------
    ContractError
        When a message is not of the round's form, or the sum could leave 62 bits, or weighs more
        than a hospital's may.
    """
    tensors: dict[str, npt.NDArray[np.int64]] = {}
    weight = num_saturated = 0
    members: list[str] = []
    if spec.purpose == "train":
        taken, folded = _Taken(), parts.part_shapes(spec.fixed_point, shapes)
        sums = fold.fold(folded, taken.contributions(spec, shapes, updates), _peak(spec))
        if len(taken.members) < spec.min_devices:
            sums, taken = fold.zeros(folded), _Taken()
        tensors |= wire.with_prefix("update", sums.tensors)
        weight, num_saturated, members = sums.weight, taken.num_saturated, taken.members
        if weight > MAX_WEIGHT:
            raise ContractError(f"the updates weigh {weight}, more than {MAX_WEIGHT}")
    counted, num_evaluations = _fold_evaluations(spec, evaluations)
    tensors |= wire.with_prefix("evaluation", counted)
    counts = Counts(weight, len(members), num_evaluations, num_saturated)
    tensors[COUNTS] = counts.tensor()
    header = AggregateHeader(
        region=spec.region,
        hospital=hospital,
        round_id=spec.round_id,
        base_digest=spec.base_digest,
        **counts._asdict(),
    )
    return Aggregate(header, tensors, tuple(sorted(members)))


class _Taken:
    """Who is in the sum, noted while the messages stream by."""

    def __init__(self) -> None:
        self.members: list[str] = []
        self.num_saturated = 0

    def contributions(
        self, spec: RoundSpec, shapes: Shapes, updates: Iterable[bytes]
    ) -> Iterator[tuple[int, dict[str, npt.NDArray[Any]]]]:
        for data in updates:
            header, tensors = wire.decode(data, UpdateHeader, max_bytes=len(data))
            self.members.append(header.device)
            self.num_saturated += header.num_saturated
            named = parts.from_wire(spec.fixed_point, shapes, tensors)
            yield fold.update_weight(header.num_examples, spec.weighting, spec.max_weight), named


def _fold_evaluations(
    spec: RoundSpec, evaluations: Iterable[bytes]
) -> tuple[dict[str, npt.NDArray[np.int64]], int]:
    total = fold.zeros(evaluation_shapes(spec)).tensors
    num = 0
    for data in evaluations:
        _, tensors = wire.decode(data, EvaluationHeader, max_bytes=len(data))
        num += 1
        for name, into in total.items():
            into += tensors[name]
    if num < spec.min_devices:
        return fold.zeros(evaluation_shapes(spec)).tensors, 0
    return total, num


def _peak(spec: RoundSpec) -> int:
    return fixedpoint.largest(spec.fixed_point.bits) + 1

"""One hospital's aggregate: the exact integer sum of its stored updates and evaluations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from common import fixedpoint, fold, parts, wire
from common.digest import Tensors, tensors_digest
from common.errors import ContractError
from common.fold import Sums
from common.messages import MAX_WEIGHT, AggregateHeader, EvaluationHeader, RoundSpec
from common.round_sums import COUNTS, Counts, Shapes, evaluation_shapes
from edge import robust
from edge.contributions import Contribution, Forms, contributions
from edge.screening import Key, SetAside, Way, screen


@dataclass(frozen=True)
class Aggregate:
    """A hospital's sums in a round: tensors ``update/…``, ``evaluation/…`` and ``counts``.

    `members` are the devices whose update for the round's base is in it, `late_members` device and
    base of each late one, `quarantined` those that the screen set aside.
    """

    header: AggregateHeader
    tensors: dict[str, npt.NDArray[np.int64]]
    members: tuple[str, ...]
    late_members: tuple[Key, ...] = ()
    quarantined: Mapping[Key, SetAside] = field(default_factory=dict)

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
    forms: Forms = MappingProxyType({}),
    way: Way | None = None,
) -> Aggregate:
    """Fold stored messages, in any order.

    With updates (or evaluations) of fewer than ``spec.min_devices`` devices, theirs stay out of
    the sum, since a sum over so few tells too much of each; they remain stored.  Updates that
    ``spec.screen`` sets aside are not among them, and ``spec.robust`` is how the others are added
    up; a plain sum without a screen holds one update at a time, the others hold all of them.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Names and shapes of the base model's tensors.
    updates, evaluations : iterable of bytes
        Messages as they were accepted.
    forms : Forms, optional
        How updates for late bases were made, by base.
    way : Way, optional
        From the screen's reference to the round's base.

    Raises
    ------
    ContractError
        When a message is not of the round's form, or the sum could leave 62 bits, or weighs more
        than a hospital's may.
    """
    tensors: dict[str, npt.NDArray[np.int64]] = {}
    taken = _Taken()
    weight = 0
    if spec.purpose == "train":
        folded = parts.part_shapes(spec.fixed_point, shapes)
        each = contributions(spec, shapes, forms, updates)
        sums = _sums(spec, folded, each, taken, way)
        if len({device for device, _ in taken.keys}) < spec.min_devices or not sums.weight:
            sums = fold.zeros(folded)
            taken = _Taken(taken.quarantined)
        tensors |= wire.with_prefix("update", sums.tensors)
        weight = sums.weight
        if weight > MAX_WEIGHT:
            raise ContractError(f"the updates weigh {weight}, more than {MAX_WEIGHT}")
    counted, num_evaluations = _fold_evaluations(spec, evaluations)
    tensors |= wire.with_prefix("evaluation", counted)
    counts = Counts(weight, len(taken.keys), num_evaluations, taken.num_saturated)
    tensors[COUNTS] = counts.tensor()
    header = AggregateHeader(
        region=spec.region,
        hospital=hospital,
        round_id=spec.round_id,
        base_digest=spec.base_digest,
        rule=spec.robust.rule,
        num_quarantined=len(taken.quarantined),
        **counts._asdict(),
    )
    fresh = sorted(device for device, base in taken.keys if base == spec.base_digest)
    late = sorted(key for key in taken.keys if key[1] != spec.base_digest)
    return Aggregate(header, tensors, tuple(fresh), tuple(late), taken.quarantined)


class _Taken:
    """Who is in the sum, noted while the messages stream by."""

    def __init__(self, quarantined: Mapping[Key, SetAside] = MappingProxyType({})) -> None:
        self.keys: list[Key] = []
        self.num_saturated = 0
        self.quarantined = quarantined

    def noted(self, each: Iterable[Contribution]) -> Iterator[tuple[int, Tensors]]:
        for one in each:
            self.keys.append(one.key)
            self.num_saturated += one.num_saturated
            yield one.weight, one.integers


def _sums(
    spec: RoundSpec, folded: Shapes, each: Iterable[Contribution], taken: _Taken, way: Way | None
) -> Sums:
    if spec.robust.rule == "sum" and spec.screen is None:
        return fold.fold(folded, taken.noted(each), _peak(spec))
    exponents, together = spec.fixed_point.exponents, list(each)
    if spec.screen is not None:
        taken.quarantined = screen(together, spec.screen, exponents, way)
    kept = [one for one in together if one.key not in taken.quarantined]
    for _ in taken.noted(kept):
        pass
    return robust.combine(kept, spec.robust, folded, _peak(spec), exponents)


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

"""A round's sums: how aggregates and ring sums are laid out, and the step they lead to.

Tensors are int64: ``update/{name}`` for each tensor of the base model, or the round's part of it
(only when the round trains), ``evaluation/{digest}/{name}`` for each evaluated model, and ``counts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.digest import Tensors
from common.fold import FRESH, Scaled, Sums, combine, mean_update, server_step
from common.messages import RoundSpec
from common.parts import part_shapes, spread
from common.wire import shapes_of, without_prefix

COUNTS = "counts"
Shapes = Mapping[str, tuple[int, ...]]


class Counts(NamedTuple):
    """What ``counts`` holds, in this order."""

    weight: int
    num_updates: int
    num_evaluations: int
    num_saturated: int

    @classmethod
    def of(cls, sums: Tensors) -> Counts:
        """Read them from a round's sums."""
        return cls(*(int(number) for number in sums[COUNTS]))

    def tensor(self) -> npt.NDArray[np.int64]:
        """Shape (4,), int64."""
        return np.array(self, dtype=np.int64)


@dataclass(frozen=True)
class Step:
    """Where a round's sums lead.

    `mean` is the mean update, with zeros where the round carried nothing; None when nothing was
    trained.
    """

    model: dict[str, npt.NDArray[Any]]
    state: dict[str, npt.NDArray[Any]]
    mean: dict[str, npt.NDArray[np.float64]] | None


def unit(spec: RoundSpec) -> int:
    """What one update of weight 1 adds to the round's weight: 256 where late ones count too."""
    return FRESH if spec.max_staleness else 1


def sum_shapes(spec: RoundSpec, base: Shapes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a round's sums.

    Parameters
    ----------
    base : mapping of str to tuple of int
        Of the base model.
    """
    updates = part_shapes(spec.fixed_point, base) if spec.purpose == "train" else {}
    return (
        {f"update/{name}": shape for name, shape in updates.items()}
        | {f"evaluation/{name}": shape for name, shape in evaluation_shapes(spec).items()}
        | {COUNTS: (len(Counts._fields),)}
    )


def evaluation_shapes(spec: RoundSpec) -> dict[str, tuple[int, ...]]:
    """``{digest}/{name}`` to shape, for each model that the round evaluates."""
    return {
        f"{digest}/{name}": tuple(shape)
        for digest in spec.evaluate
        for name, shape in spec.evaluation_shapes.items()
    }


def take_step(
    spec: RoundSpec, sums: Tensors, base: Tensors, state: Tensors, late: Scaled | None = None
) -> Step:
    """The server step of a round; without training or weight, model and state stay as they are.

    Parameters
    ----------
    late : Scaled, optional
        Sums of slow groups, aged: `combine` of theirs, each with its `late_factor`.

    Raises
    ------
    ContractError
        When the sums do not fit the base, or the step gives a value that is not finite.
    """
    weight = Counts.of(sums).weight
    if spec.purpose != "train" or weight == 0:
        return Step(dict(base), dict(state), None)
    updates = {name: np.asarray(t) for name, t in without_prefix("update", sums).items()}
    whole = spread(spec.fixed_point, shapes_of(base), updates)
    total = Scaled(Sums(whole, weight), spec.fixed_point.exponents)
    if late is not None:
        total = combine([replace(total, factor=FRESH // unit(spec)), late])
    mean = mean_update(total.sums, total.exponents)
    model, following = server_step(base, state, mean, spec.server)
    return Step(dict(model), following, mean)

"""What the integers of a base's updates look like, worked out once and held against each update.

Updates for one base come in one layout, so that most checks are done with the first of them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, parts
from common.messages import FixedPoint, Reason
from common.packed import Layout, Packed
from common.round_sums import Shapes


class Mould:
    """Names, shapes, dtype, range and norm of the updates for one base.

    Parameters
    ----------
    rule : FixedPoint
        How they were made into integers.
    shapes : mapping of str to tuple of int
        Those of the base model, one for each of the rule's exponents.
    """

    def __init__(self, rule: FixedPoint, shapes: Shapes) -> None:
        self._rule = rule
        self._dtype = np.dtype(fixedpoint.DTYPES[rule.bits])
        self._wire_shapes = parts.wire_shapes(rule, shapes)
        sizes = {n: math.prod(shape) for n, shape in parts.part_shapes(rule, shapes).items()}
        self._sizes = sizes
        self._least = -fixedpoint.largest(rule.bits)
        self._norm_limit = fixedpoint.norm_limit_of(sizes, rule.exponents, rule.clip_norm)
        self._fitting: Layout | None = None
        self._norm = fixedpoint.IntegerNorm(())

    @property
    def size(self) -> int:
        """Coordinates of an update."""
        return sum(self._sizes.values())

    def misfit(self, tensors: Packed) -> Reason | None:
        """Whether values are not finite, or names, shapes or dtype are other than these."""
        if tensors.layout is self._fitting:
            return None
        if any(has_nonfinite(tensor) for tensor in tensors.values()):
            return Reason.NOT_FINITE
        if not fits(tensors, self._wire_shapes, self._dtype):
            return Reason.WRONG_SHAPE
        self._fitting, self._norm = tensors.layout, self._norm_of(tensors.layout)
        return None

    def excess(self, tensors: Packed) -> Reason | None:
        """Whether numbers of tensors that are no misfit are larger than an honest update's."""
        flat = tensors.flat()
        if flat.min(initial=0) < self._least:
            return Reason.OUT_OF_RANGE  # integers are symmetric; sums are packed as if they were
        return Reason.NORM if self._norm(flat) > self._norm_limit else None

    def _norm_of(self, layout: Layout) -> fixedpoint.IntegerNorm:
        """The norm of numbers that lie as in a fitting message."""
        if self._rule.parts > 1:
            names = sorted(self._sizes)
        else:
            names = sorted(self._sizes, key=lambda name: layout.places[name].start)
        exponents = self._rule.exponents
        return fixedpoint.IntegerNorm([(self._sizes[name], exponents[name]) for name in names])


def fits(tensors: Packed, shapes: Shapes, dtype: np.dtype[Any]) -> bool:
    """Whether these are just the names of `shapes`, each with its shape and that dtype."""
    found = {name: (place.shape, place.dtype) for name, place in tensors.layout.places.items()}
    return found == {name: (tuple(shape), dtype) for name, shape in shapes.items()}


def has_nonfinite(tensor: npt.NDArray[Any]) -> bool:
    """Whether there is a NaN or an infinity in a tensor."""
    return bool(np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all())

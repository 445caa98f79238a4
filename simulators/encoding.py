"""What a wristband learnt, as the integers that a round asks for: clip, part, quantize, carry over."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common import fixedpoint, parts, wire
from common.digest import Tensors
from common.errors import ContractError
from common.messages import FixedPoint


class Encoded(NamedTuple):
    """Tensors of an update message, how many of their numbers saturated, and what is left unsaid."""

    num_saturated: int
    tensors: dict[str, npt.NDArray[Any]]
    residual: dict[str, npt.NDArray[np.float32]] | None


def encode(rule: FixedPoint, delta: Tensors, residual: Tensors | None) -> Encoded:
    """Make a round's integers of what was learnt; in a sparse round keep what they do not say.

    Error feedback: what clipping left of ``delta + residual``, less what the integers stand for, is
    the next residual, rounding and saturation included (Seide et al. 2014, "1-bit stochastic
    gradient descent", Interspeech; Stich, Cordonnier and Jaggi 2018, arXiv:1809.07599; Karimireddy
    et al. 2019, arXiv:1901.09847).  What clipping takes is given up, so a residual's norm is at
    most the clip norm and half a step a coordinate.

    Parameters
    ----------
    delta, residual : mapping of str to array
        In the base's shapes.

    Raises
    ------
    ContractError
        When `residual` has other tensors than `delta`, or a value is not finite.
    """
    if rule.parts == 1:
        whole = fixedpoint.quantize(
            fixedpoint.clip(delta, rule.clip_norm), rule.exponents, rule.bits
        )
        return Encoded(whole.num_saturated, whole.tensors, None)
    clipped = fixedpoint.clip(_sum(delta, residual), rule.clip_norm)
    part = fixedpoint.quantize(parts.take(rule, clipped), rule.exponents, rule.bits)
    said = parts.spread(
        rule, wire.shapes_of(delta), fixedpoint.dequantize(part.tensors, rule.exponents)
    )
    left = {name: (clipped[name] - said[name]).astype(np.float32) for name in clipped}
    return Encoded(part.num_saturated, parts.to_wire(rule, part.tensors), left)


def _sum(delta: Tensors, residual: Tensors | None) -> Tensors:
    if residual is None:
        return delta
    if wire.shapes_of(delta) != wire.shapes_of(residual):
        raise ContractError("the residual is of another model")
    return {name: np.asarray(delta[name], np.float64) + residual[name] for name in delta}

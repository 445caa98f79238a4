"""What updates of a base look like, against checks tensor by tensor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common import fixedpoint, wire
from common.messages import FixedPoint, Reason, UpdateHeader
from common.packed import Packed
from edge.mould import Mould
from tests.unit.edge.builders import SHAPES, SPARSE_SHAPES, make_sparse_spec, make_update

EXPONENTS = {"bias": -14, "weight": -16}
RULE = FixedPoint(clip_norm=1.0, exponents=EXPONENTS)


def packed(tensors: dict[str, npt.NDArray[Any]]) -> Packed:
    return wire.decode_packed(make_update(tensors=tensors), UpdateHeader)[1]


def make_tensors(scale: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(scale)
    return {n: rng.integers(-scale, scale + 1, s).astype(np.int16) for n, s in SHAPES.items()}


@pytest.mark.parametrize("scale", [0, 1, 900, 5000, 9000, 20_000, 32_767])
def test_norm_is_judged_as_tensor_by_tensor(scale: int) -> None:
    mould, tensors = Mould(RULE, SHAPES), make_tensors(scale)
    norm = fixedpoint.l2_norm(fixedpoint.dequantize(tensors, EXPONENTS))
    honest = norm <= fixedpoint.norm_limit(tensors, EXPONENTS, 1.0)
    update = packed(tensors)
    assert mould.misfit(update) is None
    assert mould.excess(update) == (None if honest else Reason.NORM)
    assert mould.size == 15


def test_both_verdicts_are_among_those_scales() -> None:
    mould = Mould(RULE, SHAPES)
    verdicts = set()
    for scale in (900, 32_767):
        update = packed(make_tensors(scale))
        mould.misfit(update)
        verdicts.add(mould.excess(update))
    assert verdicts == {None, Reason.NORM}


def test_the_least_integer_is_out_of_range() -> None:
    tensors = make_tensors(1)
    tensors["bias"] = np.array([0, -32768, 0], np.int16)
    mould, update = Mould(RULE, SHAPES), packed(tensors)
    assert mould.misfit(update) is None
    assert mould.excess(update) == Reason.OUT_OF_RANGE


def test_misfits_are_found_whatever_was_seen_before() -> None:
    mould = Mould(RULE, SHAPES)
    assert mould.misfit(packed(make_tensors(1))) is None
    wrong: list[dict[str, npt.NDArray[Any]]] = [
        {"bias": np.zeros(3, np.int16)},
        make_tensors(1) | {"more": np.zeros(1, np.int16)},
        make_tensors(1) | {"bias": np.zeros((3, 1), np.int16)},
        make_tensors(1) | {"bias": np.zeros(3, np.int8)},
    ]
    assert {mould.misfit(packed(tensors)) for tensors in wrong} == {Reason.WRONG_SHAPE}
    broken = make_tensors(1) | {"bias": np.array([0, np.nan, 0], np.float32)}
    assert mould.misfit(packed(broken)) == Reason.NOT_FINITE
    assert mould.misfit(packed(make_tensors(1))) is None


def test_a_sparse_update_is_weighed_with_the_scales_of_its_tensors() -> None:
    rule = make_sparse_spec().fixed_point.model_copy(
        update={"exponents": {"bias": 0, "weight": -60}}
    )
    mould = Mould(rule, SPARSE_SHAPES)
    part = np.zeros(3 + 150, np.int8)
    part[3:] = 127
    light = packed({"part": part})
    assert (mould.misfit(light), mould.excess(light)) == (None, None)
    heavy = packed({"part": np.roll(part, 3)})
    assert (mould.misfit(heavy), mould.excess(heavy)) == (None, Reason.NORM)

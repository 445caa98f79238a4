from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.digest import Tensors
from common.errors import ContractError
from common.fold import late_factor
from common.messages import FixedPoint
from common.parts import part_shapes, spread
from regional.late import Contribution, check_fits, late_sums
from tests.builders.rounds import make_spec

SHAPES = {"b": (3,), "w": (40, 5)}


def contribution(age: int, exponent: int, **form: Any) -> Contribution:
    exponents = dict.fromkeys(SHAPES, exponent)
    rule = FixedPoint(clip_norm=1.0, exponents=exponents, **form)
    return Contribution(make_spec(fixed_point=rule), "0" * 64, age)


def ring_sums(seed: int, of: Contribution, weight: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = part_shapes(of.spec.fixed_point, SHAPES)
    sums = {f"update/{n}": rng.integers(-999, 999, shape) for n, shape in shapes.items()}
    return {**sums, "counts": np.array([weight, weight, 0, 0])}


def whole(of: Contribution, sums: Tensors, name: str) -> np.ndarray:
    part = {n: np.asarray(sums[f"update/{n}"]) for n in SHAPES}
    return spread(of.spec.fixed_point, SHAPES, part)[name]


@pytest.mark.parametrize("parts", [1, 4])
def test_sums_of_several_groups_add_up_by_age_in_the_finest_scale(parts: int) -> None:
    young = contribution(1, -12, parts=parts, part=parts - 1, bits=8)
    old = contribution(8, -10, parts=parts, part=0, bits=8)
    waiting = [(young, ring_sums(1, young)), (old, ring_sums(2, old))]
    late = late_sums(SHAPES, waiting)
    assert late.exponents == dict.fromkeys(SHAPES, -12)
    assert late.sums.weight == 3 * late_factor(1) + 3 * late_factor(8)
    for name in SHAPES:
        expected = late_factor(1) * whole(young, waiting[0][1], name)
        expected = expected + 4 * late_factor(8) * whole(old, waiting[1][1], name)
        assert np.array_equal(late.sums.tensors[name], expected)


def test_sums_of_another_model_are_refused() -> None:
    one = contribution(1, -12)
    sums = {"update/other": np.zeros(3, np.int64), "counts": np.array([1, 1, 0, 0])}
    with pytest.raises(ContractError):
        late_sums(SHAPES, [(one, sums)])


def test_sums_that_leave_a_round_no_room_are_refused() -> None:
    coarse, fine = contribution(0, 0), contribution(0, -52)
    late = late_sums(SHAPES, [(coarse, ring_sums(1, coarse))])
    check_fits(late, coarse.spec)
    with pytest.raises(ContractError, match="62 bits"):
        check_fits(late, fine.spec)

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.digest import tensors_digest
from common.errors import ContractError
from common.fixedpoint import first_exponents
from common.messages import FixedPoint, LocalRule, RankResult, RoundSpec, ServerRule
from common.parts import part_indices
from regional.commit import repeat_step

Arrays = dict[str, npt.NDArray[Any]]
BASE: Arrays = {"w": np.array([1.0, -2.0], np.float32), "b": np.array([0.5], np.float32)}
EMPTY = tensors_digest({})


def make_spec(**changes: Any) -> RoundSpec:
    base = tensors_digest(BASE)
    values: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": 1,
        "task": "dummy",
        "base_digest": base,
        "state_digest": EMPTY,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        "fixed_point": FixedPoint(clip_norm=1.0, exponents=first_exponents(BASE, 1.0, 16)),
        "evaluate": (base,),
        "evaluation_shapes": {"confusion": (2, 2)},
        "locations": {base: "county/ring/000000/x"},
        "opened_at": 1.0,
        "closes_at": 2.0,
    }
    return RoundSpec.model_validate({**values, **changes})


def make_sums(spec: RoundSpec, weight: int = 4, num: int = 2) -> Arrays:
    sums: Arrays = {"counts": np.array([weight, num, 3, 1], np.int64)}
    if spec.purpose == "train":
        sums["update/w"] = np.array([4000, -8000], np.int64)
        sums["update/b"] = np.array([100], np.int64)
    for digest in spec.evaluate:
        sums[f"evaluation/{digest}/confusion"] = np.array([[5, 1], [2, 7]], np.int64)
    return sums


def test_takes_the_weighted_mean_of_the_integers() -> None:
    spec = make_spec()
    done = repeat_step(spec, make_sums(spec), BASE, {}, 16)
    scale = 2.0 ** spec.fixed_point.exponents["w"]
    expected = (np.array([1.0, -2.0]) + np.array([1000, -2000]) * scale).astype(np.float32)
    np.testing.assert_array_equal(done.model["w"], expected)
    assert done.model_digest == tensors_digest(done.model)
    assert (done.weight, done.num_updates, done.num_evaluations, done.num_saturated) == (4, 2, 3, 1)


def test_evaluation_comes_back_as_nested_integers_by_model() -> None:
    spec = make_spec()
    done = repeat_step(spec, make_sums(spec), BASE, {}, 16)
    assert done.evaluation == {spec.base_digest: {"confusion": [[5, 1], [2, 7]]}}


def test_an_evaluation_round_leaves_model_state_and_exponents() -> None:
    spec = make_spec(purpose="evaluate")
    done = repeat_step(spec, make_sums(spec, weight=0, num=0), BASE, {}, 16)
    assert done.model_digest == spec.base_digest
    assert done.state_digest == EMPTY
    assert done.exponents is None


def test_a_weight_of_zero_leaves_the_model() -> None:
    spec = make_spec()
    assert repeat_step(spec, make_sums(spec, 0, 0), BASE, {}, 16).model_digest == spec.base_digest


def test_eight_bits_cover_the_range_that_sixteen_covered() -> None:
    spec = make_spec()
    sums = make_sums(spec)
    sums["update/w"] = np.array([4 * 32767, 0], np.int64)
    done = repeat_step(spec, sums, BASE, {}, 8)
    assert done.exponents is not None
    assert done.exponents["w"] == spec.fixed_point.exponents["w"] + 8


def test_says_in_what_a_result_differs() -> None:
    spec = make_spec()
    done = repeat_step(spec, make_sums(spec), BASE, {}, 16)
    same = RankResult(
        round_id=1,
        generation=1,
        sums_digest=done.sums_digest,
        model_digest=done.model_digest,
        state_digest=done.state_digest,
        weight=4,
        num_updates=done.num_updates,
        num_evaluations=done.num_evaluations,
        num_saturated=done.num_saturated,
    )
    assert done.differs_from(same) == ""
    assert done.differs_from(same.model_copy(update={"weight": 5})) == "weight 5 here 4"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("update/w", np.zeros(3, np.int64)),
        ("update/w", np.zeros(2, np.float64)),
        ("update/extra", np.zeros(2, np.int64)),
        ("counts", np.array([-1, 0, 0, 0], np.int64)),
        ("counts", np.array([4, 1 << 60, 3, 1], np.int64)),
        ("counts", np.zeros(3, np.int64)),
    ],
)
def test_refuses_sums_that_are_not_those_of_the_round(name: str, tensor: Any) -> None:
    spec = make_spec()
    with pytest.raises(ContractError):
        repeat_step(spec, {**make_sums(spec), name: tensor}, BASE, {}, 16)


def make_sparse(number: int, peak: int) -> tuple[RoundSpec, Arrays, Arrays]:
    """Round, sums and base; the part holds `peak` once, and zeros."""
    base: Arrays = {"w": np.ones((30, 20), np.float32)}
    rule = FixedPoint(clip_norm=1.0, bits=8, exponents={"w": -12}, parts=4, part=number, order=1)
    update = np.zeros(150, np.int64)
    update[7] = peak
    sums = {"update/w": update, "counts": np.array([1, 1, 0, 0], np.int64)}
    digest = tensors_digest(base)
    changes = {"base_digest": digest, "locations": {digest: "county/ring/000000/x"}, "evaluate": ()}
    return make_spec(fixed_point=rule, **changes), sums, base


@pytest.mark.parametrize(("peak", "expected"), [(0, -12), (1, -15), (7, -13), (127, -12)])
def test_scales_after_a_sparse_round_follow_the_part_and_never_grow(
    peak: int, expected: int
) -> None:
    spec, sums, base = make_sparse(2, peak)
    assert repeat_step(spec, sums, base, {}, 8).exponents == {"w": expected}


def test_a_sparse_round_moves_its_part_alone() -> None:
    spec, sums, base = make_sparse(2, 64)
    moved = repeat_step(spec, sums, base, {}, 8).model["w"].ravel() != 1
    assert np.flatnonzero(moved).tolist() == [part_indices(spec.fixed_point, "w", 600)[7]]

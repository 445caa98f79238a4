"""The layout of a round's sums, and the step they lead to, against plain numpy."""

import numpy as np
import pytest

from common.digest import tensors_digest
from common.fold import Scaled, Sums
from common.messages import FixedPoint
from common.parts import part_indices
from common.round_sums import Counts, sum_shapes, take_step, unit
from tests.builders.rounds import BASE, make_spec

MODEL = {"w": np.array([1.0, 2.0], np.float32)}


def make_sums(weight: int = 2) -> dict[str, np.ndarray]:
    return {
        "update/w": np.array([1 << 14, -(1 << 15)], np.int64),
        "counts": Counts(weight, 2, 2, 0).tensor(),
    }


def test_training_round_sums_updates_evaluations_and_counts() -> None:
    spec = make_spec(evaluate=(BASE,), evaluation_shapes={"confusion": (2, 2)})
    assert sum_shapes(spec, {"w": (2,)}) == {
        "update/w": (2,),
        f"evaluation/{BASE}/confusion": (2, 2),
        "counts": (4,),
    }


def test_evaluation_round_sums_no_updates() -> None:
    assert sum_shapes(make_spec(purpose="evaluate"), {"w": (2,)}) == {"counts": (4,)}


def test_step_adds_the_mean_update() -> None:
    step = take_step(make_spec(), make_sums(), MODEL, {})
    assert step.mean is not None
    assert step.mean["w"].tolist() == [0.5, -1.0]
    assert step.model["w"].tolist() == [1.5, 1.0]


@pytest.mark.parametrize(
    ("purpose", "weight"), [("evaluate", 2), ("train", 0)], ids=["evaluation", "no weight"]
)
def test_without_training_or_weight_the_model_stays(purpose: str, weight: int) -> None:
    step = take_step(make_spec(purpose=purpose), make_sums(weight), MODEL, {})
    assert step.mean is None
    assert tensors_digest(step.model) == tensors_digest(MODEL)


def test_counts_come_back_as_they_went() -> None:
    assert Counts.of({"counts": Counts(4, 3, 2, 1).tensor()}) == Counts(4, 3, 2, 1)


def sparse(part: int = 1) -> FixedPoint:
    return FixedPoint(clip_norm=1.0, exponents={"v": -3, "w": -14}, parts=5, part=part, order=8)


def test_a_sparse_round_sums_its_part() -> None:
    spec = make_spec(fixed_point=sparse())
    assert sum_shapes(spec, {"v": (30, 20), "w": (2,)}) == {
        "update/v": (120,), "update/w": (2,), "counts": (4,)
    }  # fmt: skip
    evaluation = make_spec(fixed_point=sparse(), purpose="evaluate")
    assert sum_shapes(evaluation, {"v": (30, 20), "w": (2,)}) == {"counts": (4,)}


def test_step_of_a_sparse_round_leaves_what_it_did_not_carry() -> None:
    base = MODEL | {"v": np.full((30, 20), 7.0, np.float32)}
    sums = make_sums() | {"update/v": np.full(120, 16, np.int64)}
    step = take_step(make_spec(fixed_point=sparse()), sums, base, {})
    moved = np.zeros(600, bool)
    moved[part_indices(sparse(), "v", 600)] = True
    assert step.mean is not None
    assert step.mean["v"].shape == (30, 20)
    assert np.array_equal(step.model["v"].ravel(), np.where(moved, 8.0, 7.0))
    assert step.model["w"].tolist() == [1.5, 1.0]


def test_a_round_that_counts_late_updates_weighs_its_own_in_256ths() -> None:
    assert [unit(make_spec()), unit(make_spec(max_staleness=1))] == [1, 256]


def test_late_sums_of_hospitals_weigh_the_same_beside_either_unit() -> None:
    late = Scaled(Sums({"w": np.array([128, 0], np.int64)}, 1), {"w": -14}, 181)
    scaled = {name: 256 * value for name, value in make_sums().items() if name != "counts"}
    scaled["counts"] = Counts(512, 2, 2, 0).tensor()
    plain = take_step(make_spec(), make_sums(), MODEL, {}, late)
    in_256ths = take_step(make_spec(max_staleness=1), scaled, MODEL, {}, late)
    assert tensors_digest(plain.model) == tensors_digest(in_256ths.model)

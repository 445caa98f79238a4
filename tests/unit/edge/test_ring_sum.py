from __future__ import annotations

import numpy as np
import pytest

from common import fold, parts, wire
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import RingSumHeader
from common.round_sums import sum_shapes
from common.wire import shapes_of
from edge import packing, ring_sum
from edge.aggregate import aggregate
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    SHAPES,
    SPARSE_SHAPES,
    make_evaluation,
    make_model,
    make_part,
    make_plan,
    make_sparse_spec,
    make_sparse_update,
    make_spec,
    make_update,
)


def make_sums() -> dict[str, np.ndarray]:
    spec = make_spec(evaluate=(BASE,))
    devices = ("band-a", "band-b")
    messages = [make_update(device, seed) for seed, device in enumerate(devices)]
    return dict(
        aggregate(HOSPITAL, spec, SHAPES, messages, [make_evaluation(d) for d in devices]).tensors
    )


def test_flat_vector_comes_back_with_counts_last() -> None:
    spec, sums = make_spec(evaluate=(BASE,)), make_sums()
    shapes = sum_shapes(spec, shapes_of(make_model()))
    width = ring_sum.width_of(spec, make_plan())
    vector = ring_sum.flatten(sums, shapes, spec, width)
    assert vector.dtype == np.int64
    assert vector[-4:].tolist() == sums["counts"].tolist()
    back = ring_sum.unflatten(vector, shapes, width)
    assert tensors_digest(back) == tensors_digest(sums)


@pytest.mark.parametrize(
    "change",
    [
        {"update/bias": np.zeros(4, np.int64)},
        {"update/bias": np.zeros(3, np.int32)},
        {"extra": np.zeros(1, np.int64)},
    ],
)
def test_vector_of_another_length_or_type_is_refused(change: dict[str, np.ndarray]) -> None:
    spec = make_spec(evaluate=(BASE,))
    shapes = sum_shapes(spec, shapes_of(make_model()))
    with pytest.raises(ContractError, match="not those of the round"):
        ring_sum.flatten(make_sums() | change, shapes, spec, width=32)


def test_number_beyond_what_the_weight_allows_is_refused() -> None:
    spec, sums = make_spec(evaluate=(BASE,)), make_sums()
    shapes = sum_shapes(spec, shapes_of(make_model()))
    sums["update/bias"] = sums["update/bias"].copy()
    sums["update/bias"][0] = 2 * 32767 + 1
    with pytest.raises(ContractError, match="beyond what its weight allows"):
        ring_sum.flatten(sums, shapes, spec, width=32)


@pytest.mark.parametrize(
    ("total_weight", "bits", "width"),
    [(1, 16, 16), (32, 16, 21), (66, 16, 23), (3, 8, 10), (0, 16, 1)],
)
def test_width_is_what_the_planned_weight_needs(total_weight: int, bits: int, width: int) -> None:
    fixed = make_spec().fixed_point.model_copy(update={"bits": bits})
    spec = make_spec().model_copy(update={"fixed_point": fixed})
    assert ring_sum.width_of(spec, make_plan(total_weight=total_weight)) == width


def test_model_is_the_one_that_a_plain_mean_gives() -> None:
    spec, sums = make_spec(evaluate=(BASE,)), make_sums()
    done = ring_sum.finish(spec, make_plan(), make_model(), {}, sums)
    exponents = spec.fixed_point.exponents
    plain = {
        name: (
            base.astype(np.float64) + sums[f"update/{name}"] * 2.0 ** exponents[name] / 2
        ).astype(np.float32)
        for name, base in make_model().items()
    }
    assert done.report.model_digest == tensors_digest(plain)
    assert done.report.sums_digest == tensors_digest(sums)
    header, tensors = wire.decode(done.sums_file, RingSumHeader)
    assert (header.weight, header.num_updates, header.num_evaluations) == (2, 2, 2)
    assert tensors_digest(tensors) == done.report.sums_digest


def test_zero_weight_leaves_model_and_state_as_they_were() -> None:
    spec = make_spec()
    sums = dict(aggregate(HOSPITAL, spec, SHAPES, [], []).tensors)
    done = ring_sum.finish(spec, make_plan(), make_model(), {}, sums)
    assert (done.report.model_digest, done.report.state_digest) == (
        spec.base_digest,
        spec.state_digest,
    )


def test_sums_that_weigh_more_than_planned_are_refused() -> None:
    sums = make_sums() | {"counts": np.array([101, 1, 1, 0], np.int64)}
    with pytest.raises(ContractError, match="weigh 101, planned were 100"):
        ring_sum.finish(make_spec(), make_plan(), make_model(), {}, sums)


def test_fedadam_state_is_stepped() -> None:
    spec = make_spec(server={"algorithm": "fedadam"}, evaluate=(BASE,))
    done = ring_sum.finish(spec, make_plan(), make_model(), {}, make_sums())
    mean = fold.mean_update(
        fold.Sums(wire.without_prefix("update", make_sums()), 2), spec.fixed_point.exponents
    )
    _, state = fold.server_step(make_model(), {}, mean, spec.server)
    assert done.report.state_digest == tensors_digest(state)


def test_a_sparse_round_goes_through_the_ring_as_its_part_and_moves_only_that() -> None:
    base = {n: np.ones(shape, np.float32) for n, shape in SPARSE_SHAPES.items()}
    spec, plan = make_sparse_spec(base=tensors_digest(base)), make_plan(total_weight=2)
    shapes, width = sum_shapes(spec, SPARSE_SHAPES), ring_sum.width_of(spec, plan)
    vectors = [
        ring_sum.flatten(
            aggregate(HOSPITAL, spec, SPARSE_SHAPES, [update], []).tensors, shapes, spec, width
        )
        for update in (make_sparse_update(seed=s, base_digest=spec.base_digest) for s in (0, 1))
    ]
    assert vectors[0].size == packing.num_lanes(153, width) + 4
    sums = ring_sum.unflatten(np.add(*vectors), shapes, width)
    plain = make_part(0).astype(np.int64) + make_part(1)
    assert np.array_equal(np.concatenate([sums["update/bias"], sums["update/weight"]]), plain)

    done = ring_sum.finish(spec, plan, base, {}, sums)
    expected = {n: value.astype(np.float64) for n, value in base.items()}
    step = 2.0 ** spec.fixed_point.exponents["weight"]
    expected["bias"] += plain[:3] * step / 2
    chosen = parts.part_indices(spec.fixed_point, "weight", 600)
    expected["weight"].ravel()[chosen] += plain[3:] * step / 2
    plainly = {n: value.astype(np.float32) for n, value in expected.items()}
    assert done.report.model_digest == tensors_digest(plainly)
    assert np.count_nonzero(plainly["weight"] != 1) <= 150

from __future__ import annotations

import numpy as np
import pytest

from common.digest import tensors_digest
from common.errors import ContractError
from edge.aggregate import aggregate
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    SHAPES,
    SPARSE_SHAPES,
    make_evaluation,
    make_integers,
    make_part,
    make_sparse_spec,
    make_sparse_update,
    make_spec,
    make_update,
)

EXAMPLES = {"band-a": 5, "band-b": 4000, "band-c": 60}


def updates() -> list[bytes]:
    return [
        make_update(device, seed, num_examples=num, num_saturated=seed)
        for seed, (device, num) in enumerate(EXAMPLES.items())
    ]


@pytest.mark.parametrize(
    ("weighting", "weights"), [("uniform", [1, 1, 1]), ("examples", [5, 100, 60])]
)
def test_fold_equals_a_plain_weighted_sum(weighting: str, weights: list[int]) -> None:
    spec = make_spec(weighting=weighting, max_weight=100)
    made = aggregate(HOSPITAL, spec, SHAPES, updates(), [])
    for name in SHAPES:
        plain = sum(w * make_integers(i)[name].astype(np.int64) for i, w in enumerate(weights))
        assert np.array_equal(made.tensors[f"update/{name}"], plain)
    assert made.tensors["counts"].tolist() == [sum(weights), 3, 0, 0 + 1 + 2]
    assert made.members == ("band-a", "band-b", "band-c")
    assert made.digest == tensors_digest(made.tensors)


def test_order_of_updates_does_not_matter() -> None:
    spec = make_spec()
    forward = aggregate(HOSPITAL, spec, SHAPES, updates(), [])
    backward = aggregate(HOSPITAL, spec, SHAPES, updates()[::-1], [])
    assert forward.encoded() == backward.encoded()


def test_evaluations_are_added_up() -> None:
    spec = make_spec(purpose="evaluate", evaluate=(BASE,))
    evaluations = [make_evaluation(device) for device in EXAMPLES]
    made = aggregate(HOSPITAL, spec, SHAPES, updates(), evaluations)
    assert made.tensors[f"evaluation/{BASE}/confusion"].tolist() == [[3, 6], [0, 3]]
    assert set(made.tensors) == {f"evaluation/{BASE}/confusion", "counts"}
    assert (made.header.weight, made.header.num_evaluations) == (0, 3)


def test_nothing_stored_gives_zeros_of_the_right_shapes() -> None:
    made = aggregate(HOSPITAL, make_spec(evaluate=(BASE,)), SHAPES, [], [])
    assert {name: t.shape for name, t in made.tensors.items()} == {
        "update/bias": (3,),
        "update/weight": (4, 3),
        f"evaluation/{BASE}/confusion": (2, 2),
        "counts": (4,),
    }
    assert not any(t.any() for t in made.tensors.values())


def test_fewer_devices_than_allowed_stay_out_of_the_sum() -> None:
    spec = make_spec(min_devices=4, evaluate=(BASE,))
    made = aggregate(HOSPITAL, spec, SHAPES, updates(), [make_evaluation()])
    assert (made.header.weight, made.members) == (0, ())
    assert not any(t.any() for t in made.tensors.values())


def test_a_sparse_round_folds_the_part_alone() -> None:
    spec = make_sparse_spec(weighting="examples")
    sent = [
        make_sparse_update(device, seed, num_examples=num)
        for seed, (device, num) in enumerate(EXAMPLES.items())
    ]
    made = aggregate(HOSPITAL, spec, SPARSE_SHAPES, sent, [])
    plain = np.sum(
        [num * make_part(i).astype(np.int64) for i, num in enumerate(EXAMPLES.values())], 0
    )
    assert np.array_equal(made.tensors["update/bias"], plain[:3])
    assert np.array_equal(made.tensors["update/weight"], plain[3:])
    assert made.encoded() == aggregate(HOSPITAL, spec, SPARSE_SHAPES, sent[::-1], []).encoded()


def test_nothing_stored_in_a_sparse_round_gives_zeros_of_the_part() -> None:
    made = aggregate(
        HOSPITAL, make_sparse_spec(min_devices=2), SPARSE_SHAPES, [make_sparse_update()], []
    )
    assert {n: t.shape for n, t in made.tensors.items()} == {
        "update/bias": (3,), "update/weight": (150,), "counts": (4,)
    }  # fmt: skip
    assert not any(t.any() for t in made.tensors.values())


def test_an_update_of_another_form_is_not_folded() -> None:
    with pytest.raises(ContractError):
        aggregate(HOSPITAL, make_sparse_spec(), SPARSE_SHAPES, [make_update()], [])

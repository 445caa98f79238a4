from __future__ import annotations

import numpy as np
import pytest

from common.digest import tensors_digest
from edge.aggregate import aggregate
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    SHAPES,
    make_evaluation,
    make_integers,
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

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cloud.inference.model import SCORE_CHUNK, ServedModel
from common.ecg.beats import INPUT_SHAPES
from common.errors import ContractError
from tests.builders.serving import make_model, make_release

(NUM_RR,) = INPUT_SHAPES["rr"]


def make_inputs(num: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in INPUT_SHAPES.items()
    }


class NanSession:
    """A session whose scores are not numbers."""

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", type="tensor(float)", shape=["batch", 1])]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="scores", type="tensor(float)", shape=["batch", 5])]

    def run(self, output_names: list[str] | None, input_feed: dict[str, Any]) -> list[Any]:
        return [np.full((len(input_feed["x"]), 5), np.nan, np.float32)]


def test_describes_inputs_with_a_free_first_axis() -> None:
    model = make_model()
    assert [(spec.name, spec.datatype, spec.shape) for spec in model.inputs] == [
        (name, "FP32", (-1, *shape)) for name, shape in INPUT_SHAPES.items()
    ]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("scores", (-1, 5))]


def test_scores_in_chunks_equal_scores_one_by_one() -> None:
    model, num = make_model(), SCORE_CHUNK + 3
    inputs = make_inputs(num)
    together = model.scores(inputs)
    one_by_one = [model.scores({k: v[i : i + 1] for k, v in inputs.items()}) for i in range(num)]
    assert together.shape == (num, 5)
    np.testing.assert_allclose(together, np.concatenate(one_by_one), atol=1e-6)


def test_no_beats_give_no_scores() -> None:
    assert make_model().scores(make_inputs(0)).shape == (0, 5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"beat_mv": make_inputs(1)["beat_mv"]}, "the inputs are"),
        (make_inputs(1) | {"rr": np.zeros((1, NUM_RR - 1), np.float32)}, "has shape"),
        (make_inputs(1) | {"rr": np.zeros(NUM_RR, np.float32)}, "has shape"),
        (make_inputs(1) | {"rr": np.zeros((2, NUM_RR), np.float32)}, "number of rows"),
    ],
)
def test_refuses_inputs_that_are_not_the_models(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        make_model().run(inputs)


def test_refuses_scores_that_are_not_finite() -> None:
    model = ServedModel(make_release(), NanSession())
    with pytest.raises(ContractError, match="not finite"):
        model.scores({"x": np.zeros((2, 1), np.float32)})


def test_refuses_scores_for_other_labels() -> None:
    model = make_model(labels=("N", "V"))
    with pytest.raises(ContractError, match="2 labels"):
        model.scores(make_inputs(1))

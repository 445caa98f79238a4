from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import ContractError
from regional.seal import mean_model, sealed_path


def make_models(num: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(5)
    shapes = {"w": (7, 3), "b": (3,)}
    return [
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(num)
    ]


@pytest.mark.parametrize("num", [2, 3, 5])
def test_mean_is_taken_in_float64_and_rounded_once(num: int) -> None:
    models = make_models(num)
    mean = mean_model(models)
    for name, tensor in mean.items():
        total = np.zeros(tensor.shape)
        for model in models:
            total += model[name]
        np.testing.assert_array_equal(tensor, (total / num).astype(np.float32))
        assert tensor.dtype == np.float32


def test_mean_of_one_is_that_model_bit_for_bit() -> None:
    (model,) = make_models(1)
    for name, tensor in mean_model([model]).items():
        assert tensor.tobytes() == model[name].tobytes()


def test_no_model_or_unlike_models_have_no_mean() -> None:
    one, other = make_models(2)
    with pytest.raises(ContractError):
        mean_model([])
    with pytest.raises(ContractError):
        mean_model([one, {"w": other["w"]}])


def test_sealed_path_is_the_days() -> None:
    assert sealed_path("county", 3, "ab") == "county/to-cloud/000003/ab.safetensors"

"""Export to ONNX and parity with torch."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from cloud.export import check_parity, export_onnx, onnx_scores, probes
from cloud.model_file import check_graph
from common.errors import ContractError, ParityError
from common.tasks.beats import BeatTask
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.registry import TASKS, get_task
from tests.builders.sealed import GOOD


@pytest.fixture(scope="module")
def beats() -> bytes:
    task = BeatTask()
    return export_onnx(task, task.initial(seed=3))


@pytest.fixture(scope="module")
def dummy() -> bytes:
    return export_onnx(DummyTask(), GOOD)


@pytest.mark.parametrize("name", TASKS)
def test_a_released_file_fits_200_kb(name: str, request: pytest.FixtureRequest) -> None:
    assert len(request.getfixturevalue(name)) <= 200_000


def test_beat_model_is_valid_onnx_of_the_released_form(beats: bytes) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(beats), full_check=True)
    check_graph(beats, BeatTask.input_shapes, 5)


def test_export_names_no_source_file(beats: bytes) -> None:
    assert b".py" not in beats
    assert b"common.tasks" not in beats


@pytest.mark.parametrize("name", ["beats", "dummy"])
def test_scores_equal_torch_on_extremes(name: str, request: pytest.FixtureRequest) -> None:
    task = get_task(name)
    params = GOOD if name == "dummy" else task.initial(seed=3)
    inputs = probes(task, np.random.default_rng(1))
    assert check_parity(task, params, request.getfixturevalue(name), inputs) <= 1e-5


@pytest.mark.parametrize("num", [0, 1, 2, 5000])
def test_batch_is_dynamic(dummy: bytes, num: int) -> None:
    assert onnx_scores(dummy, dummy_examples(seed=1, num=num).inputs).shape == (num, 2)


def test_other_parameters_are_a_parity_error(dummy: bytes) -> None:
    other = {**GOOD, "bias": np.array([0.1, 0], np.float32)}
    with pytest.raises(ParityError, match="differs from torch"):
        check_parity(DummyTask(), other, dummy, dummy_examples(seed=1, num=10).inputs)


def test_parameters_that_give_nan_are_a_parity_error(dummy: bytes) -> None:
    broken = {**GOOD, "bias": np.array([np.nan, 0], np.float32)}
    with pytest.raises(ParityError, match="not finite"):
        check_parity(DummyTask(), broken, dummy, dummy_examples(seed=1, num=10).inputs)


def test_parameters_of_another_model_are_refused() -> None:
    with pytest.raises(ContractError):
        export_onnx(BeatTask(), GOOD)

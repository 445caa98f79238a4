from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnxruntime import InferenceSession

from common.errors import ConfigError, ContractError
from common.tasks.registry import TASKS, get_task
from common.tasks.task import Examples, Task, load_parameters, parameters, score


def make_examples(task: Task, num: int = 60, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in task.input_shapes.items()
    }
    return Examples(inputs, np.arange(num) % len(task.labels))


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return get_task(request.param)


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'beat'; known: beats, dummy"):
        get_task("beat")


def test_the_interface_does_not_import_torch() -> None:
    program = (
        "import sys, common.tasks.task, common.tasks.registry; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_task_is_found_by_its_own_name(task: Task) -> None:
    assert get_task(task.name).labels == task.labels


def test_all_state_is_parameters_and_small(task: Task) -> None:
    module = task.build()
    assert not list(module.buffers())
    assert set(module.state_dict()) == set(task.initial(0))
    assert sum(value.size for value in task.initial(0).values()) <= 30_000


def test_initial_depends_on_the_seed_alone(task: Task) -> None:
    torch.manual_seed(1)
    first = task.initial(5)
    torch.manual_seed(2)
    again, other = task.initial(5), task.initial(6)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
    assert any((value != other[name]).any() for name, value in first.items())


def test_initial_leaves_the_global_generator_alone(task: Task) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    task.initial(0)
    assert torch.rand(1) == expected


def test_parameters_survive_the_way_through_a_module(task: Task) -> None:
    params = task.initial(7)
    module = task.build()
    load_parameters(module, params)
    for name, value in parameters(module).items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, params[name])


def test_loading_copies(task: Task) -> None:
    params = task.initial(7)
    module = task.build()
    load_parameters(module, params)
    for value in params.values():
        value += 1
    assert all((p.detach().numpy() != params[n]).all() for n, p in module.named_parameters())


def test_refuses_parameters_of_another_model(task: Task) -> None:
    params = task.initial(0)
    name = next(iter(params))
    with pytest.raises(ContractError, match="another model"):
        load_parameters(task.build(), {k: v for k, v in params.items() if k != name})
    with pytest.raises(ContractError, match=name):
        load_parameters(task.build(), {**params, name: params[name][..., None]})


def test_scores_are_probabilities_in_label_order(task: Task) -> None:
    scores = score(task, task.initial(0), make_examples(task).inputs)
    assert scores.shape == (60, len(task.labels))
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def test_scoring_in_chunks_changes_nothing(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = make_examples(task).inputs
    whole = score(task, task.initial(0), inputs)
    monkeypatch.setattr("common.tasks.task.SCORE_CHUNK", 7)
    np.testing.assert_allclose(score(task, task.initial(0), inputs), whole, atol=1e-6)


def test_no_examples_give_no_scores(task: Task) -> None:
    scores = score(task, task.initial(0), make_examples(task, num=0).inputs)
    assert scores.shape == (0, len(task.labels))


def test_refuses_inputs_of_another_shape_or_name(task: Task) -> None:
    inputs = make_examples(task).inputs
    name = next(iter(inputs))
    with pytest.raises(ContractError, match=name):
        score(task, task.initial(0), {**inputs, name: inputs[name][..., :-1]})
    with pytest.raises(ContractError, match="takes the inputs"):
        score(task, task.initial(0), {**inputs, "age": inputs[name]})


def test_a_broken_model_is_an_error_and_not_a_score(task: Task) -> None:
    broken = {name: np.full_like(value, np.nan) for name, value in task.initial(0).items()}
    with pytest.raises(ContractError, match="not finite"):
        score(task, broken, make_examples(task).inputs)


def test_counts_have_the_announced_shapes(task: Task) -> None:
    examples = make_examples(task)
    counts = task.count(score(task, task.initial(0), examples.inputs), examples.labels)
    assert {name: value.shape for name, value in counts.items()} == dict(task.evaluation_shapes)
    assert all(value.dtype == np.int64 for value in counts.values())


def test_drawing_depends_on_the_generator_alone(task: Task) -> None:
    examples = make_examples(task)
    first, again = (task.draw(examples, 32, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.labels, again.labels)
    for name, shape in task.input_shapes.items():
        assert first.inputs[name].shape == (32, *shape)
        assert first.inputs[name].dtype == np.float32
        np.testing.assert_array_equal(first.inputs[name], again.inputs[name])


def test_drawing_changes_no_example(task: Task) -> None:
    examples = make_examples(task)
    task.draw(examples, 500, np.random.default_rng(4))
    for name, rows in make_examples(task).inputs.items():
        np.testing.assert_array_equal(examples.inputs[name], rows)


def test_the_loss_has_a_gradient_for_every_parameter(task: Task) -> None:
    module = task.build()
    examples = make_examples(task)
    inputs = {name: torch.from_numpy(rows) for name, rows in examples.inputs.items()}
    torch.autograd.backward(task.loss(module, inputs, torch.from_numpy(examples.labels)))
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in module.parameters())


@pytest.mark.filterwarnings("ignore")  # torch's exporter warns about itself
def test_the_scorer_exports_to_onnx_with_any_batch_and_agrees(task: Task, tmp_path: Path) -> None:
    module = task.build()
    load_parameters(module, task.initial(0))
    sample = make_examples(task, num=3).inputs
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        task.scorer(module).eval(),
        tuple(torch.from_numpy(sample[name]) for name in task.input_shapes),
        input_names=list(task.input_shapes),
        output_names=["scores"],
        dynamic_shapes=tuple({0: batch} for _ in task.input_shapes),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    path = tmp_path / "scores.onnx"
    program.save(path)
    session = InferenceSession(path)
    for num in (1, 60):
        inputs = make_examples(task, num).inputs
        (scores,) = session.run(["scores"], dict(inputs))
        np.testing.assert_allclose(scores, score(task, task.initial(0), inputs), atol=1e-5)


def test_examples_must_have_a_label_each() -> None:
    with pytest.raises(ContractError, match="3 rows for 2 labels"):
        Examples({"x": np.zeros((3, 1), np.float32)}, np.zeros(2, np.int64))


@pytest.mark.parametrize(
    "idx", [np.array([1, 3]), np.array([False, True, False, True]), slice(1, 4, 2)]
)
def test_examples_are_taken_by_position_mask_or_slice(idx: np.ndarray | slice) -> None:
    examples = Examples({"x": np.arange(4, dtype=np.float32)}, np.arange(4))
    taken = examples.take(idx)
    assert taken.inputs["x"].tolist() == [1, 3]
    assert taken.labels.tolist() == [1, 3]
    assert len(taken) == 2

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from common.errors import ConfigError, ContractError
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import Examples, Parameters, score
from simulators.trainer import LocalTraining, device_seed, pin_to_one_thread, train

TASK = DummyTask()
PLAN = LocalTraining(learning_rate=0.05, num_steps=60, batch_size=32, mu=0.0, seed=11)


def distance(params: Parameters, base: Parameters) -> float:
    return float(np.sqrt(sum(((params[name] - base[name]) ** 2).sum() for name in base)))


def test_training_learns_the_task() -> None:
    examples, unseen = dummy_examples(0, 400), dummy_examples(1, 400)
    scores = score(TASK, train(TASK, TASK.initial(0), examples, PLAN), unseen.inputs)
    assert np.mean(scores.argmax(axis=1) == unseen.labels) > 0.9


def test_the_result_depends_on_the_arguments_alone() -> None:
    examples, base = dummy_examples(0, 100), TASK.initial(0)
    first = train(TASK, base, examples, PLAN)
    train(TASK, base, dummy_examples(5, 30), replace(PLAN, seed=2))  # another device in between
    torch.manual_seed(99)
    again = train(TASK, base, examples, PLAN)
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])


def test_another_seed_gives_another_result() -> None:
    examples, base = dummy_examples(0, 100), TASK.initial(0)
    assert distance(
        train(TASK, base, examples, PLAN), train(TASK, base, examples, replace(PLAN, seed=12))
    )


def test_the_base_is_left_alone() -> None:
    base = TASK.initial(0)
    train(TASK, base, dummy_examples(0, 100), PLAN)
    for name, value in TASK.initial(0).items():
        np.testing.assert_array_equal(base[name], value)


def test_the_proximal_term_keeps_the_update_shorter() -> None:
    examples, base = dummy_examples(0, 200), TASK.initial(0)
    lengths = [
        distance(train(TASK, base, examples, replace(PLAN, mu=mu)), base) for mu in (0.0, 1.0, 10.0)
    ]
    assert lengths[0] > lengths[1] > lengths[2] > 0


def test_training_that_diverges_is_an_error() -> None:
    examples = dummy_examples(0, 50)
    broken = Examples(
        {"features": np.full_like(examples.inputs["features"], np.inf)}, examples.labels
    )
    with pytest.raises(ContractError, match="not finite"):
        train(TASK, TASK.initial(0), broken, PLAN)


def test_training_needs_examples() -> None:
    with pytest.raises(ConfigError, match="without labelled beats"):
        train(TASK, TASK.initial(0), dummy_examples(0, 0), PLAN)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 1.5},
        {"mu": -1.0},
        {"mu": float("nan")},
        {"num_steps": 0},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_refuses_a_plan_that_cannot_be_trained(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        LocalTraining(**{**vars(PLAN), **change})


def test_seeds_differ_by_device_and_round_and_fit_63_bits() -> None:
    seeds = {device_seed(0, f"w{d}", r) for d in range(50) for r in range(20)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_seed_is_the_same_on_every_machine() -> None:
    # printf '7/wb-100/3' | sha256sum
    assert device_seed(7, "wb-100", 3) == 0x299BDE7BA76D7E27 >> 1


def test_pins_torch_to_one_thread() -> None:
    before = torch.get_num_threads()
    try:
        pin_to_one_thread()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)

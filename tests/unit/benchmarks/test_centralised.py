from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.centralised import (
    Period,
    num_examples_seen,
    periods,
    pool,
    pooled,
    train_centralised,
)
from common.digest import tensors_digest
from common.ecg.sources import synthetic_source
from common.errors import ConfigError
from common.tasks.dummy import DummyTask
from common.tasks.task import Examples
from simulators.patients import split_last_fifth, wearer

TASK = DummyTask()
PLAN = (Period(0.01, 6), Period(0.001, 4))


def make_round(**values: Any) -> dict[str, Any]:
    return {
        "purpose": "train",
        "end": "committed",
        "learning_rate": 0.01,
        "num_updates": 22,
    } | values


def make_examples(num: int = 40, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    inputs = {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in TASK.input_shapes.items()
    }
    return Examples(inputs, rng.integers(0, len(TASK.labels), num))


def silent(line: str) -> None:
    """Tell nobody."""


def test_a_period_takes_the_steps_that_all_counted_updates_took() -> None:
    plan = periods([make_round(), make_round(num_updates=20, learning_rate=0.005)], 40)
    assert plan == (Period(0.01, 880), Period(0.005, 800))


@pytest.mark.parametrize("other", [{"purpose": "evaluate"}, {"end": "skipped"}, {"end": "aborted"}])
def test_rounds_that_taught_nothing_take_no_steps(other: dict[str, Any]) -> None:
    assert periods([make_round(**other)], 40) == ()


def test_the_budget_is_that_of_the_rounds() -> None:
    plan = periods([make_round()] * 12, 40)
    assert num_examples_seen(plan, 64) == 12 * 22 * 40 * 64


def test_the_pool_holds_what_wristbands_train_on_and_no_more() -> None:
    source = synthetic_source()
    names = source.train_names[:2]
    parts = [split_last_fifth(wearer(source.read(name)))[0] for name in names]
    whole = pool(source, names)
    assert len(whole) == sum(map(len, parts))
    np.testing.assert_array_equal(whole.labels[: len(parts[0])], parts[0].labels)
    np.testing.assert_array_equal(whole.inputs["rr"][len(parts[0]) :], parts[1].inputs["rr"])


def test_a_pool_of_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match="no wearer"):
        pooled([])


def test_the_same_seed_gives_the_same_model_and_another_seed_another() -> None:
    digests = [
        tensors_digest(train_centralised(TASK, make_examples(), PLAN, 8, seed, silent))
        for seed in (1, 1, 2)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_each_period_is_told_of() -> None:
    told: list[str] = []
    train_centralised(TASK, make_examples(), PLAN, 8, 0, told.append)
    assert [line.split()[1] for line in told] == ["1/2", "2/2"]


def test_no_period_leaves_the_initial_model() -> None:
    found = train_centralised(TASK, make_examples(), (), 8, 3, silent)
    assert tensors_digest(found) == tensors_digest(TASK.initial(3))

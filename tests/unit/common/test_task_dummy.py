from __future__ import annotations

import numpy as np

from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import score


def test_has_ten_parameters() -> None:
    assert sum(value.size for value in DummyTask().initial(0).values()) == 10


def test_scores_equal_a_softmax_written_in_numpy() -> None:
    task = DummyTask()
    params, examples = task.initial(3), dummy_examples(0, 20)
    logits = examples.inputs["features"] @ params["weight"].T + params["bias"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(score(task, params, examples.inputs), expected, atol=1e-6)


def test_examples_depend_on_the_seed_and_hold_both_labels() -> None:
    first, again = dummy_examples(1, 50), dummy_examples(1, 50)
    np.testing.assert_array_equal(first.inputs["features"], again.inputs["features"])
    assert set(first.labels.tolist()) == {0, 1}
    assert (dummy_examples(2, 50).inputs["features"] != first.inputs["features"]).any()

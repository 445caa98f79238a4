"""The int8 file of a release: kept when it is close to the float32 file, else refused."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.export import export_onnx
from cloud.int8 import MAX_CHANGED, build_int8, compare, refusal_of
from cloud.release import Difference
from common.digest import bytes_digest
from common.errors import ContractError
from common.tasks.beats import BeatTask
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import Parameters
from tests.builders.sealed import GOOD

TASK = DummyTask()
COARSE = {**GOOD, "weight": np.array([[1000, -2, -2, -2], [1000, 2, 2, 2]], np.float32)}
"""The scores need steps of 2, and 8 bits give each channel steps of 1000 / 127."""

LARGE = {"weight": GOOD["weight"] * np.float32(1e37), "bias": GOOD["bias"]}


def make_difference(
    score: float = 0.0, changed: float = 0.0, score_bound: float | None = 0.1
) -> Difference:
    return Difference(
        num_examples=10,
        score=score,
        score_bound=score_bound,
        changed=changed,
        changed_bound=MAX_CHANGED,
    )


def exported(params: Parameters = GOOD) -> bytes:
    return export_onnx(TASK, params)


def test_a_close_file_is_kept_with_its_digest_and_size() -> None:
    stated, int8_bytes = build_int8(TASK, exported())
    assert int8_bytes is not None
    assert (stated.sha256, stated.size_bytes) == (bytes_digest(int8_bytes), len(int8_bytes))
    assert not stated.refusal


def test_the_same_file_gives_the_same_result() -> None:
    assert build_int8(TASK, exported()) == build_int8(TASK, exported())


def test_a_task_without_ecg_is_compared_on_probes_alone() -> None:
    stated, _ = build_int8(TASK, exported())
    assert list(stated.differences) == ["probes"]
    assert stated.differences["probes"].score_bound is None


def test_the_beat_task_is_compared_on_synthetic_beats_too() -> None:
    task = BeatTask()
    stated, int8_bytes = build_int8(task, export_onnx(task, task.initial(seed=3)))
    assert int8_bytes is not None, stated.refusal
    assert stated.differences["synthetic_beats"].num_examples > 1000
    assert stated.differences["synthetic_beats"].score < 0.02


def test_difference_is_the_largest_of_a_score_and_the_share_of_other_decisions() -> None:
    rows = dummy_examples(seed=4, num=100).inputs
    opposite = {name: -tensor for name, tensor in GOOD.items()}
    found = compare(exported(), exported(opposite), rows, None)
    assert found.changed == 1.0
    assert found.num_examples == 100
    nothing = compare(exported(), exported(), rows, None)
    assert (nothing.score, nothing.changed) == (0.0, 0.0)


def test_a_file_at_its_bounds_is_kept() -> None:
    assert refusal_of({"probes": make_difference(score=0.1, changed=MAX_CHANGED)}) == ""


@pytest.mark.parametrize(
    ("difference", "reason"),
    [
        (make_difference(changed=0.02), "2.00% of decisions change on probes"),
        (make_difference(score=0.2), "scores differ by 0.200 on probes"),
    ],
)
def test_a_file_beyond_a_bound_is_refused_by_name(difference: Difference, reason: str) -> None:
    assert reason in refusal_of({"probes": difference})


def test_scores_on_probes_have_no_bound() -> None:
    assert refusal_of({"probes": make_difference(score=0.9, score_bound=None)}) == ""


def test_a_refusal_leaves_the_differences_and_no_file() -> None:
    stated, int8_bytes = build_int8(TASK, exported(COARSE))
    assert int8_bytes is None
    assert stated.sha256 is None
    assert stated.size_bytes is None
    assert "decisions change on probes" in stated.refusal
    assert stated.differences["probes"].changed > MAX_CHANGED


def test_a_file_that_cannot_be_quantized_is_refused_without_an_error() -> None:
    stated, int8_bytes = build_int8(TASK, b"not onnx")
    assert int8_bytes is None
    assert "no valid ONNX file" in stated.refusal


def test_scores_that_are_not_finite_are_refused() -> None:
    rows = {"features": np.full((3, 4), 100.0, np.float32)}
    with pytest.raises(ContractError, match="not finite"):
        compare(exported(), exported(LARGE), rows, None)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import SignalError
from common.messages import FixedPoint, LocalRule, RoundSpec, ServerRule
from simulators.jobs import Identity, Job
from simulators.workers import ExampleSource, Failed, Order, carry_out

NOWHERE = Path("/nonexistent")


def make_job(task: str) -> Job:
    spec = RoundSpec(
        region="county",
        day=1,
        cycle=1,
        round_id=1,
        task=task,
        base_digest="0" * 64,
        state_digest="0" * 64,
        server=ServerRule(),
        local=LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        fixed_point=FixedPoint(clip_norm=1.0, exponents={"weight": -14, "bias": -14}),
        locations={"0" * 64: "ring/0/model.safetensors"},
        opened_at=1.0,
        closes_at=2.0,
    )
    model = {"unheard": np.zeros(3, dtype=np.float32)}
    return Job(Identity("county", "north", "wb-1"), spec, {"0" * 64: model}, train=True)


def test_dummy_wearers_have_examples_of_their_own() -> None:
    source = ExampleSource("dummy", NOWHERE, seed=1)
    training, held_out = source.split("a")
    again, _ = source.split("a")
    other, _ = source.split("b")
    assert (len(training), len(held_out)) == (160, 40)
    np.testing.assert_array_equal(training.inputs["features"], again.inputs["features"])
    assert not np.array_equal(training.inputs["features"], other.inputs["features"])


def test_unknown_wearer_of_beats_is_a_clear_error() -> None:
    with pytest.raises(SignalError, match="'999'"):
        ExampleSource("beats", NOWHERE).split("999")


def test_job_with_a_foreign_model_fails_with_a_reason() -> None:
    done = carry_out(Order("a", make_job("dummy")), ExampleSource("dummy", NOWHERE))
    assert isinstance(done, Failed)
    assert "another model" in done.reason


def test_job_with_an_unknown_task_fails_with_a_reason() -> None:
    done = carry_out(Order("a", make_job("unheard")), ExampleSource("dummy", NOWHERE))
    assert isinstance(done, Failed)
    assert "unheard" in done.reason

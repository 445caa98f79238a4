from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common import fixedpoint
from common.digest import tensors_digest
from common.errors import ContractError
from common.messages import FixedPoint, LocalRule, RoundSpec, ServerRule
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.task import score
from simulators.jobs import Identity, Job
from simulators.local import learn
from simulators.trainer import LocalTraining, device_seed, train

BASE = DummyTask().initial(seed=1)
DIGEST = tensors_digest(BASE)
TRAINING, HELD_OUT = dummy_examples(1, 60), dummy_examples(2, 20)


def make_job(clip_norm: float = 100.0, do_train: bool = True, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": 3,
        "task": "dummy",
        "base_digest": DIGEST,
        "state_digest": "0" * 64,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=4, batch_size=8, seed=5),
        "fixed_point": FixedPoint(
            clip_norm=clip_norm, exponents=fixedpoint.first_exponents(BASE, clip_norm, 16)
        ),
        "evaluate": (DIGEST,),
        "evaluation_shapes": dict(DummyTask.evaluation_shapes),
        "locations": {DIGEST: "ring/0/model.safetensors"},
        "opened_at": 1.0,
        "closes_at": 2.0,
    }
    spec = RoundSpec(**(values | changes))
    return Job(Identity("county", "north", "wb-1"), spec, {DIGEST: BASE}, do_train)


def test_update_is_the_trained_difference_in_integers() -> None:
    update = learn(make_job(), TRAINING, HELD_OUT).update
    plan = LocalTraining(0.1, 4, 8, 0.0, device_seed(5, "wb-1", 3))
    trained = train(DummyTask(), BASE, TRAINING, plan)
    assert update
    assert update.num_examples == 60
    exponents = make_job().spec.fixed_point.exponents
    values = fixedpoint.dequantize(update.tensors, exponents)
    for name, base in BASE.items():
        step = 2.0 ** exponents[name]
        difference = trained[name].astype(np.float64) - base
        assert np.abs(values[name] - difference).max() <= step / 2


def test_update_is_clipped_to_the_norm_of_the_round() -> None:
    job = make_job(clip_norm=0.01)
    update = learn(job, TRAINING, HELD_OUT).update
    assert update
    exponents = job.spec.fixed_point.exponents
    norm = fixedpoint.l2_norm(fixedpoint.dequantize(update.tensors, exponents))
    assert norm == pytest.approx(0.01, rel=1e-3)
    assert norm <= fixedpoint.norm_limit(update.tensors, exponents, 0.01)


def test_proximal_term_changes_the_update() -> None:
    rule = LocalRule(learning_rate=0.1, num_steps=4, batch_size=8, seed=5, mu=5.0)
    with_mu = learn(make_job(local=rule), TRAINING, HELD_OUT).update
    without = learn(make_job(), TRAINING, HELD_OUT).update
    assert with_mu
    assert without
    assert tensors_digest(with_mu.tensors) != tensors_digest(without.tensors)


def test_evaluation_counts_the_held_out_examples() -> None:
    evaluation = learn(make_job(do_train=False), TRAINING, HELD_OUT).evaluation
    said = score(DummyTask(), BASE, HELD_OUT.inputs).argmax(axis=1)
    confusion = np.zeros((2, 2), dtype=np.int64)
    np.add.at(confusion, (HELD_OUT.labels, said), 1)
    assert evaluation
    assert evaluation.num_examples == 20
    np.testing.assert_array_equal(evaluation.tensors[f"{DIGEST}/confusion"], confusion)


def test_without_held_out_examples_the_counts_are_zero() -> None:
    evaluation = learn(make_job(), TRAINING, HELD_OUT.take(slice(0, 0))).evaluation
    assert evaluation
    assert evaluation.num_examples == 0
    assert not any(counts.any() for counts in evaluation.tensors.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation_shapes": {"confusion": (3, 3)}},
        {"evaluation_shapes": {"unheard_of": (2, 2)}},
        {"fixed_point": FixedPoint(clip_norm=1.0, exponents={"weight": -14})},
    ],
)
def test_refuses_a_round_that_does_not_fit_the_task(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        learn(make_job(**changes), TRAINING, HELD_OUT)

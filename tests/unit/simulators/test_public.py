from __future__ import annotations

import numpy as np
import pytest

from common import fixedpoint
from common.digest import tensors_digest
from common.ecg.beats import INPUT_SHAPES
from common.messages import FixedPoint, LocalRule, RoundSpec, ServerRule
from common.tasks.beats import BeatTask
from common.tasks.dummy import DummyTask, dummy_examples
from common.tasks.registry import get_task
from common.tasks.task import Examples
from simulators.jobs import Identity, Job
from simulators.local import learn
from simulators.public import public_examples
from simulators.trainer import LocalTraining, train

PLAN = LocalTraining(learning_rate=0.05, num_steps=5, batch_size=8, mu=0.0, seed=3)


def own_examples(task: str, num: int = 40) -> Examples:
    if task == "dummy":
        return dummy_examples(1, num)
    rng = np.random.default_rng(1)
    inputs = {
        name: rng.standard_normal((num, *shape), dtype=np.float32)
        for name, shape in INPUT_SHAPES.items()
    }
    return Examples(inputs, np.arange(num) % 3)


def update_digest(task: str, *, simulated: bool) -> str:
    """Digest of what a wristband sends after a round of `task`."""
    base = get_task(task).initial(0)
    digest = tensors_digest(base)
    spec = RoundSpec(
        region="county",
        day=1,
        cycle=1,
        round_id=1,
        task=task,
        base_digest=digest,
        state_digest="0" * 64,
        server=ServerRule(),
        local=LocalRule(learning_rate=0.01, num_steps=2, batch_size=8, simulated=simulated),
        fixed_point=FixedPoint(
            clip_norm=10.0, exponents=fixedpoint.first_exponents(base, 10.0, 16)
        ),
        locations={digest: "ring/0/model.safetensors"},
        opened_at=1.0,
        closes_at=2.0,
    )
    job = Job(Identity("county", "north", "wb-1"), spec, {digest: base}, True)
    own = own_examples(task)
    update = learn(job, own, own.take(slice(0, 0))).update
    assert update
    return tensors_digest(update.tensors)


def test_the_beat_task_has_public_examples_of_its_own_shapes() -> None:
    public = public_examples("beats")
    assert public
    assert {name: rows.shape[1:] for name, rows in public.inputs.items()} == dict(
        BeatTask.input_shapes
    )


def test_public_examples_hold_no_ecg() -> None:
    public = public_examples("beats")
    assert public
    assert not public.inputs["beat_mv"][::1000].any()


@pytest.mark.parametrize("task", ["dummy", "unheard of"])
def test_another_task_has_none(task: str) -> None:
    assert public_examples(task) is None


def test_training_mixes_public_examples_in() -> None:
    task, base, own = DummyTask(), DummyTask().initial(0), dummy_examples(1, 40)
    alone = train(task, base, own, PLAN)
    mixed = train(task, base, own, PLAN, public=dummy_examples(2, 40))
    again = train(task, base, own, PLAN, public=dummy_examples(2, 40))
    assert tensors_digest(alone) != tensors_digest(mixed)
    assert tensors_digest(mixed) == tensors_digest(again)


def test_a_batch_holds_as_many_public_examples_as_own_ones() -> None:
    class Counting(DummyTask):
        drawn: list[int] = []  # noqa: RUF012  # one list for the one instance

        def draw(self, examples: Examples, num: int, rng: np.random.Generator) -> Examples:
            self.drawn.append(num)
            return super().draw(examples, num, rng)

    task = Counting()
    train(task, task.initial(0), dummy_examples(1, 9), PLAN, public=dummy_examples(2, 70))
    assert task.drawn == [PLAN.batch_size] * 2 * PLAN.num_steps


def test_a_round_may_leave_the_simulated_beats_out() -> None:
    assert update_digest("beats", simulated=True) != update_digest("beats", simulated=False)


def test_a_task_without_any_is_not_affected() -> None:
    assert update_digest("dummy", simulated=True) == update_digest("dummy", simulated=False)

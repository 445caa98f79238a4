"""A wristband's local work in a round: score on held-out examples, train, encode."""

from __future__ import annotations

import numpy as np

from common.errors import ContractError
from common.messages import RoundSpec
from common.tasks.registry import get_task
from common.tasks.task import Examples, Task, score
from simulators.encoding import encode
from simulators.jobs import Job, Learned, LocalEvaluation, LocalUpdate
from simulators.public import public_examples
from simulators.trainer import LocalTraining, device_seed, train


def learn(job: Job, training: Examples, held_out: Examples) -> Learned:
    """Do one round's work; on one torch thread the result depends on the arguments alone.

    Raises
    ------
    ContractError
        When a model is not the task's, its scores or what training ends in are not finite, or the
        round asks for counts that the task does not give.
    ConfigError
        When the task is unknown, there is nothing to train on, or the learning rate exceeds 1.
    """
    task = get_task(job.spec.task)
    evaluation = _evaluate(task, job, held_out) if job.spec.evaluate else None
    update = _update(task, job, training) if job.train else None
    return Learned(job.spec, update, evaluation)


def _evaluate(task: Task, job: Job, held_out: Examples) -> LocalEvaluation:
    tensors = {}
    for digest in job.spec.evaluate:
        counts = task.count(score(task, job.models[digest], held_out.inputs), held_out.labels)
        for name, shape in job.spec.evaluation_shapes.items():
            if name not in counts or counts[name].shape != shape:
                raise ContractError(f"task {task.name} gives no counts {name} of shape {shape}")
            tensors[f"{digest}/{name}"] = counts[name].astype(np.int64)
    return LocalEvaluation(len(held_out), tensors)


def _update(task: Task, job: Job, training: Examples) -> LocalUpdate:
    spec, base = job.spec, job.models[job.spec.base_digest]
    public = public_examples(spec.task) if spec.local.simulated else None
    trained = train(task, base, training, _plan(spec, job.identity.device), public)
    delta = {name: trained[name].astype(np.float64) - base[name] for name in base}
    if set(spec.fixed_point.exponents) != set(delta):
        raise ContractError("the round's exponents name other tensors than its base model")
    sent = encode(spec.fixed_point, delta, job.residual)
    return LocalUpdate(
        spec.base_digest, len(training), sent.num_saturated, sent.tensors, sent.residual
    )


def _plan(spec: RoundSpec, device: str) -> LocalTraining:
    rule = spec.local
    return LocalTraining(
        learning_rate=rule.learning_rate,
        num_steps=rule.num_steps,
        batch_size=rule.batch_size,
        mu=rule.mu,
        seed=device_seed(rule.seed, device, spec.round_id),
    )

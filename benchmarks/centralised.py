"""The peer of the federated model: the same net, trained where all beats lie in one place.

Same initial parameters, loss, sampling, augmentation, optimiser, learning rate and number of
examples seen; only the beats are pooled. Where a round asks D wristbands for n steps each from one
base, this takes n·D steps in a row, with a fresh AdamW as wristbands have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloud.export import export_onnx
from cloud.report import Track, score_test_set
from common.ecg.sources import EcgSource
from common.errors import ConfigError
from common.tasks.task import Examples, Parameters, Task
from simulators.patients import split_last_fifth, wearer
from simulators.trainer import LocalTraining, device_seed, train

BUDGET = (
    "examples seen = sum over committed training rounds of "
    "(updates counted x local steps x batch size); centralised: in each round's place, "
    "(updates counted x local steps) steps of the same batch size, drawn from the pool"
)
DEVICE = "pool"


@dataclass(frozen=True)
class Period:
    """What stands in for one round: `num_steps` of AdamW at a constant `learning_rate`."""

    learning_rate: float
    num_steps: int


def periods(rounds: Iterable[Mapping[str, Any]], num_local_steps: int) -> tuple[Period, ...]:
    """One period for each committed training round, of as many steps as all its wristbands took.

    Parameters
    ----------
    rounds : iterable of mapping
        The coordinator's report of ended rounds.
    num_local_steps : int
        Of one wristband in one round.
    """
    return tuple(
        Period(ended["learning_rate"], ended["num_updates"] * num_local_steps)
        for ended in rounds
        if ended["end"] == "committed" and ended["purpose"] == "train"
    )


def num_examples_seen(plan: Iterable[Period], batch_size: int) -> int:
    """Examples that a plan draws, repetitions counted."""
    return sum(period.num_steps for period in plan) * batch_size


def pool(source: EcgSource, names: Iterable[str]) -> Examples:
    """The labelled beats of the patients `names`, without each one's last fifth."""
    return pooled([split_last_fifth(wearer(source.read(name)))[0] for name in names])


def pooled(parts: Sequence[Examples]) -> Examples:
    """Lay examples of several wearers end to end.

    Raises
    ------
    ConfigError
        If there are none.
    """
    if not parts:
        raise ConfigError("there is no wearer whose beats could be pooled")
    names = parts[0].inputs
    return Examples(
        {name: np.concatenate([part.inputs[name] for part in parts]) for name in names},
        np.concatenate([part.labels for part in parts]),
    )


def train_centralised(
    task: Task,
    examples: Examples,
    plan: Sequence[Period],
    batch_size: int,
    seed: int,
    tell: Callable[[str], None],
) -> Parameters:
    """Train on pooled examples; on one torch thread the result depends on the arguments alone.

    Parameters
    ----------
    task : Task
        Gives initial parameters, sampling and loss.
    examples : Examples
        From `pool`.
    plan : sequence of Period
        From `periods`.
    batch_size : int
        At least 1.
    seed : int
        Of the initial parameters, as the region's, and of the batches.
    tell : callable
        Gets a line after each period.

    Raises
    ------
    ConfigError, ContractError
        As `simulators.trainer.train`.
    """
    params = task.initial(seed)
    for number, period in enumerate(plan, start=1):
        local = LocalTraining(
            learning_rate=period.learning_rate,
            num_steps=period.num_steps,
            batch_size=batch_size,
            mu=0.0,
            seed=device_seed(seed, DEVICE, number),
        )
        params = train(task, params, examples, local)
        tell(f"centralised: {number}/{len(plan)} periods of {period.num_steps} steps")
    return params


def score_centralised(
    task: Task, params: Parameters, source: EcgSource, look: int, track: Track
) -> dict[str, Any]:
    """Export and score the model by the code that scores releases: `cloud.report.score_test_set`."""
    return score_test_set(params, export_onnx(task, params), source, look, track)

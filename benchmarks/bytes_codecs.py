"""Codecs of the uplink that the bytes benchmark compares, and one training run by each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.clinical_arms import MEAN_OF, NUM_STEPS, TASK, roster_of
from common import wire
from common.digest import tensors_digest
from common.messages import ModelHeader, UpdateHeader
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters
from regional.config import LearningConfig
from regional.learning import learning_rate
from regional.seal import mean_model
from simulators.public import public_examples
from simulators.study import REGION, Study, run_study
from simulators.trainer import LocalTraining, device_seed, train


@dataclass(frozen=True)
class Codec:
    """One way to send updates.

    Attributes
    ----------
    learning : mapping or None
        Laid over the product's `LearningConfig`; None for plain float32 FedAvg, the peer.
    """

    name: str
    learning: Mapping[str, Any] | None = field(default_factory=dict)

    def rule(self, seed: int, num_rounds: int) -> LearningConfig:
        """The learning constants of a run: the clinical recipe's."""
        changes = {"lr_rounds": num_rounds, "num_steps": NUM_STEPS, **(self.learning or {})}
        return LearningConfig(**changes, seed=seed)


PEER = "float32"
CODECS: tuple[Codec, ...] = (
    Codec(PEER, None),
    Codec("int16"),
    Codec("int8", {"bits": 8}),
    Codec("int8_parts4", {"bits": 8, "parts": 4}),
    Codec("int8_parts8", {"bits": 8, "parts": 8}),
    Codec("int8_parts16", {"bits": 8, "parts": 16}),
)


@dataclass(frozen=True)
class Sent:
    """A committed round: the next model, and bytes of update messages for each wristband."""

    model: Parameters
    bytes_up: float
    bytes_down: int


@dataclass(frozen=True)
class Learnt:
    """A run: the model that a day would seal, and the bytes of each round for each wristband.

    `bytes_down` is the model message, the same for every codec.
    """

    model: Parameters
    bytes_up: tuple[float, ...]
    bytes_down: float


def learn(codec: Codec, seed: int, num_rounds: int, wearers: Mapping[str, Examples]) -> Learnt:
    """Train one run of a codec by the clinical recipe.

    Parameters
    ----------
    wearers : mapping of str to Examples
        What each patient's wristband learns from.
    """
    rule = codec.rule(seed, num_rounds)
    rounds = _plain if codec.learning is None else _ours
    models: list[Parameters] = []
    up, down = [], []
    for sent in rounds(rule, num_rounds, wearers):
        models = [*models[1 - MEAN_OF :], sent.model]
        up.append(sent.bytes_up)
        down.append(sent.bytes_down)
    return Learnt(mean_model(models), tuple(up), float(np.mean(down)))


def _ours(rule: LearningConfig, num_rounds: int, wearers: Mapping[str, Examples]) -> Iterator[Sent]:
    """The product's own rounds."""
    for committed in run_study(Study(roster_of(wearers), rule, num_rounds, TASK), wearers):
        up = committed.bytes_up / committed.num_updates
        yield Sent(committed.model, up, _bytes_down(committed.model, committed.round_id))


def _plain(
    rule: LearningConfig, num_rounds: int, wearers: Mapping[str, Examples]
) -> Iterator[Sent]:
    """Float32 FedAvg: differences neither clipped nor rounded, their mean taken in float64.

    Same initial parameters, training, seeds and learning rates, and the same message around the
    tensors.
    """
    task, public = get_task(TASK), public_examples(TASK)
    model: Parameters = task.initial(rule.seed, simulated=True)
    for round_id in range(1, num_rounds + 1):
        total = {name: np.zeros(value.shape) for name, value in model.items()}
        sizes = []
        for hospital, pairs in roster_of(wearers).items():
            for device, wearer in pairs:
                local = _local(rule, device, round_id)
                trained = train(task, model, wearers[wearer], local, public)
                delta = {name: trained[name] - model[name] for name in model}
                header = UpdateHeader(
                    region=REGION,
                    hospital=hospital,
                    device=device,
                    round_id=round_id,
                    base_digest=tensors_digest(model),
                    num_examples=len(wearers[wearer]),
                    num_saturated=0,
                )
                sizes.append(len(wire.encode(header, delta)))
                total = {name: total[name] + delta[name] for name in total}
        model = {
            name: (model[name].astype(np.float64) + total[name] / len(sizes)).astype(np.float32)
            for name in model
        }
        yield Sent(model, float(np.mean(sizes)), _bytes_down(model, round_id))


def _local(rule: LearningConfig, device: str, round_id: int) -> LocalTraining:
    return LocalTraining(
        learning_rate=learning_rate(rule, round_id - 1),
        num_steps=rule.num_steps,
        batch_size=rule.batch_size,
        mu=0.0,
        seed=device_seed(rule.seed, device, round_id),
    )


def _bytes_down(model: Parameters, round_id: int) -> int:
    header = ModelHeader(
        region=REGION, task=TASK, digest=tensors_digest(model), made_by_round=round_id
    )
    return len(wire.encode(header, model))

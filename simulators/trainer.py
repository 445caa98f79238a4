"""Local training on one wristband."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import ConfigError, ContractError
from common.tasks.task import Examples, Parameters, Task, joined, load_parameters, parameters

WEIGHT_DECAY = 1e-3


@dataclass(frozen=True)
class LocalTraining:
    """What a round asks of each wristband.

    Attributes
    ----------
    learning_rate : float
        Of AdamW, in (0, 1], constant within the round.
    num_steps, batch_size : int
        Both at least 1.
    mu : float
        Weight of FedProx's proximal term; 0 is FedAvg.
    seed : int
        Of the device in this round, from `device_seed`.
    """

    learning_rate: float
    num_steps: int
    batch_size: int
    mu: float
    seed: int

    def __post_init__(self) -> None:
        if not (0 < self.learning_rate <= 1 and 0 <= self.mu < np.inf):
            raise ConfigError("learning_rate must lie in (0, 1], mu must be finite and at least 0")
        if self.num_steps < 1 or self.batch_size < 1:
            raise ConfigError("num_steps and batch_size must be at least 1")


def train(
    task: Task,
    base: Mapping[str, NDArray[np.float32]],
    examples: Examples,
    plan: LocalTraining,
    public: Examples | None = None,
) -> Parameters:
    """Train from `base` on one wristband's examples and return the new parameters.

    Each batch holds `batch_size` of the wearer's examples and, where there are `public` ones, as
    many of these.

    A fresh AdamW each round; with ``mu > 0`` the loss gets FedProx's mu/2 · ‖w − base‖² (Li et
    al., MLSys 2020). On one torch thread the result depends on the arguments alone.

    Raises
    ------
    ConfigError
        If there are no examples.
    ContractError
        If training ends in parameters that are not finite.
    """
    if not len(examples):
        raise ConfigError("a wristband without labelled beats cannot train")
    rng = np.random.default_rng(plan.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        module = task.build().train()
        load_parameters(module, base)
        anchors = [p.detach().clone() for p in module.parameters()] if plan.mu else []
        optimizer = torch.optim.AdamW(
            module.parameters(), lr=plan.learning_rate, weight_decay=WEIGHT_DECAY, fused=True
        )
        for _ in range(plan.num_steps):
            batch = _batch(task, examples, public, plan.batch_size, rng)
            inputs = {name: torch.from_numpy(rows) for name, rows in batch.inputs.items()}
            loss = task.loss(module, inputs, torch.from_numpy(batch.labels))
            if plan.mu:
                loss = loss + _proximal(module, anchors, plan.mu)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
    return _finite(parameters(module))


def device_seed(seed: int, device: str, round_id: int) -> int:
    """Return the 63-bit seed of one device in one round: the head of a SHA-256."""
    text = f"{seed}/{device}/{round_id}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def pin_to_one_thread() -> None:
    """Give torch one thread; a worker calls it once, before it trains."""
    torch.set_num_threads(1)


def _batch(
    task: Task, own: Examples, public: Examples | None, num: int, rng: np.random.Generator
) -> Examples:
    drawn = task.draw(own, num, rng)
    return joined([drawn, task.draw(public, num, rng)]) if public is not None else drawn


def _proximal(module: nn.Module, anchors: list[Tensor], mu: float) -> Tensor:
    pairs = zip(module.parameters(), anchors, strict=True)
    return mu / 2 * torch.stack([(p - anchor).square().sum() for p, anchor in pairs]).sum()


def _finite(params: Parameters) -> Parameters:
    broken = sorted(name for name, value in params.items() if not np.isfinite(value).all())
    if broken:
        raise ContractError("local training ended in parameters that are not finite", names=broken)
    return params

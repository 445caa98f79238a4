"""Data-parallel Horovod over hospitals, step by step: the usual listing, corrected.

PulseRing does not train like this (see docs/article.md): every batch needs every hospital online.
Alone it is one rank: ``python docs/examples/per_step.py``.  Two ranks, and what goes wrong when
only rank 0 broadcasts: ``python -m pytest tests/integration/test_article_listing.py``.
"""

from __future__ import annotations

import json
import sys

import horovod.torch as hvd
import torch
from torch.nn.functional import cross_entropy

LEARNING_RATE = 0.3  # of one hospital alone
NUM_STEPS, NUM_WARM_UP = 30, 10
BATCH_SIZE = 16


def new_model() -> torch.nn.Module:
    """Two classes from eight numbers."""
    return torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2))


def batch(hospital: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Made-up examples that only this hospital has: inputs (B, 8) and classes (B,)."""
    chance = torch.Generator().manual_seed(1000 * hospital + step)
    inputs = torch.randn(BATCH_SIZE, 8, generator=chance)
    return inputs, (inputs[:, 0] + inputs[:, 1] > 0).long()


def learning_rate(step: int, num_hospitals: int) -> float:
    """Horovod leaves the factor to the caller: from 1 to the number of hospitals, in a warm-up."""
    return LEARNING_RATE * (1 + (num_hospitals - 1) * min(1.0, step / NUM_WARM_UP))


def main() -> None:
    """Train as one rank of the ring that the environment names."""
    hvd.init()
    torch.set_num_threads(1)
    torch.manual_seed(hvd.rank())  # hospitals start differently, until the broadcast
    model = new_model()
    # Plain SGD: it has no state to broadcast.  `hvd.broadcast_optimizer_state` sends the options of
    # any optimizer through `broadcast_object`, which unpickles bytes from a peer.
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(model.parameters(), lr=LEARNING_RATE),
        named_parameters=model.named_parameters(),
    )
    # A collective: all ranks call it, once, before the first step.
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    losses = []
    for step in range(NUM_STEPS):
        optimizer.param_groups[0]["lr"] = learning_rate(step, hvd.size())
        inputs, classes = batch(hvd.rank(), step)
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), classes)
        # Starts an allreduce for each gradient.
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()  # waits for all of them, so for every hospital
        losses.append(loss.item())
    weights = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    json.dump(
        {"rank": hvd.rank(), "size": hvd.size(), "losses": losses, "weights": weights}, sys.stdout
    )


if __name__ == "__main__":
    main()

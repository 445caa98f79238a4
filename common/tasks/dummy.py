"""A ten-parameter linear task that goes through the whole path in tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.metrics.counts import count_scores, count_shapes
from common.tasks.task import Examples, Parameters, parameters

NUM_FEATURES = 4


class DummyTask:
    """Two labels from four features by a linear layer: 8 weights and 2 biases."""

    name = "dummy"
    labels = ("low", "high")
    input_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({"features": (NUM_FEATURES,)})
    evaluation_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(count_shapes(2))

    def build(self) -> nn.Module:
        return nn.Linear(NUM_FEATURES, len(self.labels))

    def initial(self, seed: int, *, simulated: bool = True) -> Parameters:  # has none
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return parameters(self.build())

    def loss(
        self, module: nn.Module, inputs: Mapping[str, torch.Tensor], labels: torch.Tensor
    ) -> torch.Tensor:
        return nn.functional.cross_entropy(module(inputs["features"]), labels)

    def scorer(self, module: nn.Module) -> nn.Module:
        return nn.Sequential(module, nn.Softmax(dim=1))

    def draw(self, examples: Examples, num: int, rng: np.random.Generator) -> Examples:
        return examples.take(rng.integers(len(examples), size=num))

    def count(
        self, scores: NDArray[np.floating], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[np.int64]]:
        return count_scores(scores, labels)


def dummy_examples(seed: int, num: int) -> Examples:
    """Draw `num` examples whose label is the sign of their features' sum."""
    features = np.random.default_rng(seed).standard_normal((num, NUM_FEATURES), dtype=np.float32)
    return Examples({"features": features}, (features.sum(axis=1) > 0).astype(np.int64))

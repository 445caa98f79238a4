"""The beat task: N, S, V, F or Q for every beat of a single lead."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from common.ecg.beats import INPUT_SHAPES
from common.ecg.labels import AAMI
from common.metrics.counts import count_scores, count_shapes
from common.tasks.beat_net import BeatNet
from common.tasks.task import Examples, Parameters, parameters

N, S = AAMI.index("N"), AAMI.index("S")

# Share of each class in a batch; what a wearer does not have is given to N.
BATCH_SHARE = MappingProxyType({"S": 0.10, "V": 0.15, "F": 0.03, "Q": 0.01})
LABEL_SMOOTHING = 0.03
GAIN_SD = 0.3
NOISE_MV = 0.05
MAX_SHIFT = 5  # samples at 120 Hz, either way


class BeatTask:
    """AAMI classes from a beat window, its wearer's template and the rhythm around it."""

    name = "beats"
    labels = AAMI
    input_shapes: Mapping[str, tuple[int, ...]] = INPUT_SHAPES
    evaluation_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(count_shapes(len(AAMI)))

    def build(self) -> nn.Module:
        return BeatNet()

    def initial(self, seed: int) -> Parameters:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return parameters(self.build())

    def loss(self, module: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Sum of the branches' cross-entropies; the rhythm branch learns from N and S only."""
        form, rhythm = module(inputs["beat_mv"], inputs["rr"])
        form_labels = (labels - S).clamp(min=0)  # N and S look alike
        form_loss = functional.cross_entropy(form, form_labels, label_smoothing=LABEL_SMOOTHING)
        conducted = (labels <= S).float()
        rhythm_loss = functional.binary_cross_entropy_with_logits(
            rhythm, (labels == S).float(), weight=conducted, reduction="sum"
        )
        return form_loss + rhythm_loss / conducted.sum().clamp(min=1)

    def scorer(self, module: nn.Module) -> nn.Module:
        return BeatScorer(module)

    def draw(self, examples: Examples, num: int, rng: np.random.Generator) -> Examples:
        """Sample by class, then vary gain, noise and alignment of the windows."""
        weights = _sampling_weights(examples.labels)
        batch = examples.take(rng.choice(len(examples), size=num, p=weights))
        return Examples(
            {**batch.inputs, "beat_mv": _varied(batch.inputs["beat_mv"], rng)}, batch.labels
        )

    def count(
        self, scores: NDArray[np.floating], labels: NDArray[np.int64]
    ) -> dict[str, NDArray[np.int64]]:
        return count_scores(scores, labels)


class BeatScorer(nn.Module):
    """The released graph: scores (B, 5) as the product of the two branches' probabilities."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, beat_mv: Tensor, rr: Tensor) -> Tensor:
        form, rhythm = self.net(beat_mv, rr)
        share = form.softmax(dim=1)
        supraventricular = rhythm.sigmoid().unsqueeze(1)
        conducted = share[:, :1]
        return torch.cat(
            [conducted * (1 - supraventricular), conducted * supraventricular, share[:, 1:]], dim=1
        )


def _sampling_weights(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probability of drawing each example, (B,)."""
    counts = np.bincount(labels, minlength=len(AAMI))
    share = np.array([BATCH_SHARE.get(name, 0.0) for name in AAMI]) * (counts > 0)
    if counts[N]:
        share[N] = 1 - share.sum()
    per_example = share / np.maximum(counts, 1)
    weights = per_example[labels]
    return np.asarray(weights / weights.sum())


def _varied(beat_mv: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    num, _, width = beat_mv.shape
    shift = rng.integers(-MAX_SHIFT, MAX_SHIFT + 1, size=(num, 1))
    idx = np.clip(np.arange(width) + shift, 0, width - 1)
    shifted = np.take_along_axis(beat_mv, idx[:, None, :], axis=2)
    gain = np.exp(GAIN_SD * rng.standard_normal((num, 1, 1), dtype=np.float32))
    noise = NOISE_MV * rng.standard_normal((num, 1, width), dtype=np.float32)
    return np.concatenate([shifted[:, :1] * gain + noise, shifted[:, 1:] * gain], axis=1)

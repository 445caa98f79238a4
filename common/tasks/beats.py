"""The beat task: N, S, V, F or Q for every beat of a single lead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from common.ecg.beats import INPUT_SHAPES
from common.ecg.labels import AAMI
from common.metrics.counts import count_scores, count_shapes
from common.tasks.beat_augment import varied
from common.tasks.beat_net import BeatNet, scaled_rhythm, scaled_rr
from common.tasks.calibration import FORM_BIAS, FORM_SCALE, RHYTHM_BIAS, RHYTHM_SCALE
from common.tasks.rhythm_start import rhythm_start
from common.tasks.task import Examples, Parameters, parameters

N, S = AAMI.index("N"), AAMI.index("S")
F = AAMI.index("F")

# Share of each class in a batch; what a wearer does not have is given to N.
BATCH_SHARE = MappingProxyType({"S": 0.12, "V": 0.30, "F": 0.03, "Q": 0.01})
MAX_REPEAT = 20  # times a class may be drawn beyond its share: two beats are not worth a tenth

LABEL_SMOOTHING = 0.03
MIXUP = 0.2  # both parameters of the Beta distribution of Zhang et al., ICLR 2018
DROPPED_RR = 0.1  # share of the RR features that a training step does not see
DROPPED_FORM_RR = 0.1
UNSEEN = 2.0  # beats of each class that a batch is taken to hold beside its own
FORM_WEIGHT_S = 0.4  # a batch holds more S than the form branch should see
FORM_WEIGHT_F = 0.3


class BeatTask:
    """AAMI classes from beat windows, the wearer's regular beat and the rhythm around it."""

    name = "beats"
    labels = AAMI
    input_shapes: Mapping[str, tuple[int, ...]] = INPUT_SHAPES
    evaluation_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType(count_shapes(len(AAMI)))

    def build(self) -> nn.Module:
        return BeatNet()

    def initial(self, seed: int, *, simulated: bool = True) -> Parameters:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            untaught = parameters(self.build())
        return {**untaught, **rhythm_start()} if simulated else untaught

    def loss(self, module: nn.Module, inputs: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """Sum of the branches' cross-entropies.

        The rhythm branch learns from N and S only, the form branch from rows that hold ECG:
        windows of zeros are a simulated rhythm.
        """
        net = cast(BeatNet, module)
        rr, beat_mv = scaled_rr(inputs["rr"]), inputs["beat_mv"]
        has_ecg = beat_mv[:, 0].abs().amax(dim=1) > 0
        form = _form_loss(net, beat_mv[has_ecg], rr[has_ecg], labels[has_ecg])
        is_conducted = labels <= S
        rhythm = scaled_rhythm(inputs["rhythm"])[is_conducted]
        return form + _rhythm_loss(net, rr[is_conducted], rhythm, labels[is_conducted])

    def scorer(self, module: nn.Module) -> nn.Module:
        return BeatScorer(module)

    def draw(self, examples: Examples, num: int, rng: np.random.Generator) -> Examples:
        """Sample by class, then vary gain, noise and alignment of the windows."""
        batch = examples.take(_sample(examples.labels, num, rng))
        return Examples(
            {**batch.inputs, "beat_mv": varied(batch.inputs["beat_mv"], rng)}, batch.labels
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

    def forward(self, beat_mv: Tensor, rr: Tensor, rhythm: Tensor) -> Tensor:
        form, s_logit = self.net(beat_mv, rr, rhythm)
        share = (FORM_SCALE * form + torch.tensor(FORM_BIAS)).softmax(dim=1)
        supraventricular = (RHYTHM_SCALE * s_logit + RHYTHM_BIAS).sigmoid().unsqueeze(1)
        conducted = share[:, :1]
        return torch.cat(
            [conducted * (1 - supraventricular), conducted * supraventricular, share[:, 1:]], dim=1
        )


def _form_loss(net: BeatNet, beat_mv: Tensor, rr: Tensor, labels: Tensor) -> Tensor:
    """Weighted cross-entropy of mixed-up pairs; N and S look alike."""
    if not len(labels):
        return torch.zeros(())
    classes = (labels - S).clamp(min=0)
    target = functional.one_hot(classes, 4).float()
    target = (1 - LABEL_SMOOTHING) * target + LABEL_SMOOTHING / 4
    weight = torch.ones(len(labels))
    weight = torch.where(
        labels == S, FORM_WEIGHT_S, torch.where(labels == F, FORM_WEIGHT_F, weight)
    )
    share = torch.distributions.Beta(MIXUP, MIXUP).sample((len(labels), 1))
    other = torch.randperm(len(labels))
    mixed = share.unsqueeze(2) * beat_mv + (1 - share).unsqueeze(2) * beat_mv[other]
    rr = _dropped(share * rr + (1 - share) * rr[other], DROPPED_FORM_RR)
    target = share * target + (1 - share) * target[other]
    logits = net.form_logits(mixed, rr) + _log_shares(classes, 4)
    log_share = functional.log_softmax(logits, dim=1)
    return -((target * log_share).sum(dim=1) * weight).sum() / weight.sum()


def _log_shares(classes: Tensor, num_classes: int) -> Tensor:
    """Logarithm of each class's share of a batch, (C,), as if each had `UNSEEN` beats more.

    Added to the logits in training, so that the net learns what tells classes apart and not which
    of them a wearer has: logit adjustment of Menon et al., ICLR 2021, by client as in FedLC (Zhang
    et al., ICML 2022). Without it a wearer without V teaches everyone that there is none.
    """
    counts = torch.bincount(classes, minlength=num_classes).float() + UNSEEN
    return (counts / counts.sum()).log()


def _rhythm_loss(net: BeatNet, rr: Tensor, rhythm: Tensor, labels: Tensor) -> Tensor:
    if not len(labels):
        return torch.zeros(())
    is_s = (labels == S).float()
    log_share = _log_shares(labels, 2)
    logit = net.rhythm_logit(_dropped(rr, DROPPED_RR), rhythm) + log_share[S] - log_share[N]
    return functional.binary_cross_entropy_with_logits(logit, is_s)


def _dropped(features: Tensor, share: float) -> Tensor:
    return features * (torch.rand_like(features) >= share)


def _sample(labels: NDArray[np.int64], num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of `num` examples, (num,): the class first, then any of its examples."""
    places = [np.flatnonzero(labels == c) for c in range(len(AAMI))]
    drawn = rng.multinomial(num, _shares([len(p) for p in places]))
    chosen = [p[rng.integers(len(p), size=n)] for p, n in zip(places, drawn, strict=True) if n]
    return np.concatenate(chosen)


def _shares(counts: Sequence[int]) -> NDArray[np.float64]:
    """Probability of each class, (5,)."""
    present = np.array(counts, dtype=np.float64)
    wanted = np.array([BATCH_SHARE.get(name, 0.0) for name in AAMI])
    share = np.minimum(wanted, MAX_REPEAT * present / present.sum())
    if present[N]:
        share[N] = 1 - share.sum()
    return np.asarray(share / share.sum())

"""The beat network: two branches that share nothing, because they know different things.

The form branch sees the beat, its wearer's regular beat and the rhythm, and tells V, F and Q from
the rest. The rhythm branch sees RR ratios only and tells S from N: given the form, it would learn
patients instead of prematurity (`facts/beat-recipe.md`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.ecg.beats import BEFORE
from common.ecg.rr import NUM_FEATURES

QRS = slice(BEFORE - 12, BEFORE + 13)  # ±100 ms around R
MIN_AMPLITUDE_MV = 0.1
MAX_AMPLITUDES = 3.0
RR_GAIN = 6.0  # log ratios of RR spread over tenths; this brings them to about one
MAX_RR = 4.0

CHANNELS = (16, 24, 32, 32)
KERNELS = (7, 5, 5, 3)
GROUPS = 4


class BeatNet(nn.Module):
    """Form and rhythm branches over one beat; no buffers, all state is parameters.

    ``forward(beat_mv, rr)`` takes (B, 2, 128) mV and (B, 29) log ratios and returns the form
    logits (B, 4) for not ectopic or S, V, F, Q, and the rhythm logit (B,) for S against N.
    """

    def __init__(self) -> None:
        super().__init__()
        self.form = nn.Sequential(*_blocks())
        self.form_rr = nn.Sequential(nn.Linear(NUM_FEATURES, 24), nn.GELU())
        self.form_head = nn.Sequential(
            nn.Linear(2 * CHANNELS[-1] + 24, 48), nn.GELU(), nn.Linear(48, 4)
        )
        self.rhythm = nn.Sequential(
            nn.Linear(NUM_FEATURES, 48), nn.GELU(), nn.Linear(48, 16), nn.GELU(), nn.Linear(16, 1)
        )

    def forward(self, beat_mv: Tensor, rr: Tensor) -> tuple[Tensor, Tensor]:
        rr = (rr * RR_GAIN).clamp(-MAX_RR, MAX_RR)
        x = self.form(_normalised(beat_mv))  # (B, 32, 8)
        x = torch.cat([x.mean(dim=2), x.amax(dim=2), self.form_rr(rr)], dim=1)  # (B, 88)
        return self.form_head(x), self.rhythm(rr).squeeze(1)


def _blocks() -> list[nn.Module]:
    blocks: list[nn.Module] = []
    before = 2
    for channels, kernel in zip(CHANNELS, KERNELS, strict=True):
        blocks += [
            nn.Conv1d(before, channels, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.GroupNorm(GROUPS, channels),
            nn.GELU(),
        ]
        before = channels
    return blocks


def _normalised(beat_mv: Tensor) -> Tensor:
    """Beat and its difference to the template, in amplitudes of the template's QRS: (B, 2, 128)."""
    beat, template = beat_mv[:, :1], beat_mv[:, 1:]
    qrs = template[:, :, QRS]
    amplitude = (qrs.amax(dim=2, keepdim=True) - qrs.amin(dim=2, keepdim=True)).clamp(
        min=MIN_AMPLITUDE_MV
    )
    pair = torch.cat([beat, beat - template], dim=1) / amplitude
    return pair.clamp(-MAX_AMPLITUDES, MAX_AMPLITUDES)

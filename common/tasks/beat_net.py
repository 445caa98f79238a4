"""The beat network: two branches that share nothing, because they know different things.

The form branch sees the beat, its wearer's regular beat, the beats beside it and the rhythm, and
tells V, F and Q from the rest.  The rhythm branch sees ratios of RR intervals only and tells S from
N: given the form, it learns patients instead of prematurity (F1 of S on held-out DS1 records fell
from 0.70 to 0.56).  Features of form are computed here, in the graph, so that whoever serves the
model need not know them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.ecg.beats import INPUT_SHAPES
from common.tasks.beat_form import NUM_CHANNELS, NUM_FORM, channels, form_features, in_amplitudes

NUM_RR = INPUT_SHAPES["rr"][0]
FORM_RR = 34  # the form branch does without the long references: they cost 2 points of V's F1
RR_GAIN = 6.0  # log ratios of RR spread over tenths; this brings them to about one
RHYTHM_GAIN = 4.0
MAX_RR = 4.0

CHANNELS = (16, 24, 32, 32)
KERNELS = (7, 5, 5, 3)
GROUPS = 4
RHYTHM_CHANNELS = (12, 16, 16)
HERE = slice(14, 18)  # the intervals around the beat, after two halvings of 80


class BeatNet(nn.Module):
    """Form and rhythm branches over one beat; no buffers, all state is parameters.

    ``forward(beat_mv, rr, rhythm)`` takes (B, 5, 128) mV, (B, 42) and (B, 80) log ratios and
    returns the form logits (B, 4) for not ectopic or S, V, F, Q, and the rhythm logit (B,) for S
    against N.
    """

    def __init__(self) -> None:
        super().__init__()
        self.form = nn.Sequential(*_form_blocks())
        described = FORM_RR + NUM_FORM
        self.form_context = nn.Sequential(nn.Linear(described, 24), nn.GELU())
        self.form_head = nn.Sequential(
            nn.Linear(2 * CHANNELS[-1] + 24, 48), nn.GELU(), nn.Linear(48, 4)
        )
        self.rhythm = nn.Sequential(*_rhythm_blocks())
        self.rhythm_head = nn.Sequential(
            nn.Linear(NUM_RR + 3 * RHYTHM_CHANNELS[-1], 48),
            nn.GELU(),
            nn.Linear(48, 16),
            nn.GELU(),
            nn.Linear(16, 1),
        )

    def forward(self, beat_mv: Tensor, rr: Tensor, rhythm: Tensor) -> tuple[Tensor, Tensor]:
        rr, rhythm = scaled_rr(rr), scaled_rhythm(rhythm)
        return self.form_logits(beat_mv, rr), self.rhythm_logit(rr, rhythm)

    def form_logits(self, beat_mv: Tensor, rr: Tensor) -> Tensor:
        """Logits (B, 4) from windows in mV and scaled RR features."""
        beats = in_amplitudes(beat_mv)  # (B, 5, 128)
        x = self.form(channels(beats))  # (B, 32, 8)
        context = self.form_context(torch.cat([rr[:, :FORM_RR], form_features(beats)], dim=1))
        return self.form_head(torch.cat([x.mean(dim=2), x.amax(dim=2), context], dim=1))  # type: ignore[no-any-return]  # modules are untyped calls

    def rhythm_logit(self, rr: Tensor, rhythm: Tensor) -> Tensor:
        """Logit (B,) from scaled RR features and the scaled sequence of intervals."""
        x = self.rhythm(rhythm.unsqueeze(1))  # (B, 16, 20)
        pooled = [x.mean(dim=2), x.amax(dim=2), x[:, :, HERE].mean(dim=2)]
        return self.rhythm_head(torch.cat([rr, *pooled], dim=1)).squeeze(1)  # type: ignore[no-any-return]  # as above


def scaled_rr(rr: Tensor) -> Tensor:
    """RR features brought to about one and bounded."""
    return (rr * RR_GAIN).clamp(-MAX_RR, MAX_RR)


def scaled_rhythm(rhythm: Tensor) -> Tensor:
    """The sequence of intervals brought to about one and bounded."""
    return (rhythm * RHYTHM_GAIN).clamp(-MAX_RR, MAX_RR)


def _form_blocks() -> list[nn.Module]:
    blocks: list[nn.Module] = []
    before = NUM_CHANNELS
    for width, kernel in zip(CHANNELS, KERNELS, strict=True):
        blocks += [
            nn.Conv1d(before, width, kernel, stride=2, padding=kernel // 2, bias=False),
            nn.GroupNorm(GROUPS, width),
            nn.GELU(),
        ]
        before = width
    return blocks


def _rhythm_blocks() -> list[nn.Module]:
    blocks: list[nn.Module] = []
    before = 1
    for place, width in enumerate(RHYTHM_CHANNELS):
        blocks += [nn.Conv1d(before, width, 3, stride=1 + (place > 0), padding=1), nn.GELU()]
        before = width
    return blocks

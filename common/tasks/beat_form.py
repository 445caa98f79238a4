"""What a cardiologist would measure on a beat, as differentiable features inside the graph."""

from __future__ import annotations

import torch
from torch import Tensor

from common.ecg.beats import BEFORE

QRS = slice(BEFORE - 12, BEFORE + 13)  # ±100 ms around R, at 120 Hz
MIN_AMPLITUDE_MV = 0.1
MAX_AMPLITUDES = 3.0
MAX_FEATURE = 4.0

# P wave, QRS, its core, T wave, P to T: [start, stop) in samples of the window.
REGIONS = tuple(
    (BEFORE + a, BEFORE + b) for a, b in ((-30, -10), (-12, 13), (-6, 7), (13, 52), (-24, 52))
)
NEIGHBOUR_REGIONS = REGIONS[:3]
WIDE = slice(BEFORE - 16, BEFORE + 18)  # holds a wide QRS
BASELINE = slice(BEFORE - 24, BEFORE - 14)  # the PR segment
WIDTH_AT = 0.25  # of the greatest deflection
SHARPNESS = 30.0  # of the soft threshold that counts samples

SPREAD_REGIONS = REGIONS[:4]
STEADY = 0.03  # amplitudes added to a spread, so that a wearer whose beats are alike has some
UNUSUAL_GAIN = 0.25
USUAL_SPREAD = 0.05  # amplitudes

FLOOR_ENERGY = 1e-3
FLOOR_PRODUCT = 1e-4  # a flat region correlates with nothing
FLOOR_UNUSUAL = 0.1
FLOOR_SPREAD = 0.003
NUM_SHAPE = 3
NUM_CHANNELS = 3
NUM_SPREAD = 2 * len(SPREAD_REGIONS) + 1
NUM_FORM = 3 * (len(REGIONS) + 2 * len(NEIGHBOUR_REGIONS) + NUM_SHAPE) + NUM_SPREAD


def in_amplitudes(beat_mv: Tensor) -> Tensor:
    """Windows (B, 5, 128) in mV as multiples of the QRS peak to peak of the regular beat."""
    qrs = beat_mv[:, 1:2, QRS]
    amplitude = (qrs.amax(dim=2, keepdim=True) - qrs.amin(dim=2, keepdim=True)).clamp(
        min=MIN_AMPLITUDE_MV
    )
    return (beat_mv / amplitude).clamp(-MAX_AMPLITUDES, MAX_AMPLITUDES)


def unusual(beats: Tensor) -> Tensor:
    """How many times the wearer's usual distance the beat lies off the regular one: (B, 128).

    Signed, `STEADY` added to the spread. A fixed limit calls every beat of a restless ECG unusual
    and no beat of a still one: spreads of DS1 patients differ by a factor of eight.
    """
    return (beats[:, 0] - beats[:, 1]) / (_spread(beats) + STEADY)


def channels(beats: Tensor) -> Tensor:
    """What the convolutions see: the beat, its difference from the regular beat, how unusual it is.

    (B, 3, 128) from `in_amplitudes`.
    """
    difference = beats[:, 0] - beats[:, 1]
    scaled = (unusual(beats) * UNUSUAL_GAIN).clamp(-MAX_AMPLITUDES, MAX_AMPLITUDES)
    return torch.stack([beats[:, 0], difference, scaled], dim=1)


def form_features(beats: Tensor) -> Tensor:
    """Describe each beat against its wearer's regular beat and the beats beside it.

    Parameters
    ----------
    beats : Tensor
        (B, 5, 128) from `in_amplitudes`: beat, regular beat, previous beat, next beat, spread.

    Returns
    -------
    Tensor
        (B, 51) in ±4: correlation, log energy ratio and mean difference against regular, previous
        and next beat over P and QRS (3 x 9) and against the regular beat over T and the whole (6);
        width, steepness and polarity of QRS, of the beat, of the regular beat and their difference
        (9); logarithms of how unusual the beat is and of the spread over P, QRS, its core and T
        (8), and of how unusual QRS is at most (1).
    """
    beat = beats[:, :1]
    own, usual = _shape(beats[:, 0]), _shape(beats[:, 1])
    against = [_against(beat, beats[:, 1:4], region) for region in NEIGHBOUR_REGIONS]
    far = [_against(beat, beats[:, 1:2], region) for region in REGIONS[len(NEIGHBOUR_REGIONS) :]]
    columns = [c.flatten(1) for c in (*against, *far)] + [own, usual, own - usual]
    return torch.cat([*columns, _spreads(beats)], dim=1).clamp(-MAX_FEATURE, MAX_FEATURE)


def _spread(beats: Tensor) -> Tensor:
    return beats[:, 4].clamp(min=0)  # a stranger's input may be anything


def _spreads(beats: Tensor) -> Tensor:
    """(B, 9), as `form_features` says."""
    size, spread = unusual(beats).abs(), _spread(beats)
    columns = []
    for region in (slice(*r) for r in SPREAD_REGIONS):
        columns.append((size[:, region].mean(dim=1) + FLOOR_UNUSUAL).log())
        columns.append(((spread[:, region].mean(dim=1) + FLOOR_SPREAD) / USUAL_SPREAD).log() / 2)
    columns.append((size[:, QRS].amax(dim=1) + FLOOR_UNUSUAL).log())
    return torch.stack(columns, dim=1)


def _against(beat: Tensor, others: Tensor, region: tuple[int, int]) -> Tensor:
    """Correlation, half the log ratio of energies, thrice the mean difference: (B, others, 3)."""
    a, b = beat[:, :, slice(*region)], others[:, :, slice(*region)]
    difference = (a - b).abs().mean(dim=2)
    a, b = a - a.mean(dim=2, keepdim=True), b - b.mean(dim=2, keepdim=True)
    energy_a, energy_b = a.square().mean(dim=2), b.square().mean(dim=2)
    correlation = (a * b).mean(dim=2) / (energy_a * energy_b + FLOOR_PRODUCT).sqrt()
    ratio = ((energy_a + FLOOR_ENERGY) / (energy_b + FLOOR_ENERGY)).log()
    return torch.stack([correlation, ratio / 2, 3 * difference], dim=2)


def _shape(beat: Tensor) -> Tensor:
    """Width, greatest slope and polarity of the QRS over the PR segment: (B, 3)."""
    qrs = beat[:, WIDE] - beat[:, BASELINE].mean(dim=1, keepdim=True)
    size = qrs.abs()
    above = torch.sigmoid((size - WIDTH_AT * size.amax(dim=1, keepdim=True)) * SHARPNESS)
    slope = (qrs[:, 1:] - qrs[:, :-1]).abs()
    polarity = qrs.amax(dim=1) + qrs.amin(dim=1)
    return torch.stack([3 * above.mean(dim=1), 3 * slope.amax(dim=1), polarity], dim=1)

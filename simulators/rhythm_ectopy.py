"""Ectopic beats laid over a base rhythm: premature S and V beats, couplets, runs, fixed patterns.

A base rhythm is a series of cycles.  Each cycle is conducted, or holds an S or V event: a
premature beat after a shortened interval, further ectopic beats if it is a run, and a conducted
beat after a pause.  All numbers are chosen, on MIT-BIH DS1 and on what textbooks call usual,
unless a source is given.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.ecg.labels import AAMI
from simulators.rhythm_base import Series

N, S, V = (AAMI.index(name) for name in "NSV")

EARLIEST_S, EARLIEST_V = 0.3, 0.28  # s: atrium, ventricle and AV node are refractory before
LATEST_S, LATEST_V = 0.93, 0.97  # of a base cycle: a beat that comes later is not premature
COMPENSATORY = 0.75  # share of V events with a full compensatory pause

Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Pattern:
    """A fixed pattern: after `every` conducted beats (1: bigeminy, 2: trigeminy), by `chance`."""

    label: int
    every: int
    chance: float


@dataclass(frozen=True)
class Ectopy:
    """How often ectopic beats come in one record, and the habits of its foci.

    Attributes
    ----------
    p_s, p_v : float
        Chance of an S or V event in a cycle, outside a pattern's hits.
    couplet, run, long_run : float
        Chance that an S event is a couplet or triplet, a run (3 beats and a geometric number
        more, mean 5), or a long run (9 to 160 beats).
    pattern : Pattern, optional
        Fixed pattern; `p_s` and `p_v` then count a fifth.
    """

    p_s: float = 0.0
    p_v: float = 0.0
    couplet: float = 0.0
    run: float = 0.0
    long_run: float = 0.0
    pattern: Pattern | None = None


def overlay(rng: np.random.Generator, base_s: Series, ectopy: Ectopy) -> tuple[Series, Labels]:
    """Lay ectopic beats over a base rhythm.

    Parameters
    ----------
    rng : Generator
    base_s : ndarray
        (B,) float64 cycles of the base rhythm in seconds.
    ectopy : Ectopy

    Returns
    -------
    intervals_s : ndarray
        (B,) float64 interval before each beat in seconds.
    labels : ndarray
        (B,) int64, N, S or V.
    """
    events = _events(rng, len(base_s), ectopy)
    sizes = np.where(events == N, 1, 2 + _more_beats(rng, events, ectopy))
    owner, place = expand(sizes, len(base_s))
    first_s, last_s = _coupling_and_pause(rng, base_s, events)
    ectopic = events[owner] != N
    pause = ectopic & (place == sizes[owner] - 1)
    intervals_s = np.where(events == N, base_s, first_s)[owner]
    intervals_s = np.where(place > 0, _within_run(rng, base_s, events, owner, place), intervals_s)
    intervals_s = np.where(pause, last_s[owner], intervals_s)
    return intervals_s, np.where(pause, N, events[owner])


def expand(sizes: Counts, num_beats: int) -> tuple[Counts, Counts]:
    """Lay groups of these `sizes` end to end: for each beat (B,) its group and its place in it."""
    kept = sizes[: int(np.searchsorted(np.cumsum(sizes), num_beats)) + 1]
    owner = np.repeat(np.arange(len(kept)), kept)
    place = np.arange(len(owner)) - (np.cumsum(kept) - kept)[owner]
    return owner[:num_beats], place[:num_beats]


def _events(rng: np.random.Generator, num_cycles: int, ectopy: Ectopy) -> Labels:
    share = 1.0 if ectopy.pattern is None else 0.2
    chance = rng.random(num_cycles)
    p_s, p_any = share * ectopy.p_s, share * (ectopy.p_s + ectopy.p_v)
    events = np.where(chance < p_s, S, np.where(chance < p_any, V, N))
    if ectopy.pattern is None:
        return events
    hits, since = rng.random(num_cycles) < ectopy.pattern.chance, 0
    for i in range(num_cycles):
        if hits[i] and since >= ectopy.pattern.every - 1:
            events[i] = ectopy.pattern.label
        since = since + 1 if events[i] == N else 0
    return events


def _more_beats(rng: np.random.Generator, events: Labels, ectopy: Ectopy) -> Counts:
    """Ectopic beats of each event after its first one, (B,)."""
    u, num = rng.random((6, len(events))), len(events)
    more_s = np.where(u[0] < ectopy.couplet, 1 + (u[1] < 0.3), 0)
    more_s = np.where(u[2] < ectopy.run, 2 + rng.geometric(0.2, num), more_s)
    long = np.exp(rng.uniform(np.log(8), np.log(160), num)).astype(np.int64)
    more_s = np.where(u[3] < ectopy.long_run, long, more_s)
    salvo = np.where(rng.random(num) < 0.2, rng.poisson(4, num), 0)
    more_v = np.where(u[4] < 0.12, 1 + (u[5] < 0.5) + salvo, 0)
    return np.where(events == S, more_s, np.where(events == V, more_v, 0))


def _coupling_and_pause(
    rng: np.random.Generator, base_s: Series, events: Labels
) -> tuple[Series, Series]:
    """Interval before each event's first beat and after its last one, in seconds: (B,) each."""
    early_s = _coupling(rng, base_s, (0.42, 0.9), (0.01, 0.1), LATEST_S, EARLIEST_S)
    early_v = _coupling(rng, base_s, (0.4, 0.9), (0.01, 0.08), LATEST_V, EARLIEST_V)
    after_s, after_v = _reset_pause(rng, base_s), _pause_after_v(rng, base_s, early_v)
    return np.where(events == S, early_s, early_v), np.where(events == S, after_s, after_v)


def _coupling(
    rng: np.random.Generator,
    base_s: Series,
    mean: tuple[float, float],
    sd: tuple[float, float],
    latest: float,
    earliest_s: float,
) -> Series:
    """Coupling interval: one mean and spread a record, as fractions of the cycle; always early."""
    share = rng.normal(rng.uniform(*mean), rng.uniform(*sd), len(base_s)).clip(0.3, latest)
    return np.asarray(np.maximum(base_s * share, np.minimum(earliest_s, latest * base_s)))


def _reset_pause(rng: np.random.Generator, base_s: Series) -> Series:
    """Pause after S: the beat resets the sinus node, so about one cycle, and more in a tired node.

    One record in ten has overdrive suppression: half of its pauses are 1.2 to 2.5 times as long.
    """
    num = len(base_s)
    ratio = rng.normal(rng.uniform(0.98, 1.4), 0.07, num).clip(0.85, 2.0)
    suppressed = (rng.random() < 0.1) & (rng.random(num) < 0.5)
    return np.asarray(base_s * ratio * np.where(suppressed, rng.uniform(1.2, 2.5, num), 1.0))


def _pause_after_v(rng: np.random.Generator, base_s: Series, coupling_s: Series) -> Series:
    """Pause after V: coupling and pause make two cycles, as the sinus node goes on undisturbed.

    A quarter are not fully compensatory; in some records V beats are interpolated.
    """
    num = len(base_s)
    other_s = base_s * rng.uniform(0.9, 1.3, num)
    pause_s = np.where(rng.random(num) < COMPENSATORY, 2 * base_s - coupling_s, other_s)
    interpolated = rng.random(num) < rng.random() ** 4
    rest_s = np.maximum(base_s - coupling_s, 0.3) * rng.uniform(1, 1.25, num)
    return np.maximum(np.where(interpolated, rest_s, pause_s), 0.3)


def _within_run(
    rng: np.random.Generator, base_s: Series, events: Labels, owner: Counts, place: Counts
) -> Series:
    """Interval before each further ectopic beat in seconds, (B,); meaningless for other beats.

    Atrial runs have a rate of their own, warm up (or slow down) over some beats, and are steadier
    than the ventricular ones, whose intervals are independent.
    """
    num = len(base_s)
    rate = (rng.uniform(0.4, 0.85) * np.exp(rng.normal(0, 0.12, num))).clip(0.33, 0.9)
    warm_up, jitter = rng.uniform(-0.1, 0.25, num), rng.uniform(0.005, 0.08, num)
    shape = 1 + warm_up[owner] * np.exp(-(place - 1) / 3)
    atrial_s = (base_s * rate)[owner] * shape * np.exp(jitter[owner] * rng.standard_normal(num))
    ventricular_s = base_s[owner] * rng.uniform(0.35, 0.8, num)
    return np.where(events[owner] == S, np.maximum(atrial_s, 0.28), np.maximum(ventricular_s, 0.25))

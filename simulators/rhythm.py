"""Rhythms made from no ECG at all: beat times with classes, and public examples from them.

Every wristband makes the same examples, from a seed, and mixes them into its training of the
branch that tells supraventricular ectopic beats (S) from the rest (N).  They hold what one
patient's beats do not: premature beats that are S, and irregular rhythms that are not.  What they
cannot teach stands in `docs/clinical/simulator.md`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from common.ecg.beats import INPUT_SHAPES
from common.ecg.rr import rhythm_sequence, rr_features
from common.errors import ConfigError
from common.tasks.task import Examples
from simulators.rhythm_ectopy import V
from simulators.rhythm_kinds import PLAYERS

INTERVAL_RANGE_S = (0.2, 8.0)

_WEIGHTS = {
    "sinus": 0.13,
    "isolated": 0.17,
    "runs": 0.15,
    "dense": 0.09,
    "sick": 0.10,
    "vgeminy": 0.08,
    "af": 0.18,  # raised from 0.13, and block from 0.06: most false S on held-out DS1 are there
    "flutter": 0.05,
    "mix": 0.07,
    "block": 0.08,
}
KINDS: Mapping[str, float] = MappingProxyType(
    {kind: weight / sum(_WEIGHTS.values()) for kind, weight in _WEIGHTS.items()}
)
"""Share of each kind of `simulators.rhythm_kinds` among records; they sum to 1."""


@dataclass(frozen=True)
class RhythmRecord:
    """One made-up patient's beats.

    Attributes
    ----------
    r_s : ndarray
        (B,) float64 times of the R peaks in seconds, rising.
    labels : ndarray
        (B,) int64, index into `common.ecg.labels.AAMI`: N, S or V.
    kind : str
        Key of `KINDS`.
    """

    r_s: NDArray[np.float64]
    labels: NDArray[np.int64]
    kind: str


def simulate(
    rng: np.random.Generator,
    num_beats: int,
    kind: str | None = None,
    weights: Mapping[str, float] = KINDS,
) -> RhythmRecord:
    """Make one record.

    Parameters
    ----------
    rng : Generator
    num_beats : int
        At least 2.
    kind : str, optional
        Key of `KINDS`; drawn by `weights` when not given.
    weights : mapping
        Weight of each kind that may be drawn, not negative; need not sum to 1.

    Returns
    -------
    RhythmRecord
        Intervals lie in `INTERVAL_RANGE_S`; times have the jitter of a peak detector, a standard
        deviation of 1 to 4 ms.

    Raises
    ------
    ConfigError
        If there are fewer than two beats, or the kind or the weights cannot be used.
    """
    if num_beats < 2:
        raise ConfigError(f"a rhythm has at least 2 beats, not {num_beats}", num_beats=num_beats)
    kind = _drawn_kind(rng, weights) if kind is None else kind
    if kind not in PLAYERS:
        raise ConfigError(f"{kind!r} is no kind of rhythm: use {', '.join(PLAYERS)}", kind=kind)
    intervals_s, labels = PLAYERS[kind](rng, num_beats)
    detector_s = rng.normal(0, rng.uniform(0.001, 0.004), num_beats)
    intervals_s = intervals_s + np.diff(detector_s, prepend=0.0)
    return RhythmRecord(np.cumsum(np.clip(intervals_s, *INTERVAL_RANGE_S)), labels, kind)


def public_examples(seed: int, num_records: int = 800, num_beats: int = 300) -> Examples:
    """Examples for the rhythm branch, the same for everybody who names the same seed.

    Parameters
    ----------
    seed : int
        Not negative; record i depends on the seed and i only.
    num_records, num_beats : int
        At least 1 and 2.

    Returns
    -------
    common.tasks.task.Examples
        Read-only inputs ``rr`` and ``rhythm`` of `common.ecg.rr`, and ``beat_mv``, which is zero
        (no ECG) and takes no memory; labels N or S.  V beats shape their neighbours' rows and are
        then left out.  Made once for each process and set of arguments: some 120 MB and a few
        seconds by default.

    Raises
    ------
    ConfigError
        If an argument is out of range.
    """
    if seed < 0 or num_records < 1:
        raise ConfigError(
            f"public examples need a seed >= 0 and a record, not {seed} and {num_records}"
        )
    return _public_examples(seed, num_records, num_beats)


@functools.cache
def _public_examples(seed: int, num_records: int, num_beats: int) -> Examples:
    records = [simulate(np.random.default_rng([seed, i]), num_beats) for i in range(num_records)]
    labels = np.concatenate([record.labels[record.labels != V] for record in records])
    rr = np.empty((len(labels), *INPUT_SHAPES["rr"]), dtype=np.float32)
    rhythm = np.empty((len(labels), *INPUT_SHAPES["rhythm"]), dtype=np.float32)
    stop = 0
    for record in records:
        kept = record.labels != V
        start, stop = stop, stop + int(kept.sum())
        rr[start:stop] = rr_features(record.r_s)[kept]
        rhythm[start:stop] = rhythm_sequence(record.r_s)[kept]
    for array in (labels, rr, rhythm):
        array.flags.writeable = False
    beat_mv = np.broadcast_to(np.float32(0), (len(labels), *INPUT_SHAPES["beat_mv"]))
    return Examples({"beat_mv": beat_mv, "rr": rr, "rhythm": rhythm}, labels)


def _drawn_kind(rng: np.random.Generator, weights: Mapping[str, float]) -> str:
    unknown = sorted(set(weights) - set(PLAYERS))
    values = np.array(list(weights.values()), dtype=np.float64)
    if unknown or not np.isfinite(values).all() or (values < 0).any() or not values.any():
        raise ConfigError(
            f"weights of kinds must be finite, not negative, and not all zero, for kinds among "
            f"{', '.join(PLAYERS)}; got {dict(weights)}",
            unknown=unknown,
        )
    return str(rng.choice(list(weights), p=values / values.sum()))

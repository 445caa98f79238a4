"""Personalisation: a wristband fine-tunes its own copy of the model, which never leaves it.

Each patient starts from a fresh copy of the regional model.  Three steps, chosen on DS1 records held
out of the model: fine-tune on the wearer's labelled beats with a pull back to the regional model;
keep the parts for which there was nothing to learn; put the threshold of S just above what the
wearer's own N beats reach.  No other patient's ECG is replayed.  Without labels, `self_labelled`
stands in for a cardiologist where the model is sure of nearly everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError
from common.tasks.calibration import RHYTHM_SCALE
from common.tasks.task import Examples, Parameters, Task, score
from simulators.trainer import LocalTraining, train

SCORED_FROM_MIN = 5.0  # of the record, as in EC57; what is labelled lies before it

# Parts of the beat model by the start of their tensors' names, and the class that each must see: a
# form branch that sees no V forgets V (record 201: 143 errors became 275).
NEEDED: Mapping[str, str] = MappingProxyType({"form": "V", "rhythm": "N"})

S_BIAS = "rhythm_head.4.bias"  # the one number that moves the log odds of S against N
TAIL_FROM = 0.9  # quantile of the N beats' log odds above which they fall off exponentially
FALSE_S_SHARE = 0.001  # of the wearer's N beats that the threshold lets through
SHIFT_RANGE = (-2.0, 1.0)  # log odds by which the threshold may leave the region's
MIN_N_BEATS = 20

CERTAIN = 0.8  # score from which the model's word stands for a label
MIN_CERTAIN_SHARE = 0.9  # below it (atrial fibrillation, noise) the model does not teach itself


def personal_training(seed: int) -> LocalTraining:
    """Return how a wristband fine-tunes, as chosen on held-out DS1 records.

    Its pull to the regional model, FedProx's proximal term, is L2-SP (Li et al., ICML 2018) with
    that model as the starting point.
    """
    return LocalTraining(learning_rate=1e-3, num_steps=100, batch_size=64, mu=0.1, seed=seed)


def personalise(
    task: Task,
    params: Mapping[str, NDArray[np.float32]],
    own: Examples,
    plan: LocalTraining,
    public: Examples | None = None,
) -> Parameters:
    """Fine-tune a copy of the regional model on one wearer's labelled beats.

    Parameters
    ----------
    params : mapping
        The regional model; left alone.
    own : Examples
        The wearer's beats.  With fewer than two classes there is nothing to tell apart, and the
        copy is returned as it is.
    public : Examples, optional
        Simulated examples, as many in each batch as own ones.  They undo part of what the wearer
        teaches: macro-F1 on held-out DS1 records fell from 0.91 to 0.90 or less.

    Returns
    -------
    dict of ndarray
        On one torch thread they depend on the arguments alone.

    Raises
    ------
    ConfigError
        If the plan cannot be trained.
    ContractError
        If `params` are another model's, or training ends in numbers that are not finite.
    """
    present = {task.labels[c] for c in np.unique(own.labels)}
    if len(present) < 2:
        return {name: value.copy() for name, value in params.items()}
    trained = train(task, params, own, plan, public)
    tuned = {
        name: value if _has_learnt(name, present) else params[name].copy()
        for name, value in trained.items()
    }
    return _with_own_threshold(task, tuned, own) if S_BIAS in tuned else tuned


def self_labelled(
    task: Task,
    params: Mapping[str, NDArray[np.float32]],
    inputs: Mapping[str, NDArray[np.float32]],
) -> Examples:
    """Label a wearer's beats by the model itself where it is sure (Lee, pseudo-label, 2013).

    Returns
    -------
    `Examples`
        The beats with a score of at least `CERTAIN`; none at all when they are less than
        `MIN_CERTAIN_SHARE` of the beats.

    Raises
    ------
    ContractError
        If the inputs are not the task's, or a score is not finite.
    """
    scores = score(task, params, inputs)
    said = Examples(inputs, scores.argmax(axis=1).astype(np.int64))
    is_certain = scores.max(axis=1) >= CERTAIN
    if is_certain.sum() < MIN_CERTAIN_SHARE * len(said):
        return said.take(slice(0, 0))
    return said.take(is_certain)


def first_minutes(r_idx: NDArray[np.int64], fs_hz: float, minutes: float) -> NDArray[np.bool_]:
    """Tell which beats lie in the first minutes of a record: those that are labelled.

    Parameters
    ----------
    r_idx : ndarray
        (B,) R peaks in samples from the start of the record.
    fs_hz : float
        Sampling rate of these samples.
    minutes : float
        In (0, 5]: beats from 5:00 on are scored.

    Returns
    -------
    ndarray
        (B,) bool.

    Raises
    ------
    ConfigError
        If the rate or the minutes are out of range.
    """
    if not 0 < minutes <= SCORED_FROM_MIN:
        raise ConfigError(f"minutes must lie in (0, {SCORED_FROM_MIN:g}], not {minutes}")
    return _minute(r_idx, fs_hz) < minutes


def scored_beats(r_idx: NDArray[np.int64], fs_hz: float) -> NDArray[np.bool_]:
    """Tell which beats are scored, (B,) bool: those from 5:00 on; see `first_minutes`."""
    return _minute(r_idx, fs_hz) >= SCORED_FROM_MIN


def _minute(r_idx: NDArray[np.int64], fs_hz: float) -> NDArray[np.float64]:
    if not 0 < fs_hz < np.inf:
        raise ConfigError(f"the sampling rate must be positive, not {fs_hz}")
    return np.asarray(r_idx, dtype=np.float64) / (60 * fs_hz)


def _has_learnt(name: str, present: set[str]) -> bool:
    return all(label in present for part, label in NEEDED.items() if name.startswith(part))


def _with_own_threshold(task: Task, params: Parameters, own: Examples) -> Parameters:
    """Shift the log odds of S so that the decision falls where the wearer's N beats end.

    Only for wearers with an S beat: the others' S may lie anywhere.  The end of the N beats is that
    of an exponential tail (peaks over a threshold; Pickands, Ann. Stat. 1975).
    """
    n, s = task.labels.index("N"), task.labels.index("S")
    is_n = own.labels == n
    if is_n.sum() < MIN_N_BEATS or not (own.labels == s).any():
        return params
    scores = score(task, params, own.inputs).astype(np.float64).clip(min=1e-9)
    end = _tail_end(np.log(scores[is_n, s] / scores[is_n, n]))
    shift = np.float32(np.clip(end, *SHIFT_RANGE) / RHYTHM_SCALE)
    return {**params, S_BIAS: params[S_BIAS] - shift}


def _tail_end(log_odds: NDArray[np.float64]) -> float:
    """Value that the share `FALSE_S_SHARE` of the log odds exceeds, by an exponential tail."""
    start = np.quantile(log_odds, TAIL_FROM)
    above = log_odds[log_odds >= start] - start
    return float(start + above.mean() * np.log((1 - TAIL_FROM) / FALSE_S_SHARE))

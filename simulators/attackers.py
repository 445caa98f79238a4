"""Hostile wristbands: what they send instead of what they learnt.

They know the round's format and clip norm, so what they send passes the edge node's checks, but for
`SCALED`, which does not care.  In a study `AGAINST` and `LITTLE` also know the updates of all
honest wristbands of their hospital, which no real wristband does; in a fleet just their own.

Sources: sign flipping and noise are Li et al. 2019 (RSA, arXiv:1811.03761); `AGAINST` is inner
product manipulation (Xie, Koyejo and Gupta 2020, arXiv:1903.03936); `LITTLE` is "A little is
enough" (Baruch, Baruch and Goldberg 2019, arXiv:1902.06156).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from common import fixedpoint, parts
from common.messages import FixedPoint, RoundSpec
from common.parts import Shapes
from common.wire import shapes_of
from simulators.jobs import Identity, Job, Learned, LocalUpdate
from simulators.trainer import device_seed

Delta = dict[str, npt.NDArray[np.float64]]
LOUD = 100.0
DEVIATIONS = 1.0  # of `LITTLE`; Baruch's own bound is 0 to 0.3 for the 7 wristbands of a hospital


class Attack(StrEnum):
    """What a hostile wristband sends.

    `FLIPPED`: its update with the sign turned, no louder than an honest one.  `FLIPPED_LOUD`: 100
    times that, clipped to the round's norm.  `SCALED`: 100 times its update as far as the integers
    reach, whatever the norm.  `SCALED_CLIPPED`: the same, clipped.  `NOISE`: Gaussian noise of the
    round's clip norm.  `AGAINST`: the honest mean turned round, as loud as an honest update.
    `LITTLE`: the honest mean less one standard deviation in each coordinate.
    """

    FLIPPED = "flipped"
    FLIPPED_LOUD = "flipped_loud"
    SCALED = "scaled"
    SCALED_CLIPPED = "scaled_clipped"
    NOISE = "noise"
    AGAINST = "against"
    LITTLE = "little"


def turned(attack: Attack, job: Job, learned: Learned) -> Learned:
    """What an attacker that knows of nobody else makes of its own work."""
    if learned.update is None:
        return learned
    shapes = shapes_of(job.models[learned.update.base_digest])
    return replace(
        learned, update=_forged_by(job.identity, attack, learned.update, (), job.spec, shapes)
    )


def replaced(
    attackers: Mapping[str, Attack],
    learnt: Mapping[Identity, LocalUpdate],
    spec: RoundSpec,
    shapes: Shapes,
) -> dict[Identity, LocalUpdate]:
    """A hospital's updates of a round, those of `attackers`, by device, forged."""
    honest = [update for who, update in learnt.items() if who.device not in attackers]
    sent = dict(learnt)
    for who in learnt:
        if attack := attackers.get(who.device):
            sent[who] = _forged_by(who, attack, learnt[who], honest, spec, shapes)
    return sent


def _forged_by(
    who: Identity,
    attack: Attack,
    own: LocalUpdate,
    honest: Sequence[LocalUpdate],
    spec: RoundSpec,
    shapes: Shapes,
) -> LocalUpdate:
    rng = np.random.default_rng(device_seed(spec.local.seed, who.device, spec.round_id))
    return forged(attack, own, honest or (own,), spec.fixed_point, shapes, rng)


def forged(
    attack: Attack,
    own: LocalUpdate,
    honest: Sequence[LocalUpdate],
    rule: FixedPoint,
    shapes: Shapes,
    rng: np.random.Generator,
) -> LocalUpdate:
    """What an attacker sends in place of `own`.

    Parameters
    ----------
    honest : sequence of LocalUpdate
        Those that `AGAINST` and `LITTLE` look at: of the honest wristbands of its hospital.
    shapes : mapping of str to tuple of int
        Of the base model's tensors.
    """
    mine, theirs = _delta(own, rule, shapes), [_delta(each, rule, shapes) for each in honest]
    wanted = _WANTED[attack](mine, theirs, rng)
    if attack is not Attack.SCALED:
        wanted = fixedpoint.clip(wanted, rule.clip_norm)
    sent = fixedpoint.quantize(wanted, rule.exponents, rule.bits)
    tensors = parts.to_wire(rule, sent.tensors)
    return replace(own, tensors=tensors, num_saturated=sent.num_saturated)


def _delta(update: LocalUpdate, rule: FixedPoint, shapes: Shapes) -> Delta:
    return fixedpoint.dequantize(parts.from_wire(rule, shapes, update.tensors), rule.exponents)


def _times(delta: Mapping[str, npt.NDArray[np.float64]], factor: float) -> Delta:
    return {name: factor * value for name, value in delta.items()}


def _mean(deltas: Sequence[Delta]) -> Delta:
    return {name: np.mean([delta[name] for delta in deltas], axis=0) for name in deltas[0]}


def _flipped(own: Delta, _: Sequence[Delta], __: np.random.Generator) -> Delta:
    return _times(own, -1.0)


def _flipped_loud(own: Delta, _: Sequence[Delta], __: np.random.Generator) -> Delta:
    return _times(own, -LOUD)


def _scaled(own: Delta, _: Sequence[Delta], __: np.random.Generator) -> Delta:
    return _times(own, LOUD)


def _noise(own: Delta, _: Sequence[Delta], rng: np.random.Generator) -> Delta:
    return {name: LOUD * rng.standard_normal(value.shape) for name, value in own.items()}


def _against(own: Delta, honest: Sequence[Delta], _: np.random.Generator) -> Delta:
    mean = _mean(honest)
    norms = [fixedpoint.l2_norm(delta) for delta in honest]
    length = fixedpoint.l2_norm(mean)
    return _times(mean, -float(np.median(norms)) / length if length > 0 else 0.0)


def _little(own: Delta, honest: Sequence[Delta], _: np.random.Generator) -> Delta:
    mean = _mean(honest)
    spread = {name: np.std([delta[name] for delta in honest], axis=0) for name in mean}
    return {name: mean[name] - DEVIATIONS * spread[name] for name in mean}


_WANTED: Mapping[Attack, Callable[[Delta, Sequence[Delta], np.random.Generator], Delta]] = {
    Attack.FLIPPED: _flipped,
    Attack.FLIPPED_LOUD: _flipped_loud,
    Attack.SCALED: _scaled,
    Attack.SCALED_CLIPPED: _scaled,
    Attack.NOISE: _noise,
    Attack.AGAINST: _against,
    Attack.LITTLE: _little,
}

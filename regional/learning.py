"""The spec of a round: learning rate, exponents, rules and where its models lie."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, NamedTuple

from common.digest import EMPTY_DIGEST
from common.mailbox import message_path
from common.messages import FixedPoint, LocalRule, RoundSpec, ScreenRule
from common.parts import pass_order
from regional.config import LearningConfig, RegionConfig
from regional.progress import Progress, Stored, model_before


def learning_rate(learning: LearningConfig, num_trained: int) -> float:
    """Learning rate after `num_trained` committed rounds: a cosine, then its end.

    >>> rule = LearningConfig(lr_start=0.3, lr_end=0.1, lr_rounds=3)
    >>> [round(learning_rate(rule, n), 3) for n in range(4)]
    [0.3, 0.2, 0.1, 0.1]
    """
    if num_trained >= learning.lr_rounds:
        return learning.lr_end
    share = num_trained / max(1, learning.lr_rounds - 1)
    fall = learning.lr_start - learning.lr_end
    return learning.lr_end + fall * 0.5 * (1.0 + math.cos(math.pi * share))


def location(region: str, stored: Stored) -> str:
    """Where those tensors lie in the mailbox."""
    return message_path(region, "ring", stored.made_by_round, f"{stored.digest}.safetensors")


def round_spec(
    config: RegionConfig,
    progress: Progress,
    purpose: Literal["train", "evaluate"],
    evaluate: Iterable[Stored],
    now: float,
) -> RoundSpec:
    """The next round, opened at `now`.

    Parameters
    ----------
    evaluate : iterable of Stored
        Models that wristbands score, each named once.
    """
    scored = tuple(dict.fromkeys(evaluate))
    named = [progress.model, *scored]
    if progress.state.digest != EMPTY_DIGEST:
        named.append(progress.state)
    screen = _screen(config, progress) if purpose == "train" else None
    if screen and screen.reference and (before := _way_start(config, progress)):
        named.append(before)
    return RoundSpec(
        region=config.region,
        day=progress.day,
        cycle=progress.cycle,
        round_id=progress.last_round + 1,
        purpose=purpose,
        task=progress.task,
        base_digest=progress.model.digest,
        state_digest=progress.state.digest,
        server=config.learning.server_rule,
        local=_local_rule(config.learning, progress.num_trained),
        fixed_point=_fixed_point(config.learning, progress),
        weighting=config.learning.weighting,
        max_weight=config.learning.max_weight,
        evaluate=tuple(dict.fromkeys(stored.digest for stored in scored)),
        evaluation_shapes=dict(progress.evaluation_shapes),
        locations={stored.digest: location(config.region, stored) for stored in reversed(named)},
        sample_fraction=config.rounds.sample_fraction,
        min_devices=config.rounds.min_devices,
        quorum=config.rounds.quorum,
        max_staleness=config.rounds.max_staleness,
        late_bases=progress.past_bases[: config.rounds.max_staleness],
        robust=config.learning.robust_rule,
        screen=screen,
        opened_at=now,
        closes_at=now + config.rounds.deadline_s,
    )


def _way_start(config: RegionConfig, progress: Progress) -> Stored | None:
    return model_before(progress, config.screening.way_commits)


def _screen(config: RegionConfig, progress: Progress) -> ScreenRule | None:
    before = _way_start(config, progress)
    return config.screening.rule(before.digest if before else None, progress.num_trained)


class Form(NamedTuple):
    """How updates travel: `FixedPoint`'s fields of these names."""

    bits: Literal[8, 16]
    parts: int
    order: int


def form_after(learning: LearningConfig, num_trained: int) -> Form:
    """Form of the updates of a round that follows a committed one of its cycle.

    Each pass through the parts has an order of its own: number ``num_trained // parts`` of those
    that `seed` gives.
    """
    order = pass_order(learning.seed, num_trained // learning.parts) if learning.parts > 1 else 0
    return Form(learning.bits, learning.parts, order)


def form_of(rule: FixedPoint) -> Form:
    """Form of the updates of a round."""
    return Form(rule.bits, rule.parts, rule.order)


def _fixed_point(learning: LearningConfig, progress: Progress) -> FixedPoint:
    return FixedPoint(
        clip_norm=learning.clip_norm,
        bits=progress.bits,
        exponents=dict(progress.exponents),
        parts=progress.parts,
        part=progress.num_trained % progress.parts,
        order=progress.order,
    )


def _local_rule(learning: LearningConfig, num_trained: int) -> LocalRule:
    return LocalRule(
        learning_rate=learning_rate(learning, num_trained),
        num_steps=learning.num_steps,
        batch_size=learning.batch_size,
        mu=learning.mu,
        seed=learning.seed,
        simulated=learning.simulated,
    )

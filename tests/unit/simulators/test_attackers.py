from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common import fixedpoint
from common.messages import FixedPoint
from common.parts import take, to_wire
from common.tasks.dummy import dummy_examples
from regional.config import LearningConfig, ScreeningConfig
from simulators.attackers import Attack, forged
from simulators.jobs import LocalUpdate
from simulators.study import Study, run_study

SHAPES = {"bias": (3,), "weight": (40, 5)}
RULE = FixedPoint(clip_norm=5.0, exponents={"bias": -12, "weight": -12})
LIMIT = 5.0 + 0.5 * np.sqrt(203) * 2.0**-12
QUIET = (Attack.FLIPPED, Attack.AGAINST, Attack.LITTLE)
LOUD = (Attack.FLIPPED_LOUD, Attack.SCALED_CLIPPED, Attack.NOISE)


def make_update(seed: int = 0, rule: FixedPoint = RULE) -> LocalUpdate:
    shared, own = np.random.default_rng(99), np.random.default_rng(seed)
    delta = {
        name: 0.03 * (shared.standard_normal(shape) + own.standard_normal(shape))
        for name, shape in SHAPES.items()
    }
    integers = fixedpoint.quantize(take(rule, delta), rule.exponents, rule.bits)
    return LocalUpdate("b" * 64, 9, 0, to_wire(rule, integers.tensors))


def flat(update: LocalUpdate) -> npt.NDArray[np.float64]:
    return np.concatenate([t.ravel() for _, t in sorted(update.tensors.items())]) * 2.0**-12


HONEST = [make_update(seed) for seed in range(1, 6)]
MEAN = np.mean([flat(update) for update in HONEST], axis=0)


def made(attack: Attack, rule: FixedPoint = RULE, **changes: Any) -> LocalUpdate:
    rng = np.random.default_rng(3)
    return forged(attack, make_update(0, rule), HONEST, rule, SHAPES, rng, **changes)


@pytest.mark.parametrize("attack", QUIET)
def test_quiet_attackers_are_no_louder_than_honest_wristbands(attack: Attack) -> None:
    norms = [np.linalg.norm(flat(update)) for update in HONEST]
    assert np.linalg.norm(flat(made(attack))) <= 1.1 * max(norms)


@pytest.mark.parametrize("attack", LOUD)
def test_loud_attackers_use_just_the_norm_that_the_round_allows(attack: Attack) -> None:
    norm = np.linalg.norm(flat(made(attack)))
    assert 4.9 < norm <= LIMIT


def test_scaling_alone_goes_as_far_as_the_integers_reach() -> None:
    sent = made(Attack.SCALED)
    assert np.linalg.norm(flat(sent)) > 2 * LIMIT


def test_a_flipped_update_is_the_honest_one_turned() -> None:
    assert np.array_equal(flat(made(Attack.FLIPPED)), -flat(make_update()))


def test_colluding_attackers_point_against_the_honest_mean_or_just_off_it() -> None:
    against = flat(made(Attack.AGAINST))
    assert against @ MEAN / np.linalg.norm(against) / np.linalg.norm(MEAN) < -0.999
    spread = np.std([flat(update) for update in HONEST], axis=0)
    assert np.allclose(flat(made(Attack.LITTLE)), MEAN - spread, atol=2.0**-12)


def test_a_sparse_round_s_form_is_kept() -> None:
    exponents = dict.fromkeys(SHAPES, -12)
    sparse = FixedPoint(clip_norm=5.0, exponents=exponents, parts=4, part=1, order=7)
    own = make_update(0, sparse)
    rng = np.random.default_rng(0)
    sent = forged(Attack.FLIPPED, own, [], sparse, SHAPES, rng)
    assert {n: t.shape for n, t in sent.tensors.items()} == {"part": (3 + 50,)}
    assert np.array_equal(flat(sent), -flat(own))


ROSTER = {
    "north": [(f"wb-{i}", f"wearer-{i}") for i in range(6)],
    "south": [(f"wb-{i}", f"wearer-{i}") for i in range(6, 12)],
}
WEARERS = {f"wearer-{i}": dummy_examples(i, 80) for i in range(12)}
LEARNING = {"lr_start": 0.05, "lr_end": 0.05, "num_steps": 4, "batch_size": 16}
SCREENING = ScreeningConfig(enabled=True, max_distance=6, min_cosine=-1)


def study(attack: Attack | None, *, screened: bool = False, **learning: Any) -> Study:
    return Study(
        ROSTER,
        LearningConfig(**(LEARNING | learning)),
        num_rounds=2,
        task="dummy",
        screening=SCREENING if screened else ScreeningConfig(),
        attackers={"wb-0": attack, "wb-7": attack} if attack else {},
    )


def test_a_study_without_attackers_is_what_it_was() -> None:
    honest = [c.model_digest for c in run_study(study(None), WEARERS)]
    screened = [c.model_digest for c in run_study(study(None, screened=True), WEARERS)]
    assert honest == screened


def test_what_breaks_the_norm_is_refused_at_the_door() -> None:
    (first, _) = run_study(study(Attack.SCALED), WEARERS)
    assert first.refused == ("wb-0", "wb-7")
    assert first.num_updates == 10


def test_loud_attackers_are_set_aside_and_the_others_learn_as_without_them() -> None:
    (first, _) = run_study(study(Attack.FLIPPED_LOUD, screened=True), WEARERS)
    assert first.quarantined == ("wb-0", "wb-7")
    assert first.num_updates == 10
    (unscreened, _) = run_study(study(Attack.FLIPPED_LOUD), WEARERS)
    assert unscreened.num_updates == 12
    assert unscreened.model_digest != first.model_digest


@pytest.mark.parametrize("rule", ["trimmed_mean", "geometric_median"])
def test_a_robust_rule_goes_through_the_whole_round(rule: str) -> None:
    runs = [
        [c.model_digest for c in run_study(study(Attack.NOISE, hospital_rule=rule), WEARERS)]
        for _ in range(2)
    ]
    plain = [c.model_digest for c in run_study(study(Attack.NOISE), WEARERS)]
    assert runs[0] == runs[1] != plain

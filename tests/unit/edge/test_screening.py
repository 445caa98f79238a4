from __future__ import annotations

import numpy as np
import pytest

from common.messages import FixedPoint, ScreenRule
from common.parts import take
from edge import exact
from edge.contributions import Contribution
from edge.screening import SetAside, Suspicion, Way, screen, way_between

SHAPES = {"bias": (30,), "weight": (40, 5)}
EXPONENTS = {"bias": -9, "weight": -12}
RULE = ScreenRule(max_distance=1.5, min_cosine=-0.1, min_updates=4, max_share=0.45)


def make_contribution(
    device: str, seed: int, common: float = 0.5, times: float = 1
) -> Contribution:
    """An update that shares a direction with the others and has one of its own."""
    shared, own = np.random.default_rng(0), np.random.default_rng(seed + 1)
    return Contribution(
        device,
        "b" * 64,
        1,
        {
            name: np.rint(
                times * (common * shared.normal(0, 90, shape) + own.normal(0, 90, shape))
            ).astype(np.int16)
            for name, shape in SHAPES.items()
        },
        0,
    )


def honest(num: int = 7) -> list[Contribution]:
    return [make_contribution(f"band-{i}", i) for i in range(num)]


def set_aside(contributions: list[Contribution], rule: ScreenRule = RULE) -> dict[str, SetAside]:
    return {device: told for (device, _), told in screen(contributions, rule, EXPONENTS).items()}


@pytest.mark.parametrize("num", [1, 3, 4, 7, 8, 40])
def test_honest_updates_stay(num: int) -> None:
    assert set_aside(honest(num)) == {}


@pytest.mark.parametrize("times", [30.0, -30.0])
def test_a_loud_update_is_too_far(times: float) -> None:
    found = set_aside([*honest(), make_contribution("loud", 50, times=times)])
    assert list(found) == ["loud"]
    assert found["loud"].suspicion is Suspicion.DISTANCE
    assert found["loud"].score > 10 > found["loud"].limit == 1.5


def test_an_update_against_the_others_points_the_wrong_way() -> None:
    flipped = make_contribution("turned", 50, common=1.0, times=-0.7)
    found = set_aside([*honest(), flipped], RULE.model_copy(update={"max_distance": 9.0}))
    assert list(found) == ["turned"]
    assert found["turned"].suspicion is Suspicion.DIRECTION
    assert found["turned"].score < found["turned"].limit == -0.1


def test_three_of_seven_are_found() -> None:
    loud = [make_contribution(f"loud-{i}", 50 + i, times=20) for i in range(3)]
    assert sorted(set_aside([*honest(4), *loud])) == ["loud-0", "loud-1", "loud-2"]


def test_no_more_than_the_greatest_share_is_set_aside_the_furthest_first() -> None:
    loud = [make_contribution(f"loud-{i}", 50 + i, times=10 * (i + 1)) for i in range(3)]
    rule = RULE.model_copy(update={"max_share": 0.3})
    assert sorted(set_aside([*honest(4), *loud], rule)) == ["loud-1", "loud-2"]


def test_few_updates_are_not_screened() -> None:
    some = [*honest(3), make_contribution("loud", 50, times=30)]
    assert set(set_aside(some)) == {"loud"}
    assert set_aside(some, RULE.model_copy(update={"min_updates": 5})) == {}


def test_the_order_of_updates_does_not_matter() -> None:
    some = [*honest(), make_contribution("loud", 50, times=30)]
    assert screen(some, RULE, EXPONENTS) == screen(some[::-1], RULE, EXPONENTS)


def test_scales_of_tensors_count() -> None:
    """The same integers are 2**20 times as far in a tensor of that larger step."""
    some = [make_contribution(f"band-{i}", i) for i in range(6)]
    odd = make_contribution("odd", 60)
    tripled = {**odd.integers, "bias": (3 * odd.integers["bias"]).astype(np.int16)}
    changed = Contribution("odd", "b" * 64, 1, tripled, 0)
    fine, coarse = {"bias": -12, "weight": -2}, {"bias": -2, "weight": -12}
    assert screen([*some, changed], RULE, fine) == {}
    assert [device for device, _ in screen([*some, changed], RULE, coarse)] == ["odd"]


def test_nothing_learnt_is_no_fault_but_a_lone_update_is() -> None:
    still = [
        Contribution(
            f"band-{i}", "b" * 64, 1, {n: np.zeros(s, np.int16) for n, s in SHAPES.items()}, 0
        )
        for i in range(5)
    ]
    assert set_aside(still) == {}
    assert list(set_aside([*still, make_contribution("odd", 3)])) == ["odd"]


def test_two_updates_of_a_device_are_told_apart() -> None:
    """One is for an older base: late, and far."""
    loud = make_contribution("band-0", 70, times=30)
    late = Contribution("band-0", "c" * 64, 181, loud.integers, 0)
    assert list(screen([*honest(), late], RULE, EXPONENTS)) == [("band-0", "c" * 64)]


def make_way(sign: float = 1.0) -> Way:
    """The direction that all made-up updates share, as two models tell it."""
    shared = np.random.default_rng(0)
    step = {
        name: (sign * shared.normal(0, 90, shape) * 2.0 ** EXPONENTS[name]).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    before = {name: np.full(value.shape, 0.5, np.float32) for name, value in step.items()}
    base = {name: before[name] + step[name] for name in step}
    return way_between(before, base, FixedPoint(clip_norm=1.0, exponents=EXPONENTS))


def test_against_the_way_is_set_aside_even_where_most_go_along() -> None:
    """Three of seven turn round: the median of so few no longer tells which of them do."""
    turned = [make_contribution(f"turned-{i}", 50 + i, times=-1) for i in range(3)]
    rule = RULE.model_copy(update={"max_distance": 9.0})
    found = screen([*honest(4), *turned], rule, EXPONENTS, make_way())
    assert [device for device, _ in found] == ["turned-0", "turned-1", "turned-2"]
    assert {told.suspicion for told in found.values()} == {Suspicion.DIRECTION}
    assert len(screen(honest(4), rule, EXPONENTS, make_way(-1.0))) == int(rule.max_share * 4)


def test_only_the_direction_of_the_way_counts() -> None:
    way = make_way()
    longer = Way(way.integers, {name: exponent + 7 for name, exponent in way.exponents.items()})
    some = [*honest(), make_contribution("turned", 50, times=-1)]
    found = screen(some, RULE, EXPONENTS, way)
    assert list(found) == [("turned", "b" * 64)]
    assert screen(some, RULE, EXPONENTS, longer) == found


def test_cosines_are_those_of_the_numbers_that_integers_stand_for() -> None:
    way, one = make_way(), make_contribution("band", 5)
    real = [np.ldexp(one.integers[n].astype(float), EXPONENTS[n]).ravel() for n in SHAPES]
    ahead = [np.ldexp(way.integers[n].astype(float), way.exponents[n]).ravel() for n in SHAPES]
    a, b = np.concatenate(real), np.concatenate(ahead)
    plain = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    made = exact.cosine(one.integers, way.integers, EXPONENTS, way.exponents)
    assert made == pytest.approx(plain, rel=1e-12)


def test_a_model_that_stood_still_points_nowhere() -> None:
    model = {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()}
    way = way_between(model, model, FixedPoint(clip_norm=1.0, exponents=EXPONENTS))
    assert screen(honest(), RULE, EXPONENTS, way) == {}


def test_in_a_sparse_round_the_way_has_the_coordinates_of_the_part() -> None:
    rng = np.random.default_rng(3)
    before = {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
    base = {n: rng.standard_normal(s).astype(np.float32) for n, s in SHAPES.items()}
    rule = FixedPoint(clip_norm=1.0, exponents=EXPONENTS, parts=4, part=3, order=9)
    way = way_between(before, base, rule)
    step = take(rule, {n: base[n].astype(np.float64) - before[n] for n in base})
    for name, values in step.items():
        told = np.ldexp(way.integers[name].astype(float), way.exponents[name])
        assert np.allclose(told, values, atol=2.0 ** way.exponents[name])
        assert np.abs(way.integers[name]).max() <= 2**15

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from common.errors import ContractError
from common.messages import RobustRule
from edge import exact
from edge.contributions import Contribution
from edge.robust import UNIT, combine, num_cut, weiszfeld

SHAPES = {"bias": (3,), "weight": (4, 5)}
EXPONENTS = {"bias": -9, "weight": -12}
PEAK = 32768
TRIMMED = RobustRule(rule="trimmed_mean", trim=0.2)
MEDIAN = RobustRule(rule="geometric_median")


def make_contributions(
    num: int = 7, seed: int = 0, centre: int = 0, weight: int = 1
) -> list[Contribution]:
    rng = np.random.default_rng(seed)
    return [
        Contribution(
            f"band-{i}",
            "b" * 64,
            weight,
            {n: (centre + rng.integers(-90, 91, s)).astype(np.int16) for n, s in SHAPES.items()},
            0,
        )
        for i in range(num)
    ]


def hostile(value: int, num: int) -> list[Contribution]:
    tensors = {name: np.full(shape, value, np.int16) for name, shape in SHAPES.items()}
    return [Contribution(f"evil-{i}", "b" * 64, 1, tensors, 0) for i in range(num)]


def reals(contributions: Sequence[Contribution]) -> npt.NDArray[np.float64]:
    """(num, 23) values that the integers stand for."""
    return np.array(
        [
            np.concatenate([np.ldexp(each.integers[n].ravel(), EXPONENTS[n]) for n in SHAPES])
            for each in contributions
        ]
    )


def mean_of(contributions: Sequence[Contribution], rule: RobustRule) -> npt.NDArray[np.float64]:
    sums = combine(contributions, rule, SHAPES, PEAK, EXPONENTS)
    flat = [np.ldexp(sums.tensors[name].ravel(), EXPONENTS[name]) for name in SHAPES]
    return np.concatenate(flat) / sums.weight


def test_sum_is_the_plain_weighted_sum() -> None:
    some = make_contributions(weight=3)
    made = combine(some, RobustRule(), SHAPES, PEAK, EXPONENTS)
    for name in SHAPES:
        assert np.array_equal(
            made.tensors[name], 3 * np.sum([c.integers[name] for c in some], 0, np.int64)
        )
    assert made.weight == 21


@pytest.mark.parametrize("num", [3, 4, 7, 10, 22])
def test_trimmed_mean_is_the_mean_of_what_is_neither_low_nor_high(num: int) -> None:
    some = make_contributions(num)
    cut = num_cut(num, TRIMMED.trim)
    plain = np.sort(reals(some), axis=0)[cut : num - cut].mean(axis=0)
    assert np.allclose(mean_of(some, TRIMMED), plain, rtol=1e-14)
    assert combine(some, TRIMMED, SHAPES, PEAK, EXPONENTS).weight == num - 2 * cut


def test_a_trim_never_leaves_nothing() -> None:
    assert [num_cut(num, 0.49) for num in range(3, 9)] == [1, 1, 2, 2, 3, 3]


def test_geometric_median_has_the_least_sum_of_distances() -> None:
    points = reals(some := make_contributions(9, seed=4) + hostile(9000, 2))
    found = mean_of(some, MEDIAN)

    def total(point: npt.NDArray[np.float64]) -> float:
        return float(np.linalg.norm(points - point, axis=1).sum())

    rng = np.random.default_rng(1)
    for step in (1e-2, 1e-1):
        for _ in range(50):
            assert total(found + step * rng.standard_normal(found.shape)) > total(found)
    assert total(found) < total(points.mean(axis=0)) < total(points[-1])


def test_weights_of_the_geometric_median_are_about_a_unit_for_each_update() -> None:
    weights = weiszfeld(exact.gram([c.integers for c in make_contributions(8)], EXPONENTS))
    assert all(0 < weight < 3 * UNIT for weight in weights)
    assert abs(sum(weights) - 8 * UNIT) <= 4


@pytest.mark.parametrize("rule", [TRIMMED, MEDIAN], ids=lambda rule: rule.rule)
@pytest.mark.parametrize("value", [32767, -32767])
def test_a_minority_moves_the_mean_no_further_than_the_others_spread(
    rule: RobustRule, value: int
) -> None:
    honest = make_contributions(8, centre=20)
    moved = mean_of([*honest, *hostile(value, 1)], rule) - reals(honest).mean(axis=0)
    plain = mean_of([*honest, *hostile(value, 1)], RobustRule()) - reals(honest).mean(axis=0)
    spread = reals(honest).std(axis=0)
    assert (np.abs(moved) <= 1.5 * spread).all()
    assert (np.abs(plain) > 10 * spread).all()


@pytest.mark.parametrize("rule", [TRIMMED, MEDIAN], ids=lambda rule: rule.rule)
def test_order_does_not_matter_and_sums_keep_their_bound(rule: RobustRule) -> None:
    some = make_contributions(6) + hostile(-32767, 2)
    made = combine(some, rule, SHAPES, PEAK, EXPONENTS)
    turned = combine(some[::-1], rule, SHAPES, PEAK, EXPONENTS)
    for name in SHAPES:
        assert np.array_equal(made.tensors[name], turned.tensors[name])
        assert made.tensors[name].dtype == np.int64
        assert np.abs(made.tensors[name]).max() <= made.weight * 32767
    assert made.weight == turned.weight


@pytest.mark.parametrize("rule", [TRIMMED, MEDIAN], ids=lambda rule: rule.rule)
@pytest.mark.parametrize("num", [0, 1, 2])
def test_too_few_updates_for_a_majority_contribute_nothing(rule: RobustRule, num: int) -> None:
    made = combine(make_contributions(num), rule, SHAPES, PEAK, EXPONENTS)
    assert made.weight == 0
    assert not any(tensor.any() for tensor in made.tensors.values())


@pytest.mark.parametrize("rule", [TRIMMED, MEDIAN], ids=lambda rule: rule.rule)
def test_alike_updates_give_just_that_update(rule: RobustRule) -> None:
    same = hostile(11, 5)
    made = combine(same, rule, SHAPES, PEAK, EXPONENTS)
    assert all((tensor == 11 * made.weight).all() for tensor in made.tensors.values())


def test_updates_of_several_weights_are_refused() -> None:
    some = make_contributions(3) + make_contributions(1, weight=2)
    with pytest.raises(ContractError, match="several weights"):
        combine(some, TRIMMED, SHAPES, PEAK, EXPONENTS)


@pytest.mark.parametrize("rule", [RobustRule(), TRIMMED, MEDIAN], ids=lambda rule: rule.rule)
def test_another_models_update_is_refused(rule: RobustRule) -> None:
    other = Contribution("odd", "b" * 64, 1, {"bias": np.zeros(3, np.int16)}, 0)
    with pytest.raises((ContractError, KeyError)):
        combine([*make_contributions(3), other], rule, SHAPES, PEAK, EXPONENTS)


def test_inner_products_are_exact_whatever_their_size() -> None:
    rng = np.random.default_rng(3)
    large = [
        {n: rng.integers(-(2**40), 2**40, s, dtype=np.int64) for n, s in SHAPES.items()}
        for _ in range(3)
    ]
    small = [c.integers for c in make_contributions(3)]
    for updates in (small, large):
        made = exact.gram(updates, EXPONENTS)
        for i, a in enumerate(updates):
            for j, b in enumerate(updates):
                plain = sum(
                    int(x) * int(y) << 2 * (EXPONENTS[n] + 12)
                    for n in SHAPES
                    for x, y in zip(a[n].ravel(), b[n].ravel(), strict=True)
                )
                assert made[i][j] == plain == exact.dot(a, b, EXPONENTS, EXPONENTS)

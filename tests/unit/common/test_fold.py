"""Sums of integers and the one server step, against plain numpy."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ContractError, QuorumError
from common.fold import (
    Scaled,
    Sums,
    check_bound,
    combine,
    fold,
    late_factor,
    late_weight,
    mean_update,
    server_step,
    update_weight,
    zeros,
)
from common.messages import ServerRule

SHAPES = {"b": (3,), "w": (2, 3)}


def integers(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n: rng.integers(-32767, 32768, s).astype(np.int16) for n, s in SHAPES.items()}


@given(st.lists(st.integers(0, 5000), max_size=12), st.randoms())
def test_sum_equals_plain_numpy_in_any_order(weights: list[int], shuffle: object) -> None:
    rng = np.random.default_rng(len(weights))
    given_updates = [(weight, integers(rng)) for weight in weights]
    forward = fold(SHAPES, given_updates, 32767)
    shuffle.shuffle(given_updates)  # type: ignore[attr-defined]  # hypothesis' Random
    backward = fold(SHAPES, given_updates, 32767)
    for name in SHAPES:
        expected = sum(
            (w * u[name].astype(object) for w, u in given_updates), np.zeros(SHAPES[name], object)
        )
        assert np.array_equal(forward.tensors[name], expected.astype(np.int64))
        assert np.array_equal(forward.tensors[name], backward.tensors[name])
    assert forward.weight == backward.weight == sum(weights)


def test_no_update_has_no_mean() -> None:
    with pytest.raises(QuorumError, match="total weight is zero"):
        mean_update(zeros(SHAPES), {"b": 0, "w": 0})


def test_bound_refuses_sums_that_could_overflow() -> None:
    check_bound((1 << 62) // 32767, 32767)
    with pytest.raises(ContractError, match="62 bits"):
        check_bound((1 << 62) // 32767 + 1, 32767)


@pytest.mark.parametrize(
    "wrong", [{"b": np.zeros(3, np.int16)}, {"b": np.zeros(2), "w": np.zeros((2, 3))}]
)
def test_refuses_other_names_or_shapes(wrong: dict[str, np.ndarray]) -> None:
    with pytest.raises(ContractError):
        fold(SHAPES, [(1, wrong)], 32767)


def test_weights_are_uniform_or_capped_examples() -> None:
    assert update_weight(900, "uniform", 500) == 1
    assert update_weight(900, "examples", 500) == 500
    assert update_weight(9, "examples", 500) == 9
    with pytest.raises(ContractError):
        update_weight(0, "examples", 500)


def test_fedavg_adds_the_mean_in_float64_before_rounding_to_float32() -> None:
    base = {"w": np.array([16777216.0], np.float32)}
    mean = {"w": np.array([1.0000001])}
    following, state = server_step(base, {}, mean, ServerRule())
    assert following["w"][0] == np.float32(np.float64(16777216.0) + 1.0000001)
    assert state == {}


def test_fedadam_follows_reddi_algorithm_2() -> None:
    rule = ServerRule(algorithm="fedadam", learning_rate=0.1, beta1=0.9, beta2=0.99, tau=1e-3)
    base = {"w": np.array([1.0, -1.0], np.float32)}
    state: dict[str, np.ndarray] = {}
    m = v = np.zeros(2)
    x = base["w"].astype(np.float64)
    for step in range(1, 4):
        delta = np.array([0.5, -0.25]) / step
        base, state = server_step(base, state, {"w": delta}, rule)
        m, v = 0.9 * m + (1 - 0.9) * delta, 0.99 * v + (1 - 0.99) * delta**2
        x = (x + 0.1 * m / (np.sqrt(v) + 1e-3)).astype(np.float32).astype(np.float64)
        assert np.array_equal(base["w"], x.astype(np.float32))
        assert int(state["t"]) == step


def test_refuses_a_step_that_is_not_finite() -> None:
    with pytest.raises(ContractError, match="not finite"):
        server_step({"w": np.ones(1, np.float32)}, {}, {"w": np.array([1e39])}, ServerRule())


def test_mean_is_sum_times_scale_over_weight() -> None:
    sums = Sums({"w": np.array([6, -3], np.int64)}, 3)
    assert mean_update(sums, {"w": -1})["w"].tolist() == [1.0, -0.5]


def scaled(seed: int, weight: int, exponent: int, factor: int) -> Scaled:
    return Scaled(
        Sums(
            {n: t.astype(np.int64) for n, t in integers(np.random.default_rng(seed)).items()},
            weight,
        ),
        dict.fromkeys(SHAPES, exponent),
        factor,
    )


@given(
    st.lists(
        st.tuples(
            st.integers(0, 99), st.integers(0, 5000), st.integers(-20, -5), st.integers(0, 256)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_combined_sums_are_exact_in_any_scales(parts: list[tuple[int, int, int, int]]) -> None:
    made = [scaled(*part) for part in parts]
    total = combine(made)
    assert total.sums.weight == sum(part.factor * part.sums.weight for part in made)
    for name in SHAPES:
        exact = sum(
            part.factor
            * part.sums.tensors[name].astype(object)
            * Fraction(2) ** part.exponents[name]
            for part in made
        )
        stated = total.sums.tensors[name].astype(object) * Fraction(2) ** total.exponents[name]
        assert (exact == stated).all()


def test_fresh_and_late_of_one_scale_weigh_as_their_factors_say() -> None:
    fresh, late = scaled(1, 3, -10, 256), scaled(2, 2, -10, late_factor(3))
    mean = mean_update(combine([fresh, late]).sums, fresh.exponents)
    for name in SHAPES:
        expected = (256 * fresh.sums.tensors[name] + 128 * late.sums.tensors[name]) / (
            256 * 3 + 128 * 2
        )
        np.testing.assert_allclose(mean[name], np.ldexp(expected, -10), rtol=1e-15)


def test_combining_refuses_what_could_leave_62_bits() -> None:
    with pytest.raises(ContractError, match="62 bits"):
        combine([scaled(1, 1, 30, 1), scaled(2, 1, -30, 1)])


def test_combining_refuses_sums_of_another_model() -> None:
    other = Scaled(zeros({"w": (2, 3)}), {"w": -10, "b": -10})
    with pytest.raises(ContractError, match="names differ"):
        combine([scaled(1, 1, -10, 1), other])


@pytest.mark.parametrize("age", [0, 1, 2, 7, 99, 10_000])
def test_late_factor_is_the_floor_of_its_formula(age: int) -> None:
    factor = late_factor(age)
    assert factor**2 * (1 + age) <= 65536 < (factor + 1) ** 2 * (1 + age)


def test_zeros_of_any_scale_combine_with_anything() -> None:
    nothing = Scaled(zeros(SHAPES), dict.fromkeys(SHAPES, 30), 256)
    fine = scaled(1, 1, -60, 1)
    assert (combine([nothing, fine]).sums.tensors["w"] == fine.sums.tensors["w"]).all()


@pytest.mark.parametrize("age", [0, 1, 2, 15])
@pytest.mark.parametrize("weight", [1, 3, 5000])
def test_late_weight_is_the_floor_of_its_formula(weight: int, age: int) -> None:
    counted = late_weight(weight, age)
    assert counted**2 * (1 + age) <= (256 * weight) ** 2 < (counted + 1) ** 2 * (1 + age)

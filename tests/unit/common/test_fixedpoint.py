"""Clipping, scales and integers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from common.errors import ContractError
from common.fixedpoint import (
    MAX_EXPONENT,
    Bits,
    IntegerNorm,
    clip,
    dequantize,
    first_exponents,
    l2_norm,
    largest,
    next_exponents,
    norm_limit,
    quantize,
    rescale,
)

finite = st.floats(-1e3, 1e3, width=32)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=finite), st.floats(0.01, 100))
def test_clipped_update_has_at_most_the_clip_norm(values: np.ndarray, norm: float) -> None:
    assert l2_norm(clip({"w": values}, norm)) <= norm * (1 + 1e-9)


@given(hnp.arrays(np.float64, st.integers(1, 50), elements=st.floats(-1, 1)))
def test_honest_update_never_exceeds_the_norm_limit_or_saturates(values: np.ndarray) -> None:
    exponents = first_exponents({"w": values}, 1.0, 16)
    quantized = quantize(clip({"w": values}, 1.0), exponents, 16)
    assert quantized.num_saturated == 0
    back = dequantize(quantized.tensors, exponents)
    assert l2_norm(back) <= norm_limit(quantized.tensors, exponents, 1.0)
    assert np.max(np.abs(back["w"] - clip({"w": values}, 1.0)["w"])) <= 2.0 ** exponents["w"] / 2


def test_first_exponent_is_the_stated_formula() -> None:
    assert first_exponents({"w": np.zeros(1)}, 1.0, 16) == {"w": math.ceil(math.log2(1 / 32767))}


def test_values_beyond_range_saturate_and_are_counted() -> None:
    quantized = quantize({"w": np.array([1e9, -1e9, 0.0])}, {"w": -10}, 8)
    assert quantized.tensors["w"].tolist() == [127, -127, 0]
    assert quantized.num_saturated == 2


def test_scales_follow_the_aggregate_and_never_grow() -> None:
    before = {"w": -10}
    assert next_exponents({"w": np.array([1e-4])}, before, 16)["w"] < -10
    assert next_exponents({"w": np.array([1e4])}, before, 16) == before
    assert next_exponents({"w": np.zeros(3)}, before, 16) == before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_to_clip_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ContractError):
        clip({"w": np.array([0.0, bad])}, 1.0)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan, math.inf, 5e-324, 1e300, 2.0**-46, 2.0**46])
def test_refuses_a_clip_norm_that_is_no_norm(norm: float) -> None:
    with pytest.raises(ContractError, match="clip_norm"):
        first_exponents({"w": np.zeros(1)}, norm, 16)


def test_largest_is_symmetric() -> None:
    assert (largest(8), largest(16)) == (127, 32767)


@pytest.mark.parametrize("norm", [2.0**-45, 1e-9, 1.0, 1e9, 2.0**45])
@pytest.mark.parametrize("bits", [8, 16])
def test_no_clipped_update_saturates_at_any_clip_norm(norm: float, bits: Bits) -> None:
    exponents = first_exponents({"w": np.zeros(1)}, norm, bits)
    if exponents["w"] < MAX_EXPONENT:  # beyond it 8 bits cannot reach
        assert quantize({"w": np.array([norm, -norm])}, exponents, bits).num_saturated == 0


@pytest.mark.parametrize(
    ("mean", "exponent"), [(5e-324, -60), (1e-300, -60), (1e300, 20), (1.7e308, 20)]
)
def test_scales_stay_in_range_whatever_the_aggregate(mean: float, exponent: int) -> None:
    assert next_exponents({"w": np.array([mean])}, {"w": 20}, 16) == {"w": exponent}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_no_norm_limit_lets_a_value_through_that_is_not_finite(value: float) -> None:
    tensors = {"w": np.array([value, 0.0])}
    assert not l2_norm(tensors) <= norm_limit(tensors, {"w": -14}, 1.0)


def test_finer_steps_say_the_same_numbers_and_count_what_leaves_the_range() -> None:
    integers = {"w": np.array([3, -300, 20000, -32767], np.int16)}
    moved = rescale(integers, {"w": -10}, {"w": -12}, 16)
    assert moved.tensors["w"].tolist() == [12, -1200, 32767, -32767]
    assert moved.num_saturated == 2


def test_coarser_steps_are_refused() -> None:
    with pytest.raises(ContractError, match="have grown"):
        rescale({"w": np.array([3], np.int16)}, {"w": -12}, {"w": -10}, 16)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(-60, 30)), max_size=6),
    st.integers(0, 2**32 - 1),
)
def test_norm_of_integers_is_exact_but_for_its_last_digits(
    runs: list[tuple[int, int]], seed: int
) -> None:
    size = sum(num for num, _ in runs)
    integers = np.random.default_rng(seed).integers(-32768, 32768, size).astype(np.int16)
    exponents = [exponent for num, exponent in runs for _ in range(num)]
    terms = [
        Fraction(k) ** 2 * Fraction(4) ** e
        for k, e in zip(integers.tolist(), exponents, strict=True)
    ]
    exact = math.sqrt(sum(terms, Fraction(0)))
    assert IntegerNorm(runs)(integers) == pytest.approx(exact, rel=1e-14)

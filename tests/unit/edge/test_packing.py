from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ContractError
from edge import packing
from edge.packing import Int64


def lanes_of(numbers: Int64, width: int, cuts: tuple[int, ...] = ()) -> Int64:
    lanes = np.full(packing.num_lanes(numbers.size, width), 7, np.int64)
    packing.pack(np.split(numbers, sorted(cuts)), width, lanes)
    return lanes


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(0, 200),
    weights=st.lists(st.integers(0, 5000), min_size=1, max_size=16),
    bits=st.sampled_from([8, 16]),
    extreme=st.booleans(),
)
def test_sum_of_lanes_holds_the_sum_of_numbers(
    seed: int, size: int, weights: list[int], bits: int, extreme: bool
) -> None:
    rng = np.random.default_rng(seed)
    peak = (1 << (bits - 1)) - 1
    signs = rng.choice([-1, 1], size) if extreme else None
    vectors = [
        np.full(size, w * peak) * signs
        if signs is not None
        else rng.integers(-w * peak, w * peak + 1, size)
        for w in weights
    ]
    width = packing.width_for(sum(weights) * peak)
    cuts = tuple(int(cut) for cut in rng.integers(0, size + 1, 2))
    total = np.sum([lanes_of(vector, width, cuts) for vector in vectors], axis=0)
    assert np.array_equal(packing.unpack(total, size, width), np.sum(vectors, axis=0))


@pytest.mark.parametrize("width", [1, 2, 9, 16, 21, 22, 32, 33, 63, 64])
def test_lanes_are_as_many_as_the_width_allows(width: int) -> None:
    assert packing.num_lanes(1000, width) == -(-1000 // (64 // width))
    top = (1 << (width - 1)) - 1
    numbers = np.array([top, -top, 0] * 5, np.int64)
    assert np.array_equal(packing.unpack(lanes_of(numbers, width), 15, width), numbers)


def test_numbers_beyond_their_bound_are_refused_whatever_their_sign() -> None:
    packing.check_range([np.array([5, -5], np.int64), np.empty(0, np.int64)], 5)
    for number in (6, -6, np.iinfo(np.int64).min):
        with pytest.raises(ContractError, match="beyond"):
            packing.check_range([np.array([0, number], np.int64)], 5)

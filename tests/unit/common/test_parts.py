"""Which coordinates a round carries, against an order made in Python's own integers."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common import parts
from common.errors import ContractError
from common.messages import FixedPoint

SHAPES = {"a": (20, 30), "b": (7,), "c": (32,), "d": (31,), "e": ()}
MASK = (1 << 64) - 1


def make_rule(parts: int = 4, part: int = 0, order: int = 9) -> FixedPoint:
    return FixedPoint(clip_norm=1.0, exponents={}, parts=parts, part=part, order=order)


def make_tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.integers(1, 1000, shape) for name, shape in SHAPES.items()}


def plain_order(order: int, name: str, size: int) -> list[int]:
    key = int.from_bytes(hashlib.sha256(f"{order}/{name}".encode()).digest()[:8], "little")

    def hashed(index: int) -> int:
        z = (key + (index + 1) * 0x9E3779B97F4A7C15) & MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    return sorted(range(size), key=hashed)


def test_splitmix_gives_the_published_outputs() -> None:
    # The first outputs for seed 1234567, as the reference implementation prints them.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [parts.pass_order(1234567, n) for n in range(3)] == [p >> 11 for p in published]


@pytest.mark.parametrize("part", range(3))
def test_a_part_is_every_third_place_of_the_hashed_order(part: int) -> None:
    found = parts.part_indices(make_rule(3, part, order=77), "conv.weight", 500)
    assert found.tolist() == sorted(plain_order(77, "conv.weight", 500)[part::3])


@given(st.integers(2, 64), st.integers(32, 3000), st.integers(0, 1 << 53), st.text(max_size=5))
def test_parts_of_an_order_hold_each_coordinate_once(
    num: int, size: int, order: int, name: str
) -> None:
    pieces = [parts.part_indices(make_rule(num, p, order), name, size) for p in range(num)]
    assert sorted(np.concatenate(pieces).tolist()) == list(range(size))


def test_orders_and_tensors_differ_in_their_parts() -> None:
    one, other = make_rule(order=1), make_rule(order=2)
    assert (
        parts.part_indices(one, "a", 600).tolist() != parts.part_indices(other, "a", 600).tolist()
    )
    assert parts.part_indices(one, "a", 600).tolist() != parts.part_indices(one, "b", 600).tolist()


def test_small_tensors_are_whole_in_every_part() -> None:
    assert parts.part_shapes(make_rule(4, 3), SHAPES) == {
        "a": (150,), "b": (7,), "c": (8,), "d": (31,), "e": ()
    }  # fmt: skip
    assert parts.wire_shapes(make_rule(4, 3), SHAPES) == {"part": (150 + 7 + 8 + 31 + 1,)}


def test_without_parts_everything_is_as_it_was() -> None:
    rule, tensors = make_rule(1), make_tensors()
    assert parts.part_shapes(rule, SHAPES) == parts.wire_shapes(rule, SHAPES) == SHAPES
    for same in (
        parts.take(rule, tensors),
        parts.spread(rule, SHAPES, tensors),
        parts.to_wire(rule, tensors),
        parts.from_wire(rule, SHAPES, tensors),
    ):
        assert all(np.array_equal(same[name], tensors[name]) for name in SHAPES)


@pytest.mark.parametrize("num", [2, 5, 64])
def test_the_parts_of_a_pass_put_together_are_the_whole(num: int) -> None:
    tensors = make_tensors()
    seen = {name: np.zeros_like(value) for name, value in tensors.items()}
    for part in range(num):
        rule = make_rule(num, part)
        sent = parts.to_wire(rule, parts.take(rule, tensors))
        assert {n: v.shape for n, v in sent.items()} == parts.wire_shapes(rule, SHAPES)
        back = parts.spread(rule, SHAPES, parts.from_wire(rule, SHAPES, sent))
        seen = {name: seen[name] + back[name] for name in SHAPES}
    for name, value in tensors.items():
        assert np.array_equal(seen[name], value * (1 if value.size >= parts.SPLIT_FROM else num))


@pytest.mark.parametrize(
    "tensors",
    [{}, {"part": np.zeros(3)}, {"part": np.zeros((1, 197))}, {"a": np.zeros(197)}],
    ids=["nothing", "length", "shape", "name"],
)
def test_refuses_bytes_of_another_form(tensors: dict[str, Any]) -> None:
    with pytest.raises(ContractError):
        parts.from_wire(make_rule(4, 3), SHAPES, tensors)


def test_refuses_to_spread_a_part_of_another_shape() -> None:
    with pytest.raises(ContractError):
        parts.spread(make_rule(), {"a": (600,)}, {"a": np.zeros(600)})


@pytest.mark.parametrize("fields", [{"part": 4}, {"parts": 65}, {"parts": 0}, {"part": -1}])
def test_a_round_names_a_part_that_exists(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        FixedPoint(clip_norm=1.0, exponents={}, **({"parts": 4} | fields))

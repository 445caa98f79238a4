"""What a wristband sends of what it learnt, and what it carries over."""

from __future__ import annotations

import numpy as np
import pytest

from common import fixedpoint, parts, wire
from common.errors import ContractError
from common.messages import FixedPoint
from simulators.encoding import encode

SHAPES = {"big": (30, 20), "small": (9,)}
EXPONENTS = {"big": -9, "small": -10}


def make_rule(num: int = 4, part: int = 0, clip_norm: float = 50.0) -> FixedPoint:
    return FixedPoint(
        clip_norm=clip_norm, bits=8, exponents=EXPONENTS, parts=num, part=part, order=3
    )


def make_delta(seed: int = 0, size: float = 0.02) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, size, shape) for name, shape in SHAPES.items()}


def said(rule: FixedPoint, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    named = parts.from_wire(rule, SHAPES, tensors)
    return parts.spread(rule, SHAPES, fixedpoint.dequantize(named, EXPONENTS))


def test_a_dense_round_sends_all_and_carries_nothing_over() -> None:
    sent = encode(make_rule(1), make_delta(), None)
    plain = fixedpoint.quantize(make_delta(), EXPONENTS, 8)
    assert wire.shapes_of(sent.tensors) == SHAPES
    assert all(np.array_equal(sent.tensors[n], plain.tensors[n]) for n in SHAPES)
    assert sent.residual is None


def test_a_dense_round_leaves_a_residual_alone() -> None:
    plain, other = (
        encode(make_rule(1), make_delta(), None),
        encode(make_rule(1), make_delta(), make_delta(1)),
    )
    assert all(np.array_equal(plain.tensors[n], other.tensors[n]) for n in SHAPES)


@pytest.mark.parametrize("size", [0.02, 5.0], ids=["within range", "saturating"])
def test_what_is_sent_and_what_is_left_make_what_was_learnt(size: float) -> None:
    rule, learnt, before = make_rule(), make_delta(0, size), make_delta(1, size)
    sent = encode(rule, learnt, before)
    assert sent.residual is not None
    assert (sent.num_saturated > 0) == (size > 1)
    wanted = fixedpoint.clip({n: learnt[n] + before[n] for n in SHAPES}, rule.clip_norm)
    told = said(rule, sent.tensors)
    for name in SHAPES:
        assert sent.residual[name].dtype == np.float32
        np.testing.assert_allclose(told[name] + sent.residual[name], wanted[name], rtol=1e-6)


def test_a_pass_of_parts_says_everything_within_a_step() -> None:
    """Nothing is learnt after the first round: all of it arrives, but for rounding."""
    learnt, total = make_delta(), {n: np.zeros(s) for n, s in SHAPES.items()}
    residual = None
    for part in range(4):
        rule = make_rule(4, part)
        delta = learnt if part == 0 else {n: np.zeros(s) for n, s in SHAPES.items()}
        sent = encode(rule, delta, residual)
        residual, told = sent.residual, said(rule, sent.tensors)
        total = {n: total[n] + told[n] for n in SHAPES}
    for name in SHAPES:
        assert np.abs(total[name] - learnt[name]).max() <= 2.0 ** EXPONENTS[name] / 2 + 1e-6


def test_a_residual_does_not_outgrow_the_clip_norm() -> None:
    rule, residual = make_rule(64, clip_norm=1.0), None
    for seed in range(30):
        residual = encode(rule, make_delta(seed, 3.0), residual).residual
        assert residual is not None
        assert fixedpoint.l2_norm(residual) <= 1.0 + 0.1
    sent = encode(rule, make_delta(99, 3.0), residual)
    values = fixedpoint.dequantize(parts.from_wire(rule, SHAPES, sent.tensors), EXPONENTS)
    assert fixedpoint.l2_norm(values) <= fixedpoint.norm_limit(values, EXPONENTS, 1.0)


def test_refuses_a_residual_of_another_model() -> None:
    with pytest.raises(ContractError, match="another model"):
        encode(make_rule(), make_delta(), {"big": np.zeros(3, np.float32)})

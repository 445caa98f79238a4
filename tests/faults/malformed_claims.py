"""Well-formed messages that say what cannot be: identity, round, base, shapes, norm, counts."""

from __future__ import annotations

import math

import numpy as np

from common import fixedpoint, parts
from tests.faults.hostile import Case, kind

UPDATE, EVALUATION = ("update",), ("evaluation",)
LARGEST = (1 << 63) - 1


def made(case: Case, **header: object) -> bytes:
    """The valid message but for some header fields."""
    return case.target.message(case.device, case.subject, **header)


@kind("wrong_identity")
def identity_of_another(case: Case) -> bytes:
    return case.target.valid(case.other(), case.subject)


@kind("wrong_identity")
def identity_of_nobody(case: Case) -> bytes:
    return case.target.message(f"ghost-{case.rng.randrange(100)}", case.subject)


@kind("wrong_identity")
def another_hospital(case: Case) -> bytes:
    return made(case, hospital="elsewhere")


@kind("wrong_identity")
def another_region(case: Case) -> bytes:
    return made(case, region="elsewhere")


@kind("wrong_round")
def another_round(case: Case) -> bytes:
    step = case.rng.choice((1, 2, 1000, (1 << 53) - case.target.spec.round_id))
    base = case.target.foreign_digest(case.rng)
    also = {"base_digest": base} if case.subject == "update" else {}
    return made(case, round_id=case.target.spec.round_id + step, **also)


@kind("wrong_base")
def another_base(case: Case) -> bytes:
    digest = case.target.foreign_digest(case.rng)
    if case.subject == "update":
        return made(case, base_digest=digest)
    models = case.rng.choice(((), (digest,), (*case.target.spec.evaluate, digest)))
    return made(case, models=models, num_examples=3)  # or else it says what is stored already


@kind("not_finite", subjects=UPDATE)
def floats_that_are_not_finite(case: Case) -> bytes:
    dtype = case.rng.choice((np.float32, np.float64))
    tensors = {name: np.ones_like(t, dtype) for name, t in case.target.integers.items()}
    name = case.rng.choice(sorted(tensors))
    tensors[name].flat[0] = case.rng.choice((math.nan, math.inf, -math.inf))
    return case.target.update(case.device, tensors)


@kind("wrong_shape", subjects=UPDATE)
def other_dtype(case: Case) -> bytes:
    own = fixedpoint.DTYPES[case.target.spec.fixed_point.bits]
    others = [t for t in (np.float32, np.float64, np.int8, np.int16, np.int64) if t != own]
    dtype = case.rng.choice(others)
    return case.target.update(
        case.device, {name: t.astype(dtype) for name, t in case.target.integers.items()}
    )


@kind("wrong_shape", subjects=UPDATE)
def other_shape(case: Case) -> bytes:
    tensors = dict(case.target.integers)
    name = case.rng.choice(sorted(tensors))
    whole = tensors[name]
    tensors[name] = case.rng.choice((whole.ravel()[:-1], whole[None], whole.ravel()[:0]))
    return case.target.update(case.device, tensors)


@kind("wrong_shape", subjects=UPDATE)
def other_names(case: Case) -> bytes:
    tensors = dict(case.target.integers)
    name = case.rng.choice(sorted(tensors))
    moved = tensors.pop(name)
    new = case.rng.choice((None, f"{name}x", "", f"update/{name}", name.upper()))
    return case.target.update(case.device, tensors if new is None else tensors | {new: moved})


@kind("wrong_shape", subjects=UPDATE)
def no_tensors(case: Case) -> bytes:
    return case.target.update(case.device, {})


@kind("norm", "out_of_range", subjects=UPDATE)
def norm_far_above_the_limit(case: Case) -> bytes:
    tensors = {
        name: np.full_like(t, case.rng.choice((np.iinfo(t.dtype).max, np.iinfo(t.dtype).min)))
        for name, t in case.target.integers.items()
    }
    return case.target.update(case.device, tensors)


@kind("out_of_range", subjects=UPDATE)
def integer_below_the_symmetric_range(case: Case) -> bytes:
    tensors = dict(case.target.integers)
    name = case.rng.choice(sorted(tensors))
    tensors[name] = tensors[name].copy()
    tensors[name].flat[case.rng.randrange(tensors[name].size)] = np.iinfo(tensors[name].dtype).min
    return case.target.update(case.device, tensors)


@kind("norm", subjects=UPDATE)
def norm_just_above_the_limit(case: Case) -> bytes:
    """The first update above the limit: one coordinate after another at the largest, then a step."""
    rule = case.target.spec.fixed_point
    tensors = {name: np.zeros_like(t) for name, t in case.target.integers.items()}
    named = parts.from_wire(rule, case.target.shapes, tensors)  # views
    limit = fixedpoint.norm_limit(named, rule.exponents, rule.clip_norm)
    name = case.rng.choice([name for name in sorted(named) if named[name].size > 256])
    steps = math.ldexp(limit, -rule.exponents[name])
    left = math.floor(steps * steps) + 1
    flat, top = named[name].ravel(), fixedpoint.largest(rule.bits)
    for place in range(flat.size):
        flat[place] = min(top, math.isqrt(left))
        left -= int(flat[place]) ** 2
    flat[-1] += left > 0
    return case.target.update(case.device, tensors)


@kind("impossible_counts", subjects=UPDATE)
def more_saturated_than_there_are(case: Case) -> bytes:
    num = sum(t.size for t in case.target.integers.values())
    return made(case, num_saturated=case.rng.choice((num + 1, 1 << 53)), num_examples=6)


@kind("conflicting_duplicate", subjects=UPDATE)
def second_update(case: Case) -> bytes:
    tensors = dict(case.target.integers)
    name = case.rng.choice(sorted(tensors))
    tensors[name] = tensors[name] + np.ones((), tensors[name].dtype)
    return case.target.update(case.device, tensors)


@kind("conflicting_duplicate")
def other_number_of_examples(case: Case) -> bytes:
    return made(case, num_examples=case.rng.randrange(100, 200))


@kind("impossible_counts", subjects=EVALUATION)
def counts_that_cannot_be(case: Case) -> bytes:
    tensors = {name: t.copy() for name, t in case.target.counts.items()}
    flat = tensors[case.rng.choice([n for n in sorted(tensors) if tensors[n].size > 2])].ravel()
    wrap = LARGEST, LARGEST, 2  # which adds up to 0 in 64 bits
    bad = case.rng.choice(((-1,), (-LARGEST - 1,), (LARGEST,), wrap, (4 * 64 + 1,), (5, -5)))
    flat[: len(bad)] = bad
    return case.target.evaluation(case.device, tensors)


@kind("impossible_counts", subjects=EVALUATION)
def more_examples_than_a_life_has(case: Case) -> bytes:
    return made(case, num_examples=case.rng.choice((10_000_001, 1 << 53)))


@kind("impossible_counts", subjects=EVALUATION)
def counts_of_no_examples(case: Case) -> bytes:
    tensors = {name: np.ones_like(t) for name, t in case.target.counts.items()}
    return case.target.evaluation(case.device, tensors, num_examples=0)


@kind("not_finite", "wrong_shape", subjects=EVALUATION)
def counts_of_other_dtype(case: Case) -> bytes:
    dtype = case.rng.choice((np.float64, np.float32, np.int16))
    tensors = {name: t.astype(dtype) for name, t in case.target.counts.items()}
    if dtype == np.float64:
        tensors[sorted(tensors)[0]].flat[0] = math.nan
    return case.target.evaluation(case.device, tensors)


@kind("wrong_shape", subjects=EVALUATION)
def counts_of_other_shape(case: Case) -> bytes:
    tensors = dict(case.target.counts)
    name = case.rng.choice(sorted(tensors))
    tensors[name] = case.rng.choice((tensors[name].ravel()[:0], tensors[name][None]))
    return case.target.evaluation(case.device, tensors)


@kind("wrong_shape", subjects=EVALUATION)
def counts_under_other_names(case: Case) -> bytes:
    tensors = dict(case.target.counts)
    moved = tensors.pop(case.rng.choice(sorted(tensors)))
    name = f"{case.target.foreign_digest(case.rng)}/confusion"
    return case.target.evaluation(case.device, case.rng.choice((tensors, tensors | {name: moved})))

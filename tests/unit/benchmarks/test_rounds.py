"""The rounds benchmark: what counts as equal learning, and what is taken from the marks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

from benchmarks import process_memory, rounds_document
from benchmarks.rounds_learning import Lesson, bound, compare, flat, named
from benchmarks.rounds_trail import Trail, medians, spread
from common.messages import FixedPoint, LocalRule, RoundSpec, ServerRule

INITIAL = {
    "b": np.array([0.5, -0.25], np.float32),
    "a": np.array([[1.0], [2.0], [-1.0]], np.float32),
}
STEP = 2.0**-12


def make_lesson(num_rounds: int = 2, num_hospitals: int = 3) -> Lesson:
    rng = np.random.default_rng(1)
    updates = rng.normal(0, 0.01, (num_rounds, num_hospitals, 5)).astype(np.float32)
    averages = [flat(INITIAL).astype(np.float64)]
    for update in updates:
        averages.append(averages[-1] + update.astype(np.float64).mean(axis=0))
    return Lesson(INITIAL, updates, np.asarray(averages))


def make_spec(round_id: int) -> RoundSpec:
    digest = "0" * 64
    return RoundSpec(
        region="county",
        day=1,
        cycle=1,
        round_id=round_id,
        task="beats",
        base_digest=digest,
        state_digest=digest,
        server=ServerRule(),
        local=LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        fixed_point=FixedPoint(clip_norm=5.0, exponents={"a": -12, "b": -12}),
        locations={digest: "county/ring/000000/x.safetensors"},
        opened_at=0.0,
        closes_at=1.0,
    )


def models_off_by(lesson: Lesson, gap: float) -> tuple[dict[int, Any], dict[int, Any]]:
    flower = {r + 1: average for r, average in enumerate(lesson.averages)}
    ours = {r: named((average + gap).astype(np.float32), INITIAL) for r, average in flower.items()}
    return ours, flower


@pytest.mark.parametrize(("gap", "within"), [(0.4 * STEP, True), (0.6 * STEP, False)])
def test_learning_is_equal_within_half_a_step_a_round(gap: float, within: bool) -> None:
    lesson = make_lesson(num_rounds=1)
    ours, flower = models_off_by(lesson, gap)
    equal = compare(ours, flower, [make_spec(1)], lesson)
    assert equal["within_bound"] is within
    assert equal["largest_difference_ours_flower"] == pytest.approx(gap, rel=1e-3)


def test_a_round_that_left_a_hospital_out_is_not_equal_learning() -> None:
    lesson = make_lesson(num_rounds=2)
    ours, flower = models_off_by(lesson, 0.0)
    lacking = lesson.averages[1] + lesson.updates[1, :2].astype(np.float64).mean(axis=0)
    ours[3] = named(lacking.astype(np.float32), INITIAL)
    assert not compare(ours, flower, [make_spec(1), make_spec(2)], lesson)["within_bound"]


def test_what_saturates_is_part_of_the_bound() -> None:
    lesson = make_lesson(num_rounds=1)
    spec = make_spec(1)
    fine = spec.fixed_point.model_copy(update={"exponents": {"a": -22, "b": -22}})
    narrow = spec.model_copy(update={"fixed_point": fine})
    lost = np.maximum(np.abs(lesson.updates[0].astype(np.float64)) - 32767 * 2.0**-22, 0)
    assert lost.any()
    assert (bound([narrow], lesson) >= lost.mean(axis=0)).all()
    assert (bound([narrow], lesson) < lost.mean(axis=0) + 1e-5).all()


def test_named_is_the_inverse_of_flat() -> None:
    back = named(flat(INITIAL), INITIAL)
    assert all((back[name] == INITIAL[name]).all() for name in INITIAL)


def test_overhead_runs_from_the_last_update_to_the_last_next_model() -> None:
    trail = Trail()
    for at in (1.0, 3.0):
        trail.mark("published", 1, at)
    for at in (3.5, 4.25):
        trail.mark("model", 2, at)
    assert rounds_document.overheads(trail, [1])["all"] == [1.25]


def test_bytes_of_the_first_round_are_not_counted() -> None:
    assert rounds_document.bytes_per_round({1: 0, 2: 1000, 3: 1100, 4: 1200}) == 100


def test_medians_and_spread() -> None:
    assert medians([{"a": 1.0}, {"a": 3.0}, {"a": 2.0}]) == {"a": 2.0}
    assert spread([2.0, 1.0, 9.0]) == {
        "median": 2.0,
        "least": 1.0,
        "largest": 9.0,
        "all": [2, 1, 9],
    }


def test_memory_of_this_session_holds_this_process() -> None:
    sizes = process_memory.of_sessions([os.getsid(0)])
    assert sizes["rss_mib"] >= sizes["pss_mib"] > 10

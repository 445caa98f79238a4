from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from common.ecg.beats import INPUT_SHAPES
from common.ecg.rr import rhythm_sequence, rr_features
from common.errors import ConfigError
from common.tasks.task import Examples
from simulators import rhythm
from simulators.rhythm import KINDS, RhythmRecord, public_examples, simulate
from simulators.rhythm_ectopy import N, S, V

SHA256 = """
import hashlib
from simulators.rhythm import public_examples
e = public_examples(5, num_records=12, num_beats=60)
print(hashlib.sha256(b"".join(
    a.tobytes() for a in (e.inputs["rr"], e.inputs["rhythm"], e.labels))).hexdigest())
"""


def make_record(seed: int = 0, num_beats: int = 50, kind: str | None = None) -> RhythmRecord:
    return simulate(np.random.default_rng(seed), num_beats, kind)


def make_examples(seed: int = 5, num_records: int = 12, num_beats: int = 60) -> Examples:
    return public_examples(seed, num_records, num_beats)


def digest(examples: Examples) -> str:
    arrays = (examples.inputs["rr"], examples.inputs["rhythm"], examples.labels)
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_record(kind: str) -> None:
    first, again = make_record(kind=kind), make_record(kind=kind)
    np.testing.assert_array_equal(first.r_s, again.r_s)
    np.testing.assert_array_equal(first.labels, again.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_makes_another_record(kind: str) -> None:
    assert (make_record(0, kind=kind).r_s != make_record(1, kind=kind).r_s).any()


def test_a_record_names_its_kind_and_types() -> None:
    record = make_record(kind="af")
    assert record.kind == "af"
    assert record.r_s.dtype == np.float64
    assert record.labels.dtype == np.int64


def test_kinds_are_drawn_by_their_weights() -> None:
    kinds = [make_record(seed, num_beats=2).kind for seed in range(3000)]
    for kind, weight in KINDS.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(weight, abs=0.025)
    assert sum(KINDS.values()) == pytest.approx(1)


def test_own_weights_replace_the_table() -> None:
    rng = np.random.default_rng(0)
    drawn = {simulate(rng, 2, weights={"af": 3, "block": 1, "sinus": 0}).kind for _ in range(60)}
    assert drawn == {"af", "block"}


def test_intervals_beyond_the_bounds_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rhythm, "INTERVAL_RANGE_S", (0.6, 0.9))  # the true ones are hardly met
    intervals_s = np.diff(make_record(kind="af").r_s)
    assert intervals_s.min() == pytest.approx(0.6)
    assert intervals_s.max() == pytest.approx(0.9)


@pytest.mark.parametrize("num_beats", [-1, 0, 1])
def test_a_rhythm_needs_two_beats(num_beats: int) -> None:
    with pytest.raises(ConfigError, match="at least 2 beats"):
        make_record(num_beats=num_beats)
    with pytest.raises(ConfigError, match="at least 2 beats"):
        make_examples(num_beats=num_beats)


def test_an_unknown_kind_is_refused_and_the_known_ones_named() -> None:
    with pytest.raises(ConfigError, match=r"'vfib' is no kind of rhythm: use sinus, .*block"):
        make_record(kind="vfib")


@pytest.mark.parametrize(
    "weights", [{}, {"af": 0.0}, {"af": -1.0, "sinus": 2.0}, {"af": np.nan}, {"vfib": 1.0}]
)
def test_weights_that_cannot_be_drawn_from_are_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="weights of kinds must be finite"):
        simulate(np.random.default_rng(0), 10, weights=weights)


@pytest.mark.parametrize(("seed", "num_records"), [(-1, 3), (0, 0)])
def test_public_examples_refuse_a_negative_seed_or_no_record(seed: int, num_records: int) -> None:
    with pytest.raises(ConfigError, match="seed >= 0 and a record"):
        public_examples(seed, num_records)


def test_public_examples_have_the_inputs_of_the_beat_task() -> None:
    examples = make_examples()
    assert {name: rows.shape[1:] for name, rows in examples.inputs.items()} == dict(INPUT_SHAPES)
    assert all(rows.dtype == np.float32 for rows in examples.inputs.values())
    assert examples.labels.dtype == np.int64
    assert all(np.isfinite(rows).all() for rows in examples.inputs.values())


def test_public_examples_hold_no_ecg_and_no_memory_for_it() -> None:
    beat_mv = make_examples().inputs["beat_mv"]
    assert not beat_mv.any()
    assert set(beat_mv.strides) == {0}


def test_v_beats_are_left_out_and_still_shape_their_neighbours() -> None:
    examples = make_examples(num_records=12)
    records = [simulate(np.random.default_rng([5, i]), 60) for i in range(12)]
    kept = [record.labels != V for record in records]
    assert not all(mask.all() for mask in kept)
    for name, describe in (("rr", rr_features), ("rhythm", rhythm_sequence)):
        expected = [describe(r.r_s)[mask] for r, mask in zip(records, kept, strict=True)]
        np.testing.assert_array_equal(examples.inputs[name], np.concatenate(expected))
    assert set(examples.labels) == {N, S}


def test_public_examples_are_made_once_and_cannot_be_changed() -> None:
    examples = make_examples()
    assert make_examples() is examples
    assert not examples.labels.flags.writeable
    for array in examples.inputs.values():
        assert not array.flags.writeable


def test_public_examples_differ_by_seed() -> None:
    assert digest(make_examples(seed=5)) != digest(make_examples(seed=6))


def test_more_records_begin_with_the_same_ones() -> None:
    few, many = make_examples(num_records=4), make_examples(num_records=12)
    np.testing.assert_array_equal(many.inputs["rr"][: len(few)], few.inputs["rr"])


def test_another_process_makes_the_same_bytes() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SHA256], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == digest(make_examples())

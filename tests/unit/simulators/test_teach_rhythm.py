from __future__ import annotations

import numpy as np
import pytest

from common.tasks.beats import BeatTask
from common.tasks.rhythm_start import rhythm_start
from common.tasks.task import Parameters, score
from simulators import rhythm, teach_rhythm

FRESH = 999  # a seed of simulated rhythms that nobody was taught


def s_f1(rhythm_branch: Parameters) -> float:
    """F1 of S among fresh simulated beats, at the threshold where it is greatest."""
    task = BeatTask()
    beats = rhythm.public_examples(FRESH, num_records=60)
    inputs = {name: rows.copy() for name, rows in beats.inputs.items()}  # torch wants to write
    scores = score(task, {**task.initial(1, simulated=False), **rhythm_branch}, inputs)
    odds = scores[:, 1] / (scores[:, 0] + scores[:, 1])
    found, is_s = np.sort(odds)[::-100], beats.labels == 1
    hits = [(is_s & (odds >= t)).sum() / ((odds >= t).sum() + is_s.sum()) for t in found]
    return float(2 * max(hits))


def test_the_kept_start_has_the_branchs_parameters_and_no_other() -> None:
    untaught = BeatTask().initial(0, simulated=False)
    branch = {k: v.shape for k, v in untaught.items() if k.startswith(teach_rhythm.BRANCH)}
    assert {k: v.shape for k, v in rhythm_start().items()} == branch
    assert all(np.isfinite(v).all() for v in rhythm_start().values())


def test_a_region_starts_from_it_unless_it_does_without_simulated_rhythms() -> None:
    task = BeatTask()
    with_it, without = task.initial(3), task.initial(3, simulated=False)
    same = {name for name in with_it if np.array_equal(with_it[name], without[name])}
    assert same == {name for name in with_it if not name.startswith(teach_rhythm.BRANCH)}


def test_callers_cannot_change_the_start_of_others() -> None:
    for value in rhythm_start().values():
        value[...] = 0
    assert any(value.any() for value in rhythm_start().values())


def test_it_knows_rhythms_it_was_not_taught() -> None:
    untaught = BeatTask().initial(1, simulated=False)
    assert s_f1(rhythm_start()) > 0.75 > 0.5 > s_f1(untaught)


@pytest.mark.slow
def test_teaching_again_gives_a_start_as_good() -> None:
    assert s_f1(teach_rhythm.taught()) == pytest.approx(s_f1(rhythm_start()), abs=0.02)

"""What a wristband knows while it listens is what a server knows afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from common.ecg.beats import AFTER, PreparedBeats, prepare
from common.ecg.filters import FILTER_DELAY_S, MODEL_FS_HZ
from common.ecg.peaks import REACH
from common.ecg.quality import AHEAD_S
from common.ecg.records import Record, read_record
from common.ecg.rr import LOOK_AHEAD_BEATS
from common.ecg.synthetic import synthesize
from tests.real_data import mitdb_root

BEAT_DELAY_S = FILTER_DELAY_S + (REACH + AFTER) / MODEL_FS_HZ
SETTLED_S = 5.0  # within this of its end a strip may still change its mind about detected peaks


def assert_same_inputs(early: PreparedBeats, whole: PreparedBeats, known: int) -> None:
    assert known > 20
    np.testing.assert_array_equal(early.r_idx[:known], whole.r_idx[:known])
    for name, rows in whole.inputs.items():
        np.testing.assert_allclose(
            early.inputs[name][:known], rows[:known], atol=1e-5, err_msg=name
        )


def num_known(r_idx: NDArray[np.int64], fs_hz: float, end_s: float) -> int:
    """Beats of which all that their rows depend on lies before `end_s`."""
    return int(np.searchsorted(r_idx, end_s * fs_hz)) - LOOK_AHEAD_BEATS


def prepared_until(record: Record, end_s: float) -> PreparedBeats:
    end = int(end_s * record.fs_hz)
    return prepare(record.ecg_mv[:end], record.fs_hz, record.r_idx[record.r_idx < end])


def with_gap(record: Record) -> Record:
    ecg_mv = record.ecg_mv.copy()
    ecg_mv[int(50 * record.fs_hz) : int(58.3 * record.fs_hz)] = -5.0
    return Record(
        record.name, ecg_mv, record.fs_hz, record.lead, record.r_idx, record.symbols, record.source
    )


@pytest.mark.parametrize("end_s", [45.2, 57.0, 90.9, 301.7])
@pytest.mark.parametrize("name", ["syn03", "syn06", "syn08"])
def test_a_row_of_an_annotated_beat_is_known_once_its_stated_look_ahead_is(
    name: str, end_s: float
) -> None:
    record = with_gap(synthesize(name, duration_s=420))
    whole = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    early = prepared_until(record, end_s)
    known = num_known(early.r_idx, record.fs_hz, end_s - BEAT_DELAY_S)
    assert_same_inputs(early, whole, known)


@pytest.mark.parametrize("end_s", [45.2, 90.9, 301.7])
@pytest.mark.parametrize("name", ["syn03", "syn06", "syn08"])
def test_a_row_of_a_detected_beat_is_known_soon_after(name: str, end_s: float) -> None:
    record = with_gap(synthesize(name, duration_s=420))
    whole = prepare(record.ecg_mv, record.fs_hz)
    early = prepare(record.ecg_mv[: int(end_s * record.fs_hz)], record.fs_hz)
    known = num_known(early.r_idx, record.fs_hz, end_s - SETTLED_S)
    assert_same_inputs(early, whole, known)


@pytest.mark.parametrize("name", ["106", "119", "207", "230"])
def test_rows_of_a_real_record_are_known_early(name: str) -> None:
    record = read_record(mitdb_root(), name)
    whole = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    detected = prepare(record.ecg_mv, record.fs_hz)
    for end_s in (60.0, 300.0, 901.7):
        early = prepared_until(record, end_s)
        known = num_known(early.r_idx, record.fs_hz, end_s - BEAT_DELAY_S)
        assert_same_inputs(early, whole, known)
        early = prepare(record.ecg_mv[: int(end_s * record.fs_hz)], record.fs_hz)
        known = num_known(early.r_idx, record.fs_hz, end_s - SETTLED_S)
        assert_same_inputs(early, detected, known)


def test_a_second_is_judged_once_its_stated_look_ahead_is_known() -> None:
    record = with_gap(synthesize("syn05", duration_s=200))
    whole = prepare(record.ecg_mv, record.fs_hz, record.r_idx)
    for end_s in (40, 55, 100):
        early = prepared_until(record, end_s).readable_seconds
        known = end_s - AHEAD_S
        assert early[:known].tolist() == whole.readable_seconds[:known].tolist()

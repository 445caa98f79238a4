from __future__ import annotations

import numpy as np
import pytest

from common.ecg.beats import INPUT_SHAPES
from common.ecg.records import Record, read_record
from common.errors import ContractError, SignalError
from common.tasks.task import Examples
from simulators.patients import split_last_fifth, wearer
from tests.real_data import mitdb_root


def make_record(symbols: str = "NNVNANNNNN", height_mv: float = 1.0) -> Record:
    fs_hz = 360.0
    r_idx = (180 + 288 * np.arange(len(symbols))).astype(np.int64)
    time = np.arange(288 * (len(symbols) + 1))[:, None]
    ecg_mv = height_mv * np.exp(-0.5 * ((time - r_idx) / 4) ** 2).sum(axis=1)
    return Record(
        "syn01", ecg_mv.astype(np.float32), fs_hz, "MLII", r_idx, tuple(symbols), "synthetic"
    )


def test_every_reference_beat_becomes_one_labelled_example() -> None:
    examples = wearer(make_record("NNVNAFNN/N"))
    assert examples.labels.tolist() == [0, 0, 2, 0, 1, 3, 0, 0, 4, 0]
    assert set(examples.inputs) == set(INPUT_SHAPES)


def test_an_unusable_record_is_an_error() -> None:
    with pytest.raises(SignalError, match="flat"):
        wearer(make_record(height_mv=0.0))
    with pytest.raises(ContractError, match="not a WFDB beat"):
        wearer(make_record("NNN+NN"))


@pytest.mark.parametrize(
    ("num", "num_held_out"), [(0, 0), (1, 0), (4, 0), (5, 1), (11, 2), (100, 20)]
)
def test_the_last_fifth_in_time_is_held_out(num: int, num_held_out: int) -> None:
    examples = Examples({"x": np.arange(num, dtype=np.float32)}, np.zeros(num, dtype=np.int64))
    train, held_out = split_last_fifth(examples)
    assert len(held_out) == num_held_out
    joined = np.concatenate([train.inputs["x"], held_out.inputs["x"]])
    np.testing.assert_array_equal(joined, np.arange(num))


def test_a_real_record_gives_its_known_beats() -> None:
    examples = wearer(read_record(mitdb_root(), "100"))
    assert len(examples) == 2273
    assert np.bincount(examples.labels, minlength=5).tolist() == [2239, 33, 1, 0, 0]

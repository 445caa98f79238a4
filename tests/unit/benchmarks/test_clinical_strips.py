from __future__ import annotations

import numpy as np

from benchmarks.clinical_strips import LENGTH_S, N, S, V, examples
from common.ecg.records import Record

FS_HZ = 100.0


def make_record(name: str, num_beats: int = 60) -> Record:
    r_idx = np.arange(num_beats) * 100 + 50
    ecg_mv = np.zeros(num_beats * 100, dtype=np.float32)
    return Record(name, ecg_mv, FS_HZ, "MLII", r_idx, ("N",) * num_beats, "synthetic")


def answered(labels: list[int], said: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(5, dtype=np.float32)[said], np.array(labels, dtype=np.int64)


def test_each_kind_is_shown_where_it_is_densest_and_no_record_twice() -> None:
    plain = [N] * 60
    right = answered([N] * 40 + [V] * 5 + [N] * 15, [N] * 40 + [V] * 5 + [N] * 15)
    missed = answered([S] * 3 + plain[3:], plain)
    shown = examples({"a": right, "b": missed, "c": answered(plain, plain)}, make_record)
    assert [strip["record"] for strip in shown] == ["a", "b"]
    assert shown[0]["said"].count("V") == 5
    assert shown[1]["reference"].count("S") == 3
    assert "S" not in shown[1]["said"]


def test_a_strip_keeps_to_its_ten_seconds() -> None:
    labels = [N] * 58 + [V] * 2
    (strip,) = examples({"a": answered(labels, labels)}, make_record)
    assert len(strip["ecg_mv"]) == LENGTH_S * FS_HZ
    assert strip["start_s"] == 50.0
    assert len(strip["r_idx"]) == len(strip["said"]) == len(strip["confidences"]) == 10
    assert ((strip["r_idx"] >= 0) & (strip["r_idx"] < len(strip["ecg_mv"]))).all()


def test_nothing_is_shown_of_what_did_not_occur() -> None:
    assert examples({"a": answered([N] * 60, [N] * 60)}, make_record) == []

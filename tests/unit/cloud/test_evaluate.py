"""Figures from confusion counts."""

from __future__ import annotations

import json

import numpy as np

from cloud.evaluate import evaluate
from common.ecg.labels import AAMI


def make_confusion(**num_by_class: int) -> np.ndarray:
    return np.diag([num_by_class.get(label, 0) for label in AAMI])


def test_beats_are_scored_over_n_s_and_v_only() -> None:
    evaluation = evaluate("beats", AAMI, make_confusion(N=50, S=50, V=50, F=50, Q=50))
    assert evaluation.scored == ("N", "S", "V")


def test_class_with_few_examples_is_left_out_of_macro_f1() -> None:
    confusion = make_confusion(N=50, V=50)
    confusion[1, 0] = 19  # S, all of them said to be N
    evaluation = evaluate("beats", AAMI, confusion, min_class_examples=20)
    assert evaluation.scored == ("N", "V")


def test_figures_equal_those_by_hand() -> None:
    evaluation = evaluate("dummy", ("low", "high"), np.array([[6, 2], [1, 3]]))
    assert evaluation.accuracy == 9 / 12
    assert evaluation.macro_f1 == (2 * 6 / 15 + 2 * 3 / 9) / 2


def test_no_examples_give_no_figures() -> None:
    evaluation = evaluate("beats", AAMI, make_confusion())
    assert (evaluation.accuracy, evaluation.macro_f1) == (None, None)


def test_survives_json() -> None:
    document = evaluate("beats", AAMI, make_confusion(N=3)).to_dict()
    assert json.loads(json.dumps(document)) == document

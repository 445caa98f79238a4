"""Rules of a release, each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from cloud.config import GateRules
from cloud.evaluate import Evaluation, evaluate
from cloud.gate import decide, refusal

RULES = GateRules(
    min_examples=100, min_devices=3, min_accuracy=0.8, min_macro_f1=0.7, max_loss=0.02
)


def make_evaluation(num_right: int = 95, num_wrong: int = 5) -> Evaluation:
    """Two classes of `num_right` + `num_wrong` examples each."""
    confusion = np.array([[num_right, num_wrong], [num_wrong, num_right]])
    return evaluate("dummy", ("low", "high"), confusion)


def failed(
    candidate: Evaluation, in_service: Evaluation | None = None, num_devices: int = 3
) -> list[str]:
    decision = decide(candidate, in_service, num_devices, RULES)
    return [check.rule for check in decision.checks if not check.passed]


def test_good_model_is_released() -> None:
    decision = decide(make_evaluation(), None, 3, RULES)
    assert decision.released
    assert decision.rule == "all 5 rules hold"


def test_rule_names_the_first_that_fails_with_its_sentence() -> None:
    decision = decide(make_evaluation(), None, 2, RULES)
    assert decision.rule == "enough_devices: 2 wristbands evaluated it; at least 3 are needed."


def test_too_few_examples_are_refused() -> None:
    assert failed(make_evaluation(num_right=49, num_wrong=0)) == ["enough_examples"]


def test_nothing_evaluated_is_refused_without_a_figure() -> None:
    assert failed(make_evaluation(0, 0)) == ["enough_examples", "accuracy_floor", "macro_f1_floor"]


@pytest.mark.parametrize(("num_right", "expected"), [(80, []), (79, ["accuracy_floor"])])
def test_accuracy_floor_is_inclusive(num_right: int, expected: list[str]) -> None:
    assert failed(make_evaluation(num_right, 100 - num_right)) == expected


@pytest.mark.parametrize(
    ("num_right", "expected"),
    [(99, []), (94, []), (92, ["not_worse_accuracy", "not_worse_macro_f1"])],
)
def test_model_may_lose_a_margin_to_the_one_in_service(num_right: int, expected: list[str]) -> None:
    in_service = make_evaluation(95, 5)
    assert failed(make_evaluation(num_right, 100 - num_right), in_service) == expected


def test_models_must_be_compared_on_the_same_examples() -> None:
    assert failed(make_evaluation(95, 5), make_evaluation(94, 5)) == ["same_examples"]


def test_majority_class_alone_does_not_pass_macro_f1() -> None:
    evaluation = evaluate("dummy", ("low", "high"), np.array([[900, 0], [100, 0]]))
    assert failed(evaluation) == ["macro_f1_floor"]


def test_refusal_sentence_is_cut_to_what_a_notice_may_hold() -> None:
    assert len(refusal("export", "x" * 9999).rule) == 500

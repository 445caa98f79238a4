"""Whether a sealed model may be released: rules with names, on wristbands' evaluations alone.

DS2 cannot get in here: a `Decision` is a function of sums over wristbands and of thresholds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from cloud.config import GateRules
from cloud.evaluate import Evaluation, evaluate
from cloud.verify import Counts, Sealed


@dataclass(frozen=True)
class Check:
    """One rule, and a sentence that says how it came out."""

    rule: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Decision:
    """What all rules say together."""

    checks: tuple[Check, ...]

    @property
    def released(self) -> bool:
        """Whether every rule holds."""
        return all(check.passed for check in self.checks)

    @property
    def rule(self) -> str:
        """The first rule that fails with its sentence, or that all hold; at most 500 characters."""
        for check in self.checks:
            if not check.passed:
                return f"{check.rule}: {check.sentence}"[:500]
        return f"all {len(self.checks)} rules hold"


@dataclass(frozen=True)
class Judgement:
    """A decision with the evaluations that it stands on."""

    decision: Decision
    candidate: Evaluation
    in_service: Evaluation | None

    def to_dict(self) -> dict[str, Any]:
        """Evaluations and checks as plain JSON values."""
        return {
            "candidate": self.candidate.to_dict(),
            "in_service": self.in_service.to_dict() if self.in_service else None,
            "checks": [asdict(check) for check in self.decision.checks],
        }


def judge(sealed: Sealed, rules: GateRules) -> Judgement:
    """Evaluate a sealed model, and the one in service, and decide."""

    def evaluated(counts: Counts) -> Evaluation:
        return evaluate(
            sealed.task.name, sealed.task.labels, counts["confusion"], rules.min_class_examples
        )

    candidate = evaluated(sealed.candidate)
    in_service = None if sealed.in_service is None else evaluated(sealed.in_service)
    decision = decide(candidate, in_service, sealed.header.num_evaluated_devices, rules)
    return Judgement(decision, candidate, in_service)


def decide(
    candidate: Evaluation, in_service: Evaluation | None, num_devices: int, rules: GateRules
) -> Decision:
    """Apply every rule.

    Parameters
    ----------
    candidate, in_service : Evaluation
        The sealed model and the one in service, on the same held-out examples.
    num_devices : int
        Wristbands that took part in the evaluation.
    rules : GateRules
        Thresholds.
    """
    return Decision(
        (
            _at_least("enough_devices", "wristbands evaluated it", num_devices, rules.min_devices),
            _at_least(
                "enough_examples",
                "held-out examples were scored",
                candidate.num_examples,
                rules.min_examples,
            ),
            _floor("accuracy_floor", "accuracy", candidate.accuracy, rules.min_accuracy),
            _floor("macro_f1_floor", "macro-F1", candidate.macro_f1, rules.min_macro_f1),
            *_comparison(candidate, in_service, rules.max_loss),
        )
    )


def refusal(rule: str, sentence: str) -> Decision:
    """A decision against a model for a fault found before or after the gate."""
    return Decision((Check(rule, False, sentence),))


def _at_least(rule: str, what: str, number: int, floor: int) -> Check:
    return Check(rule, number >= floor, f"{number} {what}; at least {floor} are needed.")


def _floor(rule: str, what: str, value: float | None, floor: float) -> Check:
    if value is None:
        return Check(rule, False, f"{what} is unknown: no class has enough examples.")
    return Check(rule, value >= floor, f"{what} is {value:.4f}; at least {floor:.4f} is needed.")


def _comparison(
    candidate: Evaluation, in_service: Evaluation | None, max_loss: float
) -> tuple[Check, ...]:
    if in_service is None:
        return (Check("not_worse", True, "No model in service was evaluated beside it."),)
    same = candidate.num_examples == in_service.num_examples
    return (
        Check(
            "same_examples",
            same,
            f"Scored on {candidate.num_examples} examples, the model in service on "
            f"{in_service.num_examples}.",
        ),
        _not_worse(
            "not_worse_accuracy", "accuracy", candidate.accuracy, in_service.accuracy, max_loss
        ),
        _not_worse(
            "not_worse_macro_f1", "macro-F1", candidate.macro_f1, in_service.macro_f1, max_loss
        ),
    )


def _not_worse(
    rule: str, what: str, value: float | None, reference: float | None, max_loss: float
) -> Check:
    if value is None or reference is None:
        return Check(rule, False, f"{what} is unknown for one of the two models.")
    return Check(
        rule,
        value >= reference - max_loss,
        f"{what} is {value:.4f}, of the model in service {reference:.4f}; "
        f"it may fall by {max_loss:.4f}.",
    )

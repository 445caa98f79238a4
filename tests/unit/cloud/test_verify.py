"""Checks of a sealed message that the region did sign."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cloud.verify import Envelope, check_sealed
from common.errors import ContractError
from tests.builders.sealed import GOOD, make_counts, make_header, make_tensors


def make_envelope(tensors: dict[str, Any] | None = None, **changed: Any) -> Envelope:
    return Envelope(make_header(GOOD, **changed), {**make_tensors(), **(tensors or {})}, "a" * 64)


def test_takes_a_message_apart() -> None:
    sealed = check_sealed(make_envelope())
    assert set(sealed.parameters) == {"weight", "bias"}
    assert sealed.candidate["confusion"].sum() == 2000
    assert sealed.in_service is None


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"extra": np.zeros(1, np.int64)}, "unknown kind"),
        ({"model/extra": np.zeros(1, np.float32)}, "other names or shapes"),
        ({"model/weight": np.zeros((2, 4))}, "float64, not float32"),
        ({"model/bias": np.array([0, np.inf], np.float32)}, "not finite"),
        ({"model/bias": np.ones(2, np.float32)}, "another digest"),
        ({"candidate/confusion": np.zeros((3, 3), np.int64)}, "other shapes"),
        ({"candidate/confusion": np.zeros((2, 2), np.float32)}, "no counts"),
        ({"candidate/confusion": np.full((2, 2), -5)}, "no counts"),
        ({"candidate/confusion": np.ones((2, 2), np.int64)}, "count different examples"),
        ({"in_service/confusion": np.zeros((2, 2), np.int64)}, "must come together"),
    ],
)
def test_names_the_fault(tensors: dict[str, Any], fault: str) -> None:
    with pytest.raises(ContractError, match=fault):
        check_sealed(make_envelope(tensors))


def test_missing_counts_of_the_model_in_service_are_a_fault() -> None:
    with pytest.raises(ContractError, match="must come together"):
        check_sealed(make_envelope(in_service_digest="b" * 64))


def test_counts_of_the_model_in_service_are_checked_too() -> None:
    tensors = make_tensors(in_service={"confusion": make_counts()["confusion"]})
    with pytest.raises(ContractError, match="other shapes"):
        check_sealed(make_envelope(tensors, in_service_digest="b" * 64))

from __future__ import annotations

import numpy as np
import pytest

from common import topics
from common.digest import bytes_digest
from common.messages import Reason
from edge import intake
from edge.intake import OpenRound, Received, Rejected, Station, Subject
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    REGION,
    ROSTER,
    SHAPES,
    SPARSE_SHAPES,
    STATION,
    make_evaluation,
    make_integers,
    make_part,
    make_sparse_spec,
    make_sparse_update,
    make_spec,
    make_update,
)


def judge(
    data: bytes,
    current: OpenRound | None = None,
    device: str = "band-a",
    subject: Subject = "update",
    station: Station = STATION,
) -> Reason | None:
    topic = topics.parse_device(topics.device(REGION, HOSPITAL, device, subject))
    assert topic is not None
    received = intake.read(data, topic, subject, station)
    if isinstance(received, Rejected):
        return received.reason
    return intake.check(received, current or open_round())


def open_round(**changes: object) -> OpenRound:
    spec = make_spec(**{"evaluate": (BASE,), **changes})  # type: ignore[arg-type]  # a builder's keywords
    return OpenRound(spec, ROSTER, SHAPES)


def test_accepts_an_honest_update_and_keeps_its_bytes() -> None:
    data = make_update()
    topic = topics.parse_device(topics.device(REGION, HOSPITAL, "band-a", "update"))
    assert topic is not None
    received = intake.read(data, topic, "update", STATION)
    assert isinstance(received, Received)
    assert (received.data, received.content_digest) == (data, bytes_digest(data))
    assert intake.check(received, open_round()) is None


def test_accepts_an_honest_evaluation() -> None:
    assert judge(make_evaluation(), subject="evaluation") is None


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", bytes(8), b"\xff" * 8, make_update()[:-1], make_update() + b"x", bytes(100_000)],
)
def test_bytes_that_are_no_safetensors_file_are_malformed(data: bytes) -> None:
    assert judge(data) == Reason.MALFORMED


def test_an_evaluation_on_the_update_topic_breaks_the_schema() -> None:
    assert judge(make_evaluation()) == Reason.SCHEMA


def test_rejects_a_message_that_claims_another_device_than_its_topic() -> None:
    assert judge(make_update("band-b"), device="band-a") == Reason.WRONG_IDENTITY


def test_rejects_a_message_for_another_hospital() -> None:
    assert judge(make_update(hospital="south")) == Reason.WRONG_IDENTITY


def test_rejects_a_device_that_is_not_in_the_roster() -> None:
    assert judge(make_update("band-z"), device="band-z") == Reason.UNKNOWN_DEVICE


def test_rejects_a_device_that_was_not_invited() -> None:
    spec = make_spec()
    assert judge(make_update(), OpenRound(spec, frozenset(), SHAPES)) == Reason.NOT_INVITED


def test_rejects_another_round() -> None:
    assert judge(make_update(round_id=2)) == Reason.WRONG_ROUND


def test_rejects_an_update_when_only_evaluations_were_asked_for() -> None:
    assert judge(make_update(), open_round(purpose="evaluate")) == Reason.WRONG_ROUND


def test_rejects_what_comes_after_the_aggregate_was_folded() -> None:
    closed = OpenRound(make_spec(), ROSTER, SHAPES, frozen=True)
    assert judge(make_update(), closed) == Reason.ROUND_CLOSED


def test_rejects_an_update_for_an_older_base() -> None:
    assert judge(make_update(base_digest="0" * 64)) == Reason.WRONG_BASE


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"bias": np.zeros(3, np.int16)},
        {**make_integers(), "extra": np.zeros(1, np.int16)},
        {"bias": np.zeros(4, np.int16), "weight": np.zeros((4, 3), np.int16)},
        {"bias": np.zeros(3, np.int8), "weight": np.zeros((4, 3), np.int8)},
        {"bias": np.zeros(3, np.float32), "weight": np.zeros((4, 3), np.float32)},
    ],
)
def test_rejects_other_names_shapes_or_dtype(tensors: dict[str, np.ndarray]) -> None:
    assert judge(make_update(tensors=tensors)) == Reason.WRONG_SHAPE


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rejects_values_that_are_not_finite(value: float) -> None:
    tensors = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}
    assert judge(make_update(tensors=tensors)) == Reason.NOT_FINITE


def test_rejects_an_update_beyond_the_clip_norm() -> None:
    tensors = {name: np.full(shape, 32767, np.int16) for name, shape in SHAPES.items()}
    assert judge(make_update(tensors=tensors)) == Reason.NORM


@pytest.mark.parametrize(
    "counts",
    [
        np.array([[-1, 0], [0, 1]]),
        np.array([[4 * 64, 1], [0, 0]]),
        np.full((2, 2), 1 << 62),  # whose plain sum wraps around to zero
    ],
)
def test_rejects_counts_that_cannot_be(counts: np.ndarray) -> None:
    data = make_evaluation(counts=counts.astype(np.int64))
    assert judge(data, subject="evaluation") == Reason.IMPOSSIBLE_COUNTS


def test_rejects_an_absurd_number_of_examples() -> None:
    data = make_evaluation(num_examples=1 << 50)
    assert judge(data, subject="evaluation") == Reason.IMPOSSIBLE_COUNTS


def test_rejects_an_evaluation_of_other_models() -> None:
    data = make_evaluation(models=("0" * 64,))
    assert judge(data, subject="evaluation") == Reason.WRONG_BASE


def test_rejects_an_evaluation_when_none_was_asked_for() -> None:
    assert judge(make_evaluation(), open_round(evaluate=()), subject="evaluation") == (
        Reason.WRONG_BASE
    )


def test_rejects_an_evaluation_of_another_shape() -> None:
    data = make_evaluation(counts=np.zeros((3, 3), np.int64))
    assert judge(data, subject="evaluation") == Reason.WRONG_SHAPE


def test_size_limit_grows_with_the_model_and_fits_an_honest_message() -> None:
    spec = make_spec(evaluate=(BASE,))
    limit = intake.max_message_bytes(spec, SHAPES)
    assert len(make_update()) < limit < 66_000
    assert intake.max_message_bytes(spec, {"w": (1000,)}) > limit


@pytest.mark.parametrize("num_saturated", [16, 1 << 53])
def test_rejects_more_saturated_coordinates_than_there_are(num_saturated: int) -> None:
    assert judge(make_update(num_saturated=15)) is None
    assert judge(make_update(num_saturated=num_saturated)) == Reason.IMPOSSIBLE_COUNTS


def sparse_round() -> OpenRound:
    return OpenRound(make_sparse_spec(), ROSTER, SPARSE_SHAPES)


def test_accepts_the_part_that_a_sparse_round_asks_for() -> None:
    assert judge(make_sparse_update(), sparse_round()) is None


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"part": make_part()[:-1]},
        {"part": np.append(make_part(), np.int8(0))},
        {"part": make_part()[np.newaxis]},
        {"part": make_part().astype(np.int16)},
        {"part": make_part().astype(np.float32)},
        {"other": make_part()},
        {"part": make_part(), "bias": np.zeros(3, np.int8)},
        {n: np.zeros(shape, np.int8) for n, shape in SPARSE_SHAPES.items()},
        {"bias": np.zeros(3, np.int8), "weight": np.zeros(150, np.int8)},
    ],
)
def test_rejects_what_is_not_the_part_of_a_sparse_round(tensors: dict[str, np.ndarray]) -> None:
    assert judge(make_update(tensors=tensors), sparse_round()) == Reason.WRONG_SHAPE


def test_rejects_a_part_in_a_dense_round() -> None:
    assert judge(make_sparse_update()) == Reason.WRONG_SHAPE


def test_rejects_a_part_that_is_cut_short_or_not_finite() -> None:
    assert judge(make_sparse_update()[:-1], sparse_round()) == Reason.MALFORMED
    endless = {"part": np.full(153, np.nan, np.float32)}
    assert judge(make_update(tensors=endless), sparse_round()) == Reason.NOT_FINITE


def test_each_coordinate_of_a_part_is_measured_by_its_own_tensors_scale() -> None:
    fixed = make_sparse_spec().fixed_point
    part = np.zeros(153, np.int8)
    part[:3] = 100  # those of `bias`, which comes first
    for exponent, expected in ((-8, None), (-7, Reason.NORM)):  # norms 0.68 and 1.35
        rule = fixed.model_copy(update={"exponents": {"bias": exponent, "weight": -20}})
        current = OpenRound(make_sparse_spec(fixed_point=rule), ROSTER, SPARSE_SHAPES)
        assert judge(make_update(tensors={"part": part}), current) == expected


@pytest.mark.parametrize(("num", "expected"), [(153, None), (154, Reason.IMPOSSIBLE_COUNTS)])
def test_no_more_of_a_part_saturates_than_it_holds(num: int, expected: Reason | None) -> None:
    assert judge(make_sparse_update(num_saturated=num), sparse_round()) == expected

"""Schemas refuse what must not travel."""

import pytest
from pydantic import ValidationError

from common.messages import DeviceStatus, ModelHeader, RoundSpec
from tests.builders.rounds import make_spec


@pytest.mark.parametrize("name", ["", "North", "a/b", "+", "#", "a" * 49, "-x", "a b", "é"])
def test_names_that_are_no_topic_segment_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        DeviceStatus(device=name, online=True)


@pytest.mark.parametrize("digest", ["", "0" * 63, "g" * 64, "A" * 64])
def test_digests_are_64_lower_case_hex_digits(digest: str) -> None:
    with pytest.raises(ValidationError):
        ModelHeader(region="county", task="dummy", digest=digest, made_by_round=0)


def test_messages_are_frozen() -> None:
    with pytest.raises(ValidationError):
        make_spec().round_id = 9  # type: ignore[misc]  # what the test is about


def test_another_schema_version_is_refused() -> None:
    with pytest.raises(ValidationError):
        RoundSpec.model_validate(make_spec().model_dump() | {"schema_version": 2})


def test_round_needs_a_location_for_every_model_it_names() -> None:
    with pytest.raises(ValidationError, match="locations lacks"):
        make_spec(evaluate=("1" * 64,))


def test_round_closes_after_it_opens() -> None:
    with pytest.raises(ValidationError, match="closes_at"):
        make_spec(opened_at=100.0, closes_at=100.0)


@pytest.mark.parametrize("location", ["../../etc/passwd", "/abs/olute", "a", "a/b/../c", "a//b"])
def test_locations_cannot_leave_the_mailbox(location: str) -> None:
    with pytest.raises(ValidationError):
        make_spec(locations={"0" * 64: location})

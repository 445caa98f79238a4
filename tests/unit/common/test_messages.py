"""Schemas refuse what must not travel."""

import json

import pytest
from pydantic import ValidationError

from common.messages import DeviceStatus, ModelHeader, RoundSpec
from common.wire import decode_json, encode_json
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


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_another_schema_version_is_refused(version: object) -> None:
    with pytest.raises(ValidationError):
        RoundSpec.model_validate(make_spec().model_dump() | {"schema_version": version})


def test_a_message_that_says_nothing_younger_is_of_version_1_without_younger_fields() -> None:
    said = json.loads(encode_json(make_spec()))
    assert said["schema_version"] == 1
    assert not set(RoundSpec.younger) & set(said)


def test_a_message_with_a_younger_field_is_of_its_version_and_reads_back_the_same() -> None:
    spec = make_spec(max_staleness=2, late_bases=("2" * 64,))
    data = encode_json(spec)
    assert json.loads(data)["schema_version"] == 2
    assert decode_json(data, RoundSpec) == spec


def test_the_version_is_no_part_of_what_a_message_says() -> None:
    data = json.loads(encode_json(make_spec())) | {"schema_version": 2}
    assert decode_json(json.dumps(data).encode(), RoundSpec) == make_spec()


@pytest.mark.parametrize(
    ("max_staleness", "late_bases"),
    [(1, ("2" * 64, "3" * 64)), (2, ("2" * 64, "2" * 64)), (2, ("0" * 64,)), (17, ())],
)
def test_late_bases_are_distinct_older_and_no_more_than_the_limit(
    max_staleness: int, late_bases: tuple[str, ...]
) -> None:
    with pytest.raises(ValidationError):
        make_spec(max_staleness=max_staleness, late_bases=late_bases)


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

"""Topics are built and taken apart in one place."""

import pytest

from common.topics import DeviceTopic, device, hospital_status, model, parse_device, round_state


def test_topics_are_spelled_as_documented() -> None:
    assert round_state("county") == "pulsering/v1/county/round"
    assert hospital_status("county", "north") == "pulsering/v1/county/control/north/status"
    assert model("county", "north", "ab") == "pulsering/v1/county/north/model/ab"
    assert device("county", "north", "wb-101", "update") == (
        "pulsering/v1/county/north/wb-101/update"
    )


def test_device_topic_comes_apart() -> None:
    assert parse_device("pulsering/v1/county/north/wb-101/update") == DeviceTopic(
        "county", "north", "wb-101", "update"
    )


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "pulsering/v1/county/north/wb-101",
        "pulsering/v1/county/north/wb-101/update/x",
        "pulsering/v2/county/north/wb-101/update",
        "pulsering/v1/county/north/wb-101/secrets",
        "other/v1/county/north/wb-101/update",
    ],
)
def test_other_topics_are_none(topic: str) -> None:
    assert parse_device(topic) is None

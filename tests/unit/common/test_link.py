"""Brokers' URLs, and what a session believes of a broker."""

from __future__ import annotations

import pytest
from paho.mqtt.client import MQTTMessage

from common.errors import ConfigError
from common.link import BrokerAddress, Link


def test_url_is_taken_apart_and_has_default_ports() -> None:
    assert BrokerAddress.parse("mqtt://host") == BrokerAddress("host", 1883, tls=False)
    assert BrokerAddress.parse("mqtts://me:secret@host") == BrokerAddress(
        "host", 8883, tls=True, username="me", password="secret"
    )


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host:1883",
        "http://host",
        "mqtt://",
        "mqtt://host:0",
        "mqtt://host:70000",
        "mqtt://a..b",
    ],
)
def test_url_that_names_no_broker_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="broker URL"):
        BrokerAddress.parse(url)


def test_refused_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as fault:
        BrokerAddress.parse("mqtt://me:secret@host:port")
    assert "secret" not in fault.value.message


def test_topic_that_is_no_text_is_passed_over() -> None:
    heard: list[str] = []
    link = Link(
        "mqtt://127.0.0.1:1",
        "test",
        on_connect=lambda: None,
        on_message=lambda topic, _data, _message: heard.append(topic),
        subscriptions=["#"],
    )
    for topic in (b"pulsering/\xff\xfe", b"pulsering/v1"):
        link._on_message(link._client, None, MQTTMessage(mid=1, topic=topic))
    assert heard == ["pulsering/v1"]

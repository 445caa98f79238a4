from __future__ import annotations

import socket
import tomllib

import pytest

from common.errors import ConfigError
from simulators import broker_process
from simulators.broker import EmbeddedBroker, accepts_sessions, free_port
from simulators.broker_process import IOTCORE_TOML, default_kind, require_free


def test_configuration_listens_where_it_is_told_and_takes_2_mb() -> None:
    text = IOTCORE_TOML.format(
        host="127.0.0.1", port=1883, max_payload=2 << 20, max_connections=20_000
    )
    listener = tomllib.loads(text)["v5"]["1"]
    assert listener["listen"] == "127.0.0.1:1883"
    assert listener["connections"]["max_payload_size"] == 2_097_152
    assert listener["connections"]["dynamic_filters"]


def test_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)):
            require_free("127.0.0.1", port)


def test_address_of_another_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        require_free("192.0.2.1", 1883)


def test_port_that_nobody_listens_on_accepts_no_session() -> None:
    assert not accepts_sessions("127.0.0.1", free_port())


def test_machine_without_a_broker_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_process, "find_spec", lambda _name: None)
    monkeypatch.setattr(broker_process, "mosquitto_program", lambda: None)
    with pytest.raises(ConfigError, match="apt-get install -y mosquitto"):
        default_kind()


def test_broker_that_was_never_started_has_no_process() -> None:
    broker = EmbeddedBroker(kind="iotcore")
    broker.stop()
    assert (broker.running, broker.pid) == (False, 0)

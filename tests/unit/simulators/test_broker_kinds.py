from __future__ import annotations

import pytest

from common.errors import ConfigError
from simulators import broker_process
from simulators.broker_process import default_kind, require_kind


def test_mosquitto_that_is_not_installed_is_refused_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(broker_process, "mosquitto_program", lambda: None)
    with pytest.raises(ConfigError, match="sudo apt-get install -y mosquitto"):
        require_kind("mosquitto")
    monkeypatch.setattr(broker_process, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match="sudo apt-get install -y mosquitto"):
        default_kind()
    with pytest.raises(ConfigError, match="--broker mosquitto"):
        require_kind("iotcore")


def test_auto_takes_what_is_there() -> None:
    require_kind("auto")
    assert default_kind() in ("iotcore", "mosquitto")

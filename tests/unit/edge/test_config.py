from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError
from edge.config import EdgeConfig

VALUES = {
    "region": "county",
    "hospital": "north",
    "region_broker": "mqtt://127.0.0.1:1883",
    "hospital_broker": "mqtt://127.0.0.1:1883",
    "state_dir": "state",
    "mailbox": "mailbox",
    "coordinator_key": "region.pub",
    "devices": '["band-a","band-b"]',
}


def load(**changes: str | None) -> EdgeConfig:
    values = {key: value for key, value in (VALUES | changes).items() if value is not None}
    return EdgeConfig.load(None, [f"{key}={value}" for key, value in values.items()])


def test_defaults_listen_on_loopback_only() -> None:
    config = load()
    assert config.health_listen.startswith("127.0.0.1:")
    assert config.roster() == {"band-a", "band-b"}
    assert config.identity == "unauthenticated"


def test_environment_lies_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    values = {key: value for key, value in VALUES.items() if key != "devices"}
    text = "".join(f'{key} = "{value}"\n' for key, value in values.items())
    path.write_text(text + 'devices = ["band-a"]\nheartbeat_s = 9\n')
    monkeypatch.setenv("PULSERING_EDGE_HEARTBEAT_S", "2")
    assert EdgeConfig.load(path).heartbeat_s == 2
    assert EdgeConfig.load(path, ["heartbeat_s=3"]).heartbeat_s == 3


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"unheard_of": "1"}, "unheard_of: unknown key"),
        ({"region": None}, "region"),
        ({"hospital": "control"}, "reserved"),
        ({"hospital": "North Wing"}, "hospital"),
        ({"region_broker": "http://x"}, "region_broker"),
        ({"hospital_broker": "mqtt://host:port"}, "hospital_broker"),
        ({"heartbeat_s": "0"}, "heartbeat_s"),
        ({"health_listen": "8080"}, "health_listen"),
        ({"devices": "[]"}, "devices or roster_file"),
        ({"roster_file": "roster.txt"}, "devices or roster_file"),
        ({"profile": "production"}, "client certificate"),
    ],
)
def test_faults_are_named(changes: dict[str, str | None], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as fault:
        load(**changes)
    assert fault.value.exit_code == 2


def test_tls_alone_ties_no_topic_to_a_device() -> None:
    tls = "mqtts://broker.hospital:8883"
    assert load(region_broker=tls, hospital_broker=tls).identity == "unauthenticated"
    with pytest.raises(ConfigError, match="this version cannot prove"):
        load(profile="production", region_broker=tls, hospital_broker=tls)


def test_roster_file_has_a_name_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "roster.txt"
    path.write_text("# ward 3\nband-a\n\nband-b # lent\n")
    assert load(devices=None, roster_file=str(path)).roster() == {"band-a", "band-b"}


@pytest.mark.parametrize("text", ["band-a\nband-a\n", "Band A\n", "x" * 100, "# nobody\n"])
def test_wrong_rosters_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roster.txt"
    path.write_text(text)
    with pytest.raises(ConfigError, match="roster"):
        load(devices=None, roster_file=str(path)).roster()


def test_missing_roster_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody\.txt"):
        load(devices=None, roster_file=str(tmp_path / "nobody.txt")).roster()

"""Configuration: layers, and faults that name their keys."""

from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from pydantic_settings import SettingsConfigDict

from common.config import Listen, ProcessConfig, parse_overrides
from common.errors import ConfigError


class Ring(BaseModel, extra="forbid"):
    timeout_s: float = Field(default=30, gt=0)


class Config(ProcessConfig):
    model_config = SettingsConfigDict(env_prefix="PULSERING_TEST_")

    region: str = "county"
    listen: Listen = "127.0.0.1:0"
    ring: Ring = Ring()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "process.toml"
    path.write_text(text)
    return path


def test_override_beats_environment_beats_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 'region = "file"\n[ring]\ntimeout_s = 1\n')
    monkeypatch.setenv("PULSERING_TEST_REGION", "environment")
    monkeypatch.setenv("PULSERING_TEST_RING__TIMEOUT_S", "2")
    assert Config.load(path).region == "environment"
    assert Config.load(path).ring.timeout_s == 2
    assert Config.load(path, ["ring.timeout_s=3", "region=flag"]).ring.timeout_s == 3
    assert Config.load(path, ["region=flag"]).region == "flag"


def test_defaults_need_no_file() -> None:
    assert Config.load(None).region == "county"


def test_every_wrong_key_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, 'regio = "x"\n[ring]\ntimeout_s = -1\ntimeot = 2\n')
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    for key in ("regio: unknown key", "ring.timeout_s", "ring.timeot: unknown key", str(path)):
        assert key in caught.value.message


@pytest.mark.parametrize("text", ["region = ", "\x00", "[[[", "region = 1\nregion = 2"])
def test_broken_toml_names_the_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"process\.toml"):
        Config.load(write(tmp_path, text))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml does not exist"):
        Config.load(tmp_path / "none.toml")


@pytest.mark.parametrize("override", ["", "=1", "region", "a=1"])
def test_bad_override_is_named(override: str) -> None:
    with pytest.raises(ConfigError):
        Config.load(None, [override])


def test_overrides_are_toml_values_or_text() -> None:
    assert parse_overrides(["a=[8, 4]", "b=x y", "c.d=true"]) == {
        "a": [8, 4],
        "b": "x y",
        "c": {"d": True},
    }


@pytest.mark.parametrize("listen", ["8080", "127.0.0.1:", "127.0.0.1:99999", ":1", "h:x"])
def test_listen_addresses_are_host_and_port(listen: str) -> None:
    with pytest.raises(ConfigError, match="listen"):
        Config.load(None, [f"listen={listen}"])

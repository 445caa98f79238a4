"""Configuration of the cloud."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.api.limits import ApiLimits
from cloud.config import CloudConfig
from common.errors import ConfigError

TEXT = """
region = "county"
mailbox = "var/mailbox"
pool_dir = "var/pool"
state_dir = "var/cloud"
[trusted]
region_key = "var/region/signing.pub"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "cloud.toml"
    path.write_text(TEXT)
    return path


def test_defaults_listen_on_loopback_and_keep_sqlite_beside_the_pool(path: Path) -> None:
    config = CloudConfig.load(path)
    assert config.listen == "127.0.0.1:8080"
    assert config.database_url.endswith("var/pool/pool.sqlite")


def test_overrides_reach_the_gate(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSERING_CLOUD_GATE__MIN_DEVICES", "7")
    config = CloudConfig.load(path, ["gate.min_accuracy=0.9"])
    assert (config.gate.min_devices, config.gate.min_accuracy) == (7, 0.9)


def test_limits_of_the_api_have_defaults_and_can_be_set(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSERING_CLOUD_LIMITS__JSON_MIB", "2")
    config = CloudConfig.load(path, ["limits.raw_mib=3"])
    assert config.limits == ApiLimits(json_mib=2, raw_mib=3)
    assert config.limits.infer_mib == ApiLimits().infer_mib


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("gate.min_acuracy=0.9", "gate.min_acuracy: unknown key"),
        ("gate.min_accuracy=1.5", "gate.min_accuracy"),
        ("gate.min_devices=0", "gate.min_devices"),
        ("listen=8080", "listen"),
        ("limits.raw_mib=0", "limits.raw_mib"),
        ("limits.max_mib=5", "limits.max_mib: unknown key"),
        ("region=Not A Name", "region"),
        ("profile=production", "promotion: the production profile"),
    ],
)
def test_faults_name_their_key(path: Path, override: str, key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        CloudConfig.load(path, [override])


def test_production_promotes_by_person(path: Path) -> None:
    config = CloudConfig.load(path, ["profile=production", "promotion=by_person"])
    assert config.promotion == "by_person"

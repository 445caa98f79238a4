from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError
from regional.config import RegionConfig, RoundsConfig

TOML = """
region = "county"
broker = "mqtt://127.0.0.1:1883"
state_dir = "var/region"
mailbox = "var/mailbox"
[hospitals.east]
key = "var/east/signing.pub"
[hospitals.north]
key = "var/north/signing.pub"
[hospitals.west]
key = "var/west/signing.pub"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "region.toml"
    path.write_text(TOML)
    return path


def test_reads_a_short_file_and_overrides(toml: Path) -> None:
    config = RegionConfig.load(toml, ["rounds.quorum=2", "rounds.rounds_per_day=[8, 4]"])
    assert config.rounds.quorum == 2
    assert [config.rounds.num_rounds(day) for day in (1, 2, 3)] == [8, 4, 4]


def test_the_environment_lies_between_file_and_overrides(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULSERING_REGIONAL_ROUNDS__DEADLINE_S", "7")
    assert RegionConfig.load(toml).rounds.deadline_s == 7
    assert RegionConfig.load(toml, ["rounds.deadline_s=9"]).rounds.deadline_s == 9


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("colour=1", "colour"),
        ("rounds.colour=1", "rounds.colour"),
        ("rounds.quorum=0", "rounds.quorum"),
        ("rounds.quorum=4", "rounds.quorum = 4"),
        ("rounds.deadline_s=nan", "rounds.deadline_s"),
        ("rounds.deadline_s=-1", "rounds.deadline_s"),
        ("rounds.rounds_per_day=[]", "rounds.rounds_per_day"),
        ("learning.bits=12", "learning.bits"),
        ("learning.parts=65", "learning.parts"),
        ("learning.lr_end=1.0", "lr_end"),
        ("learning.mu=0.1", "mu"),
        ("seal.wait_for_release_s=5", "cloud_key"),
        ("broker=http://x", "mqtt://"),
        ("region=Big County", "region"),
        ("hospitals.control.key=x", "control"),
        ("health_listen=nowhere", "health_listen"),
        ("away_after_s=1", "away_after_s"),
    ],
)
def test_a_fault_stops_the_start_and_is_named(toml: Path, override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named.replace("[", r"\[")) as fault:
        RegionConfig.load(toml, [override])
    assert fault.value.exit_code == 2


def test_production_names_all_that_it_needs(toml: Path) -> None:
    with pytest.raises(ConfigError) as fault:
        RegionConfig.load(toml, ["profile=production"])
    for needed in ("rounds.quorum >= 3", "rounds.min_devices >= 5", "mqtts"):
        assert needed in fault.value.message


def test_production_does_not_start_on_a_broker_that_proves_nobody(toml: Path) -> None:
    needed = ("rounds.quorum=3", "rounds.min_devices=5", "broker=mqtts://127.0.0.1:8883")
    with pytest.raises(ConfigError, match="client certificate"):
        RegionConfig.load(toml, ["profile=production", *needed])


@pytest.mark.parametrize("clip_norm", ["0", "nan", "1e-20", "1e20"])
def test_clip_norm_is_one_that_exponents_can_serve(toml: Path, clip_norm: str) -> None:
    with pytest.raises(ConfigError, match=r"learning\.clip_norm"):
        RegionConfig.load(toml, [f"learning.clip_norm={clip_norm}"])


def test_without_a_number_of_days_no_day_is_the_last() -> None:
    assert not RoundsConfig(num_days=0).is_last(10_000)
    assert [RoundsConfig(num_days=2).is_last(day) for day in (1, 2)] == [False, True]


def test_parts_and_fedadam_exclude_each_other(toml: Path) -> None:
    changes = ["learning.parts=4", "learning.algorithm=fedadam"]
    with pytest.raises(ConfigError, match="its moments would decay"):
        RegionConfig.load(toml, changes)
    assert RegionConfig.load(toml, changes[:1]).learning.parts == 4


@pytest.mark.parametrize(
    ("other", "keys"),
    [
        ("learning.parts=4", ("rounds.max_staleness", "learning.parts")),
        ("groups.enabled=true", ("rounds.max_staleness", "groups.enabled")),
    ],
)
def test_late_updates_exclude_sparse_rounds_and_speed_groups(
    toml: Path, other: str, keys: tuple[str, str]
) -> None:
    with pytest.raises(ConfigError) as fault:
        RegionConfig.load(toml, ["rounds.max_staleness=2", other])
    assert all(key in fault.value.message for key in keys)
    assert RegionConfig.load(toml, ["rounds.max_staleness=2"]).rounds.max_staleness == 2

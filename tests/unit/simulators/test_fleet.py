from __future__ import annotations

from pathlib import Path

import pytest

from common.ecg.sources import synthetic_source
from common.errors import ConfigError
from simulators.attackers import Attack
from simulators.fleet import FleetConfig, default_roster, members_of

SOURCE = synthetic_source()


def load(tmp_path: Path, text: str = "", *overrides: str) -> FleetConfig:
    path = tmp_path / "fleet.toml"
    path.write_text(text)
    return FleetConfig.load(path, overrides)


def test_default_roster_deals_22_wearers_to_8_7_and_7() -> None:
    roster = default_roster(SOURCE.train_names)
    assert {name: len(devices) for name, devices in roster.items()} == {
        "north": 8,
        "harbour": 7,
        "valley": 7,
    }
    dealt = [device for devices in roster.values() for device in devices]
    assert sorted(dealt) == [(f"wb-{i + 1:02d}", name) for i, name in enumerate(SOURCE.train_names)]


def test_wearer_named_again_gets_a_second_wristband() -> None:
    assert default_roster(["101", "101"], ["a"]) == {"a": [("wb-01", "101"), ("wb-02", "101")]}


def test_default_fleet_has_a_wristband_for_each_wearer(tmp_path: Path) -> None:
    members = members_of(load(tmp_path), SOURCE)
    assert len(members) == 22
    assert {member.identity.hospital for member in members} == {"north", "harbour", "valley"}


def test_default_fleet_can_be_larger_than_the_source(tmp_path: Path) -> None:
    members = members_of(load(tmp_path, "devices = 300"), SOURCE)
    assert len({(m.identity.hospital, m.identity.device) for m in members}) == 300


@pytest.mark.parametrize(
    "devices",
    ['devices = {wb-1 = "syn01"}', 'devices = [{device = "wb-1", wearer = "syn01"}]'],
)
def test_devices_are_a_table_or_a_list(tmp_path: Path, devices: str) -> None:
    config = load(tmp_path, f"[hospitals.north]\nbroker = 'mqtt://127.0.0.1:2'\n{devices}")
    [member] = members_of(config, SOURCE)
    assert (member.identity.device, member.wearer) == ("wb-1", "syn01")
    assert member.broker == "mqtt://127.0.0.1:2"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour"),
        ("workers = 0", "workers"),
        ("devices = -1", "devices"),
        ("task = 'unheard'", "unheard"),
        ("region = 'Not A Name'", "region"),
        ("[hospitals.control]\ndevices = {a = 'b'}", "control"),
        ("[hospitals.north]\ndevices = {}", "hospitals.north.devices"),
        ("[hospitals.north]\nbroker = 'http://x'\ndevices = {a = 'b'}", "http://x"),
        ("[hospitals.north]\ndevices = {'A B' = 'syn01'}", "hospitals.north.devices"),
        ("[hospitals.north]\ndevices = [{device = 'a'}]", "device and wearer"),
        (
            "[hospitals.north]\ndevices = [{device='a', wearer='b'}, {device='a', wearer='c'}]",
            "twice",
        ),
    ],
)
def test_faults_of_the_configuration_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load(tmp_path, text)


def test_names_a_device_whose_wearer_is_unknown(tmp_path: Path) -> None:
    config = load(tmp_path, "[hospitals.north]\ndevices = {wb-1 = '101'}")
    with pytest.raises(ConfigError, match=r"hospitals\.north\.devices\.wb-1.*'101'"):
        members_of(config, SOURCE)


def test_hostile_wristbands_are_named_with_what_they_do(tmp_path: Path) -> None:
    config = load(tmp_path, 'attackers.wb-02 = "flipped"')
    hostile = {m.identity.device: m.attack for m in members_of(config, SOURCE) if m.attack}
    assert hostile == {"wb-02": Attack.FLIPPED}
    with pytest.raises(ConfigError, match=r"attackers\.wb-02"):
        load(tmp_path, 'attackers.wb-02 = "sleeping"')


def test_an_attacker_that_nobody_wears_is_a_mistake(tmp_path: Path) -> None:
    config = load(tmp_path, 'attackers.wb-99 = "flipped"')
    with pytest.raises(ConfigError, match="wb-99"):
        members_of(config, SOURCE)


def test_devices_and_hospitals_exclude_each_other(tmp_path: Path) -> None:
    config = load(tmp_path, "devices = 3\n[hospitals.north]\ndevices = {wb-1 = 'syn01'}")
    with pytest.raises(ConfigError, match="devices"):
        members_of(config, SOURCE)


def test_environment_lies_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSERING_FLEET_SEED", "5")
    assert load(tmp_path, "seed = 1").seed == 5
    assert load(tmp_path, "seed = 1", "seed=7").seed == 7

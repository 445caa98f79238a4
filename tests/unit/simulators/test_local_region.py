"""Configurations of a region on one machine."""

import tomllib
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from common.errors import PulseRingError
from common.health import announce
from edge.config import EdgeConfig
from regional.config import RegionConfig
from simulators.fleet import FleetConfig
from simulators.local_region import to_toml
from tests.builders.regions import ROSTER, make_region


def test_toml_comes_back_as_it_went() -> None:
    values = {
        "text": 'with "quotes" and \\ and é',
        "flag": True,
        "list": [8, 4],
        "table": {"number": 1.5, "inner": {"rows": [{"a": "b", "c": 2}]}},
    }
    assert tomllib.loads(to_toml(values)) == values


def test_toml_has_no_null() -> None:
    with pytest.raises(PulseRingError):
        to_toml({"key": None})


def test_every_process_accepts_its_configuration(tmp_path: Path) -> None:
    region = make_region(tmp_path)
    region.configure()
    assert RegionConfig.load(region.config_path("region")).hospitals.keys() == ROSTER.keys()
    edge = EdgeConfig.load(region.config_path("edge-valley"))
    assert edge.roster() == {"wb-06", "wb-07"}
    assert FleetConfig.load(region.config_path("fleet")).hospitals.keys() == ROSTER.keys()
    assert CloudConfig.load(region.config_path("cloud")).region == "county"


def test_committed_configurations_are_accepted() -> None:
    local = Path(__file__).resolve().parents[3] / "deploy" / "local"
    region = RegionConfig.load(local / "region.toml")
    for hospital in region.hospitals:
        assert EdgeConfig.load(local / f"edge-{hospital}.toml").hospital == hospital
    assert CloudConfig.load(local / "cloud.toml").mailbox == region.mailbox
    assert FleetConfig.load(local / "fleet.toml").region == region.region


def test_health_ports_are_chosen_by_the_processes(tmp_path: Path) -> None:
    region = make_region(tmp_path)
    region.configure()
    assert RegionConfig.load(region.config_path("region")).health_listen == "127.0.0.1:0"
    assert set(region.health_urls.values()) == {"http://127.0.0.1:0"}
    assert region.status() == {}
    announce(region.state_dir("edge-valley"), "http://127.0.0.1:4711")
    assert region.health_urls["valley"] == "http://127.0.0.1:4711"
    assert set(region.health_urls) == {"region", *ROSTER}

"""Files under deploy/ load through the product's own classes and agree with each other."""

from __future__ import annotations

import os
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from cloud.config import CloudConfig
from common import topics
from common.config import ProcessConfig
from edge.config import EdgeConfig
from regional.config import PRODUCTION_MIN_DEVICES, PRODUCTION_QUORUM, RegionConfig
from simulators.fleet import FleetConfig

DEPLOY = Path(__file__).parents[3] / "deploy"
HOSTS = DEPLOY / "hosts"
KINDS: dict[str, type[ProcessConfig]] = {
    "region": RegionConfig,
    "edge": EdgeConfig,
    "cloud": CloudConfig,
    "fleet": FleetConfig,
}
SERVICES = ("pulsering-edge@", "pulsering-regional", "pulsering-cloud-serve")
OVERLAY = re.compile(r"10\.77\.0\.\d+")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("PULSERING_"):
            monkeypatch.delenv(name)


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    parser.read(DEPLOY / "systemd" / f"{name}.service")
    return parser


def overlay_addresses(name: str) -> list[str]:
    return OVERLAY.findall((HOSTS / name).read_text())


@pytest.mark.parametrize(
    "path", sorted(DEPLOY.rglob("*.toml")), ids=lambda path: str(path.relative_to(DEPLOY))
)
def test_every_toml_is_a_configuration(path: Path) -> None:
    KINDS[path.stem.partition("-")[0]].load(path)


def test_region_over_hosts_asks_for_what_production_will() -> None:
    rounds = RegionConfig.load(HOSTS / "region.toml").rounds
    assert rounds.quorum >= PRODUCTION_QUORUM
    assert rounds.min_devices >= PRODUCTION_MIN_DEVICES


def test_ring_and_rendezvous_are_on_the_overlay() -> None:
    region = RegionConfig.load(HOSTS / "region.toml")
    edge = EdgeConfig.load(HOSTS / "edge-north.toml")
    assert (region.interface, edge.interface) == ("wg0", "wg0")
    assert region.rendezvous_host == overlay_addresses("wg0-coordinator.conf")[0]
    assert region.broker == edge.region_broker == f"mqtt://{region.rendezvous_host}:1883"
    assert f"listener 1883 {region.rendezvous_host}" in (HOSTS / "mosquitto.conf").read_text()


def test_own_name_of_a_hospital_resolves_to_its_overlay_address() -> None:
    lines = [line.split() for line in (HOSTS / "hosts-north").read_text().splitlines()]
    named = [words[0] for words in lines if words and words[0] != "#" and "north" in words[1:]]
    assert named == [overlay_addresses("wg0-north.conf")[0]]


def test_peers_and_firewalls_know_every_hospital_of_the_region() -> None:
    region = RegionConfig.load(HOSTS / "region.toml")
    coordinator = (HOSTS / "wg0-coordinator.conf").read_text()
    assert re.findall(r"^# (\w+)$", coordinator, re.MULTILINE) == list(region.hospitals)
    hospitals = set(overlay_addresses("wg0-coordinator.conf")) - {region.rendezvous_host}
    assert len(hospitals) == len(region.hospitals)
    assert set(overlay_addresses("wg0-north.conf")) == hospitals | {region.rendezvous_host}
    for name in ("nftables-coordinator.nft", "nftables-hospital.nft"):
        elements = re.search(r"elements = \{(.*)\}", (HOSTS / name).read_text())
        assert elements is not None
        assert set(OVERLAY.findall(elements[1])) == hospitals


def test_firewalls_let_ring_and_broker_in_from_the_overlay_only() -> None:
    for path in HOSTS.glob("*.nft"):
        opened = re.findall(
            r"^ *(.*)(?:tcp|udp) dport (\S+) accept", path.read_text(), re.MULTILINE
        )
        assert {port for before, port in opened if 'iifname "wg0"' not in before} == {"22", "51820"}


def test_no_key_is_in_the_examples() -> None:
    for path in HOSTS.glob("wg0-*.conf"):
        assert all(
            value.startswith("<")
            for value in re.findall(
                r"^(?:Private|Public)Key = (.*)$", path.read_text(), re.MULTILINE
            )
        )


def test_region_broker_allows_the_topics_of_the_region() -> None:
    allowed = (HOSTS / "mosquitto.acl").read_text().splitlines()
    state = topics.round_state("county")
    assert f"topic readwrite {state}" in allowed
    assert f"pattern read {state}" in allowed
    status = topics.hospital_status("county", "north")
    assert f"topic read {status.replace('north', '+')}" in allowed
    assert f"pattern write {status.replace('north', '%u')}" in allowed


@pytest.mark.parametrize("name", SERVICES)
def test_service_starts_again_unless_its_configuration_is_wrong(name: str) -> None:
    service = unit(name)["Service"]
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["KillMode"] == "mixed"
    assert "RestartSec" in service
    assert "MemoryMax" in service


@pytest.mark.parametrize("name", [*SERVICES, "pulsering-cloud-daily"])
def test_service_writes_where_its_configuration_says(name: str) -> None:
    service = unit(name)["Service"]
    found = re.search(r"--config /etc/pulsering/(\S+)", service["ExecStart"])
    assert found is not None
    path = HOSTS / found[1].replace("%i", "north")
    config = KINDS[path.stem.partition("-")[0]].load(path)
    state = {f"/var/lib/{folder}" for folder in service["StateDirectory"].split()}
    folders = {getattr(config, key) for key in ("state_dir", "pool_dir") if hasattr(config, key)}
    assert {str(folder).replace("edge-north", "edge-%i") for folder in folders} == state
    if name != "pulsering-cloud-serve":
        assert service["ReadWritePaths"] == getattr(config, "mailbox")  # noqa: B009 -- three classes


@pytest.mark.parametrize("name", [*SERVICES, "pulsering-cloud-daily"])
def test_service_is_confined(name: str) -> None:
    service = unit(name)["Service"]
    assert (service["User"], service["ProtectSystem"]) == ("pulsering", "strict")
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "")
    assert "AF_INET" in service["RestrictAddressFamilies"]


def test_a_rank_out_of_memory_does_not_stop_its_edge_node() -> None:
    assert unit("pulsering-edge@")["Service"]["OOMPolicy"] == "continue"

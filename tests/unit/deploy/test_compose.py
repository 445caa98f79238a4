"""deploy/compose.yaml and the Dockerfile agree with each other and with the files they mount."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud.config import CloudConfig
from common.config import ProcessConfig
from edge.config import EdgeConfig
from regional.config import RegionConfig

DEPLOY = Path(__file__).parents[3] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"] == "pulsering:local"]
# Of the Compose specification, those used here; a misspelt key would be refused by docker compose.
KEYS = {
    *("image", "build", "restart", "read_only", "tmpfs", "cap_drop", "security_opt"),
    *("environment", "stop_grace_period", "command", "depends_on", "volumes", "mem_limit"),
    *("healthcheck", "ports", "ulimits", "profiles"),
}
KINDS: dict[str, type[ProcessConfig]] = {
    "region.toml": RegionConfig,
    "edge-north.toml": EdgeConfig,
    "cloud.toml": CloudConfig,
}


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Target to source."""
    return {volume.split(":")[1]: volume.split(":")[0] for volume in service.get("volumes", [])}


@pytest.mark.parametrize("name", SERVICES)
def test_service_uses_keys_and_volumes_that_exist(name: str) -> None:
    service = SERVICES[name]
    assert set(service) <= KEYS
    for source in mounts(service).values():
        if source.startswith("."):
            assert (DEPLOY / source).exists(), source
        else:
            assert source in COMPOSE["volumes"], source
    for other, how in service.get("depends_on", {}).items():
        condition = how["condition"]
        assert other in SERVICES
        assert condition != "service_healthy" or "healthcheck" in SERVICES[other]


def test_nothing_is_published_beyond_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("name", [name for name in OURS if name != "keys"])
def test_process_finds_what_its_configuration_names(name: str) -> None:
    service = SERVICES[name]
    path = Path(service["command"][-1])
    config = KINDS[path.name].load(DEPLOY / "compose" / path.name)
    inside = mounts(service)
    assert inside[str(path.parent)] == "./compose"
    for key in ("state_dir", "pool_dir", "mailbox"):
        if hasattr(config, key):
            assert str(getattr(config, key)) in inside, key
    for key in ("cloud_key", "coordinator_key"):
        if hasattr(config, key):
            assert str(Path(getattr(config, key)).parent) in inside
    if isinstance(config, EdgeConfig):
        assert config.roster_file is not None
        assert (DEPLOY / "compose" / config.roster_file.name).exists()


def test_processes_speak_with_the_broker_of_the_file() -> None:
    region = RegionConfig.load(DEPLOY / "compose" / "region.toml")
    edge = EdgeConfig.load(DEPLOY / "compose" / "edge-north.toml")
    assert {region.broker, edge.region_broker, edge.hospital_broker} == {"mqtt://broker:1883"}
    assert "broker" in SERVICES
    assert region.rendezvous_host in SERVICES
    assert region.hospitals.keys() == {edge.hospital}


def test_keys_are_made_for_all_and_no_process_sees_anothers_private_key() -> None:
    made = re.search(r"for name in \(([^)]*)\)", SERVICES["keys"]["command"][2])
    assert made is not None
    names = set(re.findall(r'"(\w+)"', made[1]))
    assert names == {"region", "north", "cloud"}
    for name in OURS:
        if name != "keys":
            assert len(names & set(mounts(SERVICES[name]).values())) == 1


def test_containers_are_confined_and_drained_nodes_stay_down() -> None:
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] in ("on-failure", "no")
        assert "mem_limit" in service or name == "keys"


def test_image_has_the_user_of_the_units_and_the_folders_that_volumes_cover() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    assert "--uid 830" in text
    assert "USER pulsering" in text
    for name in OURS:
        for target, source in mounts(SERVICES[name]).items():
            if not source.startswith(".") and target != "/etc/pulsering-keys":
                assert target in text, target

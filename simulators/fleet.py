"""A fleet: which wristbands belong to which hospitals, whose ECG they see, and running them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import structlog
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from pydantic_settings import SettingsConfigDict

from common.config import ProcessConfig
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError
from common.link import BrokerAddress
from common.logs import LogFormat
from common.tasks.registry import TASKS
from common.topics import RESERVED_HOSPITALS, Name
from simulators.attackers import Attack
from simulators.jobs import Identity
from simulators.limits import allow_connections
from simulators.swarm import Member, Swarm, SwarmCounts
from simulators.workers import ExampleSource

DEFAULT_HOSPITALS = ("north", "harbour", "valley")
DEFAULT_BROKER = "mqtt://127.0.0.1:1883"
FIRST_PROGRESS_S = 3.0
PROGRESS_S = 10.0

log = structlog.get_logger()


def _table_of_devices(value: object) -> object:
    """Accept ``[{device = "wb-101", wearer = "101"}]`` for ``{wb-101 = "101"}``."""
    if not isinstance(value, list):
        return value
    table: dict[str, object] = {}
    for entry in value:
        if not isinstance(entry, dict) or set(entry) != {"device", "wearer"}:
            raise ValueError("each entry must have the keys device and wearer")
        if entry["device"] in table:
            raise ValueError(f"device {entry['device']} is there twice")
        table[entry["device"]] = entry["wearer"]
    return table


def _checked_url(value: str) -> str:
    try:
        BrokerAddress.parse(value)
    except ConfigError as fault:
        raise ValueError(fault.message) from fault
    return value


BrokerUrl = Annotated[str, AfterValidator(_checked_url)]


class HospitalFleet(BaseModel):
    """The wristbands of one hospital: device name to the wearer's record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    broker: BrokerUrl = DEFAULT_BROKER
    devices: Annotated[dict[Name, str], BeforeValidator(_table_of_devices)] = Field(min_length=1)


class FleetConfig(ProcessConfig):
    """A fleet in TOML; every key can be left out.

    Without `hospitals` there are three, with one wristband for each of the source's wearers, all
    at `broker`.  `attackers` names hostile wristbands and what each sends instead of what it
    learnt: for demonstrations of an edge node that screens.
    """

    model_config = SettingsConfigDict(env_prefix="PULSERING_FLEET_")

    region: Name = "county"
    task: str = "beats"
    broker: BrokerUrl = DEFAULT_BROKER
    hospitals: dict[Name, HospitalFleet] = Field(default_factory=dict)
    data: Path | None = None
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=lambda: os.cpu_count() or 1
    )
    seed: Annotated[int, Field(ge=0)] = 0
    devices: Annotated[int, Field(ge=1, le=20_000)] | None = None
    attackers: dict[Name, Attack] = Field(default_factory=dict)
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    log_format: LogFormat = "console"

    @field_validator("task")
    @classmethod
    def _is_a_task(cls, value: str) -> str:
        if value not in TASKS:
            raise ValueError(f"no task {value!r}; known: {', '.join(TASKS)}")
        return value

    @field_validator("hospitals")
    @classmethod
    def _not_reserved(cls, value: dict[str, HospitalFleet]) -> dict[str, HospitalFleet]:
        if taken := sorted(RESERVED_HOSPITALS & set(value)):
            raise ValueError(f"{', '.join(taken)} is reserved")
        return value


def default_roster(
    names: Sequence[str], hospitals: Sequence[str] = DEFAULT_HOSPITALS
) -> dict[str, list[tuple[str, str]]]:
    """Deal wearers out to hospitals in turn, one wristband ``wb-01`` and so on for each.

    A device's name does not tell its wearer's.  22 wearers and three hospitals give 8, 7 and 7.

    Returns
    -------
    dict of str to list of (device, wearer)
    """
    roster: dict[str, list[tuple[str, str]]] = {hospital: [] for hospital in hospitals}
    width = max(2, len(str(len(names))))
    for i, wearer in enumerate(names):
        roster[hospitals[i % len(hospitals)]].append((f"wb-{i + 1:0{width}d}", wearer))
    return roster


def members_of(config: FleetConfig, source: EcgSource) -> list[Member]:
    """Every wristband of the fleet.

    Raises
    ------
    ConfigError
        When a wearer is unknown to `source`, or an attacker is none of them; with the device named.
    """
    members = _members_of(config, source)
    strangers = sorted(set(config.attackers) - {member.identity.device for member in members})
    if strangers:
        raise ConfigError(f"attackers.{strangers[0]}: no wristband of that name")
    return members


def _members_of(config: FleetConfig, source: EcgSource) -> list[Member]:
    if not config.hospitals:
        names = source.train_names
        num = config.devices or len(names)
        roster = default_roster([names[i % len(names)] for i in range(num)])
        return [
            _member(config, hospital, device, config.broker, wearer)
            for hospital, devices in roster.items()
            for device, wearer in devices
        ]
    if config.devices is not None:
        raise ConfigError("devices = … deals out the default fleet: leave it or hospitals away")
    if config.task == "beats":
        _require_known_wearers(config, source)
    return [
        _member(config, hospital, device, fleet.broker, wearer)
        for hospital, fleet in config.hospitals.items()
        for device, wearer in fleet.devices.items()
    ]


def _member(config: FleetConfig, hospital: str, device: str, broker: str, wearer: str) -> Member:
    identity = Identity(config.region, hospital, device)
    return Member(identity, broker, wearer, config.attackers.get(device))


def run_fleet(config: FleetConfig) -> dict[str, Any]:
    """Run a fleet until SIGINT or SIGTERM, and return its counts and traffic, ready for JSON.

    Raises
    ------
    ConfigError
        When the configuration does not fit the data.
    """
    root = data_root(config.data, os.environ)
    source = open_source(root, config.seed)
    members = members_of(config, source)
    allow_connections(len(members))
    stop_requested = False

    def request_stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stop_requested
        stop_requested = True

    signal.signal(signal.SIGINT, request_stop)
    signal.signal(signal.SIGTERM, request_stop)
    if config.task == "beats":
        log.info("ecg_source", kind=source.kind, notice=source.notice)
    examples = ExampleSource(config.task, root, config.seed)
    swarm = Swarm(members, examples, min(config.workers, len(members)), config.seed)
    if config.attackers:
        log.warning("hostile_wristbands", **{d: a.value for d, a in config.attackers.items()})
    log.info("fleet_started", num_wristbands=len(members), num_workers=config.workers)
    swarm.run(_Progress(swarm, lambda: stop_requested))
    log.info("fleet_stopped", bytes_up=swarm.traffic.report()["bytes_up"])
    return {
        "region": config.region,
        "task": config.task,
        "ecg": source.kind if config.task == "beats" else "none",
        "num_wristbands": len(members),
        "traffic": swarm.traffic.report(),
    }


class _Progress:
    """Logs the swarm's counts when they change, at most every 10 s, and asks whether to stop."""

    def __init__(self, swarm: Swarm, should_stop: Callable[[], bool]) -> None:
        self._swarm = swarm
        self._should_stop = should_stop
        self._last: SwarmCounts | None = None
        self._next_at = time.monotonic() + FIRST_PROGRESS_S

    def __call__(self) -> bool:
        now = time.monotonic()
        if now >= self._next_at:
            self._next_at = now + PROGRESS_S
            counts = self._swarm.counts
            if not counts.num_connected:
                log.warning("no_broker_answers", num_wristbands=counts.num_wristbands)
            elif counts != self._last:
                log.info("fleet", **vars(counts))
            self._last = counts
        return self._should_stop()


def _require_known_wearers(config: FleetConfig, source: EcgSource) -> None:
    for hospital, fleet in config.hospitals.items():
        for device, wearer in fleet.devices.items():
            if wearer not in source.train_names:
                raise ConfigError(
                    f"hospitals.{hospital}.devices.{device}: no wearer {wearer!r} in the "
                    f"{source.kind} training records ({', '.join(source.train_names[:3])}, …)"
                )

"""Configuration of one hospital's edge node."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from common.config import Listen, ProcessConfig
from common.errors import ConfigError
from common.link import BrokerAddress
from common.logs import LogFormat
from common.topics import RESERVED_HOSPITALS, Name


def _broker_url(value: str) -> str:
    try:
        BrokerAddress.parse(value)
    except ConfigError as fault:
        raise ValueError(fault.message) from fault
    return value


BrokerUrl = Annotated[str, AfterValidator(_broker_url)]
Identity = Literal["certificate", "unauthenticated"]


class EdgeConfig(ProcessConfig):
    """What an edge node needs to know; environment prefix ``PULSERING_EDGE_``.

    The roster is `devices`, or `roster_file` with one name a line and ``#`` comments.
    `coordinator_key` pins the public key of the signer ``region``; it is read when first needed, so
    that the coordinator may be started later.  Without `interface` the ring uses the plan's.  With
    ``ring_timeline = true`` Horovod writes its own trace of each ring into ``state_dir/timelines``,
    or into the directory that it names (`edge.traces`).  A node whose loop stands still for
    `watchdog_s` ends itself, for its supervisor to start it again.  Messages that are not committed
    yet take up to `inbox_mb`; beyond that nothing more is read from the broker.  A wristband that sends
    `mute_after` messages in a row that no sound one sends, or whose updates a screen sets aside as
    often, is not listened to for `mute_s`; 0 mutes nobody.  Intake waits while `state_dir` takes `disk_quota_mb` or more (0: no quota) or its disk
    has less than `min_free_mb` free (`edge.disk`).  In the ledger the last
    `keep_rounds` rounds stay as they are, and each older one becomes one compressed row
    (`edge.archive`); 0 keeps all as they are.
    """

    model_config = SettingsConfigDict(env_prefix="PULSERING_EDGE_")

    region: Name
    hospital: Name
    region_broker: BrokerUrl
    hospital_broker: BrokerUrl
    state_dir: Path
    mailbox: str
    coordinator_key: Path
    devices: tuple[Name, ...] = ()
    roster_file: Path | None = None
    health_listen: Listen = "127.0.0.1:0"
    interface: str | None = None
    heartbeat_s: Annotated[float, Field(gt=0, le=300)] = 5.0
    watchdog_s: Annotated[float, Field(ge=5, le=3600)] = 120.0
    inbox_mb: Annotated[int, Field(ge=1, le=4096)] = 64
    mute_after: Annotated[int, Field(ge=0, le=1000)] = 5
    mute_s: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] = 3600.0
    disk_quota_mb: Annotated[int, Field(ge=0, le=1 << 30)] = 0
    min_free_mb: Annotated[int, Field(ge=0, le=1 << 20)] = 256
    keep_rounds: Annotated[int, Field(ge=0, le=1_000_000)] = 500
    ring_timeline: Annotated[bool | Path, Field(union_mode="left_to_right")] = False
    ring_cycle_ms: Annotated[float, Field(ge=1, le=1000)] = 5.0
    profile: Literal["demo", "production"] = "demo"
    rank_python: str = sys.executable
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: LogFormat = "console"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hospital in RESERVED_HOSPITALS:
            raise ValueError(f"hospital: {self.hospital!r} is reserved")
        if bool(self.devices) == (self.roster_file is not None):
            raise ValueError("write either devices or roster_file, and at least one device")
        if self.profile == "production":
            raise ValueError(
                "profile: production needs a broker that ties each topic's device to a client "
                "certificate, which this version cannot prove; run profile = demo, without patients"
            )
        return self

    @property
    def traces(self) -> Path | None:
        """Absolute path of the directory for Horovod's traces; None for none."""
        if isinstance(self.ring_timeline, bool):
            return (self.state_dir / "timelines").resolve() if self.ring_timeline else None
        return self.ring_timeline.resolve()

    @property
    def identity(self) -> Identity:
        """How a device's topic is tied to the device: not at all, since TLS alone names no client."""
        return "unauthenticated"

    def roster(self) -> frozenset[str]:
        """Names of the hospital's wristbands.

        Raises
        ------
        ConfigError
            When `roster_file` cannot be read, or a name is wrong or given twice.
        """
        names = _read_roster(self.roster_file) if self.roster_file else list(self.devices)
        if not names:
            raise ConfigError(f"roster_file {self.roster_file} names no device")
        twice = sorted(name for name, num in Counter(names).items() if num > 1)
        if twice:
            raise ConfigError(f"roster: given twice: {', '.join(twice[:5])}")
        return frozenset(names)


def _read_roster(path: Path) -> list[str]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"roster_file {path} cannot be read: {fault}") from fault
    names = [line.split("#")[0].strip() for line in lines]
    try:
        return TypeAdapter(list[Name]).validate_python([name for name in names if name])
    except ValidationError as fault:
        bad = fault.errors(include_url=False)[0]
        raise ConfigError(
            f"roster_file {path}: {str(bad['input'])[:80]!r}: {bad['msg']}"
        ) from fault

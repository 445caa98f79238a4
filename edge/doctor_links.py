"""The doctor's checks of what a node speaks with: brokers, mailbox, coordinator's key."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec

from common.errors import ConfigError, PulseRingError
from common.signing import read_public_key
from edge.config import EdgeConfig
from edge.doctor_broker import BrokerFacts, ask
from edge.finding import Finding, Level
from edge.intake import HEADER_ALLOWANCE

CLOCK_WARN_S, CLOCK_FAIL_S = 2.0, 5.0  # `grace_s` of the coordinator is 5
USUAL_UPDATE_BYTES = 256 << 10


def check_brokers(config: EdgeConfig) -> Iterator[Finding]:
    """Both brokers take an MQTT 5 session and keep it."""
    for role, url in (("region", config.region_broker), ("hospital", config.hospital_broker)):
        name = f"{role} broker"
        client_id = f"edge-{config.region}-{config.hospital}-doctor"
        try:
            facts = ask(url, client_id)
        except PulseRingError as fault:
            yield Finding(
                name, "FAIL", fault.message,
                f"start it, or mend {role}_broker: host, port, name and password",
            )  # fmt: skip
            continue
        yield from judge_broker(name, facts, largest_update(config.state_dir / "models"))


def judge_broker(name: str, facts: BrokerFacts, update_bytes: int) -> Iterator[Finding]:
    """Hold what a broker said against what a node needs; `update_bytes` must go through."""
    lacks = [
        what
        for what, there in (
            ("persistent sessions", facts.keeps_sessions),
            ("retained messages", facts.retains),
            ("QoS 1", facts.max_qos >= 1),
            ("wildcard subscriptions", facts.wildcards),
        )
        if not there
    ]
    limit = facts.max_packet_bytes
    said = f"MQTT 5 in {facts.seconds * 1000:.0f} ms, packets to " + (
        f"{limit // 1024} KiB" if limit else "any size"
    )
    if lacks:
        yield Finding(
            name, "FAIL", f"without {', '.join(lacks)}", "set them as in deploy/mosquitto"
        )
    elif limit and limit < update_bytes:
        yield Finding(
            name, "FAIL", f"{said}; updates here may have {update_bytes // 1024} KiB",
            f"raise max_packet_size to {update_bytes} or more",
        )  # fmt: skip
    else:
        yield Finding(name, "ok", f"{said}, sessions and retained messages kept")


def check_coordinator_key(config: EdgeConfig) -> Iterator[Finding]:
    """The coordinator's public key can be read."""
    try:
        key = read_public_key(config.coordinator_key)
    except ConfigError as fault:
        yield Finding(
            "coordinator_key", "FAIL", fault.message,
            "copy signing.pub from the coordinator's state_dir to that path",
        )  # fmt: skip
        return
    yield Finding("coordinator_key", "ok", f"{key[:12]}… in {config.coordinator_key}")


def check_mailbox(config: EdgeConfig) -> Iterator[Finding]:
    """The mailbox takes a file and gives it back; its clock is not far from this host's."""
    probe = f"/.doctor-{config.hospital}-{uuid4().hex[:8]}"
    data = os.urandom(64)
    try:
        fs, root = fsspec.core.url_to_fs(config.mailbox)
        fs.makedirs(root, exist_ok=True)
        wrote_at = time.time()
        fs.pipe_file(root + probe, data)
        try:
            same = fs.cat_file(root + probe) == data
            modified = fs.modified(root + probe).timestamp()
        finally:
            fs.rm_file(root + probe)
    except Exception as fault:  # fsspec's stores raise errors of their own libraries
        yield Finding(
            "mailbox", "FAIL", f"{config.mailbox}: {fault}",
            "mount it, or mend its URL, credentials and owner",
        )  # fmt: skip
        return
    if not same:
        yield Finding("mailbox", "FAIL", f"{config.mailbox} gives back other bytes", "replace it")
        return
    yield Finding("mailbox", "ok", f"{config.mailbox} readable and writable")
    yield judge_clock(wrote_at, modified)


def judge_clock(here: float, mailbox: float) -> Finding:
    """The clock here against the time that the mailbox gave to a file written just now."""
    apart = abs(here - mailbox)
    level: Level = "FAIL" if apart > CLOCK_FAIL_S else "warn" if apart > CLOCK_WARN_S else "ok"
    remedy = "" if level == "ok" else "set both by NTP: deadlines are wall time"
    return Finding("mailbox clock", level, f"{apart:.1f} s from this host's", remedy)


def largest_update(models: Path) -> int:
    """Size that an update may have: as intake allows it for the models at hand, else a usual one."""
    sizes = [path.stat().st_size for path in models.glob("*.safetensors")]
    return 3 * max(sizes) + HEADER_ALLOWANCE if sizes else USUAL_UPDATE_BYTES

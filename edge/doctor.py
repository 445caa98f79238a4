"""Says what an edge node lacks on this host, and the remedy; reads, and leaves nothing behind.

Each check is one function from the configuration to findings; one that breaks does not keep the
others from being made.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing

from common.errors import ConfigError, PulseRingError
from edge import doctor_host, doctor_links
from edge.config import EdgeConfig
from edge.finding import Check, Finding
from edge.ledger import FILE_NAME
from edge.schema import SCHEMA_VERSION

_BARE = """
    SELECT COUNT(*) FROM messages WHERE subject = 'update'
        AND NOT EXISTS (SELECT 1 FROM payloads WHERE message_id = messages.id)
        AND NOT EXISTS (SELECT 1 FROM fates
            WHERE fates.device = messages.device AND fates.base_digest = messages.key)
"""


def examine(config: EdgeConfig) -> Iterator[Finding]:
    """All findings, each as soon as it is known."""
    for check in CHECKS:
        try:
            yield from check(config)
        except (PulseRingError, OSError, sqlite3.Error) as fault:
            name = check.__name__.removeprefix("check_").replace("_", " ")
            yield Finding(name, "FAIL", str(fault), "mend what it says and look again")


def check_configuration(config: EdgeConfig) -> Iterator[Finding]:
    """The roster, and what the keys say together."""
    yield Finding("configuration", "ok", f"hospital {config.hospital} of region {config.region}")
    try:
        yield Finding("roster", "ok", f"{len(config.roster())} wristbands")
    except ConfigError as fault:
        yield Finding("roster", "FAIL", fault.message, "write one name a line, each once")
    if config.identity == "unauthenticated":
        yield Finding(
            "identity", "warn", "the hospital broker does not tie a topic's device to a certificate",
            "for rehearsals only: no patients (SECURITY.md)",
        )  # fmt: skip


def check_ledger(config: EdgeConfig) -> Iterator[Finding]:
    """The ledger's integrity, version, and that what waits has its bytes."""
    path = config.state_dir / FILE_NAME
    if not path.exists():
        yield Finding("ledger", "ok", "none yet: the first start makes it")
        return
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
            (num_bare,) = db.execute(_BARE).fetchone()
    except sqlite3.DatabaseError as fault:
        said, version, num_bare = str(fault), 0, 0
    restore = "end the node, move state_dir away, and `python -m edge restore` the last backup"
    if said != "ok":
        yield Finding("ledger", "FAIL", said, restore)
    elif version > SCHEMA_VERSION:
        yield Finding(
            "ledger", "FAIL", f"version {version}, this program knows {SCHEMA_VERSION}",
            "run the program that wrote it, or a later one",
        )  # fmt: skip
    elif num_bare:
        yield Finding("ledger", "FAIL", f"{num_bare} updates wait without their bytes", restore)
    else:
        yield Finding("ledger", "ok", f"quick_check ok, version {version}")


CHECKS: tuple[Check, ...] = (
    check_configuration,
    doctor_host.check_state,
    doctor_host.check_disk,
    check_ledger,
    doctor_links.check_coordinator_key,
    doctor_links.check_brokers,
    doctor_links.check_mailbox,
    doctor_host.check_clock,
    doctor_host.check_descriptors,
    doctor_host.check_health_port,
    doctor_host.check_rank,
)


def render(finding: Finding, *, colour: bool) -> str:
    """One finding as a line, its remedy as a second one."""
    paint = {"ok": "\033[32m", "warn": "\033[33m", "FAIL": "\033[1;31m"}[finding.level]
    level = f"{finding.level:<4}"
    level = f"{paint}{level}\033[0m" if colour else level
    line = f"{level}  {finding.name:<15}  {finding.found}"
    return f"{line}\n{'':<23}→ {finding.remedy}" if finding.remedy else line


def in_colour() -> bool:
    """Whether stdout is a terminal that wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ

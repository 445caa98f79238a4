"""What an operator decides about wristbands: revoke, readmit, unmute; and who stands how.

A decision is a row in the ledger, beside the running node or before its next start.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from typing import Annotated, Any

import typer

from common.command import (
    ConfigOption,
    JsonOption,
    SetOption,
    epilog,
    load,
    print_json,
    print_rows,
    told,
)
from common.errors import ConfigError
from edge import reports
from edge.config import EdgeConfig
from edge.ledger import FILE_NAME, Ledger

COLUMNS = ("device", "standing", "since_at", "muted_until_at", "note", "num_waiting")
POLL_S = 0.2

DeviceArgument = Annotated[list[str], typer.Argument(metavar="DEVICE…", help="Of the roster.")]
NoteOption = Annotated[str, typer.Option("--note", help="Why; kept in the ledger.")]
WaitOption = Annotated[
    float, typer.Option("--wait", min=0, help="Seconds to wait for a running node to act on it.")
]


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into ``python -m edge``."""
    config = "-c edge.toml"
    app.command(
        epilog=epilog(
            f"python -m edge revoke wb-07 {config} --note 'consent withdrawn by letter'",
            f"python -m edge revoke wb-07 wb-08 {config} --json",
        )
    )(revoke)
    app.command(epilog=epilog(f"python -m edge readmit wb-07 {config}"))(readmit)
    app.command(epilog=epilog(f"python -m edge unmute wb-07 {config}"))(unmute)
    app.command(
        epilog=epilog(f"python -m edge devices {config}", f"python -m edge devices {config} --json")
    )(devices)


def revoke(
    device: DeviceArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    note: NoteOption = "",
    wait_s: WaitOption = 5.0,
    as_json: JsonOption = False,
) -> None:
    """Withdraw wristbands' consent: nothing of theirs is taken any more, and none of their updates
    is counted but those that a ring is adding up already.

    An update in a committed model stays in it. The node may be running or stopped; a stopped one
    gives the updates their fate at its next start.
    """
    _decide(
        load(EdgeConfig, config, overrides),
        device,
        lambda ledger, name, now: ledger.decide(name, "revoked", note, now),
        wait_s,
        as_json,
    )


def readmit(
    device: DeviceArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    note: NoteOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take revoked wristbands' messages again, from the next round on."""
    _decide(
        load(EdgeConfig, config, overrides),
        device,
        lambda ledger, name, now: ledger.decide(name, "given", note, now),
        0.0,
        as_json,
    )


def unmute(
    device: DeviceArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Listen to muted wristbands again at once."""
    _decide(
        load(EdgeConfig, config, overrides),
        device,
        lambda ledger, name, now: ledger.mute(name, "unmuted", now, now),
        0.0,
        as_json,
    )


def devices(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Show how every wristband of the roster stands: listened to, muted or revoked."""
    settings = load(EdgeConfig, config, overrides)
    _show(reports.devices(settings.state_dir, settings.roster(), time.time()), as_json)


def _decide(
    settings: EdgeConfig,
    wanted: list[str],
    decide: Callable[[Ledger, str, float], None],
    wait_s: float,
    as_json: bool,
) -> None:
    unknown = sorted(set(wanted) - settings.roster())
    if unknown:
        raise ConfigError(f"not in the roster of {settings.hospital}: {', '.join(unknown)}")
    if not (settings.state_dir / FILE_NAME).is_file():
        raise ConfigError(f"{settings.state_dir} has no ledger: no edge node has run with it")
    try:
        with closing(Ledger(settings.state_dir)) as ledger, ledger.transaction():
            for name in dict.fromkeys(wanted):
                decide(ledger, name, time.time())
    except sqlite3.Error as fault:
        raise told(f"the ledger in {settings.state_dir} takes nothing: {fault}", 1) from fault
    rows = _when_done(settings, frozenset(wanted), wait_s)
    _show(rows, as_json)
    waiting = sum(row["num_waiting"] for row in rows if row["standing"] == "revoked")
    if waiting and not as_json:
        typer.echo(
            f"{waiting} stored updates still wait for a fate: they are in a sum that a ring may be "
            "adding up, or the node is not running",
            err=True,
        )


def _when_done(settings: EdgeConfig, wanted: frozenset[str], wait_s: float) -> list[dict[str, Any]]:
    deadline = time.monotonic() + wait_s
    while True:
        rows = reports.devices(settings.state_dir, wanted, time.time())
        if time.monotonic() >= deadline or not any(row["num_waiting"] for row in rows):
            return rows
        time.sleep(POLL_S)


def _show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, COLUMNS, "no devices")

"""``python -m edge``: run a hospital's edge node, or read its ledger."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import structlog
import typer

from common import logs
from common.command import (
    Commands,
    ConfigOption,
    JsonOption,
    SetOption,
    epilog,
    load,
    print_json,
    print_rows,
)
from edge import people, reports
from edge.commands import add_commands
from edge.config import EdgeConfig

UPDATE_COLUMNS = ("device", "base_digest", "round_id", "num_examples", "stored_at", "fate")
REFUSAL_COLUMNS = ("round_id", "device", "reason", "num", "last_at")
REASON_COLUMNS = ("reason", "num", "num_devices", "num_rounds", "last_at")

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=epilog(
        "python -m edge run --config deploy/local/edge-north.toml",
        "python -m edge ledger --config deploy/local/edge-north.toml",
    ),
    help="The edge node of one community hospital: takes in wristbands' updates over MQTT, adds "
    "them up, and takes its place in the region's Horovod ring. No ECG ever reaches it.",
)
log = structlog.get_logger()


@app.command(
    epilog=epilog("python -m edge run --config edge.toml -s heartbeat_s=2", keys=EdgeConfig)
)
def run(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Run the node until SIGTERM or Ctrl-C.

    /healthz, /metrics and /status answer at health_listen; logs go to stderr.
    """
    settings = load(EdgeConfig, config, overrides)
    logs.set_up(settings.log_level, settings.log_format, tier="edge", hospital_id=settings.hospital)
    from edge.service import Service  # reading a ledger needs no MQTT

    service = Service(settings)
    if settings.identity == "unauthenticated":
        log.warning(
            "identity_unauthenticated",
            why="the hospital broker does not tie a topic's device to a certificate",
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: service.stop())
    service.run()


@app.command(
    epilog=epilog(
        "python -m edge ledger --config edge.toml",
        "python -m edge ledger --config edge.toml --rejected --json",
        "python -m edge ledger --config edge.toml --by-reason",
    )
)
def ledger(
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Refused messages instead, by round and device.")
    ] = False,
    by_reason: Annotated[
        bool, typer.Option("--by-reason", help="Refused messages, added up by reason.")
    ] = False,
    round_id: Annotated[
        int | None,
        typer.Option("--round", min=1, help="Only what was sent in it.", show_default=False),
    ] = None,
) -> None:
    """Show every stored update and its fate; the node may be running or stopped."""
    state_dir = load(EdgeConfig, config, overrides).state_dir
    if rejected or by_reason:
        _show_refusals(state_dir, round_id, by_reason=by_reason, as_json=as_json)
        return
    rows = reports.updates(state_dir, round_id)
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, UPDATE_COLUMNS, "no updates yet")


def _show_refusals(
    state_dir: Path, round_id: int | None, *, by_reason: bool, as_json: bool
) -> None:
    rows = [row for row in reports.refusals(state_dir) if round_id in (None, row["round_id"])]
    reasons = reports.reasons(rows)
    if as_json:
        print_json(reasons if by_reason else rows)
        return
    print_rows(reasons, REASON_COLUMNS, "no refusals yet")
    if reasons and not by_reason:
        print_rows(rows, REFUSAL_COLUMNS, "")


people.add_commands(app)
add_commands(app)

if __name__ == "__main__":
    app()

"""``python -m edge``: run a hospital's edge node, or read its ledger."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
import typer
from rich.console import Console
from rich.table import Table

from common import logs
from common.errors import PulseRingError
from edge import reports
from edge.config import EdgeConfig

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="The edge node of one community hospital: takes in wristbands' updates over MQTT, adds "
    "them up, and takes its place in the region's Horovod ring. No ECG ever reaches it.",
)
ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="The node's TOML file.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="KEY=VALUE", help="Set a key over file and environment."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
T = TypeVar("T")
log = structlog.get_logger()


@app.command(
    epilog="Example: python -m edge run --config edge.toml --set heartbeat_s=2   ·   "
    "The same key from the environment: PULSERING_EDGE_HEARTBEAT_S=2"
)
def run(config: ConfigPath = None, override: Overrides = None) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    settings = _load(config, override)
    logs.set_up(settings.log_level, settings.log_format, tier="edge", hospital_id=settings.hospital)
    from edge.service import Service  # reading a ledger needs no MQTT

    service = _or_exit(lambda: Service(settings))
    if settings.identity == "unauthenticated":
        log.warning(
            "identity_unauthenticated",
            why="the hospital broker does not tie a topic's device to a certificate",
        )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: service.stop())
    service.run()


@app.command(epilog="Example: python -m edge ledger --config edge.toml --rejected --json")
def ledger(
    config: ConfigPath = None,
    override: Overrides = None,
    as_json: AsJson = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="Refusals, counted.")] = False,
) -> None:
    """Show every stored update and its fate; the node may be running or stopped."""
    state_dir = _load(config, override).state_dir
    read = reports.refusals if rejected else reports.updates
    _print(_or_exit(lambda: read(state_dir)), as_json, "refusals" if rejected else "updates")


@app.command(epilog="Example: python -m edge status --config edge.toml --json")
def status(config: ConfigPath = None, override: Overrides = None, as_json: AsJson = False) -> None:
    """Show every round of this hospital and how it ended; the node may be running or stopped."""
    state_dir = _load(config, override).state_dir
    _print(_or_exit(lambda: reports.rounds(state_dir)), as_json, "rounds")


def _load(config: Path | None, override: list[str] | None) -> EdgeConfig:
    return _or_exit(lambda: EdgeConfig.load(config, override or []))


def _or_exit(action: Callable[[], T]) -> T:
    try:
        return action()
    except PulseRingError as fault:
        sys.stderr.write(f"edge: {fault.message}\n")
        raise typer.Exit(fault.exit_code) from fault


def _print(rows: list[dict[str, Any]], as_json: bool, title: str) -> None:
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return
    if not rows:
        sys.stdout.write(f"no {title} yet\n")
        return
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    Console().print(table)


def _cell(name: str, value: object) -> str:
    text = "" if value is None else str(value)
    return text[:12] if name.endswith("digest") else text


if __name__ == "__main__":
    app()

"""``python -m regional``: run a region's coordinator, or read its ledger."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from common.errors import PulseRingError
from common.logs import set_up
from regional.config import RegionConfig
from regional.ledger import read_records
from regional.progress import replay
from regional.records import Record
from regional.reports import progress_report, round_reports, seal_reports

app = typer.Typer(
    name="regional",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="The coordinator of a region: opens rounds, plans rings, commits, seals a model a day.",
)

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="TOML file, such as deploy/local/region.toml.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Lay key=value over the file, such as rounds.quorum=2."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


ROUND_COLUMNS = (
    "round_id",
    "day",
    "purpose",
    "end",
    "generation",
    "num_invited",
    "num_stored",
    "num_rejected",
    "num_evaluated",
    "ring_seconds",
    "seconds",
    "reason",
)


@app.command()
def run(config: ConfigOption, overrides: SetOption = None) -> None:
    """Coordinate the region until SIGTERM or Ctrl-C.

    Example: `python -m regional run --config region.toml --set rounds.num_days=2`
    """
    settings = RegionConfig.load(config, overrides or ())
    set_up(settings.log_level, settings.log_format, tier="regional", region=settings.region)
    # Horovod is imported here, so that help and reports answer at once.
    from regional.service import Service

    service = Service(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run()


@app.command()
def rounds(config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """List the ended rounds of a running or stopped coordinator.

    Example: `python -m regional rounds --config region.toml --json`
    """
    reports = round_reports(_records(config, overrides))
    _print(reports, ROUND_COLUMNS, as_json)


@app.command()
def status(config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """Say how the region stands according to its ledger.

    Example: `python -m regional status --config region.toml`
    """
    records = _records(config, overrides)
    report = progress_report(replay(records), records)
    rows = [
        {"what": key, "value": len(value) if isinstance(value, list) else value}
        for key, value in report.items()
    ]
    _print(report if as_json else rows, ("what", "value"), as_json)


@app.command()
def seals(config: ConfigOption, overrides: SetOption = None, as_json: JsonOption = False) -> None:
    """List the sealed days and what the cloud decided.

    Example: `python -m regional seals --config region.toml`
    """
    reports = seal_reports(_records(config, overrides))
    for report in reports if not as_json else ():
        report["sealed_at"] = datetime.fromtimestamp(report["sealed_at"], UTC).isoformat(" ")[:19]
        decision = report["decision"] or {"decision": "none yet", "release": ""}
        report["decision"] = f"{decision['decision']} {decision['release']}".strip()
    _print(reports, ("day", "model_digest", "sealed_at", "reason", "decision"), as_json)


def _records(config: Path, overrides: list[str] | None) -> list[Record]:
    return read_records(RegionConfig.load(config, overrides or ()).ledger_path)


def _print(report: Any, columns: tuple[str, ...], as_json: bool) -> None:  # noqa: ANN401
    if as_json:
        typer.echo(json.dumps(report, indent=2))
        return
    table = Table(*columns)
    for row in report:
        table.add_row(*(_cell(row[column]) for column in columns))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _cell(value: Any) -> str:  # noqa: ANN401
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main(command: Callable[[], None] = app) -> None:
    """Run a command; an expected fault is one line and an exit code."""
    try:
        command()
    except PulseRingError as fault:
        typer.echo(f"regional: {fault.message}", err=True)
        raise SystemExit(fault.exit_code) from fault


if __name__ == "__main__":
    main()

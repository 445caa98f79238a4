"""``python -m regional``: run a region's coordinator, or read its ledger."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

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
from common.logs import set_up
from regional.commands import add_commands
from regional.config import RegionConfig
from regional.ledger import read_records
from regional.progress import replay
from regional.records import Record
from regional.reports import progress_report, round_reports, seal_reports
from regional.roster import admit, dismiss, readmit, roster_report

app = typer.Typer(
    name="regional",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=epilog(
        "python -m regional run --config deploy/local/region.toml",
        "python -m regional rounds --config deploy/local/region.toml",
    ),
    help="The coordinator of a region: opens rounds, plans rings, commits, seals a model a day.",
)

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


@app.command(
    epilog=epilog(
        "python -m regional run --config region.toml -s rounds.num_days=2", keys=RegionConfig
    )
)
def run(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Coordinate the region until SIGTERM or Ctrl-C.

    /healthz, /metrics, /status, /rounds and /seals (the last 200 of each) answer at
    health_listen; logs go to stderr.
    """
    settings = load(RegionConfig, config, overrides)
    set_up(settings.log_level, settings.log_format, tier="regional", region=settings.region)
    # Horovod is imported here, so that help and reports answer at once.
    from regional.service import Service

    service = Service(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.run()


@app.command(epilog=epilog("python -m regional rounds --config region.toml --json"))
def rounds(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the ended rounds of a running or stopped coordinator."""
    reports = round_reports(_records(config, overrides))
    if as_json:
        print_json(reports)
    else:
        print_rows(reports, ROUND_COLUMNS, "no round has ended yet")


@app.command(epilog=epilog("python -m regional status --config region.toml"))
def status(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Say how the region stands according to its ledger.

    What only a running coordinator knows, such as each hospital's last
    status, it answers at /status of its health_listen.
    """
    records = _records(config, overrides)
    report = progress_report(replay(records), records)
    if as_json:
        print_json(report)
        return
    values = {**report, "dead_rings": len(report["dead_rings"])}
    rows = [{"what": key, "value": value} for key, value in values.items()]
    print_rows(rows, ("what", "value"), "")


@app.command(epilog=epilog("python -m regional seals --config region.toml --json"))
def seals(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the sealed days and what the cloud decided."""
    reports = seal_reports(_records(config, overrides))
    if as_json:
        print_json(reports)
        return
    for report in reports:
        decision = report["decision"] or {"decision": "none yet", "release": ""}
        report["decision"] = f"{decision['decision']} {decision['release']}".strip()
    columns = ("day", "model_digest", "sealed_at", "reason", "decision")
    print_rows(reports, columns, "no day is sealed yet")


hospitals_app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Hospitals of the region: list, let in, take out; a running coordinator follows at once.",
)
app.add_typer(hospitals_app, name="hospitals")

HospitalName = Annotated[str, typer.Argument(help="Its name, as in its own configuration.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Kept in the ledger.")]
HOSPITAL_COLUMNS = ("hospital", "state", "until_round", "reason", "public_key")


@hospitals_app.command("list", epilog=epilog("python -m regional hospitals list -c region.toml"))
def list_hospitals(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the hospitals that belong to the region, or did once.

    Without public_key, the configuration names the file of it.
    """
    rows = roster_report(replay(_records(config, overrides)))
    if as_json:
        print_json(rows)
    else:
        print_rows(rows, HOSPITAL_COLUMNS, "no hospitals yet")


@hospitals_app.command(
    "add",
    epilog=epilog("python -m regional hospitals add hillside --key hillside.pub -c region.toml"),
)
def add_hospital(
    hospital: HospitalName,
    key: Annotated[Path, typer.Option("--key", help="Its signing.pub.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
) -> None:
    """Let a hospital into the region, or give it another key."""
    typer.echo(admit(load(RegionConfig, config, overrides).ledger_path, hospital, key))


@hospitals_app.command(
    "remove", epilog=epilog("python -m regional hospitals remove hillside -c region.toml")
)
def remove_hospital(
    hospital: HospitalName,
    config: ConfigOption = None,
    overrides: SetOption = None,
    reason: ReasonOption = "an operator's command",
) -> None:
    """Take a hospital out of the region, also when the configuration names it."""
    settings = load(RegionConfig, config, overrides)
    typer.echo(dismiss(settings.ledger_path, hospital, reason, settings.rounds.quorum))


@hospitals_app.command(
    "readmit", epilog=epilog("python -m regional hospitals readmit hillside -c region.toml")
)
def readmit_hospital(
    hospital: HospitalName,
    config: ConfigOption = None,
    overrides: SetOption = None,
    reason: ReasonOption = "an operator's command",
) -> None:
    """Let a hospital back into rings whose rank had computed what the others did not."""
    typer.echo(readmit(load(RegionConfig, config, overrides).ledger_path, hospital, reason))


add_commands(app)


def _records(config: Path | None, overrides: list[str] | None) -> list[Record]:
    return read_records(load(RegionConfig, config, overrides).ledger_path)


if __name__ == "__main__":
    app()

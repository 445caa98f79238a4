"""What an operator asks of a node beside `run` and its ledger: status, doctor, drain, backup, restore."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

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
from common.lock import hold, is_held
from edge import backup as backups
from edge import doctor as doctors
from edge import drain as drains
from edge import reports
from edge.config import EdgeConfig
from edge.disk import MB, measure
from edge.ledger import FILE_NAME, Ledger
from edge.sight import Sight, look

MAX_NAMES = 10
stderr = Console(stderr=True)
ROUND_COLUMNS = (
    "round_id",
    "num_invited",
    "num_updates",
    "num_evaluations",
    "num_refused",
    "weight",
    "aggregate_digest",
    "end",
    "reason",
)


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into ``python -m edge``."""
    config = "-c edge.toml"
    for command, *examples in (
        (status, f"{config}", f"{config} --rounds 100 --json"),
        (doctor, f"{config}", f"{config} --json"),
        (drain, f"{config}", f"{config} --timeout-s 7200 --json", f"{config} --cancel"),
        (backup, f"--to /backup/edge-north.tar {config}", f"--to /backup {config} --json"),
        (restore, f"--from /backup/edge-north.tar {config}"),
        (compact, f"{config}", f"{config} -s keep_rounds=100"),
    ):
        name = command.__name__
        lines = (f"python -m edge {name} {example}" for example in examples)
        app.command(name, epilog=epilog(*lines))(command)


def status(
    config: ConfigOption = None,
    overrides: SetOption = None,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="How many, the last ones.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Say whether the node runs and how it stands, then its last rounds.

    A stopped node's ledger is read all the same.
    """
    settings = load(EdgeConfig, config, overrides)
    folder = settings.state_dir
    sight = look(folder)
    barred = _barred(settings)
    waiting = reports.waiting(folder)
    rows = reports.rounds(folder, rounds)
    if as_json:
        shown = asdict(sight) | barred | {"waiting_updates": waiting, "rounds": rows}
        print_json(shown)
        return
    print_rows(list(_standing(sight, waiting, barred)), ("what", "value"), "")
    print_rows(rows, ROUND_COLUMNS, "no rounds yet")


def _barred(settings: EdgeConfig) -> dict[str, list[str]]:
    """Names of the roster's wristbands that are not listened to, by why; ``edge devices`` tells more."""
    devices = reports.devices(settings.state_dir, settings.roster(), time.time())
    return {
        standing: [row["device"] for row in devices if row["standing"] == standing]
        for standing in ("muted", "revoked")
    }


def _standing(sight: Sight, waiting: int, barred: dict[str, list[str]]) -> list[dict[str, str]]:
    health = sight.health
    values = {"node": "does not run"}
    if sight.runs:
        values["node"] = f"runs, {sight.url}" if health else "runs, but does not answer"
    if health:
        links, disk, rank = health["links"], health.get("disk", {}), health.get("rank", {})
        values |= {
            "well": "yes" if health.get("ok") else "no",
            "region broker": "connected" if links.get("region") else "away",
            "hospital broker": "connected" if links.get("hospital") else "away",
            "round": f"{health.get('round_id')}, {health.get('phase')}",
            "rank": f"{rank.get('state')}, ring generation {rank.get('generation')}",
            "disk": _disk_in_words(disk),
            "draining": "yes" if health.get("draining") else "no",
            "error": health.get("error") or "none",
        }
    values["waiting updates"] = str(waiting)
    values |= {standing: _names(devices) for standing, devices in barred.items()}
    return [{"what": what, "value": value} for what, value in values.items()]


def _names(devices: list[str]) -> str:
    more = f" and {len(devices) - MAX_NAMES} more" if len(devices) > MAX_NAMES else ""
    return ", ".join(devices[:MAX_NAMES]) + more or "none"


def _disk_in_words(disk: dict[str, Any]) -> str:
    if not disk:
        return "unknown"
    used, free = disk["used_bytes"] // MB, disk["free_bytes"] // MB
    return f"{disk['state']}, {used} MiB used, {free} MiB free"


def doctor(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Check what this node needs, and say what to do about each fault.

    Configuration, disk, ledger, keys, both brokers, mailbox, clock, limits,
    and the rank's Python. Exit code 1: something FAILs.
    """
    settings = load(EdgeConfig, config, overrides)
    findings = []
    for finding in doctors.examine(settings):
        findings.append(finding)
        if not as_json:
            typer.echo(doctors.render(finding, colour=doctors.in_colour()))
    num_failed = sum(finding.level == "FAIL" for finding in findings)
    if as_json:
        print_json({"ok": not num_failed, "findings": [asdict(each) for each in findings]})
    else:
        typer.echo(f"\n{'not ready' if num_failed else 'ready'}: {num_failed} FAIL")
    if num_failed:
        raise typer.Exit(1)


def drain(
    config: ConfigOption = None,
    overrides: SetOption = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0, help="How long to wait for the node's end.")
    ] = 3600.0,
    cancel: Annotated[bool, typer.Option("--cancel", help="Withdraw the order.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let the running node end its round, say goodbye and go.

    It takes updates until its round closes, gives them their fates, begins no
    further round, and ends with exit code 0. Updates of a round that ends
    without a commit wait in the ledger until the node runs again.
    """
    folder = load(EdgeConfig, config, overrides).state_dir
    if cancel:
        _cancel(folder, as_json=as_json)
        return
    drains.ask(folder)
    with _Progress("asked to drain", quiet=as_json) as tell:
        done = drains.wait(folder, timeout_s, tell)
    waiting = reports.waiting(folder)
    report = {"state": "drained", "seconds": done["seconds"], "waiting_updates": waiting}
    if as_json:
        print_json(report | {"round_id": done["last"].get("round_id")})
    else:
        typer.echo(f"drained after {done['seconds']:.1f} s; {waiting} updates wait in the ledger")


def _cancel(folder: Path, *, as_json: bool) -> None:
    if not drains.withdraw(folder):
        raise told("nobody has asked this node to drain", 3)
    if as_json:
        print_json({"state": "withdrawn"})
    else:
        typer.echo("withdrawn: the node goes on")


def backup(
    to: Annotated[Path, typer.Option("--to", help="A file that is not there yet, or a folder.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the state of a running or stopped node into one file.

    Ledger, signing key, aggregates of open rounds; the file has mode 0600,
    for the private key in it. Configuration and roster are files of yours.
    """
    settings = load(EdgeConfig, config, overrides)
    path = to / backups.name_of_today(settings.hospital) if to.is_dir() else to
    with _Progress(f"writing {path}", quiet=as_json):
        manifest = backups.back_up(settings.state_dir, settings.hospital, path, time.time())
    if as_json:
        print_json({"path": str(path), **manifest})
        return
    typer.echo(
        f"{path}: {path.stat().st_size / MB:.1f} MiB, up to round {manifest['last_round_id']}, "
        f"{manifest['waiting_updates']} updates without a fate"
    )


def restore(
    source: Annotated[Path, typer.Option("--from", help="What `backup` wrote.")],
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup into an empty state_dir; then start the node.

    What was stored after the backup is lost: such updates are in no later
    round, though their wristbands have receipts (docs/operation.md).
    """
    settings = load(EdgeConfig, config, overrides)
    manifest = backups.restore(settings.state_dir, settings.hospital, source, time.time())
    if as_json:
        print_json({"state_dir": str(settings.state_dir), **manifest})
        return
    typer.echo(
        f"{settings.state_dir} is as it was at round {manifest['last_round_id']}, with "
        f"{manifest['waiting_updates']} updates without a fate; start the node"
    )


def compact(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """Archive all old rounds of a stopped node at once, and give disk back.

    A running node archives by itself, a round a second; its ledger's file
    keeps its size, which later rounds fill again.
    """
    settings = load(EdgeConfig, config, overrides)
    folder = settings.state_dir
    reports.waiting(folder)  # else there is nothing to compact, and it says so
    if is_held(folder):
        raise told("the node runs, and archives by itself: drain it first to give disk back", 1)
    hold(folder, "edge node")  # until this process ends
    before = measure(folder).ledger_bytes
    with _Progress("archiving", quiet=as_json) as tell:
        num = _archive_all(folder, settings.keep_rounds, tell)
    report = {"archived_rounds": num, "bytes_before": before}
    report["bytes_after"] = measure(folder).ledger_bytes
    if as_json:
        print_json(report)
    else:
        after = report["bytes_after"]
        typer.echo(
            f"{num} rounds archived; {FILE_NAME} {before / MB:.1f} MiB → {after / MB:.1f} MiB"
        )


def _archive_all(folder: Path, keep_rounds: int, tell: Callable[[str], None]) -> int:
    ledger, num = Ledger(folder), 0
    try:
        while keep_rounds and (done := ledger.archive_oldest(keep_rounds, time.time())):
            num += 1
            if done.aggregate:
                (folder / "rounds" / done.aggregate).unlink(missing_ok=True)
            tell(f"round {done.round_id}")
        tell("giving disk back")
        ledger.give_back()
    except sqlite3.Error as fault:
        raise told(
            f"{folder / FILE_NAME} takes nothing: {fault}; {num} rounds archived", 1
        ) from fault
    finally:
        ledger.close()
    return num


class _Progress:
    """A line on a terminal's stderr that says where long work stands; else nothing."""

    def __init__(self, first: str, *, quiet: bool) -> None:
        shown = not quiet and stderr.is_terminal
        self._status = stderr.status(first) if shown else None

    def __enter__(self) -> Callable[[str], None]:
        if self._status is None:
            return lambda _text: None
        self._status.start()
        return self._status.update

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

"""What an operator asks of a region beside the reports of ``__main__``: replay, seal, watch, timeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import track

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
from common.errors import ConfigError, PulseRingError
from regional.closing import ask_for_seal, wait_for_seal
from regional.config import RegionConfig
from regional.ledger import read_records
from regional.recheck import Check, Claim, check, claims
from regional.records import DaySealed, Record
from regional.seal import sealed_path
from regional.sight import Sight, address, look
from regional.timeline import bars, headline
from regional.timeline import timeline as timeline_of
from regional.watch_view import render

stderr = Console(stderr=True)
stdout = Console(highlight=False)
BESIDE_BARS = 62  # columns of the figures beside the bars
CHECK_COLUMNS = ("round_id", "day", "purpose", "verdict", "model_digest", "reason")


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this module into ``python -m regional``."""
    config = "-c region.toml"
    app.command(
        epilog=epilog(
            f"python -m regional replay {config}",
            f"python -m regional replay {config} --from 10 --to 20 --json",
        )
    )(replay)
    app.command(
        epilog=epilog(
            f"python -m regional seal {config}",
            f"python -m regional seal {config} --wait --json --reason 'end of the study'",
        )
    )(seal)
    app.command(
        epilog=epilog(
            f"python -m regional watch {config}",
            f"python -m regional watch {config} --once",
        )
    )(watch)
    app.command(
        epilog=epilog(
            f"python -m regional timeline {config}",
            f"python -m regional timeline 12 {config} --json",
        )
    )(timeline)


def replay(
    config: ConfigOption = None,
    overrides: SetOption = None,
    round_id: Annotated[
        int | None, typer.Option("--round", min=1, help="Only this round.", show_default=False)
    ] = None,
    first: Annotated[int, typer.Option("--from", min=1, help="First round.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="Last round.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that each committed round's model is what its sums say.

    Takes the server step of committed rounds again, from the sums in the
    mailbox, and compares what it gives with the ledger.  Writes nothing; the
    coordinator may run or not.  Exit code 1: a round differs or a file lacks.
    """
    settings = load(RegionConfig, config, overrides)
    first, last = _range(round_id, first, last)
    asked = _asked(read_records(settings.ledger_path), first, last)
    bar = track(asked, "rounds", console=stderr, transient=True)
    checks = [check(settings, claim) for claim in bar]
    wrong = [each for each in checks if each.verdict != "equal"]
    if as_json:
        rounds = [each.as_json() for each in checks]
        print_json({"num_rounds": len(checks), "num_wrong": len(wrong), "rounds": rounds})
    else:
        _show(checks, wrong)
    if wrong:
        raise typer.Exit(1)


def _range(round_id: int | None, first: int, last: int | None) -> tuple[int, int | None]:
    if round_id is not None:
        if first != 1 or last is not None:
            raise ConfigError("--round names one round: leave --from and --to out")
        return round_id, round_id
    if last is not None and last < first:
        raise ConfigError(f"--from {first} lies after --to {last}")
    return first, last


def _asked(records: Sequence[Record], first: int, last: int | None) -> list[Claim]:
    found = claims(records, first, last)
    if found:
        return found
    committed = [claim.ended.outcome.round_id for claim in claims(records)]
    if not committed:
        raise told("no round is committed yet", 3)
    raise ConfigError(
        f"no round from {first} to {last or 'the last'} is committed; the ledger has "
        f"{len(committed)} that are, from round {committed[0]} to {committed[-1]}"
    )


def _show(checks: Sequence[Check], wrong: Sequence[Check]) -> None:
    if wrong:
        print_rows([each.as_json() for each in wrong], CHECK_COLUMNS, "")
    num = len(checks)
    typer.echo(f"{num - len(wrong)} of {num} committed rounds gave again what the ledger says")


def seal(
    config: ConfigOption = None,
    overrides: SetOption = None,
    reason: Annotated[str, typer.Option("--reason", help="Kept in the ledger.")] = "now",
    wait: Annotated[bool, typer.Option("--wait", help="Until it is sealed.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", min=0, help="How long --wait waits.")
    ] = 3600.0,
    as_json: JsonOption = False,
) -> None:
    """Seal the current day now, with the rounds that it has.

    The open round ends first, then the day is evaluated and sealed as usual.
    A running coordinator follows at once, a stopped one at its next start.
    """
    settings = load(RegionConfig, config, overrides)
    path = settings.ledger_path
    asked = ask_for_seal(path, reason)
    report: dict[str, Any] = {"day": asked.day, "state": "asked", "model_digest": None}
    sentence = f"day {asked.day} will be sealed once its open round and its evaluation have ended"
    if wait:
        with stderr.status(f"waiting for the seal of day {asked.day}"):
            sealed = wait_for_seal(path, asked.day, timeout_s)
        report |= _seal_report(settings, sealed)
        sentence = f"day {sealed.day} is sealed: {report['model_digest']} at {report['path']}"
    if as_json:
        print_json({**report, "reason": asked.reason})
    else:
        typer.echo(sentence)


def _seal_report(settings: RegionConfig, sealed: DaySealed) -> dict[str, Any]:
    digest = sealed.model_digest
    if digest is None:
        raise PulseRingError(f"day {sealed.day} was closed without a model: {sealed.reason}")
    path = f"{settings.mailbox.rstrip('/')}/{sealed_path(settings.region, sealed.day, digest)}"
    return {
        "state": "sealed",
        "model_digest": digest,
        "path": path,
        "sealed_at": sealed.sealed_at,
    }


def watch(
    config: ConfigOption = None,
    overrides: SetOption = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Where the coordinator answers, if not at health_listen."),
    ] = None,
    every_s: Annotated[
        float, typer.Option("--every-s", min=0.1, max=3600, help="Seconds between two looks.")
    ] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="One look; so without a terminal.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Watch a running coordinator: phase, hospitals, rounds and rings, live.

    Parts of a rank's work are in milliseconds, as of its last ring.  Ctrl-C
    ends it.  Exit code 1 when one look was asked for and nobody answers.
    """
    settings = load(RegionConfig, config, overrides)
    sight = Sight(address(settings, url))
    if once or as_json or not stdout.is_terminal:
        _show_once(look(sight, time.time()), as_json=as_json)
    else:
        _show_live(sight, lambda: address(settings, url), every_s)


def _show_once(sight: Sight, *, as_json: bool) -> None:
    if sight.fault:
        raise told(f"{sight.url} does not answer: {sight.fault}; does the coordinator run?", 1)
    if as_json:
        print_json({"status": sight.status, "rounds": sight.rounds})
    else:
        stdout.print(render(sight, time.time(), stdout.width))


def _show_live(sight: Sight, where: Callable[[], str], every_s: float) -> None:
    """Look until Ctrl-C; a coordinator that starts again may have taken another port."""
    with suppress(KeyboardInterrupt), Live(console=stdout, screen=True, auto_refresh=False) as live:
        while True:
            sight = look(replace(sight, url=where()), time.time())
            live.update(render(sight, time.time(), stdout.width), refresh=True)
            time.sleep(every_s)
    stdout.print(render(sight, time.time(), stdout.width))


def timeline(
    round_id: Annotated[
        int | None, typer.Argument(metavar="ROUND", help="The last one when left out.", min=1)
    ] = None,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where the seconds of a round's ring went, hospital by hospital.

    Bars share one scale; r read, p pack, a allreduce, u unpack, s step,
    w write.  For Horovod's own trace set ring_timeline at the edge nodes.
    """
    settings = load(RegionConfig, config, overrides)
    report = timeline_of(read_records(settings.ledger_path), round_id)
    if as_json:
        print_json(report)
        return
    typer.echo(headline(report))
    stdout.print(bars(report, max(10, stdout.width - BESIDE_BARS)))

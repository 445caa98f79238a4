"""Virtual wristbands, their broker, and a strip of ECG to try the API with.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 no quorum.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from common import logs
from common.errors import ConfigError, PulseRingError
from simulators.broker_process import default_kind, serve

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode="markdown")


@app.callback(help=__doc__)
def _commands() -> None: ...


@app.command()
def broker(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 1883,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    kind: Annotated[
        Literal["auto", "iotcore", "mosquitto"],
        typer.Option(help="auto: iotcore where its wheel is installed, else mosquitto."),
    ] = "auto",
    state_dir: Annotated[
        Path | None, typer.Option(help="Where its configuration file goes; else temporary.")
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run an MQTT 5 broker on loopback, until Ctrl-C.

    It has no access control and stores nothing on disk: for demo, tests and simulations.

    Example: `python -m simulators broker --port 1883`
    """
    chosen = default_kind() if kind == "auto" else kind
    if parent is None:
        _say(f"{chosen} on mqtt://{host}:{port} (MQTT 5, no access control); Ctrl-C stops it")
    serve(host, port, chosen, state_dir, parent)


@app.command()
def run(
    config: Annotated[Path | None, typer.Option(help="TOML of the fleet.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the TOML; repeatable.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Broker of the default fleet [mqtt://127.0.0.1:1883].")
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region [county].")] = None,
    task: Annotated[str | None, typer.Option(help="beats or dummy [beats].")] = None,
    devices: Annotated[
        int | None, typer.Option(help="Wristbands of the default fleet [one a wearer: 22].")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Holds mitdb/ [PULSERING_DATA, else the cache].")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Training processes [the cores].")] = None,
    seed: Annotated[int | None, typer.Option(help="Of jitter and synthetic ECG [0].")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print traffic as JSON on stdout at the end.")
    ] = False,
) -> None:
    """Run a fleet of wristbands against any MQTT 5 broker, until Ctrl-C.

    Without --config: 22 wristbands, one for each DS1 patient of MIT-BIH (or as many synthetic
    ones, and it says so), at the hospitals north, harbour and valley.

    Examples: `python -m simulators run`,
    `python -m simulators run --config fleet.toml --set seed=7`,
    `python -m simulators run --task dummy --devices 300 --json`
    """
    from simulators.fleet import FleetConfig, run_fleet

    flags = {
        "broker": broker,
        "region": region,
        "task": task,
        "devices": devices,
        "data": data,
        "workers": workers,
        "seed": seed,
    }
    given = [f"{key}={_toml(value)}" for key, value in flags.items() if value is not None]
    fleet = FleetConfig.load(config, [*(set_ or []), *given])
    logs.set_up(fleet.log_level, fleet.log_format, tier="simulators")
    report = run_fleet(fleet)
    if as_json:
        typer.echo(json.dumps(report, indent=2))


@app.command()
def sample(
    seconds: Annotated[float, typer.Option(help="Length of the strip.", min=1, max=1800)] = 30.0,
    record: Annotated[
        str | None,
        typer.Option("--record", "--wearer", help="Such as 100 or syn23 [100, else syn23]."),
    ] = None,
    start: Annotated[float, typer.Option(help="Where it begins, in seconds.", min=0)] = 0.0,
    data: Annotated[
        Path | None, typer.Option(help="Holds mitdb/ [PULSERING_DATA, else the cache].")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; else stdout.")] = None,
) -> None:
    """Print a strip of ECG as JSON, ready for the API; stderr says where it comes from.

    Example: `python -m simulators sample --seconds 30 | curl -s -H 'Content-Type:
    application/json' -d @- http://127.0.0.1:8080/v1/ecg/analyze`
    """
    from common.ecg.sources import data_root
    from simulators.sample import request_body
    from simulators.sample import sample as cut

    strip = cut(data_root(data, os.environ), seconds, record, start)
    text = json.dumps(request_body(strip))
    _say(f"{seconds:g} s of record {strip.name} ({strip.source}), {len(strip.r_idx)} beats")
    if out is None:
        typer.echo(text)
        return
    try:
        out.write_text(text + "\n")
    except OSError as fault:
        raise ConfigError(f"--out {out}: {fault.strerror}") from fault


def _add_demo() -> None:
    """Add ``demo`` when it is asked for or listed: it imports every tier."""
    asked = sys.argv[1:2] in ([], ["--help"], ["demo"])
    if asked and find_spec("simulators.demo"):
        app.command("demo")(import_module("simulators.demo").demo)


def _toml(value: object) -> str:
    return json.dumps(value if isinstance(value, int) else str(value))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main() -> None:
    """Run a command; a user's mistake is one sentence on stderr and its exit code."""
    _add_demo()
    try:
        app()
    except PulseRingError as fault:
        _say(f"error: {fault.message}")
        sys.exit(fault.exit_code)


if __name__ == "__main__":
    main()

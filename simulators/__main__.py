"""Virtual wristbands, their broker, a strip of ECG to try the API with, and a whole region."""

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
from common.command import Commands, ConfigOption, SetOption, epilog, print_json
from common.errors import ConfigError
from simulators.broker_process import default_kind, require_free, serve

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__,
    epilog=epilog("python -m simulators demo", "python -m simulators run --task dummy"),
)


@app.command(epilog=epilog("python -m simulators broker --port 1883"))
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
    """
    chosen = default_kind() if kind == "auto" else kind
    require_free(host, port)
    if parent is None:
        _say(f"{chosen} on mqtt://{host}:{port} (MQTT 5, no access control); Ctrl-C stops it")
    serve(host, port, chosen, state_dir, parent)


@app.command(
    epilog=epilog(
        "python -m simulators run",
        "python -m simulators run --config deploy/local/fleet.toml -s seed=7",
        "python -m simulators run --task dummy --devices 300 --json",
    )
)
def run(
    config: ConfigOption = None,
    overrides: SetOption = None,
    broker: Annotated[
        str | None,
        typer.Option(help="Broker of the default fleet.", show_default="mqtt://127.0.0.1:1883"),
    ] = None,
    region: Annotated[str | None, typer.Option(help="Region.", show_default="county")] = None,
    task: Annotated[str | None, typer.Option(help="beats or dummy.", show_default="beats")] = None,
    devices: Annotated[
        int | None,
        typer.Option(help="Wristbands of the default fleet.", show_default="one a wearer: 22"),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Holds mitdb/.", show_default="PULSERING_DATA, else the cache"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Training processes.", show_default="one a core")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of jitter and synthetic ECG.", show_default="0")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print traffic as JSON on stdout at the end.")
    ] = False,
) -> None:
    """Run a fleet of wristbands against any MQTT 5 broker, until Ctrl-C.

    Without --config: 22 wristbands, one for each DS1 patient of MIT-BIH (or
    as many synthetic ones, and it says so), at the hospitals north, harbour
    and valley. The options from --broker to --seed stand over file and --set.
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
    fleet = FleetConfig.load(config, [*(overrides or ()), *given])
    logs.set_up(fleet.log_level, fleet.log_format, tier="simulators")
    report = run_fleet(fleet)
    if as_json:
        print_json(report)


@app.command(
    epilog=epilog(
        "python -m simulators sample --seconds 30 | curl -s -H 'Content-Type: application/json' "
        "-d @- http://127.0.0.1:8080/v1/ecg/analyze"
    )
)
def sample(
    seconds: Annotated[float, typer.Option(help="Length of the strip.", min=1, max=1800)] = 30.0,
    record: Annotated[
        str | None,
        typer.Option(
            "--record", "--wearer", help="Such as 100 or syn23.", show_default="100, else syn23"
        ),
    ] = None,
    start: Annotated[float, typer.Option(help="Where it begins, in seconds.", min=0)] = 0.0,
    data: Annotated[
        Path | None,
        typer.Option(help="Holds mitdb/.", show_default="PULSERING_DATA, else the cache"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; else stdout.")] = None,
) -> None:
    """Print a strip of ECG as JSON, ready for the API; stderr says where it comes from."""
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
        examples = (
            "python -m simulators demo --exit",
            "python -m simulators demo --days 2,1 --synthetic",
        )
        app.command("demo", epilog=epilog(*examples))(import_module("simulators.demo").demo)


def _toml(value: object) -> str:
    return json.dumps(value if isinstance(value, int) else str(value))


def _say(text: str) -> None:
    typer.echo(text, err=True)


def main() -> None:
    """Run a command."""
    _add_demo()
    app()


if __name__ == "__main__":
    main()

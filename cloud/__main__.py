"""``python -m cloud``: the daily job, the model pool and the inference API."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track

from cloud.config import CloudConfig
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
from common.errors import ConfigError
from common.logs import set_up

if TYPE_CHECKING:
    from cloud.daily import DayResult
    from cloud.registry import Registry
    from cloud.release import Release

NOTHING_SEALED = 3

POOL_COLUMNS = ("release", "day", "task", "status", "accuracy", "macro-F1", "bytes", "int8 bytes")
DAILY_CODES = (
    "Exit codes: 0 released, 1 refused or failed, 2 bad usage or configuration, 3 nothing sealed."
)

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog=epilog(
        "python -m cloud daily --config deploy/local/cloud.toml",
        "python -m cloud serve --config deploy/local/cloud.toml",
    ),
    help="The cloud: releases the day's sealed model or refuses it, keeps the model pool, and "
    "serves the inference API with its page.",
)
stderr = Console(stderr=True)

NameArgument = Annotated[str, typer.Argument(help="Such as county-d0001-1a2b3c4d.")]


@app.command(
    epilog=epilog(
        "python -m cloud daily --config cloud.toml --day 1", codes=DAILY_CODES, keys=CloudConfig
    )
)
def daily(
    config: ConfigOption = None,
    day: Annotated[
        int | None, typer.Option(min=1, help="Only this day; else every sealed one.")
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release or refuse the day's sealed model; running it twice is running it once."""
    loaded = _load(config, overrides)
    # torch, onnx and scipy come with them: seconds that the other commands save
    from cloud.daily import run_daily
    from common.ecg.sources import data_root

    data = data_root(loaded.data, os.environ)
    results = run_daily(loaded, data, time.time, day, _say, _track)
    _print_results(loaded.region, results, as_json)
    if not results:
        raise typer.Exit(NOTHING_SEALED)
    if any(result.decision != "released" for result in results):
        raise typer.Exit(1)


@app.command(epilog=epilog("python -m cloud releases --config cloud.toml --json"))
def releases(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the model pool; accuracy and macro-F1 are of the wristbands' held-out beats."""
    with _pool(_load(config, overrides)) as registry:
        found = registry.releases()
    if as_json:
        print_json({"releases": [release.model_dump(mode="json") for release in found]})
    else:
        rows = [_row(release) for release in found]
        print_rows(rows, POOL_COLUMNS, "the model pool is empty; `python -m cloud daily` fills it")


@app.command(
    epilog=epilog(
        "python -m cloud promote county-d0001-1a2b3c4d --config cloud.toml --by 'A. Person'"
    )
)
def promote(
    name: NameArgument,
    config: ConfigOption = None,
    by: Annotated[
        str, typer.Option(metavar="WHO", help="Who decides; required in production.")
    ] = "",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a release into service in its region, also an older one."""
    loaded = _load(config, overrides)
    if loaded.profile == "production" and not by.strip():
        raise typer.BadParameter("the production profile needs a named person", param_hint="--by")
    with _pool(loaded) as registry:
        release = registry.promote(name, by.strip() or "unnamed", time.time())
    _print_release(release, f"{name} is in service in {release.region}", as_json)


@app.command(
    epilog=epilog("python -m cloud verify county-d0001-1a2b3c4d --config cloud.toml --json")
)
def verify(
    name: NameArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check signature, digests and graphs of a release, its int8 file's among them."""
    with _pool(_load(config, overrides)) as registry:
        from cloud.model_file import check_graph, open_session

        release = registry.verify(name)
        open_session(registry, release)
        int8 = registry.verified_int8(name)
        if int8 is not None:
            check_graph(int8, release.input_shapes, len(release.labels))
    _print_release(release, f"{name}: signature, digests and graphs fit", as_json)


@app.command(
    epilog=epilog(
        "python -m cloud serve --config cloud.toml -s listen=127.0.0.1:8081", keys=CloudConfig
    )
)
def serve(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Serve the inference API and its page until SIGTERM or Ctrl-C.

    The page is at /, the API's description at /docs, /healthz and /metrics
    beside them; logs go to stderr.
    """
    loaded = _load(config, overrides)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn hands it on at its end
    from cloud.api.server import serve as serve_api

    serve_api(loaded)


def _load(path: Path | None, overrides: list[str] | None) -> CloudConfig:
    loaded = load(CloudConfig, path, overrides)
    for key in ("state_dir", "pool_dir"):
        folder = getattr(loaded, key)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            raise ConfigError(f"{key} {folder} cannot be used: {fault.strerror}") from fault
    set_up(loaded.log_level, loaded.log_format, tier="cloud", region=loaded.region)
    return loaded


@contextmanager
def _pool(config: CloudConfig) -> Iterator[Registry]:
    from cloud.registry import open_registry

    registry = open_registry(config)
    try:
        yield registry
    finally:
        registry.close()


def _say(step: str) -> None:
    stderr.print(step, style="dim", markup=False, highlight=False)


def _track(names: Iterable[str]) -> Iterable[str]:
    return track(tuple(names), description="records", console=stderr, transient=True)


def _print_results(region: str, results: tuple[DayResult, ...], as_json: bool) -> None:
    if as_json:
        last = results[-1].to_dict() if results else {"decision": "nothing_sealed"}
        print_json({"region": region, **last, "all": [result.to_dict() for result in results]})
        return
    for result in results:
        release = result.release.name if result.release else result.message[:8]
        done = " (done before)" if result.already_done else ""
        typer.echo(f"day {result.day}: {result.decision} {release}{done}: {result.rule}")
        if result.warning:
            _say(f"warning: {result.warning}")
    if not results:
        _say(f"nothing is sealed for {region}; the coordinator seals once a day")


def _print_release(release: Release, sentence: str, as_json: bool) -> None:
    if as_json:
        print_json(release.model_dump(mode="json"))
    else:
        typer.echo(f"{sentence}; int8 bytes: {_int8_bytes(release)}")


def _int8_bytes(release: Release) -> int | str:
    if release.int8 is None:
        return "–"
    return release.int8.size_bytes or "refused"


def _row(release: Release) -> dict[str, Any]:
    candidate: Any = release.metrics["candidate"]
    return {
        "release": release.name,
        "day": release.day,
        "task": release.task,
        "status": release.status,
        "accuracy": f"{candidate['accuracy']:.4f}",
        "macro-F1": f"{candidate['macro_f1']:.4f}",
        "bytes": release.size_bytes,
        "int8 bytes": _int8_bytes(release),
    }


if __name__ == "__main__":
    app()

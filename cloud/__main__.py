"""``python -m cloud``: the daily job, the model pool and the inference API."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cloud.config import CloudConfig
from common.errors import PulseRingError
from common.logs import set_up

if TYPE_CHECKING:
    from cloud.daily import DayResult
    from cloud.registry import Registry
    from cloud.release import Release

NOTHING_SEALED = 3

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Release sealed models and serve them."
)
stdout = Console()
stderr = Console(stderr=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="TOML file, such as cloud.toml.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="key=value over file and environment.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Result as JSON on stdout.")]
NameArgument = Annotated[str, typer.Argument(help="Such as county-d0001-1a2b3c4d.")]

_EPILOG = "Exit codes: 0 done, 1 refused or failed, 2 bad usage or configuration, 3 nothing sealed."


@app.command(epilog=f"Example: python -m cloud daily --config cloud.toml --day 1. {_EPILOG}")
def daily(
    config: ConfigOption = None,
    day: Annotated[int | None, typer.Option(min=1, help="Only this day; else all.")] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Release or refuse the day's sealed model; running it twice is running it once."""
    with _faults():
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


@app.command(epilog="Example: python -m cloud releases --config cloud.toml --json")
def releases(
    config: ConfigOption = None, overrides: SetOption = None, as_json: JsonOption = False
) -> None:
    """List the model pool."""
    with _faults(), _pool(_load(config, overrides)) as registry:
        found = registry.releases()
        if as_json:
            _print_json({"releases": [release.model_dump(mode="json") for release in found]})
        else:
            stdout.print(_table(found))


@app.command(epilog="Example: python -m cloud promote county-d0001-1a2b3c4d --by 'A. Person'")
def promote(
    name: NameArgument,
    config: ConfigOption = None,
    by: Annotated[str, typer.Option(help="Who decides; required in production.")] = "",
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a release into service in its region, also an older one."""
    with _faults():
        loaded = _load(config, overrides)
        if loaded.profile == "production" and not by.strip():
            raise typer.BadParameter(
                "the production profile needs a named person", param_hint="--by"
            )
        with _pool(loaded) as registry:
            release = registry.promote(name, by.strip() or "unnamed", time.time())
        _print_release(release, f"{name} is in service in {release.region}", as_json)


@app.command(epilog="Example: python -m cloud verify county-d0001-1a2b3c4d --config cloud.toml")
def verify(
    name: NameArgument,
    config: ConfigOption = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check signature, digests and graph of a release."""
    with _faults(), _pool(_load(config, overrides)) as registry:
        from cloud.model_file import open_session

        release = registry.verify(name)
        open_session(registry, release)
        _print_release(release, f"{name}: signature, digests and graph fit", as_json)


@app.command(
    epilog="Example: python -m cloud serve --config cloud.toml --set listen=127.0.0.1:8080"
)
def serve(config: ConfigOption = None, overrides: SetOption = None) -> None:
    """Serve the inference API and its page until stopped."""
    with _faults():
        loaded = _load(config, overrides)
        from cloud.api.server import serve as serve_api

        serve_api(loaded)


def _load(path: Path | None, overrides: list[str] | None) -> CloudConfig:
    loaded = CloudConfig.load(path, overrides or ())
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


@contextmanager
def _faults() -> Iterator[None]:
    """Tell a user's mistake in one sentence and end with its exit code."""
    try:
        yield
    except PulseRingError as fault:
        stderr.print(f"error: {fault.message}", style="red", markup=False, highlight=False)
        raise typer.Exit(fault.exit_code) from fault
    except OSError as fault:
        stderr.print(f"error: {fault}", style="red", markup=False, highlight=False)
        raise typer.Exit(1) from fault


def _say(step: str) -> None:
    stderr.print(step, style="dim", markup=False, highlight=False)


def _track(names: Iterable[str]) -> Iterable[str]:
    return track(tuple(names), description="records", console=stderr, transient=True)


def _print_results(region: str, results: tuple[DayResult, ...], as_json: bool) -> None:
    if as_json:
        last = results[-1].to_dict() if results else {"decision": "nothing_sealed"}
        _print_json({"region": region, **last, "all": [result.to_dict() for result in results]})
        return
    for result in results:
        release = result.release.name if result.release else result.message[:8]
        done = " (done before)" if result.already_done else ""
        line = f"day {result.day}: {result.decision} {release}{done}: {result.rule}"
        stdout.print(line, markup=False, highlight=False)
        if result.warning:
            stderr.print(result.warning, style="yellow", markup=False, highlight=False)
    if not results:
        stderr.print(f"nothing is sealed for {region}; the coordinator seals once a day")


def _print_release(release: Release, sentence: str, as_json: bool) -> None:
    if as_json:
        _print_json(release.model_dump(mode="json"))
    else:
        stdout.print(sentence, markup=False, highlight=False)


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _table(found: Iterable[Release]) -> Table:
    table = Table("release", "day", "task", "status", "accuracy", "macro-F1", "bytes")
    for release in found:
        candidate: Any = release.metrics["candidate"]
        table.add_row(
            release.name,
            str(release.day),
            release.task,
            release.status,
            f"{candidate['accuracy']:.4f}",
            f"{candidate['macro_f1']:.4f}",
            str(release.size_bytes),
        )
    return table


if __name__ == "__main__":
    app()

"""What every command line has in common: option names, exit codes, how faults and rows are shown.

Operators and scripts meet these as one contract, whichever tier they call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from common.config import ProcessConfig
from common.errors import ConfigError, PulseRingError

EXIT_CODES = (
    "Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 no quorum or nothing to do."
)
PIPE_WIDTH = 200

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; see deploy/local/.", show_default=False),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", "-s", metavar="KEY=VALUE", help="A key over file and environment; repeatable."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]

Config = TypeVar("Config", bound=ProcessConfig)


class Commands(TyperGroup):
    """Commands whose faults are one sentence on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 -- as click, which typer carries in itself
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except PulseRingError as fault:
            raise told(fault.message, fault.exit_code) from fault
        except BrokenPipeError:
            raise
        except OSError as fault:
            raise told(str(fault), 1) from fault


def told(sentence: str, exit_code: int) -> typer.Exit:
    """Say what was wrong on stderr; raise what is returned."""
    typer.echo(f"error: {sentence}", err=True)
    return typer.Exit(exit_code)


def load(kind: type[Config], path: Path | None, overrides: Iterable[str] | None) -> Config:
    """Read a command's configuration.

    Raises
    ------
    ConfigError
        When it cannot be used; when no file was given, the sentence says so first.
    """
    try:
        return kind.load(path, overrides or ())
    except ConfigError as fault:
        if path is not None or fault.message.startswith("--set"):
            raise
        keys = fault.message.removeprefix("configuration: ")
        raise ConfigError(f"no --config FILE was given; {keys}") from fault


def epilog(*examples: str, keys: type[ProcessConfig] | None = None, codes: str = EXIT_CODES) -> str:
    """What stands below a command's options: examples, exit codes, the keys of its file."""
    lines = [f"Example: {example}" for example in examples] + [codes]
    if keys is not None:
        prefix = str(keys.model_config["env_prefix"])
        lines += ["", f"Keys of the file, explained in {keys.__module__.replace('.', '/')}.py:"]
        lines += _keys_of(keys)
        lines += [f"In the environment: {prefix} and the key, such as {prefix}LOG_LEVEL=debug"]
    return "\n\n".join(lines)


def _keys_of(model: type[BaseModel], table: str = "") -> list[str]:
    """One line for the keys of `model`, one for each table in it."""
    own, tables = [], []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            tables += _keys_of(kind, f"{table}.{name}".lstrip("."))
        elif field.is_required():
            own.append(f"{name} (required)")
        elif field.default_factory is None and field.default is not PydanticUndefined:
            own.append(f"{name} = {_shown(field.default)}")
        else:
            own.append(name)
    head = rf"\[{table}] " if table else ""
    return [head + ", ".join(own), *tables]


def _shown(default: object) -> str:
    if default is None or default in ("", ()):
        return "none"
    if default == sys.executable:
        return "this Python"
    return str(default).lower() if isinstance(default, bool) else str(default)


def print_json(document: object) -> None:
    """Write one JSON document to stdout."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Iterable[str], nothing: str) -> None:
    """Show `columns` of `rows` as a table, or the sentence `nothing`.

    Digests are cut to 12 digits; what ends in ``_at`` is a time in seconds since 1970.
    """
    if not rows:
        typer.echo(nothing)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if _counts(rows, column) else "left")
    for row in rows:
        table.add_row(*(_cell(column, row[column]) for column in columns))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, markup=False, highlight=False).print(
        table
    )


def _counts(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = [row[column] for row in rows if row[column] is not None]
    return not column.endswith("_at") and all(isinstance(value, (int, float)) for value in values)


def _cell(column: str, value: object) -> str:
    if value is None:
        return "–"
    if column.endswith("_at") and isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    if column.endswith("digest"):
        return str(value)[:12]
    return f"{value:.2f}" if isinstance(value, float) else str(value)

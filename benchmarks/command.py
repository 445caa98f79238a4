"""How a benchmark is run from a shell."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from common.errors import PulseRingError

INTERRUPTED = 130
console = Console(stderr=True)


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON instead of a table.")
]


def run(benchmark: Callable[..., None], stopped: str = "stopped") -> None:
    """Run a benchmark; a user's mistake is one sentence on stderr, and so is Ctrl-C."""
    try:
        typer.run(benchmark)
    except PulseRingError as fault:
        console.print(f"error: {fault.message}", style="red", highlight=False)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        console.print(stopped)
        sys.exit(INTERRUPTED)

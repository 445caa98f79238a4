"""How a benchmark is run from a shell."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer
from rich.console import Console

from common.errors import PulseRingError

INTERRUPTED = 130
console = Console(stderr=True)


def run(benchmark: Callable[..., None]) -> None:
    """Run a benchmark; a user's mistake is one sentence on stderr."""
    try:
        typer.run(benchmark)
    except PulseRingError as fault:
        console.print(f"error: {fault.message}", style="red", highlight=False)
        sys.exit(fault.exit_code)
    except KeyboardInterrupt:
        console.print("stopped; finished runs are kept and will not be trained again")
        sys.exit(INTERRUPTED)

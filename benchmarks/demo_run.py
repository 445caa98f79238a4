"""The product's own path as a benchmark sees it: one run of the demo, and its summary."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import PulseRingError
from simulators.supervisor import one_thread, python_module

_PROGRESS = re.compile(r" *\d+\.\d s  ")
_TAIL = 3  # lines of the log that an error quotes


@dataclass(frozen=True)
class DemoRun:
    """How to run the demo.

    Attributes
    ----------
    seed : int
        The same seed gives the same model.
    root : Path
        Folder of this run; the demo empties it. Log and summary lie beside it.
    arguments : sequence of str
        Further arguments of the demo, such as ``("--days", "2,1")``.
    """

    seed: int
    root: Path
    arguments: Sequence[str] = ()

    @property
    def summary(self) -> Path:
        """Where the demo writes its summary."""
        return self.root.with_suffix(".json")

    @property
    def log(self) -> Path:
        """What the demo printed."""
        return self.root.with_suffix(".log")

    @property
    def command(self) -> list[str]:
        """The command line."""
        own = ["--exit", "--seed", str(self.seed), "--port", "0"]
        where = ["--root", str(self.root), "--summary", str(self.summary)]
        return python_module("simulators", "demo", *own, *where, *self.arguments)


def run_demo(run: DemoRun, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run the demo to its end and return its summary (`simulators.demo_summary.summarise`).

    Parameters
    ----------
    run : DemoRun
        What to run.
    tell : callable
        Gets each line of progress.

    Raises
    ------
    PulseRingError
        When the demo failed; the message quotes the end of its log.
    """
    run.root.parent.mkdir(parents=True, exist_ok=True)
    run.summary.unlink(missing_ok=True)
    environment = one_thread() | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}
    with (
        run.log.open("w") as log,
        subprocess.Popen(
            run.command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as demo,
    ):
        for line in demo.stdout or ():
            log.write(line)
            if _PROGRESS.match(line):
                tell(line.rstrip())
    if demo.returncode or not run.summary.exists():
        tail = run.log.read_text().strip().splitlines()[-_TAIL:]
        raise PulseRingError(
            f"the demo with seed {run.seed} ended with {demo.returncode}; {run.log} ends: "
            + " / ".join(tail)
        )
    summary: dict[str, Any] = json.loads(run.summary.read_text())
    return summary

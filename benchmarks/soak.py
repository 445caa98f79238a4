"""An hour of faults: does an edge node stay as small as it was, and do the books still balance?

``make soak`` runs a region of 500 wristbands and does something bad to it every minute: processes
are killed or stopped, the broker dies, the wristbands' cable is cut, messages come again by the
hundred or are nonsense.  The edge node of one hospital is never ended; its memory and descriptors
are the figure.  At the end every round has a named end, every update with a receipt has one fate,
and ``python -m regional replay`` finds every committed model again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.faultbed.bed import RootOption
from benchmarks.faultbed.processes import left_behind
from benchmarks.soakbed import page, report
from benchmarks.soakbed.bed import bed
from benchmarks.soakbed.course import Course
from benchmarks.soakbed.harm import Harm
from common import logs

NAME = "soak"
NUM_WRISTBANDS = 500
MINUTES = 60.0
FAULT_EVERY_S = 60.0
QUICK = {"minutes": 2.0, "wristbands": 30, "fault_every_s": 10.0}
OF_THIS_MACHINE = ("--root", "--beside")
DOCS = results_file.REPOSITORY / "docs"
console = Console()
progress = Console(stderr=True)


def soak(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.5, max=6000)] = MINUTES,
    wristbands: Annotated[int, typer.Option(help="In all.", min=10, max=999)] = NUM_WRISTBANDS,
    fault_every_s: Annotated[float, typer.Option(help="Seconds from fault to fault.", min=5)] = (
        FAULT_EVERY_S
    ),
    broker: Annotated[
        Literal["mosquitto", "iotcore", "auto"], typer.Option(help="Kind of broker.")
    ] = "mosquitto",
    seed: Annotated[int, typer.Option(help="Of the faults.", min=0)] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="Two minutes, 30 wristbands, more faults; no file.")
    ] = False,
    beside: Annotated[str, typer.Option(help="What else the machine did, for the page.")] = "",
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Harm a region once a minute for an hour, and look for what it lost or leaked.

    Example: `make soak`; `make soak ARGS="--minutes 10"`; as root the wristbands' cable is cut too
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    whole = not quick and (minutes, wristbands) == (MINUTES, NUM_WRISTBANDS)
    if quick:
        minutes, wristbands = QUICK["minutes"], int(QUICK["wristbands"])
        fault_every_s = QUICK["fault_every_s"]
    setting = {"num_wristbands": wristbands, "broker": broker, "seed": seed, "beside": beside}
    document = {**_run(minutes, fault_every_s, wristbands, broker, seed, root), **setting}
    document |= provenance | {"command": repeating(sys.argv[1:])}
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(document))
    if whole:
        path = results_file.write(NAME, document)
        progress.print(f"written: {results_file.shown(path)}, ", end="")
        progress.print(results_file.shown(page.write(document, DOCS)))
    else:
        progress.print("not the whole soak: no file was written")
    wrong = report.failures(document)
    if wrong:
        progress.print(f"failed: {'; '.join(wrong)}", style="red")
        raise typer.Exit(1)


def _run(
    minutes: float, fault_every_s: float, wristbands: int, broker: str, seed: int, root: Path | None
) -> dict[str, Any]:
    with bed(wristbands, broker, seed, root) as made:
        harm = Harm(made, np.random.default_rng(seed))
        course = Course(made, harm, minutes * 60.0, fault_every_s, _tell)
        soaked = course.run()
        made.region.stop()
        return report.summary(soaked, left_behind(soaked.seen, made.region))


def _table(document: dict[str, Any]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    for what, figure in report.rows(document):
        table.add_row(what, figure)
    return table


def repeating(arguments: Sequence[str]) -> str:
    """The make command that repeats a run; where its files lay and what ran beside it is left out.

    >>> repeating(["--seed", "3", "--root", "here"])
    "make soak ARGS='--seed 3'"
    """
    words = iter(arguments)
    kept = [word for word in words if word not in OF_THIS_MACHINE or not next(words)]
    return results_file.command(NAME, kept).replace("make bench-soak", "make soak")


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(soak)

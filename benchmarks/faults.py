"""The fault table, measured: a process is killed, stopped, hung or cut off at each moment of a round.

``make bench-faults`` runs a real region of the dummy task (broker, coordinator, three edge nodes,
Horovod ranks), brings each cell about at exactly its moment (`benchmarks.faultbed`), and follows it
to the next commit.  Nobody helps; processes that end are started again, as systemd would.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.command import JsonOption
from benchmarks.faultbed.bed import RingTimeoutOption, RootOption, bench, can_cut
from benchmarks.faultbed.cells import AWAY_S, Cell, all_cells
from benchmarks.faultbed.region import WATCHDOG_S
from benchmarks.faultbed.trial import Trial
from common import logs
from common.errors import PulseRingError

NAME = "faults"
QUICK = (
    Cell("kill", "rank", "mid-allreduce"),
    Cell("kill", "edge node", "after-prepare"),
    Cell("kill", "coordinator", "before-commit"),
    Cell("kill", "coordinator", "after-commit"),
)
AFTER_TIMEOUT_S = 5.0
console = Console()
progress = Console(stderr=True)


def faults(
    quick: Annotated[bool, typer.Option("--quick", help="A few cells; writes no file.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Cells whose name holds this, such as 'kill of rank'; writes no file."),
    ] = None,
    ring_timeout_s: RingTimeoutOption = None,
    root: RootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure what each fault costs: time to the next commit, updates lost or counted twice.

    Example: `make bench-faults`, about half an hour; `ARGS=--quick` takes about a minute
    """
    logs.set_up("error", "console")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    cut = can_cut()
    cells = [*QUICK] if quick else _chosen(all_cells(can_cut=cut), only or ())
    rounds = {"ring_timeout_s": ring_timeout_s} if ring_timeout_s else {}
    cut = any(cell.fault == "cut" for cell in cells)
    trials, failures = _run(cells, rounds, cut=cut, root=root)
    document = {**_summary(trials, failures), "network_was_cut": cut, **provenance}
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(trials))
        console.print(_sentence(document), highlight=False)
    if quick or only or ring_timeout_s:
        progress.print("not the whole benchmark: no file was written")
    else:
        path = results_file.write(NAME, document)
        progress.print(f"written to {results_file.shown(path)}", highlight=False)
    if failures or document["num_lost"] or document["num_doubled"]:
        raise typer.Exit(1)


def _chosen(cells: Sequence[Cell], parts: Sequence[str]) -> list[Cell]:
    return [cell for cell in cells if not parts or any(part in cell.name for part in parts)]


def _run(
    cells: Sequence[Cell], rounds: dict[str, float], *, cut: bool, root: Path | None
) -> tuple[list[Trial], dict[str, str]]:
    """Run all cells; after one that cannot be followed to its end, in a new region."""
    trials: list[Trial] = []
    failures: dict[str, str] = {}
    waiting = list(cells)
    while waiting:
        home = root / f"region-{len(failures)}" if root else None
        with bench(rounds, cut=cut, root=home) as here:
            while waiting:
                cell = waiting.pop(0)
                try:
                    trials.append(here.run(cell))
                    _tell(f"{len(trials)}/{len(cells)}: {cell.name}: {trials[-1].commit_s} s")
                except PulseRingError as fault:
                    failures[cell.name] = fault.message
                    _tell(f"{cell.name}: {fault.message}")
                    break
    return trials, failures


def _summary(trials: Sequence[Trial], failures: dict[str, str]) -> dict[str, Any]:
    killed = [t for t in trials if (t.fault, t.victim) == ("kill", "rank") and t.commit_s]
    over = [(t.commit_s or 0.0) - t.timeout_s for t in killed]
    return {
        "cells": [asdict(trial) for trial in trials],
        "cells_without_end": failures,
        "num_cells": len(trials) + len(failures),
        "num_without_commit": sum(trial.commit_s is None for trial in trials) + len(failures),
        "num_lost": sum(trial.num_lost for trial in trials),
        "num_doubled": sum(trial.num_doubled for trial in trials),
        "slowest_commit_s": max((trial.commit_s or 0.0 for trial in trials), default=0.0),
        "killed_rank_over_timeout_s": round(max(over), 2) if over else None,
        "killed_rank_bound_s": AFTER_TIMEOUT_S,
        "stopped_and_cut_for_s": AWAY_S,
    }


def _table(trials: Sequence[Trial]) -> Table:
    table = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    for title in ("fault", "of", "moment", "round ended"):
        table.add_column(title)
    for title in ("commit", "later", "all in", "timeout", "rings", "left out", "lost", "twice"):
        table.add_column(title, justify="right")
    for t in trials:
        helped = " *" if t.watchdog_ended else ""
        waits = [_seconds(value) for value in (t.commit_s, t.later_s, t.whole_s)]
        numbers = (t.num_generations, t.num_left_out, t.num_lost, t.num_doubled)
        cells = (t.fault, t.victim, t.moment, t.end, *waits, f"{t.timeout_s:.1f}{helped}")
        table.add_row(*cells, *(str(number) for number in numbers))
    return table


def _seconds(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}"


def _sentence(document: dict[str, Any]) -> str:
    over = document["killed_rank_over_timeout_s"]
    lines = [
        f"{document['num_cells']} cells, {document['num_without_commit']} without a commit, "
        f"{document['num_lost']} updates lost, {document['num_doubled']} counted twice.",
        "Seconds from the fault to the next commit, to that of a later round, and with all hospitals;",
        "timeout: the plan's; rings, left out: of the round in which the fault was.",
        f"* its loop hung; its own watchdog ended it after {WATCHDOG_S:.0f} s.",
    ]
    if over is not None:
        lines.append(f"A killed rank: at most its plan's timeout {over:+.1f} s (bound: +5 s).")
    return "\n".join([*lines, *(f"{n}: {why}" for n, why in document["cells_without_end"].items())])


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(faults)

"""Whole rounds of ten hospitals on this machine: ours against Flower as it is deployed.

``make bench-rounds`` first shows that both learn the same models from the same updates, then times
from the last update in to the next model out, and writes ``benchmarks/results/rounds.json``.
Local training is done beforehand for both, so what is timed is the round.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import command, flower_peer, loopback, results_file, rounds_ours
from benchmarks.rounds_document import summarise
from benchmarks.rounds_learning import Lesson, teach
from benchmarks.rounds_table import figures_table, said, stages_table
from common import logs
from common.ecg.sources import data_root, open_source

NAME = "rounds"
ISOLATIONS: tuple[flower_peer.Isolation, ...] = ("process", "subprocess")
QUICK_HOSPITALS, QUICK_ROUNDS = 3, 2
console = Console()
progress = Console(stderr=True)


def rounds(
    timed: Annotated[
        int, typer.Option(help="Rounds that are timed, after a first one that is not.", min=2)
    ] = 8,
    hospitals: Annotated[int, typer.Option(help="How many hospitals.", min=2, max=20)] = 10,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Three hospitals, two rounds, one kind of Flower; writes no file."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of a table.")
    ] = False,
) -> None:
    """Time whole rounds of ours and of Flower, which learn the same.

    Example: `make bench-rounds`, a quarter of an hour on two cores; `ARGS=--quick` takes a minute
    """
    logs.set_up("error")
    provenance = results_file.provenance(NAME, sys.argv[1:])
    flower_peer.environment_folder()  # from the network, which is left in the next line
    own_network, load = loopback.enter(), os.getloadavg()[0]
    source = open_source(data_root(None, os.environ))
    hospitals, timed = (QUICK_HOSPITALS, QUICK_ROUNDS) if quick else (hospitals, timed)
    num_rounds = 1 + timed
    _tell(f"training beforehand: {hospitals} hospitals, {num_rounds + 1} rounds")
    lesson = teach(source, hospitals, num_rounds + 1)
    with tempfile.TemporaryDirectory(prefix="pulsering-rounds-") as root:
        ours, flower = _run_all(lesson, num_rounds, Path(root), quick=quick)
    measured = summarise(ours, flower, lesson, num_rounds, own_network=own_network)
    document = {**measured, "data_source": source.kind, "load_before": load} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(said(document), highlight=False)
        console.print(figures_table(document))
        console.print(stages_table(document))
    _keep(document, whole=not quick)


def _run_all(
    lesson: Lesson, num_rounds: int, root: Path, *, quick: bool
) -> tuple[rounds_ours.Ours, Mapping[str, flower_peer.Flower]]:
    _tell(f"ours: {num_rounds} rounds")
    ours = rounds_ours.run(lesson, num_rounds, root / "ours")
    flower: dict[str, flower_peer.Flower] = {}
    for isolation in ISOLATIONS[:1] if quick else ISOLATIONS:
        _tell(f"Flower {flower_peer.VERSION}, isolation {isolation}: {num_rounds} rounds")
        flower[isolation] = flower_peer.run(lesson, num_rounds, isolation, root / isolation)
    return ours, flower


def _keep(document: dict[str, Any], *, whole: bool) -> None:
    if not whole:
        progress.print("not the whole benchmark: no file was written")
        return
    path = results_file.write(NAME, document)
    progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(rounds)

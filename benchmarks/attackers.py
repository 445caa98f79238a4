"""Attackers among the wristbands, against what hospitals can do: macro-F1 on unseen patients.

``make bench-attackers`` trains the product's rounds with hostile wristbands among the honest, once
for each defence, threat and seed, scores the models on DS2, and writes
``benchmarks/results/attackers.json``.  Finished runs are kept under ``var/bench/attackers``, so an
interrupted benchmark goes on where it was.  ``--fold`` holds a group of DS1 patients out and scores
these instead: limits and defences were chosen so, and DS2 is not read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.attackers_arms import CLEAN, NUM_ROUNDS, PLAIN, RECOMMENDED, Cell, Threat, cells
from benchmarks.attackers_figures import summarise
from benchmarks.attackers_run import Ran, Split, run
from benchmarks.cohorts import FOLDS
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError
from simulators.attackers import Attack

NAME = "attackers"
QUICK_ROUNDS = 4
QUICK_FOLD = 3
console = Console()
progress = Console(stderr=True)


def attackers(
    seeds: Annotated[int, typer.Option(help="Of the main rows.", min=1, max=100)] = 3,
    others: Annotated[int, typer.Option(help="Seeds of all other rows.", min=0, max=100)] = 1,
    fold: Annotated[
        int | None,
        typer.Option(help="Hold this group of DS1 out and score it; writes no file.", min=0, max=4),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Four runs of few rounds on DS1; writes no file.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
    as_json: command.JsonOption = False,
) -> None:
    """Compare hospital rules and screening under attack: macro-F1 on unseen patients.

    Example: `make bench-attackers`, about two hours on two cores; `ARGS=--quick` takes a minute
    """
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = open_source(data_root(None, os.environ))
    if source.kind != "mitdb":
        raise ConfigError("the attackers benchmark needs MIT-BIH: run `make data`")
    split = Split(QUICK_FOLD if quick else fold)
    planned = _quick_cells() if quick else cells(seeds, others)
    num_rounds = QUICK_ROUNDS if quick else NUM_ROUNDS
    runs = _run_all(planned, split, num_rounds, source, workers)
    document = summarise(runs) | {"protocol": "docs/clinical/protocol.md"} | provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(table(document))
    if split.fold is not None:
        scored = ", ".join(FOLDS[split.fold])
        progress.print(f"scored on DS1 records {scored}: no file was written")
        return
    path = results_file.write(NAME, document)
    progress.print(f"written: {results_file.shown(path)}", highlight=False)


def table(document: Mapping[str, Any]) -> Table:
    """Each defence under each threat, beside the plain sum without attackers."""
    shown = Table(box=None, header_style="bold underline", pad_edge=False, padding=(0, 1, 0, 0))
    columns = ("threat", "hospitals", "seeds", "macro-F1", "to clean", "S", "V", "set aside")
    for heading in columns:
        shown.add_column(heading, justify="left" if heading in columns[:2] else "right")
    for threat, by_defence in document["cells"].items():
        for defence, cell in by_defence.items():
            aside = f"{cell['hostile_set_aside']}+{cell['honest_set_aside']}"
            shown.add_row(
                threat,
                defence,
                str(len(cell["seeds"])),
                _with_sd(cell["macro_f1"]),
                _signed(cell["to_clean"]["mean"]),
                _with_sd(cell["s_f1"]),
                _with_sd(cell["v_f1"]),
                f"{aside} of {cell['updates_taken']}",
            )
        shown.add_section()
    shown.caption = "set aside: hostile + honest updates, over all seeds"
    return shown


def _with_sd(figure: Mapping[str, Any]) -> str:
    sd = "" if figure["sd"] is None else f" ± {figure['sd']:.3f}"
    return f"{figure['mean']:.3f}{sd}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _quick_cells() -> list[Cell]:
    loud = Threat(0.1, Attack.FLIPPED_LOUD)
    return [Cell(d, t, 0) for t in (CLEAN, loud) for d in (PLAIN, RECOMMENDED)]


def _run_all(
    planned: Sequence[Cell], split: Split, num_rounds: int, source: EcgSource, workers: int
) -> list[Ran]:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    folder = results_file.REPOSITORY / "var" / "bench" / NAME
    done: list[Ran] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run, cell, split, num_rounds, source, folder) for cell in planned]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                ran = done[-1]
                told = f"{ran.threat}, {ran.defence}, seed {ran.seed}"
                progress.print(f"{len(done)}/{len(futures)}: {told}", highlight=False)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


if __name__ == "__main__":
    command.run(attackers, "stopped; finished runs are kept and will not be trained again")

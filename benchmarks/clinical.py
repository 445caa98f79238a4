"""Beats of patients that no wristband wore: the federated model against its peers.

``make bench-clinical`` trains each arm with each seed, by the product's own steps, scores the
models on DS2 under every condition, and writes ``benchmarks/results/clinical.json`` and the figures
in ``docs/clinical/``.  Finished runs are kept under ``var/bench/clinical`` and are not trained
again, so an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import clinical_report, command, results_file
from benchmarks.clinical_arms import ARMS, Arm
from benchmarks.clinical_document import summarise
from benchmarks.clinical_run import Ran, run
from benchmarks.clinical_table import figures_table
from common.ecg.sources import EcgSource, data_root, open_source, synthetic_source
from common.notice import MEANING_OF_N, SYNTHETIC_NOTICE

NAME = "clinical"
QUICK_ROUNDS = 4
console = Console()
progress = Console(stderr=True)


def clinical(
    seeds: Annotated[
        int, typer.Option(help="At most so many seeds 0, 1, … of each arm.", min=1, max=100)
    ] = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed and a few rounds; writes no file.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use synthetic ECG even where MIT-BIH is.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="Arms to run; all when left out.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of tables.")
    ] = False,
) -> None:
    """Score federated and other models on patients that no wristband wore.

    Example: `make bench-clinical`, about an hour on two cores; `ARGS=--quick` takes a minute
    """
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = _source(synthetic=synthetic)
    _tell(source.notice)
    runs = _run_all(_arms(only, quick=quick), 1 if quick else seeds, source, workers)
    document = {**summarise(runs, source), **provenance}
    if as_json:
        results_file.print_json(document)
    else:
        _show(document)
    _keep(document, runs, whole=not quick and not only)


def _arms(only: Sequence[str] | None, *, quick: bool) -> list[Arm]:
    known = {arm.name: arm for arm in ARMS}
    unknown = sorted(set(only or ()) - set(known))
    if unknown:
        raise typer.BadParameter(f"no arm {', '.join(unknown)}; there are {', '.join(known)}")
    chosen = [known[name] for name in only or known]
    return [arm.shortened(QUICK_ROUNDS) for arm in chosen] if quick else chosen


def _run_all(arms: Sequence[Arm], num_seeds: int, source: EcgSource, num_workers: int) -> list[Ran]:
    os.environ["OMP_NUM_THREADS"] = "1"  # inherited by the workers
    folder = results_file.REPOSITORY / "var" / "bench" / NAME
    done: list[Ran] = []
    with ProcessPoolExecutor(num_workers, mp_context=get_context("spawn")) as pool:
        futures: list[Future[Ran]] = [
            pool.submit(run, arm, seed, source, folder)
            for arm in arms
            for seed in range(min(num_seeds, arm.num_seeds))
        ]
        try:
            for future in as_completed(futures):
                done.append(future.result())
                _tell(f"{len(done)}/{len(futures)}: {done[-1].arm.name}, seed {done[-1].seed}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted(done, key=lambda ran: ran.seed)


def _source(*, synthetic: bool) -> EcgSource:
    if synthetic:
        return synthetic_source(reason="--synthetic was given. ")
    return open_source(data_root(None, os.environ))


def _keep(document: dict[str, Any], runs: Sequence[Ran], *, whole: bool) -> None:
    if not whole:
        progress.print("not the whole benchmark: no file was written")
        return
    suffix = "" if document["data_source"] == "mitdb" else f"-{document['data_source']}"
    path = results_file.write(NAME + suffix, document)
    progress.print(f"written to {results_file.shown(path)}", highlight=False)
    if not suffix:
        from benchmarks.clinical_drawings import draw  # matplotlib is slow to load

        for drawn in (*draw(document, runs), clinical_report.write(document)):
            progress.print(f"written: {results_file.shown(drawn)}", highlight=False)


def _show(document: dict[str, Any]) -> None:
    if document["data_source"] == "synthetic":
        console.print(SYNTHETIC_NOTICE, style="bold")
    console.print(figures_table(document))
    console.print(f"\n{MEANING_OF_N}\n{document['notice']}", style="dim", highlight=False)


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


if __name__ == "__main__":
    command.run(clinical, "stopped; finished runs are kept and will not be trained again")

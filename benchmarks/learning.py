"""Rounds, local steps and participation against macro-F1, on DS1 patients that nobody wore.

``make bench-learning`` trains the product's recipe, and what differs from it in one setting, on
thirteen DS1 patients, scores each run every few rounds on the other nine, and writes
``benchmarks/results/learning.json`` and ``docs/clinical/learning.svg``.  DS2 is not read.  It shows
how much of a poor figure is work not done, so that under-training is not taken for the cost of data
that are not IID.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Annotated, Any, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, results_file
from benchmarks.clinical_arms import MEAN_OF, NUM_ROUNDS, NUM_STEPS, TASK, roster_of
from benchmarks.clinical_figures import FIGURES
from benchmarks.cohorts import FOLDS, learners
from benchmarks.learning_plots import Run, learning_curves
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters, score
from regional.config import LearningConfig
from regional.seal import mean_model
from simulators.study import Study, run_study
from simulators.trainer import pin_to_one_thread

NAME = "learning"
HELD_OUT = FOLDS[2] + FOLDS[3]  # half of DS1's S and a third of its V beats; no AF
NUM_POINTS = 8  # on a curve
MIN_ROUNDS = MEAN_OF

console = Console()
progress = Console(stderr=True)


@dataclass(frozen=True)
class Setting:
    """One curve: the recipe, or the recipe with one thing changed."""

    num_steps: int = NUM_STEPS
    sample_fraction: float = 1.0
    algorithm: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    mu: float = 0.0
    num_rounds: int = NUM_ROUNDS


SETTINGS = (
    Setting(),
    Setting(num_steps=5),
    Setting(num_steps=5, num_rounds=3 * NUM_ROUNDS),
    Setting(num_steps=60, num_rounds=NUM_ROUNDS // 4),
    Setting(sample_fraction=0.5),
    Setting(sample_fraction=0.2),
    Setting(algorithm="fedprox", mu=0.01),
    Setting(algorithm="fedprox", mu=0.1),
    Setting(algorithm="fedprox", mu=1.0),
    Setting(algorithm="fedadam"),
)
NAMES = {"fedavg": "FedAvg", "fedprox": "FedProx", "fedadam": "FedAdam"}


def learning(
    seeds: Annotated[int, typer.Option(help="Seeds 0, 1, … of each setting.", min=1, max=100)] = 2,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of a table.")
    ] = False,
) -> None:
    """Draw macro-F1 against rounds, local steps and participation.

    Example: `make bench-learning`, about a quarter of an hour on two cores
    """
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = open_source(data_root(None, os.environ))
    if source.kind != "mitdb":
        raise ConfigError("learning curves need MIT-BIH: run `make data`")
    os.environ["OMP_NUM_THREADS"] = "1"
    runs = _run_all(range(seeds), source, workers)
    document = {"runs": runs, "held_out": HELD_OUT, "protocol": "docs/clinical/protocol.md"}
    document |= provenance
    if as_json:
        results_file.print_json(document)
    else:
        console.print(_table(runs))
    path = results_file.write(NAME, document)
    drawing = results_file.REPOSITORY / "docs" / "clinical" / "learning.svg"
    learning_curves(runs, drawing)
    for written in (path, drawing):
        progress.print(f"written: {results_file.shown(written)}", highlight=False)


def curve(setting: Setting, seed: int, source: EcgSource) -> Run:
    """Train one setting and score it as it goes; the body of a worker process.

    A point is the mean of the last models, as a day's release is.
    """
    pin_to_one_thread()
    beats = learners(source, source.train_names, "expert", "all")
    seen = {name: examples for name, examples in beats.items() if name not in HELD_OUT}
    unseen = [beats[name] for name in HELD_OUT]
    rule = LearningConfig(
        algorithm=setting.algorithm,
        mu=setting.mu,
        num_steps=setting.num_steps,
        lr_rounds=setting.num_rounds,
        seed=seed,
    )
    study = Study(roster_of(seen), rule, setting.num_rounds, TASK, setting.sample_fraction)
    every = max(1, setting.num_rounds // NUM_POINTS)
    models: list[Parameters] = []
    rounds, figures = [], []
    for committed in run_study(study, seen):
        models = [*models[1 - MEAN_OF :], committed.model]
        if committed.round_id % every == 0 and committed.round_id >= MIN_ROUNDS:
            rounds.append(committed.round_id)
            figures.append(_macro_f1(mean_model(models), unseen))
    return Run(
        algorithm=NAMES[setting.algorithm],
        mu=setting.mu,
        num_steps=setting.num_steps,
        sample_fraction=setting.sample_fraction,
        rounds=rounds,
        macro_f1=figures,
    )


def _run_all(seeds: Sequence[int], source: EcgSource, workers: int) -> list[Run]:
    done: dict[tuple[int, int], Run] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {
            pool.submit(curve, setting, seed, source): (number, seed)
            for seed in seeds
            for number, setting in enumerate(SETTINGS)
        }
        try:
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                progress.print(f"{len(done)}/{len(futures)} curves", style="dim")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[key] for key in sorted(done)]


def _macro_f1(model: Parameters, unseen: Sequence[Examples]) -> float:
    task = get_task(TASK)
    counts = sum(
        (task.count(score(task, model, e.inputs), e.labels)["confusion"] for e in unseen),
        np.zeros((len(task.labels),) * 2, dtype=np.int64),
    )
    return FIGURES["macro_f1"](counts) or 0.0


def _table(runs: Sequence[Run]) -> Table:
    table = Table(title="Macro-F1 (N, S, V) of held-out DS1 patients")
    for heading in ("algorithm", "μ", "local steps", "wristbands", "rounds", "macro-F1, last"):
        table.add_column(heading)
    for run in runs:
        row: list[Any] = [
            run["algorithm"],
            f"{run['mu']:g}",
            run["num_steps"],
            f"{100 * run['sample_fraction']:.0f} %",
            run["rounds"][-1],
            f"{run['macro_f1'][-1]:.3f}",
        ]
        table.add_row(*(str(cell) for cell in row))
    return table


if __name__ == "__main__":
    command.run(learning)

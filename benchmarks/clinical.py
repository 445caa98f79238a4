"""Beats of patients that no wristband wore: the federated model against the same net centralised.

``make bench-clinical`` runs the demo once a seed, trains the same net on the pooled beats with as
many examples, and scores both by the cloud's own code.  The result goes to
``benchmarks/results/clinical.json``, or ``clinical-synthetic.json`` where MIT-BIH lacks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks import clinical_figures as figures
from benchmarks import results_file
from benchmarks.centralised import (
    BUDGET,
    Period,
    num_examples_seen,
    periods,
    pool,
    score_centralised,
    train_centralised,
)
from benchmarks.clinical_table import bytes_table, figures_table
from benchmarks.demo_run import DemoRun, run_demo
from common.digest import tensors_digest
from common.ecg.sources import EcgSource, data_root, open_source, synthetic_source
from common.errors import PulseRingError
from common.notice import MEANING_OF_N, NOTICE, SYNTHETIC_NOTICE
from common.tasks.registry import get_task
from common.tasks.task import Examples, Task
from regional.config import LearningConfig
from simulators.trainer import pin_to_one_thread

NAME = "clinical"
QUICK_DAYS = "3"
PROTOCOL = (
    "Inter-patient: trained on DS1, each patient's last fifth kept out; scored on DS2 at reference "
    "R peaks, lead MLII, expert labels, classes by de Chazal's map, EC57 counting rules. No figure "
    "of DS2 chose anything in this run: rounds, learning constants and decision rule are defaults. "
    "DS2 is not untouched all the same: the recipe behind net and features was chosen on folds of "
    "DS1, but had been looked at on DS2 six times. The deviations are those of seeds, not of patients."
)
LEARNING = LearningConfig()
console = Console()
progress = Console(stderr=True)


@dataclass(frozen=True)
class Seed:
    """What one seed gave.

    Attributes
    ----------
    summary : mapping
        Of the demo.
    plan : tuple of Period
        Of the centralised peer.
    report : mapping
        Of the centralised peer on the test split.
    digest : str
        Of the centralised peer's parameters.
    """

    seed: int
    summary: Mapping[str, Any]
    plan: tuple[Period, ...]
    report: figures.Report
    digest: str


def clinical(
    seeds: Annotated[int, typer.Option(help="Runs, with seeds 0, 1, ….", min=1, max=100)] = 3,
    quick: Annotated[
        bool, typer.Option("--quick", help="One seed and three rounds; writes no file.")
    ] = False,
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Use synthetic ECG even where MIT-BIH is.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of tables.")
    ] = False,
) -> None:
    """Score federated and centralised models on patients that no wristband wore.

    Example: `make bench-clinical ARGS="--seeds 3"`, about three minutes a seed on two cores
    """
    pin_to_one_thread()
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = _source(synthetic=synthetic)
    task = get_task("beats")
    _tell(source.notice)
    examples = pool(source, _track(source.train_names, "pooling"))
    extra = _demo_arguments(quick=quick, synthetic=synthetic)
    runs = [_run(seed, task, source, examples, extra) for seed in range(1 if quick else seeds)]
    document = {**summarise(runs, task, source), **provenance}
    if as_json:
        results_file.print_json(document)
    else:
        _show(document)
    _keep(document, quick=quick)


def summarise(runs: Sequence[Seed], task: Task, source: EcgSource) -> dict[str, Any]:
    """The figures of all runs as JSON values, without machine, versions, commit and command."""
    federated = figures.spreads([run.summary["report"] for run in runs])
    centralised = figures.spreads([run.report for run in runs])
    params = task.initial(0)
    return {
        "data_source": source.kind,
        "notice": SYNTHETIC_NOTICE if source.kind == "synthetic" else NOTICE,
        "protocol": PROTOCOL if source.kind == "mitdb" else SYNTHETIC_NOTICE,
        "federated": federated,
        "centralised": centralised,
        "all_n": figures.spreads([figures.all_n_report(run.report) for run in runs]),
        "federated_minus_centralised": figures.differences(federated, centralised),
        "bytes": figures.bytes_against_float32(
            params, [run.summary["traffic"] for run in runs], LEARNING.bits
        ),
        "params": sum(value.size for value in params.values()),
        "repeats": len(runs),
        "seeds": [run.seed for run in runs],
        "runs": [_described(run) for run in runs],
        "budget": BUDGET,
        "learning": LEARNING.model_dump(exclude={"server", "seed"}),
        "ds2_looks": _looks(runs) if source.kind == "mitdb" else None,
    }


def _described(run: Seed) -> dict[str, Any]:
    return {
        "seed": run.seed,
        "rounds": len(run.plan),
        "examples_seen": num_examples_seen(run.plan, LEARNING.batch_size),
        "release": run.summary["release"],
        "model_digest": run.summary["model_digest"],
        "centralised_digest": run.digest,
        "confusion": run.summary["report"]["figures"]["confusion"],
        "centralised_confusion": run.report["figures"]["confusion"],
    }


def _demo_arguments(*, quick: bool, synthetic: bool) -> list[str]:
    # Offline: a demo that downloads MIT-BIH would run on other ECG than the peer opened before it.
    days = ["--days", QUICK_DAYS] if quick else []
    return ["--offline", *days, *(["--synthetic"] if synthetic else [])]


def _looks(runs: Sequence[Seed]) -> dict[str, Any]:
    return {
        "federated": sum(run.summary["report"]["look"] for run in runs),
        "centralised": len(runs),
        "counted": "in this run: each release of each demo, and each centralised model",
    }


def _run(
    seed: int, task: Task, source: EcgSource, examples: Examples, extra: Sequence[str]
) -> Seed:
    progress.print(f"seed {seed}: the demo, a whole region", style="bold", highlight=False)
    root = results_file.REPOSITORY / "var" / "bench" / NAME / f"seed-{seed}"
    summary = run_demo(DemoRun(seed, root, extra), _tell)
    _check_comparable(summary, source)
    plan = periods(summary["rounds"], LEARNING.num_steps)
    progress.print(f"seed {seed}: the same net centralised", style="bold", highlight=False)
    params = train_centralised(task, examples, plan, LEARNING.batch_size, seed, _tell)
    report = score_centralised(task, params, source, 1, lambda names: _track(names, "scoring"))
    return Seed(seed, summary, plan, report, tensors_digest(params))


def _check_comparable(summary: Mapping[str, Any], source: EcgSource) -> None:
    """Both must have seen the same ECG, and the release be of the last round."""
    if summary["data_source"] != source.kind:
        raise PulseRingError(f"the demo ran on {summary['data_source']}, the peer on {source.kind}")
    refused = [day for day, release in summary["releases"].items() if release is None]
    if refused:
        raise PulseRingError(
            f"the region's gate refused day {', '.join(refused)}: the release has seen fewer "
            "rounds than the peer would, so the two cannot be compared"
        )


def _source(*, synthetic: bool) -> EcgSource:
    if synthetic:
        return synthetic_source(reason="--synthetic was given. ")
    return open_source(data_root(None, os.environ))


def _keep(document: Mapping[str, Any], *, quick: bool) -> None:
    if quick:
        progress.print("--quick is a rough answer: no file was written")
        return
    suffix = "" if document["data_source"] == "mitdb" else f"-{document['data_source']}"
    path = results_file.write(NAME + suffix, document)
    progress.print(f"written to {results_file.shown(path)}", highlight=False)


def _show(document: Mapping[str, Any]) -> None:
    synthetic = document["data_source"] == "synthetic"
    where = "SYNTHETIC patients: no clinical figures" if synthetic else "DS2, 22 patients"
    counted = f"{where}; seeds {', '.join(map(str, document['seeds']))}; mean ± sd"
    console.print(f"\n{counted}", style="bold", highlight=False)
    console.print(figures_table(document))
    console.print()
    console.print("per wristband, MQTT payloads and topics", style="bold")
    console.print(bytes_table(document["bytes"]))
    console.print(f"\n{MEANING_OF_N}\n{document['notice']}", style="dim", highlight=False)


def _tell(line: str) -> None:
    progress.print(line, highlight=False, style="dim", soft_wrap=True)


def _track(names: Iterable[str], what: str) -> Iterable[str]:
    names = list(names)
    for number, name in enumerate(names, start=1):
        yield name
        if number == len(names) or number % 11 == 0:
            _tell(f"{what}: {number}/{len(names)} patients")


def main() -> None:
    """Run the benchmark; a user's mistake is one sentence on stderr."""
    try:
        typer.run(clinical)
    except PulseRingError as fault:
        progress.print(f"error: {fault.message}", style="red", highlight=False)
        sys.exit(fault.exit_code)


if __name__ == "__main__":
    main()

"""Calibration constants of the beat task, chosen on DS1 records that the model has not seen.

``make bench-calibrate`` trains the federated arm five times, each time without one fold of DS1, and
fits on the logits of the held-out records: scale and bias of both branches by the negative
log-likelihood, then the rhythm bias to where macro-F1 is greatest, since S is rare; and the expected
error above which a beat is inconclusive.  It prints the constants
that `common/tasks/calibration.py` holds, and what they give; DS2 is not
read.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from scipy import optimize, special

from benchmarks import command, results_file
from benchmarks.clinical_arms import ARMS, kept_or_trained
from benchmarks.clinical_figures import FIGURES
from benchmarks.cohorts import FOLDS, learners
from common.ecg.labels import AAMI
from common.ecg.sources import EcgSource, data_root, open_source
from common.errors import ConfigError
from common.metrics.calibration import coverage_curve, point_for_error, top_label_ece
from common.metrics.counts import count_scores
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters, load_parameters
from simulators.trainer import pin_to_one_thread

NAME = "calibrate"
WANTED_ERROR = 0.02  # among answered beats of held-out DS1 records
SHIFTS = np.arange(0.0, 2.25, 0.25)  # of the rhythm bias, in log odds
N, S = AAMI.index("N"), AAMI.index("S")
Floats = NDArray[np.float64]
progress = Console(stderr=True)


@dataclass(frozen=True)
class Logits:
    """Of held-out beats: form (B, 4), rhythm (B,), labels (B,)."""

    form: Floats
    rhythm: Floats
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Constants:
    """What the scorer applies to the logits."""

    form_scale: float
    form_bias: tuple[float, ...]
    rhythm_scale: float
    rhythm_bias: float

    def scores(self, logits: Logits) -> Floats:
        """(B, 5), as `common.tasks.beats.BeatScorer`."""
        share = special.softmax(self.form_scale * logits.form + np.array(self.form_bias), axis=1)
        s = special.expit(self.rhythm_scale * logits.rhythm + self.rhythm_bias)[:, None]
        return np.concatenate([share[:, :1] * (1 - s), share[:, :1] * s, share[:, 1:]], axis=1)


def fit(logits: Logits) -> Constants:
    """Scale and biases that maximise the likelihood of held-out labels (Platt; Guo et al. 2017)."""
    classes = np.maximum(logits.labels - S, 0)
    start = np.array([1.0, 0.0, 0.0, 0.0])

    def form_loss(x: Floats) -> float:
        logit = x[0] * logits.form + np.array([0.0, *x[1:]])
        picked = np.take_along_axis(logit, classes[:, None], axis=1)[:, 0]
        return float(np.mean(special.logsumexp(logit, axis=1) - picked))

    conducted = logits.labels <= S
    rhythm, is_s = logits.rhythm[conducted], logits.labels[conducted] == S

    def rhythm_loss(x: Floats) -> float:
        logit = x[0] * rhythm + x[1]
        return float(np.mean(np.logaddexp(0, logit) - is_s * logit))

    form = optimize.minimize(form_loss, start, method="Nelder-Mead", options=OPTIONS).x
    other = optimize.minimize(rhythm_loss, np.array([1.0, -1.0]), method="Nelder-Mead").x
    return Constants(
        float(form[0]), (0.0, *(float(v) for v in form[1:])), float(other[0]), float(other[1])
    )


def decided(logits: Logits, constants: Constants) -> Constants:
    """Move the rhythm bias from the most likely one to the one of greatest macro-F1 (N, S, V)."""
    moved = [replace(constants, rhythm_bias=constants.rhythm_bias + float(d)) for d in SHIFTS]
    return max(moved, key=lambda c: _macro_f1(logits, c))


def _macro_f1(logits: Logits, constants: Constants) -> float:
    counts = count_scores(constants.scores(logits), logits.labels)["confusion"]
    return FIGURES["macro_f1"](counts) or 0.0


OPTIONS = {"maxiter": 4000, "xatol": 1e-4, "fatol": 1e-7}


def held_out_logits(fold: int, seed: int, source: EcgSource) -> Logits:
    """Train without a fold and return its logits; the body of a worker process."""
    pin_to_one_thread()
    beats = learners(source, source.train_names, "expert", "all")
    seen = {name: examples for name, examples in beats.items() if name not in FOLDS[fold]}
    folder = results_file.REPOSITORY / "var" / "bench" / NAME
    params = kept_or_trained(ARMS[0], seed, seen, folder, lambda _: None)["model"]
    parts = [_logits(params, beats[name]) for name in FOLDS[fold]]
    return joined(parts)


def joined(parts: list[Logits]) -> Logits:
    """Lay logits end to end."""
    return Logits(
        np.concatenate([p.form for p in parts]),
        np.concatenate([p.rhythm for p in parts]),
        np.concatenate([p.labels for p in parts]),
    )


def report(logits: Logits, constants: Constants) -> dict[str, Any]:
    """Figures on the held-out beats, and the level of inconclusive."""
    scores = constants.scores(logits)
    counts = count_scores(scores, logits.labels)["confusion"]
    curve = coverage_curve(scores, logits.labels)
    point = point_for_error(curve, WANTED_ERROR)
    return {
        "figures": {name: figure(counts) for name, figure in FIGURES.items() if "232" not in name},
        "ece": top_label_ece(scores, logits.labels),
        "error_of_all": float(curve.error[-1]),
        "inconclusive": None
        if point is None
        else {"above": point.threshold, "coverage": point.coverage, "error": point.error},
    }


def calibrate(
    seed: Annotated[int, typer.Option(help="Of the five runs.", min=0)] = 0,
    workers: Annotated[int, typer.Option(help="Processes that train.", min=1, max=64)] = 2,
) -> None:
    """Fit the calibration constants on held-out DS1 records.

    Example: `make bench-calibrate`, about ten minutes on two cores
    """
    provenance = results_file.provenance(NAME, sys.argv[1:])
    source = open_source(data_root(None, os.environ))
    if source.kind != "mitdb":
        raise ConfigError("calibration needs MIT-BIH: run `make data`")
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(held_out_logits, i, seed, source) for i in range(len(FOLDS))]
        logits = joined([run.result() for run in runs])
    likely = fit(logits)
    constants = decided(logits, likely)
    document = {
        "constants": asdict(constants),
        **report(logits, constants),
        "by_likelihood_alone": {"rhythm_bias": likely.rhythm_bias, **report(logits, likely)},
        "protocol": "docs/clinical/protocol.md",
        **provenance,
    }
    results_file.print_json(document)
    progress.print(f"written to {results_file.shown(results_file.write(NAME, document))}")


def _logits(params: Parameters, examples: Examples) -> Logits:
    task = get_task("beats")
    module = task.build().eval()
    load_parameters(module, params)
    form, rhythm = [], []
    with torch.inference_mode():
        for start in range(0, len(examples), 4096):
            rows = [
                torch.from_numpy(examples.inputs[n][start : start + 4096])
                for n in task.input_shapes
            ]
            a, b = module(*rows)
            form.append(a.numpy().astype(np.float64))
            rhythm.append(b.numpy().astype(np.float64))
    return Logits(np.concatenate(form), np.concatenate(rhythm), examples.labels)


if __name__ == "__main__":
    command.run(calibrate, "stopped; finished runs are kept and will not be trained again")

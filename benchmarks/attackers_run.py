"""One run of the attackers benchmark: trained by the product's rounds, scored, kept as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clinical_scores as scores
from benchmarks.attackers_arms import Cell, study_of
from benchmarks.clinical_arms import MEAN_OF, run_key
from benchmarks.cohorts import FOLDS, learners
from common.ecg.sources import EcgSource
from common.metrics.figures import Confusion
from common.tasks.task import Examples, Parameters
from simulators.fleet import default_roster
from simulators.study import run_study, sealed
from simulators.trainer import pin_to_one_thread

CODE = (
    "edge/robust.py",
    "edge/screening.py",
    "edge/exact.py",
    "edge/standing.py",
    "edge/contributions.py",
    "simulators/attackers.py",
    "benchmarks/attackers_arms.py",
)


@dataclass(frozen=True)
class Split:
    """Whose beats are learnt from and whose are scored.

    Attributes
    ----------
    fold : int or None
        Of DS1, held out and scored; None learns from all of DS1 and scores DS2.
    """

    fold: int | None

    def learnt(self, source: EcgSource) -> list[str]:
        """Records that train."""
        held = FOLDS[self.fold] if self.fold is not None else ()
        return [name for name in source.train_names if name not in held]

    def scored(self, source: EcgSource) -> list[str]:
        """Records that are scored."""
        return list(FOLDS[self.fold] if self.fold is not None else source.test_names)


@dataclass(frozen=True)
class Ran:
    """What one run gave.

    Attributes
    ----------
    confusions : dict
        By scored record, at reference peaks: nested lists (5, 5) [true, said].
    set_aside : dict
        How many updates of ``honest`` and ``hostile`` wristbands the screens set aside.
    taken : int
        Updates that aggregates counted.
    refused : int
        Hostile updates that the edge node's checks refused.
    """

    defence: str
    threat: str
    seed: int
    confusions: dict[str, list[list[int]]]
    set_aside: dict[str, int]
    taken: int
    refused: int
    hostile: list[str]

    def counts(self) -> dict[str, Confusion]:
        """Confusions as arrays."""
        return {name: np.array(rows, dtype=np.int64) for name, rows in self.confusions.items()}


def run(cell: Cell, split: Split, num_rounds: int, source: EcgSource, folder: Path) -> Ran:
    """Train and score a run, or read the one that was kept; the body of a worker process."""
    pin_to_one_thread()
    wearers = _learners(source, split)
    path = folder / f"{_name(cell)}-{_key(cell, split, num_rounds, wearers)}.json"
    if path.exists():
        return Ran(**json.loads(path.read_text()))
    study = study_of(cell, default_roster(list(wearers)), num_rounds)
    models: list[Parameters] = []
    aside, refused, taken = Counter[str](), 0, 0
    for committed in run_study(study, wearers):
        models = [*models[1 - MEAN_OF :], committed.model]
        kinds = ("hostile" if d in study.attackers else "honest" for d in committed.quarantined)
        aside.update(kinds)
        refused += len(committed.refused)
        taken += committed.num_updates
    model = sealed(models, MEAN_OF)
    answers = scores.answers(scores.float_scorer(model), _asked(source, split))
    ran = Ran(
        cell.defence.name,
        cell.threat.name,
        cell.seed,
        {name: a.confusion.tolist() for name, a in answers.items()},
        dict(aside),
        taken,
        refused,
        sorted(study.attackers),
    )
    _write(path, ran)
    return ran


def _write(path: Path, ran: Ran) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(asdict(ran)))
    scratch.replace(path)


def _name(cell: Cell) -> str:
    return f"{cell.threat.name.replace('%', '')}-{cell.defence.name}-{cell.seed}"


def _key(cell: Cell, split: Split, num_rounds: int, wearers: Mapping[str, Examples]) -> str:
    root = Path(__file__).resolve().parent.parent
    stated: dict[str, Any] = {
        "cell": [asdict(cell.defence), asdict(cell.threat), cell.seed],
        "fold": split.fold,
        "num_rounds": num_rounds,
        "code": [(root / name).read_text() for name in CODE],
    }
    return run_key(stated, wearers)


@cache
def _learners(source: EcgSource, split: Split) -> Mapping[str, Examples]:
    return learners(source, split.learnt(source), "expert", "all")


@cache
def _asked(source: EcgSource, split: Split) -> Mapping[str, scores.Asked]:
    return {name: scores.at_reference_peaks(source.read(name)) for name in split.scored(source)}

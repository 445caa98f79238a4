"""What a slow group costs in learning: the clinical recipe, its hospitals dealt anew for each seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import clinical_scores as scores
from benchmarks.clinical_arms import MEAN_OF, NUM_STEPS, TASK, run_key
from benchmarks.cohorts import learners
from common.ecg.sources import EcgSource
from common.metrics.figures import Confusion, accuracy, macro_f1
from common.tasks.task import Examples
from regional.config import LearningConfig
from simulators.study import Roster, Study, run_study, sealed
from simulators.trainer import pin_to_one_thread

Setting = Literal["together", "groups", "without_slow"]
SCORED = (0, 1, 2)  # N, S, V
SETTINGS: tuple[Setting, ...] = ("together", "groups", "without_slow")


@dataclass(frozen=True)
class Lesson:
    """One run; `slow_commits` is how many rounds a slow one lasts."""

    setting: Setting
    seed: int
    num_hospitals: int
    num_slow: int
    num_rounds: int
    slow_commits: int

    @property
    def slow(self) -> tuple[str, ...]:
        """The slow hospitals, drawn for each seed."""
        rng = np.random.default_rng([self.seed, self.num_hospitals])
        chosen = rng.choice(self.num_hospitals, self.num_slow, replace=False)
        return tuple(sorted(_hospital(int(number)) for number in chosen))

    def study(self, wearers: Mapping[str, Examples]) -> Study:
        """What to run; patients are dealt to the hospitals in turn."""
        roster: dict[str, list[tuple[str, str]]] = {}
        for number, wearer in enumerate(wearers):
            home = _hospital(number % self.num_hospitals)
            roster.setdefault(home, []).append((f"wb-{number + 1:02d}", wearer))
        rule = LearningConfig(seed=self.seed, num_steps=NUM_STEPS, lr_rounds=self.num_rounds)
        return Study(
            self._of(roster),
            rule,
            self.num_rounds,
            TASK,
            slow=self.slow if self.setting == "groups" else (),
            slow_commits=self.slow_commits,
        )

    def _of(self, roster: Roster) -> Roster:
        if self.setting != "without_slow":
            return roster
        return {name: pairs for name, pairs in roster.items() if name not in self.slow}


def learn(lesson: Lesson, source: EcgSource, folder: Path) -> dict[str, list[list[int]]]:
    """Train and score on DS2, or read what was kept; the body of a worker process.

    Returns
    -------
    dict
        By record: nested lists (5, 5) [true, said].
    """
    pin_to_one_thread()
    wearers = _learners(source)
    path = folder / f"{lesson.setting}-{lesson.seed}-{run_key(asdict(lesson), wearers)}.json"
    if path.exists():
        kept: dict[str, list[list[int]]] = json.loads(path.read_text())
        return kept
    models = [committed.model for committed in run_study(lesson.study(wearers), wearers)]
    scorer = scores.float_scorer(sealed(models, MEAN_OF))
    confusions = {
        name: answer.confusion.tolist()
        for name, answer in scores.answers(scorer, _asked(source)).items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(confusions))
    scratch.replace(path)
    return confusions


def scored(confusions: Mapping[str, list[list[int]]]) -> dict[str, float]:
    """Accuracy and macro-F1 over all records."""
    total: Confusion = np.sum([np.array(c, np.int64) for c in confusions.values()], axis=0)
    return {"accuracy": accuracy(total) or 0.0, "macro_f1": macro_f1(total, SCORED) or 0.0}


def _hospital(number: int) -> str:
    return f"hospital-{number:02d}"


@cache
def _learners(source: EcgSource) -> Mapping[str, Examples]:
    return learners(source, source.train_names, "expert", "all")


@cache
def _asked(source: EcgSource) -> Mapping[str, scores.Asked]:
    return {name: scores.at_reference_peaks(source.read(name)) for name in source.test_names}

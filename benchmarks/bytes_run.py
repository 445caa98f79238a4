"""One run of the bytes benchmark: trained by a codec, scored on DS2, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import clinical_scores as scores
from benchmarks.bytes_codecs import PEER, Codec, learn
from benchmarks.clinical_arms import run_key
from benchmarks.cohorts import learners
from common.ecg.sources import EcgSource
from common.metrics.figures import Confusion
from common.tasks.task import Examples
from simulators.trainer import pin_to_one_thread

CODE = Path(__file__).with_name("bytes_codecs.py")


@dataclass(frozen=True)
class Ran:
    """What one run gave; bytes are of one wristband's messages, by round.

    Attributes
    ----------
    confusions : dict
        By DS2 record, at reference peaks: nested lists (5, 5) [true, said].
    """

    codec: str
    seed: int
    bytes_up: list[float]
    bytes_down: float
    confusions: dict[str, list[list[int]]]

    def counts(self) -> dict[str, Confusion]:
        """Confusions as arrays."""
        return {name: np.array(rows, dtype=np.int64) for name, rows in self.confusions.items()}


def run(codec: Codec, seed: int, num_rounds: int, source: EcgSource, folder: Path) -> Ran:
    """Train and score a run, or read the one that was kept; the body of a worker process."""
    pin_to_one_thread()
    wearers = _learners(source)
    path = folder / f"{codec.name}-{seed}-{_key(codec, seed, num_rounds, wearers)}.json"
    if path.exists():
        return Ran(**json.loads(path.read_text()))
    learnt = learn(codec, seed, num_rounds, wearers)
    answers = scores.answers(scores.float_scorer(learnt.model), _asked(source))
    confusions = {name: a.confusion.tolist() for name, a in answers.items()}
    ran = Ran(codec.name, seed, list(learnt.bytes_up), learnt.bytes_down, confusions)
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(asdict(ran)))
    scratch.replace(path)
    return ran


def _key(codec: Codec, seed: int, num_rounds: int, wearers: Mapping[str, Examples]) -> str:
    stated: dict[str, Any] = {
        "is_peer": codec.name == PEER,
        "rule": codec.rule(seed, num_rounds).model_dump(mode="json"),
        "num_rounds": num_rounds,
        "code": CODE.read_text(),
    }
    return run_key(stated, wearers)


@cache
def _learners(source: EcgSource) -> Mapping[str, Examples]:
    return learners(source, source.train_names, "expert", "all")


@cache
def _asked(source: EcgSource) -> Mapping[str, scores.Asked]:
    return {name: scores.at_reference_peaks(source.read(name)) for name in source.test_names}

"""What the clinical benchmark trains: one arm is one way to learn from the DS1 patients."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.cohorts import ROSTER, Labels, Share
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters, joined
from regional.config import LearningConfig
from regional.learning import learning_rate
from regional.seal import mean_model
from simulators.public import public_examples
from simulators.study import Roster, Study, run_study, sealed
from simulators.trainer import LocalTraining, device_seed, train

NUM_ROUNDS = 40
NUM_STEPS = 15
MEAN_OF = 5
SEEDS_UNDER_ALL_CONDITIONS = 3  # each takes three minutes
POOL = "pool"
TASK = "beats"
WITHOUT_SIMULATOR = {"simulated": False}

TRAINING_CODE = (
    "common/ecg/*.py",
    "common/tasks/beat*.py",
    "common/tasks/rhythm_start.*",
    "common/tasks/task.py",
    "common/f*.py",
    "common/parts.py",
    "common/round_sums.py",
    "simulators/rhythm*.py",
    "simulators/p[au]*.py",
    "simulators/trainer.py",
    "simulators/encoding.py",
    "simulators/local.py",
    "simulators/study.py",
    "edge/aggregate.py",
    "regional/[cls]*.py",
    "benchmarks/cohorts.py",
)
"""Files whose change makes a kept run stale."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Arm:
    """One way to learn.

    Attributes
    ----------
    how : {"federated", "centralised", "local"}
        All wristbands together; their beats in one place, with as many steps as all of them take;
        each hospital for itself.
    num_seeds : int
        Seeds 0, 1, … that the benchmark runs; the headline has 5, others fewer for want of time.
    labels : {"expert", "own"}
        Who labelled the beats that are learnt from: annotators, or the device's own detector.
    share : {"all", "four_fifths"}
        Every beat of a patient, or what a product leaves when it keeps the last fifth.
    learning : mapping
        Laid over the product's `LearningConfig`.
    """

    name: str
    how: Literal["federated", "centralised", "local"]
    labels: Labels = "expert"
    share: Share = "all"
    num_rounds: int = NUM_ROUNDS
    num_seeds: int = 5
    sample_fraction: float = 1.0
    learning: Mapping[str, Any] = field(default_factory=dict)

    def under_all_conditions(self, seed: int) -> bool:
        """Whether a model is also scored as int8, end to end, in noise and personalised."""
        return self.name == "federated" and seed < SEEDS_UNDER_ALL_CONDITIONS

    def shortened(self, num_rounds: int) -> Arm:
        """The same arm for a rough answer."""
        return replace(self, num_rounds=num_rounds)

    def rule(self, seed: int) -> LearningConfig:
        """The learning constants of a run."""
        changes = {"lr_rounds": self.num_rounds, "num_steps": NUM_STEPS, **self.learning}
        return LearningConfig(**changes, seed=seed)


ARMS: tuple[Arm, ...] = (
    Arm("federated", "federated"),
    Arm("centralised", "centralised"),
    Arm("federated_no_simulator", "federated", learning=WITHOUT_SIMULATOR, num_seeds=3),
    Arm("centralised_no_simulator", "centralised", learning=WITHOUT_SIMULATOR, num_seeds=3),
    Arm("federated_own_labels", "federated", labels="own", num_seeds=3),
    Arm("federated_four_fifths", "federated", share="four_fifths", num_seeds=3),
    Arm("local_only", "local", num_seeds=3),
)


def roster_of(
    wearers: Iterable[str], hospitals: Mapping[str, Sequence[str]] = ROSTER
) -> dict[str, list[tuple[str, str]]]:
    """Hospitals with those of `wearers` they care for; a device's name does not tell its wearer's.

    Wearers that no hospital names, such as synthetic ones, are dealt out in turn.
    """
    names = list(wearers)
    home = {wearer: hospital for hospital, cared in hospitals.items() for wearer in cared}
    deal = list(hospitals)
    roster: dict[str, list[tuple[str, str]]] = {hospital: [] for hospital in hospitals}
    for number, wearer in enumerate(names):
        hospital = home.get(wearer, deal[number % len(deal)])
        roster[hospital].append((f"wb-{number + 1:02d}", wearer))
    return {hospital: pairs for hospital, pairs in roster.items() if pairs}


def train_arm(
    arm: Arm, seed: int, wearers: Mapping[str, Examples], tell: Tell
) -> dict[str, Parameters]:
    """Train one run of an arm.

    Parameters
    ----------
    wearers : mapping of str to Examples
        What each patient's wristband learns from.

    Returns
    -------
    dict
        Models by name: one, ``"model"``, or one for each hospital of a local arm.

    Raises
    ------
    ConfigError, ContractError
        As `simulators.trainer.train`.
    """
    roster = roster_of(wearers)
    match arm.how:
        case "federated":
            return {"model": _federated(arm, seed, roster, wearers, tell)}
        case "centralised":
            return {"model": _centralised(arm, seed, wearers, tell)}
        case "local":
            return {
                hospital: _federated(arm, seed, {hospital: pairs}, wearers, tell)
                for hospital, pairs in roster.items()
            }


def kept_or_trained(
    arm: Arm, seed: int, wearers: Mapping[str, Examples], folder: Path, tell: Tell
) -> dict[str, Parameters]:
    """As `train_arm`, but a run that an interrupted benchmark finished is read from `folder`."""
    stated = asdict(arm) | {"rule": arm.rule(seed).model_dump(mode="json"), "num_seeds": 0}
    path = folder / f"{arm.name}-{seed}-{run_key(stated, wearers)}.safetensors"
    if path.exists():
        return _unflattened(load_file(path))
    models = train_arm(arm, seed, wearers, tell)
    flat = {f"{name}/{key}": value for name, m in models.items() for key, value in m.items()}
    folder.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    save_file(flat, scratch)
    scratch.replace(path)
    return models


def _federated(
    arm: Arm, seed: int, roster: Roster, wearers: Mapping[str, Examples], tell: Tell
) -> Parameters:
    study = Study(roster, arm.rule(seed), arm.num_rounds, TASK, arm.sample_fraction)
    models = []
    for committed in run_study(study, wearers):
        models.append(committed.model)
        if committed.round_id % 10 == 0:
            tell(f"{arm.name}, seed {seed}: {committed.round_id}/{arm.num_rounds} rounds")
    return sealed(models, MEAN_OF)


def _centralised(arm: Arm, seed: int, wearers: Mapping[str, Examples], tell: Tell) -> Parameters:
    """The peer: where a round asks D wristbands for n steps each, n·D steps in a row.

    Same initial parameters, loss, sampling, augmentation, optimiser (fresh each round), learning
    rates and number of examples seen; only the beats are pooled.
    """
    task, rule, pooled = get_task(TASK), arm.rule(seed), joined(list(wearers.values()))
    public = public_examples(TASK) if rule.simulated else None
    params, models = task.initial(seed, simulated=rule.simulated), []
    for number in range(arm.num_rounds):
        local = LocalTraining(
            learning_rate=learning_rate(rule, number),
            num_steps=rule.num_steps * round(arm.sample_fraction * len(wearers)),
            batch_size=rule.batch_size,
            mu=0.0,
            seed=device_seed(seed, POOL, number + 1),
        )
        params = train(task, params, pooled, local, public)
        models.append(params)
        if (number + 1) % 10 == 0:
            tell(f"{arm.name}, seed {seed}: {number + 1}/{arm.num_rounds} periods")
    return mean_model(models[-MEAN_OF:])


def run_key(stated: Mapping[str, Any], wearers: Mapping[str, Examples]) -> str:
    """What a run depends on: constants, beats and the code of everything that trains."""
    head = hashlib.sha256()
    head.update(json.dumps(stated, sort_keys=True).encode())
    for name, examples in sorted(wearers.items()):
        head.update(name.encode() + examples.labels.tobytes())
        for values in examples.inputs.values():
            head.update(np.ascontiguousarray(values).tobytes())
    root = Path(__file__).resolve().parent.parent
    for path in sorted(path for pattern in TRAINING_CODE for path in root.glob(pattern)):
        head.update(path.read_bytes())
    return head.hexdigest()[:16]


def _unflattened(flat: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Parameters]:
    models: dict[str, Parameters] = {}
    for name, value in flat.items():
        model, _, key = name.partition("/")
        models.setdefault(model, {})[key] = value
    return models

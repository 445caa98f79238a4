"""A region in one process, for studies: the product's own steps without broker, ring and disk.

Each round is opened, learnt, clipped, quantized, encoded, folded by hospital, summed and committed
by the code that runs in wristband, edge node and coordinator, so the digests are theirs
(``tests/e2e/test_study.py`` compares them with a region of real processes).  What is missing is
what changes no digest: transport, receipts, deadlines, the evaluation on held-out beats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.digest import EMPTY_DIGEST, tensors_digest
from common.errors import QuorumError
from common.fixedpoint import first_exponents
from common.messages import RoundOutcome, RoundSpec
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters
from common.wire import shapes_of
from edge.aggregate import Aggregate, aggregate
from regional.commit import Repeated, repeat_step
from regional.config import Hospital, LearningConfig, RegionConfig, RoundsConfig
from regional.learning import form_after, round_spec
from regional.progress import Progress, after
from regional.records import CycleStarted, RoundEnded, RoundOpened
from regional.seal import mean_model
from simulators.jobs import Identity, Job, Model
from simulators.letters import update_message
from simulators.local import learn

REGION = "county"

Roster = Mapping[str, Sequence[tuple[str, str]]]
"""Hospital to its wristbands, each a (device, wearer)."""


@dataclass(frozen=True)
class Study:
    """What to run.

    Attributes
    ----------
    roster : Roster
        Wristbands and their wearers, by hospital.
    learning : LearningConfig
        As the coordinator's; `seed` seeds model, devices and sampling.
    num_rounds : int
        Training rounds, all of one day.
    sample_fraction : float
        Share of the wristbands that each round invites, in (0, 1]; at least one.
    """

    roster: Roster
    learning: LearningConfig
    num_rounds: int
    task: str = "beats"
    sample_fraction: float = 1.0


@dataclass(frozen=True)
class Committed:
    """A round's end: the next model and what it took.

    Attributes
    ----------
    bytes_up : int
        Of all update messages, as they would go over MQTT.
    """

    round_id: int
    model: Parameters
    model_digest: str
    num_updates: int
    num_saturated: int
    bytes_up: int
    learning_rate: float


@dataclass
class _Region:
    """What the coordinator remembers, its mailbox holds and its wristbands keep."""

    config: RegionConfig
    progress: Progress
    model: Parameters
    state: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    residuals: dict[Identity, Model | None] = field(default_factory=dict)


def run_study(study: Study, wearers: Mapping[str, Examples]) -> Iterator[Committed]:
    """Run the rounds one after the other; on one torch thread the result depends on the arguments.

    Parameters
    ----------
    wearers : mapping of str to Examples
        What each wearer's wristband trains on.

    Raises
    ------
    ConfigError, ContractError
        As local training, fold and server step.
    QuorumError
        When the roster is empty.
    """
    region = _start(study)
    for _ in range(study.num_rounds):
        spec = round_spec(region.config, region.progress, "train", (), region.progress.last_round)
        region.progress = after(region.progress, RoundOpened(spec=spec))
        messages = _learnt(study, spec, region, wearers)
        repeated = _summed(spec, region, messages)
        region.progress = after(region.progress, _ended(spec, repeated, region))
        region.model, region.state = dict(repeated.model), dict(repeated.state)
        yield Committed(
            round_id=spec.round_id,
            model=region.model,
            model_digest=repeated.model_digest,
            num_updates=repeated.num_updates,
            num_saturated=repeated.num_saturated,
            bytes_up=sum(len(data) for sent in messages.values() for data in sent),
            learning_rate=spec.local.learning_rate,
        )


def sealed(models: Sequence[Parameters], mean_of: int) -> Parameters:
    """The model that a day would seal: the mean of the last `mean_of` committed ones."""
    return mean_model(models[-mean_of:])


def sampled(
    roster: Roster, fraction: float, rng: np.random.Generator
) -> dict[str, list[tuple[str, str]]]:
    """Draw a share of all wristbands, at least one, and keep them by hospital.

    Raises
    ------
    QuorumError
        When there is no wristband.
    """
    everyone = [(hospital, pair) for hospital, pairs in roster.items() for pair in pairs]
    if not everyone:
        raise QuorumError("the study's roster holds no wristband")
    num = max(1, round(fraction * len(everyone)))
    chosen = np.sort(rng.choice(len(everyone), size=num, replace=False))
    drawn: dict[str, list[tuple[str, str]]] = {hospital: [] for hospital in roster}
    for index in chosen:
        hospital, pair = everyone[index]
        drawn[hospital].append(pair)
    return drawn


def _start(study: Study) -> _Region:
    config = RegionConfig(
        region=REGION,
        broker="mqtt://127.0.0.1:1",  # nothing of a study goes over a network or to a disk
        state_dir=Path("none"),
        mailbox="none",
        hospitals={name: Hospital(key=Path("none")) for name in study.roster},
        task=study.task,
        rounds=RoundsConfig(rounds_per_day=study.num_rounds, num_days=1),
        learning=study.learning,
    )
    task = get_task(study.task)
    model = task.initial(study.learning.seed, simulated=study.learning.simulated)
    started = CycleStarted(
        cycle=1,
        task=study.task,
        model_digest=tensors_digest(model),
        made_by_round=0,
        exponents=first_exponents(model, study.learning.clip_norm, 16),
        evaluation_shapes=dict(task.evaluation_shapes),
    )
    return _Region(config, after(Progress(), started), model)


def _learnt(
    study: Study, spec: RoundSpec, region: _Region, wearers: Mapping[str, Examples]
) -> dict[str, list[bytes]]:
    """The update messages of a round, by hospital; what they leave unsaid stays in `region`."""
    rng = np.random.default_rng([study.learning.seed, spec.round_id])
    messages: dict[str, list[bytes]] = {}
    for hospital, wristbands in sampled(study.roster, study.sample_fraction, rng).items():
        messages[hospital] = []
        for device, wearer in wristbands:
            who = Identity(REGION, hospital, device)
            models, unsaid = {spec.base_digest: region.model}, region.residuals.get(who)
            job = Job(who, spec, models, train=True, residual=unsaid)
            training = wearers[wearer]
            update = learn(job, training, training.take(slice(0, 0))).update
            if update is not None:
                messages[hospital].append(update_message(who, spec, update))
                region.residuals[who] = update.residual
    return messages


def _summed(spec: RoundSpec, region: _Region, messages: Mapping[str, list[bytes]]) -> Repeated:
    shapes = shapes_of(region.model)
    aggregates: list[Aggregate] = [
        aggregate(hospital, spec, shapes, updates, ()) for hospital, updates in messages.items()
    ]
    first, *others = (a.tensors for a in aggregates)
    sums = {name: sum((o[name] for o in others), start=value) for name, value in first.items()}
    return repeat_step(spec, sums, region.model, region.state, region.config.learning.bits)


def _ended(spec: RoundSpec, repeated: Repeated, region: _Region) -> RoundEnded:
    form = form_after(region.config.learning, region.progress.num_trained + 1)
    outcome = RoundOutcome(
        region=spec.region,
        day=spec.day,
        round_id=spec.round_id,
        end="committed",
        reason="in one process",
        base_digest=spec.base_digest,
        model_digest=repeated.model_digest,
        state_digest=repeated.state_digest if repeated.state else EMPTY_DIGEST,
    )
    return RoundEnded(
        outcome=outcome,
        learning_rate=spec.local.learning_rate,
        opened_at=spec.opened_at,
        num_updates=repeated.num_updates,
        num_saturated=repeated.num_saturated,
        exponents=repeated.exponents,
        next_bits=form.bits,
        next_parts=form.parts,
        next_order=form.order,
    )

"""A region in one process, for studies: the product's own steps without broker, ring and disk.

Each round is opened, learnt, clipped, quantized, encoded, folded by hospital, summed and committed
by the code that runs in wristband, edge node and coordinator, so the digests are theirs
(``tests/e2e/test_study.py`` compares them with a region of real processes).  What is missing is
what changes no digest: transport, receipts, deadlines, the evaluation on held-out beats.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from common import topics
from common.digest import EMPTY_DIGEST, Tensors, tensors_digest
from common.errors import QuorumError
from common.fixedpoint import first_exponents
from common.fold import Scaled
from common.messages import RoundOutcome, RoundSpec
from common.round_sums import Counts, Shapes
from common.tasks.registry import get_task
from common.tasks.task import Examples, Parameters
from common.wire import shapes_of
from edge import intake
from edge.aggregate import Aggregate, aggregate
from edge.screening import Way, way_between
from edge.standing import Tally
from regional.commit import Repeated, repeat_step
from regional.config import (
    Hospital,
    LearningConfig,
    RegionConfig,
    RoundsConfig,
    ScreeningConfig,
)
from regional.groups import contributions
from regional.late import late_sums
from regional.learning import form_after, round_spec
from regional.progress import GroupProgress, Progress, after
from regional.records import (
    CycleStarted,
    Group,
    GroupsPlanned,
    RingSummed,
    RoundEnded,
    RoundOpened,
)
from regional.seal import mean_model
from simulators.attackers import Attack, replaced
from simulators.jobs import Identity, Job, LocalUpdate, Model
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
    slow : tuple of str
        Hospitals that are a slow group: in rounds of their own, but for the last.
    slow_commits : int
        How many rounds of the others are committed while one of theirs goes on.
    screening : ScreeningConfig
        As the coordinator's.
    attackers : mapping of str to Attack
        Devices that send something else than what they learnt.
    mute_after, mute_rounds : int
        As the edge nodes' `mute_after`, and for how many rounds; 0 mutes nobody.
    """

    roster: Roster
    learning: LearningConfig
    num_rounds: int
    task: str = "beats"
    sample_fraction: float = 1.0
    slow: tuple[str, ...] = ()
    slow_commits: int = 1
    screening: ScreeningConfig = field(default_factory=ScreeningConfig)
    attackers: Mapping[str, Attack] = field(default_factory=dict)
    mute_after: int = 0
    mute_rounds: int = 40


@dataclass(frozen=True)
class Committed:
    """A round's end: the next model and what it took.

    Attributes
    ----------
    bytes_up : int
        Of all update messages, as they would go over MQTT.
    quarantined : tuple of str
        Devices whose update a hospital's screen set aside.
    refused : tuple of str
        Attackers whose update the edge node's checks refused.
    """

    round_id: int
    model: Parameters
    model_digest: str
    num_updates: int
    num_saturated: int
    bytes_up: int
    learning_rate: float
    quarantined: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


@dataclass
class _Region:
    """What the coordinator remembers, its mailbox holds and its wristbands keep."""

    config: RegionConfig
    progress: Progress
    model: Parameters
    state: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    residuals: dict[Identity, Model | None] = field(default_factory=dict)
    slow_sums: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    past: dict[str, Parameters] = field(default_factory=dict)
    quarantined: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=lambda: Tally(0))
    muted_until: dict[str, int] = field(default_factory=dict)


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
    for number in range(1, study.num_rounds + 1):
        is_last = number == study.num_rounds
        region.quarantined, region.refused = [], []
        region.past[region.progress.model.digest] = region.model
        _open_slow(study, region, wearers, is_last=is_last)
        spec = _open(region)
        busy = {
            name for group, own in region.progress.groups.items() if own.is_open for name in group
        }
        messages = _learnt(study, spec, region, wearers, [n for n in study.roster if n not in busy])
        late = _late(study, region, is_last=is_last)
        repeated = _repeated(spec, region, _summed(study, spec, region, messages), late)
        ended = _ended(spec, repeated, region)
        region.progress = reduce(after, _counted(region, ended), after(region.progress, ended))
        region.model, region.state = dict(repeated.model), dict(repeated.state)
        yield Committed(
            round_id=spec.round_id,
            model=region.model,
            model_digest=repeated.model_digest,
            num_updates=repeated.num_updates,
            num_saturated=repeated.num_saturated,
            bytes_up=sum(len(data) for sent in messages.values() for data in sent),
            learning_rate=spec.local.learning_rate,
            quarantined=tuple(region.quarantined),
            refused=tuple(region.refused),
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
        screening=study.screening,
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
    return _Region(config, after(Progress(), started), model, tally=Tally(study.mute_after))


def _open(region: _Region, group: Group = ()) -> RoundSpec:
    spec = round_spec(region.config, region.progress, "train", (), region.progress.last_round)
    region.progress = after(region.progress, RoundOpened(spec=spec, group=group))
    return spec


def _open_slow(
    study: Study, region: _Region, wearers: Mapping[str, Examples], *, is_last: bool
) -> None:
    """Let the slow hospitals begin a round of their own when they have none."""
    group = tuple(sorted(study.slow))
    if not group or is_last or _slow_round(region) is not None:
        return
    if group not in region.progress.groups:
        planned = GroupsPlanned(groups=(group,), reason="the study says so")
        region.progress = after(region.progress, planned)
    spec = _open(region, group)
    region.slow_sums = _summed(study, spec, region, _learnt(study, spec, region, wearers, group))


def _slow_round(region: _Region) -> tuple[Group, GroupProgress] | None:
    """The open round of the slow hospitals, if they are in one."""
    return next(((g, own) for g, own in region.progress.groups.items() if own.is_open), None)


def _late(study: Study, region: _Region, *, is_last: bool) -> Scaled | None:
    """The slow hospitals' sums, aged, when their round is done by now."""
    slow = _slow_round(region)
    if slow is None or slow[1].spec is None:
        return None
    group, own = slow
    age = region.progress.num_trained - own.base_trained
    if age < study.slow_commits and not is_last:
        return None
    counts = Counts.of(region.slow_sums)
    summed = RingSummed(
        group=group,
        round_id=own.spec.round_id if own.spec else 0,
        sums_digest=tensors_digest(region.slow_sums),
        num_updates=counts.num_updates,
        num_evaluated=0,
        num_saturated=counts.num_saturated,
    )
    region.progress = after(region.progress, summed)
    waiting = [(each, region.slow_sums) for each in contributions(region.progress)]
    return late_sums(shapes_of(region.model), waiting)


def _counted(region: _Region, ended: RoundEnded) -> list[RoundEnded]:
    """The ends of the slow hospitals' rounds that `ended` has counted."""
    return [
        ended.model_copy(
            update={
                "group": group,
                "outcome": ended.outcome.model_copy(
                    update={"round_id": own.summed.round_id, "group": group}
                ),
            }
        )
        for group, own in region.progress.groups.items()
        if own.summed is not None
    ]


def _learnt(
    study: Study,
    spec: RoundSpec,
    region: _Region,
    wearers: Mapping[str, Examples],
    hospitals: Sequence[str],
) -> dict[str, list[bytes]]:
    """The update messages of a round, by hospital; what they leave unsaid stays in `region`."""
    rng = np.random.default_rng([study.learning.seed, spec.round_id])
    messages: dict[str, list[bytes]] = {}
    muted = {name for name, until in region.muted_until.items() if spec.round_id <= until}
    roster = {
        name: [pair for pair in study.roster[name] if pair[0] not in muted]
        for name in study.roster
        if name in hospitals
    }
    for hospital, wristbands in sampled(roster, study.sample_fraction, rng).items():
        learnt: dict[Identity, LocalUpdate] = {}
        for device, wearer in wristbands:
            who = Identity(REGION, hospital, device)
            models, unsaid = {spec.base_digest: region.model}, region.residuals.get(who)
            job = Job(who, spec, models, train=True, residual=unsaid)
            training = wearers[wearer]
            update = learn(job, training, training.take(slice(0, 0))).update
            if update is not None:
                learnt[who] = update
                region.residuals[who] = update.residual
        messages[hospital] = _sent(study, spec, region, learnt)
    return messages


def _sent(
    study: Study, spec: RoundSpec, region: _Region, learnt: Mapping[Identity, LocalUpdate]
) -> list[bytes]:
    """What a hospital's wristbands send, and its edge node takes in."""
    shapes, taken = shapes_of(region.model), []
    for who, update in replaced(study.attackers, learnt, spec, shapes).items():
        message = update_message(who, spec, update)
        if who.device in study.attackers and not _is_taken_in(message, who, spec, shapes):
            region.refused.append(who.device)
        else:
            taken.append(message)
    return taken


def _is_taken_in(message: bytes, who: Identity, spec: RoundSpec, shapes: Shapes) -> bool:
    """Whether the edge node's own checks accept a message of that sender."""
    topic = topics.DeviceTopic(who.region, who.hospital, who.device, "update")
    station = intake.Station(who.region, who.hospital, frozenset({who.device}))
    received = intake.read(message, topic, "update", station)
    if isinstance(received, intake.Rejected):
        return False
    current = intake.OpenRound(spec, frozenset({who.device}), shapes)
    return intake.check(received, current) is None


def _summed(
    study: Study, spec: RoundSpec, region: _Region, messages: Mapping[str, list[bytes]]
) -> dict[str, np.ndarray[Any, Any]]:
    shapes = shapes_of(region.model)
    aggregates: list[Aggregate] = [
        aggregate(hospital, spec, shapes, updates, (), way=_way(spec, region))
        for hospital, updates in messages.items()
    ]
    for each in aggregates:
        set_aside = [device for device, _ in each.quarantined]
        region.quarantined += set_aside
        for device in region.tally.note(set_aside, each.members):
            region.muted_until[device] = spec.round_id + study.mute_rounds
    first, *others = (a.tensors for a in aggregates)
    return {name: sum((o[name] for o in others), start=value) for name, value in first.items()}


def _way(spec: RoundSpec, region: _Region) -> Way | None:
    if spec.screen is None or spec.screen.reference is None:
        return None
    return way_between(region.past[spec.screen.reference], region.model, spec.fixed_point)


def _repeated(spec: RoundSpec, region: _Region, sums: Tensors, late: Scaled | None) -> Repeated:
    bits = region.config.learning.bits
    return repeat_step(spec, sums, region.model, region.state, bits, late)


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

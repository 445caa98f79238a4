"""Carries out what the state machine asks for; every effect may be carried out again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from common.digest import tensors_digest
from common.errors import ConfigError, ContractError, RingError
from common.mailbox import message_path
from common.messages import RoundSpec
from common.wire import encode_json
from regional.commit import repeat_step
from regional.config import RegionConfig
from regional.coordinator import candidate_models
from regional.late import Contribution
from regional.ledger import Ledger
from regional.messages import (
    Append,
    CandidateMade,
    DayStored,
    Effect,
    Event,
    LateMade,
    LateRefused,
    MakeCandidate,
    MakeLate,
    PutModels,
    PutOutcome,
    RendezvousStarted,
    RepeatStep,
    SealDay,
    StartRendezvous,
    StepRefused,
    StepRepeated,
    StopRendezvous,
)
from regional.progress import Progress, Stored
from regional.records import Group
from regional.rendezvous import Rendezvous
from regional.seal import mean_model, sealed_message, sealed_path
from regional.store import Arrays, Store


class Hands:
    """The coordinator's ledger, mailbox and rendezvous."""

    def __init__(
        self,
        config: RegionConfig,
        ledger: Ledger,
        store: Store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._store = store
        self._rendezvous: dict[Group, Rendezvous] = {}
        self._clock = clock

    def trust(self, hospitals: Mapping[str, str]) -> None:
        """Read what hospitals of these public keys have signed."""
        self._store.trust(hospitals)

    def let_go(self) -> None:
        """Close every rendezvous."""
        for rendezvous in self._rendezvous.values():
            rendezvous.stop()

    def carry_out(self, effect: Effect) -> Event | None:
        """Do it and return what it gave, if that matters to the state machine.

        Raises
        ------
        OSError, ContractError
            When ledger or mailbox fail; the caller restores from the ledger and tries again.
        """
        match effect:
            case Append(records):
                self._ledger.append(records, self._clock())
            case StartRendezvous():
                return self._start_rendezvous(effect)
            case StopRendezvous(group):
                if group in self._rendezvous:
                    self._rendezvous.pop(group).stop()
            case MakeCandidate(models, made_by_round):
                return CandidateMade(self._candidate(models, made_by_round))
            case RepeatStep():
                return self._repeat(effect)
            case MakeLate():
                return self._make_late(effect)
            case PutModels():
                self._put_models(effect)
            case PutOutcome(outcome):
                path = message_path(self._config.region, "ring", outcome.round_id, "outcome.json")
                self._store.mailbox.put(path, encode_json(outcome))
            case SealDay(progress):
                return self._seal(progress)
        return None

    def _start_rendezvous(self, effect: StartRendezvous) -> Event:
        host = self._config.rendezvous_host
        rendezvous = self._rendezvous.setdefault(effect.group, Rendezvous(host))
        try:
            port = rendezvous.start(effect.members)
        except RingError as fault:
            return StepRefused(fault.message, effect.group)
        return RendezvousStarted(effect.generation, effect.members, port, effect.group)

    def _candidate(self, models: tuple[Stored, ...], made_by_round: int) -> Stored:
        if len(models) == 1:
            return models[0]
        return self._store.put_model(self._mean(models), self._config.task, made_by_round)

    def _repeat(self, effect: RepeatStep) -> Event | None:
        try:
            sums = self._store.sums(effect.spec, effect.result.sums_digest)
            base, state = self._store.base_of(effect.spec)
            late = self._store.late(effect.late) if effect.late else None
            bits = self._config.learning.bits
            repeated = repeat_step(effect.spec, sums, base, state, bits, late)
            return StepRepeated(repeated, effect.group)
        except FileNotFoundError:
            return None
        except (ContractError, ConfigError) as fault:
            return StepRefused(fault.message, effect.group)

    def _make_late(self, effect: MakeLate) -> Event:
        rounds = tuple(each.spec.round_id for each in effect.contributions)
        fault = self._why_not(effect.spec, effect.contributions)
        if not fault:
            late = self._store.made_late(effect.spec, effect.contributions)
            return LateMade(self._store.put_late(late, effect.spec, rounds))
        for each in effect.contributions:  # so that the others' rounds still count
            alone = self._why_not(effect.spec, (each,))
            if alone:
                return LateRefused((each.spec.round_id,), alone)
        return LateRefused(rounds, fault)

    def _why_not(self, spec: RoundSpec, contributions: tuple[Contribution, ...]) -> str:
        """Say why these sums cannot be counted; empty when they can."""
        try:
            self._store.made_late(spec, contributions)
        except (ContractError, ConfigError, FileNotFoundError) as fault:
            return str(fault)[:400]
        return ""

    def _put_models(self, effect: PutModels) -> None:
        spec, repeated = effect.spec, effect.repeated
        if repeated.model_digest != spec.base_digest:
            self._store.put_model(repeated.model, spec.task, spec.round_id)
        if repeated.state_digest != spec.state_digest:
            self._store.put_state(repeated.state, spec.round_id)

    def _seal(self, progress: Progress) -> Event:
        models = candidate_models(progress, self._config.seal.mean_of)
        model = self._mean(models)
        digest = tensors_digest(model)
        message = sealed_message(self._config, progress, models, model, digest)
        self._store.mailbox.put(sealed_path(self._config.region, progress.day, digest), message)
        return DayStored(digest)

    def _mean(self, models: tuple[Stored, ...]) -> Arrays:
        return dict(mean_model([self._store.model(stored) for stored in models]))

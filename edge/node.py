"""The edge node without threads: it follows the region's state and tells its own.

All methods are called from one thread, and `step` after each of them.  Everything `step` does may
be repeated: it compares what is with what the region's state asks for.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from random import Random

import structlog

from common import topics, wire
from common.errors import ContractError, PulseRingError
from common.mailbox import write_durably
from common.messages import HospitalStatus, RegionState, RoundOutcome, RoundSpec
from common.wire import shapes_of
from edge import fates
from edge.aggregate import aggregate
from edge.config import EdgeConfig
from edge.desk import Answer, Desk, Incoming
from edge.ledger import Ledger
from edge.metrics import Meters
from edge.models import Models
from edge.offers import Offers, Publisher
from edge.rank_process import Died, Said
from edge.ring import Seat
from edge.rounds import Frozen, Round, sample
from edge.standing import Standing
from edge.statement import Statement

RETRY_S = 1.0

log = structlog.get_logger()


class Node:
    """One hospital's part in the region's rounds.

    Parameters
    ----------
    region_broker, hospital_broker : Publisher
        Where status and receipts go.
    rng : random.Random
        Draws the samples of wristbands; ``secrets.SystemRandom()`` in service.
    """

    def __init__(
        self,
        config: EdgeConfig,
        roster: frozenset[str],
        ledger: Ledger,
        models: Models,
        seat: Seat,
        desk: Desk,
        standing: Standing,
        meters: Meters,
        region_broker: Publisher,
        hospital_broker: Publisher,
        rng: Random,
    ) -> None:
        self._config = config
        self._roster = roster
        self._ledger = ledger
        self._models = models
        self._seat = seat
        self._desk = desk
        self._standing = standing
        self._heeded = False
        self._meters = meters
        self._hospital_broker = hospital_broker
        self._rng = rng
        self._offers = Offers(config.region, config.hospital, hospital_broker, ledger, models)
        self._region: RegionState | None = None
        self._round: Round | None = None
        self._offers_renewed = True
        self._error = ""
        self._failed_at = -RETRY_S
        self._finished = False
        self.draining = False  # begins no further round
        self.notice = ""  # what else ails this hospital, such as its disk; set from outside
        self._statement = Statement(region_broker, config.heartbeat_s)
        self._restore()

    def on_region(self, data: bytes) -> None:
        """Take the region's state as it is now."""
        try:
            state = wire.decode_json(data, RegionState)
            if state.region != self._config.region:
                raise ContractError(f"the state of region {state.region}")
        except ContractError as fault:
            self._meters.region_faults.inc()
            log.warning("region_state_refused", error=fault.message)
            return
        if self._region is None or state.revision != self._region.revision:
            self._failed_at = -RETRY_S
        self._region = state.seen_by(self._config.hospital)

    def on_rank(self, news: Said | Died, now: float) -> None:
        """Take note of what the rank said."""
        self._seat.hear(news, now)

    def on_messages(self, batch: Sequence[Incoming], now: float) -> None:
        """Judge, commit, acknowledge, and only then send receipts."""
        began = time.perf_counter()
        answers = self._desk.take(batch, self._round, now)
        self._meters.commit_seconds.observe(time.perf_counter() - began)
        for incoming in batch:
            incoming.acknowledge()
        self._meters.passed_over.inc(len(batch) - len(answers))
        for answer in answers:
            self._send_receipt(answer)

    def on_hospital_broker(self) -> None:
        """Say models and invites again, as the broker may have forgotten them."""
        self._offers_renewed = False

    def on_region_broker(self) -> None:
        """Say the status again."""
        self._statement.forget()

    def step(self, now: float) -> None:
        """Bring this hospital to where the region's state wants it, as far as possible now."""
        if not 0 <= now - self._failed_at < RETRY_S:  # so that a clock set back delays nothing
            # Each for itself: what the next round lacks must not keep this one's models from anyone.
            faults = [*_faults_of(self._advance, now), *_faults_of(self._offer, now)]
            self._failed_at = now if faults else -RETRY_S
            self._trouble("; ".join(faults))
        self._seat.step(self._region, self._round, now)
        status = self.status()
        self._meters.tell(status)
        self._statement.tell(status, now)

    def status(self) -> HospitalStatus:
        """What this hospital tells, with revision 0."""
        rank = self._seat.rank
        status = HospitalStatus(
            region=self._config.region,
            hospital=self._config.hospital,
            rank=rank.state,
            rank_pid=rank.pid,
            generation=rank.generation if rank.state == "joined" else 0,
            min_generation=self._region.min_generation if self._region else 1,
            num_devices=len(self._roster),
            result=self._seat.result,
            timings=self._seat.timings,
            failure=self._seat.failure,
            identity=self._config.identity,
            error=(self.notice or self._error or self._seat.error)[:500],
        )
        return self._round.told(status) if self._round else status

    @property
    def drained(self) -> bool:
        """Whether it was asked to begin no further round, and its last one has ended."""
        return self.draining and (self._round is None or self._round.ended)

    def say_goodbye(self, now: float) -> None:
        """Tell that this node goes offline."""
        gone = self.status().model_copy(update={"online": False, "rank": "lost", "generation": 0})
        self._statement.tell(gone, now)

    def _advance(self, now: float) -> None:
        self._heed_operators(now)
        if self._region:
            self._follow(self._region, now)
        if self._round and self._round.must_freeze(now):
            self._freeze(self._round, now)

    def _offer(self, _now: float) -> None:
        if not self._offers_renewed:
            self._offers.renew(self._round)
            self._offers_renewed = True
        self._offers.pump()

    def _follow(self, region: RegionState, now: float) -> None:
        if region.outcome:
            self._settle(region.outcome, now)
        if region.hospitals and self._config.hospital not in region.hospitals:
            raise ContractError(
                f"{self._config.hospital} does not belong to region {region.region}: its operator "
                "lets it in with `python -m regional hospitals add`"
            )
        spec = region.spec
        if region.phase in ("open", "ring") and spec:
            known = self._round.spec if self._round else None
            if known is None or spec.round_id > known.round_id:
                if not self.draining:
                    self._adopt(spec, now)
            elif spec != known:
                raise ContractError(
                    f"round {spec.round_id} is announced with another content than round "
                    f"{known.round_id} had, which is in this ledger: a region that begins anew "
                    "needs edge nodes with an empty state_dir"
                )
        elif region.phase == "finished":
            self._finish(now)

    def _settle(self, outcome: RoundOutcome, now: float) -> None:
        if not self._ledger.has_outcome(outcome.round_id):
            # Rounds share a base where there are slow groups: who was counted before comes first.
            region, hospital = self._config.region, self._config.hospital
            fates.learn_missed(self._ledger, self._models, region, hospital, outcome.round_id, now)
            fates.settle(self._ledger, outcome, self._config.hospital, now)
            self._withdraw(now)  # what that round's ring did not count after all
        if self._round and not self._round.ended and outcome.round_id >= self._round.spec.round_id:
            self._round.ended = True
            self._refresh(self._round)

    def _adopt(self, spec: RoundSpec, now: float) -> None:
        self._catch_up(spec.round_id, (spec.base_digest, *spec.late_bases), now)
        current = self._load(spec)
        if self._ledger.round(spec.round_id) is None:
            able = self._roster - self._standing.barred(now)
            invited = sample(able, spec.sample_fraction, self._rng)
            with self._ledger.transaction():
                self._ledger.open_round(spec, invited, now)
            current.invited = invited
        self._withdraw(now)  # what no ring can be adding up any more, now that a round follows
        self._refresh(current)
        self._models.keep_only(spec)
        self._round, self._finished = current, False
        self._offers_renewed = False
        log.info("round_joined", round_id=spec.round_id, invited=len(current.invited))

    def _load(self, spec: RoundSpec) -> Round:
        shapes = shapes_of(self._models.fetch(spec))
        if set(shapes) != set(spec.fixed_point.exponents):
            raise ContractError(f"round {spec.round_id}: exponents do not fit the base model")
        opened = self._ledger.round(spec.round_id)
        if opened and opened[0] != spec:
            raise ContractError(f"round {spec.round_id} is in this ledger with another content")
        forms = {base: form for base in spec.late_bases if (form := self._ledger.form(base))}
        invited = opened[1] if opened else frozenset()
        current = Round(spec, invited, shapes, forms=forms, past_bases=self._ledger)
        current.frozen = self._ledger.frozen(spec.round_id)
        current.ended = self._ledger.has_outcome(spec.round_id)
        self._refresh(current)
        return current

    def _refresh(self, current: Round) -> None:
        current.updated, current.late, current.evaluated = self._ledger.delivered(current.spec)
        current.num_rejected = self._ledger.num_refused(current.spec.round_id)

    def _restore(self) -> None:
        """Go on with the last round in the ledger, before anything is heard."""
        opened = self._ledger.round(self._ledger.last_round_id())
        if opened is None:
            return
        try:
            self._round = self._load(opened[0])
        except (PulseRingError, OSError) as fault:
            self._trouble(str(fault))

    def _catch_up(self, round_id: int, base_digests: Iterable[str], now: float) -> None:
        region, hospital = self._config.region, self._config.hospital
        if self._standing.revoked:  # what no ring counted is withdrawn before the rest is stale
            fates.learn_missed(self._ledger, self._models, region, hospital, round_id, now)
            self._withdraw(now)
        fates.catch_up(self._ledger, self._models, region, hospital, round_id, base_digests, now)

    def _heed_operators(self, now: float) -> None:
        if self._ledger.changed_elsewhere():
            self._heeded = False  # until all of it was done: a step that fails is repeated
        if not self._heeded:
            self._standing.read()
            self._withdraw(now)
            self._offers.retract(self._standing.revoked)
            self._heeded = True
        if self._round:
            # Whoever is listened to again meanwhile was told to send nothing more in this round.
            self._round.excused |= self._standing.barred(now)

    def _withdraw(self, now: float) -> None:
        """Give the revoked wristbands' updates their fate, but for those a ring may be adding up."""
        if not self._standing.revoked:
            return
        with self._ledger.transaction():
            num = self._ledger.withdraw(self._standing.revoked, now)
        if num:
            log.info("updates_withdrawn", num=num)
        if self._round:
            self._refresh(self._round)

    def _finish(self, now: float) -> None:
        if self._finished:
            return
        last = self._round.spec.round_id if self._round else self._ledger.last_round_id()
        self._catch_up(last + 1, (), now)
        if self._round:
            self._round.ended = True
            self._refresh(self._round)
        self._offers_renewed = False
        self._finished = True

    def _freeze(self, current: Round, now: float) -> None:
        spec = current.spec
        sums = aggregate(
            self._config.hospital,
            spec,
            current.shapes,
            self._ledger.updates([spec.base_digest, *current.forms]),
            self._ledger.evaluations(spec.round_id),
            current.forms,
            self._models.way(spec),
        )
        name = f"aggregate-{spec.round_id:06d}.safetensors"
        write_durably(self._config.state_dir / "rounds" / name, sums.encoded())
        header = sums.header
        frozen = Frozen(
            digest=sums.digest,
            weight=header.weight,
            num_updates=header.num_updates,
            num_evaluations=header.num_evaluations,
            complete=current.complete,
            path=name,
        )
        with self._standing.undone_on_failure(), self._ledger.transaction():
            self._ledger.freeze(
                spec.round_id, frozen, sums.members, now, sums.late_members, sums.quarantined
            )
            left_aside = (device for device, _ in sums.quarantined)
            self._standing.screened(left_aside, sums.members, now)
        current.frozen = frozen
        for told in sums.quarantined.values():
            self._meters.quarantined.labels(told.suspicion.value).inc()
        log.info(
            "aggregate_ready",
            round_id=spec.round_id,
            digest=frozen.digest,
            weight=frozen.weight,
            complete=frozen.complete,
            num_quarantined=len(sums.quarantined),
        )

    def _send_receipt(self, answer: Answer) -> None:
        result = answer.reason.value if answer.reason else "stored" if answer.fresh else "repeated"
        self._meters.messages.labels(answer.subject, result).inc()
        if answer.reason:
            log.debug("message_refused", subject=answer.subject, reason=answer.reason.value)
        if answer.receipt:
            topic = topics.device(
                self._config.region, self._config.hospital, answer.receipt.device, "receipt"
            )
            self._hospital_broker.publish(topic, wire.encode_json(answer.receipt))
            self._meters.receipt_seconds.observe(time.monotonic() - answer.arrived_at)

    def _trouble(self, error: str) -> None:
        if error and error != self._error:
            log.error("cannot_follow", error=error)
        self._error = error


def _faults_of(part: Callable[[float], None], now: float) -> list[str]:
    try:
        part(now)
    except (PulseRingError, OSError, sqlite3.Error) as fault:
        return [str(fault)]
    return []

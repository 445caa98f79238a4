"""One wristband's states, without I/O: events in, actions out (docs/protocol.md, device side).

It acts on what it was last told: the invite says which round is open and which models it needs;
what it has made for that round is kept, and sent again, until the receipt.  An update that missed
its round is sent in a later one that still takes its base.  What a sparse round's
update left unsaid is kept too, and becomes part of the next once this one was stored and the
region has moved on; a restarted wristband begins without.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, replace

import numpy as np

from common import topics, wire
from common.errors import ContractError
from common.messages import (
    DeviceStatus,
    Invite,
    Reason,
    Receipt,
    RoundSpec,
)
from simulators.actions import Action, Note, Publish, Subscribe, Unsubscribe, Work
from simulators.jobs import Identity, Job, Learned, LocalUpdate, Model
from simulators.letters import evaluation_message, update_message
from simulators.outbox import SUBJECT, Outbox, Slot
from simulators.shelf import SharedModel, read_model

# After these an update is not stored, and a later round may still take it.
TOO_LATE = frozenset({Reason.ROUND_CLOSED, Reason.WRONG_ROUND, Reason.NOT_INVITED})


@dataclass(frozen=True)
class _Made:
    """The update made for a base, whether a receipt has settled it, and as stored."""

    update: LocalUpdate
    spec: RoundSpec
    settled: bool = False
    stored: bool = False

    def fits(self, spec: RoundSpec) -> bool:
        same_base = self.spec.base_digest == spec.base_digest
        return same_base and self.spec.fixed_point == spec.fixed_point

    def was_taken(self, spec: RoundSpec) -> bool:
        """Whether it was stored and its base then left: what it says need not be said again."""
        return self.stored and self.spec.base_digest != spec.base_digest

    def is_late_for(self, spec: RoundSpec) -> bool:
        """Whether a round of another base still takes it."""
        return not self.settled and self.spec.base_digest in spec.late_bases


class Wristband:
    """State machine of one device.

    Parameters
    ----------
    identity : Identity
        Also its place in the hospital's roster.
    task : str
        The one task that its wearer's examples serve; invites to another are refused.
    rng : np.random.Generator
        For the jitter of re-sends, nothing else.
    shelf : mutable mapping of digest to SharedModel, optional
        Shared by the wristbands of one process, weakly, so that a model is held once.
    """

    def __init__(
        self,
        identity: Identity,
        task: str,
        rng: np.random.Generator,
        shelf: MutableMapping[str, SharedModel] | None = None,
    ) -> None:
        self.identity = identity
        self._task = task
        self._shelf = {} if shelf is None else shelf
        self._outbox = Outbox(rng)
        self._connected = False
        self._spec: RoundSpec | None = None
        self._models: dict[str, SharedModel] = {}
        self._asked: set[str] = set()
        self._made: _Made | None = None
        self._late: _Made | None = None
        self._residual: Model | None = None
        self._evaluated_round = 0
        self._given_up_round = 0
        self._working = False

    @property
    def round_id(self) -> int:
        """The last round it was invited to, 0 before the first."""
        return self._spec.round_id if self._spec else 0

    @property
    def next_due(self) -> float:
        """When `tick` has something to do; infinity when never."""
        return self._outbox.next_due if self._connected else float("inf")

    @property
    def num_unreceipted(self) -> int:
        """How many messages wait for their receipt."""
        return len(self._outbox)

    def status(self, online: bool) -> Publish:
        """Its retained status; with ``online=False`` the last will and the farewell."""
        message = DeviceStatus(device=self.identity.device, online=online)
        return Publish(self._topic("status"), wire.encode_json(message), retain=True)

    def connected(self, now: float) -> list[Action]:
        """Say everything: the session is new, the broker may have forgotten all."""
        self._connected = True
        self._asked.clear()
        self._outbox.hurry(now)
        return [
            Subscribe(self._topic("invite")),
            Subscribe(self._topic("receipt")),
            self.status(online=True),
            *self._advance(now),
        ]

    def disconnected(self) -> None:
        """Keep all for the next connection."""
        self._connected = False
        self._asked.clear()

    def received(self, topic: str, payload: bytes, now: float) -> list[Action]:
        """Take a message in; bytes that break a contract become a `Note`."""
        if not payload:  # a retained message was cleared
            return []
        try:
            if topic == self._topic("invite"):
                return self._invited(wire.decode_json(payload, Invite), now)
            if topic == self._topic("receipt"):
                return self._receipted(wire.decode_json(payload, Receipt))
            if topic in self._asked:
                return self._got_model(topic, payload, now)
        except ContractError as fault:
            return [Note("message_refused", fault.message)]
        return []

    def worked(self, learned: Learned, now: float) -> list[Action]:
        """Put what a job made into the outbox, if its round or base still matters."""
        self._working = False
        spec = self._spec
        if spec is None:
            return []
        if learned.update:
            made = _Made(learned.update, learned.spec)
            if made.fits(spec):
                self._made = made
                self._post("update", made, now)
            elif made.is_late_for(spec):
                self._put_off(made)
                self._post("late", made, now)
        if learned.evaluation and learned.spec.round_id == spec.round_id:
            self._evaluated_round = spec.round_id
            message = evaluation_message(self.identity, learned.spec, learned.evaluation)
            self._outbox.put("evaluation", message, now)
        return self._advance(now)

    def failed(self, job: Job, reason: str, now: float) -> list[Action]:
        """Give a round up whose job could not be done."""
        self._working = False
        self._given_up_round = job.spec.round_id
        return [Note("local_work_failed", reason), *self._advance(now)]

    def tick(self, now: float) -> list[Action]:
        """Send what is due."""
        if not self._connected:
            return []
        return [
            Publish(self._topic(subject), payload)
            for subject, payload in self._outbox.take_due(now)
        ]

    def hurry(self, now: float) -> list[Action]:
        """Send all that waits for a receipt soon again; `now` may be before any time before."""
        self._outbox.hurry(now)
        return self.tick(now)

    def _invited(self, invite: Invite, now: float) -> list[Action]:
        spec, current = invite.spec, self._spec
        if Identity(spec.region, invite.hospital, invite.device) != self.identity:
            return [Note("invite_refused", "it is for another wristband")]
        if spec.task != self._task:
            return [Note("invite_refused", f"task {spec.task}, not {self._task}")]
        if now >= spec.closes_at:
            return []
        if spec == current or (current and _is_older(spec, current)):
            return []
        if current and spec.round_id <= current.round_id and spec.opened_at > current.opened_at:
            self._forget_rounds()
        self._open(spec, now)
        return self._advance(now)

    def _forget_rounds(self) -> None:
        """Start afresh: the region's count of rounds began again, its ledgers know nothing."""
        self._spec = self._made = self._late = self._residual = None
        self._given_up_round = 0
        for slot in SUBJECT:
            self._outbox.discard(slot)

    def _open(self, spec: RoundSpec, now: float) -> None:
        before, self._spec = self._spec, spec
        same_round = before is not None and before.round_id == spec.round_id
        if self._made and self._made.was_taken(spec):
            self._residual = self._made.update.residual
        if before and before.cycle != spec.cycle:
            self._residual = None
        if self._made and not self._made.fits(spec):
            if self._made.is_late_for(spec):
                self._put_off(self._made)
            self._made = None
            self._outbox.discard("update")
        if self._late and not self._late.is_late_for(spec):
            self._late = None
            self._outbox.discard("late")
        if not same_round:
            self._evaluated_round = 0
            self._outbox.discard("evaluation")
            if self._made and not self._made.settled:
                self._post("update", self._made, now)
            if self._late:
                self._post("late", self._late, now)
        wanted = {spec.base_digest, *spec.evaluate}
        self._models = {d: model for d, model in self._models.items() if d in wanted}

    def _put_off(self, made: _Made) -> None:
        """Make it the late update; what settles the one before settles nothing of it."""
        self._late = made
        self._outbox.discard("late")

    def _receipted(self, receipt: Receipt) -> list[Action]:
        if receipt.device != self.identity.device:
            return [Note("receipt_refused", "it is for another wristband")]
        slot = self._outbox.settle(receipt.subject, receipt.content_digest)
        if slot is None:
            return []
        stored = receipt.status == "stored"
        too_late = not stored and receipt.reason in TOO_LATE
        if slot == "update" and self._made:
            self._made = replace(self._made, settled=not too_late, stored=stored)
        if slot == "late" and not too_late:
            self._late = None
        if receipt.status == "stored":
            return []
        return [Note("message_rejected", f"{receipt.subject}: {receipt.reason}")]

    def _got_model(self, topic: str, payload: bytes, now: float) -> list[Action]:
        digest = topic.rsplit("/", 1)[1]
        self._models[digest] = self._shelf.setdefault(digest, read_model(digest, payload))
        return self._advance(now)

    def _advance(self, now: float) -> list[Action]:
        """Ask for the models that lack, start work when none does, send what is due."""
        lacking, job = self._wants(now)
        actions: list[Action] = []
        if self._connected:
            who = self.identity
            wanted = {topics.model(who.region, who.hospital, digest) for digest in lacking}
            actions += [Unsubscribe(topic) for topic in sorted(self._asked - wanted)]
            actions += [Subscribe(topic) for topic in sorted(wanted - self._asked)]
            self._asked = wanted
        if job:
            self._working = True
            actions.append(Work(job))
        return actions + self.tick(now)

    def _wants(self, now: float) -> tuple[set[str], Job | None]:
        """Digests that lack for the work left in this round, and the work when none does."""
        spec = self._spec
        if spec is None or now >= spec.closes_at or self._given_up_round == spec.round_id:
            return set(), None
        train = spec.purpose == "train" and self._made is None
        evaluate = spec.evaluate if self._evaluated_round != spec.round_id else ()
        digests = set(evaluate) | ({spec.base_digest} if train else set())
        lacking = digests - set(self._models)
        if lacking or not digests or self._working:
            return lacking, None
        models = {digest: self._models[digest].tensors for digest in digests}
        asked = spec.model_copy(update={"evaluate": evaluate})
        return lacking, Job(self.identity, asked, models, train, self._residual if train else None)

    def _post(self, slot: Slot, made: _Made, now: float) -> None:
        """Send an update in the open round, if that takes updates."""
        spec = self._spec
        if spec and spec.purpose == "train":
            self._outbox.put(slot, update_message(self.identity, spec, made.update), now)

    def _topic(self, leaf: topics.DeviceLeaf) -> str:
        return topics.device(
            self.identity.region, self.identity.hospital, self.identity.device, leaf
        )


def _is_older(spec: RoundSpec, current: RoundSpec) -> bool:
    """Whether `spec` comes before `current`: ids begin again with a new region, clocks step back."""
    earlier = (spec.opened_at, spec.round_id) < (current.opened_at, current.round_id)
    return earlier and spec.round_id <= current.round_id

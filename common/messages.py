"""Messages that tiers exchange: frozen, versioned, schema-checked.

Those listed in `common.wire` as carrying tensors travel as one safetensors file whose header holds
them as JSON; the others travel as JSON.  The same bytes go over MQTT and into the mailbox.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import (
    FailFast,
    Field,
    FiniteFloat,
    NonNegativeInt,
    StringConstraints,
    model_validator,
)

from common.contract import Contract
from common.topics import Name

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
MailboxPath = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*(/[a-z0-9][a-z0-9_.-]*){1,4}$")
]
TensorName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_./-]{1,128}$")]
Shape = tuple[Annotated[int, Field(ge=0, le=1 << 24)], ...]
Positive = Annotated[FiniteFloat, Field(gt=0)]
Fraction = Annotated[FiniteFloat, Field(gt=0, le=1)]
Timestamp = Annotated[FiniteFloat, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=1 << 53)]
Number = Annotated[int, Field(ge=1, le=1 << 53)]
MAX_STALENESS = 16
MAX_WEIGHT = 1 << 36  # of a hospital; of 1024 of them, times 16 bits, still less than 62 bits
Weight = Annotated[int, Field(ge=0, le=MAX_WEIGHT)]


class Reason(StrEnum):
    """Why an update or evaluation was refused; counted, and sent in the receipt."""

    OVERSIZE = "oversize"
    MALFORMED = "malformed"
    SCHEMA = "schema"
    WRONG_IDENTITY = "wrong_identity"
    UNKNOWN_DEVICE = "unknown_device"
    NOT_INVITED = "not_invited"
    WRONG_ROUND = "wrong_round"
    ROUND_CLOSED = "round_closed"
    WRONG_BASE = "wrong_base"
    WRONG_SHAPE = "wrong_shape"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    NORM = "norm"
    IMPOSSIBLE_COUNTS = "impossible_counts"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    STALE = "stale"
    MUTED = "muted"
    REVOKED = "revoked"


class Fate(StrEnum):
    """What finally became of a stored update."""

    COUNTED = "counted"
    QUARANTINED = "quarantined"
    STALE = "stale"
    WITHDRAWN = "withdrawn"
    LEFT_OUT = "left_out"


class ServerRule(Contract):
    """The server step of a round; `learning_rate` to `tau` are FedAdam's."""

    algorithm: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    learning_rate: Positive = 0.01
    beta1: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[FiniteFloat, Field(ge=0, lt=1)] = 0.99
    tau: Positive = 1e-3


class LocalRule(Contract):
    """What a wristband does in a round: steps of one batch each; `mu` is FedProx's.

    With `simulated` each batch gets as many of the task's public simulated examples again, if the
    task has any.
    """

    learning_rate: Positive
    num_steps: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=4096)]
    mu: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    seed: NonNegativeInt = 0
    simulated: bool = True


class FixedPoint(Contract):
    """How updates of a round become integers: clip norm, width, exponents and part.

    With `parts` > 1 updates carry the coordinates of `part` alone, in the order that `order`
    gives (`common.parts`).
    """

    clip_norm: Positive
    bits: Literal[8, 16] = 16
    exponents: dict[TensorName, Annotated[int, Field(ge=-60, le=30)]]
    parts: Annotated[int, Field(ge=1, le=64)] = 1
    part: NonNegativeInt = 0
    order: Count = 0

    @model_validator(mode="after")
    def _part_exists(self) -> FixedPoint:
        if self.part >= self.parts:
            raise ValueError(f"part must lie below parts, {self.parts}")
        return self


class ScreenRule(Contract):
    """Which updates a hospital sets aside before it adds them up (`edge.screening`).

    One is set aside when it lies further from the coordinate-wise median of the hospital's updates
    than `max_distance` times the median of those distances, or when its cosine with the way that
    the model went from `reference` to the round's base is below `min_cosine`; without a
    `reference`, its cosine with the median.  Fewer than `min_updates` are not screened; at most
    `max_share` of them are set aside.
    """

    max_distance: Annotated[FiniteFloat, Field(gt=1, le=1000)]
    min_cosine: Annotated[FiniteFloat, Field(ge=-1, lt=1)]
    min_updates: Annotated[int, Field(ge=3, le=1_000_000)]
    max_share: Annotated[FiniteFloat, Field(gt=0, lt=0.5)]
    reference: Digest | None = None


HospitalRule = Literal["sum", "trimmed_mean", "geometric_median"]


class RobustRule(Contract):
    """How a hospital adds its updates up (`edge.robust`); `trim` is ``trimmed_mean``'s share."""

    rule: HospitalRule = "sum"
    trim: Annotated[FiniteFloat, Field(gt=0, lt=0.5)] = 0.2


class RoundSpec(Contract):
    """A round as opened by the coordinator.

    ``purpose="evaluate"`` asks for evaluations only and leaves the model as it is.  With
    `max_staleness` > 0 an update for one of `late_bases`, the cycle's last bases, newest first,
    still counts, the less the more models were committed since; all updates are then counted in
    256ths (`common.fold.late_factor`).
    """

    younger: ClassVar[Mapping[str, int]] = {
        "max_staleness": 2,
        "late_bases": 2,
        "robust": 2,
        "screen": 2,
    }
    kind: Literal["round"] = "round"
    region: Name
    day: Number
    cycle: Number
    round_id: Number
    purpose: Literal["train", "evaluate"] = "train"
    task: Name
    base_digest: Digest
    state_digest: Digest
    server: ServerRule
    local: LocalRule
    fixed_point: FixedPoint
    weighting: Literal["uniform", "examples"] = "uniform"
    max_weight: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    evaluate: tuple[Digest, ...] = ()
    evaluation_shapes: dict[TensorName, Shape] = Field(default_factory=dict)
    locations: dict[Digest, MailboxPath]
    sample_fraction: Fraction = 1.0
    min_devices: Number = 1
    quorum: Number = 1
    max_staleness: Annotated[int, Field(ge=0, le=MAX_STALENESS)] = 0
    late_bases: tuple[Digest, ...] = ()
    robust: RobustRule = RobustRule()
    screen: ScreenRule | None = None
    opened_at: Timestamp
    closes_at: Timestamp

    @model_validator(mode="after")
    def _complete(self) -> RoundSpec:
        if self.closes_at <= self.opened_at:
            raise ValueError("closes_at must come after opened_at")
        reference = self.screen.reference if self.screen else None
        for digest in (self.base_digest, *self.evaluate, *([reference] if reference else ())):
            if digest not in self.locations:
                raise ValueError(f"locations lacks {digest}")
        if len(self.late_bases) > self.max_staleness:
            raise ValueError(f"late_bases names more than max_staleness, {self.max_staleness}")
        if len({self.base_digest, *self.late_bases}) <= len(self.late_bases):
            raise ValueError("late_bases names a base twice, or the round's own")
        if self.robust.rule != "sum" and (self.max_staleness or self.weighting != "uniform"):
            raise ValueError(f"{self.robust.rule} counts all updates alike: uniform, none late")
        return self


class LatePlan(Contract):
    """Sums of slow groups to be counted with a ring's own: a `LateHeader` file in the mailbox."""

    digest: Digest
    path: MailboxPath
    rounds: tuple[Number, ...] = Field(min_length=1, max_length=1024)


class RingPlan(Contract):
    """One attempt to form a ring: `members` in rank order.

    `total_weight` is the sum of what the members stated: it bounds the sums, and so the bits that
    the ring's numbers take.  `late` is added after the ring, before the server step.
    """

    kind: Literal["ring_plan"] = "ring_plan"
    round_id: Number
    generation: Number
    members: tuple[Name, ...] = Field(min_length=1, max_length=1024)
    rendezvous_host: str
    rendezvous_port: Annotated[int, Field(ge=1, le=65535)]
    interface: str
    timeout_s: Positive
    total_weight: Annotated[int, Field(ge=0, le=1024 * MAX_WEIGHT)]
    late: LatePlan | None = None


class RoundOutcome(Contract):
    """How a round ended, with a name and a reason.

    `aggregates` holds the digest of every hospital's aggregate that counted.  `group` names the
    hospitals whose round it was; empty for a round of all that were in no slow group.
    """

    kind: Literal["outcome"] = "outcome"
    region: Name
    day: Number
    round_id: Number
    purpose: Literal["train", "evaluate"] = "train"
    end: Literal["committed", "skipped", "aborted"]
    reason: str = Field(max_length=500)
    base_digest: Digest
    model_digest: Digest
    state_digest: Digest
    sums_digest: Digest | None = None
    generation: Count = 0
    aggregates: dict[Name, Digest] = Field(default_factory=dict)
    group: tuple[Name, ...] = Field(default=(), max_length=1024)
    num_invited: Count = 0
    num_stored: Count = 0
    num_rejected: Count = 0
    complete: bool = True
    seconds: Annotated[FiniteFloat, Field(ge=0)] = 0.0


RegionPhase = Literal["open", "ring", "closed", "sealing", "waiting_for_release", "finished"]


class GroupState(Contract):
    """A slow group's round and ring, beside those of the other hospitals."""

    hospitals: tuple[Name, ...] = Field(min_length=1, max_length=1024)
    phase: Literal["open", "ring", "closed"]
    spec: RoundSpec | None = None
    plan: RingPlan | None = None
    min_generation: Number = 1
    outcome: RoundOutcome | None = None


class RegionState(Contract):
    """The whole state of a region, retained and sent again until it is heard.

    A receiver acts on what it says, never on how it came about; `revision` grows with every
    change, across restarts too.  `hospitals` belong to the region; empty where that is not said.
    Rings of a generation below `min_generation` are dead: a rank in one is respawned.  `outcome` is
    the last ended round.  For hospitals of a slow group, `seen_by` gives what holds for them.
    """

    kind: Literal["region_state"] = "region_state"
    region: Name
    revision: Number
    phase: RegionPhase
    hospitals: tuple[Name, ...] = Field(default=(), max_length=1024)
    spec: RoundSpec | None = None
    plan: RingPlan | None = None
    min_generation: Number = 1
    outcome: RoundOutcome | None = None
    groups: tuple[GroupState, ...] = Field(default=(), max_length=64)

    def seen_by(self, hospital: str) -> RegionState:
        """The state as a hospital acts on it: its group's round and ring, if it is in a group."""
        own = next((group for group in self.groups if hospital in group.hospitals), None)
        if own is None:
            return self
        phase: RegionPhase = own.phase
        if phase == "closed" and self.phase not in ("open", "ring"):
            phase = self.phase
        shown = {name: getattr(own, name) for name in ("spec", "plan", "min_generation", "outcome")}
        return self.model_copy(update={"phase": phase, **shown})


class RankResult(Contract):
    """What one rank computed in a ring; `weight` to `num_saturated` are the sums' counts."""

    round_id: Number
    generation: Number
    sums_digest: Digest
    model_digest: Digest
    state_digest: Digest
    weight: Count
    num_updates: Count
    num_evaluations: Count
    num_saturated: Count


Timings = dict[TensorName, Annotated[FiniteFloat, Field(ge=0)]]


class RankFailure(Contract):
    """Why a rank left a ring without a result."""

    round_id: Number
    generation: Number
    reason: str = Field(max_length=500)


class HospitalStatus(Contract):
    """The whole state of an edge node, retained and sent again until it is heard.

    `rank` is ``warm`` when its process waits for a plan, ``joined`` while it is a member of ring
    `generation`, ``lost`` when it died and is being started again.  `timings` are the seconds of
    each part of `result`, as this hospital's rank measured them.  What is said of the rank holds
    after the region's `min_generation`: a rank is ``warm`` for rings from there on.
    """

    kind: Literal["hospital_status"] = "hospital_status"
    region: Name
    hospital: Name
    online: bool = True
    revision: Count = 0
    rank: Literal["starting", "warm", "joined", "lost"] = "starting"
    rank_pid: Count = 0
    generation: Count = 0
    min_generation: Number = 1
    round_id: Count = 0
    phase: Literal["idle", "collecting", "ready"] = "idle"
    aggregate_digest: Digest | None = None
    weight: Weight = 0
    num_devices: Count = 0
    num_invited: Count = 0
    num_stored: Count = 0
    num_evaluated: Count = 0
    num_rejected: Count = 0
    complete: bool = False
    result: RankResult | None = None
    timings: Timings = Field(default_factory=dict)
    failure: RankFailure | None = None
    identity: Literal["certificate", "unauthenticated"] = "unauthenticated"
    error: str = Field(default="", max_length=500)


class Invite(Contract):
    """Asks one wristband to take part in a round; retained on its ``invite`` topic."""

    kind: Literal["invite"] = "invite"
    hospital: Name
    device: Name
    spec: RoundSpec


class Receipt(Contract):
    """Says what became of a message: `content_digest` is the SHA-256 of its bytes."""

    kind: Literal["receipt"] = "receipt"
    device: Name
    subject: Literal["update", "evaluation"]
    round_id: Count
    content_digest: Digest
    status: Literal["stored", "rejected"]
    reason: Reason | None = None


class DeviceStatus(Contract):
    """Presence of a wristband; ``online=false`` is its last will."""

    kind: Literal["device_status"] = "device_status"
    device: Name
    online: bool


class ModelHeader(Contract):
    """A model: tensors are its float32 parameters, named by `digest`."""

    kind: Literal["model"] = "model"
    region: Name
    task: Name
    digest: Digest
    made_by_round: Count


class ServerStateHeader(Contract):
    """Server state after a round: empty, or FedAdam's m, v and t."""

    kind: Literal["server_state"] = "server_state"
    region: Name
    digest: Digest
    made_by_round: Count


class UpdateHeader(Contract):
    """A wristband's update: int8 or int16, named and shaped as `common.parts.wire_shapes` says."""

    kind: Literal["update"] = "update"
    region: Name
    hospital: Name
    device: Name
    round_id: Number
    base_digest: Digest
    num_examples: Annotated[int, Field(ge=1, le=10_000_000)]
    num_saturated: Count


class EvaluationHeader(Contract):
    """A wristband's evaluation of the round's models on its held-out beats.

    Tensors are int64, named ``{model digest}/{name}`` for each model of ``spec.evaluate`` and each
    name of ``spec.evaluation_shapes``.
    """

    kind: Literal["evaluation"] = "evaluation"
    region: Name
    hospital: Name
    device: Name
    round_id: Number
    models: Annotated[tuple[Digest, ...], FailFast()]
    num_examples: Count


class AggregateHeader(Contract):
    """One hospital's sums: tensors ``update/{name}`` and ``evaluation/{digest}/{name}``, int64.

    `rule` says how updates were added up, `num_quarantined` how many were set aside before.
    """

    younger: ClassVar[Mapping[str, int]] = {"rule": 2, "num_quarantined": 2}
    kind: Literal["aggregate"] = "aggregate"
    region: Name
    hospital: Name
    round_id: Number
    base_digest: Digest
    weight: Count
    num_updates: Count
    num_evaluations: Count
    num_saturated: Count
    rule: HospitalRule = "sum"
    num_quarantined: Count = 0


class RingSumHeader(Contract):
    """A ring's sums, put into the mailbox by rank 0's edge node; tensors as in an aggregate."""

    kind: Literal["ring_sum"] = "ring_sum"
    region: Name
    round_id: Number
    generation: Number
    base_digest: Digest
    members: tuple[Name, ...]
    weight: Count
    num_updates: Count
    num_evaluations: Count
    num_saturated: Count


class LateHeader(Contract):
    """Sums of slow groups' `rounds`, aged, to be added to 256 times a ring's own.

    Tensors are int64, ``update/{name}``, shaped as the base model's, in steps of ``2**exponents``.
    """

    kind: Literal["late_sums"] = "late_sums"
    region: Name
    round_id: Number
    rounds: tuple[Number, ...]
    weight: Count
    exponents: dict[TensorName, Annotated[int, Field(ge=-60, le=30)]]


class PrivacyAccount(Contract):
    """What privacy a sealed model may claim; without a mechanism, none."""

    mechanism: Literal["none"] = "none"
    statement: str = "No differential privacy: updates were clipped and summed, without noise."


class SealedHeader(Contract):
    """A day's regional model with its provenance, for the cloud.

    Tensors: ``model/{name}`` float32; ``candidate/{name}`` and, when a model was in service,
    ``in_service/{name}``: int64 evaluation counts summed over the region's wristbands.
    """

    younger: ClassVar[Mapping[str, int]] = {"max_staleness": 2, "hospital_rule": 2, "screened": 2}
    kind: Literal["sealed"] = "sealed"
    region: Name
    day: Number
    cycle: Number
    task: Name
    model_digest: Digest
    in_service_digest: Digest | None = None
    in_service_release: str | None = None
    mean_of: tuple[Digest, ...]
    rounds: tuple[Number, ...]
    hospitals: dict[Name, Count]
    num_updates: Count
    num_evaluated_devices: Count
    server: ServerRule
    local: LocalRule
    fixed_point_bits: Literal[8, 16]
    fixed_point_parts: Annotated[int, Field(ge=1, le=64)] = 1
    clip_norm: Positive
    weighting: Literal["uniform", "examples"]
    max_staleness: Annotated[int, Field(ge=0, le=MAX_STALENESS)] = 0
    hospital_rule: HospitalRule = "sum"
    screened: bool = False
    privacy: PrivacyAccount = PrivacyAccount()
    data_source: str = Field(default="unstated", max_length=200)


class ReleaseHeader(Contract):
    """The cloud's decision on the sealed model named by `sealed_digest`, for the region.

    When released, tensors are the model's float32 parameters; when refused there are none.
    """

    kind: Literal["release"] = "release"
    region: Name
    day: Number
    decision: Literal["released", "refused"]
    release: str = Field(default="", max_length=100)
    rule: str = Field(max_length=500)
    task: Name
    sealed_digest: Digest
    model_digest: Digest


TensorMessage = (
    ModelHeader
    | ServerStateHeader
    | UpdateHeader
    | EvaluationHeader
    | AggregateHeader
    | RingSumHeader
    | LateHeader
    | SealedHeader
    | ReleaseHeader
)

"""What an edge node believes of a wristband's bytes: pure checks, in the order of the protocol.

`read` needs only the bytes, their topic and who belongs here; `check` holds what was read against
the open round.  Between the two the caller looks for the same bytes in its ledger, so that a
message sent again gets the receipt it had, even after its round has ended.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from common import topics, wire
from common.digest import bytes_digest, tensors_digest
from common.errors import ContractError
from common.messages import EvaluationHeader, FixedPoint, Reason, RoundSpec, UpdateHeader
from common.packed import Packed
from common.round_sums import Shapes, evaluation_shapes
from edge.contributions import Forms
from edge.mould import Mould, fits, has_nonfinite

Subject = Literal["update", "evaluation"]
HEADERS: Mapping[Subject, type[UpdateHeader] | type[EvaluationHeader]] = {
    "update": UpdateHeader,
    "evaluation": EvaluationHeader,
}
SUBJECTS: Mapping[str, Subject] = {subject: subject for subject in HEADERS}
MAX_EXAMPLES = 10_000_000
COUNTS_PER_EXAMPLE = 64
HEADER_ALLOWANCE = 64 << 10


@dataclass(frozen=True)
class Station:
    """Where bytes arrive and whose are taken."""

    region: str
    hospital: str
    roster: frozenset[str]


@dataclass(frozen=True)
class OpenRound:
    """What a message is held against: `shapes` are those of the base model.

    `forms` tells how updates for the spec's late bases are made, where this hospital had rounds of
    them; `past_bases` are all other bases that it ever had a round of.  `moulds` keeps what was
    worked out for a base, from one message to the next.
    """

    spec: RoundSpec
    invited: frozenset[str]
    shapes: Shapes
    frozen: bool = False
    forms: Forms = field(default_factory=dict)
    past_bases: Container[str] = frozenset()
    moulds: dict[str, Mould] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """Bytes that are a message of a wristband of this hospital."""

    subject: Subject
    header: UpdateHeader | EvaluationHeader
    tensors: Packed
    data: bytes
    content_digest: str

    @property
    def device(self) -> str:
        """The sender, from header and topic alike."""
        return self.header.device

    @property
    def key(self) -> str:
        """What a device may deliver once: an update for a base, an evaluation in a round."""
        header = self.header
        return header.base_digest if isinstance(header, UpdateHeader) else str(header.round_id)

    @property
    def delivered_digest(self) -> str:
        """Digest of what is delivered, apart from the round it was sent in."""
        return f"{tensors_digest(self.tensors)}:{self.header.num_examples}"


@dataclass(frozen=True)
class Rejected:
    """Bytes that are refused, and what their receipt can say."""

    reason: Reason
    round_id: int = 0


def max_message_bytes(spec: RoundSpec, shapes: Shapes) -> int:
    """Size limit of a message: three times the base model, the evaluations, and a header."""
    model = sum(math.prod(shape) for shape in shapes.values()) * 4
    counts = sum(math.prod(shape) for shape in spec.evaluation_shapes.values()) * 8
    return 3 * model + counts * len(spec.evaluate) + HEADER_ALLOWANCE


def read(
    data: bytes,
    topic: topics.DeviceTopic,
    subject: Subject,
    station: Station,
    content_digest: str | None = None,
) -> Received | Rejected:
    """Parse bytes whose size was checked: form, schema, identity, roster.

    Parameters
    ----------
    content_digest : str, optional
        SHA-256 of `data`, where it is known.
    """
    try:
        header, tensors = wire.decode_packed(data, HEADERS[subject], len(data), HEADER_ALLOWANCE)
    except ContractError as fault:
        return Rejected(Reason(str(fault.data.get("reason", Reason.MALFORMED))))
    claimed = (header.region, header.hospital, header.device)
    if claimed != (topic.region, topic.hospital, topic.device):
        return Rejected(Reason.WRONG_IDENTITY, header.round_id)
    if (header.region, header.hospital) != (station.region, station.hospital):
        return Rejected(Reason.WRONG_IDENTITY, header.round_id)
    if header.device not in station.roster:
        return Rejected(Reason.UNKNOWN_DEVICE, header.round_id)
    return Received(subject, header, tensors, data, content_digest or bytes_digest(data))


def check(received: Received, current: OpenRound) -> Reason | None:
    """Hold a message against the hospital's round; ``None`` accepts it."""
    header, spec = received.header, current.spec
    if header.device not in current.invited:
        return Reason.NOT_INVITED
    if header.round_id != spec.round_id:
        return Reason.WRONG_ROUND
    if current.frozen:
        return Reason.ROUND_CLOSED
    if isinstance(header, UpdateHeader):
        if spec.purpose != "train":
            return Reason.WRONG_ROUND
        return _check_update(header, received.tensors, current)
    return _check_evaluation(header, received.tensors, spec)


def _check_update(header: UpdateHeader, tensors: Packed, current: OpenRound) -> Reason | None:
    mould = _mould(header.base_digest, current)
    if isinstance(mould, Reason):
        return mould
    misfit = mould.misfit(tensors)
    if misfit:
        return misfit
    if header.num_saturated > mould.size:
        return Reason.IMPOSSIBLE_COUNTS
    return mould.excess(tensors)


def _mould(base_digest: str, current: OpenRound) -> Mould | Reason:
    """What an update for that base looks like, or why none is taken."""
    form = _form(base_digest, current)
    if isinstance(form, Reason):
        return form
    if base_digest not in current.moulds:
        current.moulds[base_digest] = Mould(form, current.shapes)
    return current.moulds[base_digest]


def _form(base_digest: str, current: OpenRound) -> FixedPoint | Reason:
    """How an update for that base was made into integers, or why none is taken."""
    if base_digest == current.spec.base_digest:
        return current.spec.fixed_point
    if base_digest in current.forms:
        return current.forms[base_digest]
    return Reason.STALE if base_digest in current.past_bases else Reason.WRONG_BASE


def _check_evaluation(header: EvaluationHeader, tensors: Packed, spec: RoundSpec) -> Reason | None:
    if not spec.evaluate or header.models != spec.evaluate:
        return Reason.WRONG_BASE
    if any(has_nonfinite(tensor) for tensor in tensors.values()):
        return Reason.NOT_FINITE
    if not fits(tensors, evaluation_shapes(spec), np.dtype(np.int64)):
        return Reason.WRONG_SHAPE
    bound = header.num_examples * COUNTS_PER_EXAMPLE
    plausible = header.num_examples <= MAX_EXAMPLES and all(
        _total_within(tensor, bound) for tensor in tensors.values()
    )
    return None if plausible else Reason.IMPOSSIBLE_COUNTS


def _total_within(counts: npt.NDArray[np.int64], bound: int) -> bool:
    if counts.size == 0:
        return True
    # Each count is bounded before they are added, so that the sum cannot wrap around.
    small = bool(counts.min() >= 0 and counts.max() <= bound)
    return small and int(counts.sum()) <= bound

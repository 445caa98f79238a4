"""What an edge node believes of a wristband's bytes: pure checks, in the order of the protocol.

`read` needs only the bytes, their topic and who belongs here; `check` holds what was read against
the open round.  Between the two the caller looks for the same bytes in its ledger, so that a
message sent again gets the receipt it had, even after its round has ended.
"""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common import fixedpoint, parts, topics, wire
from common.digest import bytes_digest, tensors_digest
from common.errors import ContractError
from common.messages import EvaluationHeader, FixedPoint, Reason, RoundSpec, UpdateHeader
from common.round_sums import Shapes, evaluation_shapes
from edge.contributions import Forms

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
    them; `past_bases` are all other bases that it ever had a round of.
    """

    spec: RoundSpec
    invited: frozenset[str]
    shapes: Shapes
    frozen: bool = False
    forms: Forms = field(default_factory=dict)
    past_bases: Container[str] = frozenset()


@dataclass(frozen=True)
class Received:
    """Bytes that are a message of a wristband of this hospital."""

    subject: Subject
    header: UpdateHeader | EvaluationHeader
    tensors: Mapping[str, npt.NDArray[Any]]
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
    data: bytes, topic: topics.DeviceTopic, subject: Subject, station: Station
) -> Received | Rejected:
    """Parse bytes whose size was checked: form, schema, identity, roster."""
    try:
        header, tensors = wire.decode(data, HEADERS[subject], len(data), HEADER_ALLOWANCE)
    except ContractError as fault:
        return Rejected(Reason(str(fault.data.get("reason", Reason.MALFORMED))))
    claimed = (header.region, header.hospital, header.device)
    if claimed != (topic.region, topic.hospital, topic.device):
        return Rejected(Reason.WRONG_IDENTITY, header.round_id)
    if (header.region, header.hospital) != (station.region, station.hospital):
        return Rejected(Reason.WRONG_IDENTITY, header.round_id)
    if header.device not in station.roster:
        return Rejected(Reason.UNKNOWN_DEVICE, header.round_id)
    return Received(subject, header, tensors, data, bytes_digest(data))


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


def _check_update(
    header: UpdateHeader, tensors: Mapping[str, npt.NDArray[Any]], current: OpenRound
) -> Reason | None:
    fixed = _form(header.base_digest, current)
    if isinstance(fixed, Reason):
        return fixed
    if any(_has_nonfinite(tensor) for tensor in tensors.values()):
        return Reason.NOT_FINITE
    dtype = fixedpoint.DTYPES[fixed.bits]
    if not _fits(tensors, parts.wire_shapes(fixed, current.shapes), np.dtype(dtype)):
        return Reason.WRONG_SHAPE
    if header.num_saturated > sum(tensor.size for tensor in tensors.values()):
        return Reason.IMPOSSIBLE_COUNTS
    named = parts.from_wire(fixed, current.shapes, tensors)
    if any(
        tensor.size and tensor.min() < -fixedpoint.largest(fixed.bits) for tensor in named.values()
    ):
        return Reason.OUT_OF_RANGE  # integers are symmetric; sums are packed as if they were
    norm = fixedpoint.l2_norm(fixedpoint.dequantize(named, fixed.exponents))
    limit = fixedpoint.norm_limit(named, fixed.exponents, fixed.clip_norm)
    return None if norm <= limit else Reason.NORM


def _form(base_digest: str, current: OpenRound) -> FixedPoint | Reason:
    """How an update for that base was made into integers, or why none is taken."""
    if base_digest == current.spec.base_digest:
        return current.spec.fixed_point
    if base_digest in current.forms:
        return current.forms[base_digest]
    return Reason.STALE if base_digest in current.past_bases else Reason.WRONG_BASE


def _check_evaluation(
    header: EvaluationHeader, tensors: Mapping[str, npt.NDArray[Any]], spec: RoundSpec
) -> Reason | None:
    if not spec.evaluate or header.models != spec.evaluate:
        return Reason.WRONG_BASE
    if any(_has_nonfinite(tensor) for tensor in tensors.values()):
        return Reason.NOT_FINITE
    if not _fits(tensors, evaluation_shapes(spec), np.dtype(np.int64)):
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


def _fits(tensors: Mapping[str, npt.NDArray[Any]], shapes: Shapes, dtype: np.dtype[Any]) -> bool:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()} == {
        name: (tuple(shape), dtype) for name, shape in shapes.items()
    }


def _has_nonfinite(tensor: npt.NDArray[Any]) -> bool:
    return bool(np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all())

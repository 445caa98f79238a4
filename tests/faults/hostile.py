"""What kinds of hostile messages are made of: who is attacked, by whom, and which answers are right.

A kind is a function that makes one message; `malformed` has them all.  None is ever stored, provided
that each device in `Target.devices` has delivered its own update and evaluation before.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from common import fixedpoint, parts, topics, wire
from common.digest import tensors_digest
from common.messages import EvaluationHeader, Reason, RoundSpec, UpdateHeader
from common.round_sums import Shapes, evaluation_shapes

REPEATED = "repeated"
"""The answer to bytes that say nothing new of a delivery that is stored."""

PASSED_OVER = "passed_over"
"""What becomes of a message on a topic that is no wristband's: nobody can be answered."""

ALL_REASONS = frozenset(reason.value for reason in Reason)
ANY_BUT_STORED = ALL_REASONS | {REPEATED}
Tensors = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Hostile:
    """One message; `right` are the answers that fit it, `properties` are as on the wire."""

    kind: str
    device: str
    topic: str
    payload: bytes
    right: frozenset[str]
    properties: bytes = b""


@dataclass(frozen=True)
class Target:
    """A hospital's open round as an attacker knows it, and the devices whose names are used.

    Parameters
    ----------
    spec : RoundSpec
        With ``evaluate``, so that evaluations are asked for.
    devices : sequence of str
        In the roster and invited.
    uninvited : str
        In the roster only.
    """

    spec: RoundSpec
    shapes: Shapes
    hospital: str
    devices: Sequence[str]
    uninvited: str
    kept: dict[tuple[str, str], bytes] = field(default_factory=dict, compare=False)

    def topic(self, device: str, subject: str) -> str:
        """Where a device publishes."""
        return f"{topics.PREFIX}/{self.spec.region}/{self.hospital}/{device}/{subject}"

    @cached_property
    def integers(self) -> Tensors:
        """A small valid update."""
        rule = self.spec.fixed_point
        dtype = fixedpoint.DTYPES[rule.bits]
        shapes = parts.wire_shapes(rule, self.shapes)
        tensors = {name: np.zeros(shape, dtype) for name, shape in shapes.items()}
        for tensor in tensors.values():
            tensor.flat[:5] = (1, -1, 2, -2, 3)
        return tensors

    @cached_property
    def counts(self) -> Tensors:
        """A valid evaluation of four examples."""
        return {name: np.zeros(s, np.int64) for name, s in evaluation_shapes(self.spec).items()}

    def update(self, device: str, tensors: Tensors | None = None, **header: object) -> bytes:
        """A valid update but for what is given."""
        fields: dict[str, object] = {
            "region": self.spec.region,
            "hospital": self.hospital,
            "device": device,
            "round_id": self.spec.round_id,
            "base_digest": self.spec.base_digest,
            "num_examples": 5,
            "num_saturated": 0,
        }
        stated = UpdateHeader.model_validate(fields | header)
        return wire.encode(stated, self.integers if tensors is None else tensors)

    def evaluation(self, device: str, tensors: Tensors | None = None, **header: object) -> bytes:
        """A valid evaluation but for what is given."""
        fields: dict[str, object] = {
            "region": self.spec.region,
            "hospital": self.hospital,
            "device": device,
            "round_id": self.spec.round_id,
            "models": self.spec.evaluate,
            "num_examples": 4,
        }
        stated = EvaluationHeader.model_validate(fields | header)
        return wire.encode(stated, self.counts if tensors is None else tensors)

    def message(self, device: str, subject: str, **header: object) -> bytes:
        """An update or evaluation with tensors that are right."""
        if subject == "update":
            return self.update(device, None, **header)
        return self.evaluation(device, None, **header)

    def valid(self, device: str, subject: str) -> bytes:
        """What a device delivers before it turns hostile; always the same bytes."""
        if (device, subject) not in self.kept:
            self.kept[device, subject] = self.message(device, subject)
        return self.kept[device, subject]

    def foreign_digest(self, rng: random.Random) -> str:
        """The digest of no model here."""
        return tensors_digest({"x": np.array([rng.random()])})


@dataclass(frozen=True)
class Case:
    """One message in the making: who sends what, and chance."""

    target: Target
    device: str
    subject: str
    rng: random.Random

    @property
    def valid(self) -> bytes:
        """What this device has delivered already."""
        return self.target.valid(self.device, self.subject)

    def other(self) -> str:
        """Another device."""
        return self.rng.choice([name for name in self.target.devices if name != self.device])


@dataclass(frozen=True)
class Letter:
    """A payload with an address, or properties, of its own."""

    payload: bytes
    topic: str
    properties: bytes = b""


Make = Callable[[Case], bytes | Letter]


@dataclass(frozen=True)
class Kind:
    """A kind of message; `subjects` are those it makes sense for."""

    name: str
    make: Make
    right: frozenset[str]
    subjects: tuple[str, ...]


BOTH = ("update", "evaluation")
KINDS: dict[str, Kind] = {}


def kind(*right: str, subjects: tuple[str, ...] = BOTH) -> Callable[[Make], Make]:
    """Register a maker under its own name; `right` are the answers that fit what it makes."""

    def register(make: Make) -> Make:
        name = make.__name__
        KINDS[name] = Kind(name, make, frozenset(right), subjects)
        return make

    return register

"""The state of a hospital's round: who is invited, who has delivered, when it closes.  Pure."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property
from random import Random

from common.messages import HospitalStatus, RoundSpec
from common.round_sums import Shapes
from edge.contributions import Forms
from edge.intake import OpenRound, Subject, max_message_bytes
from edge.mould import Mould


@dataclass(frozen=True)
class Frozen:
    """A round's aggregate as stored: it never changes for that round."""

    digest: str
    weight: int
    num_updates: int
    num_evaluations: int
    path: str
    complete: bool


@dataclass
class Round:
    """One round at this hospital.

    `updated` holds every device with a stored update for the round's base that has no fate yet,
    whichever round it was sent in; `late` those with one for a late base; `excused` those that
    nothing is expected of in this round any more, even if they are listened to again.
    """

    spec: RoundSpec
    invited: frozenset[str]
    shapes: Shapes
    updated: set[str] = field(default_factory=set)
    evaluated: set[str] = field(default_factory=set)
    late: set[str] = field(default_factory=set)
    excused: frozenset[str] = frozenset()
    forms: Forms = field(default_factory=dict)
    past_bases: Container[str] = frozenset()
    moulds: dict[str, Mould] = field(default_factory=dict)
    num_rejected: int = 0
    frozen: Frozen | None = None
    ended: bool = False

    @property
    def complete(self) -> bool:
        """Whether all that are expected have delivered all that was asked for."""
        expected = self.invited - self.excused if self.excused else self.invited
        updates_in = self.spec.purpose != "train" or expected <= self.updated
        return updates_in and (not self.spec.evaluate or expected <= self.evaluated)

    def must_freeze(self, now: float) -> bool:
        """Whether the aggregate is to be folded now."""
        open_ = self.frozen is None and not self.ended
        return open_ and (self.complete or now >= self.spec.closes_at)

    def delivered(self, subject: Subject, device: str, base_digest: str | None) -> None:
        """Note a stored message; `base_digest` is an update's."""
        late = subject == "update" and base_digest != self.spec.base_digest
        fresh = self.updated if subject == "update" else self.evaluated
        (self.late if late else fresh).add(device)

    @property
    def intake(self) -> OpenRound:
        """What messages are held against."""
        closed = self.frozen is not None or self.ended
        return OpenRound(
            self.spec,
            self.invited,
            self.shapes,
            closed,
            self.forms,
            self.past_bases,
            self.moulds,
        )

    @cached_property
    def max_message_bytes(self) -> int:
        """Size limit of a message in this round."""
        return max_message_bytes(self.spec, self.shapes)

    def told(self, status: HospitalStatus) -> HospitalStatus:
        """`status` with this round's share of it."""
        frozen = self.frozen
        share: dict[str, object] = {
            "round_id": self.spec.round_id,
            "phase": "idle" if self.ended else "ready" if frozen else "collecting",
            "num_invited": len(self.invited),
            "num_stored": len(self.updated) + len(self.late - self.updated),
            "num_evaluated": len(self.evaluated),
            "num_rejected": self.num_rejected,
        }
        if frozen:
            share |= {
                "aggregate_digest": frozen.digest,
                "weight": frozen.weight,
                "complete": frozen.complete,
            }
        return status.model_copy(update=share)


def sample(roster: frozenset[str], fraction: float, rng: Random) -> frozenset[str]:
    """Draw a round's wristbands: all of them at fraction 1, else ``ceil(fraction * n)``.

    Parameters
    ----------
    rng : random.Random
        ``secrets.SystemRandom()`` in service: who takes part stays secret.
    """
    if fraction >= 1:
        return roster
    return frozenset(rng.sample(sorted(roster), math.ceil(fraction * len(roster))))

"""Where the points lie in coordinator, edge node and rank.

============== ======================================================================
moment         the ring's round stands where
============== ======================================================================
before-init    a plan is out and the victim has not joined
mid-allreduce  all other members are in the allreduce, the victim is about to enter
before-prepare the sum is known to the victim, its result not reported
after-prepare  all results are reported, the coordinator has not repeated the step
before-commit  the step is repeated, the models lie in the mailbox, not the commit
after-commit   the commit is in the ledger, ``outcome.json`` is not put, nothing said
turn           anywhere: the next time that the process's loop comes round
============== ======================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.faultbed.points import Points

if TYPE_CHECKING:
    from edge.rank_protocol import Join

COORDINATOR = "region"
Wrapped = Callable[..., Any]


def into_coordinator(points: Points) -> None:
    """Put points round the effects of the coordinator."""
    from regional.hands import Hands
    from regional.messages import StartRendezvous
    from regional.service import Service

    forming = False

    def carry_out(inner: Wrapped, hands: object, effect: object) -> object:
        nonlocal forming
        forming = forming or isinstance(effect, StartRendezvous)
        moment = _moment_before(effect)
        if moment:
            points.come_by(f"{COORDINATOR}.{moment}")
        answer = inner(hands, effect)
        if forming and _holds(effect, "ring_planned"):
            forming = False
            points.come_by(f"{COORDINATOR}.before-init")
        return answer

    def turn(inner: Wrapped, service: object) -> None:
        points.come_by(f"{COORDINATOR}.turn")
        inner(service)

    _wrap(Hands, "carry_out", carry_out)
    _wrap(Service, "_turn", turn)


def _moment_before(effect: object) -> str | None:
    from regional.messages import PutOutcome, RepeatStep

    if isinstance(effect, RepeatStep):
        return "after-prepare"
    if isinstance(effect, PutOutcome):
        return "after-commit"
    return "before-commit" if _holds(effect, "round_ended") else None


def _holds(effect: object, kind: str) -> bool:
    return any(record.kind == kind for record in getattr(effect, "records", ()))


def into_edge_node(points: Points) -> None:
    """Put points round the seat of an edge node."""
    from edge.node import Node
    from edge.ring import Seat

    def join(inner: Wrapped, seat: Any, *arguments: object) -> None:  # noqa: ANN401 -- reads its private parts
        if seat.rank.state == "warm":
            points.come_by(f"edge-{seat._hospital}.before-init")
        inner(seat, *arguments)

    def deliver(inner: Wrapped, seat: Any) -> None:  # noqa: ANN401 -- reads its private parts
        if seat._computed is not None:
            points.come_by(f"edge-{seat._hospital}.before-prepare")
        inner(seat)

    def step(inner: Wrapped, node: Any, now: float) -> None:  # noqa: ANN401 -- reads its private parts
        points.come_by(f"edge-{node._config.hospital}.turn")
        inner(node, now)

    _wrap(Seat, "_join", join)
    _wrap(Seat, "_deliver", deliver)
    _wrap(Node, "step", step)


def into_rank(points: Points) -> None:
    """Put points round the ring of every rank that the keeper will fork."""
    from edge import rank_work, world

    joins: list[Join] = []

    def compute(inner: Wrapped, join: Join, joined: object) -> object:
        points.come_by(f"rank-{join.hospital}.turn")
        joins[:] = [join]
        return inner(join, joined)

    def init(inner: Wrapped, self: object, join: Join) -> None:
        points.come_by(f"rank-{join.hospital}.before-init")
        inner(self, join)

    def add_up(inner: Wrapped, self: object, vector: Any) -> None:  # noqa: ANN401 -- an array
        join = joins[-1]
        fat = points.fat_values(join.plan.round_id)
        _stand_before_collective(points, join, is_fat=fat > 0)
        padded = np.concatenate([vector, np.zeros(fat, np.int64)]) if fat else vector
        inner(self, padded)
        vector[:] = padded[: vector.size]
        points.come_by(f"rank-{join.hospital}.before-prepare")

    _wrap(rank_work, "_compute", compute)
    _wrap(world.World, "__init__", init)
    _wrap(world.World, "sum", add_up)


def _stand_before_collective(points: Points, join: Join, *, is_fat: bool) -> None:
    collective, me = f"{join.plan.round_id}-{join.plan.generation}", join.hospital
    point = f"rank-{me}.mid-allreduce"
    if points.is_armed(point):
        points.await_others(collective, tuple(m for m in join.plan.members if m != me))
        points.come_by(point)
    points.enter(collective, me)
    if is_fat:
        points.take(f"rank-{me}.mid-transfer")


def _wrap(owner: object, name: str, around: Callable[..., Any]) -> None:
    inner = getattr(owner, name)

    @wraps(inner)
    def outer(*arguments: object) -> object:
        return around(inner, *arguments)

    setattr(owner, name, outer)

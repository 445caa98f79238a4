"""The numbered fault points of the intake and round code: where each lies and what must hold there.

A process is killed at each of them in turn (`test_points.py`), and at random ones by the schedules.
The product knows nothing of them: the functions named here are wrapped from outside, in processes
that were started for it (`tests.faults.process`).  `docs/faults.md` prints this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Process = Literal["edge", "rank", "coordinator"]
Side = Literal["before", "after", "begun", "commit", "committed"]
Need = Literal[
    "nothing",
    "bad message",
    "nonsense",
    "revocation",
    "restart",
    "new ring",
    "absence",
    "failed round",
    "order to end",
]

AGAIN = "nobody was told: the broker or the wristband sends it again"
STORED = "the update is in the ledger: sent again, it gets the receipt that it would have had"
REDONE = "nothing was told: done again after the start"
KEPT = "it is in the ledger: not done again, told after the start"
ONE_FATE = "every update of the round has one fate after the start, none has two"
NEW_RING = "the ring dies and is formed again with the hospital; the round's sums are the same"
SAME_FILE = "the same bytes are put again, which is no fault"
ARCHIVED_ONCE = "a round of long ago is in the ledger, archived or not; never half, never twice"
SAME_ROUND = "the open round goes on, with the same spec"


@dataclass(frozen=True)
class Point:
    """One place where a process can be killed.

    Attributes
    ----------
    where : str
        ``module:name`` or ``module:Class.name`` of the function whose call is meant, as its caller
        looks it up.
    side : str
        Before or after the call; ``begun``, ``commit`` and ``committed`` are of the ledger's
        transaction in it: after BEGIN, before COMMIT, after COMMIT.
    holds : str
        What must hold although the process died here.
    only : str
        Which calls: a label of an argument (`tests.faults.hooks.labels_of`); empty for all.
    nth : int
        Which call within one transaction; 0 for any.
    needs : str
        What has to happen so that the process comes by; a running region has the others.
    first : bool
        Whether only the hospital comes by whose rank is the ring's first.
    """

    process: Process
    name: str
    where: str
    side: Side
    holds: str
    only: str = ""
    nth: int = 0
    needs: Need = "nothing"
    first: bool = False


_TAKE = "edge.desk:Desk.take"
_ADOPT = "edge.node:Node._adopt"
_FREEZE = "edge.node:Node._freeze"
_SETTLE = "edge.fates:settle"
_CATCH_UP = "edge.fates:catch_up"
_WITHDRAW = "edge.node:Node._withdraw"
_ARCHIVE = "edge.ledger:Ledger.archive_oldest"
_HANDS = "regional.hands:Hands.carry_out"

INTAKE = (
    Point("edge", "intake.heard", "edge.inbox:Inbox.put_message", "before", AGAIN),
    Point("edge", "intake.queued", "edge.inbox:Inbox.put_message", "after", AGAIN),
    Point("edge", "intake.batched", _TAKE, "before", AGAIN),
    Point("edge", "intake.begun", _TAKE, "begun", AGAIN),
    Point("edge", "intake.read", "edge.intake:read", "after", AGAIN),
    Point("edge", "intake.judged", "edge.intake:check", "after", AGAIN),
    Point("edge", "intake.insert-1", "edge.ledger:Ledger.store", "after", AGAIN, nth=1),
    Point("edge", "intake.insert-2", "edge.ledger:Ledger.store", "after", AGAIN, nth=2),
    Point(
        "edge", "intake.refused", "edge.ledger:Ledger.refuse", "after", AGAIN, needs="bad message"
    ),
    Point("edge", "intake.commit", _TAKE, "commit", AGAIN),
    Point("edge", "intake.committed", _TAKE, "committed", STORED),
    Point("edge", "intake.noted", _TAKE, "after", STORED),
    Point("edge", "intake.unacknowledged", "common.link:Link.acknowledge", "before", STORED),
    Point("edge", "intake.acknowledged", "common.link:Link.acknowledge", "after", STORED),
    Point("edge", "intake.unreceipted", "edge.node:Node._send_receipt", "before", STORED),
    Point("edge", "intake.receipted", "edge.node:Node._send_receipt", "after", STORED),
    Point("edge", "intake.dropped", "edge.inbox:Inbox.drop_messages", "after", STORED),
)
START = (
    Point("edge", "start.locked", "edge.service:hold", "after", REDONE, needs="restart"),
    Point("edge", "start.opened", "sqlite3:connect", "after", REDONE, needs="restart"),
    Point("edge", "start.ledger", "edge.ledger:Ledger.__init__", "after", REDONE, needs="restart"),
    Point("edge", "start.restored", "edge.node:Node._restore", "after", REDONE, needs="restart"),
    Point(
        "edge",
        "start.connected",
        "edge.node:Node.on_hospital_broker",
        "before",
        REDONE,
        needs="restart",
    ),
    Point(
        "edge", "end.goodbye", "edge.node:Node.say_goodbye", "before", KEPT, needs="order to end"
    ),
)
ROUND = (
    Point("edge", "round.heard", _ADOPT, "before", REDONE),
    Point("edge", "round.caught-up", "edge.node:Node._catch_up", "after", REDONE),
    Point("edge", "round.unwritten", "edge.models:write_durably", "before", REDONE),
    Point("edge", "round.fetched", "edge.models:Models.fetch", "after", REDONE),
    Point("edge", "round.begun", _ADOPT, "begun", REDONE),
    Point("edge", "round.commit", _ADOPT, "commit", "another sample may be drawn; nobody knew it"),
    Point("edge", "round.committed", _ADOPT, "committed", "the sample stays the same"),
    Point("edge", "round.swept", "edge.models:Models.keep_only", "after", KEPT),
    Point("edge", "offers.due", "edge.offers:Offers.renew", "before", REDONE),
    Point("edge", "offers.noted", "edge.ledger:Ledger.note_offers", "after", REDONE),
    Point("edge", "offers.model", "edge.offers:Offers._publish_model", "after", REDONE),
    Point("edge", "offers.invite", "edge.offers:Offers._invite", "after", REDONE),
    Point("edge", "offers.cleared", "edge.offers:Offers._clear", "after", REDONE),
    Point("edge", "offers.forgotten", "edge.ledger:Ledger.forget_offer", "after", KEPT),
)
FREEZE = (
    Point("edge", "freeze.due", _FREEZE, "before", REDONE),
    Point("edge", "freeze.folded", "edge.node:aggregate", "after", REDONE),
    Point(
        "edge",
        "freeze.written",
        "edge.node:write_durably",
        "after",
        "the file is written again, maybe with more updates in it: no status named it",
    ),
    Point("edge", "freeze.begun", _FREEZE, "begun", REDONE),
    Point("edge", "freeze.inserted", "edge.ledger:Ledger.freeze", "after", REDONE),
    Point("edge", "freeze.commit", _FREEZE, "commit", REDONE),
    Point("edge", "freeze.committed", _FREEZE, "committed", KEPT),
    Point("edge", "freeze.untold", "edge.statement:Statement._publish", "before", KEPT, "ready"),
    Point("edge", "freeze.told", "edge.statement:Statement._publish", "after", KEPT, "ready"),
)
RING = (
    Point("edge", "ring.due", "edge.ring:Seat._join", "before", NEW_RING),
    Point("edge", "ring.noted", "edge.ledger:Ledger.note_join", "after", NEW_RING),
    Point("edge", "ring.joined", "edge.ring:Seat._join", "after", NEW_RING),
    Point("edge", "ring.heard", "edge.ring:Seat.hear", "before", NEW_RING, "Computed"),
    Point("edge", "ring.unput", "edge.ring:Seat._put_sums", "before", NEW_RING, first=True),
    Point(
        "edge",
        "ring.signed",
        "common.mailbox:write_durably",
        "after",
        "a signature without its file is no file; the same sums are put again",
        ".sig",
        first=True,
    ),
    Point("edge", "ring.put", "edge.ring:Seat._put_sums", "after", NEW_RING, first=True),
    Point("edge", "ring.untold", "edge.statement:Statement._publish", "before", NEW_RING, "result"),
    Point(
        "edge",
        "ring.told",
        "edge.statement:Statement._publish",
        "after",
        "all results are in: the round is committed without this process",
        "result",
    ),
    Point(
        "edge",
        "ring.renewed",
        "edge.rank_process:RankProcess.renew",
        "after",
        NEW_RING,
        needs="new ring",
    ),
)
OUTCOME = (
    Point("edge", "outcome.heard", _SETTLE, "before", ONE_FATE),
    Point("edge", "outcome.begun", _SETTLE, "begun", ONE_FATE),
    Point("edge", "outcome.inserted", "edge.ledger:Ledger.settle", "after", ONE_FATE),
    Point("edge", "outcome.commit", _SETTLE, "commit", ONE_FATE),
    Point("edge", "outcome.committed", _SETTLE, "committed", ONE_FATE),
    Point("edge", "outcome.settled", "edge.node:Node._settle", "after", ONE_FATE),
    Point("edge", "missed.read", "edge.models:Models.outcome", "after", ONE_FATE, needs="absence"),
    Point("edge", "missed.stale-begun", _CATCH_UP, "begun", ONE_FATE, needs="failed round"),
    Point("edge", "missed.stale-commit", _CATCH_UP, "commit", ONE_FATE, needs="failed round"),
    Point("edge", "missed.stale-committed", _CATCH_UP, "committed", ONE_FATE, needs="failed round"),
)
PEOPLE = (
    Point("edge", "mute.inserted", "edge.ledger:Ledger.mute", "after", AGAIN, needs="nonsense"),
    Point(
        "edge",
        "revoked.read",
        "edge.ledger:Ledger.revoked",
        "after",
        ONE_FATE,
        needs="revocation",
    ),
    Point("edge", "withdraw.begun", _WITHDRAW, "begun", ONE_FATE, needs="revocation"),
    Point("edge", "withdraw.commit", _WITHDRAW, "commit", ONE_FATE, needs="revocation"),
    Point("edge", "withdraw.committed", _WITHDRAW, "committed", ONE_FATE, needs="revocation"),
)
ARCHIVE = (
    Point("edge", "archive.begun", _ARCHIVE, "begun", ARCHIVED_ONCE),
    Point("edge", "archive.commit", _ARCHIVE, "commit", ARCHIVED_ONCE),
    Point("edge", "archive.committed", _ARCHIVE, "committed", ARCHIVED_ONCE),
)
RANK = (
    Point("rank", "rank.asked", "edge.rank_work:_compute", "before", NEW_RING),
    Point("rank", "rank.init", "edge.world:World.__init__", "before", NEW_RING, needs="new ring"),
    Point("rank", "rank.joined", "edge.world:World.__init__", "after", NEW_RING, needs="new ring"),
    Point("rank", "rank.unsummed", "edge.world:World.sum", "before", NEW_RING),
    Point("rank", "rank.summed", "edge.world:World.sum", "after", NEW_RING),
    Point("rank", "rank.written", "edge.rank_work:write_durably", "after", NEW_RING),
    Point(
        "rank",
        "rank.said",
        "edge.rank_work:Voice.__call__",
        "after",
        "its edge node tells the result; the next ring is another",
        "Computed",
    ),
    Point(
        "rank", "keeper.forking", "edge.rank:Keeper._hatch", "before", NEW_RING, needs="new ring"
    ),
    Point("rank", "keeper.forked", "edge.rank:Keeper._hatch", "after", NEW_RING, needs="new ring"),
)
_EFFECTS: tuple[tuple[str, str, str, Need, str], ...] = (
    ("open", "round_opened", "no round was announced, or it is this one", "nothing", SAME_ROUND),
    ("rendezvous", "StartRendezvous", SAME_ROUND, "new ring", SAME_ROUND),
    ("plan", "ring_planned", SAME_ROUND, "nothing", NEW_RING),
    ("burial", "ring_died", NEW_RING, "new ring", NEW_RING),
    ("repeat", "RepeatStep", SAME_ROUND, "nothing", SAME_ROUND),
    ("models", "PutModels", SAME_ROUND, "nothing", SAME_FILE),
    ("commit", "round_ended", SAME_ROUND, "nothing", "the round is committed, and told"),
    ("outcome", "PutOutcome", SAME_FILE, "nothing", SAME_FILE),
    ("seal", "SealDay", SAME_FILE, "nothing", SAME_FILE),
    ("sealed", "day_sealed", SAME_FILE, "nothing", "the day is sealed once"),
)
_COORDINATOR_CALLS = (
    Point(
        "coordinator", "start.begun", "regional.service:start", "before", REDONE, needs="restart"
    ),
    Point("coordinator", "start.noted", "regional.service:start", "after", REDONE, needs="restart"),
    Point(
        "coordinator",
        "start.unrecovered",
        "regional.service:Service._recover",
        "before",
        REDONE,
        needs="restart",
    ),
    Point(
        "coordinator",
        "start.recovered",
        "regional.service:Service._recover",
        "after",
        REDONE,
        needs="restart",
    ),
    Point(
        "coordinator",
        "mailbox.signed",
        "common.mailbox:write_durably",
        "after",
        SAME_FILE,
        ".sig",
    ),
    Point("coordinator", "state.told", "common.link:Link.publish", "after", SAME_ROUND),
)
COORDINATOR = (
    *(
        point
        for name, effect, before, needs, after in _EFFECTS
        for point in (
            Point("coordinator", f"{name}.due", _HANDS, "before", before, effect, needs=needs),
            Point("coordinator", f"{name}.done", _HANDS, "after", after, effect, needs=needs),
        )
    ),
    *_COORDINATOR_CALLS,
)

POINTS: tuple[Point, ...] = (
    *INTAKE,
    *START,
    *ROUND,
    *FREEZE,
    *RING,
    *OUTCOME,
    *PEOPLE,
    *ARCHIVE,
    *RANK,
    *COORDINATOR,
)
"""All points; a point's number is its place here, from 1."""


def as_markdown() -> str:
    """The table as `docs/faults.md` shows it."""
    lines = ["| # | process | point | lies | what must hold |", "|--:|---|---|---|---|"]
    for number, point in enumerate(POINTS, start=1):
        lies = _SIDES[point.side].format(where=point.where.partition(":")[2])
        which = f" ({point.only})" if point.only else f" (call {point.nth})" if point.nth else ""
        cells = (str(number), point.process, f"`{point.name}`", lies + which, point.holds)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


_SIDES = {
    "before": "before `{where}`",
    "after": "after `{where}`",
    "begun": "in `{where}` after BEGIN",
    "commit": "in `{where}` before COMMIT",
    "committed": "in `{where}` after COMMIT",
}

"""What the ledgers say: rounds as the coordinator wrote them, updates as the edge nodes did."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import QuorumError

_RECORDS = "SELECT seq, at, kind, body FROM records WHERE seq > ? ORDER BY seq"
_UPDATES = """
    SELECT m.device, m.key, f.fate FROM messages m
    LEFT JOIN fates f ON f.device = m.device AND f.base_digest = m.key
    WHERE m.subject = 'update'
"""
Key = tuple[str, str]
"""Device and digest of the base: what makes an update the only one."""
_MEMBERS = "SELECT round_id, device FROM aggregate_members"


@dataclass(frozen=True)
class Entry:
    """One record of the coordinator's ledger, and when it was written."""

    at: float
    kind: str
    body: dict[str, Any]


@dataclass
class RegionBook:
    """The coordinator's ledger, read on from where it was left."""

    path: Path
    entries: list[Entry] = field(default_factory=list)
    _seq: int = 0

    def read(self) -> RegionBook:
        """Take in what was written since the last call."""
        if not self.path.exists():
            return self
        # Its tables may not be made yet.
        with suppress(sqlite3.OperationalError), closing(_open(self.path)) as db:
            for seq, at, kind, body in db.execute(_RECORDS, (self._seq,)):
                self.entries.append(Entry(at, kind, json.loads(body)))
                self._seq = seq
        return self

    def ended(self, since: float = 0.0) -> list[Entry]:
        """Rounds that ended after `since`, oldest first."""
        return [e for e in self.entries if e.kind == "round_ended" and e.at > since]

    def committed(self, since: float = 0.0) -> list[Entry]:
        """Rounds that were committed after `since`."""
        return [e for e in self.ended(since) if e.body["outcome"]["end"] == "committed"]

    def plan_at(self, moment: float) -> dict[str, Any]:
        """The plan that was out at that time.

        Raises
        ------
        QuorumError
            When there was none yet.
        """
        planned = [
            e.body["plan"] for e in self.entries if e.kind == "ring_planned" and e.at <= moment
        ]
        if not planned:
            raise QuorumError("no ring was planned yet")
        plan: dict[str, Any] = planned[-1]
        return plan

    def generations(self, round_id: int) -> set[int]:
        """Rings that were planned for a round."""
        planned = (e.body["plan"] for e in self.entries if e.kind == "ring_planned")
        return {plan["generation"] for plan in planned if plan["round_id"] == round_id}

    def outcome(self, round_id: int) -> dict[str, Any]:
        """How a round ended; empty while it is open."""
        outcomes = (entry.body["outcome"] for entry in self.ended())
        return next((o for o in outcomes if o["round_id"] == round_id), {})


@dataclass(frozen=True)
class Account:
    """What became of all stored updates.

    Attributes
    ----------
    num_lost : int
        Without a fate though a round with their base was committed, or with a receipt and not in
        the ledger.
    num_doubled : int
        In the aggregates of two committed rounds, or counted though in none.
    """

    fates: dict[str, int]
    num_lost: int
    num_doubled: int


def account(
    book: RegionBook, ledgers: dict[str, Path], receipts: Iterable[tuple[str, str]] = ()
) -> Account:
    """Balance the edge nodes' ledgers against the coordinator's.

    Parameters
    ----------
    ledgers : mapping of str to Path
        Hospital to its ``ledger.sqlite``.
    receipts : iterable of (device, base digest)
        Of the updates for which wristbands had a receipt ``stored``.
    """
    rounds = {e.body["outcome"]["round_id"]: e.body["outcome"] for e in book.read().committed()}
    trained = {r: o for r, o in rounds.items() if o["purpose"] == "train"}
    bases = {outcome["base_digest"] for outcome in trained.values()}
    fates: Counter[str] = Counter()
    added: Counter[Key] = Counter()
    fate_of: dict[Key, str | None] = {}
    for hospital, path in ledgers.items():
        updates, members = _read(path)
        fate_of |= {(device, base): fate for device, base, fate in updates}
        for round_id, device in members:
            outcome = trained.get(round_id)
            if outcome and hospital in outcome["aggregates"]:
                added[device, outcome["base_digest"]] += 1
    fates.update(fate or "waiting" for fate in fate_of.values())
    fateless = sum(fate is None and key[1] in bases for key, fate in fate_of.items())
    counted = {key for key, fate in fate_of.items() if fate == "counted"}
    doubled = sum(num - 1 for num in added.values()) + len(counted - set(added))
    return Account(dict(fates), fateless + len(set(receipts) - set(fate_of)), doubled)


def _read(path: Path) -> tuple[list[Any], list[Any]]:
    if not path.exists():
        return [], []
    with closing(_open(path)) as db:
        return db.execute(_UPDATES).fetchall(), db.execute(_MEMBERS).fetchall()


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)

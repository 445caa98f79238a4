"""What the ledger of a stopped or running edge node tells an operator; it only reads.

Archived rounds (`edge.archive`) are read like the others.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from common.errors import ConfigError
from edge import archive
from edge.ledger import FILE_NAME

Row = dict[str, Any]
_UPDATES = """
    SELECT m.device, m.key AS base_digest, m.round_id, m.num_examples, m.stored_at,
           COALESCE(f.fate, 'waiting') AS fate, f.round_id AS fate_round
    FROM messages m LEFT JOIN fates f ON f.device = m.device AND f.base_digest = m.key
    WHERE m.subject = 'update' AND (?1 IS NULL OR m.round_id = ?1) ORDER BY m.id
"""
_REFUSED = "SELECT round_id, device, reason, num, last_at FROM refusals ORDER BY round_id, device"
_QUARANTINED = """
    SELECT round_id, device, 'quarantined: ' || reason AS reason, 1 AS num, decided_at AS last_at,
           base_digest, score, allowed
    FROM quarantine ORDER BY round_id, device
"""
_ROUNDS = """
    SELECT r.round_id, r.invited, a.digest, a.weight, a.num_updates, a.num_evaluations, o.outcome,
        (SELECT COALESCE(SUM(num), 0) FROM refusals WHERE refusals.round_id = r.round_id) AS refused
    FROM rounds r LEFT JOIN aggregates a USING (round_id) LEFT JOIN outcomes o USING (round_id)
    ORDER BY r.round_id DESC LIMIT ?
"""
_HEADS = "SELECT head FROM archives ORDER BY round_id DESC LIMIT ?"
_UPDATE_KEYS = (
    "device",
    "base_digest",
    "round_id",
    "num_examples",
    "stored_at",
    "fate",
    "fate_round",
)


def updates(state_dir: Path, round_id: int | None = None) -> list[Row]:
    """Every stored update, or one round's, with its fate, or ``waiting``; the oldest first."""
    with _reading(state_dir) as db:
        archived = [
            {key: update[key] for key in _UPDATE_KEYS}
            for number, body in _archived(db, round_id)
            for update in archive.updates(number, body)
        ]
        return archived + [dict(row) for row in db.execute(_UPDATES, (round_id,))]


def refusals(state_dir: Path) -> list[Row]:
    """How often which wristband was refused in which round, and why; then what was set aside.

    An update that a screen set aside was stored first: it comes with its base, its `score` and what
    was `allowed`, as long as its round is not archived.
    """
    with _reading(state_dir) as db:
        archived = [row for number, body in _archived(db) for row in archive.refusals(number, body)]
        refused = [dict(row) for row in db.execute(_REFUSED)]
        set_aside = db.execute(_QUARANTINED) if _has(db, "quarantine") else ()
        return archived + refused + [dict(row) for row in set_aside]


def devices(state_dir: Path, roster: Collection[str], now: float) -> list[dict[str, Any]]:
    """How each wristband of `roster` stands at `now`."""
    with _reading(state_dir) as db:
        consents = {row["device"]: row for row in _last_rows(db, "consents")}
        mutes = {row["device"]: row for row in _last_rows(db, "mutes")}
        waiting = dict(
            db.execute("SELECT device, COUNT(*) FROM waiting GROUP BY device").fetchall()
        )
    return [
        _device(name, consents.get(name), mutes.get(name), now)
        | {"num_waiting": waiting.get(name, 0)}
        for name in sorted(roster)
    ]


def _last_rows(db: sqlite3.Connection, table: str) -> list[sqlite3.Row]:
    if not _has(db, table):
        return []  # written by the version before
    query = f"SELECT * FROM {table} WHERE id IN (SELECT MAX(id) FROM {table} GROUP BY device)"  # noqa: S608 -- a name of ours
    return db.execute(query).fetchall()


def _device(
    name: str, consent: sqlite3.Row | None, mute: sqlite3.Row | None, now: float
) -> dict[str, Any]:
    standing: dict[str, Any] = {"device": name, "standing": "listened to", "since_at": None}
    standing |= {"muted_until_at": None, "note": ""}
    if consent and consent["consent"] == "revoked":
        return standing | {
            "standing": "revoked",
            "since_at": consent["decided_at"],
            "note": consent["note"],
        }
    if mute and mute["muted_until"] > now:
        return standing | {
            "standing": "muted",
            "since_at": mute["muted_at"],
            "muted_until_at": mute["muted_until"],
            "note": mute["reason"],
        }
    return standing


def reasons(rows: list[Row]) -> list[Row]:
    """`refusals` added up by reason, the most frequent first."""
    found: dict[str, Row] = {}
    for reason in dict.fromkeys(row["reason"] for row in rows):
        those = [row for row in rows if row["reason"] == reason]
        found[reason] = {
            "reason": reason,
            "num": sum(row["num"] for row in those),
            "num_devices": len({row["device"] for row in those}),
            "num_rounds": len({row["round_id"] for row in those}),
            "last_at": max(row["last_at"] for row in those),
        }
    return sorted(found.values(), key=lambda row: -row["num"])


def rounds(state_dir: Path, last: int = -1) -> list[Row]:
    """The `last` rounds, -1 for all: invited, aggregate, and how each ended; the oldest first."""
    with _reading(state_dir) as db:
        found = [_round(row) for row in db.execute(_ROUNDS, (last,))]
        if _has(db, "archives"):
            more = -1 if last < 0 else last - len(found)
            found += [json.loads(head) for (head,) in db.execute(_HEADS, (more,))]
    return found[::-1]


def waiting(state_dir: Path) -> int:
    """How many stored updates have no fate yet."""
    with _reading(state_dir) as db:
        (num,) = db.execute("SELECT COUNT(*) FROM waiting").fetchone()
    return int(num)


def _round(row: sqlite3.Row) -> Row:
    outcome = json.loads(row["outcome"]) if row["outcome"] else {}
    return {
        "round_id": row["round_id"],
        "num_invited": len(json.loads(row["invited"])),
        "num_updates": row["num_updates"],
        "num_evaluations": row["num_evaluations"],
        "num_refused": row["refused"],
        "weight": row["weight"],
        "aggregate_digest": row["digest"],
        "end": outcome.get("end", "open"),
        "reason": outcome.get("reason", ""),
    }


def _archived(
    db: sqlite3.Connection, round_id: int | None = None
) -> Iterator[tuple[int, archive.Body]]:
    if not _has(db, "archives"):  # the ledger of an earlier version that has not run since
        return
    query = "SELECT round_id FROM archives WHERE ?1 IS NULL OR round_id = ?1 ORDER BY round_id"
    for (number,) in db.execute(query, (round_id,)).fetchall():
        yield number, archive.read(db, number)


def _has(db: sqlite3.Connection, table: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return db.execute(query, (table,)).fetchone() is not None


@contextmanager
def _reading(state_dir: Path) -> Iterator[sqlite3.Connection]:
    path = state_dir / FILE_NAME
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: no edge node has run with this state_dir")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            db.execute("BEGIN")  # one moment for all that is read
            yield db
    except sqlite3.DatabaseError as fault:
        raise ConfigError(f"{path} is no ledger: {fault}") from fault

"""Rounds of long ago, each as one compressed row: what provenance needs of them and no more.

A row keeps who was invited, whose update came (its delivered digest, examples, time, fate), whose
evaluation came, who is in the aggregate, refusals, spec and outcome.  Left out are the digest of a
message's bytes, which differs from the delivered one only in the header, and evaluations' digests.
Times are kept in milliseconds.  The functions write within the caller's transaction.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

FORMAT = 1
Body = dict[str, Any]
SET_ASIDE = "quarantined: "
"""Before the reason why an update was quarantined, where refusals are listed."""

# An update without a fate keeps its round where it is, and those of its base, which say how it was
# made; so does one that may still come late.
_OLDEST = """
    SELECT round_id FROM rounds WHERE round_id <= (SELECT MAX(round_id) FROM rounds) - ?
        AND round_id NOT IN (SELECT round_id FROM waiting)
        AND json_extract(spec, '$.base_digest') NOT IN (
            SELECT base_digest FROM waiting
            UNION SELECT value FROM rounds AS newest, json_each(newest.spec, '$.late_bases')
            WHERE newest.round_id = (SELECT MAX(round_id) FROM rounds))
    ORDER BY round_id LIMIT 1
"""
_ROUND = """
    SELECT r.spec, r.invited, r.opened_at, a.digest, a.weight, a.num_updates, a.num_evaluations,
        a.complete, a.path, a.frozen_at, o.outcome, o.heard_at
    FROM rounds r LEFT JOIN aggregates a USING (round_id) LEFT JOIN outcomes o USING (round_id)
    WHERE round_id = ?
"""
_UPDATES = """
    SELECT m.device, m.key, m.delivered_digest, m.num_examples, m.stored_at,
        f.fate, f.round_id, f.decided_at
    FROM messages m JOIN fates f ON f.device = m.device AND f.base_digest = m.key
    WHERE m.round_id = ? AND m.subject = 'update' ORDER BY m.id
"""
_EVALUATED = "SELECT device FROM messages WHERE round_id = ? AND subject = 'evaluation' ORDER BY id"
_MEMBERS = "SELECT device FROM aggregate_members WHERE round_id = ? ORDER BY device"
_LATE = "SELECT device, base_digest FROM late_members WHERE round_id = ? ORDER BY device"
_REFUSALS = """
    SELECT device, reason, num, last_at FROM refusals WHERE round_id = ?1
    UNION ALL SELECT device, 'quarantined: ' || reason, 1, decided_at FROM quarantine
    WHERE round_id = ?1 ORDER BY device
"""
_CLEAR = (
    "DELETE FROM payloads WHERE message_id IN (SELECT id FROM messages WHERE round_id = ?)",
    "DELETE FROM fates WHERE (device, base_digest) IN"
    " (SELECT device, key FROM messages WHERE round_id = ? AND subject = 'update')",
    "DELETE FROM messages WHERE round_id = ?",
    "DELETE FROM aggregate_members WHERE round_id = ?",
    "DELETE FROM late_members WHERE round_id = ?",
    "DELETE FROM aggregates WHERE round_id = ?",
    "DELETE FROM outcomes WHERE round_id = ?",
    "DELETE FROM refusals WHERE round_id = ?",
    "DELETE FROM quarantine WHERE round_id = ?",
    "DELETE FROM rounds WHERE round_id = ?",
)


def oldest(db: sqlite3.Connection, keep_rounds: int) -> int | None:
    """The first round that may be archived: ended, all its updates with a fate, long ago."""
    row = db.execute(_OLDEST, (keep_rounds,)).fetchone()
    return None if row is None else int(row[0])


def archive(db: sqlite3.Connection, round_id: int, now: float) -> str | None:
    """Move a round's rows into one; say the name of its aggregate's file, if it had one."""
    round_ = db.execute(_ROUND, (round_id,)).fetchone()
    body = _body(db, round_id, round_)
    packed = zlib.compress(json.dumps(body, separators=(",", ":")).encode(), 9)
    num_updates = len(body["updates"]["device"])
    head = json.dumps(_head(round_id, body))
    db.execute(
        "INSERT INTO archives VALUES (?, ?, ?, ?, ?)", (round_id, now, num_updates, head, packed)
    )
    bases = [(base, round_id) for base in body["bases"]]
    db.executemany("INSERT INTO archived_bases VALUES (?, ?)", bases)
    for statement in _CLEAR:
        db.execute(statement, (round_id,))
    path = body["aggregate"]["path"] if body["aggregate"] else None
    return None if path is None else str(path)


def stored(db: sqlite3.Connection, device: str, base_digest: str) -> str | None:
    """Delivered digest of an archived update of `device` for that base, if there is one."""
    query = "SELECT round_id FROM archived_bases WHERE base_digest = ?"
    for (round_id,) in db.execute(query, (base_digest,)).fetchall():
        body = read(db, round_id)
        if device not in body["devices"]:
            continue
        wanted = (body["devices"].index(device), body["bases"].index(base_digest))
        columns = (body["updates"][name] for name in ("device", "base", "delivered_digest"))
        for place, base, digest in zip(*columns, strict=True):
            if (place, base) == wanted:
                return str(digest)
    return None


def read(db: sqlite3.Connection, round_id: int) -> Body:
    """An archived round's body."""
    (packed,) = db.execute("SELECT body FROM archives WHERE round_id = ?", (round_id,)).fetchone()
    return _unpacked(packed)


def updates(round_id: int, body: Body) -> Iterator[dict[str, Any]]:
    """Its updates, as reports show those that are not archived."""
    columns = body["updates"]
    for device, base, digest, examples, stored_ms, fate in zip(
        *(columns[name] for name in _COLUMNS), strict=True
    ):
        name, fate_round, decided_ms = body["fates"][fate]
        yield {
            "device": body["devices"][device],
            "base_digest": body["bases"][base],
            "round_id": round_id,
            "delivered_digest": digest,
            "num_examples": examples,
            "stored_at": (body["opened_ms"] + stored_ms) / 1000,
            "fate": name,
            "fate_round": fate_round,
            "decided_at": decided_ms / 1000,
        }


def refusals(round_id: int, body: Body) -> Iterator[dict[str, Any]]:
    """Its refusals, likewise."""
    for device, reason, num, last_ms in body["refusals"]:
        yield {
            "round_id": round_id,
            "device": device,
            "reason": reason,
            "num": num,
            "last_at": last_ms / 1000,
        }


_COLUMNS = ("device", "base", "delivered_digest", "num_examples", "stored_ms", "fate")


@lru_cache(maxsize=4)
def _unpacked(packed: bytes) -> Body:
    body: Body = json.loads(zlib.decompress(packed))
    if body["format"] != FORMAT:
        raise sqlite3.DatabaseError(f"an archived round has format {body['format']}")
    return body


def _body(db: sqlite3.Connection, round_id: int, round_: Sequence[Any]) -> Body:
    spec, invited, opened_at, *aggregate, outcome, heard_at = round_
    rows = db.execute(_UPDATES, (round_id,)).fetchall()
    evaluated = [name for (name,) in db.execute(_EVALUATED, (round_id,))]
    members = [name for (name,) in db.execute(_MEMBERS, (round_id,))]
    names = json.loads(invited)
    devices = list(dict.fromkeys([*names, *(row[0] for row in rows), *evaluated, *members]))
    bases = list(dict.fromkeys(row[1] for row in rows))
    fates = list(dict.fromkeys((fate, number, _ms(at)) for *_, fate, number, at in rows))
    place = {name: number for number, name in enumerate(devices)}
    opened_ms = _ms(opened_at)
    columns = [
        [place[row[0]] for row in rows],
        [bases.index(row[1]) for row in rows],
        [row[2] for row in rows],
        [row[3] for row in rows],
        [_ms(row[4]) - opened_ms for row in rows],
        [fates.index((row[5], row[6], _ms(row[7]))) for row in rows],
    ]
    return {
        "format": FORMAT,
        "spec": json.loads(spec),
        "opened_ms": opened_ms,
        "outcome": json.loads(outcome) if outcome else None,
        "heard_ms": _ms(heard_at) if heard_at is not None else None,
        "aggregate": _aggregate(aggregate, members, devices),
        "late_members": db.execute(_LATE, (round_id,)).fetchall(),
        "devices": devices,
        "num_invited": len(names),  # the first so many of `devices`
        "bases": bases,
        "fates": fates,
        "updates": dict(zip(_COLUMNS, columns, strict=True)),
        "evaluated": _marks(evaluated, devices),
        "refusals": [
            [name, reason, num, _ms(at)]
            for name, reason, num, at in db.execute(_REFUSALS, (round_id,))
        ],
    }


def _aggregate(
    values: Sequence[Any], members: Sequence[str], devices: Sequence[str]
) -> dict[str, Any] | None:
    digest, weight, num_updates, num_evaluations, complete, path, frozen_at = values
    if digest is None:
        return None
    return {
        "digest": digest,
        "weight": weight,
        "num_updates": num_updates,
        "num_evaluations": num_evaluations,
        "complete": bool(complete),
        "path": path,
        "frozen_ms": _ms(frozen_at),
        "members": _marks(members, devices),
    }


def _head(round_id: int, body: Body) -> dict[str, Any]:
    aggregate, outcome = body["aggregate"] or {}, body["outcome"] or {}
    return {
        "round_id": round_id,
        "num_invited": body["num_invited"],
        "num_updates": aggregate.get("num_updates"),
        "num_evaluations": aggregate.get("num_evaluations"),
        "num_refused": sum(num for _, why, num, _ in body["refusals"] if SET_ASIDE not in why),
        "weight": aggregate.get("weight"),
        "aggregate_digest": aggregate.get("digest"),
        "end": outcome.get("end", "open"),
        "reason": outcome.get("reason", ""),
    }


def _marks(chosen: Sequence[str], devices: Sequence[str]) -> str:
    """One digit a device: 1 for each that was chosen."""
    names = set(chosen)
    return "".join("1" if name in names else "0" for name in devices)


def _ms(at: float) -> int:
    return round(at * 1000)

"""What an edge node's ledger holds, as the auditor reads it from outside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import archive
from tests.faults.book import Key

ARCHIVED = "archived"
_MESSAGES = "SELECT device, subject, key, round_id, delivered_digest, num_examples FROM messages"
_FATES = "SELECT device, base_digest, fate, round_id FROM fates"
_WAITING = (
    "SELECT device, base_digest, EXISTS (SELECT 1 FROM payloads WHERE message_id = id) FROM waiting"
)
_AGGREGATES = "SELECT round_id, digest, path FROM aggregates"
_REVOKED = "SELECT device FROM consents WHERE consent = 'revoked'"
_MEMBERS = """
    SELECT round_id, device, json_extract(spec, '$.base_digest')
    FROM aggregate_members JOIN rounds USING (round_id)
    UNION ALL SELECT round_id, device, base_digest FROM late_members
"""


@dataclass(frozen=True)
class Edge:
    """What one edge node's ledger held at a moment.

    Attributes
    ----------
    rows : dict of Key to (delivered digest, round, num_examples)
        What is stored; of an archived evaluation the digest is `ARCHIVED`.
    fates : dict of (device, base digest) to (fate, round)
        What became of updates.
    waiting : dict of (device, base digest) to bool
        Updates without a fate; whether their bytes are still there.
    aggregates : dict of int to (digest, path)
        By round; of an archived one there is no file.
    members : dict of int to list of (device, base digest)
        Whose updates are in a round's aggregate; those for another base than the round's are late.
    revoked : frozenset of str
        Devices whose consent was ever withdrawn.
    """

    hospital: str
    folder: Path
    rows: dict[Key, tuple[str, int, int]]
    fates: dict[tuple[str, str], tuple[str, int]]
    waiting: dict[tuple[str, str], bool]
    aggregates: dict[int, tuple[str, str]]
    members: dict[int, list[tuple[str, str]]]
    revoked: frozenset[str] = frozenset()


def read_edge(hospital: str, folder: Path) -> Edge:
    """Read an edge node's ledger as it is now, in one transaction, archived rounds too."""
    path = folder / "ledger.sqlite"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10)) as db:
        db.execute("BEGIN")
        edge = Edge(
            hospital,
            folder,
            rows={(d, s, k): (c, r, n) for d, s, k, r, c, n in db.execute(_MESSAGES)},
            fates={(d, b): (f, r) for d, b, f, r in db.execute(_FATES)},
            waiting={(d, b): bool(there) for d, b, there in db.execute(_WAITING)},
            aggregates={r: (digest, name) for r, digest, name in db.execute(_AGGREGATES)},
            members={},
            revoked=frozenset(device for (device,) in db.execute(_REVOKED)),
        )
        for round_id, device, base in db.execute(_MEMBERS):
            edge.members.setdefault(round_id, []).append((device, base))
        for (round_id,) in db.execute("SELECT round_id FROM archives").fetchall():
            _add_archived(edge, round_id, archive.read(db, round_id))
    return edge


def _add_archived(edge: Edge, round_id: int, body: dict[str, Any]) -> None:
    for row in archive.updates(round_id, body):
        key = (row["device"], row["base_digest"])
        edge.rows[row["device"], "update", row["base_digest"]] = (
            row["delivered_digest"],
            round_id,
            row["num_examples"],
        )
        edge.fates[key] = (row["fate"], row["fate_round"])
    for device in _marked(body["evaluated"], body):
        edge.rows[device, "evaluation", str(round_id)] = (ARCHIVED, round_id, 0)
    if body["aggregate"]:
        edge.aggregates[round_id] = (body["aggregate"]["digest"], "")
        base = body["spec"]["base_digest"]
        fresh = [(device, base) for device in _marked(body["aggregate"]["members"], body)]
        edge.members[round_id] = [*fresh, *((d, b) for d, b in body["late_members"])]


def _marked(marks: str, body: dict[str, Any]) -> list[str]:
    return [name for name, mark in zip(body["devices"], marks, strict=True) if mark == "1"]

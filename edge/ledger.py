"""The edge node's ledger: SQLite in WAL mode with full sync, so that a receipt means stored.

One thread writes.  `transaction` groups a batch of messages into one commit; nothing is told to
anyone before it returns.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from common.errors import ConfigError
from common.messages import Fate, FixedPoint, Reason, RoundOutcome, RoundSpec
from edge import archive
from edge.intake import Received, Subject
from edge.rounds import Frozen
from edge.screening import Key, SetAside
from edge.upgrade import bring_up

Consent = Literal["revoked", "given"]
FILE_NAME = "ledger.sqlite"
# SQLite's own 2000 KiB fill within some 400 rounds; the system keeps the file's pages anyway.
CACHE_KIB = 256
# An update is a few of these; SQLite's own 4 KiB cost twice the time to write one of 20 to 64 kB.
PAGE_BYTES = 16384
_FATE_OF_MEMBERS = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting
    WHERE base_digest = ?
      AND device IN (SELECT device FROM aggregate_members WHERE round_id = ?)
"""
_FATE_OF_LATE = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting
    WHERE (device, base_digest) IN
        (SELECT device, base_digest FROM late_members WHERE round_id = ?)
"""
_FATE_OF_REVOKED = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting
    WHERE device IN (SELECT value FROM json_each(?)) AND NOT EXISTS (
        SELECT 1 FROM aggregates AS summed
        WHERE summed.round_id = (SELECT MAX(round_id) FROM rounds)
          AND summed.round_id NOT IN (SELECT round_id FROM outcomes)
          AND (device IN (SELECT device FROM aggregate_members
                          WHERE round_id = summed.round_id)
               AND base_digest = (SELECT json_extract(spec, '$.base_digest') FROM rounds
                                  WHERE round_id = summed.round_id)
            OR (device, base_digest) IN (SELECT device, base_digest FROM late_members
                                         WHERE round_id = summed.round_id)))
"""
_UNSUMMED_EVALUATIONS = """
    SELECT id FROM messages WHERE subject = 'evaluation'
      AND device IN (SELECT value FROM json_each(?))
      AND round_id NOT IN (SELECT round_id FROM aggregates UNION SELECT round_id FROM outcomes)
"""
_FATE_OF_BASE = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting WHERE base_digest = ?
"""
_FATE_OF_ALL = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting WHERE round_id <= ?
"""
_FORM = """
    SELECT json_extract(spec, '$.fixed_point') FROM rounds
    WHERE json_extract(spec, '$.base_digest') = ?
      AND round_id > (SELECT COALESCE(MAX(last_round_id), 0) FROM restores) LIMIT 1
"""
_FATE_OF_OTHER_BASES = """
    INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting
    WHERE base_digest NOT IN (SELECT value FROM json_each(?))
"""
_MAY_COUNT_LATER = """
    SELECT 1 FROM rounds WHERE json_extract(spec, '$.base_digest') = ?
      AND json_extract(spec, '$.max_staleness') > 0
"""
_DROP_DECIDED = """
    DELETE FROM payloads WHERE message_id IN (
        SELECT id FROM payloads JOIN messages ON id = message_id
        WHERE subject = 'update' AND id NOT IN (SELECT id FROM waiting))
"""
_DROP_EVALUATIONS = """
    DELETE FROM payloads WHERE message_id IN (
        SELECT id FROM payloads JOIN messages ON id = message_id
        WHERE subject = 'evaluation' AND round_id <= ?)
"""


@dataclass(frozen=True)
class StoredMessage:
    """What the ledger knows of one delivery; of an archived one no `content_digest`."""

    content_digest: str
    delivered_digest: str


class Delivered(NamedTuple):
    """Devices with a stored message for a round: an update for its base, a late one, an evaluation.

    An update that was quarantined has been delivered all the same.
    """

    updated: set[str]
    late: set[str]
    evaluated: set[str]


@dataclass(frozen=True)
class Archived:
    """A round that is archived now, and the name of its aggregate's file."""

    round_id: int
    aggregate: str | None


class Ledger:
    """Everything this hospital must not forget.

    Raises
    ------
    ConfigError
        When the file is no ledger of this version.
    """

    def __init__(self, state_dir: Path) -> None:
        path = state_dir / FILE_NAME
        try:
            state_dir.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # of a new file
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
            bring_up(self._db, path)
            self._data_version = 0
            self.changed_elsewhere()
        except (sqlite3.DatabaseError, OSError) as fault:
            raise ConfigError(f"{path} is no ledger: {fault}") from fault

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written inside, or nothing of it."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # SQLite has rolled back by itself after some faults
                self._db.execute("ROLLBACK")
            raise

    def stored(self, subject: Subject, device: str, key: str) -> StoredMessage | None:
        """The delivery of `device` for that base or round, if there is one."""
        row = self._db.execute(
            "SELECT content_digest, delivered_digest FROM messages"
            " WHERE subject = ? AND device = ? AND key = ?",
            (subject, device, key),
        ).fetchone()
        if row is None and subject == "update":
            return self._archived(device, key)
        return StoredMessage(*row) if row else None

    def archive_oldest(self, keep_rounds: int, now: float) -> Archived | None:
        """Move the oldest round, if more than `keep_rounds` ago, into one row (`edge.archive`)."""
        round_id = archive.oldest(self._db, keep_rounds)
        if round_id is None:
            return None
        with self.transaction():
            return Archived(round_id, archive.archive(self._db, round_id, now))

    def give_back(self) -> None:
        """Shrink the file to what is in it; takes as much room again while it works."""
        self._db.execute("VACUUM")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def store(self, received: Received, now: float) -> None:
        """Insert an accepted message; its key must be free."""
        header = received.header
        cursor = self._db.execute(
            "INSERT INTO messages (subject, device, key, round_id, content_digest,"
            " delivered_digest, num_examples, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                received.subject,
                received.device,
                received.key,
                header.round_id,
                received.content_digest,
                received.delivered_digest,
                header.num_examples,
                now,
            ),
        )
        self._db.execute("INSERT INTO payloads VALUES (?, ?)", (cursor.lastrowid, received.data))

    def refuse(self, round_id: int, device: str, reason: Reason, now: float) -> None:
        """Count a refusal; `device` is a name of the roster, or empty."""
        self._db.execute(
            "INSERT INTO refusals VALUES (?, ?, ?, 1, ?) ON CONFLICT (round_id, device, reason)"
            " DO UPDATE SET num = num + 1, last_at = excluded.last_at",
            (round_id, device, reason.value, now),
        )

    def num_refused(self, round_id: int) -> int:
        """How many messages were refused in a round."""
        (num,) = self._db.execute(
            "SELECT COALESCE(SUM(num), 0) FROM refusals WHERE round_id = ?", (round_id,)
        ).fetchone()
        return int(num)

    def open_round(self, spec: RoundSpec, invited: Iterable[str], now: float) -> None:
        """Insert a round and its sample."""
        self._db.execute(
            "INSERT INTO rounds VALUES (?, ?, ?, ?)",
            (spec.round_id, spec.model_dump_json(), json.dumps(sorted(invited)), now),
        )

    def round(self, round_id: int) -> tuple[RoundSpec, frozenset[str]] | None:
        """Spec and sample of a round that was opened here."""
        row = self._db.execute(
            "SELECT spec, invited FROM rounds WHERE round_id = ?", (round_id,)
        ).fetchone()
        return (
            (RoundSpec.model_validate_json(row[0]), frozenset(json.loads(row[1]))) if row else None
        )

    def last_round_id(self) -> int:
        """The highest round opened here; 0 before the first."""
        (number,) = self._db.execute("SELECT COALESCE(MAX(round_id), 0) FROM rounds").fetchone()
        return int(number)

    def delivered(self, spec: RoundSpec) -> Delivered:
        """Whose messages for a round are in."""
        waiting = self._db.execute(
            "SELECT device, base_digest FROM waiting"
            " WHERE base_digest IN (SELECT value FROM json_each(?))",
            (json.dumps([spec.base_digest, *spec.late_bases]),),
        ).fetchall()
        evaluated = self._db.execute(
            "SELECT device FROM messages JOIN payloads ON message_id = id"
            " WHERE subject = 'evaluation' AND key = ?",
            (str(spec.round_id),),
        )
        quarantined = self._db.execute(
            "SELECT device FROM quarantine WHERE base_digest = ?", (spec.base_digest,)
        )
        return Delivered(
            {device for device, base in waiting if base == spec.base_digest}
            | {device for (device,) in quarantined},
            {device for device, base in waiting if base != spec.base_digest},
            {device for (device,) in evaluated},
        )

    def updates(self, base_digests: Iterable[str]) -> Iterator[bytes]:
        """Bytes of all updates for those bases that have no fate yet, by device."""
        places = self._db.execute(
            "SELECT id FROM waiting"
            " WHERE base_digest IN (SELECT value FROM json_each(?)) ORDER BY device, base_digest",
            (json.dumps(list(base_digests)),),
        ).fetchall()
        for place in places:
            yield from self._db.execute(
                "SELECT data FROM payloads WHERE message_id = ?", place
            ).fetchone()

    def form(self, base_digest: str) -> FixedPoint | None:
        """How updates for a base were made into integers, if late ones may count here.

        That is so when a round of it was opened here, and since the last restore: whose updates for
        an earlier base counted after the backup is not known any more, and none may count twice.
        """
        row = self._db.execute(_FORM, (base_digest,)).fetchone()
        return FixedPoint.model_validate_json(row[0]) if row else None

    def __contains__(self, base_digest: object) -> bool:
        """Whether a round of that base was opened here."""
        query = "SELECT 1 FROM rounds WHERE json_extract(spec, '$.base_digest') = ? LIMIT 1"
        return self._any(query, base_digest)

    def evaluations(self, round_id: int) -> Iterator[bytes]:
        """Bytes of a round's evaluations, by device."""
        for (data,) in self._db.execute(
            "SELECT data FROM messages JOIN payloads ON message_id = id"
            " WHERE subject = 'evaluation' AND key = ? ORDER BY device",
            (str(round_id),),
        ):
            yield data

    def freeze(
        self,
        round_id: int,
        frozen: Frozen,
        members: Iterable[str],
        now: float,
        late_members: Iterable[Key] = (),
        quarantined: Mapping[Key, SetAside] = MappingProxyType({}),
    ) -> None:
        """Insert a round's aggregate and whose updates are in it; late ones with their base.

        Those that were set aside get their fate here, whatever becomes of the round.
        """
        self._db.execute(
            "INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                round_id,
                frozen.digest,
                frozen.weight,
                frozen.num_updates,
                frozen.num_evaluations,
                frozen.complete,
                frozen.path,
                now,
            ),
        )
        self._db.executemany(
            "INSERT INTO aggregate_members VALUES (?, ?)", ((round_id, name) for name in members)
        )
        self._db.executemany(
            "INSERT INTO late_members VALUES (?, ?, ?)", ((round_id, *key) for key in late_members)
        )
        self._quarantine(round_id, quarantined, now)

    def frozen(self, round_id: int) -> Frozen | None:
        """A round's aggregate, if it was folded."""
        row = self._db.execute(
            "SELECT digest, weight, num_updates, num_evaluations, path, complete"
            " FROM aggregates WHERE round_id = ?",
            (round_id,),
        ).fetchone()
        if row is None:
            return None
        digest, weight, num_updates, num_evaluations, path, complete = row
        return Frozen(digest, weight, num_updates, num_evaluations, path, bool(complete))

    def has_outcome(self, round_id: int) -> bool:
        """Whether the end of a round is known here, or was long ago (it is archived)."""
        query = "SELECT round_id FROM outcomes UNION ALL SELECT round_id FROM archives"
        return self._any(f"SELECT 1 FROM ({query}) WHERE round_id = ?", round_id)  # noqa: S608 -- ours

    def settle(self, outcome: RoundOutcome, hospital: str, now: float) -> None:
        """Record how a round ended, and the fate of each update whose base it committed.

        A round of a slow group that this hospital is not in says nothing of its updates.
        """
        self._db.execute(
            "INSERT INTO outcomes VALUES (?, ?, ?)",
            (outcome.round_id, outcome.model_dump_json(), now),
        )
        concerned = not outcome.group or hospital in outcome.group
        if outcome.end == "committed" and outcome.purpose == "train" and concerned:
            self._count(outcome, hospital, now)
        self._db.execute(_DROP_EVALUATIONS, (outcome.round_id,))

    def mark_stale(self, base_digests: Iterable[str], round_id: int, now: float) -> None:
        """Give every waiting update for another base than these its fate: stale."""
        stale = (Fate.STALE.value, round_id, now, json.dumps(list(base_digests)))
        self._db.execute(_FATE_OF_OTHER_BASES, stale)
        self._db.execute(_DROP_DECIDED)

    def withdraw(self, devices: Iterable[str], now: float) -> int:
        """Give the devices' waiting updates their fate, withdrawn, and forget their evaluations.

        What is in the open round's aggregate already is not touched: a ring may be adding it up.

        Returns
        -------
        int
            How many updates.
        """
        listed = json.dumps(sorted(devices))
        withdrawn = (Fate.WITHDRAWN.value, self.last_round_id(), now, listed)
        num = self._db.execute(_FATE_OF_REVOKED, withdrawn).rowcount
        self._db.execute(_DROP_DECIDED)
        unsummed = self._db.execute(_UNSUMMED_EVALUATIONS, (listed,)).fetchall()
        self._db.executemany("DELETE FROM payloads WHERE message_id = ?", unsummed)
        self._db.executemany("DELETE FROM messages WHERE id = ?", unsummed)
        return num

    def decide(self, device: str, consent: Consent, note: str, now: float) -> None:
        """Insert an operator's word on a device."""
        self._db.execute(
            "INSERT INTO consents (device, consent, note, decided_at) VALUES (?, ?, ?, ?)",
            (device, consent, note, now),
        )

    def revoked(self) -> frozenset[str]:
        """Devices whose last consent was withdrawn."""
        rows = self._db.execute(
            "SELECT device FROM consents WHERE consent = 'revoked'"
            " AND id IN (SELECT MAX(id) FROM consents GROUP BY device)"
        )
        return frozenset(device for (device,) in rows)

    def mute(self, device: str, reason: str, now: float, until: float) -> None:
        """Insert until when nothing is taken of a device."""
        self._db.execute(
            "INSERT INTO mutes (device, reason, muted_at, muted_until) VALUES (?, ?, ?, ?)",
            (device, reason, now, until),
        )

    def mutes(self) -> dict[str, float]:
        """Until when each device was muted last."""
        return dict(
            self._db.execute(
                "SELECT device, muted_until FROM mutes"
                " WHERE id IN (SELECT MAX(id) FROM mutes GROUP BY device)"
            )
        )

    def changed_elsewhere(self) -> bool:
        """Whether another process has written since this was asked last."""
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        before, self._data_version = self._data_version, version
        return bool(before != version)

    def first_waiting_round(self) -> int | None:
        """The lowest round of a stored update without a fate."""
        (first,) = self._db.execute("SELECT MIN(round_id) FROM waiting").fetchone()
        return None if first is None else int(first)

    def note_join(self, generation: int, round_id: int, now: float) -> None:
        """Record that the rank is sent into a ring."""
        self._db.execute("INSERT INTO joins VALUES (?, ?, ?)", (generation, round_id, now))

    def was_sent(self, generation: int) -> bool:
        """Whether a rank of this hospital was ever sent into that generation."""
        return self._any("SELECT 1 FROM joins WHERE generation = ? LIMIT 1", generation)

    def joined(self, generation: int, round_id: int) -> bool:
        """Whether a rank was sent into that generation for that round."""
        query = "SELECT 1 FROM joins WHERE generation = ? AND round_id = ?"
        return self._any(query, generation, round_id)

    def offered(self) -> set[str]:
        """Models that this node retains on the hospital broker."""
        return {digest for (digest,) in self._db.execute("SELECT digest FROM offers")}

    def note_offers(self, digests: Iterable[str]) -> None:
        """Record models before they are retained."""
        rows = ((digest,) for digest in digests)
        self._db.executemany("INSERT OR IGNORE INTO offers VALUES (?)", rows)

    def forget_offer(self, digest: str) -> None:
        """Record that a model was cleared from the broker."""
        self._db.execute("DELETE FROM offers WHERE digest = ?", (digest,))

    def _archived(self, device: str, base_digest: str) -> StoredMessage | None:
        digest = archive.stored(self._db, device, base_digest)
        return None if digest is None else StoredMessage("", digest)

    def _quarantine(self, round_id: int, quarantined: Mapping[Key, SetAside], now: float) -> None:
        if not quarantined:
            return
        self._db.executemany(
            "INSERT INTO quarantine VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (round_id, *key, told.suspicion.value, told.score, told.limit, now)
                for key, told in quarantined.items()
            ),
        )
        self._db.executemany(
            "INSERT INTO fates VALUES (?, ?, ?, ?, ?)",
            ((*key, Fate.QUARANTINED.value, round_id, now) for key in quarantined),
        )
        self._db.execute(_DROP_DECIDED)

    def _any(self, query: str, *values: object) -> bool:
        return self._db.execute(query, values).fetchone() is not None

    def _count(self, outcome: RoundOutcome, hospital: str, now: float) -> None:
        number, base = outcome.round_id, outcome.base_digest
        frozen = self.frozen(number)
        if frozen and outcome.aggregates.get(hospital) == frozen.digest:
            self._db.execute(_FATE_OF_MEMBERS, (Fate.COUNTED.value, number, now, base, number))
            self._db.execute(_FATE_OF_LATE, (Fate.COUNTED.value, number, now, number))
        elif hospital in outcome.aggregates:
            # Known of a node whose ledger was restored since: any of these may be in that sum.
            self._db.execute(_FATE_OF_ALL, (Fate.LEFT_OUT.value, number, now, number))
        if not self._any(_MAY_COUNT_LATER, base):
            self._db.execute(_FATE_OF_BASE, (Fate.LEFT_OUT.value, number, now, base))
        self._db.execute(_DROP_DECIDED)

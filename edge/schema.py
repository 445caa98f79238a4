"""Tables of an edge node's ledger.  Rows are inserted, never changed, except where noted.

New tables, indexes and views keep the version; `edge.upgrade` says what raises it.
"""

from __future__ import annotations

SCHEMA_VERSION = 1

# Updates that are stored and have no fate yet.  By their payloads, which go with the fate, so that
# a look costs what waits and not what the ledger holds.
WAITING = """
CREATE VIEW waiting AS
    SELECT id, device, key AS base_digest, round_id
    FROM payloads CROSS JOIN messages ON id = message_id
    WHERE subject = 'update' AND NOT EXISTS (
        SELECT 1 FROM fates
        WHERE fates.device = messages.device AND fates.base_digest = messages.key)
"""

SCHEMA = """
-- what was stored: an update for a base, an evaluation in a round ('key' says which), only once
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    subject TEXT NOT NULL CHECK (subject IN ('update', 'evaluation')),
    device TEXT NOT NULL,
    key TEXT NOT NULL,
    round_id INTEGER NOT NULL,
    content_digest TEXT NOT NULL,
    delivered_digest TEXT NOT NULL,
    num_examples INTEGER NOT NULL,
    stored_at REAL NOT NULL,
    UNIQUE (subject, device, key)
);
-- the bytes of those not yet counted; deleted with their fate, since nobody needs them after it
CREATE TABLE IF NOT EXISTS payloads (
    message_id INTEGER PRIMARY KEY REFERENCES messages (id),
    data BLOB NOT NULL
);
-- refusals are counters, so that a misbehaving wristband cannot fill the disk
CREATE TABLE IF NOT EXISTS refusals (
    round_id INTEGER NOT NULL,
    device TEXT NOT NULL,
    reason TEXT NOT NULL,
    num INTEGER NOT NULL,
    last_at REAL NOT NULL,
    PRIMARY KEY (round_id, device, reason)
);
CREATE TABLE IF NOT EXISTS rounds (
    round_id INTEGER PRIMARY KEY,
    spec TEXT NOT NULL,
    invited TEXT NOT NULL,
    opened_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS aggregates (
    round_id INTEGER PRIMARY KEY REFERENCES rounds (round_id),
    digest TEXT NOT NULL,
    weight INTEGER NOT NULL,
    num_updates INTEGER NOT NULL,
    num_evaluations INTEGER NOT NULL,
    complete INTEGER NOT NULL,
    path TEXT NOT NULL,
    frozen_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS aggregate_members (
    round_id INTEGER NOT NULL REFERENCES aggregates (round_id),
    device TEXT NOT NULL,
    PRIMARY KEY (round_id, device)
);
CREATE TABLE IF NOT EXISTS outcomes (
    round_id INTEGER PRIMARY KEY,
    outcome TEXT NOT NULL,
    heard_at REAL NOT NULL
);
-- one fate for one stored update: the primary key makes a second one impossible
CREATE TABLE IF NOT EXISTS fates (
    device TEXT NOT NULL,
    base_digest TEXT NOT NULL,
    fate TEXT NOT NULL,
    round_id INTEGER NOT NULL,
    decided_at REAL NOT NULL,
    PRIMARY KEY (device, base_digest)
);
-- rings this hospital was sent into, so that none is entered twice after a restart
CREATE TABLE IF NOT EXISTS joins (
    generation INTEGER NOT NULL,
    round_id INTEGER NOT NULL,
    joined_at REAL NOT NULL,
    PRIMARY KEY (generation, round_id)
);
-- late updates in an aggregate; those for the round's own base are in aggregate_members
CREATE TABLE IF NOT EXISTS late_members (
    round_id INTEGER NOT NULL REFERENCES aggregates (round_id),
    device TEXT NOT NULL,
    base_digest TEXT NOT NULL,
    PRIMARY KEY (round_id, device, base_digest)
);
-- what wearers and operators decided, the last word counts
CREATE TABLE IF NOT EXISTS consents (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    consent TEXT NOT NULL CHECK (consent IN ('revoked', 'given')),
    note TEXT NOT NULL,
    decided_at REAL NOT NULL
);
-- whose messages are not looked at for a while, and why; the last row of a device counts
CREATE TABLE IF NOT EXISTS mutes (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    reason TEXT NOT NULL,
    muted_at REAL NOT NULL,
    muted_until REAL NOT NULL
);
-- updates that the screen of a round set aside, beside their fate
CREATE TABLE IF NOT EXISTS quarantine (
    round_id INTEGER NOT NULL,
    device TEXT NOT NULL,
    base_digest TEXT NOT NULL,
    reason TEXT NOT NULL,
    score REAL NOT NULL,
    allowed REAL NOT NULL,
    decided_at REAL NOT NULL,
    PRIMARY KEY (device, base_digest)
);
CREATE INDEX IF NOT EXISTS rounds_by_base ON rounds (json_extract(spec, '$.base_digest'));
-- models retained on the hospital broker; deleted when cleared there
CREATE TABLE IF NOT EXISTS offers (digest TEXT PRIMARY KEY);
-- rounds of long ago: the rows above, in 'body' as `edge.archive` packs them; 'head' for reports
CREATE TABLE IF NOT EXISTS archives (
    round_id INTEGER PRIMARY KEY,
    archived_at REAL NOT NULL,
    num_updates INTEGER NOT NULL,
    head TEXT NOT NULL,
    body BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS archived_bases (
    base_digest TEXT NOT NULL,
    round_id INTEGER NOT NULL REFERENCES archives (round_id),
    PRIMARY KEY (base_digest, round_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS messages_by_round ON messages (round_id);
-- backups that this ledger was restored from: what came after one may have counted, unknown here
CREATE TABLE IF NOT EXISTS restores (
    id INTEGER PRIMARY KEY,
    made_at REAL NOT NULL,
    last_round_id INTEGER NOT NULL,
    restored_at REAL NOT NULL
);
"""

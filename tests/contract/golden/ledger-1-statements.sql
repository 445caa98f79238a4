-- What the program of ledger version 1 says to SQLite: its schema at each start, then by name its statements.
-- name: schema
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
-- updates that are stored and have no fate yet
CREATE VIEW IF NOT EXISTS waiting AS
    SELECT id, device, key AS base_digest, round_id FROM messages
    WHERE subject = 'update' AND NOT EXISTS (
        SELECT 1 FROM fates
        WHERE fates.device = messages.device AND fates.base_digest = messages.key);
-- rings this hospital was sent into, so that none is entered twice after a restart
CREATE TABLE IF NOT EXISTS joins (
    generation INTEGER NOT NULL,
    round_id INTEGER NOT NULL,
    joined_at REAL NOT NULL,
    PRIMARY KEY (generation, round_id)
);
-- models retained on the hospital broker; deleted when cleared there
CREATE TABLE IF NOT EXISTS offers (digest TEXT PRIMARY KEY);

-- name: stored
SELECT content_digest, delivered_digest FROM messages WHERE subject = ? AND device = ? AND key = ?

-- name: store
INSERT INTO messages (subject, device, key, round_id, content_digest, delivered_digest, num_examples, stored_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: store_2
INSERT INTO payloads VALUES (?, ?)

-- name: refuse
INSERT INTO refusals VALUES (?, ?, ?, 1, ?) ON CONFLICT (round_id, device, reason) DO UPDATE SET num = num + 1, last_at = excluded.last_at

-- name: num_refused
SELECT COALESCE(SUM(num), 0) FROM refusals WHERE round_id = ?

-- name: open_round
INSERT INTO rounds VALUES (?, ?, ?, ?)

-- name: round
SELECT spec, invited FROM rounds WHERE round_id = ?

-- name: last_round_id
SELECT COALESCE(MAX(round_id), 0) FROM rounds

-- name: delivered
SELECT device FROM waiting WHERE base_digest = ?

-- name: delivered_2
SELECT device FROM messages WHERE subject = 'evaluation' AND key = ?

-- name: updates
SELECT data FROM waiting JOIN payloads ON message_id = id WHERE base_digest = ? ORDER BY device

-- name: evaluations
SELECT data FROM messages JOIN payloads ON message_id = id WHERE subject = 'evaluation' AND key = ? ORDER BY device

-- name: freeze
INSERT INTO aggregates VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: freeze_2
INSERT INTO aggregate_members VALUES (?, ?)

-- name: frozen
SELECT digest, weight, num_updates, num_evaluations, path, complete FROM aggregates WHERE round_id = ?

-- name: has_outcome
SELECT 1 FROM outcomes WHERE round_id = ?

-- name: settle
INSERT INTO outcomes VALUES (?, ?, ?)

-- name: settle_2
DELETE FROM payloads WHERE message_id IN ( SELECT id FROM payloads JOIN messages ON id = message_id WHERE subject = 'evaluation' AND round_id <= ?)

-- name: mark_stale
INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting WHERE base_digest != ?

-- name: mark_stale_2
DELETE FROM payloads WHERE message_id IN ( SELECT id FROM payloads JOIN messages ON id = message_id WHERE subject = 'update' AND id NOT IN (SELECT id FROM waiting))

-- name: first_waiting_round
SELECT MIN(round_id) FROM waiting

-- name: note_join
INSERT INTO joins VALUES (?, ?, ?)

-- name: was_sent
SELECT 1 FROM joins WHERE generation = ? LIMIT 1

-- name: joined
SELECT 1 FROM joins WHERE generation = ? AND round_id = ?

-- name: offered
SELECT digest FROM offers

-- name: note_offers
INSERT OR IGNORE INTO offers VALUES (?)

-- name: forget_offer
DELETE FROM offers WHERE digest = ?

-- name: _count
INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting WHERE base_digest = ?

-- name: _count_2
DELETE FROM payloads WHERE message_id IN ( SELECT id FROM payloads JOIN messages ON id = message_id WHERE subject = 'update' AND id NOT IN (SELECT id FROM waiting))

-- name: _count_3
INSERT INTO fates SELECT device, base_digest, ?, ?, ? FROM waiting WHERE base_digest = ? AND device IN (SELECT device FROM aggregate_members WHERE round_id = ?)

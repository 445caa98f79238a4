"""The region's ledger: an append-only SQLite table of records (WAL, full sync)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Lock

from pydantic import TypeAdapter

from common.errors import ConfigError, ContractError
from common.wire import encode_json
from regional.records import Record, key_of

_RECORD: TypeAdapter[Record] = TypeAdapter(Record)
SCHEMA_VERSION = 2
ROWS_AT_A_TIME = 256
CACHE_KIB = 256  # the whole is read once, at a start
_SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    key INTEGER,
    body TEXT NOT NULL,
    UNIQUE (kind, key)
);
CREATE TRIGGER IF NOT EXISTS records_stay BEFORE UPDATE ON records
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER IF NOT EXISTS records_remain BEFORE DELETE ON records
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Ledger:
    """Opens or makes the ledger at `path`; used from any thread.

    Raises
    ------
    ConfigError
        When the file cannot be opened or is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(f"PRAGMA cache_size = {-CACHE_KIB}")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version not in (0, SCHEMA_VERSION):
                raise ConfigError(f"{path} has version {version}, this program {SCHEMA_VERSION}")
            self._db.executescript(_SCHEMA)
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._version = self._data_version()
        except (OSError, sqlite3.Error) as fault:
            raise ConfigError(f"ledger {path} cannot be opened: {fault}") from fault

    def append(self, records: Sequence[Record], now: float) -> None:
        """Write all of `records` or none; when it returns, they are on disk.

        Raises
        ------
        ContractError
            When one of them was written before, such as a round's second outcome.
        """
        rows = [(now, r.kind, key_of(r), encode_json(r).decode()) for r in records]
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "INSERT INTO records (at, kind, key, body) VALUES (?, ?, ?, ?)", rows
                )
            except sqlite3.IntegrityError as fault:
                kinds = ", ".join(f"{row[1]} {row[2]}" for row in rows)
                raise ContractError(f"the ledger holds one of {kinds} already") from fault

    def records(self) -> list[Record]:
        """All records, oldest first."""
        return list(self.each())

    def each(self) -> Iterator[Record]:
        """All records, oldest first, with few of them in memory at a time."""
        last = 0
        while rows := self._rows_after(last):
            for _, body in rows:
                yield _RECORD.validate_json(body)
            last = rows[-1][0]

    def _rows_after(self, seq: int) -> list[tuple[int, str]]:
        query = "SELECT seq, body FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
        with self._lock:
            return self._db.execute(query, (seq, ROWS_AT_A_TIME)).fetchall()

    def written_by_others(self) -> bool:
        """Whether another process, such as an operator's command, has written since last asked."""
        with self._lock:
            version, self._version = self._version, self._data_version()
        return version != self._version

    def _data_version(self) -> int:
        (version,) = self._db.execute("PRAGMA data_version").fetchone()
        return int(version)

    def settings(self) -> tuple[str, int]:
        """SQLite's journal mode and its level of synchronisation (2 is FULL)."""
        with self._lock:
            (journal,) = self._db.execute("PRAGMA journal_mode").fetchone()
            (level,) = self._db.execute("PRAGMA synchronous").fetchone()
        return str(journal), int(level)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def read_record(path: Path, kind: str, key: int) -> Record | None:
    """The record of that kind and key (`regional.records.key_of`), if it was written.

    Raises
    ------
    ConfigError
        When no ledger lies at `path`.
    """
    found = _read(path, "SELECT body FROM records WHERE kind = ? AND key = ?", kind, key)
    return next(iter(found), None)


def read_records(path: Path) -> list[Record]:
    """Records of a running or stopped coordinator, oldest first, without writing.

    Raises
    ------
    ConfigError
        When no ledger lies at `path`.
    """
    return _read(path, "SELECT body FROM records ORDER BY seq")


def _read(path: Path, query: str, *values: str | int) -> list[Record]:
    if not path.exists():
        raise ConfigError(f"no ledger at {path}: was this coordinator ever started?")
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            rows = db.execute(query, values).fetchall()
    except sqlite3.Error as fault:
        raise ConfigError(f"ledger {path} cannot be read: {fault}") from fault
    return [_RECORD.validate_json(body) for (body,) in rows]

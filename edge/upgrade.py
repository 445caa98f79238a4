"""A ledger's file brought to what this program reads and writes.

**Additive changes keep `SCHEMA_VERSION`**: new tables, indexes and views; never a new column, never
another meaning of an old one.  So the program before goes on with a ledger that this one has
written (`tests/contract/test_golden_ledger.py` runs all its statements).  A change that breaks it
raises the version by one and comes with a migration, which runs in one transaction after the file
was copied; going back is then putting the copy in place, which loses what came after it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import structlog

from common.errors import ConfigError
from edge.schema import SCHEMA, SCHEMA_VERSION, WAITING

Migration = Callable[[sqlite3.Connection], None]
MIGRATIONS: Mapping[int, Migration] = {}
"""From the version that it starts from."""

log = structlog.get_logger()


def bring_up(
    db: sqlite3.Connection,
    path: Path,
    migrations: Mapping[int, Migration] = MIGRATIONS,
    newest: int = SCHEMA_VERSION,
) -> None:
    """Make or upgrade the tables of `db`, whose file is `path`.

    Raises
    ------
    ConfigError
        When the file is of a version that this program does not know.
    sqlite3.Error
        When a migration fails; the file is then as it was.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    steps = range(version, newest) if version else range(0)
    if version > newest or any(step not in migrations for step in steps):
        raise ConfigError(
            f"{path} has version {version}, this program {newest}: run the program that wrote it, "
            "or one after it"
        )
    for step in steps:
        _copy(db, path.with_name(f"{path.name}.v{step}"))
        _migrate(db, step, migrations[step])
        log.info("ledger_upgraded", path=str(path), version=step + 1)
    add_tables(db)
    if version != newest:
        db.execute(f"PRAGMA user_version = {newest}")


def add_tables(db: sqlite3.Connection) -> None:
    """Make what is not there yet; nothing is written where all of it is, beside a running node."""
    db.executescript(SCHEMA)
    query = "SELECT sql FROM sqlite_master WHERE type = 'view' AND name = 'waiting'"
    row = db.execute(query).fetchone()
    if row is not None and row[0].strip() == WAITING.strip():
        return
    db.execute("BEGIN IMMEDIATE")  # so that nobody finds none
    db.execute("DROP VIEW IF EXISTS waiting")
    db.execute(WAITING)
    db.execute("COMMIT")


def _migrate(db: sqlite3.Connection, version: int, migration: Migration) -> None:
    db.execute("BEGIN IMMEDIATE")
    try:
        migration(db)
        db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _copy(db: sqlite3.Connection, to: Path) -> None:
    """A copy that is there in whole or not at all; one of an earlier attempt is replaced."""
    partial = to.with_name(f".{to.name}")
    partial.unlink(missing_ok=True)
    with closing(sqlite3.connect(partial)) as into:
        db.backup(into)
    partial.replace(to)

"""Ledgers of the program before: this one goes on with them, and it with what this one wrote.

``golden/ledger-1.sql`` is a ledger as the program before late updates, archives and mutes left it,
in the middle of round 3; ``golden/ledger-1-statements.sql`` is all that this program says to
SQLite.  Neither is ever written anew: with a next version come next files.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.messages import Reason, RoundSpec
from edge import reports
from edge.ledger import FILE_NAME, Ledger
from edge.rounds import Frozen
from edge.schema import SCHEMA_VERSION
from edge.upgrade import bring_up
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    make_outcome,
    make_spec,
    make_update,
)
from tests.unit.edge.test_ledger import received

GOLDEN = Path(__file__).parent / "golden"
DUMP = (GOLDEN / "ledger-1.sql").read_text()


def statements() -> dict[str, str]:
    """The previous program's statements, by name."""
    found = {}
    for part in (GOLDEN / "ledger-1-statements.sql").read_text().split("-- name: ")[1:]:
        name, _, statement = part.partition("\n")
        found[name.strip()] = statement.strip()
    return found


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A state directory that the program before has left."""
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.executescript(DUMP)
    return tmp_path


@pytest.fixture
def ledger(old: Path) -> Iterator[Ledger]:
    opened = Ledger(old)
    yield opened
    opened.close()


def base_of_3(folder: Path) -> str:
    with closing(sqlite3.connect(folder / FILE_NAME)) as db:
        (spec,) = db.execute("SELECT spec FROM rounds WHERE round_id = 3").fetchone()
    return RoundSpec.model_validate_json(spec).base_digest


def fates(folder: Path) -> list[tuple[str, str]]:
    return [(row["device"], row["fate"]) for row in reports.updates(folder)]


BEFORE = [
    ("band-a", "counted"),
    ("band-b", "counted"),
    ("band-c", "left_out"),
    ("band-a", "waiting"),
    ("band-b", "waiting"),
]


def test_old_ledger_is_read_before_the_new_program_has_opened_it(old: Path) -> None:
    assert fates(old) == BEFORE
    assert [row["end"] for row in reports.rounds(old)] == ["committed", "skipped", "open"]
    assert reports.reasons(reports.refusals(old))[0]["num"] == 2
    assert reports.waiting(old) == 2


def test_old_ledger_goes_on_where_it_was(old: Path, ledger: Ledger) -> None:
    assert fates(old) == BEFORE
    base = base_of_3(old)
    spec, invited = ledger.round(3) or (None, frozenset())
    assert spec == make_spec(3, base)
    assert invited == {"band-a", "band-b", "band-c"}
    assert ledger.delivered(make_spec(3, base)).updated == {"band-a", "band-b"}
    assert len(list(ledger.updates([base]))) == 2
    frozen = ledger.frozen(3)
    assert frozen is not None
    with ledger.transaction():
        aggregates = {HOSPITAL: frozen.digest}
        ledger.settle(make_outcome(3, base_digest=base, aggregates=aggregates), HOSPITAL, 40.0)
    assert fates(old) == [*BEFORE[:3], ("band-a", "counted"), ("band-b", "counted")]
    before = reports.updates(old)
    assert ledger.archive_oldest(1, 50.0)
    assert ledger.archive_oldest(1, 50.0)
    assert reports.updates(old) == before


def test_version_stays_while_changes_are_additive(old: Path, ledger: Ledger) -> None:
    ledger.revoked()  # of a table that the program before does not have
    with closing(sqlite3.connect(old / FILE_NAME)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    assert SCHEMA_VERSION == 1


def written_by_this_program(folder: Path) -> str:
    """A ledger in which everything new has been used; the base of its open round."""
    ledger = Ledger(folder)
    base = "9" * 64
    for number in (1, 2):
        own = f"{number:064x}"
        with ledger.transaction():
            spec = make_spec(number, own, max_staleness=2)
            ledger.open_round(spec, ["band-a"], number)
            update = make_update("band-a", round_id=number, base_digest=own)
            ledger.store(received(update, "band-a"), number)
            frozen = Frozen(own, 1, 1, 0, "a.safetensors", True)
            ledger.freeze(number, frozen, ["band-a"], number, [("band-a", BASE)])
            outcome = make_outcome(number, base_digest=own, aggregates={HOSPITAL: own})
            ledger.settle(outcome, HOSPITAL, number)
    assert ledger.archive_oldest(1, 5.0)
    with ledger.transaction():
        ledger.open_round(make_spec(3, base), ["band-a", "band-b"], 6.0)
        ledger.store(received(make_update("band-b", base_digest=base), "band-b"), 6.5)
        ledger.decide("band-c", "revoked", "by letter", 7.0)
        ledger.mute("band-a", "norm", 7.0, 99.0)
        ledger.refuse(3, "band-a", Reason.MUTED, 7.5)
    ledger.close()
    return base


def test_program_before_goes_on_with_what_this_one_wrote(tmp_path: Path) -> None:
    base = written_by_this_program(tmp_path)
    said = statements()
    db = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    db.execute("PRAGMA foreign_keys = ON")
    assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.executescript(said.pop("schema"))

    def say(name: str, *values: object) -> list[tuple[object, ...]]:
        return db.execute(said.pop(name), values).fetchall()

    assert say("last_round_id") == [(3,)]
    ((spec, invited),) = say("round", 3)
    # It forbids keys that it does not know, so none may be there while nothing new is asked for.
    assert not {"max_staleness", "late_bases"} & set(json.loads(str(spec)))
    assert json.loads(str(spec))["schema_version"] == 1
    assert json.loads(str(invited)) == ["band-a", "band-b"]
    assert say("first_waiting_round") == [(1,)]  # band-b's header says round 1, for this base
    assert say("delivered", base) == [("band-b",)]
    assert say("delivered_2", "3") == []
    assert len(say("stored", "update", "band-b", base)) == 1
    assert say("num_refused", 3) == [(1,)]
    assert say("frozen", 3) == say("has_outcome", 3) == []

    db.execute("BEGIN IMMEDIATE")
    say("store", "update", "band-a", base, 3, "c" * 64, "d" * 64, 5, 8.0)
    (number,) = db.execute("SELECT last_insert_rowid()").fetchone()
    say("store_2", number, b"bytes")
    say("refuse", 3, "band-a", "norm", 8.0)
    db.execute("COMMIT")
    assert len(say("updates", base)) == 2
    assert say("evaluations", "3") == []
    db.execute("BEGIN IMMEDIATE")
    say("freeze", 3, "e" * 64, 2, 2, 0, 1, "a.safetensors", 9.0)
    say("freeze_2", 3, "band-a")
    say("note_join", 7, 3, 9.0)
    db.execute("COMMIT")
    assert say("was_sent", 7) == say("joined", 7, 3) == [(1,)]
    outcome = make_outcome(3, base_digest=base).model_dump_json()
    db.execute("BEGIN IMMEDIATE")
    say("settle", 3, outcome, 10.0)
    say("_count_3", "counted", 3, 10.0, base, 3)
    say("_count", "left_out", 3, 10.0, base)
    say("_count_2")
    say("settle_2", 3)
    db.execute("COMMIT")
    say("open_round", 4, spec, "[]", 11.0)
    say("mark_stale", "stale", 4, 12.0, "f" * 64)
    say("mark_stale_2")
    say("note_offers", base)
    assert (base,) in say("offered")
    say("forget_offer", base)
    assert said == {}
    assert db.execute("SELECT COUNT(*) FROM payloads").fetchone() == (0,)
    db.close()

    again = Ledger(tmp_path)  # and forward once more
    again.close()
    assert {row["fate"] for row in reports.updates(tmp_path)} == {"counted", "left_out"}


def test_opening_a_ledger_beside_a_running_node_writes_nothing(old: Path, ledger: Ledger) -> None:
    ledger.changed_elsewhere()
    Ledger(old).close()
    assert not ledger.changed_elsewhere()


def add_colour(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE offers ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")


def test_migration_copies_the_file_first_and_raises_the_version(old: Path) -> None:
    with closing(sqlite3.connect(old / FILE_NAME, isolation_level=None)) as db:
        bring_up(db, old / FILE_NAME, {1: add_colour}, newest=2)
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
        assert db.execute("SELECT colour FROM offers").fetchone() == ("blue",)
    (old / "back").mkdir()
    (old / f"{FILE_NAME}.v1").rename(old / "back" / FILE_NAME)
    assert fates(old / "back") == fates(old) == BEFORE


def test_migration_that_fails_leaves_the_file_as_it_was(old: Path) -> None:
    def fail(db: sqlite3.Connection) -> None:
        add_colour(db)
        raise sqlite3.OperationalError("disk is full")

    with closing(sqlite3.connect(old / FILE_NAME, isolation_level=None)) as db:
        with pytest.raises(sqlite3.OperationalError):
            bring_up(db, old / FILE_NAME, {1: fail}, newest=2)
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError):
            db.execute("SELECT colour FROM offers")
    assert fates(old) == BEFORE


@pytest.mark.parametrize("version", [2, 99])
def test_later_version_is_refused_with_the_remedy(old: Path, version: int) -> None:
    with closing(sqlite3.connect(old / FILE_NAME)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(ConfigError, match=f"version {version}.*run the program that wrote it"):
        Ledger(old)

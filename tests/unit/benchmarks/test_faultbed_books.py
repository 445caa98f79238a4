"""The balance of the ledgers finds what it is there to find."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.faultbed.books import Account, RegionBook, account
from benchmarks.faultbed.cells import all_cells
from edge.schema import SCHEMA

BASE, NEXT = "a" * 64, "b" * 64


def make_book(path: Path, *rounds: tuple[int, str, str]) -> RegionBook:
    """A coordinator's ledger of rounds (number, base, end) in which ``north`` took part."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE records (seq INTEGER PRIMARY KEY, at REAL, kind TEXT, body TEXT)")
        for round_id, base, end in rounds:
            outcome = {"round_id": round_id, "base_digest": base, "end": end, "purpose": "train"}
            outcome["aggregates"] = {"north": "c" * 64}
            record = (float(round_id), "round_ended", json.dumps({"outcome": outcome}))
            db.execute("INSERT INTO records (at, kind, body) VALUES (?, ?, ?)", record)
    return RegionBook(path)


def make_ledger(
    path: Path, stored: list[str], members: list[int], fates: list[tuple[str, str]]
) -> dict[str, Path]:
    """An edge node's ledger: bases stored for ``wb``, aggregates it is in, fates of bases."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        for base in stored:
            db.execute(
                "INSERT INTO messages (subject, device, key, round_id, content_digest,"
                " delivered_digest, num_examples, stored_at) VALUES ('update', 'wb', ?, 1, '', '', 1, 0)",
                (base,),
            )
        for round_id in members:
            db.execute("INSERT INTO aggregate_members VALUES (?, 'wb')", (round_id,))
        for base, fate in fates:
            db.execute("INSERT INTO fates VALUES ('wb', ?, ?, 1, 0)", (base, fate))
    return {"north": path}


def test_even_balance(tmp_path: Path) -> None:
    book = make_book(tmp_path / "region", (1, BASE, "committed"), (2, NEXT, "aborted"))
    ledgers = make_ledger(tmp_path / "edge", [BASE, NEXT], [1, 2], [(BASE, "counted")])
    balance = account(book, ledgers, [("wb", BASE)])
    assert balance == Account({"counted": 1, "waiting": 1}, num_lost=0, num_doubled=0)


def test_update_without_a_fate_after_its_base_was_committed_is_lost(tmp_path: Path) -> None:
    book = make_book(tmp_path / "region", (1, BASE, "committed"))
    ledgers = make_ledger(tmp_path / "edge", [BASE], [], [])
    assert account(book, ledgers).num_lost == 1


def test_receipt_without_a_stored_update_is_a_loss(tmp_path: Path) -> None:
    book = make_book(tmp_path / "region", (1, BASE, "committed"))
    ledgers = make_ledger(tmp_path / "edge", [], [], [])
    assert account(book, ledgers, [("wb", BASE)]).num_lost == 1


@pytest.mark.parametrize(
    ("members", "fates"),
    [([1, 2], [(BASE, "counted")]), ([], [(BASE, "counted")])],
    ids=["in two committed rounds", "counted though in none"],
)
def test_update_that_counts_twice_or_from_nowhere_is_found(
    tmp_path: Path, members: list[int], fates: list[tuple[str, str]]
) -> None:
    book = make_book(tmp_path / "region", (1, BASE, "committed"), (2, BASE, "committed"))
    ledgers = make_ledger(tmp_path / "edge", [BASE], members, fates)
    assert account(book, ledgers).num_doubled == 1


def test_table_has_every_fault_of_every_victim_at_every_moment() -> None:
    cells = all_cells(can_cut=True)
    assert len(set(cells)) == len(cells) == 3 * 3 * 6 + 2 * 6 + 6
    assert not [cell for cell in all_cells(can_cut=False) if cell.fault == "cut"]

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from common.errors import ConfigError, ContractError
from regional.ledger import Ledger, read_records
from regional.records import DayOpened, Record, RingDied, Started


def test_gives_back_what_was_written_in_order(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    records: list[Record] = [Started(count=1), DayOpened(day=2, reason="late")]
    ledger.append(records, now=5.0)
    assert ledger.records() == records
    assert read_records(tmp_path / "ledger.sqlite") == records
    ledger.close()


def test_a_second_record_of_one_thing_is_refused_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append([DayOpened(day=2, reason="late")], now=5.0)
    again: list[Record] = [RingDied(generation=1, reason="x"), DayOpened(day=2, reason="other")]
    with pytest.raises(ContractError, match="day_opened 2"):
        ledger.append(again, now=6.0)
    assert len(ledger.records()) == 1


@pytest.mark.parametrize("statement", ["DELETE FROM records", "UPDATE records SET body = '{}'"])
def test_records_can_be_neither_changed_nor_removed(tmp_path: Path, statement: str) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append([Started(count=1)], now=5.0)
    with (
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
        sqlite3.connect(tmp_path / "ledger.sqlite") as other,
    ):
        other.execute(statement)
    assert ledger.records() == [Started(count=1)]


def test_writes_reach_the_disk_before_append_returns(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.settings() == ("wal", 2)


def test_what_is_no_ledger_is_a_configuration_fault(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(b"noise" * 1000)
    with pytest.raises(ConfigError):
        Ledger(tmp_path / "noise")
    with pytest.raises(ConfigError):
        read_records(tmp_path / "noise")
    with pytest.raises(ConfigError, match="ever started"):
        read_records(tmp_path / "absent")

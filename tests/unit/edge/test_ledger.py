from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common import topics
from common.errors import ConfigError
from common.messages import Reason
from edge import intake, reports
from edge.intake import Received
from edge.ledger import FILE_NAME, Ledger
from edge.rounds import Frozen
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    REGION,
    STATION,
    make_evaluation,
    make_outcome,
    make_spec,
    make_update,
)

AGGREGATE = Frozen("a" * 64, 2, 2, 0, "aggregate-000001.safetensors", True)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def received(data: bytes, device: str, subject: intake.Subject = "update") -> Received:
    topic = topics.parse_device(topics.device(REGION, HOSPITAL, device, subject))
    assert topic is not None
    parsed = intake.read(data, topic, subject, STATION)
    assert isinstance(parsed, Received)
    return parsed


def store(ledger: Ledger, *devices: str) -> None:
    with ledger.transaction():
        for device in devices:
            ledger.store(received(make_update(device), device), now=1.0)


def freeze(ledger: Ledger, *members: str) -> None:
    with ledger.transaction():
        ledger.open_round(make_spec(), members, now=0.0)
        ledger.freeze(1, AGGREGATE, members, now=2.0)


def fates(folder: Path) -> dict[str, str]:
    return {row["device"]: row["fate"] for row in reports.updates(folder)}


def test_what_was_committed_is_there_after_a_restart(tmp_path: Path, ledger: Ledger) -> None:
    store(ledger, "band-a")
    freeze(ledger, "band-a")
    again = Ledger(tmp_path)  # while the first is open, as after a kill
    assert again.round(1) == (make_spec(), frozenset({"band-a"}))
    assert again.frozen(1) == AGGREGATE
    assert list(again.updates([BASE])) == [make_update("band-a")]
    again.close()


def test_a_batch_is_stored_whole_or_not_at_all(ledger: Ledger) -> None:
    def store_and_fail() -> None:
        with ledger.transaction():
            ledger.store(received(make_update(), "band-a"), now=1.0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store_and_fail()
    assert ledger.stored("update", "band-a", BASE) is None


def test_one_delivery_for_a_device_and_base(ledger: Ledger) -> None:
    store(ledger, "band-a")
    with pytest.raises(sqlite3.IntegrityError):
        store(ledger, "band-a")


def test_committed_aggregate_counts_its_members_and_leaves_out_the_rest(
    tmp_path: Path, ledger: Ledger
) -> None:
    store(ledger, "band-a", "band-b", "band-c")
    freeze(ledger, "band-a", "band-b")
    with ledger.transaction():
        ledger.settle(make_outcome(aggregates={HOSPITAL: AGGREGATE.digest}), HOSPITAL, now=3.0)
    assert fates(tmp_path) == {"band-a": "counted", "band-b": "counted", "band-c": "left_out"}
    assert list(ledger.updates([BASE])) == []
    assert ledger.delivered(make_spec())[0] == set()


def test_round_of_another_group_says_nothing_of_our_updates(tmp_path: Path, ledger: Ledger) -> None:
    store(ledger, "band-a", "band-b")
    freeze(ledger, "band-a")
    with ledger.transaction():
        ledger.settle(make_outcome(2, group=("south",)), HOSPITAL, 3.0)
    counted = {HOSPITAL: AGGREGATE.digest}
    assert set(fates(tmp_path).values()) == {"waiting"}
    with ledger.transaction():
        ledger.settle(make_outcome(1, group=(HOSPITAL, "south"), aggregates=counted), HOSPITAL, 3.0)
    assert fates(tmp_path) == {"band-a": "counted", "band-b": "left_out"}


@pytest.mark.parametrize("aggregates", [{}, {HOSPITAL: "b" * 64}])
def test_hospital_without_its_aggregate_in_the_round_is_left_out(
    tmp_path: Path, ledger: Ledger, aggregates: dict[str, str]
) -> None:
    store(ledger, "band-a")
    freeze(ledger, "band-a")
    with ledger.transaction():
        ledger.settle(make_outcome(aggregates=aggregates), HOSPITAL, now=3.0)
    assert fates(tmp_path) == {"band-a": "left_out"}


@pytest.mark.parametrize(
    "outcome",
    [make_outcome(end="skipped"), make_outcome(end="aborted"), make_outcome(purpose="evaluate")],
)
def test_a_round_that_commits_no_model_gives_no_fate(
    tmp_path: Path, ledger: Ledger, outcome: object
) -> None:
    store(ledger, "band-a")
    with ledger.transaction():
        ledger.settle(make_outcome(**outcome.model_dump()), HOSPITAL, now=3.0)  # type: ignore[attr-defined]  # a RoundOutcome
    assert fates(tmp_path) == {"band-a": "waiting"}
    assert list(ledger.updates([BASE])) == [make_update("band-a")]


def test_two_fates_are_impossible(tmp_path: Path, ledger: Ledger) -> None:
    store(ledger, "band-a")
    with ledger.transaction():
        ledger.settle(make_outcome(1), HOSPITAL, now=3.0)
        ledger.settle(make_outcome(2), HOSPITAL, now=4.0)
        ledger.mark_stale((), 3, now=5.0)
    assert fates(tmp_path) == {"band-a": "left_out"}
    with pytest.raises(sqlite3.IntegrityError), sqlite3.connect(tmp_path / FILE_NAME) as db:
        db.execute("INSERT INTO fates VALUES ('band-a', ?, 'counted', 1, 0)", (BASE,))
    db.close()


def test_updates_for_another_base_become_stale(tmp_path: Path, ledger: Ledger) -> None:
    store(ledger, "band-a")
    with ledger.transaction():
        ledger.mark_stale([BASE], 2, now=3.0)
    assert fates(tmp_path) == {"band-a": "waiting"}
    with ledger.transaction():
        ledger.mark_stale(["2" * 64], 2, now=3.0)
    assert fates(tmp_path) == {"band-a": "stale"}


def test_evaluations_are_dropped_when_their_round_has_ended(ledger: Ledger) -> None:
    with ledger.transaction():
        data = make_evaluation()
        ledger.store(received(data, "band-a", "evaluation"), now=1.0)
    assert list(ledger.evaluations(1)) == [data]
    with ledger.transaction():
        ledger.settle(make_outcome(end="skipped"), HOSPITAL, now=2.0)
    assert list(ledger.evaluations(1)) == []
    assert ledger.stored("evaluation", "band-a", "1") is not None


def test_refusals_are_counted_in_bounded_space(tmp_path: Path, ledger: Ledger) -> None:
    for _ in range(50):
        ledger.refuse(1, "band-a", Reason.NORM, now=1.0)
    assert ledger.num_refused(1) == 50
    (row,) = reports.refusals(tmp_path)
    assert (row["device"], row["reason"], row["num"]) == ("band-a", "norm", 50)


def test_a_file_that_is_no_ledger_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 100)
    with pytest.raises(ConfigError, match="is no ledger"):
        Ledger(tmp_path)


def test_a_ledger_of_another_version_stops_the_start(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / FILE_NAME)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError, match="version 99"):
        Ledger(tmp_path)


def test_report_of_rounds_tells_how_each_ended(tmp_path: Path, ledger: Ledger) -> None:
    freeze(ledger, "band-a")
    with ledger.transaction():
        ledger.settle(make_outcome(end="skipped", reason="no quorum"), HOSPITAL, now=3.0)
    (row,) = reports.rounds(tmp_path)
    assert (row["end"], row["reason"], row["weight"]) == ("skipped", "no quorum", 2)


def test_report_without_a_ledger_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no edge node has run"):
        reports.updates(tmp_path)


def test_full_disk_loses_the_batch_only_and_the_ledger_goes_on(ledger: Ledger) -> None:
    (pages,) = ledger._db.execute("PRAGMA page_count").fetchone()
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    noise = {name: np.zeros(shape, np.int16) for name, shape in {"bulk": (40_000,)}.items()}
    large = received(make_update(tensors=noise), "band-a")

    def store_large() -> None:
        with ledger.transaction():
            ledger.store(large, now=1.0)

    for _ in range(2):
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            store_large()
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    store_large()
    assert ledger.stored("update", "band-a", BASE) is not None


def test_commit_that_fails_leaves_no_transaction_open(ledger: Ledger) -> None:
    def commit_what_cannot_be() -> None:
        with ledger.transaction():
            ledger._db.execute("PRAGMA defer_foreign_keys = ON")
            ledger._db.execute("INSERT INTO payloads VALUES (99, x'00')")

    with pytest.raises(sqlite3.IntegrityError):
        commit_what_cannot_be()
    store(ledger, "band-a")
    assert ledger.stored("update", "band-a", BASE) is not None

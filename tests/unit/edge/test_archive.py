from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from common.messages import Reason
from edge import archive, reports
from edge.archivist import PERIOD_S, Archivist
from edge.desk import Desk
from edge.ledger import FILE_NAME, Ledger
from edge.rounds import Frozen, Round
from edge.standing import Standing
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    ROSTER,
    SHAPES,
    STATION,
    make_evaluation,
    make_incoming,
    make_outcome,
    make_spec,
    make_update,
)
from tests.unit.edge.test_ledger import received

BASES = [f"{number:064x}" for number in range(1, 9)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path)
    yield opened
    opened.close()


def play(ledger: Ledger, round_id: int, end: str = "committed", base: str | None = None) -> None:
    """A whole round: two updates of which one is in the aggregate, an evaluation, a refusal."""
    base = base or BASES[round_id]
    frozen = Frozen("a" * 64, 1, 1, 1, f"aggregate-{round_id:06d}.safetensors", False)
    at = 1000.0 * round_id
    with ledger.transaction():
        ledger.open_round(make_spec(round_id, base), sorted(ROSTER), at)
        for device in ("band-b", "band-a"):
            update = make_update(device, round_id=round_id, base_digest=base)
            ledger.store(received(update, device), at + 0.25)
        evaluation = make_evaluation("band-c", round_id=round_id)
        ledger.store(received(evaluation, "band-c", "evaluation"), at + 0.5)
        ledger.refuse(round_id, "band-c", Reason.NORM, at + 0.75)
        ledger.freeze(round_id, frozen, ["band-a"], at + 1)
        outcome = make_outcome(
            round_id, base_digest=base, end=end, aggregates={HOSPITAL: frozen.digest}
        )
        ledger.settle(outcome, HOSPITAL, at + 2)


def rows_in(folder: Path, table: str) -> int:
    db = sqlite3.connect(folder / FILE_NAME)
    (num,) = db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
    db.close()
    return int(num)


def told(folder: Path) -> tuple[object, ...]:
    return reports.updates(folder), reports.refusals(folder), reports.rounds(folder)


def test_reports_read_the_same_before_and_after(tmp_path: Path, ledger: Ledger) -> None:
    for round_id in (1, 2, 3):
        play(ledger, round_id)
    before = told(tmp_path)
    done = ledger.archive_oldest(1, now=9e9)
    assert done is not None
    assert (done.round_id, done.aggregate) == (1, "aggregate-000001.safetensors")
    assert ledger.archive_oldest(1, now=9e9) is not None
    assert told(tmp_path) == before
    assert reports.updates(tmp_path, 1) == before[0][:2]  # type: ignore[index]
    assert reports.rounds(tmp_path, 2) == before[2][-2:]  # type: ignore[index]
    assert {row["fate"] for row in reports.updates(tmp_path, 2)} == {"counted", "left_out"}


def test_only_rows_of_kept_rounds_remain(tmp_path: Path, ledger: Ledger) -> None:
    for round_id in (1, 2, 3):
        play(ledger, round_id)
    while ledger.archive_oldest(2, now=9e9):
        pass
    assert rows_in(tmp_path, "archives") == 1
    tables = ("rounds", "aggregates", "aggregate_members", "outcomes", "refusals")
    assert {rows_in(tmp_path, table) for table in tables} == {2}
    assert (rows_in(tmp_path, "messages"), rows_in(tmp_path, "fates")) == (6, 4)


def test_body_keeps_what_provenance_needs(tmp_path: Path, ledger: Ledger) -> None:
    play(ledger, 1)
    play(ledger, 2)
    ledger.archive_oldest(1, now=9e9)
    db = sqlite3.connect(tmp_path / FILE_NAME)
    body = archive.read(db, 1)
    db.close()
    assert body["spec"] == make_spec(1, BASES[1]).model_dump(mode="json")
    assert body["devices"][: body["num_invited"]] == sorted(ROSTER)
    assert body["aggregate"]["members"] == "100"
    assert body["evaluated"] == "001"
    assert body["outcome"]["end"] == "committed"
    (of_b, of_a) = archive.updates(1, body)
    assert of_a["delivered_digest"] == received(make_update("band-a"), "band-a").delivered_digest
    assert (of_b["stored_at"], of_b["decided_at"]) == (1000.25, 1002.0)


def test_round_with_an_update_that_waits_stays_and_later_ones_go(
    tmp_path: Path, ledger: Ledger
) -> None:
    play(ledger, 1, end="skipped", base=BASE)
    for round_id in (2, 3):
        play(ledger, round_id)
    done = ledger.archive_oldest(1, now=9e9)
    assert done is not None
    assert done.round_id == 2
    assert ledger.archive_oldest(1, now=9e9) is None
    assert reports.waiting(tmp_path) == 2


def test_the_end_of_an_archived_round_is_still_known(ledger: Ledger) -> None:
    play(ledger, 1)
    play(ledger, 2)
    assert ledger.archive_oldest(1, now=9e9)
    assert ledger.has_outcome(1)


def test_round_of_a_base_that_a_late_update_may_name_stays(ledger: Ledger) -> None:
    play(ledger, 1)
    late = {"max_staleness": 1, "late_bases": (BASES[1],)}
    with ledger.transaction():
        ledger.open_round(make_spec(2, BASES[2], **late), sorted(ROSTER), 1.0)
        late_update = make_update("band-c", round_id=2, base_digest=BASES[1])
        ledger.store(received(late_update, "band-c"), 1.0)
    assert ledger.archive_oldest(1, now=9e9) is None
    with ledger.transaction():
        ledger.open_round(make_spec(3, BASES[3]), sorted(ROSTER), 1.0)
    assert ledger.archive_oldest(1, now=9e9) is None  # that late update has no fate yet
    with ledger.transaction():
        ledger.mark_stale([BASES[3]], 3, 1.0)
    assert ledger.archive_oldest(1, now=9e9) is not None


def make_round(round_id: int, base: str) -> Round:
    return Round(make_spec(round_id, base), ROSTER, SHAPES)


@pytest.mark.parametrize("archived", [False, True])
def test_resend_of_an_archived_update_gets_the_receipt_it_had_and_is_not_stored_again(
    tmp_path: Path, ledger: Ledger, archived: bool
) -> None:
    play(ledger, 1)
    play(ledger, 2)
    if archived:
        assert ledger.archive_oldest(1, now=9e9)
    desk = Desk(STATION, ledger, Standing(ledger))
    current = make_round(3, BASES[3])
    num_before = len(reports.updates(tmp_path))
    old = make_update("band-a", round_id=1, base_digest=BASES[1])
    (answer,) = desk.take([make_incoming(old)], current, now=1.0)
    assert (answer.reason, answer.fresh) == (None, False)
    for round_id, reason in ((1, Reason.WRONG_ROUND), (3, Reason.WRONG_BASE)):
        other = make_update("band-a", seed=9, round_id=round_id, base_digest=BASES[1])
        (answer,) = desk.take([make_incoming(other)], current, now=1.0)
        assert answer.reason == reason
    assert len(reports.updates(tmp_path)) == num_before


def test_update_for_an_archived_base_that_has_come_back_is_a_duplicate(
    tmp_path: Path, ledger: Ledger
) -> None:
    """A release may return to a model of long ago; a device's update for it counted then."""
    play(ledger, 1)
    play(ledger, 2)
    assert ledger.archive_oldest(1, now=9e9)
    desk = Desk(STATION, ledger, Standing(ledger))
    again = make_round(3, BASES[1])
    same = make_update("band-a", round_id=3, base_digest=BASES[1])
    other = make_update("band-b", seed=9, round_id=3, base_digest=BASES[1])
    new = make_update("band-c", round_id=3, base_digest=BASES[1])
    batch = [
        make_incoming(same),
        make_incoming(other, "band-b"),
        make_incoming(new, "band-c"),
    ]
    answers = desk.take(batch, again, now=1.0)
    assert [(a.reason, a.fresh) for a in answers] == [
        (None, False),
        (Reason.CONFLICTING_DUPLICATE, False),
        (None, True),
    ]
    assert reports.waiting(tmp_path) == 1


def test_a_fault_leaves_the_round_as_it_was(tmp_path: Path, ledger: Ledger) -> None:
    play(ledger, 1)
    play(ledger, 2)
    before = told(tmp_path)
    ledger._db.execute("CREATE TABLE guests (m INTEGER REFERENCES messages (id))")
    ledger._db.execute("INSERT INTO guests SELECT MIN(id) FROM messages")
    with pytest.raises(sqlite3.IntegrityError):
        ledger.archive_oldest(1, now=9e9)
    assert told(tmp_path) == before
    assert rows_in(tmp_path, "archives") == 0


def test_archivist_takes_one_round_at_a_time_and_its_aggregate_with_it(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for round_id in (1, 2, 3):
        play(ledger, round_id)
        (tmp_path / f"aggregate-{round_id:06d}.safetensors").write_bytes(b"sums")
    seconds = 100.0
    monkeypatch.setattr("edge.archivist.time.monotonic", lambda: seconds)
    archivist = Archivist(ledger, 1, tmp_path, CollectorRegistry())
    assert archivist.turn(now=9e9)
    assert not archivist.turn(now=9e9)
    assert sorted(p.name[13:16] for p in tmp_path.glob("*.safetensors")) == ["002", "003"]
    seconds += PERIOD_S
    assert archivist.turn(now=9e9)
    seconds += PERIOD_S
    assert not archivist.turn(now=9e9)


def test_keep_rounds_0_keeps_every_row(tmp_path: Path, ledger: Ledger) -> None:
    play(ledger, 1)
    play(ledger, 2)
    assert not Archivist(ledger, 0, tmp_path, CollectorRegistry()).turn(now=9e9)
    assert rows_in(tmp_path, "rounds") == 2

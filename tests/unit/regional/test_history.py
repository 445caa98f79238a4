"""A coordinator that runs for ever remembers the last rounds; the ledger remembers them all."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from regional.config import RegionConfig
from regional.history import MAX_DAYS, MAX_DEAD_RINGS, MAX_ROUNDS, History
from regional.ledger import Ledger
from regional.progress import replay
from regional.records import DaySealed, Record, RingDied, RoundEnded
from regional.service import Service
from tests.unit.regional.builders import make_config
from tests.unit.regional.world import World, num_ended

NUM_ROUNDS = 1000


def long_day(num_rounds: int) -> list[Record]:
    """Records of a world whose day has so many rounds."""
    world = World(config=make_config(rounds_per_day=10_000))
    world.run(num_ended(num_rounds), turns=20 * num_rounds)
    return world.ledger


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return long_day(60)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    config = make_config().model_dump() | {
        "state_dir": tmp_path / "region",
        "mailbox": str(tmp_path / "mailbox"),
    }
    made = Service(RegionConfig.model_validate(config))
    yield made
    made._ledger.close()
    made._health.stop()


def renumbered(records: list[Record], by: int) -> Iterator[Record]:
    for record in records:
        if isinstance(record, RoundEnded):
            number = record.outcome.round_id + by
            outcome = record.outcome.model_copy(update={"round_id": number})
            yield record.model_copy(update={"outcome": outcome})
        else:
            yield record.model_copy()


def num_alive() -> int:
    gc.collect()
    return sum(type(each) is RoundEnded for each in gc.get_objects())


def test_service_holds_a_bounded_number_of_records_after_a_thousand_rounds(
    service: Service, records: list[Record]
) -> None:
    before = num_alive()
    for by in range(0, NUM_ROUNDS + 60, 60):
        service._note(tuple(renumbered(records, by)))
    assert num_alive() - before <= 1  # as compressed reports
    assert len(service._history) <= MAX_ROUNDS + MAX_DEAD_RINGS + 2 * MAX_DAYS
    rounds = service._rounds()
    assert [r["round_id"] for r in rounds][-1] > NUM_ROUNDS
    assert len(rounds) == MAX_ROUNDS


def test_history_is_bounded_whatever_happens() -> None:
    history = History()
    for number in range(1, NUM_ROUNDS):
        history.note(RingDied(generation=number, reason="lost"))
        history.note(DaySealed(day=number, reason="done", sealed_at=1.0))
    assert len(history) == MAX_DEAD_RINGS + 2 * MAX_DAYS
    assert history.dead_rings[-1] == RingDied(generation=NUM_ROUNDS - 1, reason="lost")


def test_progress_keeps_of_a_long_day_what_its_seal_needs(records: list[Record]) -> None:
    progress = replay(records * 2)
    assert len(progress.trained) > 100
    assert len(progress.cycle_models) <= 64
    assert not any(isinstance(each, RoundEnded) for each in progress.trained)


def test_ledger_is_read_whole_in_parts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    written: list[Record] = [RingDied(generation=n, reason="lost") for n in range(1, 700)]
    ledger.append(written, 1.0)
    assert list(ledger.each()) == written
    ledger.close()

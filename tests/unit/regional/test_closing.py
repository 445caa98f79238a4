"""A day that an operator ends is sealed with the rounds it has, whatever happens meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import ConfigError, PulseRingError, QuorumError
from regional.closing import ask_for_seal, wait_for_seal
from regional.ledger import Ledger
from regional.progress import replay
from regional.records import DayOpened, DaySealed, Record, SealAsked
from tests.unit.regional.builders import HOSPITALS, make_config
from tests.unit.regional.test_groups import grouping
from tests.unit.regional.world import World, num_ended

ASKED = SealAsked(day=1, reason="end of the study")


def long_day() -> World:
    return World(config=make_config(rounds_per_day=50))


def purposes(world: World) -> list[str]:
    return [ended.outcome.purpose for ended in world.ended]


def test_open_round_ends_first_then_the_day_is_evaluated_and_sealed() -> None:
    world = long_day()
    world.run(num_ended(2))
    world.run(lambda w: w.region.progress.is_open)
    world.operator_writes(ASKED)
    world.run(lambda w: w.region.progress.sealed)
    assert purposes(world) == ["train", "train", "train", "evaluate"]
    sealed = world.region.progress.sealed
    assert sealed is not None
    assert sealed.model_digest == world.ended[2].outcome.model_digest
    assert sealed.reason == "an operator asked for it: end of the study"


def test_next_day_has_all_its_rounds_again() -> None:
    world = World(config=make_config(rounds_per_day=(50, 2)))
    world.run(num_ended(1))
    world.operator_writes(ASKED)
    world.run(lambda w: w.region.progress.day == 2)
    assert world.region.progress.closing is None
    world.run(lambda w: w.region.progress.day == 2 and w.region.progress.sealed)
    assert purposes(world) == ["train", "evaluate", "train", "train", "evaluate"]


def test_restart_does_not_forget_it() -> None:
    world = long_day()
    world.run(num_ended(1))
    world.operator_writes(ASKED)
    world.restart()
    world.run(lambda w: w.region.progress.sealed)
    assert purposes(world) == ["train", "evaluate"]


def test_failing_evaluation_does_not_keep_the_day_from_its_seal() -> None:
    world = World(config=make_config(rounds_per_day=50, max_failed_rounds=2))
    world.run(num_ended(1))
    world.operator_writes(ASKED)
    world.failing = set(HOSPITALS)
    world.run(lambda w: w.region.progress.sealed)
    sealed = world.region.progress.sealed
    assert sealed is not None
    assert sealed.model_digest == world.ended[0].outcome.model_digest


def test_without_a_committed_round_the_day_goes_on() -> None:
    world = long_day()
    world.operator_writes(ASKED)
    world.run(lambda w: w.region.progress.sealed)
    assert purposes(world) == ["train", "evaluate"]


def test_request_for_another_day_changes_nothing() -> None:
    world = long_day()
    world.operator_writes(SealAsked(day=2, reason="early"))
    assert world.region.progress.closing is None
    world.run(num_ended(3))
    assert purposes(world) == ["train"] * 3


def in_ledger(folder: Path, records: list[Record]) -> Path:
    path = folder / "ledger.sqlite"
    ledger = Ledger(path)
    ledger.append(records, 1.0)
    ledger.close()
    return path


def records_of(num_rounds: int) -> list[Record]:
    world = long_day()
    world.run(num_ended(num_rounds))
    return world.ledger


def test_request_is_written_once_beside_the_coordinator(tmp_path: Path) -> None:
    path = in_ledger(tmp_path, records_of(1))
    running = Ledger(path)
    assert not running.written_by_others()
    assert ask_for_seal(path, "now") == SealAsked(day=1, reason="now")
    assert running.written_by_others()
    assert ask_for_seal(path, "again").reason == "now"
    assert replay(running.each()).closing == SealAsked(day=1, reason="now")
    running.close()


def test_day_without_a_committed_round_is_refused(tmp_path: Path) -> None:
    path = in_ledger(tmp_path, World().ledger)
    with pytest.raises(QuorumError, match="no training round of day 1 is committed yet"):
        ask_for_seal(path, "now")


def test_sealed_day_is_refused_until_the_next_begins(tmp_path: Path) -> None:
    sealed = DaySealed(day=1, model_digest="a" * 64, reason="done", sealed_at=1.0)
    path = in_ledger(tmp_path, [*records_of(1), sealed])
    with pytest.raises(QuorumError, match="day 1 is sealed already"):
        ask_for_seal(path, "now")
    assert wait_for_seal(path, 1, 0.0) == sealed
    ledger = Ledger(path)
    ledger.append([DayOpened(day=2, reason="late")], 2.0)
    ledger.close()
    with pytest.raises(QuorumError, match="no training round of day 2"):
        ask_for_seal(path, "now")


def test_wait_ends_when_nobody_seals(tmp_path: Path) -> None:
    path = in_ledger(tmp_path, records_of(1))
    with pytest.raises(PulseRingError, match="does the coordinator run"):
        wait_for_seal(path, 1, 0.0)
    with pytest.raises(ConfigError, match="ever started"):
        ask_for_seal(tmp_path / "none.sqlite", "now")


def test_slow_groups_count_before_the_day_ends() -> None:
    world = World(config=grouping(rounds_per_day=50), lag_s={"west": 15.0})
    world.run(lambda w: any(own.is_open for own in w.region.progress.groups.values()))
    world.operator_writes(ASKED)
    world.run(lambda w: w.region.progress.sealed)
    assert not [e for e in world.ended if e.outcome.end == "aborted"]
    assert any(ended.group for ended in world.ended)

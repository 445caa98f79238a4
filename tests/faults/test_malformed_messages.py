"""Malformed messages at the intake desk, with a real ledger: refused, named, counted, and cheap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.messages import Reason
from tests.faults import malformed
from tests.faults.attacked_desk import BEATS, Hospital, attack, seconds_by_kind, unrefused
from tests.faults.hostile import ALL_REASONS, KINDS, PASSED_OVER, REPEATED

SPARSE = {"parts": 4, "part": 1, "order": 5, "bits": 8}
MET = ALL_REASONS - {  # not those that it takes another round, or an operator, to give
    *(Reason.ROUND_CLOSED, Reason.STALE),
    *(Reason.MUTED, Reason.REVOKED),
}
MIB = 1 << 20
RSS_GROWTH_MIB = 48
LEDGER_MIB = 8
SLOWEST_S = 0.05


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.ledger.close()


def hold_to_account(hospital: Hospital, num: int, seed: int) -> None:
    """Attack, and require that each message was refused for a fitting reason and counted once."""
    before = hospital.contents()
    tally = attack(hospital, malformed.messages(hospital.target, seed, num), hospital.round)
    assert tally.wrong[:10] == []
    assert tally.results.total() == num
    assert hospital.contents() == before
    refused = Counter({k: n for k, n in tally.results.items() if k in ALL_REASONS})
    assert hospital.refusals() == refused
    assert hospital.round.num_rejected == refused.total() == num - unrefused(tally)


def test_malformed_messages_are_refused_each_for_its_reason(hospital: Hospital) -> None:
    hold_to_account(hospital, 3000, seed=1)


def test_malformed_updates_of_a_sparse_round_are_refused_too(tmp_path: Path) -> None:
    sparse = Hospital(tmp_path, BEATS, fixed_point=SPARSE)
    hold_to_account(sparse, 1000, seed=2)
    sparse.ledger.close()


def test_every_reason_of_the_intake_is_met(hospital: Hospital) -> None:
    num = len(KINDS) * 2
    tally = attack(hospital, malformed.messages(hospital.target, 3, num), hospital.round)
    assert {*MET, PASSED_OVER, REPEATED} <= set(tally.results)


def test_who_keeps_sending_them_is_muted_and_everything_is_still_counted(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, mute_after=5)
    before = hospital.contents()
    tally = attack(hospital, malformed.messages(hospital.target, 8, 2000), hospital.round)
    assert hospital.contents() == before
    assert tally.results[Reason.MUTED] > 1000
    assert hospital.refusals().total() == 2000 - unrefused(tally)
    hospital.ledger.close()


@pytest.mark.parametrize("state", ["none", "ended"])
def test_without_an_open_round_malformed_messages_are_refused_as_well(
    hospital: Hospital, state: str
) -> None:
    hospital.round.ended = True
    before = hospital.contents()
    current = hospital.round if state == "ended" else None
    tally = attack(hospital, malformed.messages(hospital.target, 4, 1000), current)
    assert hospital.contents() == before
    assert set(tally.results) <= {*ALL_REASONS, PASSED_OVER, REPEATED}
    assert hospital.refusals().total() == tally.results.total() - unrefused(tally)


def test_same_seed_gives_the_same_messages(hospital: Hospital) -> None:
    one, two = (list(malformed.messages(hospital.target, 5, 500)) for _ in range(2))
    assert one == two
    assert {message.kind for message in one} == set(KINDS)


@pytest.mark.slow
def test_hundred_thousand_malformed_messages_cost_neither_memory_nor_disk(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, BEATS)
    hold_to_account(hospital, 5_000, seed=6)  # after which memory is what it stays
    process = psutil.Process()
    before = process.memory_info().rss
    tally = attack(hospital, malformed.messages(hospital.target, 7, 100_000), hospital.round)
    grown_mib = (process.memory_info().rss - before) / MIB
    hospital.ledger.close()
    assert tally.wrong[:10] == []
    assert tally.results.total() == 100_000
    assert grown_mib < RSS_GROWTH_MIB
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) / MIB < LEDGER_MIB


@pytest.mark.slow
def test_no_malformed_message_takes_long(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path, BEATS)
    seconds = seconds_by_kind(hospital, repeats=9)
    hospital.ledger.close()
    slowest = max(seconds, key=lambda name: seconds[name])
    assert seconds[slowest] < SLOWEST_S, slowest

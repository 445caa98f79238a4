from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import PulseRingError
from common.lock import hold
from edge import drain
from edge.drain import ORDER, Drain
from tests.unit.edge.builders import HOSPITAL, make_outcome, make_state
from tests.unit.edge.hospital import Hospital
from tests.unit.edge.test_node import open_round


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.ledger.close()


class Asked:
    """A drained service that notes its end."""

    def __init__(self, folder: Path, hospital: Hospital) -> None:
        self.order = folder / ORDER
        self.hospital = hospital
        self.num_stops = 0
        self.drain = Drain(folder, hospital.node, self.stop)

    def stop(self) -> None:
        self.num_stops += 1

    def turn(self) -> bool:
        self.drain.turn()
        return self.num_stops > 0


def test_node_ends_after_its_round_and_begins_none(tmp_path: Path, hospital: Hospital) -> None:
    asked = Asked(tmp_path, hospital)
    hospital.hear(open_round())
    hospital.deliver("band-a", "band-b", "band-c")
    asked.order.touch()
    assert not asked.turn()
    status = hospital.step()
    assert (status.phase, status.online) == ("ready", True)
    assert not asked.turn()
    digest = status.aggregate_digest or ""
    outcome = make_outcome(aggregates={HOSPITAL: digest})
    following = open_round(2, "9" * 64, outcome=outcome)
    assert hospital.hear(following).round_id == 1
    assert asked.turn()
    assert not asked.order.exists()
    assert set(hospital.fates().values()) == {"counted"}


def test_node_without_a_round_ends_at_once(tmp_path: Path, hospital: Hospital) -> None:
    asked = Asked(tmp_path, hospital)
    asked.order.touch()
    assert asked.turn()


def test_nobody_asked_nothing_happens(tmp_path: Path, hospital: Hospital) -> None:
    asked = Asked(tmp_path, hospital)
    hospital.hear(make_state("closed", outcome=make_outcome()))
    assert not asked.turn()


def test_withdrawn_order_lets_the_node_take_the_next_round(
    tmp_path: Path, hospital: Hospital
) -> None:
    asked = Asked(tmp_path, hospital)
    hospital.hear(open_round())
    asked.order.touch()
    asked.turn()
    assert drain.withdraw(tmp_path)
    assert not drain.withdraw(tmp_path)
    asked.turn()
    following = open_round(2, outcome=make_outcome(end="skipped"))
    assert hospital.hear(following).round_id == 2
    assert not asked.turn()


def test_order_without_a_running_node_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PulseRingError, match="no edge node runs"):
        drain.ask(tmp_path)
    assert not (tmp_path / ORDER).exists()


def test_order_stands_when_the_node_takes_too_long(tmp_path: Path) -> None:
    handle = hold(tmp_path, "edge node")
    drain.ask(tmp_path)
    told: list[str] = []
    with pytest.raises(PulseRingError, match="the order stands"):
        drain.wait(tmp_path, 0.0, told.append)
    assert told == ["the node does not answer"]
    assert (tmp_path / ORDER).exists()
    assert handle >= 0

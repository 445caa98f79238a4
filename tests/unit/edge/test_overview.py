from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from edge.broker_watch import BrokerMeters
from edge.disk import MB, Limits
from edge.ledger import Ledger
from edge.overview import Overview
from tests.unit.edge.builders import HOSPITAL, make_outcome
from tests.unit.edge.test_ledger import AGGREGATE, freeze, store


class Watched:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger = Ledger(folder)
        self.registry = CollectorRegistry()
        self.overview: Overview | None = None

    def look(self, quota_mb: int = 0) -> None:
        if self.overview is None:
            limits = Limits(quota_mb * MB, 0)
            self.overview = Overview(self.folder, limits, self.registry)
        self.overview.look()

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"pulsering_edge_{name}", labels)

    def settle(self, round_id: int, end: str = "committed", **fields: object) -> None:
        with self.ledger.transaction():
            self.ledger.settle(make_outcome(round_id, end=end, **fields), HOSPITAL, now=3.0)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    if made.overview:
        made.overview.stop()
    made.ledger.close()


def test_fates_ends_rings_and_waiting_updates_are_counted_as_they_are_committed(
    watched: Watched,
) -> None:
    watched.look()
    store(watched.ledger, "band-a", "band-b", "band-c")
    freeze(watched.ledger, "band-a", "band-b")
    watched.ledger.note_join(4, 1, now=2.0)
    watched.look()
    assert watched.value("waiting_updates") == 3
    watched.settle(1, aggregates={HOSPITAL: AGGREGATE.digest})
    watched.settle(2, end="skipped")
    watched.ledger.note_join(4, 2, now=4.0)
    watched.look()
    watched.look()
    assert watched.value("waiting_updates") == 0
    assert watched.value("fates_total", fate="counted") == 2
    assert watched.value("fates_total", fate="left_out") == 1
    assert watched.value("rounds_total", end="committed") == 1
    assert watched.value("rounds_total", end="skipped") == 1
    assert watched.value("rings_total") == 1


def test_what_was_there_before_the_start_is_not_counted_again(watched: Watched) -> None:
    store(watched.ledger, "band-a")
    watched.settle(1)
    watched.look()
    assert watched.value("fates_total", fate="left_out") is None
    assert watched.value("rounds_total", end="committed") is None


def test_an_end_that_is_heard_late_is_counted(watched: Watched) -> None:
    watched.settle(7)
    watched.look()
    watched.settle(5, end="aborted")
    watched.look()
    assert watched.value("rounds_total", end="aborted") == 1


def test_fates_are_counted_after_the_table_was_emptied(watched: Watched) -> None:
    store(watched.ledger, "band-a")
    watched.settle(1)
    watched.look()
    with watched.ledger.transaction():
        watched.ledger._db.execute("DELETE FROM fates")
        watched.ledger._db.execute("DELETE FROM messages")
    watched.look()
    store(watched.ledger, "band-b")
    watched.settle(2)
    watched.look()
    assert watched.value("fates_total", fate="left_out") == 1


def test_over_quota_is_full_until_there_is_room(watched: Watched) -> None:
    ballast = watched.folder / "ballast"
    ballast.write_bytes(bytes(2 * MB))
    watched.look(quota_mb=2)
    assert watched.overview is not None
    assert "disk_quota_mb = 2" in watched.overview.held
    assert watched.value("disk_state", state="full") == 1
    ballast.unlink()
    watched.look()
    assert (watched.overview.held, watched.value("disk_state", state="full")) == ("", 0)
    assert watched.value("disk_state", state="ok") == 1


def test_a_broker_that_tells_nothing_of_itself_has_no_metric() -> None:
    registry = CollectorRegistry()
    meters = BrokerMeters(registry)
    name, labels = "pulsering_edge_broker_dropped", {"broker": "hospital"}
    meters.hear("$SYS/broker/publish/messages/dropped", b"many")
    meters.hear("$SYS/broker/uptime", b"7")
    assert registry.get_sample_value(name, labels) is None
    meters.hear("$SYS/broker/publish/messages/dropped", b"12")
    assert registry.get_sample_value(name, labels) == 12

"""A soak: its roster, its deck of faults, its nonsense, and what counts as flat."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.faultbed.books import Entry
from benchmarks.soakbed import gauge, page, report
from benchmarks.soakbed.bed import STEADY, roster_of
from benchmarks.soakbed.course import counts_of
from benchmarks.soakbed.crowd import is_good, malformed
from benchmarks.soakbed.gauge import Reading
from benchmarks.soakbed.harm import deck, kinds
from benchmarks.soakbed.proof import num_nameless
from common import topics, wire
from common.errors import ContractError, QuorumError
from common.messages import UpdateHeader
from edge import intake
from edge.intake import Rejected, Station

DEVICE = "wb-001"
TOPIC = topics.device("county", STEADY, DEVICE, "update")


def make_update() -> bytes:
    header = UpdateHeader(
        region="county",
        hospital=STEADY,
        device=DEVICE,
        round_id=3,
        base_digest="a" * 64,
        num_examples=5,
        num_saturated=0,
    )
    return wire.encode(header, {"w": np.arange(3000, dtype=np.int16)})


def make_readings(rss_mib: list[float], fds: list[int]) -> list[Reading]:
    """One reading a second."""
    return [
        Reading(float(n), rss, rss, num, 7, 0.0)
        for n, (rss, num) in enumerate(zip(rss_mib, fds, strict=True))
    ]


def test_roster_has_every_wristband_once_and_most_where_it_is_measured() -> None:
    roster = roster_of(500, ("100", "101"))
    devices = [device for wristbands in roster.values() for device, _ in wristbands]
    assert len(set(devices)) == len(devices) == 500
    assert max(roster, key=lambda name: len(roster[name])) == STEADY


def test_deck_has_every_kind_before_any_comes_again() -> None:
    among = kinds(can_cut=True)
    drawn = list(islice(deck(among, np.random.default_rng(1)), 3 * len(among)))
    assert set(drawn[: len(among)]) == set(among)
    assert set(Counter(drawn).values()) == {3}
    assert drawn != list(islice(deck(among, np.random.default_rng(2)), len(drawn)))


def test_malformed_messages_are_refused_or_no_message_of_this_device() -> None:
    rng = np.random.default_rng(5)
    good = make_update()
    station = Station("county", STEADY, frozenset({DEVICE}))
    refused = 0
    for _ in range(300):
        topic, payload = malformed((TOPIC, good), "county", rng)
        at = topics.parse_device(topic)
        assert at is not None
        read = intake.read(payload, at, intake.SUBJECTS[at.leaf], station)
        refused += isinstance(read, Rejected)
        assert not (
            isinstance(read, Rejected) and len(payload) <= len(good) and is_good(topic, payload)
        )
        assert isinstance(read, Rejected) or payload != good
    assert refused > 200


def test_memory_is_flat_within_the_bound_and_a_leaked_descriptor_is_seen() -> None:
    flat = gauge.quarters(make_readings([80, 100, 101, 104.9], [16, 16, 17, 16]), 4.0)
    assert gauge.verdict(flat)["memory_is_flat"]
    assert gauge.verdict(flat)["descriptors_are_flat"]
    grown = gauge.quarters(make_readings([80, 100, 104, 106], [16, 16, 16, 17]), 4.0)
    assert gauge.verdict(grown)["rss_growth"] == 0.06
    assert not gauge.verdict(grown)["memory_is_flat"]
    assert not gauge.verdict(grown)["descriptors_are_flat"]


def test_quarter_without_a_reading_is_no_figure() -> None:
    with pytest.raises(QuorumError, match="quarter 4"):
        gauge.quarters(make_readings([1, 1, 1], [1, 1, 1]), 4.0)


def test_round_that_another_followed_without_an_end_is_found() -> None:
    def opened(number: int) -> Entry:
        return Entry(float(number), "round_opened", {"spec": {"round_id": number}})

    def ended(number: int) -> Entry:
        return Entry(float(number), "round_ended", {"outcome": {"round_id": number}})

    assert num_nameless([opened(1), ended(1), opened(2)]) == 0
    assert num_nameless([opened(1), opened(2), ended(2), opened(3)]) == 1


def test_counts_are_read_from_the_metrics() -> None:
    text = (
        "# TYPE pulsering_edge_messages_total counter\n"
        'pulsering_edge_messages_total{result="stored",subject="update"} 12.0\n'
        'pulsering_edge_messages_created{result="stored",subject="update"} 1.7e+09\n'
    )
    assert counts_of(text) == {"update stored": 12}


def make_document() -> dict[str, Any]:
    readings = make_readings([99.0, 100.0, 100.0, 101.0], [16, 16, 16, 16])
    of_quarters = gauge.quarters(readings, 4.0)
    edge = {"hospital": STEADY, "quarters": of_quarters, "cpu_share": 0.03}
    edge |= {"messages": {"update stored": 9}} | gauge.verdict(of_quarters)
    return {
        "minutes": 60.0,
        "num_faults": 1,
        "faults": {"kill broker": 1},
        "rounds": 2,
        "ends": {"committed": 2},
        "reasons_of_the_uncommitted": {},
        "rounds_without_end": 0,
        "days_sealed": 1,
        "rings": 1,
        "median_round_s": 12.0,
        "longest_gap_s": 20.0,
        "receipts": 9,
        "fates": {"counted": 9},
        "num_lost": 0,
        "num_doubled": 0,
        "replayed": {"equal": 2},
        "edge_node": edge,
        "left_behind": [],
        "readings": {
            "columns": list(vars(readings[0])),
            "rows": [reading.as_row() for reading in readings],
        },
        "fault_times": [{"at_s": 1.0, "what": "kill broker", "whom": ""}],
        "num_wristbands": 500,
        "broker": "mosquitto",
        "seed": 0,
        "beside": "",
        "command": "make soak",
        "machine": {"cores": 2, "processor": "a processor"},
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_lost": 1}, "1 updates lost"),
        ({"num_doubled": 2}, "2 updates counted twice"),
        ({"rounds_without_end": 1}, "without an end"),
        ({"replayed": {"equal": 1, "differs": 1}}, "replay"),
        ({"replayed": {}}, "replay"),
        ({"left_behind": ["process 7"]}, "process 7"),
    ],
)
def test_what_a_soak_must_not_show_fails_it(changes: dict[str, Any], words: str) -> None:
    assert report.failures(make_document()) == []
    (failure,) = report.failures(make_document() | changes)
    assert words in failure


def test_page_has_table_and_drawing(tmp_path: Path) -> None:
    path = page.write(make_document(), tmp_path)
    assert "| regional replay | 2 equal |" in path.read_text()
    assert "descriptors" in (tmp_path / page.DRAWING).read_text()


def test_command_that_repeats_a_run_names_no_place() -> None:
    assert soak.repeating(["--root", "/somewhere", "--seed", "3", "--beside", "much"]) == (
        "make soak ARGS='--seed 3'"
    )
    assert soak.repeating([]) == "make soak"


def test_no_drawing_without_readings(tmp_path: Path) -> None:
    document = make_document() | {"readings": {"columns": [], "rows": []}}
    with pytest.raises(ContractError):
        page.draw(document, tmp_path / page.DRAWING)

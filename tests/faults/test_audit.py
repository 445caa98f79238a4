"""The auditor finds what is lost, doubled or made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faultbed.books import Entry
from common.messages import FixedPoint
from common.tasks.dummy import DummyTask
from common.wire import shapes_of
from tests.faults.book import Book, Heard, Key, Made
from tests.faults.edges import Edge
from tests.faults.letters import SHAPES
from tests.faults.oddities import odd_fates, odd_receipts, odd_rows
from tests.faults.sums import expected_sums, same

BASE, OTHER = "a" * 64, "b" * 64
KEY: Key = ("wb-01", "update", BASE)
MADE = Made(
    "north",
    KEY,
    10,
    {"weight": np.full((2, 4), -2, np.int16), "bias": np.array([1, -2], np.int16)},
)
EVALUATED = Made("north", ("wb-01", "evaluation", "1"), 1, {"counts": np.array([1], np.int64)})


def make_book(*receipts: Heard) -> Book:
    book = Book(receipts=[*receipts])
    for digest in ("d1", "d2"):
        book.note(digest, MADE)
    return book


def stored(digest: str = "d1", device: str = "wb-01") -> Heard:
    return Heard(digest, device, "stored", "")


def make_edge(**changes: Any) -> Edge:
    edge = Edge(
        hospital="north",
        folder=Path(),
        rows={KEY: (MADE.delivered, 1, 10)},
        fates={("wb-01", BASE): ("counted", 1)},
        waiting={},
        aggregates={1: ("digest", "aggregate-000001.safetensors")},
        members={1: [("wb-01", BASE)]},
    )
    return replace(edge, **changes)


def committed(number: int = 1, base: str = BASE) -> Entry:
    outcome = {
        "round_id": number,
        "end": "committed",
        "purpose": "train",
        "base_digest": base,
        "aggregates": {"north": "digest"},
    }
    return Entry(0.0, "round_ended", {"outcome": outcome})


def fates(edge: Edge, *ended: Entry, final: bool = False) -> list[str]:
    entries = list(ended or [committed()])
    return list(odd_fates(entries, entries, {"north": edge}, final=final))


def receipts(edge: Edge, book: Book) -> list[str]:
    return list(odd_receipts(book.told_stored(), {"north": edge}, book))


def test_even_books_are_not_odd() -> None:
    book = make_book(stored(), stored("d2"))
    assert receipts(make_edge(), book) == []
    assert list(odd_rows({"north": make_edge()}, book)) == []
    assert fates(make_edge(), final=True) == []


def test_finds_a_receipted_update_that_is_not_stored() -> None:
    (found,) = receipts(make_edge(rows={}), make_book(stored()))
    assert found.startswith("LOST")


def test_finds_two_receipts_for_different_updates_of_one_base() -> None:
    book = make_book(stored(), stored("d3"))
    book.note("d3", replace(MADE, num_examples=11))
    assert any("two different" in line for line in receipts(make_edge(), book))


def test_finds_a_receipt_for_what_nobody_sent() -> None:
    (found,) = receipts(make_edge(), make_book(stored("dx")))
    assert "never sent" in found


@pytest.mark.parametrize("row", [("dx", 1, 10), (MADE.delivered, 1, 11)])
def test_finds_a_row_that_is_not_what_was_sent(row: tuple[str, int, int]) -> None:
    edges = {"north": make_edge(rows={KEY: row})}
    assert len(list(odd_rows(edges, make_book()))) == 1


def test_finds_a_waiting_update_whose_bytes_are_gone() -> None:
    edges = {"north": make_edge(fates={}, waiting={("wb-01", BASE): False})}
    (found,) = odd_rows(edges, make_book())
    assert found.startswith("LOST")


def test_finds_an_update_without_a_fate_though_its_base_was_committed() -> None:
    (found,) = fates(make_edge(fates={}, members={}, waiting={("wb-01", BASE): True}))
    assert found.startswith("LOST")


def test_update_for_the_open_base_may_wait_until_the_region_has_finished() -> None:
    edge = make_edge(waiting={("wb-01", OTHER): True})
    assert fates(edge) == []
    assert len(fates(edge, final=True)) == 1


def test_finds_an_update_that_is_in_two_committed_sums() -> None:
    edge = make_edge(members={1: [("wb-01", BASE)], 2: [("wb-01", BASE)]})
    assert any(line.startswith("TWICE") for line in fates(edge, committed(), committed(2)))


def test_finds_an_update_that_was_summed_and_has_another_fate() -> None:
    (found,) = fates(make_edge(fates={("wb-01", BASE): ("left_out", 1)}))
    assert found.startswith("TWICE")


def test_finds_an_update_that_is_counted_and_in_no_sum() -> None:
    (found,) = fates(make_edge(members={}))
    assert "in no sum" in found


def test_expected_sums_are_weighted_as_the_round_says() -> None:
    rule = FixedPoint(clip_norm=1.0, exponents={"weight": -15, "bias": -15})
    spec = {"fixed_point": rule.model_dump(), "base_digest": BASE}
    found = expected_sums(
        make_edge(), 1, make_book(), spec | {"weighting": "examples", "max_weight": 4}
    )
    assert found["update/bias"].tolist() == [4, -8]
    assert found["update/weight"].tolist() == [[-8] * 4] * 2


def test_late_update_is_expected_in_the_round_s_steps_and_weighs_less() -> None:
    rule = FixedPoint(clip_norm=1.0, exponents={"weight": -15, "bias": -17})
    before = rule.model_copy(update={"exponents": {"weight": -15, "bias": -15}})
    late = replace(MADE, rule=before)
    book = Book()
    book.note("d1", late)
    spec: dict[str, Any] = {"fixed_point": rule.model_dump(), "base_digest": OTHER}
    spec |= {"weighting": "uniform", "max_weight": 4, "max_staleness": 1, "late_bases": [BASE]}
    found = expected_sums(make_edge(), 1, book, spec)
    assert found["update/bias"].tolist() == [181 * 4, 181 * -8]


def test_evaluation_of_a_revoked_device_may_be_forgotten() -> None:
    book = make_book(stored("d9"))
    book.note("d9", EVALUATED)
    assert receipts(make_edge(), book)[0].startswith("LOST")
    assert receipts(make_edge(revoked=frozenset({"wb-01"})), book) == []


def test_shapes_are_the_dummy_task_s() -> None:
    assert shapes_of(DummyTask().initial(0)) == SHAPES


def test_sums_are_the_same_where_nothing_is_zeros() -> None:
    sums = {"update/weight": np.array([4, -8])}
    assert same(sums, dict(sums))
    assert same({"update/weight": np.zeros(2, int)}, {})
    assert not same(sums, {"update/weight": np.array([4, -7])})
    assert not same({}, sums)

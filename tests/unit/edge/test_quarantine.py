"""A hospital that screens: who is set aside, what becomes of it, and what its aggregate says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from common.messages import AggregateHeader, RobustRule, RoundSpec, ScreenRule
from common.wire import decode
from edge import reports
from edge.aggregate import aggregate
from edge.standing import MuteRule, Standing, Tally
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    ROSTER,
    SHAPES,
    SPARSE_SHAPES,
    make_integers,
    make_outcome,
    make_part,
    make_sparse_spec,
    make_sparse_update,
    make_spec,
    make_state,
    make_update,
    put_model,
)
from tests.unit.edge.hospital import Hospital

SCREEN = ScreenRule(max_distance=2, min_cosine=-1, min_updates=3, max_share=0.45)
LOUD = {name: np.full(shape, 4000, np.int16) for name, shape in SHAPES.items()}


def screened(round_id: int = 1, base: str = BASE, **changes: object) -> RoundSpec:
    return make_spec(round_id, base, screen=SCREEN, **changes)


def sound(num: int = 4) -> list[bytes]:
    return [make_update(f"band-{i}", i) for i in range(num)]


def total(num: int) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return {
        name: np.sum([make_integers(i)[name] for i in range(num)], axis=0, dtype=np.int64)
        for name in SHAPES
    }


def test_a_screened_sum_is_that_of_the_others() -> None:
    made = aggregate(HOSPITAL, screened(), SHAPES, [make_update("loud", 0, LOUD), *sound()], [])
    assert all(np.array_equal(made.tensors[f"update/{n}"], t) for n, t in total(4).items())
    assert made.members == ("band-0", "band-1", "band-2", "band-3")
    assert list(made.quarantined) == [("loud", BASE)]
    header, _ = decode(made.encoded(), AggregateHeader)
    assert (header.num_updates, header.weight, header.num_quarantined) == (4, 4, 1)


def test_a_screen_that_finds_nothing_changes_no_digest() -> None:
    plain = aggregate(HOSPITAL, make_spec(), SHAPES, sound(), [])
    assert aggregate(HOSPITAL, screened(), SHAPES, sound(), []).digest == plain.digest


def test_min_devices_counts_whose_updates_are_kept() -> None:
    updates = [make_update("loud", 0, LOUD), *sound(3)]
    made = aggregate(HOSPITAL, screened(min_devices=4), SHAPES, updates, [])
    assert (made.header.weight, made.members) == (0, ())
    assert list(made.quarantined) == [("loud", BASE)]


@pytest.mark.parametrize("rule", ["trimmed_mean", "geometric_median"])
def test_a_robust_rule_is_recorded_and_bounded(rule: str) -> None:
    spec = make_spec(robust=RobustRule.model_validate({"rule": rule}))
    made = aggregate(HOSPITAL, spec, SHAPES, [make_update("loud", 0, LOUD), *sound()], [])
    header, tensors = decode(made.encoded(), AggregateHeader)
    assert (header.rule, header.num_updates, header.num_quarantined) == (rule, 5, 0)
    for name, plain in total(4).items():
        off = np.abs(tensors[f"update/{name}"] / header.weight - plain / 4).max()
        assert off < np.abs((plain + 4000) / 5 - plain / 4).max() / 2


@pytest.mark.parametrize("rule", ["trimmed_mean", "geometric_median"])
def test_a_robust_rule_with_two_updates_leaves_them_stored(rule: str) -> None:
    spec = make_spec(robust=RobustRule.model_validate({"rule": rule}))
    made = aggregate(HOSPITAL, spec, SHAPES, sound(2), [])
    assert (made.header.weight, made.header.num_updates, made.members) == (0, 0, ())


def test_a_sparse_round_trims_each_coordinate_of_its_part() -> None:
    spec = make_sparse_spec(robust=RobustRule(rule="trimmed_mean"))
    sent = [make_sparse_update(f"band-{i}", i) for i in range(5)]
    made = aggregate(HOSPITAL, spec, SPARSE_SHAPES, sent, [])
    plain = np.sort([make_part(i) for i in range(5)], axis=0)[1:4].sum(axis=0, dtype=np.int64)
    assert np.array_equal(made.tensors["update/bias"], plain[:3])
    assert np.array_equal(made.tensors["update/weight"], plain[3:])
    assert made.header.weight == 3


def test_a_plain_sum_holds_one_update_at_a_time() -> None:
    alive = []

    def arriving() -> Iterator[bytes]:
        for number in range(3):
            alive.append(number)
            yield make_update(f"band-{number}", number)
            alive.remove(number)
            assert not alive

    assert aggregate(HOSPITAL, make_spec(), SHAPES, arriving(), []).header.num_updates == 3


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    put_model(made.coordinators, 1)
    yield made
    made.ledger.close()


def open_with_a_loud_band(hospital: Hospital, spec: RoundSpec) -> None:
    hospital.hear(make_state("open", spec.round_id, spec=spec))
    fields = {"round_id": spec.round_id, "base_digest": spec.base_digest}
    for device, seed, tensors in (("band-a", 0, None), ("band-b", 1, None), ("band-c", 2, LOUD)):
        receipt = hospital.receipt(make_update(device, seed, tensors, **fields), device)
        assert receipt.status == "stored"
    hospital.step()


def test_what_is_set_aside_has_its_fate_when_the_sum_is_frozen(hospital: Hospital) -> None:
    open_with_a_loud_band(hospital, screened())
    assert hospital.told().weight == 2
    assert hospital.fates() == {"band-a": "waiting", "band-b": "waiting", "band-c": "quarantined"}
    (row,) = reports.refusals(hospital.folder / "state")
    assert (row["device"], row["reason"]) == ("band-c", "quarantined: distance")
    assert row["score"] > row["allowed"] == 2
    told = hospital.meters.registry.get_sample_value
    assert told("pulsering_edge_quarantined_total", {"reason": "distance"}) == 1


def test_the_round_s_end_counts_the_others_and_gives_no_second_fate(hospital: Hospital) -> None:
    open_with_a_loud_band(hospital, screened())
    digest = hospital.told().aggregate_digest
    outcome = make_outcome(aggregates={HOSPITAL: digest})
    hospital.hear(make_state("closed", 5, spec=screened(), outcome=outcome))
    assert hospital.fates() == {"band-a": "counted", "band-b": "counted", "band-c": "quarantined"}


def test_an_archived_round_still_tells_who_was_set_aside(hospital: Hospital) -> None:
    open_with_a_loud_band(hospital, screened())
    outcome = make_outcome(aggregates={HOSPITAL: hospital.told().aggregate_digest})
    hospital.hear(make_state("closed", 5, spec=screened(), outcome=outcome))
    following = put_model(hospital.coordinators, 2)
    hospital.hear(make_state("open", 6, spec=screened(2, following)))
    assert hospital.ledger.archive_oldest(1, now=9.0) is not None
    (row,) = reports.refusals(hospital.folder / "state")
    assert (row["device"], row["reason"]) == ("band-c", "quarantined: distance")
    assert [r["num_refused"] for r in reports.rounds(hospital.folder / "state")] == [0, 0]
    assert hospital.fates()["band-c"] == "quarantined"


def test_an_aborted_round_s_next_does_not_wait_for_it_again(hospital: Hospital) -> None:
    """The next round has the same base: what was delivered stands, and it is complete at once."""
    open_with_a_loud_band(hospital, screened())
    aborted = make_outcome(end="aborted", model_digest=BASE)
    again = screened(2)
    hospital.hear(make_state("closed", 5, spec=screened(), outcome=aborted))
    status = hospital.hear(make_state("open", 6, spec=again, outcome=aborted))
    assert (status.phase, status.weight, status.complete) == ("ready", 2, True)
    assert hospital.fates()["band-c"] == "quarantined"


def test_set_aside_more_often_than_counted_is_muted(hospital: Hospital) -> None:
    standing = Standing(hospital.ledger, MuteRule(after=2, mute_s=60))
    with hospital.ledger.transaction():
        standing.screened(["band-c"], ["band-a"], now=1.0)
        standing.screened([], ["band-a", "band-c"], now=2.0)
        standing.screened(["band-c"], ["band-a"], now=3.0)
        assert standing.barred(3.0) == frozenset()
        standing.screened(["band-c"], ["band-a"], now=4.0)
    assert standing.barred(4.0) == {"band-c"}
    assert standing.barred(64.5) == frozenset()
    (told,) = [
        row
        for row in reports.devices(hospital.folder / "state", ROSTER, 5.0)
        if row["device"] == "band-c"
    ]
    assert (told["standing"], told["note"]) == ("muted", "quarantined")


def test_an_unusual_wearer_set_aside_now_and_then_is_never_muted() -> None:
    tally = Tally(after=5)
    for number in range(200):
        rare = number % 5 == 0
        assert tally.note(["band-c"] if rare else [], [] if rare else ["band-c"]) == []


def test_who_is_set_aside_every_other_time_is_muted_in_the_end() -> None:
    tally = Tally(after=5)
    reached = [tally.note(*((["x"], []) if n % 2 else ([], ["x"]))) for n in range(20)]
    assert ["x"] in reached


def test_nobody_is_muted_where_the_rule_says_so() -> None:
    tally = Tally(after=0)
    assert [tally.note(["x"], []) for _ in range(50)] == [[]] * 50


def test_a_node_mutes_who_is_set_aside_round_after_round(hospital: Hospital) -> None:
    hospital.mute_rule = MuteRule(after=2, mute_s=60)
    hospital.build()
    open_with_a_loud_band(hospital, screened())
    digest = hospital.told().aggregate_digest
    following = put_model(hospital.coordinators, 2)
    outcome = make_outcome(aggregates={HOSPITAL: digest}, model_digest=following)
    hospital.hear(make_state("closed", 5, spec=screened(), outcome=outcome))
    open_with_a_loud_band(hospital, screened(2, following))
    assert hospital.standing.barred(1.5) == {"band-c"}


def test_an_aggregate_that_was_not_recorded_sets_nobody_aside(hospital: Hospital) -> None:
    db = hospital.ledger._db
    db.execute("CREATE TABLE beside (id REFERENCES messages (id) DEFERRABLE INITIALLY DEFERRED)")
    fails_at_the_commit = "INSERT INTO beside VALUES (-1)"
    db.execute(f"CREATE TRIGGER full AFTER INSERT ON aggregates BEGIN {fails_at_the_commit}; END")
    open_with_a_loud_band(hospital, screened())
    for second in range(9):
        assert hospital.step(2.0 + 2 * second).phase == "collecting"
    db.execute("DROP TRIGGER full")
    assert hospital.step(30.0).phase == "ready"
    assert hospital.standing.muted(30.0) == frozenset()


def test_without_a_screen_nothing_is_set_aside(hospital: Hospital) -> None:
    open_with_a_loud_band(hospital, make_spec())
    assert hospital.told().weight == 3
    assert reports.refusals(hospital.folder / "state") == []

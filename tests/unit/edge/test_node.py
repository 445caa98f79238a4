from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common import topics, wire
from common.mailbox import message_path
from common.messages import RegionState, RoundOutcome
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    REGION,
    ROSTER,
    make_incoming,
    make_outcome,
    make_spec,
    make_state,
    make_update,
    put_model,
)
from tests.unit.edge.hospital import Hospital


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    yield made
    made.ledger.close()


def open_round(round_id: int = 1, base: str = BASE, **fields: object) -> RegionState:
    return make_state("open", round_id, spec=make_spec(round_id, base), **fields)


def test_open_round_is_joined_offered_and_told(hospital: Hospital) -> None:
    status = hospital.hear(open_round())
    assert (status.phase, status.round_id, status.num_invited) == ("collecting", 1, 3)
    retained = hospital.hospital_broker.retained
    assert retained[topics.model(REGION, HOSPITAL, BASE)]
    assert {topics.device(REGION, HOSPITAL, device, "invite") for device in ROSTER} <= set(retained)


def test_complete_round_becomes_ready_and_never_changes(hospital: Hospital) -> None:
    hospital.hear(open_round())
    assert {receipt.status for receipt in hospital.deliver(*ROSTER)} == {"stored"}
    status = hospital.step()
    assert (status.phase, status.weight, status.complete) == ("ready", 3, True)
    (late,) = hospital.deliver("band-a", seed=9)
    assert late.reason == "round_closed"
    assert hospital.step(now=1e6).aggregate_digest == status.aggregate_digest


def test_deadline_closes_the_round_even_without_the_coordinator(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    hospital.build()
    status = hospital.step(now=100.0)
    assert (status.phase, status.weight, status.complete) == ("ready", 1, False)


def test_restart_goes_on_with_the_same_round_sample_and_aggregate(hospital: Hospital) -> None:
    state = make_state(spec=make_spec(sample_fraction=0.5))
    invited = hospital.hear(state).num_invited
    assert invited == 2
    sample = hospital.ledger.round(1)
    hospital.build()
    assert hospital.hear(state).phase == "collecting"
    assert hospital.ledger.round(1) == sample
    ready = hospital.step(now=100.0)
    hospital.build()
    assert hospital.step(now=100.0).aggregate_digest == ready.aggregate_digest


def test_messages_are_acknowledged_after_the_commit_and_not_when_it_fails(
    hospital: Hospital,
) -> None:
    hospital.hear(open_round())
    acks: list[str] = []
    batch = [make_incoming(make_update(), acks=acks)]
    hospital.ledger.close()
    with pytest.raises(sqlite3.Error):
        hospital.node.on_messages(batch, now=1.0)
    assert acks == []
    hospital.build()
    hospital.node.on_messages(batch, now=1.0)
    assert acks == ["band-a"]


def test_messages_on_topics_of_nobody_are_acknowledged_and_counted(hospital: Hospital) -> None:
    hospital.hear(open_round())
    acks: list[str] = []
    stray = replace(make_incoming(make_update(), acks=acks), topic="pulsering/v1/update")
    hospital.node.on_messages([stray, make_incoming(make_update()), stray], now=1.0)
    assert len(acks) == 2
    registry = hospital.node._meters.registry
    assert registry.get_sample_value("pulsering_edge_passed_over_total") == 2


def test_skipped_round_keeps_its_updates_for_the_next_on_the_same_base(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    skipped = make_outcome(1, end="skipped")
    assert hospital.hear(make_state("closed", 2, outcome=skipped)).phase == "idle"
    status = hospital.hear(open_round(2, outcome=skipped))
    assert (status.phase, status.num_stored) == ("collecting", 1)
    assert hospital.step(now=100.0).weight == 1


def test_committed_round_gives_fates_and_clears_what_is_not_needed(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver(*ROSTER)
    digest = hospital.step().aggregate_digest
    following = put_model(hospital.coordinators, 1)
    committed = make_outcome(1, aggregates={HOSPITAL: digest}, model_digest=following)
    hospital.hear(open_round(2, following, outcome=committed))
    assert set(hospital.fates().values()) == {"counted"}
    assert hospital.hospital_broker.retained[topics.model(REGION, HOSPITAL, BASE)] == b""
    assert hospital.hospital_broker.retained[topics.model(REGION, HOSPITAL, following)]


def test_missed_rounds_are_learned_from_the_mailbox(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    following = put_model(hospital.coordinators, 1)
    put_outcome(hospital, make_outcome(1, end="skipped"))
    put_outcome(hospital, make_outcome(2, aggregates={}))
    hospital.hear(open_round(3, following))
    assert hospital.fates() == {"band-a": "left_out"}


def test_update_for_a_base_that_is_past_becomes_stale(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    hospital.hear(open_round(2, put_model(hospital.coordinators, 1)))
    assert hospital.fates() == {"band-a": "stale"}


def test_end_of_all_days_leaves_no_update_without_a_fate(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    status = hospital.hear(make_state("finished", 2, outcome=make_outcome(1, end="skipped")))
    assert (status.phase, hospital.fates()) == ("idle", {"band-a": "stale"})
    assert hospital.hospital_broker.retained[topics.model(REGION, HOSPITAL, BASE)] == b""


def test_model_that_is_not_in_the_mailbox_yet_is_asked_for_again(hospital: Hospital) -> None:
    spec = make_spec(base="7" * 64)
    assert "7" * 64 in hospital.hear(make_state(spec=spec)).error
    following = put_model(hospital.coordinators, 1)
    status = hospital.hear(open_round(2, following))
    assert (status.error, status.round_id) == ("", 2)


def test_file_that_holds_another_model_is_refused(hospital: Hospital) -> None:
    other = "8" * 64
    locations = {other: make_spec().locations[BASE]}
    spec = make_spec(base=BASE).model_copy(update={"base_digest": other, "locations": locations})
    assert "other tensors" in hospital.hear(make_state(spec=spec)).error


def test_region_that_begins_anew_is_told_about_the_old_ledger(hospital: Hospital) -> None:
    hospital.hear(open_round(5))
    assert "empty state_dir" in hospital.hear(open_round(1)).error


def test_offers_and_status_are_said_again_after_a_reconnect(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.hospital_broker.retained.clear()
    hospital.region_broker.retained.clear()
    hospital.node.on_hospital_broker()
    hospital.node.on_region_broker()
    hospital.step()
    assert len(hospital.hospital_broker.retained) == 4
    assert hospital.told().phase == "collecting"


def test_offline_broker_delays_offers_and_status_only(hospital: Hospital) -> None:
    hospital.hospital_broker.online = hospital.region_broker.online = False
    hospital.node.on_region(wire.encode_json(open_round()))
    hospital.node.step(1.0)
    hospital.hospital_broker.online = hospital.region_broker.online = True
    assert hospital.step().phase == "collecting"
    assert len(hospital.hospital_broker.retained) == 4


def test_status_is_said_at_changes_and_at_each_heartbeat(hospital: Hospital) -> None:
    hospital.hear(open_round(), now=1.0)
    num = len(hospital.region_broker.sent)
    hospital.step(now=2.0)
    assert len(hospital.region_broker.sent) == num
    hospital.step(now=6.5)
    assert len(hospital.region_broker.sent) == num + 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"x" * (2 << 20)])
def test_nonsense_on_the_region_topic_changes_nothing(hospital: Hospital, data: bytes) -> None:
    hospital.hear(open_round())
    hospital.node.on_region(data)
    assert hospital.step().phase == "collecting"


def test_goodbye_says_offline(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.node.say_goodbye(2.0)
    assert hospital.told().online is False


def put_outcome(hospital: Hospital, outcome: RoundOutcome) -> None:
    path = message_path(REGION, "ring", outcome.round_id, "outcome.json")
    hospital.coordinators.put(path, wire.encode_json(outcome))


@pytest.mark.parametrize("missed", [False, True])
def test_slow_round_that_was_counted_is_so_whatever_was_heard_of_it(
    hospital: Hospital, missed: bool
) -> None:
    def group(phase: str, **more: object) -> dict[str, object]:
        return {"hospitals": (HOSPITAL,), "phase": phase, "spec": make_spec(1), **more}

    hospital.hear(make_state("open", 1, spec=make_spec(2), groups=[group("open")]))
    hospital.deliver(*ROSTER)
    digest = hospital.step().aggregate_digest
    following = put_model(hospital.coordinators, 1)
    others = make_outcome(2, aggregates={"south": "a" * 64}, model_digest=following)
    own = make_outcome(1, aggregates={HOSPITAL: digest}, model_digest=following, group=(HOSPITAL,))
    for outcome in (others, own):
        put_outcome(hospital, outcome)
    if not missed:
        groups = [group("closed", outcome=own)]
        state = make_state("closed", 2, spec=make_spec(2), outcome=others, groups=groups)
        hospital.hear(state)
    hospital.hear(make_state("open", 3, spec=make_spec(3, following), outcome=others))
    assert set(hospital.fates().values()) == {"counted"}


def test_next_round_that_cannot_be_joined_does_not_keep_this_one_from_being_offered(
    hospital: Hospital,
) -> None:
    hospital.hear(open_round())
    hospital.hospital_broker.retained.clear()
    hospital.node.on_hospital_broker()
    assert "7" * 64 in hospital.hear(open_round(2, base="7" * 64)).error
    assert topics.model(REGION, HOSPITAL, BASE) in hospital.hospital_broker.retained


def test_full_disk_is_told_and_the_node_goes_on_when_there_is_room(hospital: Hospital) -> None:
    db = hospital.ledger._db
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    long_round = make_spec(evaluation_shapes={f"counts-{n:04d}": (1,) for n in range(2000)})
    assert "disk is full" in hospital.hear(make_state(spec=long_round), now=1.0).error
    db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    status = hospital.step(now=3.0)
    assert (status.error, status.phase) == ("", "collecting")


def test_clock_that_is_set_back_does_not_silence_the_heartbeat(hospital: Hospital) -> None:
    hospital.hear(open_round(), now=7200.0)
    num = len(hospital.region_broker.sent)
    hospital.step(now=3600.0)
    assert len(hospital.region_broker.sent) == num + 1


def test_round_number_far_ahead_is_joined_at_once(hospital: Hospital) -> None:
    hospital.hear(open_round())
    hospital.deliver("band-a")
    status = hospital.hear(open_round(1 << 53, put_model(hospital.coordinators, 1)))
    assert (status.round_id, hospital.fates()) == (1 << 53, {"band-a": "stale"})


def test_hospital_that_the_region_does_not_name_says_so_and_invites_nobody(
    hospital: Hospital,
) -> None:
    status = hospital.hear(make_state(spec=make_spec(), hospitals=("south",)))
    assert status.error.startswith(f"{HOSPITAL} does not belong to region {REGION}")
    assert status.round_id == 0
    assert not hospital.hospital_broker.retained
    status = hospital.hear(make_state(spec=make_spec(), revision=2, hospitals=(HOSPITAL, "south")))
    assert (status.error, status.round_id) == ("", 1)

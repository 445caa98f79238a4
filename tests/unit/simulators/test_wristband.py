"""What a wristband does when it is connected, invited and given models."""

from __future__ import annotations

import numpy as np
import pytest

from common import topics, wire
from common.digest import tensors_digest
from common.messages import (
    DeviceStatus,
)
from simulators.actions import Note, Publish, Subscribe, Unsubscribe, Work
from simulators.shelf import SharedModel
from simulators.wristband import Wristband
from tests.unit.simulators.builders import (
    BASE,
    INVITE,
    LATER,
    NOW,
    RECEIPT,
    UPDATE,
    WHO,
    deliver,
    invite,
    learned,
    make_spec,
    make_wristband,
    model_bytes,
    model_topic,
    only,
    receipt,
    start_job,
)


def test_says_everything_at_each_connection() -> None:
    band = make_wristband(connected=False)
    for _ in range(2):
        actions = band.connected(NOW)
        assert only(Subscribe, actions) == [Subscribe(INVITE), Subscribe(RECEIPT)]
        [status] = only(Publish, actions)
        assert status.retain
        assert wire.decode_json(status.payload, DeviceStatus).online
        band.disconnected()


def test_last_will_is_its_status_offline_and_retained() -> None:
    will = make_wristband().status(online=False)
    assert will.topic == topics.device("county", "north", "wb-101", "status")
    assert will.retain
    assert not wire.decode_json(will.payload, DeviceStatus).online


def test_asks_again_for_a_model_after_a_reconnection() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec()), NOW)
    band.disconnected()
    assert Subscribe(model_topic(BASE)) in band.connected(NOW)


def test_invite_subscribes_to_the_model_that_lacks_and_nothing_else() -> None:
    actions = make_wristband().received(INVITE, invite(make_spec()), NOW)
    assert actions == [Subscribe(model_topic(BASE))]


def test_invite_subscribes_to_every_model_to_evaluate() -> None:
    digests = [tensors_digest(m) for m in (BASE, LATER)]
    spec = make_spec(
        evaluate=tuple(digests), locations=dict.fromkeys(digests, "ring/0/model.safetensors")
    )
    actions = make_wristband().received(INVITE, invite(spec), NOW)
    assert {a.topic for a in only(Subscribe, actions)} == {model_topic(BASE), model_topic(LATER)}


def test_ignores_an_invite_past_its_close() -> None:
    spec = make_spec()
    assert make_wristband().received(INVITE, invite(spec), spec.closes_at) == []


def test_ignores_a_cleared_invite() -> None:
    assert make_wristband().received(INVITE, b"", NOW) == []


def test_ignores_the_same_invite_again() -> None:
    band = make_wristband()
    start_job(band, make_spec())
    assert band.received(INVITE, invite(make_spec()), NOW) == []


def test_ignores_an_older_round() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec(LATER, round_id=2)), NOW)
    assert band.received(INVITE, invite(make_spec(round_id=1)), NOW) == []
    assert band.round_id == 2


def test_trains_again_for_a_region_that_began_again_with_the_same_base() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec(round_id=9))
    band.received(RECEIPT, receipt(sent[UPDATE], "update"), NOW)
    actions = band.received(INVITE, invite(make_spec(round_id=1, opened_at=NOW + 99)), NOW)
    [work] = only(Work, actions)
    assert work.job.train
    assert band.num_unreceipted == 0


def test_follows_a_later_round_of_a_coordinator_whose_clock_stepped_back() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec(round_id=1)), NOW)
    band.received(INVITE, invite(make_spec(round_id=2, opened_at=NOW - 60)), NOW)
    assert band.round_id == 2


def test_keeps_its_update_when_the_open_round_is_told_with_another_deadline() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    assert band.received(INVITE, invite(make_spec(closes_at=NOW + 900)), NOW) == []
    assert band.num_unreceipted == 2


def test_round_that_only_evaluates_gets_no_update_that_was_still_being_made() -> None:
    band = make_wristband()
    old = start_job(band, make_spec())
    band.received(INVITE, invite(make_spec(round_id=2, purpose="evaluate")), NOW)
    assert only(Publish, band.worked(learned(old.spec), NOW)) == []
    actions = band.received(INVITE, invite(make_spec(round_id=3)), NOW)
    assert [message.topic for message in only(Publish, actions)] == [UPDATE]


@pytest.mark.parametrize(
    "payload",
    [
        b"{",
        b"\xff\x00",
        b"[]" * 10,
        b" " * (wire.MAX_JSON_BYTES + 1),
        invite(make_spec(), device="wb-102"),
        invite(make_spec(), hospital="south"),
        invite(make_spec(region="elsewhere")),
        invite(make_spec(task="beats")),
    ],
)
def test_refuses_an_invite_that_is_broken_or_not_for_it(payload: bytes) -> None:
    band = make_wristband()
    [note] = band.received(INVITE, payload, NOW)
    assert isinstance(note, Note)
    assert band.round_id == 0


def test_model_starts_the_work_and_ends_the_subscription() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec()), NOW)
    actions = band.received(model_topic(BASE), model_bytes(BASE), NOW)
    assert only(Unsubscribe, actions) == [Unsubscribe(model_topic(BASE))]
    [work] = only(Work, actions)
    assert work.job.train
    assert set(work.job.models) == {tensors_digest(BASE)}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no model",
        model_bytes(LATER),
        model_bytes(LATER, digest=tensors_digest(BASE)),
        model_bytes(BASE)[:-2],
    ],
    ids=["cleared", "no safetensors", "another", "another, renamed", "truncated"],
)
def test_never_works_with_bytes_that_lack_the_digest(payload: bytes) -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec()), NOW)
    assert only(Work, band.received(model_topic(BASE), payload, NOW)) == []
    assert only(Work, band.received(model_topic(BASE), model_bytes(BASE), NOW))


def test_ignores_a_model_it_did_not_ask_for() -> None:
    assert make_wristband().received(model_topic(BASE), model_bytes(BASE), NOW) == []


def test_does_not_ask_again_for_a_model_it_has() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    actions = band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    assert only(Subscribe, actions) == []


def test_stops_asking_for_a_model_that_no_round_needs_any_more() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec()), NOW)
    actions = band.received(INVITE, invite(make_spec(LATER, round_id=2)), NOW)
    assert actions == [Unsubscribe(model_topic(BASE)), Subscribe(model_topic(LATER))]


def test_wristbands_with_a_common_shelf_hold_a_model_once() -> None:
    shelf: dict[str, SharedModel] = {}
    jobs = []
    for _ in range(2):
        band = Wristband(WHO, "dummy", np.random.default_rng(0), shelf)
        band.connected(NOW)
        jobs.append(start_job(band, make_spec()))
    digest = tensors_digest(BASE)
    assert jobs[0].models[digest] is jobs[1].models[digest]


def test_waits_without_work_for_models_that_never_come_and_takes_the_next_round() -> None:
    band = make_wristband()
    band.received(INVITE, invite(make_spec()), NOW)
    assert band.next_due == float("inf")
    assert band.tick(NOW + 600) == []
    assert start_job(band, make_spec(LATER, round_id=2), LATER).spec.round_id == 2

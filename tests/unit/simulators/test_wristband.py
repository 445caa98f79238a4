from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common import topics, wire
from common.digest import bytes_digest, tensors_digest
from common.messages import (
    DeviceStatus,
    EvaluationHeader,
    FixedPoint,
    Invite,
    LocalRule,
    ModelHeader,
    Reason,
    Receipt,
    RoundSpec,
    ServerRule,
    UpdateHeader,
)
from simulators.actions import Action, Note, Publish, Subscribe, Unsubscribe, Work
from simulators.jobs import Identity, Job, Learned, LocalEvaluation, LocalUpdate, Model
from simulators.wristband import SharedModel, Wristband

WHO = Identity("county", "north", "wb-101")
NOW = 1000.0
INVITE = topics.device("county", "north", "wb-101", "invite")
RECEIPT = topics.device("county", "north", "wb-101", "receipt")
UPDATE = topics.device("county", "north", "wb-101", "update")
EVALUATION = topics.device("county", "north", "wb-101", "evaluation")


def make_model(value: float = 0.0) -> Model:
    return {"w": np.full(3, value, dtype=np.float32)}


BASE, LATER = make_model(0.0), make_model(1.0)


def make_spec(base: Model = BASE, round_id: int = 1, **changes: Any) -> RoundSpec:
    digest = tensors_digest(base)
    values: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": round_id,
        "task": "dummy",
        "base_digest": digest,
        "state_digest": "0" * 64,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        "fixed_point": FixedPoint(clip_norm=1.0, exponents={"w": -14}),
        "evaluate": (digest,),
        "evaluation_shapes": {"confusion": (2, 2)},
        "locations": {digest: "ring/0/model.safetensors"},
        "opened_at": NOW + round_id,
        "closes_at": NOW + 500,
    }
    return RoundSpec(**(values | changes))


def invite(spec: RoundSpec, hospital: str = "north", device: str = "wb-101") -> bytes:
    return wire.encode_json(Invite(hospital=hospital, device=device, spec=spec))


def model_topic(model: Model) -> str:
    return topics.model("county", "north", tensors_digest(model))


def model_bytes(model: Model, digest: str = "") -> bytes:
    header = ModelHeader(
        region="county", task="dummy", digest=digest or tensors_digest(model), made_by_round=0
    )
    return wire.encode(header, model)


def receipt(payload: bytes, subject: str, reason: Reason | None = None) -> bytes:
    return wire.encode_json(
        Receipt.model_validate(
            {
                "device": "wb-101",
                "subject": subject,
                "round_id": 1,
                "content_digest": bytes_digest(payload),
                "status": "rejected" if reason else "stored",
                "reason": reason,
            }
        )
    )


def learned(spec: RoundSpec, train: bool = True) -> Learned:
    integers = {"w": np.array([1, 2, 3], dtype=np.int16)}
    counts = {f"{d}/confusion": np.eye(2, dtype=np.int64) for d in spec.evaluate}
    return Learned(
        spec,
        LocalUpdate(spec.base_digest, 10, 0, integers) if train else None,
        LocalEvaluation(2, counts) if spec.evaluate else None,
    )


def make_wristband(connected: bool = True) -> Wristband:
    band = Wristband(WHO, "dummy", np.random.default_rng(0))
    if connected:
        band.connected(NOW)
    return band


def only(kind: type[Any], actions: Sequence[Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def start_job(band: Wristband, spec: RoundSpec, model: Model = BASE, now: float = NOW) -> Job:
    actions = band.received(INVITE, invite(spec), now)
    actions += band.received(model_topic(model), model_bytes(model), now)
    [work] = only(Work, actions)
    job: Job = work.job
    return job


def deliver(band: Wristband, spec: RoundSpec, model: Model = BASE) -> dict[str, bytes]:
    """Invite, model, work: the payloads published, by topic."""
    job = start_job(band, spec, model)
    sent = only(Publish, band.worked(learned(job.spec), NOW))
    return {message.topic: message.payload for message in sent}


# Connection


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


# Invite


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


# Model


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


# Work


def test_publishes_one_update_and_one_evaluation() -> None:
    sent = deliver(make_wristband(), make_spec())
    assert set(sent) == {UPDATE, EVALUATION}
    header, integers = wire.decode(sent[UPDATE], UpdateHeader)
    assert (header.device, header.round_id, header.num_examples) == ("wb-101", 1, 10)
    assert integers["w"].tolist() == [1, 2, 3]
    evaluation, _ = wire.decode(sent[EVALUATION], EvaluationHeader)
    assert evaluation.models == (tensors_digest(BASE),)


def test_evaluates_without_training_when_the_round_only_evaluates() -> None:
    band = make_wristband()
    job = start_job(band, make_spec(purpose="evaluate"))
    assert not job.train
    sent = only(Publish, band.worked(learned(job.spec, train=False), NOW))
    assert [message.topic for message in sent] == [EVALUATION]


def test_keeps_what_it_made_offline_until_it_is_connected() -> None:
    band = make_wristband()
    job = start_job(band, make_spec())
    band.disconnected()
    assert band.worked(learned(job.spec), NOW) == []
    assert band.next_due == float("inf")
    band.connected(NOW)
    assert len(band.tick(NOW + 2)) == 2


def test_gives_a_round_up_whose_work_failed_but_not_the_next() -> None:
    band = make_wristband()
    job = start_job(band, make_spec())
    assert band.failed(job, "no beats", NOW) == [Note("local_work_failed", "no beats")]
    assert only(Work, band.received(INVITE, invite(make_spec(round_id=2)), NOW))


def test_drops_work_for_a_base_that_was_left_while_it_ran() -> None:
    band = make_wristband()
    old = start_job(band, make_spec())
    band.received(INVITE, invite(make_spec(LATER, round_id=2)), NOW)
    assert band.received(model_topic(LATER), model_bytes(LATER), NOW) == [
        Unsubscribe(model_topic(LATER))
    ]
    [work] = only(Work, band.worked(learned(old.spec), NOW))
    assert work.job.spec.round_id == 2


def test_update_made_for_an_earlier_round_with_the_same_base_is_sent_for_the_open_one() -> None:
    band = make_wristband()
    old = start_job(band, make_spec())
    band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    actions = band.worked(learned(old.spec), NOW)
    [update] = only(Publish, actions)
    assert wire.decode(update.payload, UpdateHeader)[0].round_id == 2
    [work] = only(Work, actions)
    assert not work.job.train
    assert work.job.spec.evaluate


# Re-sending


def test_sends_again_after_5_s_then_ever_later_up_to_a_minute() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec())
    band.received(RECEIPT, receipt(sent[EVALUATION], "evaluation"), NOW)
    now = NOW
    for delay_s in (5, 10, 20, 40, 60, 60, 60):
        assert delay_s <= band.next_due - now <= 1.25 * delay_s
        now = band.next_due
        assert band.tick(now) == [Publish(UPDATE, sent[UPDATE])]


def test_sends_nothing_before_it_is_due() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    assert band.tick(NOW + 4.9) == []


def test_stops_sending_after_the_receipt() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec())
    band.received(RECEIPT, receipt(sent[UPDATE], "update"), NOW)
    band.received(RECEIPT, receipt(sent[EVALUATION], "evaluation"), NOW)
    assert band.num_unreceipted == 0
    assert band.tick(NOW + 1e6) == []


def test_rejection_ends_sending_and_is_noted() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec())
    [note] = band.received(RECEIPT, receipt(sent[UPDATE], "update", Reason.NORM), NOW)
    assert note == Note("message_rejected", "update: norm")
    assert band.num_unreceipted == 1


@pytest.mark.parametrize("payload", [receipt(b"other bytes", "update"), b"{}", b"", b"\x00" * 50])
def test_receipt_for_other_bytes_changes_nothing(payload: bytes) -> None:
    band = make_wristband()
    deliver(band, make_spec())
    band.received(RECEIPT, payload, NOW)
    assert band.num_unreceipted == 2


def test_sends_soon_again_after_a_reconnection() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    band.tick(NOW + 100)
    band.disconnected()
    band.connected(NOW + 101)
    assert len(band.tick(NOW + 102)) == 2


# Later rounds


def test_another_base_discards_what_is_unreceipted() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    band.received(INVITE, invite(make_spec(LATER, round_id=2)), NOW)
    assert band.num_unreceipted == 0


def test_same_base_sends_the_unreceipted_update_for_the_new_round() -> None:
    band = make_wristband()
    first = deliver(band, make_spec())[UPDATE]
    actions = band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    [again] = only(Publish, actions)
    header, integers = wire.decode(again.payload, UpdateHeader)
    assert header.round_id == 2
    assert tensors_digest(integers) == tensors_digest(wire.decode(first, UpdateHeader)[1])


def test_receipt_for_the_first_sending_settles_the_second_too() -> None:
    band = make_wristband()
    first = deliver(band, make_spec())[UPDATE]
    band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    band.received(RECEIPT, receipt(first, "update"), NOW)
    assert band.num_unreceipted == 0


def test_same_base_sends_nothing_when_the_update_is_stored() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec())
    band.received(RECEIPT, receipt(sent[UPDATE], "update"), NOW)
    actions = band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    [work] = actions
    assert isinstance(work, Work)
    assert not work.job.train


def test_same_base_sends_again_an_update_that_came_too_late() -> None:
    band = make_wristband()
    sent = deliver(band, make_spec())
    band.received(RECEIPT, receipt(sent[UPDATE], "update", Reason.ROUND_CLOSED), NOW)
    actions = band.received(INVITE, invite(make_spec(round_id=2)), NOW)
    assert [message.topic for message in only(Publish, actions)] == [UPDATE]


def test_same_base_with_other_scales_trains_again() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    other = make_spec(round_id=2, fixed_point=FixedPoint(clip_norm=2.0, exponents={"w": -13}))
    [work] = band.received(INVITE, invite(other), NOW)
    assert isinstance(work, Work)
    assert work.job.train

"""What a wristband makes, keeps, sends again and drops."""

from __future__ import annotations

import pytest

from common import wire
from common.digest import tensors_digest
from common.messages import (
    EvaluationHeader,
    FixedPoint,
    Reason,
    UpdateHeader,
)
from simulators.actions import Note, Publish, Unsubscribe, Work
from tests.unit.simulators.builders import (
    BASE,
    EVALUATION,
    INVITE,
    LATER,
    NOW,
    RECEIPT,
    UPDATE,
    deliver,
    invite,
    learned,
    make_model,
    make_spec,
    make_wristband,
    model_bytes,
    model_topic,
    only,
    receipt,
    start_job,
)


def test_publishes_one_update_and_one_evaluation() -> None:
    sent = deliver(make_wristband(), make_spec())
    assert set(sent) == {UPDATE, EVALUATION}
    header, integers = wire.decode(sent[UPDATE], UpdateHeader)
    assert (header.device, header.round_id, header.num_examples) == ("wb-101", 1, 10)
    assert integers["w"].tolist() == [1, 2, 3]
    evaluation, _ = wire.decode(sent[EVALUATION], EvaluationHeader)
    assert evaluation.models == (tensors_digest(BASE),)


def test_an_update_that_missed_its_round_is_sent_late_where_its_base_still_counts() -> None:
    band = make_wristband()
    missed = deliver(band, make_spec())[UPDATE]
    late_bases = (tensors_digest(BASE),)
    spec = make_spec(LATER, 2, max_staleness=1, late_bases=late_bases)
    [sent] = only(Publish, band.received(INVITE, invite(spec), NOW + 2))
    header, integers = wire.decode(sent.payload, UpdateHeader)
    assert sent.topic == UPDATE
    assert (header.round_id, header.base_digest) == (2, late_bases[0])
    assert integers["w"].tolist() == wire.decode(missed, UpdateHeader)[1]["w"].tolist()


def test_a_late_update_and_the_new_one_wait_for_a_receipt_each() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    spec = make_spec(LATER, 2, max_staleness=1, late_bases=(tensors_digest(BASE),), evaluate=())
    [late] = only(Publish, band.received(INVITE, invite(spec), NOW + 2))
    [work] = only(Work, band.received(model_topic(LATER), model_bytes(LATER), NOW + 2))
    [fresh] = only(Publish, band.worked(learned(work.job.spec), NOW + 3))
    assert band.num_unreceipted == 2
    band.received(RECEIPT, receipt(late.payload, "update"), NOW + 4)
    band.received(RECEIPT, receipt(fresh.payload, "update"), NOW + 4)
    assert band.num_unreceipted == 0


def test_the_receipt_of_one_late_update_settles_no_later_one() -> None:
    band = make_wristband()
    last = make_model(2.0)
    oldest, older = tensors_digest(BASE), tensors_digest(LATER)
    deliver(band, make_spec())
    spec = make_spec(LATER, 2, max_staleness=2, late_bases=(oldest,), evaluate=())
    [first] = only(Publish, band.received(INVITE, invite(spec), NOW + 2))
    [work] = only(Work, band.received(model_topic(LATER), model_bytes(LATER), NOW + 2))
    band.worked(learned(work.job.spec), NOW + 3)
    spec = make_spec(last, 3, max_staleness=2, late_bases=(older, oldest), evaluate=())
    [second] = only(Publish, band.received(INVITE, invite(spec), NOW + 4))
    assert wire.decode(second.payload, UpdateHeader)[0].base_digest == older
    band.received(RECEIPT, receipt(first.payload, "update"), NOW + 5)
    assert band.num_unreceipted == 1
    band.received(RECEIPT, receipt(second.payload, "update"), NOW + 5)
    assert band.num_unreceipted == 0


def test_work_that_ends_after_its_round_is_sent_late() -> None:
    band = make_wristband()
    job = start_job(band, make_spec(evaluate=()))
    spec = make_spec(LATER, 2, max_staleness=1, late_bases=(tensors_digest(BASE),), evaluate=())
    band.received(INVITE, invite(spec), NOW + 2)
    sent = only(Publish, band.worked(learned(job.spec), NOW + 3))
    assert [wire.decode(each.payload, UpdateHeader)[0].round_id for each in sent] == [2]


@pytest.mark.parametrize("reason", [None, Reason.STALE, Reason.NORM])
def test_a_late_update_is_not_said_again_after_its_receipt(reason: Reason | None) -> None:
    band = make_wristband()
    deliver(band, make_spec())
    base = tensors_digest(BASE)
    spec = make_spec(LATER, 2, max_staleness=2, late_bases=(base,), evaluate=())
    [late] = only(Publish, band.received(INVITE, invite(spec), NOW + 2))
    band.received(RECEIPT, receipt(late.payload, "update", reason), NOW + 3)
    bases = (tensors_digest(LATER), base)
    spec = make_spec({"w": LATER["w"] + 1}, 3, max_staleness=2, late_bases=bases, evaluate=())
    assert only(Publish, band.received(INVITE, invite(spec), NOW + 4)) == []


def test_a_late_update_waits_through_a_round_that_only_evaluates() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    late = {"max_staleness": 1, "late_bases": (tensors_digest(BASE),), "evaluate": ()}
    pausing = make_spec(LATER, 2, purpose="evaluate", **late)
    assert only(Publish, band.received(INVITE, invite(pausing), NOW + 2)) == []
    training = make_spec(LATER, 3, **late)
    assert len(only(Publish, band.received(INVITE, invite(training), NOW + 3))) == 1


def test_an_update_that_no_later_round_takes_is_dropped() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    assert only(Publish, band.received(INVITE, invite(make_spec(LATER, 2)), NOW + 2)) == []
    assert band.num_unreceipted == 0


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


def test_sends_soon_again_when_the_clock_was_set_back() -> None:
    band = make_wristband()
    deliver(band, make_spec())
    band.tick(NOW + 100)
    band.hurry(NOW - 3600)
    assert len(band.tick(NOW - 3599)) == 2


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

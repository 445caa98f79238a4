"""What a sparse round left unsaid: when a wristband carries it over, and when it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from common.messages import FixedPoint, Reason, RoundSpec
from simulators.actions import Publish, Work
from simulators.jobs import Job, Model
from simulators.wristband import Wristband
from tests.unit.simulators.builders import (
    BASE,
    INVITE,
    LATER,
    NOW,
    RECEIPT,
    UPDATE,
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

SPARSE = FixedPoint(clip_norm=1.0, exponents={"w": -14}, parts=4)
LAST = make_model(2.0)


def sparse_spec(base: Model = BASE, round_id: int = 1, **changes: Any) -> RoundSpec:
    return make_spec(base, round_id, **({"fixed_point": SPARSE, "evaluate": ()} | changes))


def deliver(band: Wristband, job: Job, left: float | None) -> bytes:
    """Finish a job whose update leaves `left` unsaid; its message."""
    done = learned(job.spec)
    assert done.update is not None
    residual = None if left is None else make_model(left)
    [sent] = only(
        Publish, band.worked(replace(done, update=replace(done.update, residual=residual)), NOW)
    )
    assert sent.topic == UPDATE
    payload: bytes = sent.payload
    return payload


def first_round(band: Wristband, left: float | None = 5.0, reason: Reason | None = None) -> None:
    message = deliver(band, start_job(band, sparse_spec()), left)
    band.received(RECEIPT, receipt(message, "update", reason), NOW)


def carried(job: Job) -> float | None:
    return None if job.residual is None else float(job.residual["w"][0])


def test_the_first_update_carries_nothing_over() -> None:
    assert start_job(make_wristband(), sparse_spec()).residual is None


def test_what_a_stored_update_left_unsaid_goes_into_the_next() -> None:
    band = make_wristband()
    first_round(band)
    assert carried(start_job(band, sparse_spec(LATER, 2), LATER)) == 5.0


@pytest.mark.parametrize("reason", [Reason.NORM, Reason.ROUND_CLOSED])
def test_a_refused_update_leaves_what_was_unsaid_before(reason: Reason) -> None:
    band = make_wristband()
    first_round(band)
    message = deliver(band, start_job(band, sparse_spec(LATER, 2), LATER), 6.0)
    band.received(RECEIPT, receipt(message, "update", reason), NOW)
    assert carried(start_job(band, sparse_spec(LAST, 3), LAST)) == 5.0


def test_an_update_without_a_receipt_leaves_what_was_unsaid_before() -> None:
    band = make_wristband()
    first_round(band)
    deliver(band, start_job(band, sparse_spec(LATER, 2), LATER), 6.0)
    assert carried(start_job(band, sparse_spec(LAST, 3), LAST)) == 5.0


def test_a_round_repeated_for_the_same_base_changes_neither_bytes_nor_residual() -> None:
    band = make_wristband()
    message = deliver(band, start_job(band, sparse_spec()), 5.0)
    late = receipt(message, "update", Reason.ROUND_CLOSED)
    band.received(RECEIPT, late, NOW)
    [again] = only(Publish, band.received(INVITE, invite(sparse_spec(round_id=2)), NOW))
    band.received(RECEIPT, receipt(again.payload, "update"), NOW)
    assert not only(Work, band.received(INVITE, invite(sparse_spec(round_id=3)), NOW))
    assert carried(start_job(band, sparse_spec(LATER, 4), LATER)) == 5.0


def test_training_again_for_the_same_base_begins_with_the_same_residual() -> None:
    """The update stored for this base is not superseded: the hospital keeps the first."""
    band = make_wristband()
    first_round(band)
    deliver(band, start_job(band, sparse_spec(LATER, 2), LATER), 6.0)
    other = SPARSE.model_copy(update={"clip_norm": 2.0})
    [work] = only(
        Work, band.received(INVITE, invite(sparse_spec(LATER, 3, fixed_point=other)), NOW)
    )
    assert carried(work.job) == 5.0


def test_a_new_cycle_begins_without() -> None:
    band = make_wristband()
    first_round(band)
    assert carried(start_job(band, sparse_spec(LATER, 2, cycle=2), LATER)) is None


def test_a_region_that_began_anew_begins_without() -> None:
    band = make_wristband()
    first_round(band)
    job = start_job(band, sparse_spec(LATER, 2), LATER)
    assert carried(job) == 5.0
    deliver(band, job, 6.0)
    anew = sparse_spec(LAST, 1, opened_at=NOW + 50)
    assert carried(start_job(band, anew, LAST)) is None


def test_an_evaluation_round_hands_no_residual_to_its_job() -> None:
    band = make_wristband()
    first_round(band)
    spec = sparse_spec(LATER, 2)
    asked = spec.model_copy(update={"purpose": "evaluate", "evaluate": (spec.base_digest,)})
    actions = band.received(INVITE, invite(asked), NOW)
    actions += band.received(model_topic(LATER), model_bytes(LATER), NOW)
    [work] = only(Work, actions)
    assert work.job.residual is None
    band.worked(learned(work.job.spec, train=False), NOW)
    assert carried(start_job(band, sparse_spec(LAST, 3), LAST)) == 5.0


def test_a_dense_round_ends_the_carrying() -> None:
    band = make_wristband()
    first_round(band)
    dense = FixedPoint(clip_norm=1.0, exponents={"w": -14})
    message = deliver(band, start_job(band, sparse_spec(LATER, 2, fixed_point=dense), LATER), None)
    band.received(RECEIPT, receipt(message, "update"), NOW)
    assert carried(start_job(band, sparse_spec(LAST, 3), LAST)) is None

"""Whose messages are taken: consent withdrawn, muted, listened to again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from common import topics, wire
from common.digest import tensors_digest
from common.mailbox import message_path
from common.messages import Reason, RoundSpec
from edge import reports
from edge.ledger import Consent, Ledger
from edge.standing import MuteRule, Standing
from tests.unit.edge.builders import (
    BASE,
    HOSPITAL,
    REGION,
    ROSTER,
    SHAPES,
    make_evaluation,
    make_incoming,
    make_model,
    make_outcome,
    make_spec,
    make_state,
    make_update,
    put_model,
)
from tests.unit.edge.hospital import Hospital

NEXT = tensors_digest(make_model(1))
TOO_LONG = {name: np.full(shape, 32000, np.int16) for name, shape in SHAPES.items()}


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Hospital]:
    made = Hospital(tmp_path)
    put_model(made.coordinators, 1)
    made.hear(make_state(spec=make_spec()))
    yield made
    made.ledger.close()


def decide(hospital: Hospital, device: str, consent: Consent) -> None:
    """What another process writes beside the node."""
    beside = Ledger(hospital.folder / "state")
    with beside.transaction():
        beside.decide(device, consent, "by letter", 1.0)
    beside.close()


@contextmanager
def full_disk(hospital: Hospital, table: str) -> Iterator[None]:
    """Within it the node can insert nothing into that table."""
    db = hospital.ledger._db
    fault = "SELECT RAISE (FAIL, 'disk is full')"
    db.execute(f"CREATE TEMP TRIGGER full BEFORE INSERT ON {table} BEGIN {fault}; END")
    yield
    db.execute("DROP TRIGGER full")


def standings(hospital: Hospital, now: float = 1.0) -> dict[str, str]:
    rows = reports.devices(hospital.folder / "state", ROSTER, now)
    return {row["device"]: row["standing"] for row in rows}


def following(**changes: object) -> RoundSpec:
    return make_spec(2, NEXT, **changes)


def send_faulty(
    hospital: Hospital, device: str, times: int, now: float = 1.0
) -> list[Reason | None]:
    data = make_update(device, tensors=TOO_LONG)
    return [hospital.receipt(data, device, now).reason for _ in range(times)]


def test_a_revoked_wristband_s_waiting_update_is_withdrawn(hospital: Hospital) -> None:
    hospital.deliver("band-a", "band-b")
    decide(hospital, "band-a", "revoked")
    hospital.step()
    assert hospital.fates() == {"band-a": "withdrawn", "band-b": "waiting"}
    assert standings(hospital)["band-a"] == "revoked"


def test_nothing_of_a_revoked_wristband_is_looked_at(hospital: Hospital) -> None:
    decide(hospital, "band-a", "revoked")
    hospital.step()
    assert hospital.receipt(b"not even a message", "band-a").reason is Reason.REVOKED


def test_a_round_does_not_wait_for_a_revoked_wristband(hospital: Hospital) -> None:
    hospital.deliver("band-b", "band-c")
    decide(hospital, "band-a", "revoked")
    status = hospital.step()
    assert (status.phase, status.complete, status.weight) == ("ready", True, 2)


def test_the_invite_of_a_revoked_wristband_is_taken_back(hospital: Hospital) -> None:
    invite = topics.device(REGION, HOSPITAL, "band-a", "invite")
    assert hospital.hospital_broker.retained[invite]
    decide(hospital, "band-a", "revoked")
    hospital.step()
    assert hospital.hospital_broker.retained[invite] == b""


def test_a_revoked_wristband_s_evaluation_is_forgotten_and_may_come_again(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path)
    spec = make_spec(evaluate=(BASE,))
    hospital.hear(make_state(spec=spec))
    evaluation = make_incoming(make_evaluation("band-a"), "band-a", "evaluation")
    hospital.node.on_messages([evaluation], 1.0)
    assert hospital.step().num_evaluated == 1
    decide(hospital, "band-a", "revoked")
    assert hospital.step().num_evaluated == 0
    decide(hospital, "band-a", "given")
    hospital.step()
    hospital.node.on_messages([evaluation], 1.0)
    assert hospital.step().num_evaluated == 1
    hospital.ledger.close()


def test_what_a_ring_may_be_adding_up_is_counted_if_it_commits(hospital: Hospital) -> None:
    hospital.deliver(*ROSTER)
    digest = hospital.step().aggregate_digest
    assert digest
    decide(hospital, "band-a", "revoked")
    hospital.step()
    assert hospital.fates()["band-a"] == "waiting"
    outcome = make_outcome(1, aggregates={HOSPITAL: digest})
    hospital.hear(make_state(revision=2, spec=following(), outcome=outcome))
    assert set(hospital.fates().values()) == {"counted"}


def test_what_a_ring_did_not_commit_is_withdrawn(hospital: Hospital) -> None:
    hospital.deliver(*ROSTER)
    hospital.step()
    decide(hospital, "band-a", "revoked")
    hospital.step()
    skipped = make_outcome(1, end="skipped")
    hospital.hear(make_state(revision=2, spec=make_spec(2), outcome=skipped))
    assert hospital.fates() == {"band-a": "withdrawn", "band-b": "waiting", "band-c": "waiting"}
    assert hospital.step().weight == 2


def test_a_revocation_made_while_the_node_was_stopped_holds_at_its_next_start(
    hospital: Hospital,
) -> None:
    hospital.deliver("band-a")
    hospital.ledger.close()
    decide(hospital, "band-a", "revoked")
    hospital.build()
    hospital.step()
    assert hospital.fates() == {"band-a": "withdrawn"}


def test_a_revocation_that_could_not_be_acted_on_at_once_is_acted_on_later(
    hospital: Hospital,
) -> None:
    hospital.deliver("band-a", "band-b")
    decide(hospital, "band-a", "revoked")
    with full_disk(hospital, "fates"):
        assert hospital.step().error == "disk is full"
    hospital.step(now=3.0)
    assert hospital.fates() == {"band-a": "withdrawn", "band-b": "waiting"}


def test_a_round_whose_end_nobody_told_keeps_no_revoked_update_for_the_next(
    hospital: Hospital,
) -> None:
    hospital.deliver(*ROSTER)
    hospital.step()
    decide(hospital, "band-a", "revoked")
    hospital.step()
    assert hospital.fates()["band-a"] == "waiting"
    assert hospital.hear(make_state(revision=2, spec=make_spec(2))).num_stored == 2
    assert hospital.step().weight == 2
    assert hospital.fates() == {"band-a": "withdrawn", "band-b": "waiting", "band-c": "waiting"}


def test_what_a_ring_did_not_commit_is_withdrawn_before_what_is_old_is_stale(
    hospital: Hospital,
) -> None:
    hospital.deliver(*ROSTER)
    hospital.step()
    decide(hospital, "band-a", "revoked")
    hospital.step()
    path = message_path(REGION, "ring", 1, "outcome.json")
    hospital.coordinators.put(path, wire.encode_json(make_outcome(1, end="skipped")))
    hospital.hear(make_state(revision=3, spec=following()))
    assert hospital.fates() == {"band-a": "withdrawn", "band-b": "stale", "band-c": "stale"}


def test_a_readmitted_wristband_is_invited_to_the_next_round(hospital: Hospital) -> None:
    decide(hospital, "band-a", "revoked")
    hospital.step()
    decide(hospital, "band-a", "given")
    status = hospital.hear(make_state(revision=2, spec=following()))
    assert status.num_invited == 3


def test_a_round_whose_invite_was_taken_back_does_not_wait_for_one_readmitted(
    hospital: Hospital,
) -> None:
    decide(hospital, "band-a", "revoked")
    hospital.step()
    decide(hospital, "band-a", "given")
    hospital.deliver("band-b", "band-c")
    assert hospital.step().complete


def test_revoked_wristbands_are_not_sampled(hospital: Hospital) -> None:
    decide(hospital, "band-a", "revoked")
    status = hospital.hear(make_state(revision=2, spec=following()))
    assert status.num_invited == 2


def test_a_wristband_that_fails_repeatedly_is_muted_and_not_waited_for(hospital: Hospital) -> None:
    reasons = send_faulty(hospital, "band-a", 6)
    assert reasons == [Reason.NORM] * 5 + [Reason.MUTED]
    assert standings(hospital)["band-a"] == "muted"
    hospital.deliver("band-b", "band-c")
    assert hospital.step().complete


def test_a_mute_outlives_a_restart_and_ends_by_itself(hospital: Hospital) -> None:
    send_faulty(hospital, "band-a", 5)
    hospital.ledger.close()
    hospital.build()
    hospital.hear(make_state(spec=make_spec()))
    assert send_faulty(hospital, "band-a", 1, now=3000.0) == [Reason.MUTED]
    assert send_faulty(hospital, "band-a", 1, now=3602.0) == [Reason.NORM]
    assert standings(hospital, now=3602.0)["band-a"] == "listened to"


def test_a_refusal_that_was_not_recorded_is_blamed_once_only(hospital: Hospital) -> None:
    batch = [make_incoming(make_update("band-a", tensors=TOO_LONG), "band-a")]
    batch.append(make_incoming(make_update("band-b"), "band-b"))
    with full_disk(hospital, "messages"):
        for _ in range(9):
            with suppress(sqlite3.Error):
                hospital.node.on_messages(batch, 1.0)
    hospital.node.on_messages(batch, 1.0)
    assert hospital.standing.muted(2.0) == frozenset()
    assert send_faulty(hospital, "band-a", 5) == [Reason.NORM] * 4 + [Reason.MUTED]


def test_a_mute_that_was_not_recorded_does_not_hold(hospital: Hospital) -> None:
    faulty = make_incoming(make_update("band-a", tensors=TOO_LONG), "band-a")
    batch = [*[faulty] * 5, make_incoming(make_update("band-b"), "band-b")]
    with full_disk(hospital, "messages"), suppress(sqlite3.Error):
        hospital.node.on_messages(batch, 1.0)
    assert hospital.standing.muted(1.0) == frozenset()
    hospital.node.on_messages(batch, 1.0)
    assert standings(hospital)["band-a"] == "muted"


def test_a_stored_message_forgives_what_was_before(hospital: Hospital) -> None:
    send_faulty(hospital, "band-a", 4)
    hospital.deliver("band-a")
    assert send_faulty(hospital, "band-a", 1) == [Reason.NORM]
    assert standings(hospital)["band-a"] == "listened to"


def test_being_late_or_unknown_mutes_nobody(tmp_path: Path, hospital: Hospital) -> None:
    late = make_update("band-a", round_id=7)
    assert {hospital.receipt(late, "band-a").reason for _ in range(9)} == {Reason.WRONG_ROUND}
    stranger = make_update("band-x")
    for _ in range(9):
        hospital.node.on_messages([make_incoming(stranger, "band-x")], 1.0)
    assert hospital.ledger.mutes() == {}


def test_a_clock_set_back_mutes_nobody_for_longer(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    standing = Standing(ledger, MuteRule(after=1, mute_s=60.0))
    with ledger.transaction():
        standing.blame("band-a", Reason.NORM, 1000.0)
    assert standing.muted(1059.0) == {"band-a"}
    assert standing.muted(1061.0) == frozenset()
    assert standing.muted(10.0) == frozenset()
    ledger.close()


def test_no_rule_mutes_nobody(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    standing = Standing(ledger, MuteRule(after=0))
    for _ in range(100):
        standing.blame("band-a", Reason.MALFORMED, 1.0)
    assert standing.barred(2.0) == frozenset()
    ledger.close()


def test_a_revoked_wristband_s_evaluation_is_not_stated(hospital: Hospital) -> None:
    hospital.hear(make_state(revision=2, spec=make_spec(2, evaluate=(BASE,), min_devices=2)))
    for device in ("band-a", "band-b"):
        evaluation = make_incoming(make_evaluation(device, round_id=2), device, "evaluation")
        hospital.node.on_messages([evaluation], 1.0)
    decide(hospital, "band-a", "revoked")
    assert hospital.step().num_evaluated == 1

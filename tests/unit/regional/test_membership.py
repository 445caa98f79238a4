from __future__ import annotations

from typing import Any

import pytest

from common import topics
from common.errors import ContractError
from common.fixedpoint import first_exponents
from common.messages import FixedPoint, HospitalStatus, LocalRule, RoundSpec, ServerRule
from common.wire import encode_json
from regional.membership import (
    fit_hospitals,
    has_enough_devices,
    heard,
    heard_now,
    is_awaited,
    is_past_hope,
    is_present,
    parse_status,
    round_counts,
)

ROSTER = {"east", "west"}
DIGEST = "a" * 64


def make_status(**changes: Any) -> HospitalStatus:
    values: dict[str, Any] = {"region": "county", "hospital": "east", "round_id": 4}
    values |= {"phase": "ready", "aggregate_digest": DIGEST, "num_stored": 5, "num_evaluated": 5}
    return HospitalStatus.model_validate({**values, **changes})


def make_spec(**changes: Any) -> RoundSpec:
    values: dict[str, Any] = {
        "region": "county",
        "day": 1,
        "cycle": 1,
        "round_id": 4,
        "task": "dummy",
        "base_digest": DIGEST,
        "state_digest": DIGEST,
        "server": ServerRule(),
        "local": LocalRule(learning_rate=0.1, num_steps=1, batch_size=1),
        "fixed_point": FixedPoint(clip_norm=1.0, exponents=first_exponents({}, 1.0, 16)),
        "locations": {DIGEST: "county/ring/000000/x"},
        "opened_at": 1.0,
        "closes_at": 2.0,
        "min_devices": 3,
    }
    return RoundSpec.model_validate({**values, **changes})


def reason_of(topic: str, payload: bytes) -> str:
    with pytest.raises(ContractError) as fault:
        parse_status(topic, payload, "county", ROSTER)
    return str(fault.value.data["reason"])


def test_reads_a_status_on_its_own_topic() -> None:
    status = make_status()
    topic = topics.hospital_status("county", "east")
    assert parse_status(topic, encode_json(status), "county", ROSTER) == status


def test_refuses_a_hospital_that_speaks_for_another() -> None:
    topic = topics.hospital_status("county", "west")
    assert reason_of(topic, encode_json(make_status())) == "wrong_identity"


def test_refuses_another_region_and_strangers() -> None:
    east, south = (topics.hospital_status("county", name) for name in ("east", "south"))
    assert reason_of(east, encode_json(make_status(region="other"))) == "wrong_identity"
    assert reason_of(south, encode_json(make_status(hospital="south"))) == "unknown_hospital"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "schema"),
        (b"{", "schema"),
        (b"\xff\xfe", "schema"),
        (b"null", "schema"),
        (b'{"kind": "hospital_status", "region": "county"}', "schema"),
        (b" " * (2 << 20), "oversize"),
        (b"[" * 100_000, "schema"),
    ],
)
def test_refuses_bytes_that_are_no_status(payload: bytes, reason: str) -> None:
    assert reason_of(topics.hospital_status("county", "east"), payload) == reason


def test_presence_needs_a_recent_word() -> None:
    (entry,) = heard({}, make_status(), now=10.0).values()
    assert is_present(entry, 70.0, away_after_s=60.0)
    assert not is_present(entry, 70.1, away_after_s=60.0)


def test_a_hospital_is_awaited_for_rejoin_after_it_went() -> None:
    statuses = heard({}, make_status(), now=10.0)
    statuses = heard(statuses, make_status(online=False), now=20.0)
    statuses = heard(statuses, make_status(online=False, revision=1), now=25.0)
    entry = statuses["east"]
    assert is_awaited(entry, 0.0, 29.9, rejoin_s=10.0, away_after_s=60.0)
    assert not is_awaited(entry, 0.0, 30.0, rejoin_s=10.0, away_after_s=60.0)


def test_a_hospital_that_was_never_heard_is_due_at_the_start() -> None:
    assert is_awaited(None, 100.0, 109.0, rejoin_s=10.0, away_after_s=60.0)
    assert not is_awaited(None, 100.0, 110.0, rejoin_s=10.0, away_after_s=60.0)


@pytest.mark.parametrize(
    ("purpose", "stored", "evaluated", "enough"),
    [
        ("train", 3, 3, True),
        ("train", 2, 9, False),
        ("train", 3, 2, True),
        ("train", 3, 0, True),
        ("evaluate", 0, 3, True),
        ("evaluate", 9, 2, False),
    ],
)
def test_the_sum_that_a_round_is_for_needs_enough_devices(
    purpose: str, stored: int, evaluated: int, enough: bool
) -> None:
    status = make_status(num_stored=stored, num_evaluated=evaluated)
    assert has_enough_devices(status, make_spec(purpose=purpose)) is enough


@pytest.mark.parametrize(
    "changes",
    [{"online": False}, {"phase": "collecting"}, {"round_id": 3}, {"aggregate_digest": None}],
)
def test_only_ready_hospitals_fit(changes: dict[str, Any]) -> None:
    statuses = heard(heard({}, make_status(), 1.0), make_status(hospital="west", **changes), 1.0)
    assert fit_hospitals(statuses, make_spec(), 1.0, 60.0) == ("east",)


def test_counts_are_those_of_the_round_and_not_of_hospitals_in_another() -> None:
    statuses = heard({}, make_status(num_invited=7, num_rejected=2), 1.0)
    behind = make_status(hospital="west", round_id=3, num_invited=9, num_rejected=40)
    statuses = heard(statuses, behind, 1.0)
    assert round_counts(statuses, 4) == {"num_invited": 7, "num_stored": 5, "num_rejected": 2}


def test_absurd_counts_are_capped_to_what_an_outcome_can_hold() -> None:
    absurd = {"num_invited": 1 << 53, "num_stored": 1 << 53, "num_rejected": 1 << 53}
    statuses = heard(heard({}, make_status(**absurd), 1.0),
                     make_status(hospital="west", **absurd), 1.0)  # fmt: skip
    assert set(round_counts(statuses, 4).values()) == {1 << 53}


def test_a_rank_is_past_hope_once_it_was_cold_for_rejoin() -> None:
    statuses = heard({}, make_status(rank="starting"), 1.0)
    statuses = heard(statuses, make_status(rank="lost"), 8.0)
    assert not is_past_hope(statuses["east"], 10.9, rejoin_s=10.0)
    assert is_past_hope(statuses["east"], 11.0, rejoin_s=10.0)
    statuses = heard(statuses, make_status(rank="warm"), 12.0)
    assert not is_past_hope(statuses["east"], 99.0, rejoin_s=10.0)


def test_a_hospital_that_is_away_is_not_judged_by_its_rank() -> None:
    statuses = heard({}, make_status(rank="lost", online=False), 1.0)
    assert not is_past_hope(statuses["east"], 99.0, rejoin_s=10.0)
    assert not is_past_hope(None, 99.0, rejoin_s=10.0)


def test_times_of_a_clock_that_was_set_begin_anew() -> None:
    statuses = heard({}, make_status(rank="lost", online=False), 5000.0)
    entry = heard_now(statuses, 100.0)["east"]
    assert (entry.at, entry.away_since, entry.cold_since) == (100.0, 100.0, 100.0)

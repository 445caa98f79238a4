from __future__ import annotations

from typing import Any

import pytest

from common.messages import HospitalStatus, RankFailure, RankResult, RingPlan
from regional.membership import Heard, Statuses
from regional.records import RingPlanned
from regional.ring_plan import (
    can_reuse,
    is_formed,
    lost_member,
    plan_ring,
    results_of,
    warm_members,
    who_differs,
    why_broken,
)

MEMBERS = ("east", "north", "west")
DIGEST = "a" * 64


def make_plan(generation: int = 3, round_id: int = 8) -> RingPlan:
    return RingPlan(
        round_id=round_id,
        generation=generation,
        members=MEMBERS,
        rendezvous_host="127.0.0.1",
        rendezvous_port=4000,
        interface="lo",
        timeout_s=10.0,
        total_weight=15,
    )


def make_statuses(**each: dict[str, Any]) -> Statuses:
    default: dict[str, Any] = {"rank": "joined", "generation": 3, "rank_pid": 7}
    default |= {"aggregate_digest": DIGEST}
    return {
        name: Heard(
            HospitalStatus.model_validate(
                {"region": "county", "hospital": name, **default, **each.get(name, {})}
            ),
            at=0.0,
        )
        for name in MEMBERS
    }


def make_ring(**each: dict[str, Any]) -> RingPlanned:
    return plan_ring(make_plan(), make_statuses(**each), now=0.0)


def make_result(**changes: Any) -> RankResult:
    values = {"round_id": 8, "generation": 3, "weight": 1}
    values |= {"num_updates": 1, "num_evaluations": 1, "num_saturated": 0}
    digests = {"sums_digest": DIGEST, "model_digest": DIGEST, "state_digest": DIGEST}
    return RankResult.model_validate({**values, **digests, **changes})


def test_a_ring_is_used_again_by_just_its_members() -> None:
    ring, statuses = make_ring(), make_statuses()
    assert can_reuse(ring, MEMBERS, statuses)
    assert not can_reuse(ring, ("east", "north"), statuses)
    assert not can_reuse(ring, (*MEMBERS, "south"), statuses)


@pytest.mark.parametrize(
    "change", [{"rank": "warm"}, {"rank": "lost"}, {"generation": 2}, {"online": False}]
)
def test_a_ring_with_a_member_outside_is_not_used_again(change: dict[str, Any]) -> None:
    statuses = make_statuses(north=change)
    assert not is_formed(make_ring(), statuses)
    assert not can_reuse(make_ring(), MEMBERS, statuses)
    assert lost_member(make_ring(), statuses) == "north"


def test_members_that_were_not_heard_are_not_known_to_be_lost() -> None:
    assert lost_member(make_ring(), {}) is None


def test_only_warm_ranks_are_planned() -> None:
    statuses = make_statuses(east={"rank": "warm"}, west={"rank": "starting"})
    assert warm_members(MEMBERS, statuses, 1) == ("east",)


def test_what_was_said_before_the_last_ring_died_makes_no_rank_warm() -> None:
    before = {"rank": "warm", "generation": 0}
    statuses = make_statuses(
        east=before, north={**before, "min_generation": 4}, west={**before, "min_generation": 5}
    )
    assert warm_members(MEMBERS, statuses, 4) == ("north", "west")


def test_results_of_other_rounds_and_generations_do_not_count() -> None:
    statuses = make_statuses(
        east={"result": make_result()},
        north={"result": make_result(round_id=7)},
        west={"result": make_result(generation=2)},
    )
    assert set(results_of(make_ring(), statuses)) == {"east"}


def test_names_the_one_that_differs_from_most() -> None:
    odd = make_result(sums_digest="b" * 64)
    assert who_differs(dict.fromkeys(MEMBERS, make_result())) == ()
    same = make_result()
    assert who_differs({"east": same, "north": odd, "west": same}) == ("north",)


def test_names_all_when_no_result_is_held_by_most() -> None:
    odd = make_result(weight=2)
    assert who_differs({"east": make_result(), "west": odd}) == ("east", "west")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": "lost"}, "east: its rank was lost"),
        ({"rank": "starting"}, "east: its rank was lost"),
        ({"online": False}, "east is away"),
        ({"rank_pid": 8}, "east: its rank was started again"),
        (
            {"failure": RankFailure(round_id=8, generation=3, reason="peer reset")},
            "east: peer reset",
        ),
        ({"failure": RankFailure(round_id=8, generation=2, reason="old")}, None),
        ({}, None),
    ],
)
def test_says_who_broke_a_ring_and_why(change: dict[str, Any], said: str | None) -> None:
    assert why_broken(make_ring(), make_statuses(east=change), 0.0, 60.0) == said


def test_a_member_with_its_result_may_go() -> None:
    statuses = make_statuses(east={"rank": "lost", "result": make_result()})
    assert why_broken(make_ring(), statuses, 0.0, 60.0) is None


def test_a_member_not_heard_for_long_is_away() -> None:
    assert why_broken(make_ring(), make_statuses(), 61.0, 60.0) == "east is away"

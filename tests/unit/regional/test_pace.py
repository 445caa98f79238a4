from __future__ import annotations

import numpy as np
import pytest

from regional.pace import Limits, Pace, link_seconds, pace_of, round_seconds, slow_groups

NAMES = ("a", "b", "c", "d", "e")
LIMITS = Limits(factor=3.0, gain_s=2.0)


def ring_of(members: tuple[str, ...], up: dict[str, float], down: dict[str, float]) -> Pace:
    """A ring whose connections are as slow as the slower end."""
    following = (*members[1:], members[0])
    send = {
        sender: max(up.get(sender, 0.1), down.get(receiver, 0.1))
        for sender, receiver in zip(members, following, strict=True)
    }
    return Pace(members, dict.fromkeys(members, 1.0), send)


def test_link_slow_both_ways_is_blamed_and_not_its_neighbours() -> None:
    pace = ring_of(NAMES, {"c": 9.0}, {"c": 9.0})
    assert link_seconds([pace], 2.0) == {"c": 9.0}


def test_neighbours_that_are_both_slow_are_both_blamed() -> None:
    slow = {"b": 9.0, "c": 7.0}
    assert set(link_seconds([ring_of(NAMES, slow, slow)], 2.0)) == {"b", "c"}


def test_slow_way_out_is_blamed_on_the_sender() -> None:
    assert link_seconds([ring_of(NAMES, {"c": 9.0}, {})], 2.0) == {"c": 9.0}


def test_slow_way_in_is_found_once_two_senders_met_it() -> None:
    first = ring_of(NAMES, {}, {"c": 9.0})
    assert set(link_seconds([first], 2.0)) == {"b"}  # of one meeting nobody could tell
    without_b = ring_of(("a", "c", "d", "e"), {}, {"c": 9.0})
    assert set(link_seconds([first, without_b], 2.0)) == {"c"}


def test_link_that_became_quick_is_blamed_no_more() -> None:
    slow = ring_of(NAMES, {"c": 9.0}, {"c": 9.0})
    quick = ring_of(NAMES, {}, {})
    assert link_seconds([slow, *[quick] * 3], 2.0) == {}


@pytest.mark.parametrize("seed", range(30))
def test_just_the_slow_links_are_blamed_whoever_is_beside_whom(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"h{i}" for i in range(10)]
    slow = {str(name): 9.0 for name in rng.choice(names, size=3, replace=False)}
    paces = [ring_of(tuple(rng.permutation(names).tolist()), slow, slow) for _ in range(4)]
    assert set(link_seconds(paces, 2.0)) == set(slow)


def test_hospital_is_measured_by_two_rings_or_not_at_all() -> None:
    pace = ring_of(NAMES, {}, {})
    assert round_seconds([pace], 2.0) == {}
    assert round_seconds([pace, pace], 2.0) == dict.fromkeys(NAMES, 1.0)


def test_one_slow_round_is_no_slow_hospital() -> None:
    quick = Pace(("a", "b"), {"a": 1.0, "b": 1.0}, {})
    hiccup = Pace(("a", "b"), {"a": 1.0, "b": 60.0}, {})
    assert round_seconds([quick, hiccup, quick], 2.0)["b"] == 1.0


def test_ring_of_one_has_no_connection() -> None:
    alone = Pace(("a",), {"a": 5.0}, {"a": 0.0})
    assert link_seconds([alone], 0.0) == {}


def test_own_seconds_are_lag_and_work_without_waiting_for_others() -> None:
    pace = pace_of(
        ("a", "b"),
        {"a": 2.0, "b": 3.0},
        {"a": {"pack_s": 0.5, "allreduce_s": 99.0, "send_busy_s": 4.0}},
    )
    assert pace.own_s == {"a": 2.5}
    assert pace.send_s == {"a": 4.0}


def test_groups_are_split_by_how_slow_they_are() -> None:
    seconds = {"a": 1.0, "b": 1.1, "c": 1.2, "d": 1.0, "e": 9.0, "f": 10.0, "g": 80.0}
    assert slow_groups(seconds, (), LIMITS, 1) == (("e", "f"), ("g",))
    assert slow_groups(seconds, (), LIMITS, 2) == (("e", "f"),)


def test_small_differences_make_no_group() -> None:
    assert slow_groups({"a": 0.1, "b": 0.1, "c": 1.9}, (), LIMITS, 1) == ()


def test_member_of_a_group_leaves_it_only_when_clearly_quicker() -> None:
    seconds = {"a": 1.0, "b": 1.0, "c": 2.5}
    assert slow_groups(seconds, (), LIMITS, 1) == ()
    assert slow_groups(seconds, ("c",), LIMITS, 1) == (("c",),)
    assert slow_groups({**seconds, "c": 2.0}, ("c",), LIMITS, 1) == ()


@pytest.mark.parametrize("seconds", [{}, {"a": 100.0}])
def test_too_few_measured_make_no_group(seconds: dict[str, float]) -> None:
    assert slow_groups(seconds, (), LIMITS, 1) == ()

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from regional.pace import (
    NUM_UNSEEN,
    Limits,
    Pace,
    kept,
    link_seconds,
    pace_of,
    round_seconds,
    slow_groups,
)
from tests.unit.regional.world import quicker_neighbour_s

NAMES = ("a", "b", "c", "d", "e")
LIMITS = Limits(factor=3.0, gain_s=2.0)


def ring_of(members: tuple[str, ...], slow: Mapping[str, float]) -> Pace:
    send = {name: quicker_neighbour_s(name, members, slow) for name in members}
    return Pace(members, dict.fromkeys(members, 1.0), send)


def blamed(pace: Pace) -> set[str]:
    return {name for name, seconds in link_seconds(pace, 2.0) if seconds}


def test_slow_link_is_blamed_and_not_its_neighbours() -> None:
    assert dict(link_seconds(ring_of(NAMES, {"c": 9.0}), 2.0)) == {
        "a": 0.0,
        "b": 0.0,
        "c": 9.0,
        "d": 0.0,
        "e": 0.0,
    }


def test_two_slow_neighbours_are_both_blamed() -> None:
    assert blamed(ring_of(NAMES, {"b": 9.0, "c": 7.0})) == {"b", "c"}


def test_between_two_slow_ones_nothing_is_known() -> None:
    between = ring_of(NAMES, {"b": 9.0, "d": 9.0})
    assert "c" not in dict(link_seconds(between, 2.0))
    assert blamed(between) == {"b", "d"}


def test_ring_of_slow_links_only_tells_nothing() -> None:
    assert list(link_seconds(ring_of(("b", "d"), {"b": 9.0, "d": 9.0}), 2.0)) == []


@pytest.mark.parametrize("seed", range(30))
def test_just_the_slow_links_are_found_when_those_found_form_rings_of_their_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"h{i}" for i in range(10)]
    slow = {
        str(name): 9.0 for name in rng.choice(names, size=int(rng.integers(0, 6)), replace=False)
    }
    left, found, paces = tuple(names), set[str](), list[Pace]()
    for _ in range(5):
        paces += [ring_of(left, slow)] * 3 + (
            [ring_of(tuple(sorted(found)), slow)] if found else []
        )
        seconds = round_seconds(paces, 2.0)
        found = {name for name in names if seconds[name] > 5.0}
        left = tuple(name for name in names if name not in found)
    assert found == set(slow)


def test_link_that_became_quick_is_blamed_no_more() -> None:
    slow, quick = ring_of(NAMES, {"c": 9.0}), ring_of(NAMES, {})
    assert round_seconds([slow, slow, slow, quick, quick], 2.0)["c"] == 1.0


def test_hospital_is_measured_by_two_rings_or_not_at_all() -> None:
    pace = ring_of(NAMES, {})
    assert round_seconds([pace], 2.0) == {}
    assert round_seconds([pace, pace], 2.0) == dict.fromkeys(NAMES, 1.0)


def test_one_slow_round_is_no_slow_hospital() -> None:
    quick = Pace(("a", "b"), {"a": 1.0, "b": 1.0}, {})
    hiccup = Pace(("a", "b"), {"a": 1.0, "b": 60.0}, {})
    assert round_seconds([quick, hiccup, quick], 2.0)["b"] == 1.0


def test_rank_that_tells_nothing_of_its_link_is_measured_without() -> None:
    alone = Pace(("a",), {"a": 5.0}, {})
    assert round_seconds([alone, alone], 0.0) == {"a": 5.0}


def test_own_seconds_are_lag_and_work_without_waiting_for_others() -> None:
    pace = pace_of(
        ("a", "b"),
        {"a": 2.0, "b": 3.0},
        {"a": {"pack_s": 0.5, "allreduce_s": 99.0, "send_s": 4.0}},
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


def test_rings_of_a_group_do_not_put_out_what_the_ring_of_all_has_shown() -> None:
    slow = ring_of(NAMES, {"c": 9.0})
    alone = Pace(("c",), {"c": 1.0}, {}, in_group=True)
    quick = ring_of(("a", "b", "d", "e"), {})
    paces = kept((*[slow] * 3, *[alone, quick] * (NUM_UNSEEN - 1)))
    assert round_seconds(paces, 2.0)["c"] == 10.0
    assert round_seconds(kept((*paces, alone)), 2.0)["c"] == 1.0


def test_number_of_rings_kept_is_bounded() -> None:
    paces: tuple[Pace, ...] = ()
    for number in range(500):
        paces = kept((*paces, ring_of(NAMES, {}), Pace(("c",), {"c": 1.0}, {}, in_group=True)))
        assert len(paces) <= NUM_UNSEEN + 3, number

from __future__ import annotations

from random import Random

import pytest

from common.messages import HospitalStatus
from edge.rounds import Frozen, Round, sample
from tests.unit.edge.builders import BASE, HOSPITAL, REGION, ROSTER, SHAPES, make_spec

FROZEN = Frozen("a" * 64, 7, 3, 3, "aggregate", True)


def make_round(**changes: object) -> Round:
    return Round(make_spec(**changes), ROSTER, SHAPES)  # type: ignore[arg-type]  # a builder's keywords


def told(current: Round) -> HospitalStatus:
    return current.told(HospitalStatus(region=REGION, hospital=HOSPITAL))


def test_round_is_complete_when_all_invited_have_delivered_all() -> None:
    current = make_round(evaluate=(BASE,))
    for device in ROSTER:
        current.delivered("update", device, BASE)
    assert not current.complete
    for device in ROSTER:
        current.delivered("evaluation", device, None)
    assert current.complete
    assert current.must_freeze(now=1.0)


def test_evaluation_round_waits_for_no_updates() -> None:
    current = make_round(purpose="evaluate", evaluate=(BASE,))
    current.evaluated |= ROSTER
    assert current.complete


@pytest.mark.parametrize(("now", "due"), [(99.9, False), (100.0, True)])
def test_deadline_closes_an_incomplete_round(now: float, due: bool) -> None:
    assert make_round().must_freeze(now) is due


def test_no_round_is_frozen_twice_or_after_its_end() -> None:
    current = make_round()
    current.frozen = FROZEN
    assert not current.must_freeze(now=1000.0)
    ended = make_round()
    ended.ended = True
    assert not ended.must_freeze(now=1000.0)


def test_status_goes_from_collecting_to_ready_to_idle() -> None:
    current = make_round()
    current.updated.add("band-a")
    assert (told(current).phase, told(current).num_stored, told(current).num_invited) == (
        "collecting",
        1,
        3,
    )
    current.frozen = FROZEN
    assert (told(current).phase, told(current).weight, told(current).complete) == ("ready", 7, True)
    current.ended = True
    assert told(current).phase == "idle"


def test_hospital_without_wristbands_is_complete_at_once() -> None:
    assert Round(make_spec(), frozenset(), SHAPES).must_freeze(now=0.0)


@pytest.mark.parametrize(("fraction", "num"), [(1.0, 3), (0.5, 2), (0.01, 1)])
def test_sample_has_the_fraction_rounded_up(fraction: float, num: int) -> None:
    drawn = sample(ROSTER, fraction, Random(1))
    assert len(drawn) == num
    assert drawn <= ROSTER

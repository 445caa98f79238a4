"""Schedules come from their numbers alone; a few of them are carried out."""

from __future__ import annotations

import pytest

from tests.faults.brokers import NARROW
from tests.faults.schedule import GROUP, KINDS, Fault, Schedule, schedule, surroundings
from tests.faults.trials import run, violations

ALL = 300
ONE_OF_EACH_KIND_OF_REGION = [3, GROUP + 1, 2 * GROUP, 2 * GROUP + 1, 3 * GROUP, 3 * GROUP + 1]


def planned(seed: int, number: int) -> Schedule:
    around = surroundings(seed, number // GROUP, disk=True, mosquitto=True)
    return schedule(seed, number, around)


def all_faults(seed: int = 0) -> list[Fault]:
    return [fault for number in range(ALL) for fault in planned(seed, number).faults]


def test_schedule_is_the_same_for_the_same_numbers_and_no_others() -> None:
    assert planned(0, 17) == planned(0, 17)
    assert planned(0, 17) != planned(1, 17)
    assert planned(0, 17) != planned(0, 18)


def test_every_kind_of_fault_happens() -> None:
    assert {fault.kind for fault in all_faults()} == {*KINDS, "fill disk", "overflow"}


def test_disk_is_filled_only_where_it_is_a_small_one() -> None:
    for group in range(ALL // GROUP):
        around = surroundings(0, group, disk=group % 2 == 0, mosquitto=True)
        faults = [f for n in range(GROUP) for f in schedule(0, group * GROUP + n, around).faults]
        filled = {fault.target for fault in faults if fault.kind == "fill disk"}
        assert filled <= {f"edge-{around.small_disk}"}
        assert around.broker is NARROW or not any(fault.kind == "overflow" for fault in faults)


@pytest.mark.slow
def test_a_few_schedules_in_each_kind_of_region_lose_and_double_nothing() -> None:
    lines: list[str] = []
    tally = run(0, ONE_OF_EACH_KIND_OF_REGION, lines.append)
    assert tally.odd == {}, "\n".join(lines)
    assert set(violations(tally).values()) == {0}
    assert tally.num_schedules == len(ONE_OF_EACH_KIND_OF_REGION)
    assert tally.num_rounds_replayed > 0

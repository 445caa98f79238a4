"""A process is killed at every numbered point in turn; nothing is lost, nothing counted twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.faults.audit import Auditor
from tests.faults.document import DOCUMENT, with_table
from tests.faults.hooks import locate
from tests.faults.region import FaultRegion, running
from tests.faults.strike import Striker
from tests.faults.table import POINTS, Point

NAMES = [f"{point.process}.{point.name}" for point in POINTS]


@dataclass(frozen=True)
class Rig:
    region: FaultRegion
    striker: Striker
    auditor: Auditor


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One region for all points: each starts from a round of all hospitals."""
    with running(tmp_path_factory.mktemp("faults")) as (region, bands):
        region.await_whole_round(0.0)
        yield Rig(region, Striker(region, bands), Auditor(region, bands.book))


def test_points_have_names_of_their_own() -> None:
    assert len(set(NAMES)) == len(POINTS)


def test_document_shows_the_table_as_it_is() -> None:
    text = DOCUMENT.read_text()
    assert with_table(text) == text


@pytest.mark.parametrize("point", POINTS, ids=NAMES)
def test_point_lies_at_a_function_of_the_product(point: Point) -> None:
    owner, name = locate(point.where)
    assert callable(getattr(owner, name))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(POINTS)), ids=NAMES)
def test_kill_at_a_point_loses_and_doubles_nothing(rig: Rig, number: int) -> None:
    hospitals = rig.region.hospitals
    struck = rig.striker.kill_at(POINTS[number], hospitals[number % len(hospitals)])
    rig.region.await_whole_round(struck.at)
    assert rig.auditor.settled() == []
    assert rig.region.supervisor.odd_deaths == []

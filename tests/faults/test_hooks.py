"""Points are come by where the table says, and nowhere else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.faults import clock
from tests.faults.hooks import Hooks, labels_of
from tests.faults.table import Point, Side


class Counter:
    def add(self, number: int) -> int:
        if number < 0:
            raise ValueError(number)
        return number + 1


@pytest.fixture
def product(monkeypatch: pytest.MonkeyPatch) -> type[Counter]:
    """A module ``product`` with a class of its own in each test."""
    kind = type("Counter", (Counter,), {"add": Counter.add})
    module = ModuleType("product")
    module.Counter = kind  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "product", module)
    return kind


def hooked(*points: Point) -> list[str]:
    """Names of points as they are come by, from now on."""
    reached: list[str] = []
    Hooks(points, reached.append).install()
    return reached


def point(side: Side, only: str = "", nth: int = 0) -> Point:
    name = f"{side}{only}{nth or ''}"
    return Point("edge", name, "product:Counter.add", side, "nothing", only, nth)


def test_both_sides_of_a_call_are_come_by_in_order(product: type[Counter]) -> None:
    reached = hooked(point("before"), point("after"))
    assert product().add(1) == 2
    assert reached == ["before", "after"]


def test_call_that_raises_is_not_come_by_after_it(product: type[Counter]) -> None:
    reached = hooked(point("before"), point("after"))
    with pytest.raises(ValueError, match="-1"):
        product().add(-1)
    assert reached == ["before"]


def test_only_calls_with_that_label_count(product: type[Counter]) -> None:
    reached = hooked(point("before", only="bool"))
    product().add(1)
    assert reached == []
    product().add(True)
    assert reached == ["beforebool"]


def test_nth_call_alone_counts(product: type[Counter]) -> None:
    reached = hooked(point("after", nth=2))
    for number in range(3):
        product().add(number)
    assert reached == ["after2"]


def test_file_is_labelled_by_its_suffix() -> None:
    assert ".sig" in labels_of([Path("ring/x.safetensors.sig"), b""])


def test_clock_is_ahead_by_what_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", real)
    monkeypatch.setattr(clock, "LOOK_EVERY_S", 0.0)
    clock.set_up(tmp_path, "edge-north")
    assert abs(time.time() - real()) < 1
    clock.shift(tmp_path, "edge-north", -600.0)
    clock.shift(tmp_path, "region", 5.0)
    assert abs(time.time() - real() + 600) < 1
    clock.shift(tmp_path, "edge-north", 0.0)
    assert abs(time.time() - real()) < 1

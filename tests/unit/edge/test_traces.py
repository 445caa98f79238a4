"""Horovod's traces: as many as are wanted, and never a reason for a ring to fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config import EdgeConfig
from edge.traces import MAX_TRACES, Traces
from tests.unit.edge.hospital import make_config


def test_last_traces_stay_and_others_are_left_alone(tmp_path: Path) -> None:
    foreign = tmp_path / "north-east-000001.json"
    foreign.touch()
    for generation in range(1, MAX_TRACES + 6):
        path = Traces(tmp_path, "north").path(generation)
        assert path == str(tmp_path / f"north-{generation:06d}.json")
        Path(path).touch()
    own = sorted(path.name for path in tmp_path.iterdir() if path != foreign)
    assert own == [f"north-{generation:06d}.json" for generation in range(6, MAX_TRACES + 6)]
    assert foreign.exists()


def test_living_ring_keeps_its_trace(tmp_path: Path) -> None:
    traces = Traces(tmp_path, "north")
    for generation in range(1, MAX_TRACES + 1):
        Path(traces.path(generation) or "").touch()
    assert traces.path(1) is not None
    assert len(list(tmp_path.iterdir())) == MAX_TRACES


def test_folder_that_cannot_be_made_costs_the_trace_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert Traces(tmp_path / "file" / "traces", "north").path(1) is None
    assert Traces(None, "north").path(1) is None


@pytest.mark.parametrize(
    ("value", "folder"), [("false", None), ("true", "state/timelines"), ("/tmp/t", "/tmp/t")]
)
def test_configuration_is_a_switch_or_a_folder(
    tmp_path: Path, value: str, folder: str | None
) -> None:
    fields = make_config(tmp_path).model_dump() | {"ring_timeline": value}
    config = EdgeConfig.model_validate(fields)
    assert config.traces == (tmp_path / folder if folder else None)

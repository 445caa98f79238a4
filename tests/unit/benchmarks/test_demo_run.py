from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.demo_run import DemoRun, run_demo
from common.errors import PulseRingError


class ScriptedDemo(DemoRun):
    """A demo that is a few lines of Python."""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-c", self.arguments[0], str(self.summary)]


def test_the_demo_is_asked_for_its_seed_and_ends_by_itself(tmp_path: Path) -> None:
    command = DemoRun(7, tmp_path / "seed-7", ("--days", "2,1")).command
    assert command[1:4] == ["-m", "simulators", "demo"]
    assert command[4:8] == ["--exit", "--seed", "7", "--port"]
    assert command[-2:] == ["--days", "2,1"]


def test_returns_the_summary_and_tells_progress_only(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys; print('notice'); print('  1.5 s  round 1');"
        "pathlib.Path(sys.argv[1]).write_text('{\"num_rounds\": 1}')"
    )
    told: list[str] = []
    run = ScriptedDemo(0, tmp_path / "bench" / "seed-0", (script,))
    assert run_demo(run, told.append) == {"num_rounds": 1}
    assert told == ["  1.5 s  round 1"]
    assert run.log.read_text().splitlines() == ["notice", "  1.5 s  round 1"]


@pytest.mark.parametrize("script", ["print('why'); raise SystemExit(3)", "print('why')"])
def test_a_demo_that_fails_or_says_nothing_is_an_error_that_quotes_its_log(
    tmp_path: Path, script: str
) -> None:
    run = ScriptedDemo(0, tmp_path / "seed-0", (script,))
    run.summary.write_text('{"of": "an earlier run"}')
    with pytest.raises(PulseRingError, match="why"):
        run_demo(run, print)

"""Processes are kept alive, and faults of theirs are told."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulators.supervisor import ProcessError, Supervisor, how_it_ended


def wait_until(happened: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    supervisor.stop()


def sleeper(script: str = "import time; time.sleep(60)") -> list[str]:
    return [sys.executable, "-c", script]


def test_killed_process_is_started_again_and_named(supervisor: Supervisor) -> None:
    managed = supervisor.start("edge", sleeper(), os.environ)
    first = managed.pid
    supervisor.kill("edge")
    (death,) = supervisor.revive()
    assert (death.name, death.how) == ("edge", "SIGKILL")
    assert managed.pid not in (0, first)
    assert supervisor.revive() == []


def test_held_process_stays_dead_until_released(supervisor: Supervisor) -> None:
    managed = supervisor.start("edge", sleeper(), os.environ)
    supervisor.kill("edge", hold=True)
    assert supervisor.revive() == []
    assert managed.pid == 0
    supervisor.release("edge")
    assert managed.pid


def test_refused_configuration_is_told_with_the_log(supervisor: Supervisor) -> None:
    managed = supervisor.start(
        "edge", sleeper("import sys; print('regio: unknown key'); sys.exit(2)"), os.environ
    )
    wait_until(lambda: managed.pid == 0)
    with pytest.raises(ProcessError, match="regio: unknown key"):
        supervisor.revive()


def test_stop_ends_what_ignores_sigterm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simulators.supervisor.STOP_TIMEOUT_S", 0.5)
    supervisor = Supervisor(tmp_path)
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    managed = supervisor.start("stubborn", sleeper(script), os.environ)
    wait_until(lambda: "1" in managed.tail())
    supervisor.stop()
    assert managed.pid == 0


def test_signals_are_named() -> None:
    assert how_it_ended(-signal.SIGKILL) == "SIGKILL"
    assert how_it_ended(3) == "exit code 3"

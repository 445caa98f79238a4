"""Starts the processes of a region on one machine, keeps them alive, ends them in order."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from common.errors import PulseRingError

MAX_STARTS = 20
QUICK_DEATH_S = 3.0
STOP_TIMEOUT_S = 10.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Managed:
    """One process: how it is started, and what became of it so far."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str]
    output_path: Path | None = None
    starts: int = 0
    started_at: float = 0.0
    process: subprocess.Popen[bytes] | None = None
    held: bool = False

    @property
    def pid(self) -> int:
        """Its process id, 0 when it does not run."""
        return self.process.pid if self.process and self.process.poll() is None else 0

    def start(self) -> None:
        """Start it, its log appended to; it dies with this process."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log, self._output() as out:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.starts += 1
        self.started_at = time.monotonic()

    def _output(self) -> IO[bytes]:
        return self.output_path.open("wb") if self.output_path else self.log_path.open("ab")

    def tail(self, num_lines: int = 8) -> str:
        """The end of its log."""
        lines = (
            self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        )
        return "\n".join(lines[-num_lines:])


@dataclass(frozen=True)
class Death:
    """A process that ended by itself and was started again."""

    name: str
    how: str


class ProcessError(PulseRingError):
    """A process that cannot be kept alive; its message ends with the end of its log."""


class Supervisor:
    """Keeps processes alive until `stop`, which ends them in the reverse order of their start.

    Parameters
    ----------
    log_dir : Path
        One log file for each process.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._managed: dict[str, Managed] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        output_path: Path | None = None,
    ) -> Managed:
        """Start a process under a name that is not in use yet.

        Its stderr goes to its log, its stdout there too or to `output_path`.
        """
        managed = Managed(name, command, self._log_dir / f"{name}.log", environment, output_path)
        managed.start()
        self._managed[name] = managed
        return managed

    def __getitem__(self, name: str) -> Managed:
        return self._managed[name]

    def revive(self) -> list[Death]:
        """Start again what died since the last call.

        Raises
        ------
        ProcessError
            When one refuses its configuration (exit code 2), or dies right after each start.
        """
        deaths = []
        for managed in self._managed.values():
            if managed.held or managed.process is None or managed.process.poll() is None:
                continue
            code = managed.process.returncode
            lived_s = time.monotonic() - managed.started_at
            if code == 2 or managed.starts >= MAX_STARTS or (code > 0 and lived_s < QUICK_DEATH_S):
                raise ProcessError(
                    f"{managed.name} ended with code {code}. The end of {managed.log_path}:\n"
                    f"{managed.tail()}"
                )
            deaths.append(Death(managed.name, how_it_ended(code)))
            managed.start()
        return deaths

    def kill(
        self, name: str, number: signal.Signals = signal.SIGKILL, *, hold: bool = False
    ) -> None:
        """Send a signal; with `hold` it stays dead until `release`."""
        managed = self._managed[name]
        managed.held = hold
        if managed.process and managed.pid:
            managed.process.send_signal(number)
            if number in (signal.SIGKILL, signal.SIGTERM):
                _end(managed.process, STOP_TIMEOUT_S)

    def release(self, name: str) -> None:
        """Start a held process again."""
        self._managed[name].held = False
        self._managed[name].start()

    def stop(self) -> None:
        """SIGTERM in reverse order of start, SIGKILL after a while for what does not end."""
        running = [m.process for m in reversed(self._managed.values()) if m.process and m.pid]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for process in running:
            _end(process, max(0.1, deadline - time.monotonic()))


def how_it_ended(code: int) -> str:
    """``"SIGKILL"`` for -9, else the exit code in words."""
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def python_module(module: str, *arguments: str) -> list[str]:
    """The command ``python -m module arguments`` with this interpreter."""
    return [sys.executable, "-m", module, *arguments]


def one_thread(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: ours, numeric libraries on one thread each."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return dict(os.environ if environment is None else environment) | threads


def _end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """Wait for a process that was told to end, and kill it when it does not."""
    try:
        process.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

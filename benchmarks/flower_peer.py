"""Flower's side: SuperLink and one SuperNode a hospital, in a virtual environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks import loopback, process_memory
from benchmarks.rounds_learning import Flat, Lesson
from benchmarks.rounds_trail import Trail
from common.ecg.sources import cache_root
from common.errors import ConfigError, PulseRingError
from simulators.broker import free_port
from simulators.supervisor import Managed, Supervisor, one_thread

VERSION = "1.42.0"
REQUIREMENTS = (f"flwr=={VERSION}", f"numpy=={np.__version__}")
APP = Path(__file__).resolve().parent / "flower_app"
START_TIMEOUT_S, ROUND_TIMEOUT_S = 240.0, 180.0
POLL_S = 0.05
CONFIG = '[superlink]\ndefault = "rounds"\n\n[superlink.rounds]\naddress = "{address}"\ninsecure = true\n'
Isolation = Literal["subprocess", "process"]


@dataclass(frozen=True)
class Flower:
    """What a run of Flower gave; models by round, counted from 1, before the round."""

    trail: Trail
    models: dict[int, Flat]
    bytes_at: dict[int, int]
    at_rest: dict[str, float]
    at_work: dict[str, float]


def environment_folder() -> Path:
    """Flower's virtual environment; made when it is missing, the network is needed for that.

    Raises
    ------
    ConfigError
        When it cannot be made.
    """
    folder = cache_root(os.environ) / "bench" / f"flower-{VERSION}"
    done = folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            pip = [str(folder / "bin" / "pip"), "install", "-qq", *REQUIREMENTS]
            subprocess.run([*pip, "--disable-pip-version-check"], check=True)
        except subprocess.CalledProcessError as fault:
            raise ConfigError(f"Flower {VERSION} could not be installed in {folder}") from fault
        done.touch()
    return folder


class Deployment:
    """SuperLink, SuperNodes and, in `process` isolation, a SuperExec beside each."""

    def __init__(self, num_hospitals: int, isolation: Isolation, root: Path) -> None:
        self._isolation = isolation
        self._bin = environment_folder() / "bin"
        self._root = root
        self._supervisor = Supervisor(root / "logs")
        self._managed: list[Managed] = []
        self._link = f"127.0.0.1:{free_port()}"
        self._nodes = [f"127.0.0.1:{free_port()}" for _ in range(num_hospitals)]

    def start(self) -> None:
        """Start all of it and tell the command line where the SuperLink is."""
        home = self._root / "home"
        home.mkdir(parents=True)
        (home / "config.toml").write_text(CONFIG.format(address=self._link))
        self._start_part(
            "superlink",
            self._link,
            ["flower-superlink", "--disable-runtime-dependency-installation"],
        )
        for hospital, address in enumerate(self._nodes):
            command = ["flower-supernode", "--superlink", self._link]
            command += ["--node-config", f"partition-id={hospital}"]
            self._start_part(f"node-{hospital:02d}", address, command)

    def wait_until_it_listens(self) -> None:
        """Return when the SuperLink accepts connections; ``flwr run`` does not try twice.

        Raises
        ------
        PulseRingError
            When it does not within its time.
        """
        host, _, port = self._link.partition(":")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _listens(host, int(port)):
            self.check()
            if time.monotonic() > deadline:
                raise PulseRingError("Flower's SuperLink does not listen")
            time.sleep(POLL_S)

    def submit(self, folder: Path, num_rounds: int) -> Managed:
        """``flwr run``, which ends when the run has."""
        config = f'folder="{folder}" num-rounds={num_rounds} num-hospitals={len(self._nodes)}'
        return self._start(
            "run", ["flwr", "run", str(APP), "rounds", "--stream", "--run-config", config]
        )

    def memory(self) -> dict[str, float]:
        """Of the largest hospital: SuperNode, SuperExec and what client process there is."""
        nodes = [
            [m.pid for m in self._managed if m.name.startswith(f"node-{k:02d}") and m.pid]
            for k in range(len(self._nodes))
        ]
        return process_memory.largest([process_memory.of_sessions(pids) for pids in nodes])

    def check(self) -> None:
        """Say so when a part has ended.

        Raises
        ------
        PulseRingError
            With the end of its log.
        """
        for managed in self._managed:
            if not managed.pid and managed.name != "run":
                raise PulseRingError(f"Flower's {managed.name} ended:\n{managed.tail()}")

    def stop(self) -> None:
        """End every process, and those that they started."""
        self._supervisor.stop()
        for managed in self._managed:
            if managed.process:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(managed.process.pid, signal.SIGKILL)

    def _start_part(self, name: str, address: str, command: list[str]) -> None:
        host, _, port = address.partition(":")
        isolated = ["--isolation", self._isolation, "--host", host, "--port", port]
        self._start(name, [*command, "--insecure", *isolated])
        if self._isolation == "process":
            self._start(
                f"{name}-exec",
                ["flower-superexec", "--insecure", "--runtime-api-address", address],
            )

    def _start(self, name: str, command: list[str]) -> Managed:
        environment = one_thread() | {
            "FLWR_HOME": str(self._root / "home"),
            "FLWR_TELEMETRY_ENABLED": "0",
            "PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}",
        }
        environment.pop("PYTHONPATH", None)
        command = [str(self._bin / command[0]), *command[1:]]
        managed = self._supervisor.start(name, command, environment)
        self._managed.append(managed)
        return managed


@contextmanager
def deployed(num_hospitals: int, isolation: Isolation, root: Path) -> Iterator[Deployment]:
    """A deployment that is ended whatever happens."""
    deployment = Deployment(num_hospitals, isolation, root)
    try:
        deployment.start()
        yield deployment
    finally:
        deployment.stop()


def run(lesson: Lesson, num_rounds: int, isolation: Isolation, root: Path) -> Flower:
    """Go through `num_rounds` rounds and see the next model out; weigh the hospitals in that one.

    Raises
    ------
    PulseRingError
        When a part ends or a round takes more than its time.
    """
    folder = root / "run"
    folder.mkdir(parents=True)
    num_hospitals = lesson.updates.shape[1]
    np.save(folder / "updates.npy", lesson.updates)
    np.savez(folder / "initial.npz", **lesson.initial)  # type: ignore[arg-type]  # numpy's keywords
    with deployed(num_hospitals, isolation, root) as deployment:
        deployment.wait_until_it_listens()
        running = deployment.submit(folder, num_rounds + 1)
        bytes_at = {}
        for round_id in range(1, num_rounds + 2):
            _wait_for(deployment, folder, running, round_id, num_hospitals)
            bytes_at[round_id] = loopback.num_bytes()
        trail = read_marks(folder)
        at_rest, at_work = _weigh(deployment, running)
    return Flower(trail, _models(folder), bytes_at, at_rest, at_work)


def read_marks(folder: Path) -> Trail:
    """Moments that the clients noted, from the machine's one monotonic clock."""
    trail = Trail()
    for path in sorted(folder.glob("marks-*.jsonl")):
        for line in path.read_text().splitlines():
            marks = json.loads(line)
            trail.mark("model", marks["round"], marks["model"])
            trail.mark("published", marks["round"], marks["published"])
    return trail


def _wait_for(
    deployment: Deployment, folder: Path, running: Managed, round_id: int, num_hospitals: int
) -> None:
    timeout_s = START_TIMEOUT_S if round_id == 1 else ROUND_TIMEOUT_S
    deadline = time.monotonic() + timeout_s
    while _num_answers(folder) < round_id * num_hospitals:
        deployment.check()
        if not running.pid:
            raise PulseRingError(f"Flower's run ended in round {round_id}:\n{running.tail()}")
        if time.monotonic() > deadline:
            raise PulseRingError(f"Flower's round {round_id} took more than {timeout_s:.0f} s")
        time.sleep(POLL_S)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _num_answers(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("marks-*.jsonl"))


def _weigh(deployment: Deployment, running: Managed) -> tuple[dict[str, float], dict[str, float]]:
    """Memory of a hospital after the run, and the most of it while the last round came to its end."""
    samples = [deployment.memory()]
    deadline = time.monotonic() + ROUND_TIMEOUT_S
    while running.pid and time.monotonic() < deadline:
        samples.append(deployment.memory())
        time.sleep(POLL_S)
    return deployment.memory(), process_memory.largest(samples)


def _models(folder: Path) -> dict[int, Flat]:
    return {int(p.stem.rpartition("-")[2]): np.load(p) for p in folder.glob("model-*.npy")}

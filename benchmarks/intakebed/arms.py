"""One timed run: updates published at once to an edge node, or to a subscriber that counts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.intakebed.processor_time import of_session
from benchmarks.intakebed.publishers import Published
from benchmarks.intakebed.site import Site
from benchmarks.intakebed.updates import Publisher
from benchmarks.results_file import REPOSITORY
from common.errors import PulseRingError
from simulators.broker import EmbeddedBroker

Figures = dict[str, float]


class Program:
    """A process of the benchmark that is spoken to in lines."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.intakebed.{module}", *map(str, arguments)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # as edge node and broker: the scheduler shares out by session
        )

    def say(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """Its next line.

        Raises
        ------
        PulseRingError
            When it ends instead.
        """
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise PulseRingError(f"{self._process.args!r} ended with code {self._process.wait()}")
        return line.strip()

    def hear_last(self) -> str:
        """Its last line, after it was told that no more comes."""
        assert self._process.stdin
        self._process.stdin.close()
        line = self.hear()
        self._process.wait()
        return line

    def end(self) -> None:
        """Kill it if it still runs."""
        self._process.kill()
        self._process.wait()


def ours(
    plan: Publisher, broker: EmbeddedBroker, folder: Path, profiler: Sequence[str] = ()
) -> Figures:
    """Publish to an edge node until the last receipt.

    Parameters
    ----------
    profiler : sequence of str
        A command that is started beside, with ``--pid`` and the edge node's.

    Raises
    ------
    PulseRingError
        When an update was refused or has no receipt.
    """
    with ExitStack() as stack:
        publishers = start_publishers(plan, stack)
        site = stack.enter_context(Site(folder, broker.url, plan.num_updates, plan.update_bytes))
        profiling = _profile(profiler, site.pid, stack)
        meter = _Meter(broker, site.cpu_s)
        published = publish(publishers)
        figures = meter.figures(plan, published.last_at, site.cpu_s, published)
        if profiling:
            profiling.wait()
    if published.num_receipted != plan.num_updates:
        raise PulseRingError(f"of {plan.num_updates} updates: {published}")
    return figures


def counter(plan: Publisher, broker: EmbeddedBroker) -> Figures:
    """Publish to a subscriber that counts, until it has counted the last.

    Raises
    ------
    PulseRingError
        When the broker lost one.
    """
    with ExitStack() as stack:
        publishers = start_publishers(plan, stack)
        counting = Program("counter", broker.port, plan.num_updates)
        stack.callback(counting.end)
        counting.hear()
        meter = _Meter(broker, 0.0)
        published = publish(publishers)
        counted = json.loads(counting.hear())
        figures = meter.figures(plan, counted["last_at"], counted["cpu_s"], published)
    if counted["num"] != plan.num_updates:
        raise PulseRingError(f"of {plan.num_updates} updates: {counted}")
    return figures


class _Meter:
    """What a run took of time and processors."""

    def __init__(self, broker: EmbeddedBroker, subscriber_cpu_s: float) -> None:
        self._broker = broker
        self._broker_cpu_s = of_session(broker.pid)
        self._subscriber_cpu_s = subscriber_cpu_s

    def figures(
        self, plan: Publisher, last_at: float, subscriber_cpu_s: float, published: Published
    ) -> Figures:
        """Updates a second, and milliseconds of processor time for each."""
        used = {
            "subscriber": subscriber_cpu_s - self._subscriber_cpu_s,
            "broker": of_session(self._broker.pid) - self._broker_cpu_s,
            "publishers": published.cpu_s,
        }
        per_s = plan.num_updates / (last_at - published.first_at)
        costs = {f"{who}_cpu_ms": round(1000 * s / plan.num_updates, 3) for who, s in used.items()}
        return {"per_s": round(per_s, 1), **costs}


def start_publishers(plan: Publisher, stack: ExitStack) -> Program:
    """Connect all sessions, with their updates made; they end with `stack`."""
    publishers = Program("publishers")
    stack.callback(publishers.end)
    publishers.say(json.dumps(asdict(plan)))
    publishers.hear()
    return publishers


def publish(publishers: Program) -> Published:
    """Let them publish, to the end."""
    publishers.say("go")
    return Published(**json.loads(publishers.hear()))


def _profile(command: Sequence[str], pid: int, stack: ExitStack) -> subprocess.Popen[bytes] | None:
    if not command:
        return None
    process = subprocess.Popen([*command, "--pid", str(pid)])
    stack.callback(process.kill)
    return process

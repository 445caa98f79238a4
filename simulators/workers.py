"""Processes that do the wristbands' local work: torch on one thread each.

A wearer's examples are loaded once, by the one worker that the wearer belongs to, while it has
nothing else to do.  What a job gives depends on the job alone, so neither the number of workers
nor the grouping shows in it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import zlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import structlog

from common.errors import PulseRingError
from common.tasks.task import Examples
from simulators.attackers import Attack, turned
from simulators.jobs import Job, Learned

NUM_DUMMY_EXAMPLES = 200
STOP_TIMEOUT_S = 1.0
MAX_ATTEMPTS = 2

log = structlog.get_logger()


@dataclass(frozen=True)
class ExampleSource:
    """Where wearers' examples come from.

    Attributes
    ----------
    task : str
        ``dummy`` draws them from the wearer's name.
    data_root : Path
        Holds ``mitdb/``; without it the wearers are synthetic, drawn from `seed`.
    """

    task: str
    data_root: Path
    seed: int = 0

    def split(self, wearer: str) -> tuple[Examples, Examples]:
        """Examples to train on, and those kept back: the last fifth.

        Raises
        ------
        SignalError, ContractError
            When the wearer is unknown or the record is damaged.
        """
        from simulators.patients import split_last_fifth
        from simulators.patients import wearer as beats_of

        if self.task == "dummy":
            from common.tasks.dummy import dummy_examples

            return split_last_fifth(
                dummy_examples(self.seed + zlib.crc32(wearer.encode()), NUM_DUMMY_EXAMPLES)
            )
        from common.ecg.sources import open_source

        return split_last_fifth(beats_of(open_source(self.data_root, self.seed).read(wearer)))


@dataclass(frozen=True)
class Order:
    """A job for one wearer's examples, done by a hostile wristband if there is an `attack`."""

    wearer: str
    job: Job
    attack: Attack | None = None


@dataclass(frozen=True)
class Failed:
    """Why an order gave nothing."""

    reason: str


Done = Learned | Failed


@dataclass
class _Queued:
    key: int
    order: Order
    num_attempts: int = 0


class Worker:
    """One process, its queue and its end of the pipe; `connection` is readable when it is done.

    Parameters
    ----------
    wearers : sequence of str
        Those it will work for; it loads their examples when idle.
    """

    def __init__(self, source: ExampleSource, wearers: Sequence[str]) -> None:
        self._source = source
        self._queue: deque[_Queued] = deque()
        self._current: _Queued | None = None
        self._start(tuple(wearers))

    @property
    def connection(self) -> Connection:
        """To be watched; another one after the process had to be started again."""
        return self._connection

    def submit(self, key: int, order: Order) -> None:
        """Queue an order; `key` comes back with its result."""
        self._queue.append(_Queued(key, order))
        self._feed()

    def collect(self) -> tuple[int, Done] | None:
        """Take a result off a readable connection.

        ``None`` when the process died and was started again with the same order; after the second
        death over one order it is `Failed`.
        """
        current = self._current
        try:
            done: Done = self._connection.recv()
        except (EOFError, OSError):
            self.stop()
            log.error("worker_died", exit_code=self._process.exitcode, in_a_job=current is not None)
            self._start(())  # loading ahead may be what it died of
            done = Failed("its worker process died twice")
            if current and current.num_attempts < MAX_ATTEMPTS:
                self._queue.appendleft(current)
                current = None
        self._current = None
        self._feed()
        return (current.key, done) if current else None

    def stop(self) -> None:
        """End the process, in the middle of a job if need be."""
        self._process.terminate()
        self._process.join(STOP_TIMEOUT_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(STOP_TIMEOUT_S)
        self._connection.close()

    def _start(self, wearers: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=work,
            args=(theirs, self._source, wearers),
            name="wristband-worker",
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def _feed(self) -> None:
        if self._current is None and self._queue:
            self._current = self._queue.popleft()
            self._current.num_attempts += 1
            try:
                self._connection.send(self._current.order)
            except OSError:
                return  # it has died: the connection is readable, `collect` sees to it


def work(connection: Connection, source: ExampleSource, wearers: Sequence[str]) -> None:
    """Body of a worker process: orders in, results out, until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    from simulators.public import public_examples
    from simulators.trainer import pin_to_one_thread

    pin_to_one_thread()
    public_examples(source.task)
    ahead = iter(wearers)
    while True:
        while not connection.poll() and (wearer := next(ahead, None)):
            _load_ahead(source, wearer)
        try:
            order: Order = connection.recv()
        except EOFError:
            return
        connection.send(carry_out(order, source))


def carry_out(order: Order, source: ExampleSource) -> Done:
    """Do an order in this process."""
    from simulators.local import learn

    try:
        learned = learn(order.job, *_examples(source, order.wearer))
        return turned(order.attack, order.job, learned) if order.attack else learned
    except PulseRingError as fault:
        return Failed(fault.message)


def _load_ahead(source: ExampleSource, wearer: str) -> None:
    with contextlib.suppress(PulseRingError):  # told when its examples are needed
        _examples(source, wearer)


@cache
def _examples(source: ExampleSource, wearer: str) -> tuple[Examples, Examples]:
    return source.split(wearer)

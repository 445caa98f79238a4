"""All wristbands of a fleet in one process: one `selectors` loop, no thread a client.

Measured: 5000 paho clients in one thread, 1 descriptor and 6 kB each (`facts/mqtt.md`).
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
import structlog

from common.link import BrokerAddress
from simulators.attackers import Attack
from simulators.jobs import Identity, Job, Learned
from simulators.session import Session
from simulators.shelf import SharedModel
from simulators.traffic import Traffic
from simulators.workers import ExampleSource, Order, Worker
from simulators.wristband import Wristband

STEP_S = 0.1
HOUSEKEEPING_S = 0.25
KEEPALIVE_CHECK_S = 2.0
MAX_CONNECTS_PER_STEP = 50  # connecting waits for the handshake; what is connected must go on
CONNECT_RATE_HZ = 500.0  # a first connect is spread over the size of the fleet
FAREWELL_S = 2.0
CLOCK_STEP_S = 1.0  # less delays nothing by more

log = structlog.get_logger()


@dataclass(frozen=True)
class Member:
    """A wristband of the fleet, its hospital's broker, whose ECG it sees and how it is hostile."""

    identity: Identity
    broker: str
    wearer: str
    attack: Attack | None = None


@dataclass(frozen=True)
class SwarmCounts:
    """How a swarm is doing."""

    num_wristbands: int
    num_connected: int
    num_unreceipted: int
    num_working: int
    round_id: int


class Swarm:
    """Wristbands, their sessions and their workers, driven by `run`, or `step` by `step`.

    Parameters
    ----------
    members : sequence of Member
        Each device once a hospital.
    source : ExampleSource
        Of all wearers.
    num_workers : int
        Processes for local work, at least 1.
    seed : int
        Of the jitter; what is learned depends on the round's seed only.
    clock : callable
        Seconds since the epoch; may be set while the swarm runs.

    Raises
    ------
    ConfigError
        When a broker's URL is wrong.
    """

    def __init__(
        self,
        members: Sequence[Member],
        source: ExampleSource,
        num_workers: int,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.traffic = Traffic()
        self._clock = clock
        self._last_now = clock()
        self._selector = selectors.DefaultSelector()
        shelf: WeakValueDictionary[str, SharedModel] = WeakValueDictionary()
        rngs = np.random.default_rng(seed).spawn(len(members))
        self._sessions = [
            Session(
                Wristband(member.identity, source.task, rng, shelf),
                BrokerAddress.parse(member.broker),
                self,
                self._start_work,
                self.traffic,
                clock,
                time.monotonic,
                rng,
            )
            for member, rng in zip(members, rngs, strict=True)
        ]
        self._spread_first_connects(np.random.default_rng([seed, 1]))
        self._member = {id(s): m for s, m in zip(self._sessions, members, strict=True)}
        self._workers, self._worker_of = _start_workers(members, source, num_workers)
        for worker in self._workers:
            self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        self._working: dict[int, tuple[Session, Job]] = {}
        self._num_orders = 0
        self._next_housekeeping = 0.0
        self._next_keepalive = 0.0

    @property
    def counts(self) -> SwarmCounts:
        """How it is doing."""
        bands = [session.wristband for session in self._sessions]
        return SwarmCounts(
            num_wristbands=len(bands),
            num_connected=sum(session.connected for session in self._sessions),
            num_unreceipted=sum(band.num_unreceipted for band in bands),
            num_working=len(self._working),
            round_id=max((band.round_id for band in bands), default=0),
        )

    def run(self, should_stop: Callable[[], bool]) -> None:
        """Step until `should_stop`, then say farewell and end the workers."""
        try:
            while not should_stop():
                self.step(STEP_S)
        finally:
            self.close()

    def step(self, timeout_s: float) -> None:
        """Wait for events at most `timeout_s`, then do what is due."""
        self._dispatch(timeout_s)
        self._mind_the_clock()
        steady = time.monotonic()
        if steady >= self._next_housekeeping:
            self._next_housekeeping = steady + HOUSEKEEPING_S
            now = self._clock()
            for session in self._sessions:
                session.tick(now)
        self._connect_due(steady)
        if steady >= self._next_keepalive:
            self._next_keepalive = steady + KEEPALIVE_CHECK_S
            for session in self._sessions:
                session.keep_alive()

    def close(self) -> None:
        """Set all offline within 2 s, and end the workers even in the middle of a job."""
        for worker in self._workers:
            self._selector.unregister(worker.connection)
            worker.stop()
        for session in self._sessions:
            session.leave()
        deadline = time.monotonic() + FAREWELL_S
        while any(session.open for session in self._sessions) and time.monotonic() < deadline:
            self._dispatch(STEP_S)
        for session in self._sessions:
            session.drop()
        self._selector.close()

    def watch(self, sock: socket.socket, session: Session, writing: bool) -> None:
        """See `simulators.session.Watcher`."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if sock in self._selector.get_map():
            self._selector.modify(sock, events, session)
        else:
            self._selector.register(sock, events, session)

    def forget(self, sock: socket.socket) -> None:
        """See `simulators.session.Watcher`."""
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def _dispatch(self, timeout_s: float) -> None:
        for key, mask in self._selector.select(timeout_s):
            if isinstance(key.data, Worker):
                self._collect(key.data)
            else:
                key.data.ready(
                    bool(mask & selectors.EVENT_READ), bool(mask & selectors.EVENT_WRITE)
                )

    def _mind_the_clock(self) -> None:
        now = self._clock()
        if now < self._last_now - CLOCK_STEP_S:
            log.warning("clock_was_set_back", by_s=round(self._last_now - now, 1))
            for session in self._sessions:
                session.clock_was_set_back(now)
        self._last_now = now

    def _connect_due(self, steady: float) -> None:
        due = (
            session for session in self._sessions if not session.open and session.retry_at <= steady
        )
        for session, _ in zip(due, range(MAX_CONNECTS_PER_STEP), strict=False):
            session.connect()

    def _spread_first_connects(self, rng: np.random.Generator) -> None:
        spread_s = len(self._sessions) / CONNECT_RATE_HZ
        now = time.monotonic()
        for session in self._sessions:
            session.retry_at = now + spread_s * float(rng.random())

    def _start_work(self, session: Session, job: Job) -> None:
        member = self._member[id(session)]
        self._num_orders += 1
        self._working[self._num_orders] = (session, job)
        order = Order(member.wearer, job, member.attack)
        self._worker_of[member.wearer].submit(self._num_orders, order)

    def _collect(self, worker: Worker) -> None:
        self._selector.unregister(worker.connection)
        result = worker.collect()
        self._selector.register(worker.connection, selectors.EVENT_READ, worker)
        if result is None:
            return
        key, done = result
        session, job = self._working.pop(key)
        if isinstance(done, Learned):
            session.act(session.wristband.worked(done, self._clock()))
        else:
            session.act(session.wristband.failed(job, done.reason, self._clock()))


def _start_workers(
    members: Sequence[Member], source: ExampleSource, num_workers: int
) -> tuple[list[Worker], dict[str, Worker]]:
    """Workers, and which of them each wearer belongs to: in turn, by first appearance."""
    wearers = list(dict.fromkeys(member.wearer for member in members))
    groups = [wearers[i::num_workers] for i in range(num_workers)]
    workers = [Worker(source, group) for group in groups]
    return workers, {
        wearer: worker for worker, group in zip(workers, groups, strict=True) for wearer in group
    }

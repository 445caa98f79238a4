"""The running coordinator: one loop owns the region, MQTT's thread only feeds its queue."""

from __future__ import annotations

import os
import queue
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from threading import Event as Flag
from typing import Any

import structlog
from paho.mqtt.client import MQTTMessage

from common import topics
from common.errors import ContractError
from common.health import HealthServer, announce
from common.link import Link
from common.lock import hold
from common.messages import RegionState
from common.watchdog import Watchdog
from common.wire import encode_json
from regional.clock import Clock
from regional.config import RegionConfig
from regional.coordinator import step
from regional.first_start import open_store, start
from regional.hands import Hands
from regional.history import History
from regional.ledger import Ledger
from regional.membership import heard_now, parse_status
from regional.messages import Append, Event, RosterChanged, StatusHeard, Tick
from regional.metrics import Metrics
from regional.progress import Progress, replay
from regional.records import Record
from regional.region import recovery, restore, state_of
from regional.releases import Releases
from regional.rendezvous import Rendezvous
from regional.reports import log_fields, seal_reports, status_report

TICK_S = 0.1
MAX_STEPS_A_TURN = 8
RETRY_S = 1.0
RELEASE_POLL_S = 1.0
STALLED_S = 30.0
MAX_TOLD = 1000
MAX_INBOX = 10_000

log = structlog.get_logger()


class Service:
    """Composes ledger, mailbox, rendezvous, MQTT session and health server.

    Raises
    ------
    ConfigError
        When a port, path or key of the configuration cannot be used.
    """

    def __init__(self, config: RegionConfig) -> None:
        self._config = config
        self._lock = hold(config.state_dir, "coordinator")
        self._ledger = Ledger(config.ledger_path)
        store = open_store(config)
        Rendezvous(config.rendezvous_host).check()
        self._hands = Hands(config, self._ledger, store)
        self._releases = Releases(config, store)
        self._metrics = Metrics()
        self._health = HealthServer(
            config.health_listen,
            self._metrics.registry,
            {"/healthz": self._healthz, "/rounds": self._rounds, "/seals": self._seals}
            | {"/status": self._status},
        )
        self._link = Link(
            config.broker,
            f"pulsering-{config.region}-coordinator",
            on_connect=self._say_again,
            on_message=self._on_message,
            subscriptions=[topics.hospital_status(config.region)],
        )
        now = time.time()
        self._region = restore(start(config, self._ledger, store, now), now)
        self._inbox: queue.Queue[StatusHeard] = queue.Queue(MAX_INBOX)
        self._stopping = Flag()
        self._said: RegionState | None = None
        self._said_at = 0.0
        self._num_changes = 0
        self._must_recover = True
        self._history = History()
        self._polled_at = 0.0
        self._turned_at = time.monotonic()
        self._watchdog = Watchdog("coordinator", config.watchdog_s)
        self._clock = Clock()
        self._fault = ""
        self._told: set[tuple[str, ...]] = set()

    @property
    def health_url(self) -> str:
        """Where ``/healthz`` answers."""
        return self._health.url

    def stop(self) -> None:
        """Ask the loop to end; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Coordinate until `stop`."""
        self._health.start()
        self._watchdog.start()
        announce(self._config.state_dir, self.health_url)
        self._link.start()
        log.info("coordinator_started", health=self.health_url, start=self._progress.num_starts)
        try:
            while not self._stopping.is_set():
                self._turn()
        finally:
            self._watchdog.stop()
            self._link.stop()
            self._hands.let_go()
            self._health.stop()
            self._ledger.close()
            os.close(self._lock)
            log.info("coordinator_stopped")

    def _turn(self) -> None:
        """Take in what was heard, act, say what changed; a fault is logged and tried again."""
        self._mind_the_clock()
        try:
            if self._must_recover:
                self._recover()
            if self._ledger.written_by_others():
                self._follow_ledger()
            for event in self._heard():
                self._advance(event)
            self._look_for_release()
            self._tick()
            self._fault = ""
        except Exception as fault:
            self._metrics.faults.inc()
            self._fault = f"{type(fault).__name__}: {fault}"[:500]
            log.exception("effect_failed")
            self._must_recover = True
            self._stopping.wait(RETRY_S)
        now = time.time()
        self._turned_at = time.monotonic()
        self._watchdog.beat()
        self._metrics.saw_region(self._region, self._config, now)
        self._publish(now)

    def _tick(self) -> None:
        """Let time act until nothing changes, so that one step does not wait for the next turn."""
        for _ in range(MAX_STEPS_A_TURN):
            before = self._region.stage, self._region.groups
            self._advance(Tick())
            if (self._region.stage, self._region.groups) == before:
                return

    def _mind_the_clock(self) -> None:
        """Take a clock that was set as a restart: what it timed begins anew."""
        step_s = self._clock.stepped_s()
        if step_s:
            log.warning("clock_was_set", by_s=round(step_s, 1))
            statuses = heard_now(self._region.statuses, time.time())
            self._region = replace(self._region, statuses=statuses)
            self._said_at = 0.0
            self._must_recover = True

    @property
    def _progress(self) -> Progress:
        return self._region.progress

    def _heard(self) -> list[Event]:
        """Statuses in the inbox, waiting a tick for the first."""
        events: list[Event] = []
        try:
            events.append(self._inbox.get(timeout=TICK_S))
            while len(events) < 1000:
                events.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return events

    def _advance(self, first: Event) -> None:
        events = deque([first])
        while events:
            region, effects = step(self._region, events.popleft(), time.time(), self._config)
            for effect in effects:
                answer = self._hands.carry_out(effect)
                if isinstance(effect, Append):
                    self._note(effect.records)
                if answer is not None:
                    events.append(answer)
            self._region = region
            if effects:
                self._publish(time.time())

    def _note(self, records: tuple[Record, ...]) -> None:
        """Keep, count and log what the ledger holds now."""
        for record in records:
            self._history.note(record)
            self._metrics.saw_record(record)
            log.info(record.kind, **log_fields(record))

    def _recover(self) -> None:
        """Go on from the ledger, first doing again what may not have been done."""
        progress = self._read_ledger()
        for effect in recovery(progress):
            self._hands.carry_out(effect)
        self._region = restore(progress, time.time(), self._region.statuses)
        self._must_recover = False

    def _follow_ledger(self) -> None:
        """Take in what an operator's command has written."""
        self._advance(RosterChanged(self._read_ledger()))

    def _read_ledger(self) -> Progress:
        history = History()
        progress = replay(history.noting(self._ledger.each()))
        self._history = history
        self._hands.trust(progress.hospitals)
        return progress

    def _look_for_release(self) -> None:
        now = time.monotonic()
        if not self._progress.undecided or now < self._polled_at + RELEASE_POLL_S:
            return
        self._polled_at = now
        found = self._releases.poll(self._progress)
        if found:
            self._advance(found)

    def _publish(self, now: float) -> None:
        state = state_of(self._region, self._config, self._num_changes)
        if state != self._said:
            state = state_of(self._region, self._config, self._num_changes + 1)
        elif now < self._said_at + self._config.heartbeat_s:
            return
        topic = topics.round_state(self._config.region)
        if self._link.publish(topic, encode_json(state), retain=True):
            self._num_changes += state != self._said
            self._said, self._said_at = state, now

    def _say_again(self) -> None:
        self._said_at = 0.0

    def _on_message(self, topic: str, payload: bytes, _message: MQTTMessage) -> None:
        try:
            status = parse_status(topic, payload, self._config.region, self._progress.hospitals)
        except ContractError as fault:
            reason = str(fault.data.get("reason", "schema"))
            self._metrics.rejected.labels(reason).inc()
            self._tell_once("status_rejected", reason=reason, detail=fault.message[:200])
            return
        with suppress(queue.Full):  # each hospital says its whole state again
            self._inbox.put_nowait(StatusHeard(status))

    def _tell_once(self, event: str, **fields: str) -> None:
        """Log what comes again with every heartbeat, but not each time."""
        said = (event, *fields.values())
        if said not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(said)
            log.warning(event, **fields)

    def _healthz(self) -> dict[str, Any]:
        alive = time.monotonic() - self._turned_at < STALLED_S
        return {
            "ok": self._link.connected and alive and not self._fault,
            "broker_connected": self._link.connected,
            "loop_alive": alive,
            "fault": self._fault,
            "region": self._config.region,
            "profile": self._config.profile,
        }

    def _rounds(self) -> list[dict[str, Any]]:
        return self._history.rounds

    def _seals(self) -> list[dict[str, Any]]:
        return seal_reports(self._history.days)

    def _status(self) -> dict[str, Any]:
        return status_report(self._region, self._config, time.time(), self._history.dead_rings)

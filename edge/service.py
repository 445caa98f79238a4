"""The edge node as a process: two broker sessions, one worker, one rank, one health server."""

from __future__ import annotations

import secrets
import time
from dataclasses import asdict
from functools import partial
from threading import Event, Thread
from typing import Any

import paho.mqtt.client as mqtt
import structlog

from common import topics, wire
from common.digest import bytes_digest
from common.health import HealthServer, announce
from common.link import Link, Will
from common.lock import hold
from common.mailbox import Mailbox
from common.messages import HospitalStatus
from common.signing import Keyring, Signer
from common.watchdog import Watchdog
from common.wire import MAX_TENSOR_MESSAGE_BYTES
from edge.archivist import Archivist
from edge.broker_watch import BrokerMeters, BrokerWatch
from edge.config import EdgeConfig
from edge.desk import Desk, Incoming
from edge.disk import MB, Limits
from edge.drain import Drain
from edge.heap import Heap
from edge.inbox import Inbox, News
from edge.intake import Station
from edge.ledger import Ledger
from edge.metrics import Meters
from edge.models import COORDINATOR, Models
from edge.node import Node
from edge.overview import Overview
from edge.rank_process import Died, RankProcess, Said
from edge.reception import Reception
from edge.ring import Seat
from edge.standing import MuteRule, Standing

TICK_S = 0.1
STALLED_S = 10.0
GRACE_S = 3.0

log = structlog.get_logger()


class Service:
    """Everything that has a thread or a socket, around one `Node`.

    Raises
    ------
    ConfigError
        When the port or `state_dir` is in use, or the roster cannot be read.
    """

    def __init__(self, config: EdgeConfig) -> None:
        roster = config.roster()
        self._lock = hold(config.state_dir, "edge node")
        self._state_dir = config.state_dir
        self._meters = Meters()
        self._inbox = self._make_inbox(config.inbox_mb * MB)
        self._heap = Heap()
        self._stop = Event()
        self._stepped_at = time.monotonic()
        self._ledger = Ledger(config.state_dir)
        limits = Limits(config.disk_quota_mb * MB, config.min_free_mb * MB)
        self._overview = Overview(config.state_dir, limits, self._meters.registry)
        self._archivist = Archivist(
            self._ledger, config.keep_rounds, config.state_dir / "rounds", self._meters.registry
        )
        self._rank = RankProcess(config.rank_python, self._from_rank)
        self._region_link = self._to_region(config)
        self._hospital_link = self._to_hospital(config)
        self._broker_watch = BrokerWatch(
            config.hospital_broker,
            _client_id(config, "watch"),
            BrokerMeters(self._meters.registry),
        )
        for name, link in (("region", self._region_link), ("hospital", self._hospital_link)):
            self._meters.link_up.labels(name).set_function(partial(_is_up, link))
        self._node = self._make_node(config, roster)
        self._drain = Drain(config.state_dir, self._node, self.stop)
        self._reception = Reception(self._inbox, self._node.on_messages)
        self._status = self._node.status()
        self._health = HealthServer(
            config.health_listen,
            self._meters.registry,
            {"/healthz": self.report, "/status": lambda: self._status.model_dump(mode="json")},
        )
        self._watchdog = Watchdog("edge-worker", config.watchdog_s)
        self._worker = Thread(target=self._work, name="edge-worker", daemon=True)

    def run(self) -> None:
        """Serve until `stop`."""
        self._health.start()
        announce(self._state_dir, self._health.url)
        log.info("health_listening", url=self._health.url)
        self._overview.start()
        self._worker.start()
        self._watchdog.start()
        self._region_link.start()
        self._hospital_link.start()
        self._broker_watch.start()
        self._stop.wait()
        self._watchdog.stop()
        self._inbox.close()
        self._worker.join(timeout=GRACE_S)
        self._broker_watch.stop()
        self._hospital_link.stop()
        self._region_link.stop()
        self._health.stop()
        self._overview.stop()
        self._ledger.close()
        log.info("stopped")

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler."""
        self._stop.set()

    def report(self) -> dict[str, Any]:
        """What ``/healthz`` answers: `ok` when the worker goes round and messages can be stored.

        A broker that is away does not make the node unhealthy; `links` tells.
        """
        status = self._status
        going = time.monotonic() - self._stepped_at < STALLED_S
        return {
            "ok": going and not self._reception.error and not self._overview.held,
            "region": status.region,
            "hospital": status.hospital,
            "identity": status.identity,
            "links": {
                "region": self._region_link.connected,
                "hospital": self._hospital_link.connected,
            },
            "round_id": status.round_id,
            "phase": status.phase,
            "rank": {
                "state": status.rank,
                "pid": status.rank_pid,
                "generation": status.generation,
                "starts": self._rank.num_starts,
                "keeper_pid": self._rank.keeper_pid,
            },
            "draining": self._node.draining,
            "waiting_updates": self._overview.num_waiting,
            "disk": asdict(self._overview.usage) | asdict(self._overview.room),
            "error": self._reception.error or self._overview.held or status.error,
        }

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                self._round_trip()
            except Exception:  # the outermost loop: one bad turn must not end the service
                log.exception("turn_failed")
                self._stop.wait(TICK_S)
        self._node.say_goodbye(time.time())
        self._rank.kill()

    def _round_trip(self) -> None:
        self._node.notice = self._reception.held = self._overview.held
        if self._reception.waits(time.time()):  # else a waiting message ends the wait at once
            self._stop.wait(TICK_S)
        for news in self._inbox.take_news(TICK_S):
            self._tell_node(news)
        self._reception.turn(time.time())
        self._node.step(time.time())
        self._archivist.turn(time.time())
        self._heap.turn(time.monotonic())
        self._drain.turn()
        self._status = self._node.status()
        self._meters.rank_starts.set(self._rank.num_starts)
        self._stepped_at = time.monotonic()
        self._watchdog.beat()

    def _tell_node(self, news: News) -> None:
        try:
            news()
        except Exception:  # the others must be heard all the same
            log.exception("news_failed")

    def _from_rank(self, news: Said | Died) -> None:
        self._inbox.put_news(lambda: self._node.on_rank(news, time.time()))

    def _to_region(self, config: EdgeConfig) -> Link:
        gone = HospitalStatus(
            region=config.region, hospital=config.hospital, online=False, identity=config.identity
        )
        return Link(
            config.region_broker,
            _client_id(config, "region"),
            on_connect=lambda: self._inbox.put_news(self._node.on_region_broker),
            on_message=lambda _topic, data, _token: self._inbox.put_news(
                partial(self._node.on_region, data)
            ),
            subscriptions=[topics.round_state(config.region)],
            will=Will(
                topics.hospital_status(config.region, config.hospital), wire.encode_json(gone)
            ),
        )

    def _to_hospital(self, config: EdgeConfig) -> Link:
        link: Link

        def on_message(topic: str, data: bytes, message: mqtt.MQTTMessage) -> None:
            kept = data if len(data) <= MAX_TENSOR_MESSAGE_BYTES else None
            # Not the message itself, which would keep the bytes of one too large.
            acknowledge = partial(link.acknowledge, message.mid, message.qos, link.num_connects)
            self._inbox.put_message(Incoming(topic, kept, bytes_digest(data), acknowledge))

        link = Link(
            config.hospital_broker,
            _client_id(config, "hospital"),
            on_connect=lambda: self._inbox.put_news(self._node.on_hospital_broker),
            on_message=on_message,
            subscriptions=[
                topics.device(config.region, config.hospital, "+", "update"),
                topics.device(config.region, config.hospital, "+", "evaluation"),
            ],
            manual_ack=True,
        )
        return link

    def _make_inbox(self, max_bytes: int) -> Inbox:
        meters = self._meters
        inbox = Inbox(max_bytes, meters.inbox_withheld_seconds.inc)
        meters.inbox_messages.set_function(lambda: inbox.num_messages)
        meters.inbox_bytes.set_function(lambda: inbox.num_bytes)
        return inbox

    def _make_node(self, config: EdgeConfig, roster: frozenset[str]) -> Node:
        mailbox = Mailbox(
            config.mailbox,
            Signer.at(config.hospital, config.state_dir),
            Keyring({COORDINATOR: config.coordinator_key}),
        )
        models = Models(mailbox, config.state_dir / "models")
        seat = Seat(
            config.region,
            config.hospital,
            self._rank,
            self._ledger,
            mailbox,
            models,
            (config.state_dir / "rounds").resolve(),
            config.interface,
            config.ring_cycle_ms,
            config.traces,
        )
        standing = Standing(self._ledger, MuteRule(config.mute_after, config.mute_s))
        return Node(
            config,
            roster,
            self._ledger,
            models,
            seat,
            Desk(Station(config.region, config.hospital, roster), self._ledger, standing),
            standing,
            self._meters,
            self._region_link,
            self._hospital_link,
            secrets.SystemRandom(),
        )


def _is_up(link: Link) -> float:
    return float(link.connected)


def _client_id(config: EdgeConfig, role: str) -> str:
    return f"edge-{config.region}-{config.hospital}-{role}"

"""One wristband's MQTT 5 session: its state machine at one end, a paho client at the other.

A client lives as long as its connection; the next connection gets a new one.  So nothing waits in
paho's queues for a broker that is away (the wristband keeps what matters), and no oversize message
is sent again for ever.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

import numpy as np
import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from common.client import Client
from common.link import BrokerAddress, send_at_once
from simulators.actions import Action, Note, Publish, Subscribe, Unsubscribe, Work
from simulators.jobs import Job
from simulators.traffic import Traffic
from simulators.wristband import Wristband

MAX_PAYLOAD_BYTES = 2 << 20
KEEPALIVE_S = 60
CONNECT_TIMEOUT_S = 2.0
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 15.0

log = structlog.get_logger()


class Watcher(Protocol):
    """What a session tells the loop about its socket."""

    def watch(self, sock: socket.socket, session: Session, writing: bool) -> None:
        """Tell `session` when `sock` is readable and, if `writing`, writable."""

    def forget(self, sock: socket.socket) -> None:
        """Watch `sock` no longer."""


class Session:
    """Drives one wristband; every method is called by the loop's one thread.

    Parameters
    ----------
    address : BrokerAddress
        The hospital broker.
    start_work : callable
        Takes the session and the job that its wristband wants done.
    clock : callable
        Seconds since the epoch, as in ``closes_at``.
    steady : callable
        Seconds of a clock that nobody sets, as in `retry_at`.
    rng : np.random.Generator
        For the jitter of reconnects.
    """

    def __init__(
        self,
        wristband: Wristband,
        address: BrokerAddress,
        watcher: Watcher,
        start_work: Callable[[Session, Job], None],
        traffic: Traffic,
        clock: Callable[[], float],
        steady: Callable[[], float],
        rng: np.random.Generator,
    ) -> None:
        self.wristband = wristband
        self.retry_at = 0.0
        self._address = address
        self._watcher = watcher
        self._start_work = start_work
        self._traffic = traffic
        self._clock = clock
        self._steady = steady
        self._rng = rng
        self._client: mqtt.Client | None = None
        self._num_failures = 0

    @property
    def open(self) -> bool:
        """Whether there is a connection, or one under way."""
        return self._client is not None

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the session."""
        return self._client is not None and self._client.is_connected()

    def connect(self) -> None:
        """Open a connection; when refused, `retry_at` says when to try again."""
        client = self._client = self._new_client()
        try:
            client.connect(
                self._address.host, self._address.port, keepalive=KEEPALIVE_S, clean_start=True
            )
        except OSError as fault:
            log.debug("connect_failed", device=self.wristband.identity.device, reason=str(fault))
            self._lost()

    def ready(self, readable: bool, writable: bool) -> None:
        """Let the client read and write what it can without waiting."""
        if readable and self._client:
            self._client.loop_read()
            while self._client and _has_pending(self._client):
                self._client.loop_read()
        if writable and self._client:
            self._client.loop_write()

    def keep_alive(self) -> None:
        """Ping when due; a broker that stopped answering is given up."""
        if self._client:
            self._client.loop_misc()

    def tick(self, now: float) -> None:
        """Send what is due."""
        if self.wristband.next_due <= now:
            self.act(self.wristband.tick(now))

    def clock_was_set_back(self, now: float) -> None:
        """Send again what would be due only when the clock is back where it was."""
        self.act(self.wristband.hurry(now))

    def act(self, actions: list[Action]) -> None:
        """Do what the wristband asks for."""
        for action in actions:
            match action:
                case Work(job):
                    self._start_work(self, job)
                case Note(event, reason):
                    log.warning(event, device=self.wristband.identity.device, reason=reason)
                case Publish():
                    self._publish(action)
                case Subscribe(topic):
                    if self._client:
                        self._client.subscribe(topic, qos=1)
                case Unsubscribe(topic):
                    if self._client:
                        self._client.unsubscribe(topic)

    def leave(self) -> None:
        """Say farewell and disconnect in good order; the socket may still have to be written."""
        if self._client and self.connected:
            self._publish(self.wristband.status(online=False))
            self._client.disconnect()

    def drop(self) -> None:
        """Close the socket without a word."""
        client, self._client = self._client, None
        if client is None:
            return
        client.on_socket_close = client.on_socket_unregister_write = None
        sock = client.socket()
        if isinstance(sock, socket.socket):
            self._watcher.forget(sock)
            sock.close()

    def _publish(self, message: Publish) -> None:
        if len(message.payload) > MAX_PAYLOAD_BYTES:
            log.error(
                "message_oversize",
                device=self.wristband.identity.device,
                num_bytes=len(message.payload),
                most=MAX_PAYLOAD_BYTES,
            )
        elif self._client:
            device, round_id = self.wristband.identity.device, self.wristband.round_id
            self._client.publish(message.topic, message.payload, qos=1, retain=message.retain)
            self._traffic.sent(device, round_id, message.topic, message.payload)

    def _new_client(self) -> mqtt.Client:
        who, will = self.wristband.identity, self.wristband.status(online=False)
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{who.region}-{who.hospital}-{who.device}",
            protocol=mqtt.MQTTv5,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.will_set(will.topic, will.payload, qos=1, retain=True)
        if self._address.username:
            client.username_pw_set(self._address.username, self._address.password)
        if self._address.tls:
            client.tls_set()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_opened
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_socket_open
        return client

    def _lost(self) -> None:
        self._client = None
        self.wristband.disconnected()
        delay_s = min(FIRST_RETRY_S * 2.0**self._num_failures, LAST_RETRY_S)
        self._num_failures += 1
        self.retry_at = self._steady() + delay_s * (0.5 + float(self._rng.random()))

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            log.error("broker_refused", host=self._address.host, reason=str(reason))
            return
        self._num_failures = 0
        self.act(self.wristband.connected(self._clock()))

    def _on_disconnect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if client is self._client:
            log.debug("broker_lost", device=self.wristband.identity.device, reason=str(reason))
            self._lost()

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        payload = bytes(message.payload)
        actions = self.wristband.received(message.topic, payload, self._clock())
        device, round_id = self.wristband.identity.device, self.wristband.round_id
        self._traffic.received(device, round_id, message.topic, payload)
        self.act(actions)

    def _on_socket_opened(self, client: mqtt.Client, userdata: object, sock: object) -> None:
        send_at_once(sock)
        self._on_socket_open(client, userdata, sock)

    def _on_socket_open(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._watcher.watch(sock, self, writing=False)

    def _on_register_write(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._watcher.watch(sock, self, writing=True)

    def _on_socket_close(self, _client: mqtt.Client, _userdata: object, sock: object) -> None:
        if isinstance(sock, socket.socket):
            self._watcher.forget(sock)


def _has_pending(client: mqtt.Client) -> bool:
    """Whether TLS holds decrypted bytes that no selector will tell of."""
    pending = getattr(client.socket(), "pending", None)
    return bool(pending and pending())

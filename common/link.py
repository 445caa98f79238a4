"""The MQTT 5 session of an edge node or coordinator: one client per broker role.

The session is persistent (fixed client id, no clean start) and reconnects by itself.  Publishing
while offline is refused rather than queued: what an owner has to say is state, and it says all of
it again in `on_connect`.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from common.client import BusyClient
from common.errors import ConfigError

SESSION_EXPIRY_S = 7 * 24 * 3600
RECEIVE_MAXIMUM = 128
MAX_PACKET_BYTES = 16 << 20  # twice the largest message, so that one too large gets a receipt
KEEPALIVE_S = 20
MAX_QUEUED = 10_000
_CREDENTIALS = re.compile(r"//.*@")  # never shown

log = structlog.get_logger()


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker listens, from a URL such as ``mqtt://127.0.0.1:1883``."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """Take a broker's URL apart.

        Raises
        ------
        ConfigError
            When the scheme is neither mqtt nor mqtts, or host or port are missing or wrong.
        """
        shown = _CREDENTIALS.sub("//…@", url)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host.encode("idna")
        except ValueError as fault:
            raise ConfigError(f"broker URL {shown!r}: {fault}") from fault
        if parts.scheme not in ("mqtt", "mqtts") or not host or port == 0:
            raise ConfigError(f"broker URL {shown!r}: write mqtt://host:port or mqtts://host:port")
        tls = parts.scheme == "mqtts"
        return cls(host, port or (8883 if tls else 1883), tls, parts.username, parts.password)


@dataclass(frozen=True)
class Will:
    """What the broker publishes, retained, when this session breaks."""

    topic: str
    payload: bytes


def send_at_once(sock: object) -> None:
    """Let a session's small messages go out as they are written.

    Nagle's algorithm (RFC 896) holds them back until the last one is acknowledged, which costs
    40 ms a hop against a receiver that delays its acknowledgements.
    """
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Link:
    """One persistent MQTT 5 session, driven by one thread of paho's.

    Parameters
    ----------
    url : str
        The broker.
    client_id : str
        Fixed, so that the session is found again.
    on_connect : callable
        Called after each connect and its subscriptions; says everything again.
    on_message : callable
        Called with topic, payload and paho's message, whose ``mid`` and ``qos`` `acknowledge`
        takes, from the network thread; it must not raise.
    subscriptions : sequence of str
        Topics at QoS 1.
    manual_ack : bool
        When true, the broker keeps a message until `acknowledge`.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        on_connect: Callable[[], None],
        on_message: Callable[[str, bytes, mqtt.MQTTMessage], None],
        subscriptions: Sequence[str],
        will: Will | None = None,
        manual_ack: bool = False,
    ) -> None:
        self._address = BrokerAddress.parse(url)
        self._subscriptions = list(subscriptions)
        self._told_unreachable = False
        self._num_connects = 0
        self._said_everything = on_connect
        self._received = on_message
        self._client = BusyClient(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            manual_ack=manual_ack,
        )
        self._client.max_queued_messages_set(MAX_QUEUED)
        self._client.reconnect_delay_set(min_delay=1, max_delay=15)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        if self._address.username:
            self._client.username_pw_set(self._address.username, self._address.password)
        if self._address.tls:
            self._client.tls_set()
        if will:
            self._client.will_set(will.topic, will.payload, qos=1, retain=True)

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the session."""
        return self._client.is_connected()

    def start(self) -> None:
        """Connect, and from then on reconnect for as long as the session lives."""
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
        connect.SessionExpiryInterval = SESSION_EXPIRY_S
        connect.ReceiveMaximum = RECEIVE_MAXIMUM
        connect.MaximumPacketSize = MAX_PACKET_BYTES
        self._client.connect_async(
            self._address.host,
            self._address.port,
            keepalive=KEEPALIVE_S,
            clean_start=False,
            properties=connect,
        )
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect in good order and join the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Publish at QoS 1; false when offline or the queue is full, and then nothing was sent."""
        if not self._client.is_connected():
            return False
        return (
            self._client.publish(topic, payload, qos=1, retain=retain).rc == mqtt.MQTT_ERR_SUCCESS
        )

    @property
    def num_connects(self) -> int:
        """How often the broker has accepted the session."""
        return self._num_connects

    def acknowledge(self, mid: int, qos: int, num_connects: int | None = None) -> None:
        """Tell the broker that it may forget the message of that id (with `manual_ack`).

        Parameters
        ----------
        num_connects : int, optional
            As it was when the message came.  One of an earlier connection comes again by itself,
            and its id may be another message's by now.
        """
        if num_connects in (None, self._num_connects):
            self._client.ack(mid, qos)

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
        self._num_connects += 1
        if self._subscriptions:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._subscriptions])
        self._told_unreachable = False
        log.info("broker_connected", host=self._address.host, port=self._address.port)
        self._said_everything()

    def _on_connect_fail(self, _client: mqtt.Client, _userdata: object) -> None:
        if not self._told_unreachable:
            self._told_unreachable = True
            log.warning("broker_unreachable", host=self._address.host, port=self._address.port)

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        log.warning("broker_lost", host=self._address.host, reason=str(reason))

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:  # not every broker refuses one; paho's thread would end by it
            self.acknowledge(message.mid, message.qos)
            return
        self._received(topic, bytes(message.payload), message)

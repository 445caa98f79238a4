"""What the hospital broker tells of itself under ``$SYS``, as metrics.

A session of its own listens: a broker that ends a session for such a subscription, as iotcore does,
costs the wristbands' messages nothing, and a node that is flooded still hears of drops.
"""

from __future__ import annotations

from collections.abc import Mapping

import paho.mqtt.client as mqtt
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from prometheus_client import CollectorRegistry, Gauge

from common.link import BrokerAddress

# Of mosquitto (mosquitto(8), "Broker status").
SYS_TOPICS: Mapping[str, tuple[str, str]] = {
    "$SYS/broker/publish/messages/dropped": (
        "dropped",
        "Messages that it dropped since its start.",
    ),
    "$SYS/broker/store/messages/bytes": ("queue_bytes", "Bytes of messages that it keeps."),
    "$SYS/broker/store/messages/count": ("queue_messages", "Messages that it keeps."),
    "$SYS/broker/clients/connected": ("clients", "Clients that are connected to it."),
}
MAX_REFUSALS = 3
KEEPALIVE_S = 60
MIN_DELAY_S = 1
MAX_DELAY_S = 120

log = structlog.get_logger()


class BrokerMeters:
    """Gauges that are there once the broker has told their value."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges = {
            topic: Gauge(
                f"pulsering_edge_broker_{name}",
                f"Hospital broker, by its $SYS: {text}",
                ["broker"],
                registry=registry,
            )
            for topic, (name, text) in SYS_TOPICS.items()
        }

    def hear(self, topic: str, payload: bytes) -> None:
        """Take a value; what is no number is left out."""
        gauge = self._gauges.get(topic)
        try:
            value = float(payload)
        except ValueError:
            return
        if gauge:
            gauge.labels("hospital").set(value)


class BrokerWatch:
    """Listens until `stop`, or until the broker has ended its session thrice without a word."""

    def __init__(self, url: str, client_id: str, meters: BrokerMeters) -> None:
        self._address = BrokerAddress.parse(url)
        self._meters = meters
        self._heard = False
        self._num_refusals = 0
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(min_delay=MIN_DELAY_S, max_delay=MAX_DELAY_S)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        if self._address.username:
            self._client.username_pw_set(self._address.username, self._address.password)
        if self._address.tls:
            self._client.tls_set()

    def start(self) -> None:
        """Connect and listen."""
        host, port = self._address.host, self._address.port
        self._client.connect_async(host, port, keepalive=KEEPALIVE_S, clean_start=True)
        self._client.loop_start()

    def stop(self) -> None:
        """Listen no more."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._heard = False
        if self._num_refusals >= MAX_REFUSALS:
            # Here, since paho forgets a disconnect that is asked for when the session has ended.
            log.info("broker_tells_nothing_of_itself", host=self._address.host)
            client.disconnect()
        elif not reason.is_failure:
            client.subscribe([(topic, SubscribeOptions(qos=0)) for topic in SYS_TOPICS])

    def _on_disconnect(
        self,
        _client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.DisconnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        self._num_refusals = 0 if self._heard else self._num_refusals + 1

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        self._heard = True
        self._meters.hear(message.topic, bytes(message.payload))

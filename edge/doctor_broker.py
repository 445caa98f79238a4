"""What a broker says of itself in MQTT 5, asked by a session of the doctor's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from common.errors import PulseRingError
from common.link import BrokerAddress

TIMEOUT_S = 5.0
PROBE_EXPIRY_S = 60


@dataclass(frozen=True)
class BrokerFacts:
    """From CONNACK (MQTT 5.0, 3.2.2.3): what is not said has the protocol's default.

    `keeps_sessions` was tried: a second connect found the session of the first.
    `max_packet_bytes` is 0 where the broker names no limit.
    """

    max_packet_bytes: int
    max_qos: int
    retains: bool
    wildcards: bool
    receive_maximum: int
    session_expiry_s: int
    keeps_sessions: bool
    seconds: float


def ask(url: str, client_id: str) -> BrokerFacts:
    """Connect as an edge node does, twice and once to end the session; read what is answered.

    Parameters
    ----------
    client_id : str
        Not the node's own, whose session this would take over.

    Raises
    ------
    PulseRingError
        When nobody answers there, or the session is refused.
    """
    address = BrokerAddress.parse(url)
    began = time.monotonic()
    _, said = _connect(address, client_id, clean=False, expiry_s=PROBE_EXPIRY_S)
    seconds = time.monotonic() - began
    kept, _ = _connect(address, client_id, clean=False, expiry_s=PROBE_EXPIRY_S)
    _connect(address, client_id, clean=True, expiry_s=0)
    return BrokerFacts(
        max_packet_bytes=said.get("MaximumPacketSize", 0),
        max_qos=said.get("MaximumQoS", 2),
        retains=bool(said.get("RetainAvailable", 1)),
        wildcards=bool(said.get("WildcardSubscriptionAvailable", 1)),
        receive_maximum=said.get("ReceiveMaximum", 65535),
        session_expiry_s=said.get("SessionExpiryInterval", PROBE_EXPIRY_S),
        keeps_sessions=kept,
        seconds=seconds,
    )


def _connect(
    address: BrokerAddress, client_id: str, *, clean: bool, expiry_s: int
) -> tuple[bool, dict[str, Any]]:
    """Whether the session was found, and the properties of CONNACK."""
    answered = Event()
    answer: dict[str, Any] = {}

    def on_connect(
        _client: mqtt.Client,
        _userdata: object,
        flags: mqtt.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        answer["refused"] = str(reason) if reason.is_failure else ""
        answer["present"] = flags.session_present
        answer["said"] = vars(properties) if properties else {}
        answered.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5)
    client.on_connect = on_connect
    client.connect_timeout = TIMEOUT_S
    if address.username:
        client.username_pw_set(address.username, address.password)
    if address.tls:
        client.tls_set()
    wanted = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho leaves it untyped
    wanted.SessionExpiryInterval = expiry_s
    _try(
        lambda: client.connect(address.host, address.port, 20, clean_start=clean, properties=wanted)
    )
    client.loop_start()
    try:
        if not answered.wait(TIMEOUT_S):
            raise PulseRingError(f"no MQTT 5 answer within {TIMEOUT_S:g} s")
    finally:
        client.disconnect()
        client.loop_stop()
    if answer["refused"]:
        raise PulseRingError(f"refuses the session: {answer['refused']}")
    return bool(answer["present"]), answer["said"]


def _try(connect: Callable[[], object]) -> None:
    try:
        connect()
    except OSError as fault:
        raise PulseRingError(str(fault.strerror or fault)) from fault

"""Wristbands without a wearer: they answer each invite with an update that was made beforehand.

They write the fleet's messages and use nothing else of it, so that what is timed is the round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from threading import Lock

import numpy as np
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from benchmarks.rounds_trail import Trail
from common import fixedpoint, topics, wire
from common.digest import Tensors, tensors_digest
from common.errors import ContractError
from common.link import BrokerAddress, send_at_once
from common.messages import Invite, ModelHeader, Receipt, RoundSpec
from common.round_sums import evaluation_shapes
from simulators.broker import accepts_sessions
from simulators.jobs import Identity, LocalEvaluation, LocalUpdate
from simulators.letters import evaluation_message, update_message
from simulators.local_region import LocalRegion

BROKER_TIMEOUT_S = 15.0

Delta = Callable[[int], Tensors]
"""Round to the float32 difference that this wristband's training made in it."""


def start_broker(region: LocalRegion) -> None:
    """Start a region's broker and wait until it takes sessions."""
    region.start_broker()
    broker = BrokerAddress.parse(region.broker_url)
    taken = partial(accepts_sessions, broker.host, broker.port)
    region.wait(taken, BROKER_TIMEOUT_S, "the broker's start")


def start_around(region: LocalRegion, wristbands: Sequence[Wristband], stack: ExitStack) -> None:
    """Start `wristbands` in place of the region's fleet, then its other processes."""
    for wristband in wristbands:
        wristband.start()
        stack.callback(wristband.stop)
    for name in region.processes:
        if name != "fleet":
            region.start_process(name)


class Wristband:
    """One session; its marks are ``model``, ``published``, ``acknowledged`` and ``receipt``."""

    def __init__(
        self, url: str, region: str, hospital: str, device: str, delta: Delta, trail: Trail
    ) -> None:
        self._region, self._hospital, self._device = region, hospital, device
        self._who = Identity(region, hospital, device)
        self._address = BrokerAddress.parse(url)
        self._delta = delta
        self._trail = trail
        self._spec: RoundSpec | None = None
        self._answered = 0
        self._sent: dict[int, int] = {}
        self._sending = Lock()
        self.models: dict[int, Tensors] = {}
        self.specs: dict[int, RoundSpec] = {}
        self.faults: list[str] = []
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, f"{region}-{hospital}-{device}", protocol=mqtt.MQTTv5
        )
        self._client.on_connect = self._on_connect
        self._client.on_socket_open = lambda _client, _userdata, sock: send_at_once(sock)
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish

    def start(self) -> None:
        """Connect and answer invites from a thread of paho's."""
        self._client.connect(self._address.host, self._address.port, clean_start=True)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect and join the thread."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self,
        client: mqtt.Client,
        _userdata: object,
        _flags: mqtt.ConnectFlags,
        _reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        client.subscribe(self._topic("invite"), 1)
        client.subscribe(self._topic("receipt"), 1)

    def _on_message(
        self, _client: mqtt.Client, _userdata: object, message: mqtt.MQTTMessage
    ) -> None:
        try:
            self._hear(message.topic, bytes(message.payload))
        except (ContractError, LookupError, ValueError) as fault:
            self.faults.append(f"{self._hospital}: {type(fault).__name__}: {fault}")

    def _hear(self, topic: str, payload: bytes) -> None:
        if topic.endswith("/invite"):
            self._consider(wire.decode_json(payload, Invite).spec)
        elif topic.endswith("/receipt"):
            self._file(wire.decode_json(payload, Receipt))
        elif payload:
            self._learn(payload)

    def _consider(self, spec: RoundSpec) -> None:
        if spec.purpose == "train" and spec.round_id > self._answered:
            self._spec = spec
            self._trail.mark("invite", spec.round_id)
            self._client.subscribe(self._model_topic(spec), 1)

    def _learn(self, payload: bytes) -> None:
        spec = self._spec
        _, base = wire.decode(payload, ModelHeader)
        if spec is None or spec.round_id <= self._answered:
            return
        if tensors_digest(base) != spec.base_digest:
            raise ContractError(f"round {spec.round_id}: not the model that was invited to")
        self._trail.mark("model", spec.round_id)
        self._answered = spec.round_id
        self.models[spec.round_id], self.specs[spec.round_id] = base, spec
        self._client.unsubscribe(self._model_topic(spec))
        if spec.evaluate:
            self._evaluate(spec)
        self._publish(spec)

    def _publish(self, spec: RoundSpec) -> None:
        rule = spec.fixed_point
        clipped = fixedpoint.clip(self._delta(spec.round_id), rule.clip_norm)
        integers = fixedpoint.quantize(clipped, rule.exponents, rule.bits)
        update = LocalUpdate(spec.base_digest, 1, integers.num_saturated, integers.tensors)
        payload = update_message(self._who, spec, update)
        self._trail.mark("published", spec.round_id)
        with self._sending:
            sent = self._client.publish(self._topic("update"), payload, qos=1)
            self._sent[sent.mid] = spec.round_id

    def _evaluate(self, spec: RoundSpec) -> None:
        """Give every count that the round asks for: all zero, of no example."""
        counts = {n: np.zeros(s, np.int64) for n, s in evaluation_shapes(spec).items()}
        payload = evaluation_message(self._who, spec, LocalEvaluation(0, counts))
        self._client.publish(self._topic("evaluation"), payload, qos=1)

    def _on_publish(
        self,
        _client: mqtt.Client,
        _userdata: object,
        mid: int,
        _reason: ReasonCode,
        _properties: Properties,
    ) -> None:
        with self._sending:
            round_id = self._sent.pop(mid, 0)
        if round_id:
            self._trail.mark("acknowledged", round_id)

    def _file(self, receipt: Receipt) -> None:
        if receipt.status != "stored":
            self.faults.append(f"{self._hospital}: update refused: {receipt.reason}")
        if receipt.subject == "update":
            self._trail.mark("receipt", receipt.round_id)

    def _topic(self, leaf: topics.DeviceLeaf) -> str:
        return topics.device(self._region, self._hospital, self._device, leaf)

    def _model_topic(self, spec: RoundSpec) -> str:
        return topics.model(self._region, self._hospital, spec.base_digest)

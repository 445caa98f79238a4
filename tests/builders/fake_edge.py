"""An edge node's hospital side, written by hand, and rounds of the dummy task for it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from common import fixedpoint, topics, wire
from common.digest import bytes_digest, tensors_digest
from common.messages import (
    DeviceStatus,
    EvaluationHeader,
    FixedPoint,
    Invite,
    LocalRule,
    ModelHeader,
    Receipt,
    RoundSpec,
    ServerRule,
    UpdateHeader,
)
from common.tasks.dummy import DummyTask
from common.tasks.task import Parameters
from simulators.broker import EmbeddedBroker
from simulators.fleet import default_roster
from simulators.jobs import Identity
from simulators.swarm import Member, Swarm
from simulators.workers import ExampleSource

REGION, HOSPITAL = "county", "north"
DUMMY = ExampleSource("dummy", Path("unused"))


class FakeEdge:
    """Says its state again at each connection, as an edge node does, and keeps what it gets."""

    def __init__(self, url: str) -> None:
        self.updates: dict[str, list[bytes]] = defaultdict(list)
        self.evaluations: dict[str, list[bytes]] = defaultdict(list)
        self.online: dict[str, bool] = {}
        self.gives_receipts = True
        self._retained: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id="fake-edge", protocol=mqtt.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda *_: self._say_everything()
        self._client.on_message = lambda _client, _data, message: self._take_in(message)
        self._client.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
        self._client.loop_start()

    def offer(self, model: Parameters) -> str:
        digest = tensors_digest(model)
        header = ModelHeader(region=REGION, task="dummy", digest=digest, made_by_round=0)
        self._retain(topics.model(REGION, HOSPITAL, digest), wire.encode(header, model))
        return digest

    def invite(self, device: str, spec: RoundSpec) -> None:
        message = Invite(hospital=HOSPITAL, device=device, spec=spec)
        topic = topics.device(REGION, HOSPITAL, device, "invite")
        self._retain(topic, wire.encode_json(message))

    def call_all(self, devices: Iterable[str], base: Parameters, spec: RoundSpec) -> None:
        self.offer(base)
        for device in devices:
            self.invite(device, spec)

    def receipt_late(self, device: str) -> None:
        self.gives_receipts = True
        self._receipt(device, "update", 1, self.updates[device][0])
        self._receipt(device, "evaluation", 1, self.evaluations[device][0])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _retain(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self._retained[topic] = payload
        self._client.publish(topic, payload, qos=1, retain=True)

    def _say_everything(self) -> None:
        for leaf in ("update", "evaluation", "status"):
            self._client.subscribe(f"{topics.PREFIX}/{REGION}/{HOSPITAL}/+/{leaf}", qos=1)
        with self._lock:
            for topic, payload in self._retained.items():
                self._client.publish(topic, payload, qos=1, retain=True)

    def _take_in(self, message: mqtt.MQTTMessage) -> None:
        topic = topics.parse_device(message.topic)
        assert topic
        payload = bytes(message.payload)
        if topic.leaf == "status":
            self.online[topic.device] = wire.decode_json(payload, DeviceStatus).online
        elif topic.leaf == "update":
            self.updates[topic.device].append(payload)
            header, _ = wire.decode(payload, UpdateHeader)
            self._receipt(topic.device, "update", header.round_id, payload)
        else:
            self.evaluations[topic.device].append(payload)
            evaluation, _ = wire.decode(payload, EvaluationHeader)
            self._receipt(topic.device, "evaluation", evaluation.round_id, payload)

    def _receipt(self, device: str, subject: str, round_id: int, payload: bytes) -> None:
        if self.gives_receipts:
            receipt = Receipt.model_validate(
                {
                    "device": device,
                    "subject": subject,
                    "round_id": round_id,
                    "content_digest": bytes_digest(payload),
                    "status": "stored",
                }
            )
            topic = topics.device(REGION, HOSPITAL, device, "receipt")
            self._client.publish(topic, wire.encode_json(receipt), qos=1)


def make_spec(
    base: Parameters, round_id: int = 1, mu: float = 0.0, num_steps: int = 5
) -> RoundSpec:
    digest = tensors_digest(base)
    now = time.time()
    return RoundSpec(
        region=REGION,
        day=1,
        cycle=1,
        round_id=round_id,
        task="dummy",
        base_digest=digest,
        state_digest="0" * 64,
        server=ServerRule(),
        local=LocalRule(learning_rate=0.05, num_steps=num_steps, batch_size=16, mu=mu, seed=3),
        fixed_point=FixedPoint(clip_norm=1.0, exponents=fixedpoint.first_exponents(base, 1.0, 16)),
        evaluate=(digest,),
        evaluation_shapes=dict(DummyTask.evaluation_shapes),
        locations={digest: "ring/0/model.safetensors"},
        opened_at=now,
        closes_at=now + 600,
    )


def make_members(broker: EmbeddedBroker, num: int) -> list[Member]:
    roster = default_roster([f"d{i:03d}" for i in range(num)], [HOSPITAL])[HOSPITAL]
    return [Member(Identity(REGION, HOSPITAL, d), broker.url, w) for d, w in roster]


def step_until(swarm: Swarm, reached: Callable[[], bool], within_s: float = 40.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline, swarm.counts
        swarm.step(0.05)


def wait_until(reached: Callable[[], bool], within_s: float = 40.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)

"""Wristbands against a real broker, with a hand-written edge node at the other end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import pytest
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
REPOSITORY = Path(__file__).resolve().parents[2]


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


def make_spec(base: Parameters, round_id: int = 1, mu: float = 0.0) -> RoundSpec:
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
        local=LocalRule(learning_rate=0.05, num_steps=5, batch_size=16, mu=mu, seed=3),
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


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def edge(broker: EmbeddedBroker) -> Iterator[FakeEdge]:
    fake = FakeEdge(broker.url)
    yield fake
    fake.close()


@pytest.fixture
def base() -> Parameters:
    return DummyTask().initial(seed=1)


def round_of(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters, num_workers: int
) -> dict[str, str]:
    """Digest of each wristband's update in one round."""
    members = make_members(broker, 5)
    spec = make_spec(base, mu=0.1)
    edge.offer(base)
    for member in members:
        edge.invite(member.identity.device, spec)
    edge.updates.clear()
    edge.evaluations.clear()
    swarm = Swarm(members, DUMMY, num_workers)
    try:
        step_until(swarm, lambda: len(edge.updates) == 5 and len(edge.evaluations) == 5)
        step_until(swarm, lambda: swarm.counts.num_unreceipted == 0)
    finally:
        swarm.close()
    return {
        device: tensors_digest(wire.decode(sent[0], UpdateHeader)[1])
        for device, sent in edge.updates.items()
    }


def test_updates_do_not_depend_on_the_number_of_workers(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    one = round_of(broker, edge, base, num_workers=1)
    two = round_of(broker, edge, base, num_workers=2)
    assert one == two
    assert len(set(one.values())) == 5


def test_update_and_evaluation_carry_what_the_round_asked_for(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    round_of(broker, edge, base, num_workers=1)
    header, integers = wire.decode(edge.updates["wb-d000"][0], UpdateHeader)
    exponents = fixedpoint.first_exponents(base, 1.0, 16)
    assert header.base_digest == tensors_digest(base)
    assert header.num_examples == 160  # of 200, the last fifth kept back
    assert {t.dtype for t in integers.values()} == {np.dtype(np.int16)}
    assert 0 < fixedpoint.l2_norm(fixedpoint.dequantize(integers, exponents)) <= 1.01
    evaluation, counts = wire.decode(edge.evaluations["wb-d000"][0], EvaluationHeader)
    assert evaluation.num_examples == 40
    assert counts[f"{tensors_digest(base)}/confusion"].sum() == 40


def test_sends_again_without_a_receipt_and_stops_with_one(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    edge.gives_receipts = False
    [member] = make_members(broker, 1)
    device = member.identity.device
    edge.offer(base)
    edge.invite(device, make_spec(base))
    swarm = Swarm([member], DUMMY, num_workers=1)
    try:
        step_until(swarm, lambda: len(edge.updates[device]) >= 2)
        assert len(set(edge.updates[device])) == 1
        edge.receipt_late(device)
        step_until(swarm, lambda: swarm.counts.num_unreceipted == 0)
    finally:
        swarm.close()


def test_goes_on_after_a_broker_crash(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    members = make_members(broker, 4)
    devices = [member.identity.device for member in members]
    swarm = Swarm(members, DUMMY, num_workers=1)
    try:
        step_until(swarm, lambda: swarm.counts.num_connected == 4)
        broker.kill()
        step_until(swarm, lambda: swarm.counts.num_connected == 0)
        broker.start()
        edge.offer(base)
        for device in devices:
            edge.invite(device, make_spec(base))
        step_until(swarm, lambda: all(edge.updates[device] for device in devices))
        step_until(swarm, lambda: swarm.counts.num_unreceipted == 0)
    finally:
        swarm.close()


def test_goes_on_after_the_death_of_a_worker(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    members = make_members(broker, 3)
    swarm = Swarm(members, DUMMY, num_workers=1)
    try:
        [worker] = multiprocessing.active_children()
        worker.kill()
        edge.offer(base)
        for member in members:
            edge.invite(member.identity.device, make_spec(base))
        step_until(swarm, lambda: len(edge.updates) == 3)
    finally:
        swarm.close()
    assert multiprocessing.active_children() == []


def test_sets_all_offline_when_it_ends(broker: EmbeddedBroker, edge: FakeEdge) -> None:
    swarm = Swarm(make_members(broker, 2), DUMMY, num_workers=1)
    step_until(swarm, lambda: sum(edge.online.values()) == 2)
    swarm.close()
    wait_until(lambda: edge.online == {"wb-d000": False, "wb-d001": False})


def test_300_wristbands_connect_and_deliver_in_one_process(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    members = make_members(broker, 300)
    swarm = Swarm(members, DUMMY, num_workers=2)
    try:
        step_until(swarm, lambda: swarm.counts.num_connected == 300)
        edge.offer(base)
        for member in members:
            edge.invite(member.identity.device, make_spec(base))
        step_until(swarm, lambda: len(edge.updates) == 300, within_s=90)
        step_until(swarm, lambda: swarm.counts.num_unreceipted == 0)
        assert swarm.traffic.report()["rounds"][-1]["num_devices"] == 300
    finally:
        swarm.close()


@pytest.fixture
def fleet(broker: EmbeddedBroker) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "simulators", "run", "--task", "dummy", "--json"]
    process = subprocess.Popen(
        [*command, "--broker", broker.url, "--workers", "1"],
        cwd=REPOSITORY,
        env={**os.environ, "PULSERING_DATA": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    yield process
    process.kill()
    process.communicate()


def test_command_ends_within_5_s_of_sigterm_with_its_traffic(
    edge: FakeEdge, fleet: subprocess.Popen[bytes]
) -> None:
    wait_until(lambda: sum(edge.online.values()) == 8)
    fleet.send_signal(signal.SIGTERM)
    out, err = fleet.communicate(timeout=5)
    assert fleet.returncode == 0, err
    assert json.loads(out)["num_wristbands"] == 22
    assert b"Traceback" not in err


def test_killed_fleet_is_told_offline_by_its_wills(
    edge: FakeEdge, fleet: subprocess.Popen[bytes]
) -> None:
    wait_until(lambda: sum(edge.online.values()) == 8)
    fleet.kill()
    wait_until(lambda: not any(edge.online.values()))

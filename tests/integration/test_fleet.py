"""Wristbands against a real broker, with a hand-written edge node at the other end."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from common import fixedpoint, wire
from common.digest import tensors_digest
from common.messages import EvaluationHeader, UpdateHeader
from common.tasks.dummy import DummyTask
from common.tasks.task import Parameters
from simulators.broker import EmbeddedBroker
from simulators.swarm import Swarm
from tests.builders.fake_edge import (
    DUMMY,
    FakeEdge,
    make_members,
    make_spec,
    step_until,
    wait_until,
)

REPOSITORY = Path(__file__).resolve().parents[2]


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
    broker: EmbeddedBroker,
    edge: FakeEdge,
    base: Parameters,
    num_workers: int,
    disturb: Callable[[Swarm], None] = lambda _: None,
) -> dict[str, str]:
    """Digest of each wristband's update in one round, which `disturb` may disturb."""
    members = make_members(broker, 5)
    spec = make_spec(base, mu=0.1, num_steps=20)
    edge.call_all([member.identity.device for member in members], base, spec)
    edge.updates.clear()
    edge.evaluations.clear()
    swarm = Swarm(members, DUMMY, num_workers)
    try:
        disturb(swarm)
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
    header, integers = wire.decode(edge.updates["wb-01"][0], UpdateHeader)
    exponents = fixedpoint.first_exponents(base, 1.0, 16)
    assert header.base_digest == tensors_digest(base)
    assert header.num_examples == 160  # of 200, the last fifth kept back
    assert {t.dtype for t in integers.values()} == {np.dtype(np.int16)}
    assert 0 < fixedpoint.l2_norm(fixedpoint.dequantize(integers, exponents)) <= 1.01
    evaluation, counts = wire.decode(edge.evaluations["wb-01"][0], EvaluationHeader)
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
        edge.call_all(devices, base, make_spec(base))
        step_until(swarm, lambda: all(edge.updates[device] for device in devices))
        step_until(swarm, lambda: swarm.counts.num_unreceipted == 0)
    finally:
        swarm.close()


def test_a_worker_killed_in_a_job_is_replaced_and_the_update_is_the_same(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    def kill_in_a_job(swarm: Swarm) -> None:
        step_until(swarm, lambda: len(edge.updates) == 1 and swarm.counts.num_working > 0)
        [worker] = multiprocessing.active_children()
        worker.kill()

    undisturbed = round_of(broker, edge, base, num_workers=1)
    with capture_logs() as logs:
        disturbed = round_of(broker, edge, base, num_workers=1, disturb=kill_in_a_job)
    assert disturbed == undisturbed
    assert [entry["exit_code"] for entry in logs if entry["event"] == "worker_died"] == [-9]
    assert multiprocessing.active_children() == []


def test_local_work_that_fails_is_logged_with_its_device_and_the_fleet_goes_on(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    members = make_members(broker, 3)
    devices = [member.identity.device for member in members]
    broken = {name: np.full_like(tensor, np.nan) for name, tensor in base.items()}
    swarm = Swarm(members, DUMMY, num_workers=1)
    try:
        with capture_logs() as logs:
            edge.call_all(devices, broken, make_spec(broken))
            step_until(swarm, lambda: len(_devices_that_failed(logs)) == 3)
        assert _devices_that_failed(logs) == set(devices)
        assert not edge.updates
        edge.call_all(devices, base, make_spec(base, round_id=2))
        step_until(swarm, lambda: len(edge.updates) == 3)
    finally:
        swarm.close()


def _devices_that_failed(logs: list[MutableMapping[str, Any]]) -> set[str]:
    failed = [entry for entry in logs if entry["event"] == "local_work_failed"]
    assert all("finite" in entry["reason"] for entry in failed)
    return {entry["device"] for entry in failed}


def test_goes_on_when_the_clock_is_set_back_an_hour(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    set_back_s = 0.0
    members = make_members(broker, 2)
    devices = [member.identity.device for member in members]
    edge.gives_receipts = False
    swarm = Swarm(members, DUMMY, num_workers=1, clock=lambda: time.time() - set_back_s)
    try:
        edge.call_all(devices, base, make_spec(base))
        step_until(swarm, lambda: len(edge.evaluations) == 2 and len(edge.updates) == 2)
        set_back_s = 3600.0
        step_until(swarm, lambda: all(len(edge.updates[device]) >= 2 for device in devices))
        broker.kill()
        step_until(swarm, lambda: swarm.counts.num_connected == 0)
        broker.start()
        step_until(swarm, lambda: swarm.counts.num_connected == 2)
    finally:
        swarm.close()


def test_sets_all_offline_when_it_ends(broker: EmbeddedBroker, edge: FakeEdge) -> None:
    swarm = Swarm(make_members(broker, 2), DUMMY, num_workers=1)
    step_until(swarm, lambda: sum(edge.online.values()) == 2)
    swarm.close()
    wait_until(lambda: edge.online == {"wb-01": False, "wb-02": False})


def test_300_wristbands_connect_and_deliver_in_one_process(
    broker: EmbeddedBroker, edge: FakeEdge, base: Parameters
) -> None:
    members = make_members(broker, 300)
    swarm = Swarm(members, DUMMY, num_workers=2)
    try:
        step_until(swarm, lambda: swarm.counts.num_connected == 300)
        edge.call_all([member.identity.device for member in members], base, make_spec(base))
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

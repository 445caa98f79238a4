"""The coordinator as a process, against a real broker and hospitals that speak real bytes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from math import ceil, log2
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common import topics
from common.digest import tensors_digest
from common.fold import Sums, mean_update, server_step
from common.link import Link
from common.mailbox import Mailbox, message_path
from common.messages import (
    HospitalStatus,
    ModelHeader,
    RankResult,
    RegionState,
    ReleaseHeader,
    RingPlan,
    RingSumHeader,
    RoundOutcome,
    RoundSpec,
    SealedHeader,
)
from common.signing import Keyring, Signer
from common.wire import decode, decode_json, encode, encode_json, with_prefix, without_prefix
from simulators.broker import EmbeddedBroker, free_port

ROOT = Path(__file__).resolve().parents[2]
REGION = "county"
HOSPITALS = ("east", "north", "west")
WEIGHT = 4
CLIP_NORM = 2.5
CYCLE_STARTS = (1, 5)

Arrays = dict[str, npt.NDArray[Any]]


def until(what: str, holds: Callable[[], Any], seconds: float = 40.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class FakeHospital:
    """Says what an edge node says; its sums are made in numpy from a seed that names the update."""

    def __init__(
        self, name: str, folder: Path, broker: str, group: dict[str, FakeHospital]
    ) -> None:
        self.name = name
        self.group = group
        self.signer = Signer.at(name, folder / name)
        keys = {"region": folder / "region" / "signing.pub"}
        self.mailbox = Mailbox(str(folder / "mailbox"), self.signer, Keyring(keys))
        self.aggregate: Arrays = {}
        self.generations: list[int] = []
        self.answers_rings = True
        self.lock = RLock()
        self.ended = Event()
        self.status = HospitalStatus(
            region=REGION, hospital=name, rank="warm", rank_pid=1000, num_devices=2
        )
        self.link = Link(
            broker,
            f"fake-{name}",
            on_connect=self.say,
            on_message=self.hear,
            subscriptions=[topics.round_state(REGION)],
        )
        self.beats = Thread(target=self.beat, name=f"beats-{name}", daemon=True)

    def start(self) -> None:
        self.link.start()
        self.beats.start()

    def stop(self) -> None:
        self.ended.set()
        self.link.stop()

    def beat(self) -> None:
        while not self.ended.wait(0.5):
            with self.lock:
                self.say()

    def say(self, **changes: Any) -> None:
        self.status = self.status.model_copy(
            update={**changes, "revision": self.status.revision + 1}
        )
        topic = topics.hospital_status(REGION, self.name)
        self.link.publish(topic, encode_json(self.status), retain=True)

    def hear(self, _topic: str, payload: bytes, _token: object) -> None:
        state = decode_json(payload, RegionState)
        with self.lock:
            if self.status.rank == "joined" and self.status.generation < state.min_generation:
                self.say(rank="warm", rank_pid=self.status.rank_pid + 1, generation=0)
            if state.phase == "open" and state.spec:
                self.collect(state.spec)
            if state.phase == "ring" and state.plan and state.spec and self.answers_rings:
                self.join(state.spec, state.plan)

    def collect(self, spec: RoundSpec) -> None:
        if self.status.round_id == spec.round_id:
            return
        data = self.mailbox.get(spec.locations[spec.base_digest], signer="region")
        _, base = decode(data, ModelHeader)
        assert tensors_digest(base) == spec.base_digest
        self.aggregate = make_aggregate(self.name, spec, base)
        weight = int(self.aggregate["counts"][0])
        self.say(
            round_id=spec.round_id,
            phase="ready",
            aggregate_digest=tensors_digest(self.aggregate),
            weight=weight,
            num_invited=2,
            num_stored=2 if weight else 0,
            num_evaluated=2,
            complete=True,
            result=None,
            failure=None,
        )

    def join(self, spec: RoundSpec, plan: RingPlan) -> None:
        if self.name not in plan.members or (
            self.status.result and self.status.result.generation == plan.generation
            and self.status.result.round_id == plan.round_id
        ):  # fmt: skip
            return
        self.generations.append(plan.generation)
        self.say(rank="joined", generation=plan.generation)
        aggregates = [self.group[member].aggregate for member in plan.members]
        sums = {n: np.sum([a[n] for a in aggregates], axis=0) for n in self.aggregate}
        if plan.members[0] == self.name:
            self.put_sums(spec, plan, sums)
        model, state, weight = next_model(self.mailbox, spec, sums)
        result = RankResult(
            round_id=spec.round_id,
            generation=plan.generation,
            sums_digest=tensors_digest(sums),
            model_digest=model,
            state_digest=state,
            weight=weight,
        )
        self.say(result=result)

    def put_sums(self, spec: RoundSpec, plan: RingPlan, sums: Arrays) -> None:
        weight, num_updates, num_evaluations, num_saturated = map(int, sums["counts"])
        header = RingSumHeader(
            region=REGION,
            round_id=spec.round_id,
            generation=plan.generation,
            base_digest=spec.base_digest,
            members=plan.members,
            weight=weight,
            num_updates=num_updates,
            num_evaluations=num_evaluations,
            num_saturated=num_saturated,
        )
        name = f"{tensors_digest(sums)}.safetensors"
        path = message_path(REGION, "ring", spec.round_id, name)
        if not self.mailbox.exists(path):
            self.mailbox.put(path, encode(header, sums))


def make_aggregate(hospital: str, spec: RoundSpec, base: Arrays) -> Arrays:
    rng = np.random.default_rng(spec.round_id)
    train = spec.purpose == "train"
    update = make_update(hospital, spec.base_digest, base)
    tensors: Arrays = with_prefix("update", update) if train else {}
    for digest in spec.evaluate:
        for name, shape in spec.evaluation_shapes.items():
            tensors[f"evaluation/{digest}/{name}"] = rng.integers(0, 9, shape, dtype=np.int64)
    tensors["counts"] = np.array([WEIGHT if train else 0, 2 if train else 0, 2, 0], np.int64)
    return tensors


def make_update(hospital: str, base_digest: str, base: Arrays) -> Arrays:
    rng = np.random.default_rng(int(base_digest[:8], 16) + HOSPITALS.index(hospital))
    return {n: rng.integers(-4000, 4000, t.shape, dtype=np.int64) for n, t in sorted(base.items())}


def next_model(mailbox: Mailbox, spec: RoundSpec, sums: Arrays) -> tuple[str, str, int]:
    weight = int(sums["counts"][0])
    if spec.purpose == "evaluate":
        return spec.base_digest, spec.state_digest, weight
    _, base = decode(mailbox.get(spec.locations[spec.base_digest]), ModelHeader)
    summed = Sums(without_prefix("update", sums), weight)
    mean = mean_update(summed, spec.fixed_point.exponents)
    model, state = server_step(base, {}, mean, spec.server)
    return tensors_digest(model), tensors_digest(state), weight


class Coordinator:
    """``python -m regional run`` in a process of its own."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.config = folder / "region.toml"
        self.mailbox = Mailbox(
            str(folder / "mailbox"),
            None,
            Keyring({"region": folder / "region" / "signing.pub"}),
        )
        keys = "\n".join(
            f'[hospitals.{name}]\nkey = "{folder / name / "signing.pub"}"' for name in HOSPITALS
        )
        self.config.write_text(
            f"""
region = "{REGION}"
broker = "{broker}"
state_dir = "{folder / "region"}"
mailbox = "{folder / "mailbox"}"
cloud_key = "{folder / "cloud" / "signing.pub"}"
task = "dummy"
heartbeat_s = 1
{keys}
[learning]
clip_norm = {CLIP_NORM}
[rounds]
rounds_per_day = [3, 1]
num_days = 2
deadline_s = 30
rejoin_s = 10
ring_timeout_s = 20
quorum = 3
round_pause_s = 0.1
[seal]
wait_for_release_s = 60
"""
        )
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *more: str) -> None:
        self.process = subprocess.Popen(
            self.command("run", *more),
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def command(self, name: str, *more: str) -> list[str]:
        return [sys.executable, "-m", "regional", name, "--config", str(self.config), *more]

    def end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(timeout=5)

    def ask(self, command: str) -> Any:
        done = subprocess.run(
            self.command(command, "--json"),
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        return json.loads(done.stdout) if done.returncode == 0 else []

    def committed(self) -> list[dict[str, Any]]:
        return [report for report in self.ask("rounds") if report["end"] == "committed"]


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def hospitals(tmp_path: Path, broker: EmbeddedBroker) -> Iterator[dict[str, FakeHospital]]:
    group: dict[str, FakeHospital] = {}
    for name in HOSPITALS:
        group[name] = FakeHospital(name, tmp_path, broker.url, group)
    yield group
    for hospital in group.values():
        hospital.stop()


@pytest.fixture
def coordinator(tmp_path: Path, broker: EmbeddedBroker) -> Iterator[Coordinator]:
    running = Coordinator(tmp_path, broker.url)
    yield running
    if running.process and running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def release(folder: Path, sealed: SealedHeader, model: Arrays) -> None:
    header = ReleaseHeader(
        region=REGION,
        day=sealed.day,
        decision="released",
        release="county-1",
        rule="better",
        task=sealed.task,
        sealed_digest=sealed.model_digest,
        model_digest=sealed.model_digest,
    )
    mailbox = Mailbox(str(folder / "mailbox"), Signer.at("cloud", folder / "cloud"), Keyring({}))
    path = message_path(REGION, "to-region", sealed.day, f"{sealed.model_digest}.safetensors")
    mailbox.put(path, encode(header, model))


def test_two_days_commit_seal_and_adopt_over_a_kill_in_mid_round(
    tmp_path: Path, hospitals: dict[str, FakeHospital], coordinator: Coordinator
) -> None:
    coordinator.start()
    for hospital in hospitals.values():
        hospital.start()
    until("a first commit", coordinator.committed)
    hospitals["west"].answers_rings = False
    until("a ring with two results", lambda: _stands_in_ring(hospitals))
    coordinator.end(signal.SIGKILL)
    hospitals["west"].answers_rings = True
    coordinator.start()

    sealed, tensors = until("the first seal", lambda: _sealed(coordinator, 1))
    assert [r["purpose"] for r in coordinator.committed()] == ["train"] * 3 + ["evaluate"]
    assert [r["round_id"] for r in coordinator.committed()] == [1, 2, 3, 4]
    release(tmp_path, sealed, without_prefix("model", tensors))
    second, _ = until("the second seal", lambda: _sealed(coordinator, 2))
    assert (second.cycle, second.rounds, second.in_service_release) == (2, (5,), "county-1")
    assert coordinator.end(signal.SIGTERM) == 0

    reports = coordinator.committed()
    assert {report["generation"] for report in reports} == {1}
    for report in reports:
        assert _outcome(coordinator, report["round_id"]).model_digest == report["model_digest"]
        assert report["complete"]
    expected = [digest for digest, _ in _plain_average(coordinator, reports)]
    assert [r["model_digest"] for r in reports if r["purpose"] == "train"] == expected


def _stands_in_ring(hospitals: dict[str, FakeHospital]) -> bool:
    east, west = hospitals["east"].status, hospitals["west"].status
    return bool(
        east.result and east.result.round_id == west.round_id and west.round_id > 1
        and (west.result is None or west.result.round_id < west.round_id)
    )  # fmt: skip


def _sealed(coordinator: Coordinator, day: int) -> tuple[SealedHeader, Arrays] | None:
    for name in coordinator.mailbox.names(REGION, "to-cloud", day):
        path = message_path(REGION, "to-cloud", day, name)
        return decode(coordinator.mailbox.get(path), SealedHeader)
    return None


def _plain_average(
    coordinator: Coordinator, reports: list[dict[str, Any]]
) -> Iterator[tuple[str, Arrays]]:
    """FedAvg over the same updates in plain numpy, one process, no fold and no ring.

    The release of day 1 is the sealed model itself, so that the chain of models has no break.
    """
    (name,) = coordinator.mailbox.names(REGION, "ring", 0)
    data = coordinator.mailbox.get(message_path(REGION, "ring", 0, name))
    _, model = decode(data, ModelHeader)
    exponents = {tensor: ceil(log2(CLIP_NORM / 32767)) for tensor in model}
    for report in reports:
        if report["purpose"] != "train":
            continue
        if report["round_id"] in CYCLE_STARTS:
            exponents = {tensor: ceil(log2(CLIP_NORM / 32767)) for tensor in model}
        means = {}
        for tensor, base in model.items():
            total = np.zeros(base.shape)
            for hospital in HOSPITALS:
                total += make_update(hospital, report["base_digest"], model)[tensor]
            means[tensor] = total * 2.0 ** exponents[tensor] / (WEIGHT * len(HOSPITALS))
        model = {n: (model[n].astype(np.float64) + means[n]).astype(np.float32) for n in model}
        for tensor, mean in means.items():
            peak = float(np.abs(mean).max())
            exponents[tensor] = min(exponents[tensor], ceil(log2(8 * peak / 32767)))
        yield tensors_digest(model), model


def _outcome(coordinator: Coordinator, round_id: int) -> RoundOutcome:
    path = message_path(REGION, "ring", round_id, "outcome.json")
    return decode_json(coordinator.mailbox.get(path, signer="region"), RoundOutcome)


def test_reports_answer_over_http_and_stop_is_clean(
    hospitals: dict[str, FakeHospital], coordinator: Coordinator
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    url = f"http://{listen}"
    coordinator.start("--set", f"health_listen={listen}")
    for hospital in hospitals.values():
        hospital.start()
    rounds = until("a round over HTTP", lambda: _get(f"{url}/rounds"))
    assert rounds[0]["end"] == "committed"
    status = _get(f"{url}/status")
    assert set(status["hospitals"]) == set(HOSPITALS)
    assert _get(f"{url}/healthz")["ok"]
    began = time.monotonic()
    assert coordinator.end(signal.SIGTERM) == 0
    assert time.monotonic() - began < 5


def _get(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return json.loads(answer.read())
    except OSError:
        return None


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("colour=red", "colour: unknown key"),
        ("rounds.quorum=9", "rounds.quorum = 9"),
        ("task=sleep", "no task 'sleep'"),
        ("rendezvous_host=203.0.113.7", "rendezvous_host"),
        ("health_listen=TAKEN", "health_listen"),
    ],
)
def test_a_faulty_start_is_one_line_and_code_2(
    coordinator: Coordinator, override: str, named: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        override = override.replace("TAKEN", f"127.0.0.1:{taken.getsockname()[1]}")
        done = subprocess.run(
            coordinator.command("run", "--set", override),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("regional: ")
    assert named in line
